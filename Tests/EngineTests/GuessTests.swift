import ModelFiles
import Testing

@testable import Engine

/// Rows of guesses: what comes out are the tokens and bits of plain decoding, whichever of them are right.
@Suite struct GuessTests {
    private let tiny: TinyModel
    private let prompts: [[Int32]]

    init() throws {
        tiny = try TinyModel(.q4_1)
        // Two with the same beginning; all cross a block of 32 while they decode.
        let first = tiny.tokens(61, seed: 70)
        prompts = [first, tiny.tokens(25, seed: 71), Array(first[..<40]) + tiny.tokens(9, seed: 72)]
    }

    private static let samplings: [SamplingSettings] = [
        .greedy, SamplingSettings(temperature: 0.9, topK: 40, topP: 0.95, seed: 7),
        SamplingSettings(
            temperature: 0.6, repetitionPenalty: 1.3, presencePenalty: 0.4, frequencyPenalty: 0.3, logitBias: [.init(token: 9, bias: 2)], seed: 8,
            minTokens: 12)
    ]

    private func opening(_ index: Int, _ sampling: SamplingSettings, cached: Int = 0) -> SequenceOpening {
        SequenceOpening(
            sequence: UInt64(index), tokens: prompts[index], promptLength: prompts[index].count, cached: cached, sampling: sampling,
            choice: UInt32(index), endTokens: [3, 4, 5, 6, 7, 8, 9], topLogprobs: index == 1 ? nil : 2)
    }

    /// A sequence as a driver sees it.
    private struct Run {
        var tokens: [Int32]
        var samples: [SequenceSample] = []
        var sent = 0
        var blocks = 0
    }

    /// One sampling segment for `run` with all that is not sent and `guesses` behind it.
    private func segment(_ index: Int, _ run: inout Run, guesses: [Int32]) -> BatchSegment {
        let end = run.tokens.count + guesses.count
        let needed = max(run.blocks, (end + 31) / 32)
        let segment = BatchSegment(
            sequence: UInt64(index), start: run.sent, tokens: Array(run.tokens[run.sent...]) + guesses,
            newBlocks: (run.blocks..<needed).map { Int32(index * 8 + $0) }, samples: true, drafts: guesses.count)
        run.blocks = needed
        return segment
    }

    /// Decodes all prompts side by side until each has `count` tokens. `guesses`: what a step takes along behind so many tokens.
    private func decode(
        _ pipeline: Pipeline, _ sampling: SamplingSettings, count: Int, guesses: (_ index: Int, _ made: Int) -> [Int32] = { _, _ in [] }
    ) throws -> [[SequenceSample]] {
        var runs = prompts.map { Run(tokens: $0) }
        var opens = prompts.indices.map { opening($0, sampling) }
        while runs.contains(where: { $0.samples.count < count }) {
            var batch = StageBatch(opens: opens, segments: [])
            opens = []
            for index in runs.indices where runs[index].samples.count < count {
                let made = runs[index].samples.count
                batch.segments.append(segment(index, &runs[index], guesses: Array(guesses(index, made).prefix(count - made - 1))))
            }
            let result = try pipeline.run(batch)
            #expect(result.poisoned.isEmpty)
            for segment in batch.segments {
                let index = Int(segment.sequence)
                let samples = result.samples.filter { $0.sequence == segment.sequence }
                #expect(samples.map(\.position) == Array(runs[index].tokens.count..<runs[index].tokens.count + samples.count))
                runs[index].samples += samples
                runs[index].tokens += samples.map(\.token.token)
                runs[index].sent = runs[index].tokens.count - 1
            }
        }
        return runs.map(\.samples)
    }

    @Test(arguments: samplings, [[], [1], [1, 2]]) func guessesChangeNothing(sampling: SamplingSettings, cuts: [Int]) throws {
        let plain = try decode(Pipeline(tiny), sampling, count: 40)
        for (threads, kvType) in [(1, KVType.f16), (3, .f16), (2, .f32), (2, .q8)] {
            let expected = kvType == .f16 ? plain : try decode(Pipeline(tiny, kvType: kvType), sampling, count: 40)
            var random = SeededRandom(seed: UInt64(threads) + 90)
            var (right, wrong) = (0, 0)
            let found = try decode(Pipeline(tiny, cuts: cuts, threads: threads, kvType: kvType), sampling, count: 40) { index, made in
                // What will be drawn, up to a place where it is something else.
                var guesses = expected[index][made...].prefix(Int.random(in: 0...9, using: &random)).map(\.token.token)
                right += guesses.count
                if let place = guesses.indices.randomElement(using: &random), Bool.random(using: &random) {
                    guesses[place] = (guesses[place] + 1) % 173
                    wrong += 1
                }
                return guesses
            }
            #expect(found == expected, "\(threads) threads, \(kvType)")
            #expect(right > 50 && wrong > 5)
        }
    }

    /// More rows than logits are computed for at once.
    @Test func portionsOfLogitsCutNothing() throws {
        let pipeline = try Pipeline(tiny, threads: 2)
        let sampling = Self.samplings[2]
        let plain = try decode(Pipeline(tiny), sampling, count: 60)
        var steps = 0
        let found = try decode(pipeline, sampling, count: 60) { index, made in
            steps += 1
            return plain[index][made...].map(\.token.token)
        }
        #expect(found == plain && steps == prompts.count)
    }

    @Test func sharedBlocksAreNotTouched() throws {
        let sampling = Self.samplings[1]
        let plain = try decode(Pipeline(tiny), sampling, count: 30)
        let pipeline = try Pipeline(tiny, cuts: [1])
        // The third takes the first one's full block and a copy of the next one, up to where they part.
        var first = Run(tokens: prompts[0])
        _ = try pipeline.run(StageBatch(opens: [opening(0, sampling)], segments: [segment(0, &first, guesses: [])]))
        let begin = BatchSegment(
            sequence: 2, start: 40, tokens: Array(prompts[2][40...]) + [1, 1, 1, 1], newBlocks: [0, 17], samples: true, drafts: 4)
        let copied = try pipeline.run(
            StageBatch(copies: [.init(from: 1, to: 17)], opens: [opening(2, sampling, cached: 40)], segments: [begin]))
        #expect(copied.samples.first == plain[2][0])
        // The first one, whose blocks were read and copied, goes on as if nothing had been.
        first.tokens.append(plain[0][0].token.token)
        first.sent = 61
        let more = try pipeline.run(StageBatch(segments: [segment(0, &first, guesses: plain[0][1..<6].map(\.token.token))]))
        #expect(more.samples == Array(plain[0][1..<7]))
    }

    @Test func whatCannotBeAGuessIsRefused() throws {
        let sampling = SamplingSettings.greedy
        let plain = try decode(Pipeline(tiny), sampling, count: 12)[1].map(\.token.token)
        let pipeline = try Pipeline(tiny, cuts: [1])
        let start = BatchSegment(sequence: 1, start: 0, tokens: prompts[1], newBlocks: [8], samples: true)
        _ = try pipeline.run(StageBatch(opens: [opening(1, sampling)], segments: [start]))
        // Two right, two wrong: the sequence has 25 + 3 positions and the rows of two more.
        let guesses = [plain[1], plain[2], (plain[3] + 1) % 173, 5]
        func rows(_ start: Int, _ tokens: [Int32], drafts: Int = 0, samples: Bool = true, blocks: [Int32] = []) -> StageBatch {
            StageBatch(segments: [BatchSegment(sequence: 1, start: start, tokens: tokens, newBlocks: blocks, samples: samples, drafts: drafts)])
        }
        let result = try pipeline.run(rows(25, [plain[0]] + guesses, drafts: 4))
        #expect(result.samples.map(\.token.token) == Array(plain[1...3]))
        let wrong: [(String, StageBatch)] = [
            ("before the last known row", rows(25, [plain[0]])),
            ("behind the last guess", rows(31, [1])),
            ("only guesses", rows(28, [plain[3]], drafts: 1)),
            ("more guesses than rows", rows(28, [plain[3]], drafts: 2)),
            ("less than no guess", rows(28, [plain[3]], drafts: -1)),
            ("guesses behind a row that is not drawn from", rows(28, [plain[3], 1], drafts: 1, samples: false)),
            ("a guess outside the vocabulary", rows(28, [plain[3], 173], drafts: 1)),
            ("guesses without a block", rows(28, [plain[3]] + Array(repeating: 1, count: 4), drafts: 4))
        ]
        for (what, batch) in wrong {
            let error = #expect(throws: EngineError.self, "\(what)") { try pipeline.stages[0].run(batch) }
            #expect(error?.code == .badBatch, "\(what)")
        }
        // Where the last stage drew, it knows which guesses were right.
        for start in [26, 27, 29, 30] {
            var input = [UInt32](repeating: 0, count: pipeline.stages[0].boundaryRowBytes / 4)
            input.withUnsafeMutableBytes { input in
                let batch = rows(start, [plain[3]])
                #expect(throws: EngineError.self, "on from \(start)") { try pipeline.stages[1].run(batch, input: UnsafeRawBufferPointer(input)) }
            }
        }
        let after = try pipeline.run(rows(28, [plain[3], plain[4]], drafts: 1))
        #expect(after.samples.map(\.token.token) == Array(plain[4...5]))
    }

    /// A row that nobody asked for may be anything; one that plain decoding reaches ends the sequence there and not before.
    @Test func aGuessThatIsNotFiniteHarmsNothingUntilItIsDrawn() throws {
        var options = TinyModel.Options()
        options.tiedHead = false
        options.edit = { name, floats in if name == ModelTensors.embedding { floats[5 * 64 + 3] = .infinity } }
        let sick = try TinyModel(.f32, options)
        let prompt = sick.tokens(10, seed: 73).map { $0 == 5 ? 6 : $0 }
        for drawsIt in [false, true] {
            let sampling = SamplingSettings(temperature: 0, logitBias: drawsIt ? [.init(token: 5, bias: 100)] : [.init(token: 5, bias: -100)])
            let open = SequenceOpening(sequence: 1, tokens: prompt, promptLength: 10, sampling: sampling)
            let pipeline = try Pipeline(sick, cuts: [1])
            let plain = try Pipeline(sick, cuts: [1])
            let rows = BatchSegment(sequence: 1, start: 0, tokens: prompt, newBlocks: [0], samples: true)
            let expected = try plain.run(StageBatch(opens: [open], segments: [rows]))
            let guessing = BatchSegment(sequence: 1, start: 0, tokens: prompt + [5, 8], newBlocks: [0], samples: true, drafts: 2)
            let found = try pipeline.run(StageBatch(opens: [open], segments: [guessing]))
            #expect(found.samples == expected.samples && found.poisoned.isEmpty && found.samples.count == 1)
            let next = BatchSegment(sequence: 1, start: 10, tokens: [found.samples[0].token.token], newBlocks: [], samples: true)
            let (later, wanted) = try (pipeline.run(StageBatch(segments: [next])), plain.run(StageBatch(segments: [next])))
            #expect(later.samples == wanted.samples && later.poisoned == wanted.poisoned)
            #expect(wanted.poisoned.isEmpty == !drawsIt)
        }
    }
}
