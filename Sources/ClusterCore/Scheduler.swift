import DequeModule

/// Forms steps from sequences and takes their results: continuous batching, chunked prefill, preemption by recompute.
///
/// States: halted (no epoch serves: sequences only wait) and running (`begin` to `halt`). Wrong calls: forming steps while halted gives none;
/// results that belong to no step in flight are told apart and change nothing; adding a sequence twice is our own bug and traps.
///
/// What holds always: the sequence of highest precedence makes progress, because whoever else runs gives its blocks up for it
/// and the plan has blocks for one full context; so none starves (`SchedulerShares.swift`).
package struct Scheduler: Sendable {
    package struct Settings: Hashable, Sendable {
        package var stepRowsMax: Int
        /// Of one step. Fewer where others decode, so that their tokens keep coming.
        package var prefillRowsPerStep: Int
        /// See `StepShape`.
        package var interTokenBudgetMs: UInt64?
        package var sequencesRunningMax: Int
        /// So many times longer than alone a tenant's steps may take beside others', or as its share of all weights says: see `SchedulerTurns`.
        package var tenantStretchMax = 4.0
        package var contextTokens: Int
        package var vocabulary: Int
        package var endTokens: [TokenID]
        /// Whether a request uses the keys and values that another left or is about to leave of the same beginning.
        package var sharesPrefixes = true
        /// Of all KV blocks, those that may hold beginnings which nobody uses while blocks are left that never were.
        package var prefixCachePercent = 100
        /// See `ModelProfile`.
        package var longPromptTokens: Int?
        package var speculation = Speculation.Mode.promptLookup
        /// Guesses of one sequence in one step.
        package var draftTokensMax = Speculation.draftTokensMax
        /// Whether there is a draft model to ask.
        package var hasDraftModel = false
    }

    let settings: Settings
    /// Only ever asked by id: a dictionary's order differs per process.
    var sequences: [SequenceID: GeneratedSequence] = [:]
    package internal(set) var waiting = FairLine()
    /// In order of precedence.
    package internal(set) var running: [SequenceID] = []
    package internal(set) var allocator = BlockAllocator(total: 0)
    package internal(set) var inFlight: Deque<StepInFlight> = []
    /// What was lost with a stage and is made again (`SchedulerRebuild.swift`).
    var loss: Loss {
        get { repair[0].loss }
        _modify { yield &repair[0].loss }
    }
    package internal(set) var rebuildCounts: RebuildCounts {
        get { repair[0].counts }
        _modify { yield &repair[0].counts }
    }
    /// The last step that was sent rebuilds.
    private var wasRebuildLast: Bool { repair[0].wasLast }
    /// Always one: behind a reference, for this struct is copied often.
    private var repair = [Repair()]
    /// Sequences whose state the stages may forget; told with the next step.
    var closing: [SequenceID] = []
    /// Copies that the stages make with the next step.
    var copying: [BlockCopy] = []
    /// Waiting sequences whose beginning another one is about to compute: the block that they wait for.
    var awaited: [SequenceID: BlockID] = [:]
    var probe: (sequence: SequenceID, blocks: [BlockID])?
    var epoch = Epoch(0)
    var nextNumber: UInt64 = 1
    var inFlightMax = 0
    package internal(set) var shape: StepShape
    private(set) var clock: StepClock
    package internal(set) var speculation: Speculation
    package private(set) var preemptions: UInt64 = 0
    /// Positions computed a second time.
    package internal(set) var positionsRecomputed: UInt64 = 0
    /// Whether the stages of this epoch may add follow-up steps.
    package var allowsFollowUps = false
    /// What the last step took that decoded and was alone.
    var aloneNanoseconds: UInt64?
    /// Decoding steps since one had guesses.
    var plainSteps = 0
    /// While layers move: which blocks changed. No step is formed while `isHeld`.
    var changes: BlockChanges?
    package internal(set) var isHeld = false
    /// Preemptions, among those counted above, that gave a place to a tenant that had none.
    package internal(set) var displacements: UInt64 = 0
    /// Rows that may be thrown away for such a one.
    var displacementCredit: Double
    var nextPrecedence: UInt64 = 0
    /// Whether somebody waits in the line before several replicas.
    var othersWait = false
    package internal(set) var forecast = WaitForecast()
    /// Positions that admitted sequences had to prefill, and those of them that were there already.
    package internal(set) var prefillPositions: UInt64 = 0
    package internal(set) var prefillPositionsShared: UInt64 = 0

    package init(settings: Settings, clock: StepClock) {
        self.settings = settings
        self.clock = clock
        displacementCredit = Double(settings.contextTokens)
        speculation = Speculation(mode: settings.speculation, most: settings.draftTokensMax, hasModel: settings.hasDraftModel)
        shape = StepShape(stages: 0, prefillRowsMax: settings.prefillRowsPerStep, interTokenBudgetMs: settings.interTokenBudgetMs)
    }

    package var openCount: Int { sequences.count }
    package subscript(id: SequenceID) -> GeneratedSequence? { sequences[id] }

    /// See `StepClock.expect`.
    package mutating func expectSteps(seconds: Double) { clock.expect(seconds: seconds) }
    // MARK: - Epochs

    /// The stages of `epoch` are ready and hold no sequence.
    package mutating func begin(epoch: Epoch, kvBlocks: Int, stages: Int, stepsInFlightMax: Int) {
        precondition(running.isEmpty && inFlight.isEmpty, "an epoch begins with nothing in flight")
        self.epoch = epoch
        nextNumber = 1
        inFlightMax = stepsInFlightMax
        shape = StepShape(stages: stages, prefillRowsMax: settings.prefillRowsPerStep, interTokenBudgetMs: settings.interTokenBudgetMs)
        allocator = BlockAllocator(total: kvBlocks, idleKept: kvBlocks * settings.prefixCachePercent / 100)
    }

    /// The epoch is over: what was in flight never comes back, the stages' state is lost, running sequences wait again in their old places.
    package mutating func halt() {
        inFlight.removeAll()
        inFlightMax = 0
        changes = nil
        isHeld = false
        closing = []
        copying = []
        awaited = [:]
        probe = nil
        loss = Loss()
        for id in running {
            _ = sequences[id]!.loseState()
            waiting.insert(sequences[id]!)
            waiting.stopped(sequences[id]!.tenant)
        }
        running = []
        for id in waiting.inOrder { sequences[id]!.forgetSteps() }
        allocator = BlockAllocator(total: 0)
    }

    /// One row through all stages, to see that the pipeline really answers. Its sequence belongs to no request.
    package mutating func makeProbe(sequence: SequenceID, at now: Instant) -> Step {
        guard let blocks = allocator.allocate(1) else { preconditionFailure("an epoch begins with free blocks") }
        probe = (sequence, blocks)
        let request = GenerationRequest(id: RequestID(high: 0, low: 0), prompt: [0], sampling: SamplingParameters())
        var prober = GeneratedSequence(id: sequence, request: request, choice: 0, arrival: 0)
        prober.admit(blocks)
        let opening = prober.opening(modelEndTokens: settings.endTokens)
        return launch([prober.sendRows(1, in: StepNumber(nextNumber))], opens: [opening], at: now)
    }

    // MARK: - Sequences come and go

    package mutating func add(_ sequence: GeneratedSequence) {
        precondition(sequences.updateValue(sequence, forKey: sequence.id) == nil, "sequence ids are never used again")
        waiting.insert(sequence)
    }

    /// Its blocks are free at once (why that is safe: `BlockAllocator`); steps with its rows pass through without effect.
    package mutating func remove(_ id: SequenceID) {
        guard let sequence = sequences[id] else { preconditionFailure("only open sequences are removed") }
        awaited[id] = nil
        speculation.forget(id)
        if !waiting.remove(sequence) { stop(id) }
        settle(sequence)
        sequences[id] = nil
    }

    /// Takes a running sequence's blocks and has the stages forget it.
    private mutating func stop(_ id: SequenceID) {
        guard let index = running.firstIndex(of: id) else { preconditionFailure("a sequence waits or runs") }
        running.remove(at: index)
        if sequences[id]!.isOpen { closing.append(id) }
        allocator.release(sequences[id]!.loseState())
        waiting.stopped(sequences[id]!.tenant)
    }

    // MARK: - The next step

    /// The next step for the first stage, or `nil` when the pipeline is full or nothing is ready.
    package mutating func nextStep(at now: Instant) -> Step? {
        guard inFlight.count < inFlightMax, !isHeld, inFlight.last?.followUps ?? 0 == 0 else { return nil }
        if hasNothingToSend { return nil }
        admitWaiting()
        // One of these is always on its way while there is something to rebuild, and no more while others want the stages. Where one step at a time
        // is, they take turns.
        if isRebuilding, !wasRebuildLast, !inFlight.contains(where: \.isRebuild), let step = nextRebuildStep(at: now) { return step }
        return nextPlainStep(at: now) ?? nextRebuildStep(at: now)
    }

    /// Everybody's rows are on their way: so the filling of the pipeline ends mostly, and a first stage may wait for the step before.
    private var hasNothingToSend: Bool {
        guard waiting.isEmpty, loss.layers.isEmpty else { return false }
        return running.allSatisfy { sequences[$0]!.hasNothingToSend }
    }

    private mutating func nextPlainStep(at now: Instant) -> Step? {
        var draft = StepDraft(rowsMax: settings.stepRowsMax)
        let decoding = running.count { sequences[$0]!.isDecoding }
        var groups = shape.groups(decoding: decoding, inFlightMax: inFlightMax)
        var share = (decoding + groups - 1) / groups
        let turn = turn()
        if let turn, share > 0 {
            share = turn.decodeRows(share)
            groups = (decoding + share - 1) / share
        }
        // Where fewer groups are better than are in flight, the next waits for one of them, or they would never become fewer.
        if inFlight.count(where: { $0.decodeRows > 0 }) < groups { addDecodeRows(to: &draft, atMost: share) }
        // Where others decode but are all in flight, their next step is as much in this one's way.
        addPrefillRows(to: &draft, beside: max(draft.parts.count, share), groups: groups, turn: turn)
        addGuesses(to: &draft)
        return draft.isEmpty ? nil : launch(draft, at: now)
    }

    /// One group of those that decode, who waited longest first. One that has to wait for a block takes nobody's place.
    private mutating func addDecodeRows(to draft: inout StepDraft, atMost share: Int) {
        for member in readyToDecode() where draft.parts.count < share && draft.rowsLeft > 0 && isRunning(member.id) {
            guard draft.mayOpen(member) else { continue }
            if makeRoom(for: member.id, sparing: draft) { draft.add(member.id, rows: 1) }
        }
    }

    /// Prompts in the order of shares; a prompt's next chunk may follow while earlier ones are in flight.
    private mutating func addPrefillRows(to draft: inout StepDraft, beside rows: Int, groups: Int, turn: Turn?) {
        guard running.contains(where: { sequences[$0]!.isPrefilling }) else { return }
        let fitting = shape.prefillRows(beside: rows, groups: groups)
        var budget = min(turn?.promptRows(fitting, beside: draft.parts.count) ?? fitting, draft.rowsLeft)
        for id in inOrderOfShares() where budget > 0 {
            guard let sequence = sequences[id], sequence.isPrefilling, draft.mayOpen(sequence) else { continue }
            let rows = min(sequence.pending, budget)
            draft.add(id, rows: rows)
            budget -= rows
        }
    }

    private mutating func launch(_ draft: StepDraft, at now: Instant) -> Step {
        var opens: [SequenceOpen] = []
        var segments: [Segment] = []
        for part in draft.parts {
            if !sequences[part.sequence]!.isOpen { opens.append(sequences[part.sequence]!.opening(modelEndTokens: settings.endTokens)) }
            segments.append(sequences[part.sequence]!.sendRows(part.rows, drafts: part.drafts, in: StepNumber(nextNumber)))
            noteWritten(by: part.sequence)
        }
        noteServed(rows: draft.parts.reduce(0) { $0 + $1.rows })
        return launch(segments, opens: opens, followUps: followUps(of: draft), at: now)
    }

    mutating func launch(
        _ segments: [Segment], opens: [SequenceOpen], rebuild: Rebuild? = nil, followUps: Int = 0, at now: Instant
    ) -> Step {
        var step = Step(
            epoch: epoch, number: StepNumber(nextNumber), opens: opens, closes: closing, copies: copying, segments: segments, rebuild: rebuild)
        step.followUps = followUps
        if wasRebuildLast != (rebuild != nil) { repair[0].wasLast.toggle() }
        closing = []
        copying = []
        enter(StepInFlight(step, sentAt: now))
        noteChanges(by: step)
        return step
    }

    mutating func enter(_ step: StepInFlight) {
        nextNumber += 1
        inFlight.append(step)
        if inFlight.count > 1 { for index in inFlight.indices { inFlight[index].isAlone = false } }
    }

    // MARK: - Room

    /// Sees to it that the sequence's next row has a block, if need be by preempting others, the last in the order of shares first, but none whose
    /// rows are in `draft`. `false`: it waits, with its state. The first never waits long: whoever is in this draft can be preempted for the next.
    private mutating func makeRoom(for id: SequenceID, sparing draft: StepDraft) -> Bool {
        while sequences[id]!.blocksMissing(forRows: 1) > 0 {
            if let blocks = allocator.allocate(1) {
                sequences[id]!.give(blocks)
            } else if let last = firstToGiveWay(to: id, sparing: draft) {
                preempt(last)
            } else {
                return false
            }
        }
        return true
    }

    /// It waits again in its old place and is prefilled anew, generated tokens included: the same bytes, later.
    mutating func preempt(_ id: SequenceID) {
        // First this, or its tenant would seem to want nothing for a moment.
        waiting.insert(sequences[id]!)
        stop(id)
        preemptions += 1
    }

    private func isRunning(_ id: SequenceID) -> Bool { running.contains(id) }

    mutating func insertRunning(_ id: SequenceID) {
        let precedence = sequences[id]!.precedence
        let index = running.firstIndex { precedence < sequences[$0]!.precedence } ?? running.count
        running.insert(id, at: index)
    }

    // MARK: - Results

    package struct Advance: Hashable, Sendable {
        package var sequence: SequenceID
        package var request: RequestID
        package var choice: UInt32
        package var emitted: EmittedToken
        /// The sequence has ended and is no longer known here.
        package var finish: FinishReason?
    }

    package enum Taken: Hashable, Sendable {
        /// No such step is in flight; nothing changed.
        case unknown
        /// An earlier step's result is missing, and results come in order: it was lost on the way. Nothing changed.
        case gap
        /// The result does not answer its step; nothing changed.
        case faulty(String)
        /// The step is over. Sequences in `poisoned` are still open.
        case done(StepInFlight, [Advance], poisoned: [PoisonedSequence])
    }

    package mutating func take(_ result: StepResult, at now: Instant) -> Taken {
        guard result.epoch == epoch, let oldest = inFlight.first, let newest = inFlight.last else { return .unknown }
        guard oldest.number <= result.number, result.number <= newest.number else { return .unknown }
        guard result.number == oldest.number else { return .gap }
        if let fault = oldest.fault(in: result, vocabulary: settings.vocabulary) { return .faulty(fault) }

        inFlight.removeFirst()
        changes?.returned(oldest.number)
        clock.finished(oldest, at: now)
        if !oldest.isRebuild { forecast.note(oldest, tokens: result.tokens.count, at: now) }
        // The first step of all waits for weights that nobody has touched yet.
        if let rebuild = oldest.rebuild {
            shape.noteRebuild(rows: oldest.rowCount, hasInputs: rebuild.hasInputs, timings: result.timings)
        } else if probe == nil {
            shape.note(rows: oldest.rowCount, sampledRows: oldest.sampledRowCount, alone: oldest.isAlone, timings: result.timings)
        }
        for rows in oldest.rows { sequences[rows.sequence]?.stepReturned(upTo: rows.end, isRebuild: oldest.isRebuild) }
        endProbe(after: oldest)
        noteGuesses(of: oldest, in: result)
        var advances: [Advance] = []
        for (index, sampled) in result.tokens.enumerated() {
            if index > 0, result.tokens[index - 1].sequence == sampled.sequence { confirmGuess(of: sampled.sequence) }
            if let advance = advance(sampled) { advances.append(advance) }
        }
        noteAlone(oldest, at: now)
        if result.isFollowed { followUp(oldest, result.tokens, at: now) }
        return .done(oldest, advances, poisoned: result.poisoned.filter { sequences[$0.sequence] != nil })
    }

    /// `nil` for a sequence that was cancelled while its row was in flight.
    private mutating func advance(_ sampled: SampledToken) -> Advance? {
        let id = sampled.sequence
        // Asked for what is needed and not held as a whole: appending would copy all tokens of what is held twice.
        guard let (request, choice, count) = sequences[id].map({ ($0.request, $0.choice, $0.tokens.count) }) else { return nil }
        // Holds for a preempted sequence too: it is admitted again only after its rows have returned.
        precondition(sampled.position == count, "a sampled row is the sequence's last")
        sequences[id]!.append(sampled.emitted.token)
        chargeToken(of: id)
        let finish = sequences[id]!.finishReason(endTokens: settings.endTokens, contextTokens: settings.contextTokens)
        if finish != nil {
            forecast.noteAnswer(tokens: sequences[id]!.generatedCount)
            remove(id)
        }
        return Advance(sequence: id, request: request, choice: choice, emitted: sampled.emitted, finish: finish)
    }

    private mutating func endProbe(after step: StepInFlight) {
        guard let probe, step.rows.contains(where: { $0.sequence == probe.sequence }) else { return }
        allocator.release(probe.blocks)
        closing.append(probe.sequence)
        self.probe = nil
    }
}

/// Which rows of which sequences the step being formed will have.
struct StepDraft {
    struct Part {
        var sequence: SequenceID
        var rows: Int
        /// Guesses of what follows these.
        var drafts: [TokenID] = []
    }

    private(set) var parts: [Part] = []
    private(set) var rowsLeft: Int
    /// A step's frame is bounded, and after a hand-over all sequences are made known anew.
    private var tokensToOpen = Limits.stepOpenTokensMax

    init(rowsMax: Int) { rowsLeft = rowsMax }

    var isEmpty: Bool { parts.isEmpty }

    func has(_ sequence: SequenceID) -> Bool { parts.contains { $0.sequence == sequence } }

    /// Whether a sequence that would have to be opened still can be, and if so, it counts.
    mutating func mayOpen(_ sequence: GeneratedSequence) -> Bool {
        if sequence.isOpen { return true }
        guard sequence.tokens.count <= tokensToOpen else { return false }
        tokensToOpen -= sequence.tokens.count
        return true
    }

    mutating func add(_ sequence: SequenceID, rows: Int) {
        precondition(rows <= rowsLeft, "a step's rows are bounded")
        parts.append(Part(sequence: sequence, rows: rows))
        rowsLeft -= rows
    }

    mutating func add(guesses: [TokenID], to part: Int) {
        precondition(guesses.count <= rowsLeft, "a step's rows are bounded")
        parts[part].drafts = guesses
        rowsLeft -= guesses.count
    }
}
