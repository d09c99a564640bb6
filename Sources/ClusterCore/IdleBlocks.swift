/// Blocks in the order in which they became idle: a doubly linked list through arrays, so that each change takes the same short time.
struct IdleBlocks: Sendable {
    /// By block; the list's own ends are at index `total`, which is before the first and after the last.
    private var before: [Int32]
    private var after: [Int32]
    private let end: Int32
    private(set) var count = 0

    private static let absent: Int32 = -1

    init(total: Int) {
        end = Int32(total)
        before = [Int32](repeating: Self.absent, count: total + 1)
        after = before
        before[total] = end
        after[total] = end
    }

    mutating func append(_ block: BlockID) {
        let place = Int(block.value)
        precondition(after[place] == Self.absent, "a block is idle once")
        let last = before[Int(end)]
        before[place] = last
        after[place] = end
        after[Int(last)] = Int32(place)
        before[Int(end)] = Int32(place)
        count += 1
    }

    mutating func remove(_ block: BlockID) {
        let place = Int(block.value)
        precondition(after[place] != Self.absent, "only an idle block is taken out")
        after[Int(before[place])] = after[place]
        before[Int(after[place])] = before[place]
        before[place] = Self.absent
        after[place] = Self.absent
        count -= 1
    }

    /// The block that was idle longest.
    mutating func removeOldest() -> BlockID? {
        let oldest = after[Int(end)]
        guard oldest != end else { return nil }
        let block = BlockID(UInt32(oldest))
        remove(block)
        return block
    }
}
