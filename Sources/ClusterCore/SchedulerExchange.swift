// Sequences pass between one replica's scheduler and the line that all replicas have in common.

extension Scheduler {
    /// Whether there is any room at all.
    package var hasRoom: Bool { running.count < settings.sequencesRunningMax && allocator.freeCount > 0 }

    /// Takes a sequence if it can run at once, or as soon as another one here has computed their common beginning. `false` and no change: there
    /// is no room, or another one waits for it that comes first.
    package mutating func offer(_ sequence: GeneratedSequence) -> Bool {
        add(sequence)
        admitWaiting()
        if running.contains(sequence.id) || awaited[sequence.id] != nil { return true }
        _ = withdraw(sequence.id)
        return false
    }

    /// Those who wait for room, in the order of this line: preempted here, or left from an epoch that ended. Who waits for another's prefill, or for
    /// the steps that still have its rows, stays.
    package mutating func withdrawWaiting() -> [GeneratedSequence] {
        guard !waiting.isEmpty else { return [] }
        return waiting.inOrder.filter { awaited[$0] == nil && sequences[$0]!.stepsInFlight == 0 }.map { withdraw($0) }
    }

    private mutating func withdraw(_ id: SequenceID) -> GeneratedSequence {
        guard var sequence = sequences.removeValue(forKey: id), waiting.remove(sequence) else {
            preconditionFailure("only waiting sequences are withdrawn")
        }
        speculation.forget(id)
        // What was charged here and not generated here is given back: another line charges its tokens as they come.
        settle(sequence)
        sequence.setCharged(sequence.generatedCount)
        // Another scheduler numbers its steps anew.
        sequence.forgetSteps()
        return sequence
    }

    // MARK: - What the common line looks at

    /// Those who run first.
    func forEachSequence(_ body: (GeneratedSequence) -> Void) {
        for id in running { body(sequences[id]!) }
        for id in waiting.inOrder { body(sequences[id]!) }
    }

    var hasPlaceToRun: Bool { waiting.isEmpty && running.count < settings.sequencesRunningMax }

    /// Of a tenant, or of all.
    func workLeft(of tenant: Tenant?) -> WaitForecast.Work {
        var sum = WaitForecast.Work()
        forEachSequence { sequence in
            if tenant == nil || sequence.tenant == tenant { sum += forecast.work(left: sequence, contextTokens: settings.contextTokens) }
        }
        return sum
    }

    // MARK: - What routing looks at

    /// Rows of prompts that still have to be sent. Who waits here is not counted: another computes most of its prompt.
    package var pendingPrefillRows: Int {
        running.reduce(0) { sum, id in sum + (sequences[id]!.isDecoding ? 0 : sequences[id]!.pending) }
    }

    /// Positions of a sequence that need not be computed here, because others did or are about to.
    package func cachedPositions(of sequence: GeneratedSequence) -> Int {
        guard settings.sharesPrefixes else { return 0 }
        if holdsSibling(of: sequence) { return sequence.promptLength - 1 }
        let size = Limits.positionsPerBlock
        return allocator.match(sequence.tokens, most: (sequence.tokens.count - 1) / size, isLong: isLong(sequence)).count * size
    }

    /// Whether another choice of the same request is here whose prompt the sequence would share.
    package func holdsSibling(of sequence: GeneratedSequence) -> Bool {
        guard settings.sharesPrefixes, sequence.generatedCount == 0 else { return false }
        let isSibling = { (id: SequenceID) in sequences[id]?.request == sequence.request }
        return running.contains(where: isSibling) || waiting.inOrder.contains(where: isSibling)
    }
}
