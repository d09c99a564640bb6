import ModelFiles

@testable import Engine

/// Stages in a row in one process, as a cluster has them over several: what one gives, the next takes.
final class Pipeline {
    let stages: [Stage]
    private let model: ModelConfiguration
    /// What the last stage foretold.
    var told: [(position: Int, token: Int32)] = []

    /// `cuts`: the layers at which a new stage begins.
    init(
        _ tiny: TinyModel, cuts: [Int] = [], threads: Int = 1, instructionSet: InstructionSet = .supported.last!, kvType: KVType = .f16,
        boundary: BoundaryType = .f32, kvBlocks: Int = 64, rowsMax: Int = 640,
        pool: ComputePool? = nil, cache: PackedCache? = nil, memoryMax: Int? = nil
    ) throws {
        let model = tiny.configuration
        self.model = model
        let starts = [0] + cuts
        let ends = cuts + [model.layers]
        let pool = try pool ?? ComputePool(threads: threads)
        stages = try zip(starts, ends).map { start, end in
            let slice = StageSlice(layers: start..<end, hasEmbedding: start == 0, hasHead: end == model.layers)
            let weights = try StageWeights(file: tiny.file, model: model, slice: slice, pool: pool, cache: cache, memoryMax: memoryMax)
            return try Stage(
                weights: weights, kvBlocks: kvBlocks, kvType: kvType, boundary: boundary, rowsMax: rowsMax, pool: pool,
                instructionSet: instructionSet)
        }
    }

    /// The bits of all rows' logits, row after row.
    func logits(_ batch: StageBatch) throws -> [[UInt32]] {
        let rows = try throughAllButLast(batch)
        var logits: [[UInt32]] = []
        try rows.bytes.withUnsafeBytes { input in
            try stages.last!.logits(batch, input: input) { _, row in logits.append(row.map(\.bitPattern)) }
        }
        return logits
    }

    /// The last stage's result, with all that earlier ones reported, as the cluster carries it along.
    func run(_ batch: StageBatch) throws -> StageResult {
        let rows = try throughAllButLast(batch)
        var batch = batch
        batch.poisoned += rows.poisoned.map(\.sequence)
        var result = try rows.bytes.withUnsafeBytes { try stages.last!.run(batch, input: $0) }
        result.poisoned = rows.poisoned + result.poisoned
        return result
    }

    private func throughAllButLast(_ batch: StageBatch) throws -> (bytes: [UInt32], poisoned: [PoisonedRows]) {
        var batch = batch
        // Words, because the kernels ask for the alignment of floats.
        var rows: [UInt32] = []
        var poisoned: [PoisonedRows] = []
        for stage in stages.dropLast() {
            var output = [UInt32](repeating: 0, count: batch.rowCount * stage.boundaryRowBytes / 4)
            let result = try rows.withUnsafeBytes { input in
                try output.withUnsafeMutableBytes { try stage.run(batch, input: input, output: $0) }
            }
            batch.poisoned += result.poisoned.map(\.sequence)
            poisoned += result.poisoned
            rows = output
        }
        return (rows, poisoned)
    }

    /// Logits of one sequence whose tokens arrive in pieces of the sizes given. `blocks`: the ids that its table takes, in order.
    func logits(of tokens: [Int32], chunks: [Int], blocks: [Int32] = Array(0..<64)) throws -> [[UInt32]] {
        precondition(chunks.reduce(0, +) == tokens.count, "chunks that are the whole sequence")
        var all: [[UInt32]] = []
        var start = 0
        var blocksUsed = 0
        for chunk in chunks {
            let end = start + chunk
            let needed = (end + 31) / 32
            let segment = BatchSegment(
                sequence: 7, start: start, tokens: Array(tokens[start..<end]), newBlocks: Array(blocks[blocksUsed..<needed]), samples: false)
            let opens = start == 0 ? [SequenceOpening(sequence: 7, tokens: tokens, promptLength: tokens.count)] : []
            all += try logits(StageBatch(opens: opens, segments: [segment]))
            start = end
            blocksUsed = needed
        }
        return all
    }
}
