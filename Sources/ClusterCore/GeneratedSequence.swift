/// One choice of one request on its way through the scheduler: its tokens, its blocks, and how far its rows have been sent.
package struct GeneratedSequence: Hashable, Sendable {
    /// Who was admitted first, for life: a sequence keeps it through preemption and lost epochs. Total, so every order in the scheduler is the same
    /// everywhere. What follows from it: `SchedulerShares.swift`.
    package struct Precedence: Hashable, Comparable, Sendable {
        package var number: UInt64

        /// Of a sequence that was never admitted: after all that were.
        package static let none = Precedence(number: .max)

        package static func < (a: Precedence, b: Precedence) -> Bool { a.number < b.number }
    }

    package let id: SequenceID
    package let request: RequestID
    package let choice: UInt32
    /// Who shares the cluster's time with others, and in which proportion.
    package let tenant: Tenant
    package let weight: Int
    private let priority: Int32
    /// Counts requests in the order in which the coordinator took them.
    private let arrival: UInt64
    package private(set) var precedence = Precedence.none
    /// Tokens that its tenant was charged for.
    private(set) var charged = 0
    package let promptLength: Int
    package let sampling: SamplingParameters
    package let topLogprobs: Int?
    /// Prompt, then what was generated so far.
    package private(set) var tokens: [TokenID]

    /// Tokens known when it was admitted: its prefill ends there.
    private var prefillEnd = 0
    /// Positions whose rows were put into a step of this epoch.
    package private(set) var sent = 0
    /// So many of them came back: every stage has their keys and values, but for layers that were lost since.
    package private(set) var committed = 0
    /// Of those, positions whose lost layers have still to be sent for, and those that have still to come back. Empty where nothing was lost.
    package private(set) var rebuilding = 0..<0
    private var rebuilt = 0
    /// The most that ever were: what is sent again below that was computed before.
    private(set) var sentMost = 0
    /// The first `blocksSent` of them are known to the stages.
    package private(set) var blocks: [BlockID] = []
    private var blocksSent = 0
    /// Positions whose keys and values were there already when it was admitted.
    package private(set) var cached = 0
    /// So many leading blocks stand in the prefix index, through this sequence or another; whether more may follow.
    package private(set) var indexed = 0
    package private(set) var mayIndex = false
    /// Steps of this epoch with rows of this sequence that have not come back.
    package private(set) var stepsInFlight = 0
    /// The last step that had rows of this sequence: who waited longest goes into the next one.
    package private(set) var lastStep = StepNumber(0)
    /// Whether the stages hold state of this sequence.
    package private(set) var isOpen = false

    package init(
        id: SequenceID, request: GenerationRequest, choice: UInt32, arrival: UInt64
    ) {
        self.id = id
        self.request = request.id
        self.choice = choice
        tenant = request.tenant
        weight = request.weight
        priority = request.priority
        self.arrival = arrival
        promptLength = request.prompt.count
        sampling = request.sampling
        topLogprobs = request.topLogprobs
        tokens = request.prompt + (request.resumed.isEmpty ? [] : request.resumed[Int(choice)])
    }

    /// Where it stands among its tenant's sequences that wait.
    var place: TenantLine.Place {
        TenantLine.Place(id: id, precedence: precedence, priority: priority, arrival: arrival, choice: choice)
    }

    mutating func setPrecedence(_ precedence: Precedence) { self.precedence = precedence }
    mutating func setCharged(_ tokens: Int) { charged = tokens }

    package var generatedCount: Int { tokens.count - promptLength }

    /// Rows that could be sent now: known tokens whose keys and values no stage has.
    package var pending: Int { tokens.count - sent }

    /// Its prefill is sent: from now on one row a step, the next only after the last one's token has come.
    package var isDecoding: Bool { prefillEnd > 0 && sent >= prefillEnd && rebuilding.isEmpty }

    /// It has rows of its prompt to send.
    package var isPrefilling: Bool { sent < prefillEnd && pending > 0 && rebuilding.isEmpty }

    /// Its next row is known when a step comes back, and not before.
    package var hasNothingToSend: Bool { stepsInFlight > 0 && !isPrefilling && rebuilding.isEmpty }

    /// Lost layers of some of its positions are not known to be there again.
    package var isWhole: Bool { rebuilt >= rebuilding.upperBound }

    /// Blocks that are still missing before its next `rows` rows can be sent.
    package func blocksMissing(forRows rows: Int) -> Int {
        max(0, BlockAllocator.blocks(forPositions: sent + rows) - blocks.count)
    }

    /// Rows that could be sent before another block of it had to be made known.
    package var rowsWithBlocks: Int { max(0, blocksSent * Limits.positionsPerBlock - sent) }

    package mutating func give(_ more: [BlockID]) { blocks += more }

    /// It runs from now on, with blocks for all tokens known, of which the first hold keys and values of `cached` positions. At least the
    /// last known token has still to be sent: what follows it is drawn from its row.
    package mutating func admit(_ blocks: [BlockID], cached: Int = 0) {
        precondition(sent == 0 && self.blocks.isEmpty, "a sequence is admitted without state")
        precondition(cached < tokens.count, "the last row is always computed")
        self.blocks = blocks
        self.cached = cached
        sent = cached
        prefillEnd = tokens.count
    }

    package mutating func setIndexed(_ count: Int, mayIndex: Bool) {
        indexed = count
        self.mayIndex = mayIndex
    }

    /// The next `rows` rows as a segment of step `number`, with guesses of what follows the last known token. They have blocks.
    ///
    /// The rows of guesses are not counted as sent: which of them stay is known with the step's result (`confirmDraft`).
    package mutating func sendRows(_ rows: Int, drafts: [TokenID] = [], in number: StepNumber) -> Segment {
        let end = sent + rows
        let blockCount = BlockAllocator.blocks(forPositions: end + drafts.count)
        precondition(rows > 0 && end <= tokens.count && blockCount <= blocks.count, "rows to send are known and have blocks")
        precondition(drafts.isEmpty || end == tokens.count, "guesses follow the last known token")
        let segment = Segment(
            sequence: id, start: sent, tokens: Array(tokens[sent..<end]) + drafts,
            newBlocks: Array(blocks[blocksSent..<max(blocksSent, blockCount)]), samples: end == tokens.count, drafts: drafts.count)
        sent = end
        blocksSent = max(blocksSent, blockCount)
        stepsInFlight += 1
        lastStep = number
        isOpen = true
        return segment
    }

    /// The stages compute a row that nobody wants any more, in step `number`: not admitted again before that is back.
    package mutating func sendStrayRow(in number: StepNumber) {
        stepsInFlight += 1
        lastStep = number
    }

    /// The last known token was a guess, and right: its row is in place.
    package mutating func confirmDraft() {
        precondition(sent == tokens.count - 1 && sent < blocks.count * Limits.positionsPerBlock, "a guess stands behind all that was sent")
        sent += 1
        committed = max(committed, sent)
    }

    /// A step with its rows up to position `end` came back; `isRebuild`: which had come back once before.
    package mutating func stepReturned(upTo end: Int, isRebuild: Bool = false) {
        precondition(stepsInFlight > 0, "a step that returns was sent")
        stepsInFlight -= 1
        // One that was preempted has no rows any more.
        guard !blocks.isEmpty else { return }
        if isRebuild { rebuilt = max(rebuilt, end) } else { committed = max(committed, end) }
    }

    /// The stages' state of it is gone or is being closed; its tokens stay. Steps in flight still return.
    package mutating func loseState() -> [BlockID] {
        sentMost = max(sentMost, sent)
        defer {
            sent = 0
            committed = 0
            rebuilding = 0..<0
            rebuilt = 0
            blocks = []
            blocksSent = 0
            cached = 0
            indexed = 0
            mayIndex = false
            isOpen = false
        }
        return blocks
    }

    /// Its keys and values are with the stages of another plan, which do not know it yet.
    package mutating func changeStages() {
        precondition(stepsInFlight == 0, "stages change between two steps")
        guard isOpen else { return }
        cached = sent
        blocksSent = 0
        isOpen = false
        lastStep = StepNumber(0)
    }

    /// The epoch ended, and what did not come back never does. It keeps its blocks.
    package mutating func rollBack() {
        sentMost = max(sentMost, sent)
        sent = committed
        cached = committed
        blocksSent = 0
        isOpen = false
        forgetSteps()
    }

    /// Layers of its positions were lost, of all that it computed; `false`: nothing was, as far as it is concerned.
    package mutating func setLost(_ isLost: Bool) {
        rebuilding = 0..<(isLost ? committed : 0)
        rebuilt = 0
    }

    /// The first positions lie in blocks that others rebuild.
    package mutating func skipRebuilding(to position: Int) {
        let start = min(max(rebuilding.lowerBound, position), rebuilding.upperBound)
        rebuilding = start..<rebuilding.upperBound
        if !isOpen { cached = rebuilding.isEmpty ? sent : start }
        rebuilt = max(rebuilt, min(position, rebuilding.upperBound))
    }

    /// The next `rows` positions whose lost layers are computed again, as a segment of step `number`.
    package mutating func sendLostRows(_ rows: Int, in number: StepNumber) -> Segment {
        let (start, end) = (rebuilding.lowerBound, rebuilding.lowerBound + rows)
        precondition(rows > 0 && end <= rebuilding.upperBound, "only what was lost is rebuilt")
        let blockCount = BlockAllocator.blocks(forPositions: end)
        let segment = Segment(
            sequence: id, start: start, tokens: Array(tokens[start..<end]), newBlocks: Array(blocks[blocksSent..<max(blocksSent, blockCount)]),
            samples: false)
        rebuilding = end..<rebuilding.upperBound
        blocksSent = max(blocksSent, blockCount)
        stepsInFlight += 1
        lastStep = number
        isOpen = true
        return segment
    }

    /// The epoch ended: nothing of it comes back.
    package mutating func forgetSteps() {
        stepsInFlight = 0
        lastStep = StepNumber(0)
    }

    package mutating func append(_ token: TokenID) { tokens.append(token) }

    /// Whether `token` could end the choice where it stands.
    package func mayEnd(with token: TokenID, endTokens: [TokenID]) -> Bool {
        (!sampling.ignoreEndTokens && endTokens.contains(token)) || sampling.stopTokens.contains(token)
    }

    /// Whether the last generated token ends the choice. An end token counts once `minTokens` came before it.
    package func finishReason(endTokens: [TokenID], contextTokens: Int) -> FinishReason? {
        guard generatedCount > 0, let last = tokens.last else { return nil }
        if mayEnd(with: last, endTokens: endTokens) && generatedCount > Int(sampling.minTokens) { return .stop }
        if generatedCount >= Int(sampling.maxTokens) || tokens.count >= contextTokens { return .length }
        return nil
    }

    /// What the stages must know before its first rows.
    package func opening(modelEndTokens: [TokenID]) -> SequenceOpen {
        SequenceOpen(
            sequence: id, choice: choice, tokens: tokens, promptLength: promptLength, cached: cached, sampling: sampling,
            endTokens: ascending(modelEndTokens, sampling.stopTokens), topLogprobs: topLogprobs)
    }

    private func ascending(_ a: [TokenID], _ b: [TokenID]) -> [TokenID] {
        (a + b).sorted().reduce(into: []) { if $0.last != $1 { $0.append($1) } }
    }
}
