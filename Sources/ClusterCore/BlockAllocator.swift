/// Which KV blocks are free, who reads which, and what the full ones hold. The same ids on all stages, so one account serves them all.
///
/// A block is free, or it is held by one or more sequences, or nobody holds it but its content may serve again (idle): then it is in the
/// prefix index, and is given out anew in its turn, the one that was idle longest first.
///
/// A block costs a worker memory from the first time it is written. So a block is taken, in this order, from those that were used before and
/// are free; from the idle ones above `idleKept`; from those never used; from the other idle ones. What a worker's memory grows to is
/// therefore what its requests needed at the busiest moment and `idleKept` blocks more, however long it serves.
///
/// A block may be handed out again while steps that use it for its old owner are still in flight: the new owner's rows travel in a later step,
/// every stage computes steps strictly in the order of their numbers (a gap ends the epoch), so at each stage the old owner's
/// last read comes before the new owner's first write; and a sequence reads only positions that it, or whoever it shares a block with, wrote.
///
/// Only full blocks are shared, and full blocks are never written again; so what is shared never changes.
package struct BlockAllocator: Sendable {
    package private(set) var total: Int
    /// So many idle blocks are kept while there are blocks that were never used.
    package let idleKept: Int
    /// Used before, the last one last.
    private var free: [BlockID] = []
    /// Blocks from this one on were never used.
    private var unusedFrom = 0
    /// By block: how many sequences hold it.
    private var holders: [Int32]
    private var idle: IdleBlocks
    private var index: PrefixIndex
    /// Idle blocks whose content was given up for a new one.
    package private(set) var evictions: UInt64 = 0
    /// Counts the plans under which blocks were given out; by block: under which one it was last, and so since when its content is.
    package private(set) var era: UInt32 = 0
    private var eras: [UInt32]
    /// By block: the highest of those that its content was in, itself and what it was copied from.
    private var origins: [UInt32]

    package init(total: Int, idleKept: Int = .max) {
        self.total = total
        self.idleKept = idleKept
        holders = [Int32](repeating: 0, count: total)
        eras = [UInt32](repeating: 0, count: total)
        origins = Array(0..<UInt32(total))
        idle = IdleBlocks(total: total)
        index = PrefixIndex(total: total)
    }

    /// Blocks that can be had: free, never used and idle ones.
    package var freeCount: Int { free.count + total - unusedFrom + idle.count }
    /// Blocks that were given out at least once: what a worker has memory for.
    package var usedCount: Int { unusedFrom }
    /// Blocks that nobody holds but that serve the next request with the same beginning.
    package var idleCount: Int { idle.count }

    /// Blocks that several sequences hold. Counted anew, for people's questions only.
    package var sharedCount: Int { holders.count { $0 > 1 } }

    package func holderCount(_ block: BlockID) -> Int { Int(holders[Int(block.value)]) }

    /// `count` blocks for one holder, or `nil` and no change when there are not so many.
    package mutating func allocate(_ count: Int) -> [BlockID]? {
        guard count <= freeCount else { return nil }
        return (0..<count).map { _ in
            let block = takeOne()
            holders[Int(block.value)] = 1
            eras[Int(block.value)] = era
            origins[Int(block.value)] = block.value
            return block
        }
    }

    private mutating func takeOne() -> BlockID {
        if let block = free.popLast() { return block }
        guard unusedFrom < total, idle.count <= idleKept else { return evict() }
        defer { unusedFrom += 1 }
        return BlockID(UInt32(unusedFrom))
    }

    private mutating func evict() -> BlockID {
        guard let block = idle.removeOldest() else { preconditionFailure("the free blocks were counted") }
        index.remove(block)
        evictions += 1
        return block
    }

    /// Another sequence holds `blocks` too.
    package mutating func hold(_ blocks: [BlockID]) {
        for block in blocks {
            if holders[Int(block.value)] == 0 { idle.remove(block) }
            holders[Int(block.value)] += 1
        }
    }

    /// A sequence gives up `blocks`, its table in order. Later ones become idle before earlier ones, so that the end of a prefix is evicted before
    /// its beginning, without which it could not be found.
    package mutating func release(_ blocks: [BlockID]) {
        for block in blocks.reversed() {
            let place = Int(block.value)
            precondition(holders[place] > 0, "who gives a block up holds it")
            holders[place] -= 1
            guard holders[place] == 0 else { continue }
            if index.isWritten(block) {
                idle.append(block)
            } else {
                index.remove(block)
                free.append(block)
            }
        }
    }

    // MARK: - Plans

    /// Stages change: what is given out from now on is of another era.
    package mutating func beginEra() { era += 1 }

    /// Since when the block's content is.
    package func era(of block: BlockID) -> UInt32 { eras[Int(block.value)] }

    /// Whoever keeps something of blocks below a number only has it of this one's content if this is below.
    package func origin(of block: BlockID) -> UInt32 { origins[Int(block.value)] }

    /// `to` gets content of `from`, and with it what is known of its age and where it was.
    package mutating func noteCopy(from: BlockID, to: BlockID) {
        eras[Int(to.value)] = min(eras[Int(to.value)], eras[Int(from.value)])
        origins[Int(to.value)] = max(origins[Int(to.value)], origins[Int(from.value)])
    }

    /// Nobody can use what nobody holds: idle blocks are free.
    package mutating func giveUpIdle() {
        while let block = idle.removeOldest() {
            index.remove(block)
            free.append(block)
        }
    }

    /// There is memory for blocks 0..<`count` only from now on; nobody holds any other. What idle ones beyond held is given up.
    package mutating func limit(to count: Int) {
        precondition(count > 0 && holders[min(count, total)..<total].allSatisfy { $0 == 0 }, "blocks in use are kept")
        for place in min(count, unusedFrom)..<unusedFrom where index.isWritten(BlockID(UInt32(place))) {
            idle.remove(BlockID(UInt32(place)))
            index.remove(BlockID(UInt32(place)))
        }
        free.removeAll { Int($0.value) >= count }
        unusedFrom = min(unusedFrom, count)
        total = min(total, count)
    }

    /// Blocks that nobody holds but that serve later requests, ascending.
    package var idleBlocks: [BlockID] {
        (0..<unusedFrom).lazy.map { BlockID(UInt32($0)) }.filter { holders[Int($0.value)] == 0 && index.isWritten($0) }
    }

    // MARK: - Prefixes

    /// The blocks that hold, or will hold, the keys and values of the longest known beginning of `tokens`, at most `most` blocks.
    /// `isLong`: of a long prompt, as `promise` was told.
    package func match(_ tokens: [TokenID], most: Int, isLong: Bool = false) -> [BlockID] { index.match(tokens, most: most, isLong: isLong) }

    /// Whether the block's rows have been sent to the stages.
    package func isWritten(_ block: BlockID) -> Bool { index.isWritten(block) }
    package func isIndexed(_ block: BlockID) -> Bool { index.contains(block) }

    /// Notes that `block`, held by the caller, will hold `tokens` (a block's worth) after what `parent` holds (`nil`: at the beginning).
    /// `isLong`: the sequence's is a long prompt (`ModelProfile.longPromptTokens`). `false` and no change when another block does already.
    package mutating func promise(_ block: BlockID, after parent: BlockID?, tokens: ArraySlice<TokenID>, isLong: Bool = false) -> Bool {
        precondition(parent.map { index.contains($0) } ?? true, "a chain has no gap")
        return index.insert(block, after: parent, tokens: tokens, isLong: isLong)
    }

    /// The rows of a promised block are on their way: from the next step on, others may read it.
    package mutating func written(_ block: BlockID) { index.markWritten(block) }

    /// Its content is lost or was never sure; who holds it makes it once more.
    package mutating func unwritten(_ block: BlockID) { index.markUnwritten(block) }

    package static func blocks(forPositions positions: Int) -> Int {
        (positions + Limits.positionsPerBlock - 1) / Limits.positionsPerBlock
    }
}
