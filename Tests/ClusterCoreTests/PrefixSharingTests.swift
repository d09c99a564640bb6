import Testing

@testable import ClusterCore

/// What requests with the same beginning share, and that nobody ever reads another's keys and values.
@Suite struct PrefixSharingTests {
    private static func tokens(_ seed: UInt64, _ count: Int) -> [TokenID] { (0..<count).map { TokenID(mixed(seed, UInt64($0)) % 1_000) } }

    @Test func sharedBeginningsArePrefilledOnce() {
        let system = Self.tokens(1, 1_000)
        var run = ScheduledRun(blocks: 4_000, stages: 2)
        for id in 1...64 { run.add(id: UInt64(id), prompt: system + Self.tokens(UInt64(id) + 10, 20), maxTokens: 3) }
        run.finish()
        #expect(run.findings == [])
        // 31 blocks of 32 positions are full; the rest of each prompt is its own.
        #expect(run.prefillRows == 1_020 + 63 * (1_020 - 992))
        #expect(run.scheduler.prefillPositionsShared == 63 * 992)
    }

    @Test func withoutSharingEachPrefillsItsOwn() {
        let system = Self.tokens(1, 100)
        var run = ScheduledRun(blocks: 400, stages: 2, sharesPrefixes: false)
        for id in 1...8 { run.add(id: UInt64(id), prompt: system, maxTokens: 3) }
        run.finish()
        #expect(run.findings == [])
        #expect(run.prefillRows == 800)
    }

    @Test(arguments: [1, 2, 31, 32, 33, 64, 65, 70]) func choicesShareTheirPromptUpToItsLastRow(prompt: Int) {
        var run = ScheduledRun(blocks: 100, stages: 2)
        run.add(id: 1, prompt: Self.tokens(3, prompt), maxTokens: 40, choices: 4)
        run.finish()
        #expect(run.findings == [])
        #expect(run.prefillRows == prompt + 3)
    }

    @Test func whatAFinishedRequestLeftServesTheNext() {
        var run = ScheduledRun(blocks: 100, stages: 2)
        let first = Self.tokens(5, 100)
        run.add(id: 1, prompt: first, maxTokens: 30)
        run.finish()
        #expect(run.prefillRows == 100 && run.scheduler.allocator.idleCount == 4)
        // A second turn of the same conversation: prompt, answer and something new.
        run.add(id: 2, prompt: run.answers[1]! + Self.tokens(6, 10), maxTokens: 3)
        run.finish()
        #expect(run.findings == [])
        #expect(run.prefillRows == 100 + (140 - 128))
    }

    /// A model with longrope turns the keys of long prompts otherwise from the first one on.
    @Test func longPromptsShareOnlyWithLongOnes() {
        let system = Self.tokens(8, 96)
        var run = ScheduledRun(blocks: 200, stages: 2, longPromptTokens: 110)
        for (id, own) in [(1, 4), (2, 14), (3, 15), (4, 60)] {
            run.add(id: UInt64(id), prompt: system + Self.tokens(UInt64(id) + 20, own), maxTokens: 3)
            run.finish()
        }
        #expect(run.findings == [])
        // 100 and 110 tokens are short and share three blocks, 111 and 156 are long and share three others.
        #expect(run.prefillRows == 100 + 14 + 111 + 60)
    }

    @Test func endsOfPrefixesAreEvictedFirstAndTheOldestBefore() throws {
        var run = ScheduledRun(blocks: 8, stages: 1)
        run.add(id: 1, prompt: Self.tokens(1, 96), maxTokens: 1)
        run.finish()
        run.add(id: 2, prompt: Self.tokens(2, 64), maxTokens: 1)
        run.finish()
        #expect(run.scheduler.allocator.idleCount == 5)
        // Four blocks: the three free ones and the end of the oldest prefix.
        run.add(id: 3, prompt: Self.tokens(3, 100), maxTokens: 1)
        run.finish()
        #expect(run.scheduler.allocator.evictions == 1)
        run.prefillRows = 0
        run.add(id: 4, prompt: Self.tokens(1, 96), maxTokens: 1)
        run.finish()
        #expect(run.prefillRows == 32 && run.findings == [])
    }

    @Test func aTenantsFirstDoesNotWaitForAnothersSecondPrefill() {
        var run = ScheduledRun(blocks: 100, stages: 1, prefillRows: 32)
        run.add(id: 1, prompt: [5, 6], maxTokens: 60)
        run.add(id: 2, prompt: Self.tokens(1, 320), maxTokens: 1)
        for _ in 0..<3 { run.step() }
        run.add(id: 3, prompt: Self.tokens(1, 320), maxTokens: 1, tenant: Tenant(7))
        run.add(id: 4, prompt: Self.tokens(1, 320), maxTokens: 1)
        run.finish()
        // The third takes what was sent when it came, and goes before the second; the fourth waits for all of it.
        #expect(run.ends == [3, 2, 4, 1] && run.findings == [])
        #expect(run.scheduler.prefillPositionsShared == 64 + 288)
    }

    /// Many short lives: prompts with common beginnings, few blocks, cancels, lost epochs.
    @Test func tenThousandWorkloads() {
        var shared: UInt64 = 0
        var preemptions: UInt64 = 0
        var followUps = 0
        for seed in UInt64(0)..<10_000 {
            var numbers = SeededNumbers(seed: seed)
            var run = ScheduledRun(
                blocks: Int.random(in: 5...14, using: &numbers), stages: Int.random(in: 1...4, using: &numbers),
                prefillRows: Int.random(in: 1...80, using: &numbers), running: Int.random(in: 1...6, using: &numbers),
                cachePercent: [0, 25, 100].randomElement(using: &numbers)!, followUpSeed: numbers.oneIn(2) ? numbers.next() : nil)
            var next: UInt64 = 1
            for _ in 0..<Int.random(in: 2...14, using: &numbers) {
                if numbers.oneIn(2) {
                    let beginning = Self.tokens(UInt64.random(in: 0...1, using: &numbers), Int.random(in: 0...100, using: &numbers))
                    let own = Self.tokens(numbers.next(), Int.random(in: beginning.isEmpty ? 1...40 : 0...40, using: &numbers))
                    let choices = numbers.oneIn(4) ? 3 : 1
                    run.add(
                        id: next, prompt: beginning + own, maxTokens: Int32.random(in: 1...20, using: &numbers), choices: choices,
                        priority: numbers.oneIn(4) ? -1 : 0, tenant: Tenant(UInt64.random(in: 0...2, using: &numbers)),
                        weight: numbers.oneIn(4) ? 2 : 1)
                    next += UInt64(choices)
                }
                for _ in 0..<Int.random(in: 0...4, using: &numbers) { run.step() }
                if numbers.oneIn(5), let victim = run.open.randomElement(using: &numbers) { run.cancel(victim) }
                if numbers.oneIn(12) { run.loseEpoch() }
            }
            run.finish()
            #expect(run.findings == [], "seed \(seed)")
            if !run.findings.isEmpty { return }
            shared += run.scheduler.prefillPositionsShared
            preemptions += run.scheduler.preemptions
            followUps += run.followUps
        }
        #expect(shared > 10_000 && preemptions > 1_000, "the workloads share and are short of blocks")
        #expect(followUps > 10_000, "and stages add steps")
    }
}

/// A scheduler with stages that remember, for each slot of each block, the whole past that was written there.
struct ScheduledRun {
    private static let stepsMax = 20_000

    private(set) var scheduler: Scheduler
    private(set) var findings: [String] = []
    /// Rows sent before a sequence's first token.
    var prefillRows = 0
    /// By sequence: prompt and answer.
    private(set) var answers: [UInt64: [TokenID]] = [:]
    /// Sequences in the order in which they ended.
    private(set) var ends: [UInt64] = []
    private(set) var open: [UInt64] = []
    /// Rows sent of positions that had been sent before.
    private(set) var rowsRepeated = 0
    /// By sequence: how many of its positions were ever sent; its precedence, once it has one.
    private var sentOnce: [SequenceID: Int] = [:]
    private var precedences: [SequenceID: GeneratedSequence.Precedence] = [:]

    private let blocks: Int
    private let stages: Int
    private let rowsMax = 128
    private var epoch = Epoch(1)
    private var arrivals: UInt64 = 0
    private var sent: [Step] = []
    /// By block and slot: a digest of the tokens up to and with that position.
    private var memory: [UInt64]
    /// By sequence: the digest after each of its positions, and its blocks.
    private var tables: [SequenceID: (past: [UInt64], blocks: [BlockID])] = [:]
    private var ledger: StageLedger
    private let vocabulary: Int
    /// What a stage says of each step of so many rows.
    private let timing: ((Int) -> UInt64)?
    /// A draft model that is right, wrong, late or silent as these say.
    private var model: SeededNumbers?
    private var words: [(sequence: SequenceID, atLength: Int, tokens: [TokenID])] = []
    /// Stages that add steps by themselves, as often as this says.
    private var follower: SeededNumbers?
    private(set) var followUps = 0
    private let now = Instant(nanoseconds: 0)

    init(
        blocks: Int, stages: Int, prefillRows: Int = 64, running: Int = 64, sharesPrefixes: Bool = true, cachePercent: Int = 100,
        context: Int = 2_048, vocabulary: Int = 1_000, endTokens: [TokenID] = [], draftTokensMax: Int = 0, stretch: Double = 4,
        timing: ((Int) -> UInt64)? = nil, modelSeed: UInt64? = nil, longPromptTokens: Int? = nil, followUpSeed: UInt64? = nil
    ) {
        follower = followUpSeed.map { SeededNumbers(seed: $0) }
        model = modelSeed.map { SeededNumbers(seed: $0) }
        self.blocks = blocks
        self.stages = stages
        self.vocabulary = vocabulary
        self.timing = timing
        ledger = StageLedger(kvBlocks: blocks)
        memory = [UInt64](repeating: .max, count: blocks * Limits.positionsPerBlock)
        var settings = Scheduler.Settings(
            stepRowsMax: rowsMax, prefillRowsPerStep: prefillRows, sequencesRunningMax: running, contextTokens: context,
            vocabulary: vocabulary, endTokens: endTokens)
        settings.sharesPrefixes = sharesPrefixes
        settings.tenantStretchMax = stretch
        settings.draftTokensMax = draftTokensMax
        settings.hasDraftModel = modelSeed != nil
        settings.prefixCachePercent = cachePercent
        settings.longPromptTokens = longPromptTokens
        scheduler = Scheduler(settings: settings, clock: StepClock(floorMs: 10_000, unmeasuredMs: 60_000, factor: 8))
        scheduler.begin(epoch: epoch, kvBlocks: blocks, stages: stages, stepsInFlightMax: stages)
        scheduler.allowsFollowUps = follower != nil
    }

    mutating func add(
        id: UInt64, prompt: [TokenID], maxTokens: Int32, choices: Int = 1, priority: Int32 = 0, tenant: Tenant = .shared, weight: Int = 1
    ) {
        var sampling = SamplingParameters()
        sampling.maxTokens = maxTokens
        let request = GenerationRequest(
            id: RequestID(high: 0, low: id), prompt: prompt, sampling: sampling, choices: choices, priority: priority, tenant: tenant, weight: weight)
        arrivals += 1
        for choice in 0..<choices {
            scheduler.add(GeneratedSequence(id: SequenceID(id + UInt64(choice)), request: request, choice: UInt32(choice), arrival: arrivals))
            open.append(id + UInt64(choice))
            answers[id + UInt64(choice)] = prompt
        }
    }

    mutating func cancel(_ id: UInt64) {
        scheduler.remove(SequenceID(id))
        open.removeAll { $0 == id }
        audit()
    }

    mutating func loseEpoch() {
        scheduler.halt()
        epoch = epoch.next
        sent = []
        tables = [:]
        ledger = StageLedger(kvBlocks: blocks)
        memory = [UInt64](repeating: .max, count: memory.count)
        scheduler.begin(epoch: epoch, kvBlocks: blocks, stages: stages, stepsInFlightMax: stages)
        audit()
    }

    mutating func finish() {
        for _ in 0..<Self.stepsMax where !open.isEmpty && findings.isEmpty { step() }
        if !open.isEmpty { findings.append("sequences \(open) never ended") }
    }

    /// Fills the pipeline, then takes the oldest step's result. How many rows were sent.
    @discardableResult mutating func step() -> Int {
        var rows = 0
        while let step = scheduler.nextStep(at: now) {
            audit()
            if step.rowCount > rowsMax { findings.append("a step has \(step.rowCount) rows") }
            sent.append(step)
            rows += step.rowCount
            for segment in step.segments { noteSent(segment) }
            if sent.count > stages { findings.append("\(sent.count) steps are in flight") }
        }
        consultModel()
        guard !sent.isEmpty else {
            if !open.isEmpty { findings.append("nothing moves though sequences are open") }
            return rows
        }
        let step = sent.removeFirst()
        var result = compute(step)
        if step.followUps > 0 {
            if !sent.isEmpty { findings.append("something was sent while stages may go on by themselves") }
            let mayEnd = result.tokens.contains { ledger.mayEnd($0.sequence, with: $0.emitted.token) }
            result.isFollowed = result.tokens.count == step.segments.count && !mayEnd && !follower!.oneIn(5)
        }
        guard case .done(_, let advances, _) = scheduler.take(result, at: now) else {
            findings.append("a result was not taken")
            return rows
        }
        if result.isFollowed {
            let next = step.followUp(result.tokens)
            if scheduler.inFlight.last?.number != next.number { findings.append("a follow-up is in nobody's account") }
            for segment in next.segments { noteSent(segment) }
            sent.append(next)
            followUps += 1
        }
        for advance in advances {
            answers[advance.sequence.value]!.append(advance.emitted.token)
            guard advance.finish != nil else { continue }
            ends.append(advance.sequence.value)
            open.removeAll { $0 == advance.sequence.value }
        }
        audit()
        return rows
    }

    private mutating func noteSent(_ segment: Segment) {
        let end = segment.start + segment.tokens.count
        let before = sentOnce[segment.sequence, default: 0]
        rowsRepeated += max(0, min(end, before) - segment.start)
        sentOnce[segment.sequence] = max(before, end)
    }

    private mutating func consultModel() {
        guard model != nil else { return }
        if let wish = scheduler.draftWish(), !model!.oneIn(4) {
            var tokens = Array(wish.tokens[wish.known...])
            // What comes behind those, or what a small model takes it to be.
            let more = Int.random(in: 0...wish.count, using: &model!)
            tokens += plain(id: wish.sequence.value, prompt: wish.tokens, maxTokens: Int32(more)).dropFirst(wish.tokens.count)
            if let place = tokens.indices.randomElement(using: &model!), model!.oneIn(3) { tokens[place] = TokenID(vocabulary) - tokens[place] }
            words.append((wish.sequence, wish.known, tokens))
        }
        if model!.oneIn(9) { words.append((SequenceID(model!.next() % 8), Int.random(in: -2...99, using: &model!), [0, 1, -5, .max])) }
        while !words.isEmpty, !model!.oneIn(3) {
            let word = words.removeFirst()
            scheduler.drafted(word.sequence, atLength: word.atLength, tokens: word.tokens)
        }
    }

    // MARK: - The stages

    private mutating func compute(_ step: Step) -> StepResult {
        if let fault = ledger.take(step) { findings.append("a stage refuses a step: \(fault)") }
        let size = Limits.positionsPerBlock
        for id in step.closes { tables[id] = nil }
        for copy in step.copies {
            for slot in 0..<size { memory[Int(copy.to.value) * size + slot] = memory[Int(copy.from.value) * size + slot] }
        }
        for open in step.opens { tables[open.sequence] = (Self.digests(open.tokens[..<open.cached], after: 0), []) }
        var sampled: [SampledToken] = []
        for segment in step.segments {
            guard tables[segment.sequence] != nil else {
                findings.append("rows of a sequence that is not open")
                continue
            }
            tables[segment.sequence]!.blocks += segment.newBlocks
            let blocks = tables[segment.sequence]!.blocks
            let past = tables[segment.sequence]!.past
            if past.count != segment.start { findings.append("rows do not continue their sequence") }
            func slot(_ position: Int) -> Int { Int(blocks[position / size].value) * size + position % size }
            for position in past.indices where memory[slot(position)] != past[position] {
                return fail(step, "sequence \(segment.sequence.value) reads another past at \(position)")
            }
            let more = Self.digests(segment.tokens[...], after: past.last ?? 0)
            for (offset, digest) in more.enumerated() { memory[slot(segment.start + offset)] = digest }
            let known = segment.tokens.count - segment.drafts
            tables[segment.sequence]!.past += more.prefix(known)
            if segment.start + segment.tokens.count <= promptLength(segment.sequence) { prefillRows += segment.tokens.count }
            guard segment.samples else { continue }
            for row in known - 1..<more.count {
                let token = Self.token(after: more[row], of: segment.sequence.value, vocabulary)
                sampled.append(SampledToken(sequence: segment.sequence, position: segment.start + row + 1, emitted: EmittedToken(token: token)))
                guard row + 1 < more.count, segment.tokens[row + 1] == token else { break }
                tables[segment.sequence]!.past.append(more[row + 1])
            }
        }
        let timings = timing.map { [StageTiming](repeating: StageTiming(queueNanoseconds: 0, computeNanoseconds: $0(step.rowCount)), count: stages) }
        return StepResult(epoch: step.epoch, number: step.number, tokens: sampled, poisoned: [], timings: timings ?? [])
    }

    private static func token(after digest: UInt64, of sequence: UInt64, _ vocabulary: Int) -> TokenID {
        TokenID(mixed(digest, sequence) % UInt64(vocabulary))
    }

    /// What a loop that computes one row after the other gives.
    func plain(id: UInt64, prompt: [TokenID], maxTokens: Int32) -> [TokenID] {
        var tokens = prompt
        var digest = Self.digests(prompt[...], after: 0).last!
        while tokens.count < min(prompt.count + Int(maxTokens), scheduler.settings.contextTokens) {
            tokens.append(Self.token(after: digest, of: id, vocabulary))
            if scheduler.settings.endTokens.contains(tokens.last!) { break }
            digest = mixed(digest, UInt64(tokens.last!))
        }
        return tokens
    }

    private static func digests(_ tokens: ArraySlice<TokenID>, after first: UInt64) -> [UInt64] {
        var digest = first
        return tokens.map { token in
            digest = mixed(digest, UInt64(token))
            return digest
        }
    }

    private mutating func fail(_ step: Step, _ finding: String) -> StepResult {
        findings.append(finding)
        return StepResult(epoch: step.epoch, number: step.number, tokens: [], poisoned: [], timings: [])
    }

    private func promptLength(_ id: SequenceID) -> Int { scheduler[id]?.promptLength ?? 0 }

    // MARK: - What always holds

    private mutating func audit() {
        var holders: [BlockID: Int] = [:]
        for id in scheduler.running {
            for block in scheduler[id]!.blocks { holders[block, default: 0] += 1 }
        }
        for id in scheduler.running {
            let precedence = scheduler[id]!.precedence
            if precedences[id, default: precedence] != precedence || precedence == .none { findings.append("a precedence changed") }
            precedences[id] = precedence
        }
        if scheduler.running.map({ precedences[$0]! }) != scheduler.running.map({ precedences[$0]! }).sorted() { findings.append("order was lost") }
        let allocator = scheduler.allocator
        if holders.contains(where: { allocator.holderCount($0.key) != $0.value }) { findings.append("holders are miscounted") }
        if allocator.freeCount + holders.count != blocks { findings.append("blocks were lost or made up") }
    }
}
