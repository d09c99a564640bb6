/// Who may write which KV block. The same ids on all stages, so one account serves them all.
///
/// A block may be handed out again while steps that use it for its old owner are still in flight: the new owner's rows travel in a later step,
/// every stage computes steps strictly in the order of their numbers (a gap ends the epoch), so at each stage the old owner's
/// last read comes before the new owner's first write; and a sequence reads only positions that it wrote itself.
package struct BlockAllocator: Hashable, Sendable {
    package let total: Int
    private var free: [BlockID]
    private var isFree: [Bool]

    package init(total: Int) {
        self.total = total
        // Taken from the end: low ids first, so that little-used clusters touch little memory.
        free = (0..<total).reversed().map { BlockID(UInt32($0)) }
        isFree = [Bool](repeating: true, count: total)
    }

    package var freeCount: Int { free.count }

    /// `count` blocks, or `nil` and no change when there are not so many.
    package mutating func allocate(_ count: Int) -> [BlockID]? {
        guard count <= free.count else { return nil }
        let taken = Array(free.suffix(count).reversed())
        free.removeLast(count)
        for block in taken { isFree[Int(block.value)] = false }
        return taken
    }

    package mutating func release(_ blocks: [BlockID]) {
        for block in blocks.reversed() {
            precondition(!isFree[Int(block.value)], "a block is freed once")
            isFree[Int(block.value)] = true
            free.append(block)
        }
    }

    package static func blocks(forPositions positions: Int) -> Int {
        (positions + Limits.positionsPerBlock - 1) / Limits.positionsPerBlock
    }
}
