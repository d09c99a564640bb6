import Crypto

/// A model's identity: SHA-256 over the headers of all its parts, which are magic, metadata and tensor descriptions.
///
/// Of a Hugging Face folder the headers are all bytes of its JSON files and those of its shards, after the list of its files.
///
/// It tells models, sizes, quantisations and vocabularies apart in microseconds, whatever the file's size. It does not
/// read the weights: two trainings of one model whose metadata and layout are equal to the byte have the same digest,
/// and a flipped bit in a weight goes unseen. Hashes of the weights themselves are per tensor and made elsewhere.
package struct ModelDigest: Sendable, Hashable, CustomStringConvertible {
    /// 32 bytes.
    package let bytes: [UInt8]

    package init(_ source: any ModelSource) {
        var hash = SHA256()
        hash.update(data: source.partsDescription)
        for header in source.headers { hash.update(bufferPointer: header) }
        withExtendedLifetime(source) {}
        bytes = Array(hash.finalize())
    }

    /// A digest from its 64 hexadecimal digits, in either case; nil for anything else.
    package init?(hexadecimal: String) {
        let digits = Array(hexadecimal.utf8)
        guard digits.count == 64 else { return nil }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: 64, by: 2) {
            guard let high = ModelDigest.value(of: digits[index]), let low = ModelDigest.value(of: digits[index + 1])
            else { return nil }
            bytes.append(high << 4 | low)
        }
        self.bytes = bytes
    }

    /// 64 lower-case hexadecimal digits.
    package var hexadecimal: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    package var description: String { hexadecimal }

    private static func value(of digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
