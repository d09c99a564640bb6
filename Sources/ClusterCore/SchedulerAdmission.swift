// Who runs next, and what of its past is there already.

extension Scheduler {
    /// In strict order (`FairLine`): who comes first is not overtaken, however many blocks it needs. Two things let others pass: who waits for
    /// another's prefill of the same beginning has to wait anyway; and who finds no room, but has others of its tenant running, does not hold
    /// up a tenant that has nothing running.
    mutating func admitWaiting() {
        let hasRoom = running.count < settings.sequencesRunningMax && allocator.freeCount > 0
        guard !waiting.isEmpty, hasRoom || waiting.unservedTenants > 0 else { return }
        var round = FairLine.Round()
        round.asksOnlyUnserved = !hasRoom
        while let id = waiting.next(in: round) {
            let sequence = sequences[id]!
            // Rows of it from before its preemption still come back; their token belongs to its prompt.
            guard sequence.stepsInFlight == 0 else { return }
            if awaited[id].map({ allocator.isIndexed($0) && !allocator.isWritten($0) }) == true {
                round.pass(sequence)
                continue
            }
            awaited[id] = nil
            switch beginning(of: sequence) {
            case .coming(let block):
                awaited[id] = block
                round.pass(sequence)
            case .known(let past):
                if admit(id, with: past) { continue }
                guard waiting.running(of: sequence.tenant) > 0 else { return }
                round.asksOnlyUnserved = true
            }
        }
    }

    /// `false`: there is no place, or there are too few blocks.
    private mutating func admit(_ id: SequenceID, with past: SharedPast) -> Bool {
        let sequence = sequences[id]!
        let wanted = BlockAllocator.blocks(forPositions: sequence.tokens.count) - past.blocks.count
        let idle = past.blocks.count { allocator.holderCount($0) == 0 }
        let lacking = wanted + reserve - (allocator.freeCount - idle)
        if lacking > 0 || running.count >= settings.sequencesRunningMax {
            guard waiting.running(of: sequence.tenant) == 0, displace(forBlocks: lacking, sparing: past.blocks) else { return false }
        }
        allocator.hold(past.blocks)
        guard let own = allocator.allocate(wanted) else { preconditionFailure("the blocks were counted") }
        if let partial = past.partial { copying.append(BlockCopy(from: partial, to: own[0])) }
        if let partial = past.partial { allocator.noteCopy(from: partial, to: own[0]) }
        sequences[id]!.admit(past.blocks + own, cached: past.positions)
        sequences[id]!.setIndexed(past.indexed, mayIndex: settings.sharesPrefixes && past.indexed == past.blocks.count)
        for block in past.indexed..<max(past.indexed, sequence.tokens.count / Limits.positionsPerBlock) { promise(block, of: id) }
        prefillPositions += UInt64(sequence.tokens.count)
        prefillPositionsShared += UInt64(past.positions)
        positionsRecomputed += UInt64(max(0, sequence.sentMost - past.positions))
        let charged = chargeAdmission(of: id, cached: past.positions)
        waiting.admit(sequences[id]!, charging: charged)
        insertRunning(id)
        return true
    }

    /// Blocks kept free for those who run, so that a newcomer is not admitted only to be preempted by the next decode row.
    private var reserve: Int { min(running.count, allocator.total / 8) }

    // MARK: - Shared beginnings

    /// What a sequence need not compute, because others did.
    private struct SharedPast {
        /// Full blocks, held by several.
        var blocks: [BlockID] = []
        /// A block that holds more positions of its past, to be copied into its first own block.
        var partial: BlockID?
        var positions = 0
        /// So many of `blocks` stand in the prefix index.
        var indexed = 0
    }

    private enum Beginning {
        case known(SharedPast)
        /// Somebody who runs is about to send the rows of this block: waiting for it is cheaper than computing them twice.
        case coming(BlockID)
    }

    private func beginning(of sequence: GeneratedSequence) -> Beginning {
        guard settings.sharesPrefixes else { return .known(SharedPast()) }
        if let sibling = runningSibling(of: sequence) { return beginning(of: sequence, from: sibling) }
        let size = Limits.positionsPerBlock
        let blocks = allocator.match(sequence.tokens, most: (sequence.tokens.count - 1) / size, isLong: isLong(sequence))
        if let first = blocks.firstIndex(where: { !allocator.isWritten($0) }) {
            if sender(of: blocks[first], isNoLaterThan: sequence) { return .coming(blocks[blocks.count - 1]) }
            return .known(SharedPast(blocks: Array(blocks[..<first]), positions: first * size, indexed: first))
        }
        return .known(SharedPast(blocks: blocks, positions: blocks.count * size, indexed: blocks.count))
    }

    /// Another choice of the same request that runs. Only for one that has generated nothing: later their tokens differ.
    private func runningSibling(of sequence: GeneratedSequence) -> GeneratedSequence? {
        guard sequence.generatedCount == 0 else { return nil }
        return running.lazy.compactMap { sequences[$0] }.first { $0.request == sequence.request }
    }

    /// All of the prompt but its last row, whose logits each choice draws from on its own.
    private func beginning(of sequence: GeneratedSequence, from sibling: GeneratedSequence) -> Beginning {
        let positions = sequence.promptLength - 1
        guard sibling.sent > positions, sibling.rebuilding.isEmpty else { return .coming(sibling.blocks[positions / Limits.positionsPerBlock]) }
        let full = positions / Limits.positionsPerBlock
        return .known(
            SharedPast(
                blocks: Array(sibling.blocks[..<full]), partial: positions % Limits.positionsPerBlock > 0 ? sibling.blocks[full] : nil,
                positions: positions, indexed: min(sibling.indexed, full)))
    }

    /// Another tenant's hundredth request may be computed long after this one could be: that is not waited for.
    private func sender(of block: BlockID, isNoLaterThan sequence: GeneratedSequence) -> Bool {
        running.contains { sequences[$0]!.blocks.contains(block) && !comesBefore(sequence.id, running: $0) }
    }

    /// Block number `number` of a running sequence will hold the tokens that it knows for it. When another block does already, this sequence's
    /// are its own from there on.
    private mutating func promise(_ number: Int, of id: SequenceID) {
        let sequence = sequences[id]!
        guard sequence.mayIndex, sequence.indexed == number else { return }
        let size = Limits.positionsPerBlock
        let before = number == 0 ? nil : sequence.blocks[number - 1]
        let isFirst = allocator.promise(
            sequence.blocks[number], after: before, tokens: sequence.tokens[number * size..<(number + 1) * size], isLong: isLong(sequence))
        sequences[id]!.setIndexed(isFirst ? number + 1 : number, mayIndex: isFirst)
    }

    /// Whether the model computes its keys and values as those of a long prompt, which it shares with none that is not.
    func isLong(_ sequence: GeneratedSequence) -> Bool { settings.longPromptTokens.map { sequence.promptLength > $0 } ?? false }

    /// Rows of the sequence were sent: blocks that are full now serve others from the next step on.
    mutating func noteWritten(by id: SequenceID) {
        let full = sequences[id]!.sent / Limits.positionsPerBlock
        for number in sequences[id]!.indexed..<max(full, sequences[id]!.indexed) { promise(number, of: id) }
        for number in (0..<min(full, sequences[id]!.indexed)).reversed() {
            let block = sequences[id]!.blocks[number]
            if allocator.isWritten(block) { break }
            allocator.written(block)
        }
    }
}
