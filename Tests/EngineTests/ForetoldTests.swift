import ModelFiles
import Testing

@testable import Engine

/// Batches that are begun before they come, rightly or wrongly, and tokens that are told before all logits are there: what comes out are the
/// tokens and bits of plain decoding.
@Suite struct ForetoldTests {
    private static let samplings: [SamplingSettings] = [
        .greedy, SamplingSettings(temperature: 0.9, topK: 40, topP: 0.95, seed: 7),
        SamplingSettings(temperature: 1.4, minP: 0.02, seed: 9),
        SamplingSettings(
            temperature: 0.6, repetitionPenalty: 1.3, presencePenalty: 0.4, frequencyPenalty: 0.3, logitBias: [.init(token: 9, bias: 2)], seed: 8,
            minTokens: 12),
    ]

    private enum Begin { case no, rightly, wrongly }

    /// Decodes one token of each of two sequences in turn, as a cluster does whose streams come and go, and may begin with the batch that comes.
    private func decode(
        _ pipeline: Pipeline, _ tiny: TinyModel, _ sampling: SamplingSettings, count: Int, foretells: Bool,
        begin: (_ made: Int) -> (Begin, layers: Int) = { _ in (.no, 0) }, heard: (_ position: Int, _ token: Int32) -> Void = { _, _ in },
        ended: (StageResult) -> Void = { _ in }
    ) throws -> [[SequenceSample]] {
        let prompts = [tiny.tokens(27, seed: 3), tiny.tokens(40, seed: 4)]
        var samples: [[SequenceSample]] = [[], []]
        pipeline.stages.last!.foretell = { _, position, token in
            pipeline.told.append((position, token))
            return true
        }
        for made in 0..<count {
            for index in prompts.indices {
                let start = made == 0 ? 0 : prompts[index].count + made - 1
                let tokens = made == 0 ? prompts[index] : [samples[index].last!.token.token]
                let blocks = (start + 31) / 32..<(start + tokens.count + 31) / 32
                var batch = StageBatch(
                    opens: made > 0
                        ? []
                        : [
                            SequenceOpening(
                                sequence: UInt64(index), tokens: tokens, promptLength: tokens.count, sampling: sampling, choice: UInt32(index),
                                endTokens: [3, 4], topLogprobs: 3)
                        ],
                    segments: [
                        BatchSegment(
                            sequence: UInt64(index), start: start, tokens: tokens, newBlocks: blocks.map { Int32(index * 8 + $0) }, samples: true)
                    ])
                let (way, layers) = begin(made)
                if way != .no {
                    var early = batch
                    if way == .wrongly { early.segments[0].tokens[0] = (tokens[0] + 1) % 173 }
                    let first = pipeline.stages[0]
                    let hasBegun = first.begin(early)
                    #expect(hasBegun == (made > 0 && blocks.isEmpty), "a row in a block that is there, and nothing else")
                    var left = layers
                    while left > 0, first.goOn() { left -= 1 }
                    #expect(!hasBegun || first.hasBegun == (layers < first.weights.slice.layers.count))
                }
                batch.isForetold = foretells && made > 0
                pipeline.told = []
                let result = try pipeline.run(batch)
                #expect(result.poisoned.isEmpty && result.samples.count == 1)
                for (position, token) in pipeline.told {
                    #expect(result.foretold == token && position == result.samples[0].position)
                    heard(position, token)
                }
                ended(result)
                samples[index] += result.samples
            }
        }
        return samples
    }

    @Test(arguments: samplings, [[], [1], [1, 2]]) func nothingChanges(sampling: SamplingSettings, cuts: [Int]) throws {
        var options = TinyModel.Options()
        // All that a head may have beside its matrix.
        (options.furtherBiases, options.multipliers) = (cuts == [1], cuts == [1, 2])
        for (type, kvType, boundary, threads) in [
            (TensorType.q4_1, KVType.f16, BoundaryType.f32, 1), (.f32, .f32, .bf16, 2), (.q8_0, .q8, .f32, 3),
        ] {
            let tiny = try TinyModel(type, options)
            func pipeline() throws -> Pipeline { try Pipeline(tiny, cuts: cuts, threads: threads, kvType: kvType, boundary: boundary) }
            let plain = try decode(pipeline(), tiny, sampling, count: 40, foretells: false)
            var random = SeededRandom(seed: UInt64(threads) + 40)
            var ways: [Begin: Int] = [:]
            var (right, told) = (0, 0)
            let found = try decode(
                pipeline(), tiny, sampling, count: 40, foretells: true,
                begin: { _ in
                    let way = [Begin.no, .rightly, .wrongly].randomElement(using: &random)!
                    ways[way, default: 0] += 1
                    return (way, Int.random(in: 0...4, using: &random))
                },
                heard: { position, token in
                    told += 1
                    if plain.contains(where: { $0.contains { $0.position == position && $0.token.token == token } }) { right += 1 }
                })
            #expect(found == plain)
            #expect(ways.count == 3 && told == 78, "each token but the first of each sequence")
            #expect(right > 0 && right < told, "random weights have no frequent tokens: \(right) of \(told) lie in the half that is known")
        }
    }

    /// What was done early is gone on with, and only that.
    @Test func whatWasBegunIsNotComputedAgain() throws {
        let tiny = try TinyModel(.q4_1)
        var layers: [Int] = []
        let begin: (Int) -> (Begin, Int) = { made in (made % 3 == 0 ? .wrongly : .rightly, made % 4) }
        _ = try decode(
            Pipeline(tiny), tiny, .greedy, count: 13, foretells: false, begin: begin, ended: { layers.append($0.layersBegun) })
        for made in 0..<13 {
            // The first one's second block begins with its 6th token, and the other's third with its 25th.
            let expected = made > 0 && made % 3 != 0 ? min(made % 4, 3) : 0
            #expect(layers[2 * made] == (27 + made - 1 == 32 ? 0 : expected) && layers[2 * made + 1] == expected, "\(made)")
        }
    }

    @Test func anotherBatchComes() throws {
        let tiny = try TinyModel(.q4_1)
        let stage = try Pipeline(tiny).stages[0]
        let tokens = tiny.tokens(9, seed: 5)
        func batch(_ sequence: UInt64, _ token: Int32, at start: Int) -> StageBatch {
            StageBatch(segments: [BatchSegment(sequence: sequence, start: start, tokens: [token], newBlocks: [], samples: true)])
        }
        for sequence in UInt64(1)...2 {
            _ = try stage.run(
                StageBatch(
                    opens: [SequenceOpening(sequence: sequence, tokens: tokens, promptLength: 9)],
                    segments: [BatchSegment(sequence: sequence, start: 0, tokens: tokens, newBlocks: [Int32(sequence)], samples: true)]))
        }
        for unfit in [batch(3, 1, at: 9), batch(1, 1, at: 8), batch(1, 1, at: 10), batch(1, 173, at: 9), batch(1, -1, at: 9)] {
            #expect(!stage.begin(unfit) && !stage.hasBegun && !stage.goOn())
        }
        var further = batch(1, 1, at: 9)
        further.closes = [2]
        #expect(!stage.begin(further), "only rows")
        #expect(stage.begin(batch(1, 5, at: 9)) && stage.goOn())
        #expect(try stage.run(batch(2, 5, at: 9)).layersBegun == 0)
        #expect(!stage.hasBegun && !stage.goOn())
        #expect(stage.begin(batch(1, 5, at: 9)) && stage.goOn())
        stage.reset()
        #expect(!stage.goOn())
        let last = try Pipeline(tiny, cuts: [1]).stages[1]
        #expect(!last.begin(batch(1, 5, at: 9)), "its rows come from elsewhere")
    }

    /// Where a part of the logits is not finite nothing is told, and where another part is it comes to the same end.
    @Test(arguments: [true, false]) func poisonIsSeenAsEver(early: Bool) throws {
        var options = TinyModel.Options()
        options.furtherBiases = true
        let place = early ? 5 : 170
        options.edit = { name, floats in if name == "output.bias" { floats[place] = .nan } }
        let tiny = try TinyModel(.q4_1, options)
        let stage = try Pipeline(tiny).stages[0]
        var told = 0
        stage.foretell = { _, _, _ in
            told += 1
            return true
        }
        var batch = StageBatch(
            opens: [SequenceOpening(sequence: 1, tokens: [4], promptLength: 1)],
            segments: [BatchSegment(sequence: 1, start: 0, tokens: [4], newBlocks: [0], samples: true)])
        batch.isForetold = true
        let result = try stage.run(batch)
        #expect(result.samples.isEmpty && result.poisoned.map(\.sequence) == [1])
        #expect(told == (early ? 0 : 1))
    }
}
