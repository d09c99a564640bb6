import ModelFiles
import Testing

@testable import Engine

/// The contract's promise, path against path: equal bits, whatever differs in how they were computed.
@Suite struct EqualityTests {
    /// Crosses KV blocks (32) and an attention chunk (256), and ends in the middle of both.
    private let length = 290

    private func whole(_ tiny: TinyModel, _ tokens: [Int32], kvType: KVType = .f16, boundary: BoundaryType = .f32) throws -> [[UInt32]] {
        try Pipeline(tiny, kvType: kvType, boundary: boundary).logits(of: tokens, chunks: [tokens.count])
    }

    @Test(arguments: TinyModel.types) func aPromptInAnyChunksGivesTheSameLogits(type: TensorType) throws {
        let tiny = try TinyModel(type)
        let tokens = tiny.tokens(length, seed: 2)
        let expected = try whole(tiny, tokens)
        #expect(expected.allSatisfy { row in row.allSatisfy { Float(bitPattern: $0).isFinite } })
        #expect(Set(expected).count == length, "rows that do not depend on their position would prove nothing")

        var random = SeededRandom(seed: 3)
        var uneven: [Int] = []
        while uneven.reduce(0, +) < length { uneven.append(min(Int.random(in: 1...70, using: &random), length - uneven.reduce(0, +))) }
        for chunks in [Array(repeating: 1, count: length), [256, 34], [31, 1, 32, 33, 193], uneven] {
            let logits = try Pipeline(tiny).logits(of: tokens, chunks: chunks)
            #expect(logits == expected, "chunks \(chunks.prefix(8))")
        }
    }

    @Test(arguments: TinyModel.types, KVType.allCases) func threadsAndInstructionSetsChangeNothing(type: TensorType, kvType: KVType) throws {
        let tiny = try TinyModel(type)
        let tokens = tiny.tokens(length, seed: 4)
        let expected = try whole(tiny, tokens, kvType: kvType)
        for set in InstructionSet.supported {
            for threads in [1, 2, 3, 5, 8] {
                let pipeline = try Pipeline(tiny, threads: threads, instructionSet: set, kvType: kvType)
                let logits = try pipeline.logits(of: tokens, chunks: [length - 20] + Array(repeating: 1, count: 20))
                #expect(logits == expected, "\(set.rawValue) on \(threads) threads")
            }
        }
    }

    @Test(arguments: TinyModel.types, BoundaryType.allCases) func cutsChangeNothing(type: TensorType, boundary: BoundaryType) throws {
        var options = TinyModel.Options()
        options.layers = 4
        options.tiedHead = type != .q4_0
        let tiny = try TinyModel(type, options)
        let tokens = tiny.tokens(70, seed: 5)
        let expected = try whole(tiny, tokens, boundary: boundary)
        for cuts in [[1], [2], [3], [1, 3], [1, 2, 3]] {
            let logits = try Pipeline(tiny, cuts: cuts, threads: 2, boundary: boundary).logits(of: tokens, chunks: [40, 30])
            #expect(logits == expected, "cuts at \(cuts)")
        }
    }

    @Test(arguments: KVType.allCases) func whatKeepsKeysAndValuesKeepsThePromise(kvType: KVType) throws {
        let tiny = try TinyModel(.q4_0)
        let tokens = tiny.tokens(length, seed: 12)
        let expected = try whole(tiny, tokens, kvType: kvType)
        let half = try whole(tiny, tokens, kvType: .f16)
        #expect((half == expected) == (kvType == .f16), "a type that changes nothing would prove nothing")
        for chunks in [Array(repeating: 1, count: length), [31, 1, 32, 33, 193], [256, 34]] {
            let logits = try Pipeline(tiny, cuts: [1], threads: 2, kvType: kvType).logits(of: tokens, chunks: chunks)
            #expect(logits == expected)
        }
    }

    @Test func theBoundaryTypeIsPartOfTheResult() throws {
        let tiny = try TinyModel(.f32)
        let tokens = tiny.tokens(10, seed: 6)
        #expect(try whole(tiny, tokens, boundary: .bf16) != whole(tiny, tokens, boundary: .f32))
    }

    @Test(arguments: TinyModel.types) func whatElseIsInTheBatchChangesNothing(type: TensorType) throws {
        let tiny = try TinyModel(type)
        let lengths = [1, 33, 64, 140, 290]
        let prompts = lengths.enumerated().map { tiny.tokens($1, seed: 10 + UInt64($0)) }
        let expected = try prompts.map { try whole(tiny, $0) }

        // Each step takes the next few tokens of some sequences, in an order and in sizes that the seed decides.
        var random = SeededRandom(seed: 20)
        let pipeline = try Pipeline(tiny, cuts: [1], threads: 2)
        var blocks = (Int32(0)..<64).shuffled(using: &random)
        var done = Array(repeating: 0, count: prompts.count)
        var logits = Array(repeating: [[UInt32]](), count: prompts.count)
        while done != lengths {
            var batch = StageBatch(segments: [])
            for index in prompts.indices.shuffled(using: &random) where done[index] < lengths[index] && Bool.random(using: &random) {
                if done[index] == 0 {
                    batch.opens.append(SequenceOpening(sequence: UInt64(index), tokens: prompts[index], promptLength: prompts[index].count))
                }
                let end = min(lengths[index], done[index] + Int.random(in: 1...60, using: &random))
                let newBlocks = (end + 31) / 32 - (done[index] + 31) / 32
                batch.segments.append(
                    BatchSegment(
                        sequence: UInt64(index), start: done[index], tokens: Array(prompts[index][done[index]..<end]),
                        newBlocks: Array(blocks.prefix(newBlocks)), samples: false))
                blocks.removeFirst(newBlocks)
                done[index] = end
            }
            var rows = try pipeline.logits(batch)[...]
            for segment in batch.segments {
                logits[Int(segment.sequence)] += rows.prefix(segment.tokens.count)
                rows = rows.dropFirst(segment.tokens.count)
            }
        }
        #expect(logits == expected)
    }

    @Test func theOrderOfBlocksChangesNothing() throws {
        let tiny = try TinyModel(.q8_0)
        let tokens = tiny.tokens(length, seed: 7)
        var random = SeededRandom(seed: 8)
        let blocks = (Int32(0)..<64).shuffled(using: &random)
        #expect(try Pipeline(tiny).logits(of: tokens, chunks: [100, 190], blocks: blocks) == whole(tiny, tokens))
    }

    /// Mixtral's and Granite's router, windows in some layers that neither a block nor a chunk fits, and every bias.
    @Test(arguments: [TensorType.f32, .bf16, .q4_0, .q8_0, .q4_K, .q6_K], [ModelConfiguration.Architecture.llama, .granitemoe])
    func expertsAndWindowsKeepThePromise(type: TensorType, architecture: ModelConfiguration.Architecture) throws {
        var options = TinyModel.Options()
        options.architecture = architecture
        options.multipliers = architecture == .granitemoe
        options.experts = .init(count: 6, used: 2, router: architecture == .llama ? .softmaxOfAll : .softmaxOfChosen)
        options.windows = [75, 0, 75]
        options.furtherBiases = true
        let tiny = try TinyModel(type, options)
        #expect(tiny.configuration.windows == options.windows && tiny.configuration.experts == options.experts)
        let tokens = tiny.tokens(length, seed: 31)
        let expected = try whole(tiny, tokens)
        #expect(Set(expected).count == length)
        options.windows = []
        #expect(try whole(TinyModel(type, options), tokens) != expected, "a window that hides nothing would prove nothing")
        for chunks in [Array(repeating: 1, count: length), [31, 1, 32, 33, 193]] {
            #expect(try Pipeline(tiny, cuts: [1], threads: 2).logits(of: tokens, chunks: chunks) == expected, "chunks \(chunks.prefix(8))")
        }
        for set in InstructionSet.supported {
            let found = try Pipeline(tiny, cuts: [2], threads: 3, instructionSet: set).logits(of: tokens, chunks: [256, 34])
            #expect(found == expected, "\(set.rawValue)")
        }
    }

    @Test func theSwitchesOfOtherFamiliesKeepThePromise() throws {
        var qwen = TinyModel.Options()
        qwen.architecture = .qwen2
        qwen.qkvBias = true
        qwen.tiedHead = false
        var granite = TinyModel.Options()
        granite.architecture = .granite
        granite.multipliers = true
        for (options, type) in [(qwen, TensorType.q4_1), (granite, .f16)] {
            let tiny = try TinyModel(type, options)
            let tokens = tiny.tokens(80, seed: 9)
            let expected = try Pipeline(tiny, instructionSet: .portable).logits(of: tokens, chunks: [80])
            #expect(try Pipeline(tiny, cuts: [2], threads: 3).logits(of: tokens, chunks: [79, 1]) == expected)
        }
    }

    @Test func mixedTypesInOneProductWork() throws {
        // A file whose query matrix is float and whose key and value matrices are quantised: two forms of one input.
        let tiny = try TinyModel(.q8_0)
        var writer = GGUFWriter(metadata: tiny.file.metadata)
        for tensor in tiny.file.tensors {
            if tensor.name.hasSuffix("attn_q.weight") || tensor.name.hasSuffix("ffn_up.weight") {
                writer.add(tensor.name, shape: tensor.shape, floats: tensor.dequantized())
            } else {
                writer.add(tensor.name, type: tensor.type, shape: tensor.shape, bytes: Array(tensor.bytes))
            }
        }
        let mixed = try GGUFFile(parts: [try writer.bytes()])
        let tokens = tiny.tokens(40, seed: 11)
        let some = try logits(mixed, tokens)
        let all = try logits(tiny.file, tokens)
        // The same model up to the rounding of its activations: close as a whole, not equal.
        let difference = zip(some.joined(), all.joined()).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
        let size = all.joined().reduce(0) { $0 + $1 * $1 }
        #expect(difference > 0 && difference < 0.01 * size)
    }

    private func logits(_ file: GGUFFile, _ tokens: [Int32]) throws -> [[Float]] {
        var rows: [[Float]] = []
        try LocalGenerator(file: file).logits(tokens: tokens) { _, row in rows.append(Array(row)) }
        return rows
    }
}
