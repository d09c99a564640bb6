/// Which two neighbouring symbols merge, how early, and into what: an open-addressing hash table. Immutable once built.
struct MergeTable: Sendable {
    /// What a pair becomes.
    struct Merge {
        /// Lower merges earlier.
        let rank: UInt32
        let symbol: Int32
    }

    static let noRank = UInt32.max
    private static let emptyKey = UInt64.max

    /// left << 32 | right, or `emptyKey`.
    private var keys: [UInt64]
    /// rank << 32 | symbol, at the same slots.
    private var values: [UInt64]
    private let mask: Int
    private(set) var count = 0

    /// A table that can take `capacity` pairs.
    init(capacity: Int) {
        var slots = 16
        while slots < capacity * 2 { slots *= 2 }
        keys = Array(repeating: Self.emptyKey, count: slots)
        values = Array(repeating: 0, count: slots)
        mask = slots - 1
    }

    /// Adds a pair; of equal pairs the last one counts, as in the dictionaries of the reference.
    mutating func insert(left: Int32, right: Int32, rank: UInt32, symbol: Int32) {
        precondition(count * 2 <= keys.count, "a merge table is made for the number of its pairs")
        let key = Self.key(left, right)
        var slot = Self.slot(key, mask)
        while keys[slot] != Self.emptyKey, keys[slot] != key { slot = (slot + 1) & mask }
        if keys[slot] != key { count += 1 }
        keys[slot] = key
        values[slot] = UInt64(rank) << 32 | UInt64(UInt32(bitPattern: symbol))
    }

    /// What `left` and `right` become, or a merge of rank `noRank` where they stay apart.
    func find(_ left: Int32, _ right: Int32) -> Merge {
        let key = Self.key(left, right)
        var slot = Self.slot(key, mask)
        while true {
            if keys[slot] == key {
                let value = values[slot]
                return Merge(rank: UInt32(value >> 32), symbol: Int32(truncatingIfNeeded: value))
            }
            if keys[slot] == Self.emptyKey { return Merge(rank: Self.noRank, symbol: -1) }
            slot = (slot + 1) & mask
        }
    }

    /// Symbols are not negative, but for the one that merges with nothing; its pairs are not in the table, and no pair
    /// of it may look like `emptyKey`.
    private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: left) & 0x7FFF_FFFF) << 32 | UInt64(UInt32(bitPattern: right))
    }

    private static func slot(_ key: UInt64, _ mask: Int) -> Int {
        let mixed = key &* 0x9E37_79B9_7F4A_7C15
        return Int(truncatingIfNeeded: (mixed ^ mixed >> 32) & UInt64(mask))
    }
}
