import Testing

@testable import ClusterCore

/// Guesses are taken where they pay, and never change what comes out.
@Suite struct SpeculationTests {
    // MARK: - Look-ups

    private static func tokens(_ seed: UInt64, _ count: Int, of vocabulary: UInt64 = 50_000) -> [TokenID] {
        (0..<count).map { TokenID(mixed(seed, UInt64($0)) % vocabulary) }
    }

    private func guess(_ tokens: [TokenID], most: Int = 8) -> PromptLookup.Guess? {
        var lookup = PromptLookup(expecting: 100)
        return lookup.guess(after: tokens, most: most)
    }

    @Test func whatStoodBehindTheSameTokensIsGuessed() {
        #expect(guess([1, 2, 3, 4, 5, 6, 9, 1, 2, 3]) == .init(tokens: [4, 5, 6, 9, 1, 2, 3, 4], matched: 3, distance: 7))
        #expect(guess([1, 2, 3, 4, 5, 6, 9, 1, 2, 3], most: 2) == .init(tokens: [4, 5], matched: 3, distance: 7))
        #expect(guess([7, 1, 2, 3, 4, 8, 1, 2, 3, 5, 7, 1, 2, 3], most: 1) == .init(tokens: [4], matched: 4, distance: 10), "who agrees in most")
        #expect(guess([1, 2, 3, 4, 8, 1, 2, 3, 5, 9, 1, 2, 3], most: 1) == .init(tokens: [5], matched: 3, distance: 5), "the latest of equals")
        #expect(guess([6, 6, 6, 6], most: 3) == .init(tokens: [6, 6, 6], matched: 3, distance: 1), "circles go on")
        for short in [[], [1], [1, 2, 3], [1, 2, 3, 4, 1, 2], Self.tokens(1, 1_000)] { #expect(guess(short) == nil) }
        #expect(guess([1, 2, 3, 4, 1, 2, 3], most: 0) == nil)
    }

    @Test func aTextThatWasChangedALittleIsFollowedInItsSource() {
        let source = Self.tokens(1, 30)
        var tokens = source + Array(source[..<20])
        var lookup = PromptLookup(expecting: 100)
        #expect(lookup.guessInSource(after: tokens, most: 2) == nil, "nothing was followed yet")
        let found = lookup.guess(after: tokens, most: 2)
        #expect(found == .init(tokens: Array(source[20..<22]), matched: 20, distance: 30))
        lookup.follow(found!)
        // Another token in place of one.
        tokens += [7, source[21]]
        #expect(lookup.guess(after: tokens, most: 2) == nil)
        #expect(lookup.guessInSource(after: tokens, most: 2) == .init(tokens: Array(source[22..<24]), matched: 1, distance: 30))
        // Once hardly a token is the same the source is lost.
        tokens += Self.tokens(2, 20)
        #expect(lookup.guessInSource(after: tokens, most: 2) == nil)
    }

    /// Lines that count up: what follows the number is the line before, but never right behind the same three tokens.
    @Test func aListThatCountsUpIsGuessed() {
        let line = Self.tokens(3, 12)
        func list(_ lines: Int) -> [TokenID] {
            var tokens: [TokenID] = []
            for number in 0..<lines {
                for (place, token) in line.enumerated() { tokens.append(place % 4 == 0 ? TokenID(number) : token) }
            }
            return tokens
        }
        let known = list(3).count
        let all = list(12)
        var speculation = Speculation(mode: .promptLookup)
        let request = GenerationRequest(id: RequestID(high: 0, low: 1), prompt: list(3), sampling: SamplingParameters())
        var sequence = GeneratedSequence(id: SequenceID(1), request: request, choice: 0, arrival: 0)
        var steps = 0
        while sequence.tokens.count < all.count {
            let guesses = speculation.drafts(for: sequence, room: all.count - sequence.tokens.count - 1) { 1 + 0.1 * Double($0) }
            let right = zip(guesses, all[sequence.tokens.count...]).prefix { $0 == $1 }.count
            for token in all[sequence.tokens.count...].prefix(right + 1) { sequence.append(token) }
            if guesses.isEmpty {
                speculation.advancedPlainly(sequence.id)
            } else {
                speculation.returned(sequence.id, count: guesses.count, accepted: right, stretch: 1 + 0.1 * Double(guesses.count))
            }
            steps += 1
        }
        #expect(steps * 2 < all.count - known, "\(steps) steps for \(all.count - known) tokens")
    }

    @Test func filingAsTokensComeEqualsFilingAtOnce() {
        for seed in UInt64(0)..<20 {
            let all = Self.tokens(seed, 600, of: 4 + seed)
            var grown = PromptLookup(expecting: 600)
            for count in stride(from: 1, through: 600, by: 7) {
                let tokens = Array(all[..<count])
                var fresh = PromptLookup(expecting: 600)
                #expect(grown.guess(after: tokens, most: 15) == fresh.guess(after: tokens, most: 15), "seed \(seed) at \(count)")
            }
        }
    }

    @Test func longPromptsAreTakenInOverSeveralCalls() {
        let tokens = Self.tokens(1, 3 * PromptLookup.tokensFiledMax) + [1, 2, 3, 4, 1, 2, 3]
        var lookup = PromptLookup(expecting: tokens.count)
        for _ in 0..<3 { #expect(lookup.guess(after: tokens, most: 1) == nil) }
        #expect(lookup.guess(after: tokens, most: 1)?.tokens == [4])
    }

    // MARK: - Worth

    /// Plays a sequence whose every guess is right with probability `right`, in steps that take `perRow` longer for each row more: the time for
    /// its tokens against that of plain decoding.
    private func relativeTime(right: Double, perRow: Double, tokens: Int, matched: Int, seed: UInt64) -> Double {
        var numbers = SeededNumbers(seed: seed)
        var record = DraftRecord()
        var (time, made) = (0.0, 0)
        while made < tokens {
            let count = record.count(.agreement(matched), most: Speculation.draftTokensMax) { 1 + perRow * Double($0) }
            time += 1 + perRow * Double(count)
            var accepted = 0
            while accepted < count, Double.random(in: 0..<1, using: &numbers) < right { accepted += 1 }
            made += accepted + 1
            if count > 0 {
                record.returned(.agreement(matched), count: count, accepted: accepted, stretch: 1 + perRow * Double(count))
            } else {
                record.advancedPlainly()
            }
        }
        return time / Double(made)
    }

    @Test(arguments: [0.0, 0.02, 0.1, 0.3, 1.0], [3, 5, 8, 32]) func wrongGuessesCostLittle(perRow: Double, matched: Int) {
        for (seed, right) in [0.0, 0.05, 0.2].enumerated() {
            let time = relativeTime(right: right, perRow: perRow, tokens: 2_000, matched: matched, seed: UInt64(seed))
            #expect(time < 1.03, "\(right) of the guesses are right")
        }
    }

    @Test func rightGuessesPay() {
        #expect(relativeTime(right: 0.95, perRow: 0.02, tokens: 500, matched: 32, seed: 1) < 0.2)
        #expect(relativeTime(right: 0.95, perRow: 0.2, tokens: 500, matched: 32, seed: 1) < 0.5)
        #expect(relativeTime(right: 0.6, perRow: 0.1, tokens: 500, matched: 4, seed: 1) < 0.75)
        #expect(relativeTime(right: 0.95, perRow: 1, tokens: 500, matched: 32, seed: 1) >= 1, "rows that cost as much as steps")
    }

    @Test func aTextThatBeginsToRepeatItselfIsNoticed() {
        var record = DraftRecord()
        for _ in 0..<50 {
            let count = record.count(.agreement(8), most: 15) { 1 + 0.1 * Double($0) }
            if count > 0 {
                record.returned(.agreement(8), count: count, accepted: 0, stretch: 1 + 0.1 * Double(count))
            } else {
                record.advancedPlainly()
            }
        }
        var steps = 0
        while record.balance < 1, steps < 100 {
            let count = record.count(.agreement(8), most: 15) { 1 + 0.1 * Double($0) }
            if count > 0 {
                record.returned(.agreement(8), count: count, accepted: count, stretch: 1 + 0.1 * Double(count))
            } else {
                record.advancedPlainly()
            }
            steps += 1
        }
        #expect(steps < 60)
    }

    // MARK: - Steps

    @Test func aRepeatingTextComesInFewSteps() {
        // Only one token there is: everything repeats.
        var run = ScheduledRun(blocks: 40, stages: 2, vocabulary: 1, draftTokensMax: 15, timing: { _ in 1_000 })
        run.add(id: 1, prompt: [0, 0, 0, 0], maxTokens: 400)
        run.finish()
        #expect(run.findings == [] && run.answers[1]!.count == 404)
        let counts = run.scheduler.speculation.lookups
        #expect(counts.accepted == counts.proposed && counts.accepted > 350, "\(counts)")
    }

    @Test(arguments: [0, 10, 100] as [UInt64]) func othersAreNotDelayed(perRow: UInt64) {
        for others in [0, 1, 7] {
            var run = ScheduledRun(blocks: 400, stages: 2, vocabulary: 1, draftTokensMax: 15, timing: { 1_000 + UInt64($0) * perRow })
            for id in 0...UInt64(others) { run.add(id: 1 + id, prompt: [0, 0, 0, 0], maxTokens: 100) }
            // Until the first one ends: who is left alone may guess.
            for _ in 0..<1_000 where run.ends.isEmpty { run.step() }
            #expect(run.findings == [] && !run.ends.isEmpty)
            #expect((run.scheduler.speculation.lookups.proposed > 0) == (others == 0), "\(others) others")
        }
    }

    @Test func whoWaitsIsNotDelayedEither() {
        var run = ScheduledRun(blocks: 40, stages: 1, running: 1, vocabulary: 1, draftTokensMax: 15, timing: { _ in 1_000 })
        run.add(id: 1, prompt: [0, 0, 0, 0], maxTokens: 50)
        run.add(id: 2, prompt: [0, 0, 0, 0], maxTokens: 50)
        for _ in 0..<50 { run.step() }
        #expect(run.scheduler.speculation.lookups.proposed == 0 && run.ends == [1])
        run.finish()
        #expect(run.scheduler.speculation.lookups.accepted > 0 && run.findings == [])
    }

    @Test func aDraftModelsWordsAreTakenWhereTheyFit() {
        var counts = DraftCounts()
        for seed in UInt64(0)..<200 {
            var run = ScheduledRun(
                blocks: 20, stages: 1 + Int(seed % 3), endTokens: seed % 4 == 0 ? [7] : [], draftTokensMax: 8, timing: { 1_000 + UInt64($0) * 20 },
                modelSeed: seed)
            let prompt = Self.tokens(seed, 3 + Int(seed % 50), of: 1_000)
            run.add(id: 1, prompt: prompt, maxTokens: 60)
            if seed % 5 == 0 { run.add(id: 2, prompt: prompt, maxTokens: 20) }
            run.finish()
            #expect(run.findings == [] && run.answers[1] == run.plain(id: 1, prompt: prompt, maxTokens: 60), "seed \(seed)")
            counts.add(Int(run.scheduler.speculation.modelled.proposed), Int(run.scheduler.speculation.modelled.accepted))
        }
        #expect(counts.accepted > 1_000 && counts.proposed > counts.accepted, "\(counts)")
    }

    @Test func aDraftModelIsAskedOnceForEachTokenAndItsWordIsComparedWithWhatIsKnown() {
        var speculation = Speculation(mode: .off, hasModel: true)
        let request = GenerationRequest(id: RequestID(high: 0, low: 1), prompt: [1, 2, 3], sampling: SamplingParameters())
        var sequence = GeneratedSequence(id: SequenceID(1), request: request, choice: 0, arrival: 0)
        let wish = speculation.wish(for: sequence, behind: [8, 9])
        #expect(wish == DraftWish(for: sequence, behind: [8, 9], count: 3) && wish?.tokens == [1, 2, 3, 8, 9] && wish?.known == 3)
        #expect(speculation.wish(for: sequence, behind: []) == nil)
        sequence.append(8)
        #expect(speculation.wish(for: sequence, behind: [])?.known == 4)
        // What it said before the token came is still of use, as far as it was right.
        speculation.drafted(sequence, atLength: 3, tokens: [8, 9, 10])
        #expect(speculation.drafts(for: sequence, room: 9) { _ in 1 } == [9, 10])
        speculation.drafted(sequence, atLength: 3, tokens: [7, 9, 10])
        #expect(speculation.drafts(for: sequence, room: 9) { _ in 1 } == [])
        for length in [-1, 5, .max] {
            speculation.drafted(sequence, atLength: length, tokens: [9, 10])
            #expect(speculation.drafts(for: sequence, room: 9) { _ in 1 } == [])
        }
    }

    @Test func aDraftModelThatIsNeverRightIsAskedNowAndThenOnly() {
        var record = DraftRecord()
        var asked = 0
        for _ in 0..<1_000 where record.countAsked(most: 15) > 0 {
            asked += 1
            record.returned(.model, count: 3, accepted: 0, stretch: 1.1)
        }
        #expect((5...100).contains(asked), "\(asked)")
        for _ in 0..<20 { record.returned(.model, count: 3, accepted: 3, stretch: 1.1) }
        #expect((0..<100).allSatisfy { _ in record.countAsked(most: 15) > 5 } && record.countAsked(most: 2) == 2)
    }

    @Test func offIsOff() {
        var run = ScheduledRun(blocks: 40, stages: 1, vocabulary: 1, draftTokensMax: 0, timing: { _ in 1_000 })
        run.add(id: 1, prompt: [0, 0, 0, 0], maxTokens: 50)
        run.finish()
        #expect(run.scheduler.speculation.lookups == DraftCounts())
    }

    /// Many short lives with few tokens to choose from: guesses are right by chance. Common beginnings, few blocks, cancels, lost epochs.
    @Test func tenThousandWorkloads() {
        var counts = DraftCounts()
        var (shared, preemptions) = (UInt64(0), UInt64(0))
        for seed in UInt64(0)..<10_000 {
            var numbers = SeededNumbers(seed: seed)
            let vocabulary = Int.random(in: 2...5, using: &numbers)
            let perRow = [0, 20, 60].randomElement(using: &numbers)! as UInt64
            var run = ScheduledRun(
                blocks: Int.random(in: 5...14, using: &numbers), stages: Int.random(in: 1...4, using: &numbers),
                prefillRows: Int.random(in: 1...80, using: &numbers), running: Int.random(in: 1...4, using: &numbers),
                sharesPrefixes: !numbers.oneIn(3), vocabulary: vocabulary, endTokens: numbers.oneIn(4) ? [1] : [],
                draftTokensMax: Int.random(in: 1...15, using: &numbers), timing: { 1_000 + UInt64($0) * perRow })
            var next: UInt64 = 1
            var prompts: [(prompt: [TokenID], maxTokens: Int32)] = []
            for _ in 0..<Int.random(in: 2...8, using: &numbers) {
                if numbers.oneIn(2) {
                    let (whose, shared) = (UInt64.random(in: 0...1, using: &numbers), Int.random(in: 0...70, using: &numbers))
                    let own = Self.tokens(numbers.next(), Int.random(in: 1...20, using: &numbers), of: UInt64(vocabulary))
                    let prompt = Self.tokens(whose, shared, of: UInt64(vocabulary)) + own
                    let choices = numbers.oneIn(4) ? 2 : 1
                    let maxTokens = Int32.random(in: 1...40, using: &numbers)
                    run.add(id: next, prompt: prompt, maxTokens: maxTokens, choices: choices, priority: numbers.oneIn(4) ? 1 : 0)
                    prompts += Array(repeating: (prompt, maxTokens), count: choices)
                    next += UInt64(choices)
                }
                for _ in 0..<Int.random(in: 0...9, using: &numbers) { run.step() }
                if numbers.oneIn(5), let victim = run.open.randomElement(using: &numbers) { run.cancel(victim) }
                if numbers.oneIn(12) { run.loseEpoch() }
            }
            run.finish()
            for id in run.ends {
                let (prompt, maxTokens) = prompts[Int(id) - 1]
                #expect(run.answers[id] == run.plain(id: id, prompt: prompt, maxTokens: maxTokens), "seed \(seed) sequence \(id)")
            }
            #expect(run.findings == [], "seed \(seed)")
            if !run.findings.isEmpty { return }
            counts.proposed += run.scheduler.speculation.lookups.proposed
            counts.accepted += run.scheduler.speculation.lookups.accepted
            shared += run.scheduler.prefillPositionsShared
            preemptions += run.scheduler.preemptions
        }
        #expect(counts.accepted > 10_000 && counts.proposed > 2 * counts.accepted, "guesses are taken, right and wrong: \(counts)")
        #expect(shared > 10_000 && preemptions > 100, "the workloads share and are short of blocks: \(shared), \(preemptions)")
    }
}
