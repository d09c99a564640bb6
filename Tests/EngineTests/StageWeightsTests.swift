import ModelFiles
import Testing

@testable import Engine

@Suite struct StageWeightsTests {
    private struct Stopped: Error {}

    @Test(arguments: TinyModel.types) func byteCountIsKnownBeforeLoading(type: TensorType) throws {
        var options = TinyModel.Options()
        options.tiedHead = type == .q8_0
        let tiny = try TinyModel(type, options)
        let model = tiny.configuration
        let pool = try ComputePool(threads: 2)
        for slice in [
            StageSlice.whole(model), StageSlice(layers: 0..<2, hasEmbedding: true, hasHead: false),
            StageSlice(layers: 2..<3, hasEmbedding: false, hasHead: true)
        ] {
            let weights = try StageWeights(file: tiny.file, model: model, slice: slice, pool: pool)
            #expect(weights.byteCount == (try StageWeights.byteCount(file: tiny.file, model: model, slice: slice)))
        }
    }

    @Test func aTiedHeadIsPackedOnceWhereBothEndsAreHere() throws {
        let tied = try TinyModel(.q8_0)
        var options = TinyModel.Options()
        options.tiedHead = false
        let separate = try TinyModel(.q8_0, options)
        let bytes = try [tied, separate].map { try StageWeights.byteCount(file: $0.file, model: $0.configuration, slice: .whole($0.configuration)) }
        // 173 rows of 64 in Q8_0, rounded up to 16 rows.
        #expect(bytes[1] - bytes[0] == 176 * 64 / 32 * 34)
    }

    @Test func progressAscendsToTheWhole() throws {
        let tiny = try TinyModel(.f16)
        var told: [Int] = []
        var total = 0
        _ = try StageWeights(file: tiny.file, model: tiny.configuration, slice: .whole(tiny.configuration), pool: ComputePool(threads: 1)) {
            told.append($0)
            total = $1
        }
        #expect(told == told.sorted() && told.last == total)
        #expect(total == tiny.file.tensors.reduce(0) { $0 + $1.byteCount })
    }

    @Test func progressCanEndTheLoading() throws {
        let tiny = try TinyModel(.f16)
        #expect(throws: Stopped.self) {
            try StageWeights(file: tiny.file, model: tiny.configuration, slice: .whole(tiny.configuration), pool: ComputePool(threads: 1)) { _, _ in
                throw Stopped()
            }
        }
    }

    @Test func slicesThatCannotBeAreRefused() throws {
        let tiny = try TinyModel(.f16)
        let pool = try ComputePool(threads: 1)
        let wrong = [
            StageSlice(layers: 0..<0, hasEmbedding: true, hasHead: false), StageSlice(layers: 0..<4, hasEmbedding: true, hasHead: true),
            StageSlice(layers: 0..<2, hasEmbedding: false, hasHead: false), StageSlice(layers: 0..<2, hasEmbedding: true, hasHead: true),
            StageSlice(layers: 1..<3, hasEmbedding: true, hasHead: true), StageSlice(layers: 1..<3, hasEmbedding: false, hasHead: false)
        ]
        for slice in wrong {
            let error = #expect(throws: EngineError.self) {
                try StageWeights(file: tiny.file, model: tiny.configuration, slice: slice, pool: pool)
            }
            #expect(error?.code == .badSlice)
        }
    }

    @Test func aTensorOfAnotherShapeIsNamed() throws {
        let tiny = try TinyModel(.f32)
        var options = TinyModel.Options()
        options.vocabulary = 200
        let other = try TinyModel(.f32, options)
        let error = #expect(throws: EngineError.self) {
            try StageWeights.byteCount(file: tiny.file, model: other.configuration, slice: .whole(other.configuration))
        }
        #expect(error?.code == .wrongTensor)
    }

    @Test func impossibleThreadsAndMemoryAreErrors() throws {
        #expect(throws: EngineError.self) { try ComputePool(threads: 0) }
        #expect(throws: EngineError.self) { try ComputePool(threads: 2, processors: [0]) }
        let tiny = try TinyModel(.f32)
        let pool = try ComputePool(threads: 1)
        let weights = try StageWeights(file: tiny.file, model: tiny.configuration, slice: .whole(tiny.configuration), pool: pool)
        for blocks in [0, -1, 1 << 30, Int.max] {
            let error = #expect(throws: EngineError.self) {
                try Stage(weights: weights, kvBlocks: blocks, pool: pool, instructionSet: .portable)
            }
            #expect(error?.code == .memoryUnavailable)
        }
    }
}
