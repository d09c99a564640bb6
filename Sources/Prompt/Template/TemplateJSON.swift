extension TemplateValue {
    /// Reads one JSON text (RFC 8259) as Python's `json.loads` does: key order kept, a number is an integer unless it
    /// has a point or an exponent.
    /// - Parameters:
    ///   - json: UTF-8 bytes of one value, with white space around it or not.
    ///   - depthMax: nested arrays and objects.
    /// - Throws: code `json` for damaged text, an integer beyond 64 bits or a half of a surrogate pair (neither has a
    ///   place in a prompt); code `limit` for nesting deeper than `depthMax`.
    package init(json: [UInt8], depthMax: Int = TemplateLimits.standard.valueDepthMax) throws(TemplateError) {
        var reader = JSONReader(bytes: json, depthMax: depthMax)
        self = try reader.readWhole()
    }

    /// The value as JSON text, in the layout of Python's `json.dumps(value, ensure_ascii=False)`. Undefined is null.
    package var json: [UInt8] {
        var out: [UInt8] = []
        Self.write(self, into: &out)
        return out
    }

    private static func write(_ value: TemplateValue, into out: inout [UInt8]) {
        switch value {
        case .undefined, .null: out += "null".utf8
        case .bool(let value): out += (value ? "true" : "false").utf8
        case .int(let value): out += String(value).utf8
        case .double(let value): out += Jinja.jsonNumber(value).utf8
        case .string(let value): Jinja.writeJSONString(Array(value.utf8), ensureASCII: false, into: &out)
        case .array(let items):
            out.append(UInt8(ascii: "["))
            for (index, item) in items.enumerated() {
                if index > 0 { out += ", ".utf8 }
                write(item, into: &out)
            }
            out.append(UInt8(ascii: "]"))
        case .object(let object):
            out.append(UInt8(ascii: "{"))
            for (index, entry) in object.entries.enumerated() {
                if index > 0 { out += ", ".utf8 }
                Jinja.writeJSONString(Array(entry.key.utf8), ensureASCII: false, into: &out)
                out += ": ".utf8
                write(entry.value, into: &out)
            }
            out.append(UInt8(ascii: "}"))
        }
    }
}

/// A recursive-descent JSON reader over bytes; never reads past the end, never goes deeper than `depthMax`.
private struct JSONReader {
    let bytes: [UInt8]
    let depthMax: Int
    var at = 0
    var depth = 0

    init(bytes: [UInt8], depthMax: Int) {
        self.bytes = bytes
        self.depthMax = depthMax
    }

    mutating func readWhole() throws(TemplateError) -> TemplateValue {
        let value = try readValue()
        skipSpace()
        guard at == bytes.count else { throw damaged("found text after the value's end") }
        return value
    }

    private func damaged(_ found: String) -> TemplateError {
        TemplateError(.json, "JSON text is damaged at byte \(at): \(found)")
    }

    private var next: UInt8? { at < bytes.count ? bytes[at] : nil }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { at += 1 }
    }

    private mutating func take(_ byte: Character) -> Bool {
        guard next == byte.asciiValue else { return false }
        at += 1
        return true
    }

    private mutating func readValue() throws(TemplateError) -> TemplateValue {
        skipSpace()
        guard let byte = next else { throw damaged("it ends where a value should stand") }
        switch byte {
        case UInt8(ascii: "{"): return try readObject()
        case UInt8(ascii: "["): return try readArray()
        case UInt8(ascii: "\""): return .string(try readString())
        case UInt8(ascii: "t"): return try readWord("true", .bool(true))
        case UInt8(ascii: "f"): return try readWord("false", .bool(false))
        case UInt8(ascii: "n"): return try readWord("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try readNumber()
        default: throw damaged("found a character that begins no value")
        }
    }

    private mutating func readWord(_ word: StaticString, _ value: TemplateValue) throws(TemplateError) -> TemplateValue {
        let count = word.utf8CodeUnitCount
        let matches = word.withUTF8Buffer { word in
            bytes.count - at >= count && bytes[at..<at + count].elementsEqual(word)
        }
        guard matches else { throw damaged("expected \(word)") }
        at += count
        return value
    }

    private mutating func enter() throws(TemplateError) {
        depth += 1
        guard depth <= depthMax else {
            throw TemplateError(.limit, "JSON text nests deeper than valueDepthMax = \(depthMax) arrays and objects")
        }
    }

    private mutating func readArray() throws(TemplateError) -> TemplateValue {
        try enter()
        at += 1
        var items: [TemplateValue] = []
        skipSpace()
        if !take("]") {
            repeat {
                items.append(try readValue())
                skipSpace()
            } while take(",")
            guard take("]") else { throw damaged("expected , or ] in an array") }
        }
        depth -= 1
        return .array(items)
    }

    private mutating func readObject() throws(TemplateError) -> TemplateValue {
        try enter()
        at += 1
        var object = TemplateObject()
        var places: [[UInt8]: Int] = [:]
        skipSpace()
        if !take("}") {
            repeat {
                skipSpace()
                guard next == UInt8(ascii: "\"") else { throw damaged("expected a key in quotes") }
                let key = try readString()
                skipSpace()
                guard take(":") else { throw damaged("expected : after a key") }
                object.append(key, try readValue(), &places)
                skipSpace()
            } while take(",")
            guard take("}") else { throw damaged("expected , or } in an object") }
        }
        depth -= 1
        return .object(object)
    }

    private mutating func readNumber() throws(TemplateError) -> TemplateValue {
        let start = at
        _ = take("-")
        if !take("0") { guard skipDigits() else { throw damaged("expected a digit") } }
        var isInteger = true
        if take(".") {
            isInteger = false
            guard skipDigits() else { throw damaged("expected a digit after the point") }
        }
        if take("e") || take("E") {
            isInteger = false
            if !take("+") { _ = take("-") }
            guard skipDigits() else { throw damaged("expected a digit in the exponent") }
        }
        let text = String(decoding: bytes[start..<at], as: UTF8.self)
        if isInteger {
            guard let value = Int(text) else { throw damaged("the integer does not fit 64 bits") }
            return .int(value)
        }
        guard let value = Double(text) else { throw damaged("a number that cannot be read") }
        return .double(value)
    }

    private mutating func skipDigits() -> Bool {
        let start = at
        while let byte = next, byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") { at += 1 }
        return at > start
    }

    private mutating func readString() throws(TemplateError) -> String {
        at += 1
        var text: [UInt8] = []
        var runStart = at
        while let byte = next {
            if byte == UInt8(ascii: "\"") {
                text += bytes[runStart..<at]
                guard let string = String(validating: text, as: UTF8.self) else { throw damaged("a string that is not UTF-8") }
                at += 1
                return string
            }
            guard byte >= 0x20 else { throw damaged("a control character in a string") }
            if byte == UInt8(ascii: "\\") {
                text += bytes[runStart..<at]
                at += 1
                text += try readEscape()
                runStart = at
            } else {
                at += 1
            }
        }
        throw damaged("a string has no end")
    }

    private mutating func readEscape() throws(TemplateError) -> [UInt8] {
        guard let byte = next else { throw damaged("a string has no end") }
        at += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
        case UInt8(ascii: "b"): return [0x08]
        case UInt8(ascii: "f"): return [0x0C]
        case UInt8(ascii: "n"): return [0x0A]
        case UInt8(ascii: "r"): return [0x0D]
        case UInt8(ascii: "t"): return [0x09]
        case UInt8(ascii: "u"):
            var code = try readHex()
            if (0xD800...0xDBFF).contains(code) {
                guard take("\\"), take("u") else { throw damaged("half a surrogate pair") }
                let low = try readHex()
                guard (0xDC00...0xDFFF).contains(low) else { throw damaged("half a surrogate pair") }
                code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
            }
            guard let scalar = Unicode.Scalar(code) else { throw damaged("half a surrogate pair") }
            return Array(UTF8.encode(scalar)!)
        default: throw damaged("an unknown escape")
        }
    }

    private mutating func readHex() throws(TemplateError) -> UInt32 {
        guard bytes.count - at >= 4 else { throw damaged("a \\u escape needs four hex digits") }
        var code: UInt32 = 0
        for _ in 0..<4 {
            guard let digit = Jinja.hexDigit(bytes[at]) else { throw damaged("a \\u escape needs four hex digits") }
            code = code << 4 | UInt32(digit)
            at += 1
        }
        return code
    }
}
