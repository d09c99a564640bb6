import CKernels
import Foundation
import Testing

@testable import Engine

@Suite struct SamplerTests {
    private func state(
        _ settings: SamplingSettings, tokens: [Int32] = [0], promptLength: Int = 1, choice: UInt32 = 0, endTokens: [Int32] = [],
        topLogprobs: Int? = nil
    ) -> SequenceState {
        SequenceState(
            SequenceOpening(
                sequence: 0, tokens: tokens, promptLength: promptLength, sampling: settings, choice: choice, endTokens: endTokens,
                topLogprobs: topLogprobs), positionsMax: 1, counts: settings.countsTokens)
    }

    private func draw(_ logits: [Float], _ state: SequenceState, set: InstructionSet = .supported.last!) -> SampledToken? {
        Sampler(vocabulary: logits.count, kernels: set.kernels).draw(logits: logits, for: state)
    }

    // MARK: Order

    /// Flat, peaked, all equal, far apart, at the ends of the floats, with -infinity: the order is that of a plain sort, however far one looks.
    @Test func candidatesAreInOrderToTheLast() {
        var random = SeededRandom(seed: 61)
        let count = 3000, most = Float.greatestFiniteMagnitude
        let rows: [(Int) -> Float] = [
            { _ in random.normal() }, { _ in random.normal() * 40 }, { _ in 1.5 }, { $0 == 77 ? most : -most },
            { $0 % 3 == 0 ? -.infinity : Float($0 % 11) }, { Float($0) * -0.5 }, { _ in Float(Int(random.normal() * 3)) * 0.0 },
            { $0 == 5 ? 0 : -300 - random.normal() }, { _ in most * random.normal() / 8 },
        ]
        let order = CandidateOrder(count: count, kernels: InstructionSet.supported.last!.kernels)
        for (number, row) in rows.enumerated() {
            let x = (0..<count).map { min(max(row($0), -.infinity), most) }
            let expected = x.indices.sorted { x[$0] != x[$1] ? x[$0] > x[$1] : $0 < $1 }
            x.withUnsafeBufferPointer { logits in
                order.begin(logits.baseAddress!, largest: x[expected[0]])
                #expect((0..<count).map { order.id(at: $0) } == expected, "row \(number)")
                order.begin(logits.baseAddress!, largest: x[expected[0]])
                #expect(order.id(at: 500) == expected[500], "row \(number)")
            }
        }
    }

    // MARK: Against the plain statement of the rules

    /// What `Sampler` says it does, with everything sorted and nothing clever.
    private func reference(_ x: [Float], _ state: SequenceState) -> Int32 {
        let settings = state.sampling
        var z = x
        for entry in settings.logitBias { z[Int(entry.token)] += entry.bias }
        let output = state.tokens[state.promptLength...]
        for token in Set(state.tokens) {
            let i = Int(token)
            z[i] = z[i] > 0 ? z[i] / settings.repetitionPenalty : z[i] * settings.repetitionPenalty
            let count = output.count { $0 == token }
            if count > 0 {
                z[i] -= settings.frequencyPenalty * Float(count)
                z[i] -= settings.presencePenalty
            }
        }
        if output.count < settings.minTokens { for token in state.endTokens { z[Int(token)] = -.infinity } }
        let order = z.indices.sorted { z[$0] != z[$1] ? z[$0] > z[$1] : $0 < $1 }
        if settings.temperature == 0 { return Int32(order[0]) }

        let cut = settings.topK > 0 && settings.topK < z.count
        let candidates = cut ? Array(order[..<settings.topK]) : order
        let summed = cut ? candidates : Array(z.indices)
        let y = summed.map { (z[$0] - z[order[0]]) / settings.temperature }
        var p = [Float](repeating: 0, count: y.count)
        sk_softmax(InstructionSet.portable.kernels, y, &p, Int32(y.count))
        let probability = Dictionary(uniqueKeysWithValues: zip(summed, p))

        var kept: [Int] = []
        var mass = 0.0
        let filters = settings.topP < 1 || settings.minP > 0
        for id in candidates {
            let stops = probability[id]! < settings.minP * probability[order[0]]! || (settings.topP < 1 && mass >= Double(settings.topP))
            if filters, !kept.isEmpty, stops { break }
            kept.append(id)
            mass += Double(probability[id]!)
        }
        let target = Philox.uniform(seed: settings.seed, choice: state.choice, position: state.tokens.count) * (filters ? mass : 1)
        var sum = 0.0
        for id in kept {
            sum += Double(probability[id]!)
            if sum > target { return Int32(id) }
        }
        return Int32(kept.last { probability[$0]! > 0 }!)
    }

    /// Logits of several shapes: peaked, flat, with many ties, far apart, all equal.
    private func logits(_ shape: Int, count: Int, _ random: inout SeededRandom) -> [Float] {
        (0..<count).map { _ in
            switch shape {
            case 0: 3 * random.normal()
            case 1: 0.01 * random.normal()
            case 2: (2 * random.normal()).rounded()
            case 3: 1e4 * random.normal()
            case 4: random.next() % 3 == 0 ? -0.0 : 0
            default: random.next() % 500 == 0 ? 20 + random.normal() : random.normal()
            }
        }
    }

    @Test(arguments: [1, 2, 17, 173, 5000]) func drawsWhatASortOfEverythingDraws(vocabulary: Int) {
        let seed: UInt64 = 41
        var random = SeededRandom(seed: seed)
        let sampler = Sampler(vocabulary: vocabulary, kernels: InstructionSet.supported.last!.kernels)
        var drawn: Set<Int32> = []
        for round in 0..<150 {
            let x = logits(round % 6, count: vocabulary, &random)
            var settings = SamplingSettings(
                temperature: [0, 0.3, 1, 1.7, 100].randomElement(using: &random)!,
                topK: [0, 0, 1, 5, 40, 1000, vocabulary].randomElement(using: &random)!,
                topP: [1, 1, 0.05, 0.5, 0.95, 0.999_999].randomElement(using: &random)!,
                minP: [0, 0, 0.02, 0.3, 1].randomElement(using: &random)!, seed: random.next())
            if round % 2 == 0 {
                settings.repetitionPenalty = [1, 1.3, 0.5].randomElement(using: &random)!
                settings.presencePenalty = [0, 0.7, -2].randomElement(using: &random)!
                settings.frequencyPenalty = [0, 0.2, -1].randomElement(using: &random)!
                settings.logitBias = [.init(token: Int32(vocabulary - 1), bias: [-100, 3, 100].randomElement(using: &random)!)]
                settings.minTokens = 5
            }
            let tokens = (0..<12).map { _ in Int32.random(in: 0..<Int32(vocabulary), using: &random) }
            let state = state(
                settings, tokens: tokens, promptLength: Int.random(in: 1...12, using: &random), choice: UInt32(round),
                endTokens: vocabulary > 2 ? [0, 1] : [])
            let token = sampler.draw(logits: x, for: state)?.token
            #expect(token == reference(x, state), "seed \(seed), round \(round), \(settings)")
            if let token { drawn.insert(token) }
        }
        #expect(vocabulary < 17 || drawn.count > 10, "draws that are always the same would prove nothing")
    }

    @Test func everyInstructionSetDrawsTheSame() {
        var random = SeededRandom(seed: 42)
        for round in 0..<20 {
            let x = logits(round % 6, count: 3001, &random)
            let state = state(SamplingSettings(temperature: 1.2, topP: 0.9, seed: random.next()), topLogprobs: 5)
            let samples = InstructionSet.supported.map { draw(x, state, set: $0) }
            #expect(samples.allSatisfy { $0 == samples[0] && $0 != nil })
        }
    }

    // MARK: Each rule by itself

    @Test func greedyTakesTheLowestIdOfEquals() {
        #expect(draw([1, 5, 5, 2], state(.greedy))?.token == 1)
        #expect(draw([-0.0, 0, -1], state(.greedy))?.token == 0)
    }

    @Test func frequenciesFollowTheProbabilities() {
        // Probabilities 0.5, 0.3, 0.2; 10,000 draws: a deviation of 0.02 is four standard ones.
        let x: [Float] = [ln(0.5), ln(0.3), ln(0.2)]
        let sampler = Sampler(vocabulary: 3, kernels: InstructionSet.portable.kernels)
        var counts = [0, 0, 0]
        for seed in 0..<10_000 { counts[Int(sampler.draw(logits: x, for: state(SamplingSettings(seed: UInt64(seed))))!.token)] += 1 }
        for (count, p) in zip(counts, [0.5, 0.3, 0.2]) { #expect(abs(Double(count) / 10_000 - p) < 0.02) }
    }

    @Test func topKTopPAndMinPLeaveOnlyTheirs() {
        let x: [Float] = [ln(0.4), ln(0.3), ln(0.2), ln(0.1)]
        func reached(_ change: (inout SamplingSettings) -> Void) -> Set<Int32> {
            Set(
                (0..<400).map { seed in
                    var settings = SamplingSettings(seed: UInt64(seed))
                    change(&settings)
                    return draw(x, state(settings))!.token
                })
        }
        #expect(reached { _ in } == [0, 1, 2, 3])
        #expect(reached { $0.topK = 2 } == [0, 1])
        #expect(reached { $0.topP = 0.65 } == [0, 1])
        #expect(reached { $0.topP = 0.75 } == [0, 1, 2])
        #expect(reached { $0.minP = 0.6 } == [0, 1])
        #expect(reached { $0.topP = 0.0001 } == [0])
        #expect(reached { $0.temperature = 0.01 } == [0])
    }

    @Test func penaltiesLookWhereTheyShould() {
        let x: [Float] = [4, 3.9, -4, 0]
        // Token 0 in the prompt only: repetition sees it, presence and frequency don't.
        func greedy(_ change: (inout SamplingSettings) -> Void, _ tokens: [Int32], _ promptLength: Int) -> Int32 {
            var settings = SamplingSettings.greedy
            change(&settings)
            return draw(x, state(settings, tokens: tokens, promptLength: promptLength))!.token
        }
        #expect(greedy({ $0.repetitionPenalty = 1.1 }, [0], 1) == 1)
        #expect(greedy({ $0.presencePenalty = 1 }, [0], 1) == 0)
        #expect(greedy({ $0.presencePenalty = 1 }, [3, 0], 1) == 1)
        #expect(greedy({ $0.frequencyPenalty = 0.06 }, [3, 0], 1) == 0)
        #expect(greedy({ $0.frequencyPenalty = 0.06 }, [3, 0, 0], 1) == 1)
        #expect(greedy({ $0.logitBias = [.init(token: 2, bias: 50)] }, [0], 1) == 2)
    }

    @Test func endTokensWaitForTheMinimum() {
        let settings = SamplingSettings(temperature: 0, minTokens: 2)
        #expect(draw([9, 1], state(settings, tokens: [1], endTokens: [0]))?.token == 1)
        #expect(draw([9, 1], state(settings, tokens: [1, 1], promptLength: 1, endTokens: [0]))?.token == 1)
        #expect(draw([9, 1], state(settings, tokens: [1, 1, 1], promptLength: 1, endTokens: [0]))?.token == 0)
    }

    @Test func logprobsAreTheModelsOwn() throws {
        let x: [Float] = [1, 3, 2, 3]
        let settings = SamplingSettings(temperature: 0, logitBias: [.init(token: 0, bias: 100)])
        let sample = try #require(draw(x, state(settings, topLogprobs: 3)))
        let sum = logSumExp(x)
        #expect(sample.token == 0)
        #expect(abs(Double(sample.logprob!) - (1 - sum)) < 1e-6)
        #expect(sample.top.map(\.token) == [1, 3, 2])
        #expect(abs(Double(sample.top[2].logprob) - (2 - sum)) < 1e-6)
        #expect(draw(x, state(settings, topLogprobs: 0))?.top.isEmpty == true)
        #expect(draw(x, state(settings))?.logprob == nil)
        #expect(draw(x, state(settings, topLogprobs: 20))?.top.count == 4)
    }

    @Test(arguments: [Float.nan, .infinity, -.infinity]) func noTokenFromARowThatIsNotFinite(value: Float) {
        var x = [Float](repeating: 0, count: 100)
        x[57] = value
        #expect(draw(x, state(.greedy)) == nil)
        #expect(draw(x, state(SamplingSettings(topK: 3))) == nil)
    }

    @Test func extremesDoNotTrap() {
        let most = Float.greatestFiniteMagnitude
        let x: [Float] = [most, -most, 0, most / 2]
        for temperature: Float in [0, 1e-38, 1, 100] {
            let settings = SamplingSettings(temperature: temperature, repetitionPenalty: 0.000_1, presencePenalty: 2, frequencyPenalty: 2)
            // The penalty lifts tokens 0 and 3 to the largest float, where they are equals.
            let token = draw(x, state(settings, tokens: [0, 1, 2, 3, 1, 0]))?.token
            #expect(token == 0 || (token == 3 && temperature > 0))
        }
    }

    @Test(arguments: [
        SamplingSettings(temperature: -1), SamplingSettings(temperature: .nan), SamplingSettings(temperature: 101), SamplingSettings(topK: -1),
        SamplingSettings(topP: 0), SamplingSettings(topP: 1.1), SamplingSettings(minP: -0.1), SamplingSettings(repetitionPenalty: 0),
        SamplingSettings(presencePenalty: 3), SamplingSettings(frequencyPenalty: .infinity), SamplingSettings(minTokens: -1),
        SamplingSettings(logitBias: [.init(token: 9, bias: 1)]), SamplingSettings(logitBias: [.init(token: 1, bias: 1), .init(token: 1, bias: 2)]),
        SamplingSettings(logitBias: [.init(token: 1, bias: .nan)]),
    ]) func settingsOutOfRangeAreRefused(settings: SamplingSettings) {
        let error = #expect(throws: EngineError.self) { try settings.check(vocabulary: 9) }
        #expect(error?.code == .badSampling)
    }
}

private func ln(_ x: Double) -> Float { Float(log(x)) }

private func logSumExp(_ x: [Float]) -> Double { log(x.reduce(0) { $0 + exp(Double($1)) }) }
