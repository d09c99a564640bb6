/// Tells well-formed UTF-8 (Unicode, table 3-7) from bytes that are not.
enum WellFormedUTF8 {
    /// The end of the well-formed text that starts at `start`: `text.count`, or the first byte that is not part of it.
    static func end(in text: UnsafeBufferPointer<UInt8>, from start: Int) -> Int {
        var index = start
        while index < text.count {
            if text[index] < 0x80 {
                index = asciiEnd(in: text, from: index)
                continue
            }
            let length = sequenceLength(in: text, at: index)
            guard length > 0 else { return index }
            index += length
        }
        return index
    }

    private static func asciiEnd(in text: UnsafeBufferPointer<UInt8>, from start: Int) -> Int {
        let raw = UnsafeRawBufferPointer(text)
        var index = start
        while index + 8 <= text.count, raw.loadUnaligned(fromByteOffset: index, as: UInt64.self) & 0x8080_8080_8080_8080 == 0 {
            index += 8
        }
        while index < text.count, text[index] < 0x80 { index += 1 }
        return index
    }

    /// Bytes of the well-formed sequence at `index`, 0 where there is none.
    static func sequenceLength(in text: UnsafeBufferPointer<UInt8>, at index: Int) -> Int {
        let expected = expectedLength(lead: text[index])
        guard expected > 0, index + expected <= text.count else { return 0 }
        guard expected == 1 || secondByteRange(lead: text[index]).contains(text[index + 1]) else { return 0 }
        for offset in 2..<max(2, expected) where text[index + offset] & 0xC0 != 0x80 { return 0 }
        return expected
    }

    /// How many bytes at the end of `bytes` (0 to 3) start a sequence that more bytes could complete.
    static func incompleteTail(of bytes: some BidirectionalCollection<UInt8>) -> Int {
        var tail: [UInt8] = []
        for byte in bytes.reversed().prefix(3) {
            tail.insert(byte, at: 0)
            if byte & 0xC0 == 0x80 { continue }
            let expected = expectedLength(lead: byte)
            guard expected > tail.count else { return 0 }
            if tail.count > 1, !secondByteRange(lead: byte).contains(tail[1]) { return 0 }
            return tail.count
        }
        return 0
    }

    /// Bytes of the sequence that `lead` starts, 0 where it starts none.
    private static func expectedLength(lead: UInt8) -> Int {
        switch lead {
        case 0x00...0x7F: 1
        case 0xC2...0xDF: 2
        case 0xE0...0xEF: 3
        case 0xF0...0xF4: 4
        default: 0
        }
    }

    /// The second byte decides about overlong forms, surrogates and values past U+10FFFF; later ones are free.
    private static func secondByteRange(lead: UInt8) -> ClosedRange<UInt8> {
        switch lead {
        case 0xE0: 0xA0...0xBF
        case 0xED: 0x80...0x9F
        case 0xF0: 0x90...0xBF
        case 0xF4: 0x80...0x8F
        default: 0x80...0xBF
        }
    }
}
