import ModelFiles
import Testing

@testable import Engine

/// A NaN or an infinity ends its own sequence, by name, and touches no other.
@Suite struct PoisonTests {
    /// Four layers of floats, one tensor of them spoilt by `edit`.
    private func model(_ edit: @escaping (String, inout [Float]) -> Void) throws -> TinyModel {
        var options = TinyModel.Options()
        options.layers = 4
        options.tiedHead = false  // or a spoilt embedding would spoil the logits of all
        options.edit = edit
        return try TinyModel(.f32, options)
    }

    private func batch(_ prompts: [[Int32]], firstBlock: Int32 = 0, firstSequence: UInt64 = 0, closes: [UInt64] = []) -> StageBatch {
        var batch = StageBatch(closes: closes, segments: [])
        for (index, prompt) in prompts.enumerated() {
            let id = firstSequence + UInt64(index)
            batch.opens.append(SequenceOpening(sequence: id, tokens: prompt, promptLength: prompt.count, topLogprobs: 3))
            let blocks = (0..<Int32((prompt.count + 31) / 32)).map { firstBlock + Int32(index) * 2 + $0 }
            batch.segments.append(BatchSegment(sequence: id, start: 0, tokens: prompt, newBlocks: blocks, samples: true))
        }
        return batch
    }

    @Test func aPoisonedSequenceHarmsNoOtherNotEvenThroughItsBlocks() throws {
        let tiny = try model { name, floats in if name == ModelTensors.embedding { floats[5 * 64 + 3] = .infinity } }
        var healthy = tiny.tokens(40, seed: 51).map { $0 == 5 ? 7 : $0 }
        let other = tiny.tokens(33, seed: 52).map { $0 == 5 ? 8 : $0 }
        var sick = healthy
        sick[20] = 5
        let expected = try [healthy, other].map { try Pipeline(tiny).run(batch([$0])).samples[0].token }

        let pipeline = try Pipeline(tiny, cuts: [2])
        let result = try pipeline.run(batch([healthy, sick, other]))
        #expect(result.poisoned == [PoisonedRows(sequence: 1, layers: 0..<2)])
        #expect(result.samples.map(\.sequence) == [0, 2])
        #expect(result.samples.map(\.token) == expected)

        // The blocks of the sick one hold NaN beyond what the next owner writes.
        healthy.removeLast(5)
        let clean = try Pipeline(tiny).run(batch([healthy])).samples[0].token
        let reused = try pipeline.run(batch([healthy], firstBlock: 2, firstSequence: 9, closes: [1]))
        #expect(reused.poisoned.isEmpty)
        #expect(reused.samples.map(\.token) == [clean])
    }

    @Test func theStageThatSawItFirstIsNamedOnce() throws {
        // An attention norm of infinity in layer 3: all sequences, but only from there on.
        let tiny = try model { name, floats in if name == ModelTensors.layer(3).attentionNorm { floats[0] = .infinity } }
        let prompt = tiny.tokens(4, seed: 53)
        let result = try Pipeline(tiny, cuts: [1, 3]).run(batch([prompt]))
        #expect(result.poisoned == [PoisonedRows(sequence: 0, layers: 3..<4)])
        #expect(result.samples.isEmpty)
        let early = try model { name, floats in if name == ModelTensors.layer(1).feedForwardNorm { floats[9] = .nan } }
        #expect(try Pipeline(early, cuts: [1, 2, 3]).run(batch([prompt])).poisoned == [PoisonedRows(sequence: 0, layers: 1..<2)])
    }

    @Test func theHeadCountsAsTheLastLayers() throws {
        let tiny = try model { name, floats in if name == ModelTensors.outputNorm { floats[0] = .infinity } }
        let result = try Pipeline(tiny, cuts: [2]).run(batch([tiny.tokens(4, seed: 54)]))
        #expect(result.poisoned == [PoisonedRows(sequence: 0, layers: 2..<4)])
        #expect(result.samples.isEmpty)
    }

    @Test func keysThatDoNotFitHalfPrecisionAreSeen() throws {
        let tiny = try model { name, floats in if name == ModelTensors.layer(0).key { for i in floats.indices { floats[i] *= 1e6 } } }
        let prompt = tiny.tokens(4, seed: 55)
        #expect(try Pipeline(tiny, kvType: .f16).run(batch([prompt])).poisoned.map(\.sequence) == [0])
        #expect(try Pipeline(tiny, kvType: .f32).run(batch([prompt])).poisoned.isEmpty)
    }

    @Test func theLocalGeneratorThrows() throws {
        let tiny = try model { name, floats in if name == ModelTensors.outputNorm { floats[0] = .nan } }
        let error = #expect(throws: EngineError.self) {
            try LocalGenerator(file: tiny.file).generate(prompt: [1], maxTokens: 1, sampling: .greedy)
        }
        #expect(error?.code == .notFinite)
        #expect(error?.message.contains("Layers 0..<4") == true)
    }
}
