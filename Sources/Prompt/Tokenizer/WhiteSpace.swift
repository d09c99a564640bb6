/// The characters with Unicode's White_Space property, in UTF-8.
enum WhiteSpace {
    /// The end of the white space that starts at `start`; `start` where there is none.
    static func end(in text: UnsafeBufferPointer<UInt8>, from start: Int) -> Int {
        var index = start
        while true {
            let length = length(in: text, at: index)
            if length == 0 { return index }
            index += length
        }
    }

    /// Bytes of the white-space character at `index`, 0 where there is none.
    private static func length(in text: UnsafeBufferPointer<UInt8>, at index: Int) -> Int {
        // 0xFF is in no character, so it stands for the end.
        func byte(_ offset: Int) -> UInt8 { index + offset < text.count ? text[index + offset] : 0xFF }
        switch (byte(0), byte(1), byte(2)) {
        case (0x09...0x0D, _, _), (0x20, _, _): return 1  // tab to carriage return, space
        case (0xC2, 0x85, _), (0xC2, 0xA0, _): return 2  // U+0085, U+00A0
        case (0xE1, 0x9A, 0x80): return 3  // U+1680
        case (0xE2, 0x80, 0x80...0x8A), (0xE2, 0x80, 0xA8...0xA9), (0xE2, 0x80, 0xAF): return 3  // U+2000..., U+2028..., U+202F
        case (0xE2, 0x81, 0x9F), (0xE3, 0x80, 0x80): return 3  // U+205F, U+3000
        default: return 0
        }
    }
}
