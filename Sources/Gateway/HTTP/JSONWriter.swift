/// Writes JSON text front to back: commas and escapes are its business, balance is the closures'.
struct JSONWriter {
    private(set) var bytes: [UInt8] = []
    /// Whether the next member or element stands behind another one.
    private var follows = false

    init(capacity: Int = 512) { bytes.reserveCapacity(capacity) }

    /// The text of one value.
    static func text(capacity: Int = 512, _ write: (inout JSONWriter) -> Void) -> [UInt8] {
        var writer = JSONWriter(capacity: capacity)
        write(&writer)
        return writer.bytes
    }

    // MARK: Values

    mutating func object(_ members: (inout JSONWriter) -> Void) { enclosed("{", "}", members) }
    mutating func array(_ elements: (inout JSONWriter) -> Void) { enclosed("[", "]", elements) }

    mutating func array<Element>(_ elements: some Sequence<Element>, _ write: (inout JSONWriter, Element) -> Void) {
        array { writer in
            for element in elements { write(&writer, element) }
        }
    }

    mutating func null() { atom("null") }
    mutating func bool(_ value: Bool) { atom(value ? "true" : "false") }
    mutating func int(_ value: some BinaryInteger) { atom(String(value)) }

    /// JSON has no infinity; OpenAI writes the logarithm of zero as -9999.
    mutating func logprob(_ value: Float) { atom(value.isFinite ? value.description : "-9999.0") }

    mutating func string(_ value: String) {
        separate()
        quote(value)
    }

    // MARK: Members

    mutating func member(_ key: String, _ write: (inout JSONWriter) -> Void) {
        separate()
        quote(key)
        bytes.append(UInt8(ascii: ":"))
        follows = false
        write(&self)
    }

    mutating func member(_ key: String, _ value: String) { member(key) { $0.string(value) } }
    mutating func member(_ key: String, _ value: Int) { member(key) { $0.int(value) } }
    mutating func member(_ key: String, _ value: Bool) { member(key) { $0.bool(value) } }
    mutating func nullMember(_ key: String) { member(key) { $0.null() } }

    mutating func member(_ key: String, orNull value: String?) {
        if let value { member(key, value) } else { nullMember(key) }
    }

    // MARK: Bytes

    private mutating func enclosed(_ open: Unicode.Scalar, _ close: Unicode.Scalar, _ inner: (inout JSONWriter) -> Void) {
        separate()
        bytes.append(UInt8(ascii: open))
        follows = false
        inner(&self)
        bytes.append(UInt8(ascii: close))
        follows = true
    }

    private mutating func atom(_ text: String) {
        separate()
        bytes.append(contentsOf: text.utf8)
    }

    private mutating func separate() {
        if follows { bytes.append(UInt8(ascii: ",")) }
        follows = true
    }

    private mutating func quote(_ value: String) {
        bytes.append(UInt8(ascii: "\""))
        for byte in value.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                bytes.append(UInt8(ascii: "\\"))
                bytes.append(byte)
            case 0x0A: bytes.append(contentsOf: "\\n".utf8)
            case 0x0D: bytes.append(contentsOf: "\\r".utf8)
            case 0x09: bytes.append(contentsOf: "\\t".utf8)
            case 0..<0x20:
                bytes.append(contentsOf: "\\u00".utf8)
                bytes.append(Self.hexDigits[Int(byte >> 4)])
                bytes.append(Self.hexDigits[Int(byte & 15)])
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }

    private static let hexDigits = Array("0123456789abcdef".utf8)
}
