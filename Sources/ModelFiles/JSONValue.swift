/// What a JSON text says, with the order of keys kept. The files of a Hugging Face folder are read with it.
///
/// Python writes these files, so its three words for numbers that JSON lacks (NaN, Infinity, -Infinity) are read, and an integer beyond 64 bits
/// (`model_max_length` is often 10³⁰) is a double.
package enum JSONValue: Sendable {
    case null
    case bool(Bool)
    /// A number without point and exponent.
    case int(Int)
    case double(Double)
    case string(String)
    case array([JSONValue])
    case object(JSONObject)

    package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    /// nil for a number with a point.
    package var int: Int? { if case .int(let value) = self { value } else { nil } }
    /// Of either kind of number.
    package var double: Double? {
        switch self {
        case .int(let value): Double(value)
        case .double(let value): value
        default: nil
        }
    }
    package var string: String? { if case .string(let value) = self { value } else { nil } }
    package var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
    package var object: JSONObject? { if case .object(let value) = self { value } else { nil } }
    package var isNull: Bool { if case .null = self { true } else { false } }

    /// What kind of value it is, for messages.
    package var kind: String {
        switch self {
        case .null: "null"
        case .bool(let value): "\(value)"
        case .int(let value): "the integer \(value)"
        case .double(let value): "the number \(value)"
        case .string(let value): value.utf8.count <= 64 ? "'\(value)'" : "a text of \(value.utf8.count) bytes"
        case .array(let values): "an array of \(values.count)"
        case .object(let object): "an object of \(object.members.count) members"
        }
    }

    /// Reads one JSON text (RFC 8259 and the above). Throws `invalidJSON`, `duplicateKey`, `nestedTooDeep` or `limitExceeded`, with the byte where
    /// it stopped; `name` stands for the file.
    package init(json: UnsafeRawBufferPointer, name: String, valuesMax: Int = ModelFileLimits.jsonValuesMax) throws(ModelFileError) {
        var reader = JSONReader(bytes: json, name: name, valuesMax: valuesMax)
        self = try reader.readWhole()
    }

    package init(json: [UInt8], name: String) throws(ModelFileError) {
        let storage = FileBytes(copying: json, name: name)
        self = try JSONValue(json: storage.bytes, name: name)
        withExtendedLifetime(storage) {}
    }
}

/// Keys and values in the order of the text; no key appears twice. Keys are compared by their bytes: Swift's `==` takes é and e with a combining
/// accent for equal, a vocabulary does not.
package struct JSONObject: Sendable {
    package fileprivate(set) var members: [(key: String, value: JSONValue)] = []

    package init() {}

    package init(_ members: [(key: String, value: JSONValue)]) { self.members = members }

    package var keys: [String] { members.map(\.key) }

    package subscript(_ key: String) -> JSONValue? {
        members.first { $0.key.utf8.elementsEqual(key.utf8) }?.value
    }
}

/// A recursive-descent reader; never reads past the end, never goes deeper or makes more values than allowed.
private struct JSONReader {
    let bytes: UnsafeRawBufferPointer
    let name: String
    let valuesMax: Int
    private var at = 0
    private var depth = 0
    private var values = 0

    init(bytes: UnsafeRawBufferPointer, name: String, valuesMax: Int) {
        self.bytes = bytes
        self.name = name
        self.valuesMax = valuesMax
    }

    mutating func readWhole() throws(ModelFileError) -> JSONValue {
        let value = try readValue()
        skipSpace()
        guard at == bytes.count else { throw damaged("text follows the value's end") }
        return value
    }

    private func damaged(_ found: String) -> ModelFileError {
        ModelFileError(.invalidJSON, "\(name) is not JSON: at byte \(at) \(found). The file is damaged; fetch it again.")
    }

    private var next: UInt8? { at < bytes.count ? bytes[at] : nil }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { at += 1 }
    }

    private mutating func take(_ byte: Unicode.Scalar) -> Bool {
        guard next == UInt8(ascii: byte) else { return false }
        at += 1
        return true
    }

    private mutating func readValue() throws(ModelFileError) -> JSONValue {
        values += 1
        guard values <= valuesMax else {
            throw ModelFileError(.limitExceeded, "\(name) holds more than \(valuesMax) JSON values. The file is damaged or no model's; fetch it again.")
        }
        skipSpace()
        guard let byte = next else { throw damaged("it ends where a value should stand") }
        switch byte {
        case UInt8(ascii: "{"): return try readObject()
        case UInt8(ascii: "["): return try readArray()
        case UInt8(ascii: "\""): return .string(try readString())
        case UInt8(ascii: "t"): return try readWord("true", .bool(true))
        case UInt8(ascii: "f"): return try readWord("false", .bool(false))
        case UInt8(ascii: "n"): return try readWord("null", .null)
        case UInt8(ascii: "N"): return try readWord("NaN", .double(.nan))
        case UInt8(ascii: "I"): return try readWord("Infinity", .double(.infinity))
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try readNumber()
        default: throw damaged("a character begins no value")
        }
    }

    private mutating func readWord(_ word: StaticString, _ value: JSONValue) throws(ModelFileError) -> JSONValue {
        let count = word.utf8CodeUnitCount
        let matches = word.withUTF8Buffer { word in
            bytes.count - at >= count && bytes[at..<at + count].elementsEqual(word)
        }
        guard matches else { throw damaged("\(word) was expected") }
        at += count
        return value
    }

    private mutating func enter() throws(ModelFileError) {
        depth += 1
        guard depth <= ModelFileLimits.jsonDepthMax else {
            throw ModelFileError(.nestedTooDeep, "\(name) nests more than \(ModelFileLimits.jsonDepthMax) JSON arrays and objects. The file is damaged; fetch it again.")
        }
    }

    private mutating func readArray() throws(ModelFileError) -> JSONValue {
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

    private mutating func readObject() throws(ModelFileError) -> JSONValue {
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
            try checkKeys(object)
        }
        depth -= 1
        return .object(object)
    }

    private func checkKeys(_ object: JSONObject) throws(ModelFileError) {
        var known = Set<[UInt8]>(minimumCapacity: object.members.count)
        for member in object.members where !known.insert(Array(member.key.utf8)).inserted {
            throw ModelFileError(.duplicateKey, "\(name): the key '\(member.key)' appears twice in one object. The file is damaged; fetch it again.")
        }
    }

    private mutating func readNumber() throws(ModelFileError) -> JSONValue {
        let start = at
        if take("-"), next == UInt8(ascii: "I") { return try readWord("Infinity", .double(-.infinity)) }
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
        guard let value = Double(text) else { throw damaged("a number ends that cannot be read") }
        return .double(value)
    }

    private mutating func skipDigits() -> Bool {
        let start = at
        while let byte = next, byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") { at += 1 }
        return at > start
    }

    private mutating func readString() throws(ModelFileError) -> String {
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
    private mutating func readEscapedString(_ beginning: [UInt8]) throws(ModelFileError) -> String {
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

    private mutating func readEscape() throws(ModelFileError) -> [UInt8] {
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

    private mutating func readHex() throws(ModelFileError) -> UInt32 {
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
