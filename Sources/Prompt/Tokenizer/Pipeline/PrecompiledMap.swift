/// SentencePiece's compiled character map (nmt_nfkc and kin): which byte strings become which. A double-array trie of the strings to be
/// replaced, then the replacements, each with a zero byte after it.
struct PrecompiledMap: Sendable {
    private static let bytesMax = 16 << 20
    private let units: [UInt32]
    private let texts: [UInt8]

    /// Throws `invalidValue` for what is no such map.
    init(_ bytes: [UInt8]) throws(PromptError) {
        let size = bytes.count >= 4 ? bytes.withUnsafeBytes { Int(UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self))) } : -1
        guard size >= 4, size % 4 == 0, bytes.count <= Self.bytesMax, bytes.count > 4 + size else {
            throw PromptError(.invalidValue, "The tokenizer's precompiled character map of \(bytes.count) bytes is damaged. Fetch the file again.")
        }
        units = bytes.withUnsafeBytes { raw in
            (0..<size / 4).map { UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4 + 4 * $0, as: UInt32.self)) }
        }
        texts = Array(bytes[(4 + size)...])
    }

    private enum Choice { case shortest, longest }

    /// What the first bytes of `text` become, and how many these are.
    private func replacement(_ text: ArraySlice<UInt8>, _ choice: Choice) -> (bytes: ArraySlice<UInt8>, count: Int)? {
        var found: (value: Int, count: Int)?
        var node = Self.offset(units[0])
        for (index, byte) in text.enumerated() {
            guard byte != 0 else { break }
            node ^= Int(byte)
            guard node < units.count, units[node] & 0x8000_00FF == UInt32(byte) else { break }
            let unit = units[node]
            node ^= Self.offset(unit)
            guard node < units.count else { break }
            if unit >> 8 & 1 == 1 {
                found = (Int(units[node] & 0x7FFF_FFFF), index + 1)
                if choice == .shortest { break }
            }
        }
        guard let found, found.value < texts.count else { return nil }
        let end = texts[found.value...].firstIndex(of: 0) ?? texts.endIndex
        return (texts[found.value..<end], found.count)
    }

    private static func offset(_ unit: UInt32) -> Int { Int((unit >> 10) << ((unit & 1 << 9) >> 6)) }

    /// As Hugging Face's `Precompiled` does it: clusters of up to five bytes as a whole, else their characters one by one; what begins with a
    /// string of the map is replaced as a whole.
    func normalizedByCluster(_ text: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        for cluster in String(decoding: text, as: UTF8.self) {
            let bytes = Array(cluster.utf8)
            if bytes.count < 6, let whole = replacement(bytes[...], .shortest) {
                result += whole.bytes
                continue
            }
            for scalar in cluster.unicodeScalars {
                let character = Array(String(scalar).utf8)
                if let new = replacement(character[...], .shortest) { result += new.bytes } else { result += character }
            }
        }
        return result
    }

    /// As SentencePiece does it: the longest string of the map at `text`'s beginning, else one character. `text` is not empty and valid UTF-8.
    func first(of text: ArraySlice<UInt8>) -> (bytes: ArraySlice<UInt8>, count: Int) {
        if let found = replacement(text, .longest) { return found }
        let end = text.dropFirst().firstIndex { $0 & 0xC0 != 0x80 } ?? text.endIndex
        return (text[..<end], end - text.startIndex)
    }
}
