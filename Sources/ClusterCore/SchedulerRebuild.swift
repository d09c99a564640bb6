// A stage is lost, and the sequences keep what the others have.
//
// What came back before the loss is with every stage but the lost one; of what was in flight nobody knows who computed it, so sequences go back to
// what came back, and send the rest again. When the next plan's stages stand, the layers that nobody kept are computed again for the positions
// that need them, by steps that leave the other layers out (`Rebuild`). A sequence decodes again as soon as its own came back,
// whatever others still wait for; so short texts come first. Beginnings that several hold are rebuilt once, by the first of them.

extension Scheduler {
    /// Layers that nobody kept, and the blocks in which they are not sent for yet.
    struct Loss: Sendable {
        /// Empty where nothing is lost.
        var layers = 0..<0
        /// Their inputs are kept of blocks below this one; 0: of none.
        var inputBlocks = 0
        /// Of those, the ones that were given out in this era or later.
        var inputsSince: UInt32 = 0
        /// By block.
        var isMissing: [Bool] = []
    }

    struct Repair: Sendable {
        var loss = Loss()
        var counts = RebuildCounts()
        var wasLast = false
    }

    /// Rows that a stage keeps of what it hands on, by block.
    package struct InputStore: Hashable, Sendable {
        package var worker: PeerKey
        /// Of blocks below this one,
        package var blocks: Int
        /// that were given out in this era or later.
        package var since: UInt32

        package init(worker: PeerKey, blocks: Int, since: UInt32) {
            self.worker = worker
            self.blocks = blocks
            self.since = since
        }
    }

    /// Something is to be rebuilt, or on its way to be.
    package var isRebuilding: Bool { !loss.layers.isEmpty && running.contains { !sequences[$0]!.isWhole } }

    // MARK: - The end of an epoch

    /// The epoch is over, but its stages are not all lost: running sequences keep their blocks, and what has come back of them. Whoever has nothing
    /// that came back waits again in its old place.
    package mutating func suspend() {
        if let probe { allocator.release(probe.blocks) }
        probe = nil
        inFlight.removeAll()
        inFlightMax = 0
        endTracking()
        awaited = [:]
        if !isRebuilding { loss = Loss() }
        for id in running where sequences[id]!.committed == 0 { stopForLoss(id) }
        for id in running {
            sequences[id]!.rollBack()
            for number in 0..<sequences[id]!.indexed where (number + 1) * Limits.positionsPerBlock > sequences[id]!.committed {
                allocator.unwritten(sequences[id]!.blocks[number])
            }
        }
        allocator.giveUpIdle()
        closing = []
        copying = []
        for id in waiting.inOrder { sequences[id]!.forgetSteps() }
    }

    /// As for a preemption, but nobody's wish.
    private mutating func stopForLoss(_ id: SequenceID) {
        waiting.insert(sequences[id]!)
        running.removeAll { $0 == id }
        allocator.release(sequences[id]!.loseState())
        waiting.stopped(sequences[id]!.tenant)
    }

    // MARK: - The beginning of the next one

    /// The stages of `epoch` stand, know no sequence, and have what the last epoch left but for `lost` layers. Where there is room for fewer
    /// blocks than before, who holds one of the others waits again.
    package mutating func resume(
        under epoch: Epoch, kvBlocks: Int, stages: Int, stepsInFlightMax: Int, layerCount: Int, lost: Range<Int>?,
        stores: [Int: InputStore]
    ) {
        precondition(inFlight.isEmpty && inFlightMax == 0, "an epoch begins with nothing in flight")
        self.epoch = epoch
        nextNumber = 1
        inFlightMax = stepsInFlightMax
        shape = StepShape(stages: stages, prefillRowsMax: settings.prefillRowsPerStep, interTokenBudgetMs: settings.interTokenBudgetMs)
        closing = []
        for id in running where sequences[id]!.blocks.contains(where: { Int($0.value) >= kvBlocks }) { stopForLoss(id) }
        if kvBlocks < allocator.total { allocator.limit(to: kvBlocks) }
        // The probe needs one.
        while allocator.freeCount == 0, let last = running.last { stopForLoss(last) }
        closing = []
        allocator.giveUpIdle()
        allocator.beginEra()
        noteLoss(of: lost, stores)
        let positions = UInt64(running.reduce(0) { $0 + sequences[$1]!.committed })
        guard positions > 0 else { return }
        rebuildCounts.recoveries += 1
        rebuildCounts.layerPositionsAll += positions * UInt64(layerCount)
        rebuildCounts.layerPositionsKept += positions * UInt64(layerCount - loss.layers.count)
    }

    /// What was missing before and is not there again by now is missing still.
    private mutating func noteLoss(of lost: Range<Int>?, _ stores: [Int: InputStore]) {
        let before = loss.layers
        var layers = lost ?? before
        guard !layers.isEmpty else { return }
        let isNew = lost != nil
        if !before.isEmpty { layers = min(layers.lowerBound, before.lowerBound)..<max(layers.upperBound, before.upperBound) }
        var isMissing = [Bool](repeating: false, count: allocator.total)
        for id in running {
            let isLost = isNew || !sequences[id]!.isWhole
            sequences[id]!.setLost(isLost)
            guard isLost else { continue }
            let blocks = BlockAllocator.blocks(forPositions: sequences[id]!.committed)
            for block in sequences[id]!.blocks.prefix(blocks) { isMissing[Int(block.value)] = true }
        }
        // What a whole one has, others that share it have too.
        for id in running where sequences[id]!.isWhole {
            for block in sequences[id]!.blocks { isMissing[Int(block.value)] = false }
        }
        for place in isMissing.indices where isMissing[place] { allocator.unwritten(BlockID(UInt32(place))) }
        let inputs = stores[layers.lowerBound]
        loss = Loss(layers: layers, inputBlocks: inputs?.blocks ?? 0, inputsSince: inputs?.since ?? 0, isMissing: isMissing)
    }

    // MARK: - Its steps

    /// Who lost least comes first, so that a short text does not wait for a long one's; of equals, who comes first in order of precedence. This order
    /// does not change until the next loss: a block that several hold is begun and ended by the same one.
    private var inOrderOfLoss: [SequenceID] {
        running.enumerated().filter { !sequences[$1]!.rebuilding.isEmpty }
            .sorted { (sequences[$0.element]!.rebuilding.upperBound, $0.offset) < (sequences[$1.element]!.rebuilding.upperBound, $1.offset) }
            .map(\.element)
    }

    /// The next rows to rebuild.
    mutating func nextRebuildStep(at now: Instant) -> Step? {
        guard isRebuilding else { return nil }
        var draft = StepDraft(rowsMax: settings.stepRowsMax)
        var budget = settings.prefillRowsPerStep
        var hasInputs: Bool?
        var opens: [SequenceOpen] = []
        var segments: [Segment] = []
        // Blocks that this step or one before it has begun and not ended.
        var begun: [BlockID] = []
        for id in inOrderOfLoss where budget > 0 {
            defer { begun += sequences[id]!.blocks.prefix(BlockAllocator.blocks(forPositions: sequences[id]!.committed)) }
            skipWhatOthersRebuilt(id)
            let sequence = sequences[id]!
            guard let first = sequence.rebuilding.first else { continue }
            let block = sequence.blocks[first / Limits.positionsPerBlock]
            if begun.contains(block) { continue }
            let isAtHand = hasInputs ?? hasInput(block)
            if hasInputs == nil { budget = rebuildRows(hasInputs: isAtHand) }
            let rows = rowsToRebuild(sequence, atMost: min(budget, draft.rowsLeft), hasInputs: isAtHand)
            guard rows > 0, draft.mayOpen(sequence) else { continue }
            hasInputs = isAtHand
            draft.add(id, rows: rows)
            budget -= rows
            if !sequence.isOpen { opens.append(sequence.opening(modelEndTokens: settings.endTokens)) }
            segments.append(sequences[id]!.sendLostRows(rows, in: StepNumber(nextNumber)))
        }
        guard !segments.isEmpty, let hasInputs else { return nil }
        for segment in segments { noteRebuilt(segment) }
        let rebuild = Rebuild(layers: loss.layers, hasInputs: hasInputs)
        let rows = segments.reduce(0) { $0 + $1.tokens.count }
        rebuildCounts.layerPositionsRebuilt += UInt64(rows * rebuild.computed.count)
        if hasInputs { rebuildCounts.positionsFromInputs += UInt64(rows) }
        return launch(segments, opens: opens, rebuild: rebuild, at: now)
    }

    private func rebuildRows(hasInputs: Bool) -> Int {
        let decoding = running.count { sequences[$0]!.isDecoding }
        guard decoding > 0 else { return settings.prefillRowsPerStep }
        let groups = shape.groups(decoding: decoding, inFlightMax: inFlightMax)
        return shape.rebuildRows(beside: (decoding + groups - 1) / groups, groups: groups, hasInputs: hasInputs)
    }

    /// Beginnings that a sequence before it has sent for.
    private mutating func skipWhatOthersRebuilt(_ id: SequenceID) {
        let sequence = sequences[id]!
        guard !sequence.isOpen else { return }
        let present = sequence.blocks.prefix { !loss.isMissing[Int($0.value)] }.count
        sequences[id]!.skipRebuilding(to: present * Limits.positionsPerBlock)
    }

    private func hasInput(_ block: BlockID) -> Bool {
        Int(allocator.origin(of: block)) < loss.inputBlocks && allocator.era(of: block) >= loss.inputsSince
    }

    /// From its next position on, those that all have their inputs at hand, or all have not.
    private func rowsToRebuild(_ sequence: GeneratedSequence, atMost most: Int, hasInputs: Bool) -> Int {
        let size = Limits.positionsPerBlock
        var rows = 0
        for position in sequence.rebuilding.prefix(max(0, most)) {
            if rows == 0 || position % size == 0, hasInput(sequence.blocks[position / size]) != hasInputs { break }
            rows += 1
        }
        return rows
    }

    /// Blocks whose rows are sent are there for whoever comes in a later step.
    private mutating func noteRebuilt(_ segment: Segment) {
        let sequence = sequences[segment.sequence]!
        let size = Limits.positionsPerBlock
        let end = segment.start + segment.tokens.count
        for number in segment.start / size...(end - 1) / size where end >= min((number + 1) * size, sequence.committed) {
            loss.isMissing[Int(sequence.blocks[number].value)] = false
            if number < sequence.indexed, (number + 1) * size <= end { allocator.written(sequence.blocks[number]) }
        }
    }
}
