/// A checksum of bytes that were kept: finds what disks, cut files and stray writes do to them. It is no protection
/// against someone who means harm; who may write into a user's cache folder may replace the program as well.
///
/// Eight sums side by side take one word in eight each, by a step that is one-to-one in the word and in the sum: one
/// changed word always changes the result. It runs faster than memory can be read, so that all kept weights can be
/// looked at whenever they are opened.
enum PackedChecksum {
    private static let factor: UInt64 = 0x9E37_79B9_7F4A_7C15
    private static let stripeBytes = 64

    static func of(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var a: UInt64 = 1, b: UInt64 = 2, c: UInt64 = 3, d: UInt64 = 4
        var e: UInt64 = 5, f: UInt64 = 6, g: UInt64 = 7, h: UInt64 = 8
        let whole = bytes.count / stripeBytes * stripeBytes
        if whole > 0 {
            let start = bytes.baseAddress!
            var offset = 0
            while offset < whole {
                let word = start + offset
                a = step(a, word.loadUnaligned(as: UInt64.self))
                b = step(b, word.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
                c = step(c, word.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
                d = step(d, word.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
                e = step(e, word.loadUnaligned(fromByteOffset: 32, as: UInt64.self))
                f = step(f, word.loadUnaligned(fromByteOffset: 40, as: UInt64.self))
                g = step(g, word.loadUnaligned(fromByteOffset: 48, as: UInt64.self))
                h = step(h, word.loadUnaligned(fromByteOffset: 56, as: UInt64.self))
                offset += stripeBytes
            }
        }
        var sum = UInt64(bytes.count)
        for lane in [a, b, c, d, e, f, g, h] { sum = step(sum, lane) }
        for index in whole..<bytes.count { sum = step(sum, UInt64(bytes[index])) }
        return sum ^ sum >> 32
    }

    static func of(_ bytes: [UInt8]) -> UInt64 { bytes.withUnsafeBytes { of($0) } }

    @inline(__always) private static func step(_ sum: UInt64, _ word: UInt64) -> UInt64 {
        let mixed = (sum ^ word) &* factor
        return mixed << 29 | mixed >> 35
    }
}
