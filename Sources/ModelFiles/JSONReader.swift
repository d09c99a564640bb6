/// What a JSON text may hold beside what RFC 8259 says, and how much of it.
package struct JSONRules: Sendable {
    /// Nested arrays and objects.
    package var depthMax: Int
    /// Values of all kinds together.
    package var valuesMax = ModelFileLimits.jsonValuesMax
    /// NaN, Infinity and -Infinity are numbers, as Python writes them.
    package var takesNonFinite = false
    /// An integer beyond 64 bits is a double; else it is refused.
    package var widensIntegers = false
    /// A key that appears twice in an object is refused; else it keeps its place and takes the later value, as in Python.
    package var refusesRepeatedKeys = false

    package init(depthMax: Int) { self.depthMax = depthMax }

    /// Python writes them; `model_max_length` is often 10³⁰.
    package static let modelFiles: JSONRules = {
        var rules = JSONRules(depthMax: ModelFileLimits.jsonDepthMax)
        (rules.takesNonFinite, rules.widensIntegers, rules.refusesRepeatedKeys) = (true, true, true)
        return rules
    }()
}

/// Why a text is no JSON, or none that is taken; whoever read it knows what to call the text.
package struct JSONFault: Error {
    package enum Kind: Sendable { case damaged, tooDeep, tooMany, repeatedKey }

    package let kind: Kind
    /// The byte where reading stopped.
    package let at: Int
    /// The end of a sentence about the text or, of `damaged`, about that byte.
    package let found: String
}

/// The one JSON reader: recursive descent; never reads past the end, never goes deeper or makes more values than allowed.
package struct JSONReader {
    private let bytes: UnsafeRawBufferPointer
    private let rules: JSONRules
    private var at = 0
    private var depth = 0
    private var values = 0

    private init(_ bytes: UnsafeRawBufferPointer, _ rules: JSONRules) {
        self.bytes = bytes
        self.rules = rules
    }

    /// The one value that a text is, with white space around it or not.
    package static func value(of text: UnsafeRawBufferPointer, _ rules: JSONRules) throws(JSONFault) -> JSONValue {
        var reader = JSONReader(text, rules)
        return try reader.readWhole()
    }

    private mutating func readWhole() throws(JSONFault) -> JSONValue {
        let value = try readValue()
        skipSpace()
        guard at == bytes.count else { throw damaged("text follows the value's end") }
        return value
    }

    private func damaged(_ found: String) -> JSONFault { JSONFault(kind: .damaged, at: at, found: found) }

    private var next: UInt8? { at < bytes.count ? bytes[at] : nil }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { at += 1 }
    }

    private mutating func take(_ byte: Unicode.Scalar) -> Bool {
        guard next == UInt8(ascii: byte) else { return false }
        at += 1
        return true
    }

    private mutating func readValue() throws(JSONFault) -> JSONValue {
        values += 1
        guard values <= rules.valuesMax else { throw JSONFault(kind: .tooMany, at: at, found: "holds more than \(rules.valuesMax) JSON values") }
        skipSpace()
        guard let byte = next else { throw damaged("it ends where a value should stand") }
        switch byte {
        case UInt8(ascii: "{"): return try readObject()
        case UInt8(ascii: "["): return try readArray()
        case UInt8(ascii: "\""): return .string(try readString())
        case UInt8(ascii: "t"): return try readWord("true", .bool(true))
        case UInt8(ascii: "f"): return try readWord("false", .bool(false))
        case UInt8(ascii: "n"): return try readWord("null", .null)
        case UInt8(ascii: "N") where rules.takesNonFinite: return try readWord("NaN", .double(.nan))
        case UInt8(ascii: "I") where rules.takesNonFinite: return try readWord("Infinity", .double(.infinity))
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try readNumber()
        default: throw damaged("a character begins no value")
        }
    }

    private mutating func readWord(_ word: StaticString, _ value: JSONValue) throws(JSONFault) -> JSONValue {
        let count = word.utf8CodeUnitCount
        let matches = word.withUTF8Buffer { word in
            bytes.count - at >= count && bytes[at..<at + count].elementsEqual(word)
        }
        guard matches else { throw damaged("\(word) was expected") }
        at += count
        return value
    }

    private mutating func enter() throws(JSONFault) {
        depth += 1
        guard depth <= rules.depthMax else { throw JSONFault(kind: .tooDeep, at: at, found: "nests more than \(rules.depthMax) JSON arrays and objects") }
    }

    private mutating func readArray() throws(JSONFault) -> JSONValue {
        try enter()
        at += 1
        var items: [JSONValue] = []
        skipSpace()
        if !take("]") {
            repeat {
                items.append(try readValue())
                skipSpace()
            } while take(",")
            guard take("]") else { throw damaged("a , or ] was expected") }
        }
        depth -= 1
        return .array(items)
    }

    private mutating func readObject() throws(JSONFault) -> JSONValue {
        try enter()
        at += 1
        var object = JSONObject()
        skipSpace()
        if !take("}") {
            repeat {
                skipSpace()
                guard next == UInt8(ascii: "\"") else { throw damaged("a key in quotes was expected") }
                let key = try readString()
                skipSpace()
                guard take(":") else { throw damaged("a : was expected after a key") }
                object.members.append((key, try readValue()))
                skipSpace()
            } while take(",")
            guard take("}") else { throw damaged("a , or } was expected") }
            try join(&object)
        }
        depth -= 1
        return .object(object)
    }

    /// Members under one key become one, or are refused.
    private func join(_ object: inout JSONObject) throws(JSONFault) {
        var places: [[UInt8]: Int] = Dictionary(minimumCapacity: object.members.count)
        var kept = 0
        for index in object.members.indices {
            let member = object.members[index]
            if let place = places.updateValue(kept, forKey: Array(member.key.utf8)) {
                guard !rules.refusesRepeatedKeys else {
                    throw JSONFault(kind: .repeatedKey, at: at, found: "the key '\(member.key)' appears twice in one object")
                }
                places[Array(member.key.utf8)] = place
                object.members[place].value = member.value
            } else {
                if kept != index { object.members[kept] = member }
                kept += 1
            }
        }
        object.members.removeSubrange(kept...)
    }

    private mutating func readNumber() throws(JSONFault) -> JSONValue {
        let start = at
        if take("-"), next == UInt8(ascii: "I"), rules.takesNonFinite { return try readWord("Infinity", .double(-.infinity)) }
        if !take("0") { guard skipDigits() else { throw damaged("a digit was expected") } }
        var isInteger = true
        if take(".") {
            isInteger = false
            guard skipDigits() else { throw damaged("a digit was expected after the point") }
        }
        if take("e") || take("E") {
            isInteger = false
            if !take("+") { _ = take("-") }
            guard skipDigits() else { throw damaged("a digit was expected in the exponent") }
        }
        guard at - start <= ModelFileLimits.jsonNumberBytesMax else { throw damaged("a number of \(at - start) characters ends") }
        let text = String(decoding: bytes[start..<at], as: UTF8.self)
        if isInteger, let value = Int(text) { return .int(value) }
        guard !isInteger || rules.widensIntegers else { throw damaged("an integer ends that does not fit 64 bits") }
        guard let value = Double(text) else { throw damaged("a number ends that cannot be read") }
        return .double(value)
    }

    private mutating func skipDigits() -> Bool {
        let start = at
        while let byte = next, byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") { at += 1 }
        return at > start
    }

    private mutating func readString() throws(JSONFault) -> String {
        at += 1
        let start = at
        while let byte = next, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 { at += 1 }
        if next == UInt8(ascii: "\"") {
            let text = UnsafeRawBufferPointer(rebasing: bytes[start..<at])
            guard let string = String(validating: text, as: UTF8.self) else { throw damaged("a string ends that is not UTF-8") }
            at += 1
            return string
        }
        return try readEscapedString(Array(bytes[start..<at]))
    }

    /// The rest of a string whose beginning is known.
    private mutating func readEscapedString(_ beginning: [UInt8]) throws(JSONFault) -> String {
        var text = beginning
        while let byte = next {
            if byte == UInt8(ascii: "\"") {
                guard let string = String(validating: text, as: UTF8.self) else { throw damaged("a string ends that is not UTF-8") }
                at += 1
                return string
            }
            guard byte >= 0x20 else { throw damaged("a control character stands in a string") }
            at += 1
            if byte == UInt8(ascii: "\\") { text += try readEscape() } else { text.append(byte) }
        }
        throw damaged("a string has no end")
    }

    private mutating func readEscape() throws(JSONFault) -> [UInt8] {
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
                guard take("\\"), take("u") else { throw damaged("half a surrogate pair stands") }
                let low = try readHex()
                guard (0xDC00...0xDFFF).contains(low) else { throw damaged("half a surrogate pair stands") }
                code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
            }
            guard let scalar = Unicode.Scalar(code) else { throw damaged("half a surrogate pair stands") }
            return Array(UTF8.encode(scalar)!)
        default: throw damaged("an escape is not known")
        }
    }

    private mutating func readHex() throws(JSONFault) -> UInt32 {
        guard bytes.count - at >= 4 else { throw damaged("four hexadecimal digits were expected") }
        var code: UInt32 = 0
        for _ in 0..<4 {
            guard let digit = Character(Unicode.Scalar(bytes[at])).hexDigitValue else { throw damaged("a hexadecimal digit was expected") }
            code = code << 4 | UInt32(digit)
            at += 1
        }
        return code
    }
}
