/// The alphabet in which byte-level vocabularies write bytes: GPT-2 gave each of the 256 bytes a printable character,
/// itself where Latin-1 prints it, else the next free one from U+0100 on (so a space is "Ġ", a line feed "Ċ").
enum ByteAlphabet {
    /// The character of each byte; all lie below U+0144.
    static let scalars: [UInt32] = {
        var next: UInt32 = 0x100
        return (0..<256).map { byte in
            switch byte {
            case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return UInt32(byte)
            default:
                defer { next += 1 }
                return next
            }
        }
    }()

    /// The byte of each character below U+0144, -1 where a character stands for none.
    private static let bytes: [Int16] = {
        var bytes = [Int16](repeating: -1, count: 0x144)
        for (byte, scalar) in scalars.enumerated() { bytes[Int(scalar)] = Int16(byte) }
        return bytes
    }()

    /// The bytes that a token's text stands for, or nil where it holds a character outside of the alphabet
    /// (added tokens are often written plainly).
    static func decode(_ text: ArraySlice<UInt8>) -> [UInt8]? {
        let bytes = bytes
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        var index = text.startIndex
        while index < text.endIndex {
            let lead = text[index]
            var scalar = Int(lead)
            if lead >= 0x80 {
                // Only U+0080..U+07FF, two bytes long, can be in the alphabet.
                guard lead >> 5 == 0b110, index + 1 < text.endIndex else { return nil }
                index += 1
                scalar = Int(lead & 0x1F) << 6 | Int(text[index] & 0x3F)
            }
            guard scalar < bytes.count, bytes[scalar] >= 0 else { return nil }
            result.append(UInt8(bytes[scalar]))
            index += 1
        }
        return result
    }
}
