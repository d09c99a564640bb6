// Layers move to other workers while sequences run.
//
// Blocks whose layers move are copied in the background; those that change meanwhile are copied again. At the end steps are held, the last ones
// come back, the last changed blocks are copied, and the scheduler proceeds under the new epoch: sequences keep their blocks and all that was
// computed, and only have to be made known to the new stages.

extension Scheduler {
    /// From now on it is known which blocks change.
    mutating func trackChanges() { changes = BlockChanges(firstStep: StepNumber(nextNumber), blocks: allocator.total) }

    /// No change is missed: every step in flight was formed since `trackChanges`.
    var knowsAllChanges: Bool {
        guard let changes else { return false }
        return inFlight.first.map { $0.number >= changes.firstStep } ?? true
    }

    /// The old plan goes on.
    mutating func endTracking() {
        changes = nil
        isHeld = false
    }

    /// No further step is formed; those in flight come back.
    mutating func hold() { isHeld = true }

    /// Blocks with content that may be needed again, ascending: of running sequences, of beginnings that nobody uses, and what pending copies read.
    private var liveBlocks: [BlockID] {
        var isLive = [Bool](repeating: false, count: allocator.total)
        for id in running {
            let sequence = sequences[id]!
            for block in sequence.blocks.prefix(BlockAllocator.blocks(forPositions: sequence.sent)) { isLive[Int(block.value)] = true }
        }
        for block in allocator.idleBlocks { isLive[Int(block.value)] = true }
        for copy in copying { isLive[Int(copy.from.value)] = true }
        return isLive.indices.filter { isLive[$0] }.map { BlockID(UInt32($0)) }
    }

    /// Those to be copied now.
    mutating func takeChangedBlocks() -> [BlockID] {
        let live = liveBlocks
        return changes?.take(of: live) ?? []
    }
    var changedBlockCount: Int { changes?.count(of: liveBlocks) ?? 0 }

    /// The stages of `epoch` have all keys and values, and know no sequence. Where there is room for fewer blocks than before, who holds one of
    /// the others gives way.
    mutating func proceed(under epoch: Epoch, kvBlocks: Int, stages: Int, stepsInFlightMax: Int) {
        precondition(inFlight.isEmpty && isHeld, "stages change between two steps")
        let lost = { (block: BlockID) in Int(block.value) >= kvBlocks }
        // A copy that is still to be made can't be when either end of it is lost.
        let unmade = copying.filter { lost($0.from) }.map(\.to)
        for id in running where sequences[id]!.blocks.contains(where: { lost($0) || unmade.contains($0) }) { preempt(id) }
        copying.removeAll { lost($0.from) || lost($0.to) }
        if kvBlocks < allocator.total { allocator.limit(to: kvBlocks) }
        allocator.beginEra()
        self.epoch = epoch
        nextNumber = 1
        inFlightMax = stepsInFlightMax
        shape = StepShape(stages: stages, prefillRowsMax: settings.prefillRowsPerStep, interTokenBudgetMs: settings.interTokenBudgetMs)
        closing = []
        for id in running { sequences[id]!.changeStages() }
        for id in waiting.inOrder { sequences[id]!.forgetSteps() }
        loss = Loss()
        endTracking()
    }

    /// Notes which blocks a step writes, while that is asked for.
    mutating func noteChanges(by step: Step) {
        guard changes != nil else { return }
        let size = Limits.positionsPerBlock
        var written = step.copies.map(\.to)
        for segment in step.segments {
            guard let sequence = sequences[segment.sequence] else { continue }
            written += sequence.blocks[segment.start / size...(segment.start + segment.tokens.count - 1) / size]
        }
        changes!.sent(step.number, writing: written)
    }
}
