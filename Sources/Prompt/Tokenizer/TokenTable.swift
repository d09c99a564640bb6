import ModelFiles

/// Finds a token by its bytes: an open-addressing hash table over one block of bytes. Immutable once built.
///
/// Keyed by bytes, not by `String`: Swift compares strings by canonical equivalence and would take "é" and "e" + U+0301
/// for one token, and hashes them slowly for the same reason.
struct TokenTable: Sendable {
    /// Bytes of all tokens, one after the other.
    private(set) var blob: [UInt8] = []
    /// `blob` offsets: token i is offsets[i] ..< offsets[i + 1].
    private(set) var offsets: [Int] = [0]
    /// Hash slots: a token id, or -1; the count is a power of two and at least twice the number of tokens.
    private var slots: [Int32]
    private let mask: Int
    /// The longest token that can be found, in bytes: longer words need no look-up.
    private(set) var lengthMax = 0

    var count: Int { offsets.count - 1 }

    /// - Parameters:
    ///   - tokens: bytes of each token.
    ///   - isFindable: whether a look-up may answer with this token. Of equal tokens the last one is found, as in the
    ///     dictionaries of the reference.
    init(tokens: [[UInt8]], isFindable: (Int) -> Bool) {
        var capacity = 16
        while capacity < tokens.count * 2 { capacity *= 2 }
        slots = Array(repeating: -1, count: capacity)
        mask = capacity - 1
        offsets.reserveCapacity(tokens.count + 1)
        blob.reserveCapacity(tokens.reduce(0) { $0 + $1.count })
        for (id, token) in tokens.enumerated() {
            blob.append(contentsOf: token)
            offsets.append(blob.count)
            if isFindable(id), !token.isEmpty { insert(id, token) }
        }
    }

    private mutating func insert(_ id: Int, _ token: [UInt8]) {
        lengthMax = max(lengthMax, token.count)
        token.withUnsafeBufferPointer { bytes in
            var slot = Self.hash(bytes) & mask
            while slots[slot] >= 0, !isEqual(Int(slots[slot]), bytes) { slot = (slot + 1) & mask }
            slots[slot] = Int32(id)
        }
    }

    /// The id of the token with exactly these bytes, or -1.
    func find(_ bytes: UnsafeBufferPointer<UInt8>) -> Int32 {
        guard bytes.count <= lengthMax else { return -1 }
        var slot = Self.hash(bytes) & mask
        while true {
            let id = slots[slot]
            if id < 0 || isEqual(Int(id), bytes) { return id }
            slot = (slot + 1) & mask
        }
    }

    func find(_ bytes: some Sequence<UInt8>) -> Int32 {
        Array(bytes).withUnsafeBufferPointer { find($0) }
    }

    func bytes(of id: Int) -> ArraySlice<UInt8> { blob[offsets[id]..<offsets[id + 1]] }

    private func isEqual(_ id: Int, _ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        let start = offsets[id]
        guard offsets[id + 1] - start == bytes.count else { return false }
        for index in 0..<bytes.count where blob[start + index] != bytes[index] { return false }
        return true
    }

    /// FNV-1a over the bytes, mixed once at the end so that the low bits that pick a slot depend on all of them. The
    /// table's contents are fixed, so a crafted text can at worst ask for the longest chain, never make it longer.
    private static func hash(_ bytes: UnsafeBufferPointer<UInt8>) -> Int {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        hash ^= hash >> 29
        return Int(truncatingIfNeeded: hash &* 0x9E37_79B9_7F4A_7C15 >> 20)
    }
}
