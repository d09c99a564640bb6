import CKernels
import ModelFiles

/// One stage of the model at work: rows in, its layers, rows or tokens out. Owns the keys and values of its layers.
///
/// Not `Sendable`: the stage thread makes it, runs it and drops it.
package final class Stage {
    package let weights: StageWeights
    private let boundary: BoundaryType
    private let pool: ComputePool
    private let work: Workspace
    private let pass: ForwardPass
    /// One for each thread of the pool.
    private let samplers: [Sampler]
    private var table: SequenceTable

    /// - Parameters:
    ///   - kvBlocks: KV blocks (of 32 positions) that there is memory for; block ids are 0..<kvBlocks.
    ///   - rowsMax: most rows of one batch.
    ///   - pool: made on the thread that calls this and `run`.
    package init(
        weights: StageWeights, kvBlocks: Int, kvType: KVType = .f16, boundary: BoundaryType = .f32, rowsMax: Int = 512,
        pool: ComputePool, instructionSet: InstructionSet
    ) throws(EngineError) {
        precondition(rowsMax > 0, "a stage takes at least one row")
        let model = weights.model
        let kernels = instructionSet.kernels
        self.weights = weights
        self.boundary = boundary
        self.pool = pool
        work = try Workspace(model: model, hasHead: weights.slice.hasHead, rowsMax: rowsMax)
        let kv = try KVMemory(model: model, layers: weights.layers.count, blocks: kvBlocks, type: kvType)
        pass = ForwardPass(weights: weights, kv: kv, boundary: boundary, work: work, pool: pool, kernels: kernels)
        samplers = weights.slice.hasHead ? (0..<pool.threads).map { _ in Sampler(vocabulary: model.vocabulary, kernels: kernels) } : []
        table = SequenceTable(
            vocabulary: model.vocabulary, contextLength: model.contextLength, rowsMax: rowsMax, blocks: kvBlocks,
            draws: weights.slice.hasHead)
    }

    /// Bytes of one row between two stages: `model.hidden` values of the boundary's type.
    package var boundaryRowBytes: Int { weights.model.hidden * boundary.bytes }

    /// Bytes of KV memory that one block takes on a stage of so many layers.
    package static func kvBlockBytes(model: ModelConfiguration, layers: Int, kvType: KVType) -> Int {
        layers * KVMemory.blockBytes(model: model, type: kvType)
    }

    /// Forgets all sequences; their blocks are free.
    package func reset() { table.removeAll() }

    /// Computes one batch. Where it throws `badBatch` or `badSampling`, nothing has changed.
    ///
    /// - Parameters:
    ///   - input: rows of the stage before, `batch.rowCount * boundaryRowBytes` bytes, aligned for their type; empty on the
    ///     first stage.
    ///   - output: receives the rows for the stage after, as many bytes; empty on the last stage. May be `input`'s memory.
    package func run(
        _ batch: StageBatch, input: UnsafeRawBufferPointer = .init(start: nil, count: 0),
        output: UnsafeMutableRawBufferPointer = .init(start: nil, count: 0)
    ) throws(EngineError) -> StageResult {
        var result = StageResult()
        try computeLayers(batch, input: input, outputBytes: output.count)
        let healthy = markPoisoned(batch, into: &result)
        if weights.slice.hasHead {
            draw(batch, healthy: healthy, into: &result)
        } else if batch.rowCount > 0 {
            pass.give(output, rows: batch.rowCount)
        }
        return result
    }

    /// As `run` on a stage that is the whole model or its last, but hands over the logits of every row instead of drawing tokens.
    package func logits(
        _ batch: StageBatch, input: UnsafeRawBufferPointer = .init(start: nil, count: 0),
        _ body: (_ row: Int, _ logits: UnsafeBufferPointer<Float>) -> Void
    ) throws(EngineError) {
        precondition(weights.slice.hasHead, "only the last stage has logits")
        try computeLayers(batch, input: input, outputBytes: 0)
        forEachLogits(of: Array(0..<batch.rowCount)) { rows, logits in
            for (index, row) in rows.enumerated() {
                body(row, UnsafeBufferPointer(start: logits + index * weights.model.vocabulary, count: weights.model.vocabulary))
            }
        }
    }

    // MARK: Layers

    private func computeLayers(_ batch: StageBatch, input: UnsafeRawBufferPointer, outputBytes: Int) throws(EngineError) {
        let rows = batch.rowCount
        try check("input", bytes: input.count, wanted: weights.slice.hasEmbedding ? 0 : rows * boundaryRowBytes)
        try check("output", bytes: outputBytes, wanted: weights.slice.hasHead ? 0 : rows * boundaryRowBytes)
        try table.apply(batch)
        for copy in batch.copies { pass.kv.copy(from: Int(copy.from), to: Int(copy.to)) }
        guard rows > 0 else { return }
        placeSpans(batch)
        if weights.slice.hasEmbedding {
            var first = 0
            for segment in batch.segments {
                pass.embed(segment.tokens, first: first)
                first += segment.tokens.count
            }
        } else {
            pass.take(input, rows: rows)
        }
        try pass.layers(rows: rows, spans: batch.segments.count)
    }

    private func check(_ what: String, bytes: Int, wanted: Int) throws(EngineError) {
        guard bytes == wanted else {
            throw EngineError(.badBatch, "The \(what) rows of a batch are \(bytes) bytes, but \(wanted) belong to it.")
        }
    }

    private func placeSpans(_ batch: StageBatch) {
        var row = 0
        for (index, segment) in batch.segments.enumerated() {
            work.spans[index] = sk_span(
                blocks: table[segment.sequence].blocks.baseAddress, first_position: Int32(segment.start), first_row: Int32(row),
                rows: Int32(segment.tokens.count))
            row += segment.tokens.count
        }
    }

    /// Reports the sequences with a row that is not finite; true for each segment whose rows are.
    private func markPoisoned(_ batch: StageBatch, into result: inout StageResult) -> [Bool] {
        var row = 0
        return batch.segments.map { segment in
            defer { row += segment.tokens.count }
            if batch.poisoned.contains(segment.sequence) { return false }
            if pass.isFinite(first: row, count: segment.tokens.count) { return true }
            result.poisoned.append(PoisonedRows(sequence: segment.sequence, layers: weights.slice.layers))
            return false
        }
    }

    // MARK: Head

    private struct Wish {
        let sequence: UInt64
        let row: Int
        let state: SequenceState
    }

    /// Logits for the wanted rows only, then a token for each.
    private func draw(_ batch: StageBatch, healthy: [Bool], into result: inout StageResult) {
        var wishes: [Wish] = []
        var row = 0
        for (segment, healthy) in zip(batch.segments, healthy) {
            row += segment.tokens.count
            if segment.samples, healthy { wishes.append(Wish(sequence: segment.sequence, row: row - 1, state: table[segment.sequence])) }
        }
        var next = 0
        forEachLogits(of: wishes.map(\.row)) { rows, logits in
            let tokens = drawTokens(wishes[next..<(next + rows.count)], logits: logits)
            for (wish, token) in zip(wishes[next...], tokens) {
                if let token {
                    result.samples.append(SequenceSample(sequence: wish.sequence, position: wish.state.length, token: token))
                } else {
                    result.poisoned.append(PoisonedRows(sequence: wish.sequence, layers: weights.slice.layers))
                }
            }
            next += rows.count
        }
    }

    /// One token for each row of `logits`; nil where the row is not finite.
    private func drawTokens(_ wishes: ArraySlice<Wish>, logits: UnsafeMutablePointer<Float>) -> [SampledToken?] {
        let vocabulary = weights.model.vocabulary
        let first = wishes.startIndex
        return Array(unsafeUninitializedCapacity: wishes.count) { tokens, count in
            let tokens = tokens.baseAddress!
            let drawRow = { (index: Int, thread: Int) in
                let token = self.samplers[thread].draw(logits: logits + index * vocabulary, for: wishes[first + index].state)
                (tokens + index).initialize(to: token)
            }
            if wishes.count == 1 {
                drawRow(0, 0)
            } else {
                pool.run { thread, threads in
                    for index in stride(from: thread, to: wishes.count, by: threads) { drawRow(index, thread) }
                }
            }
            count = wishes.count
        }
    }

    /// Computes logits of `rows` in portions of bounded memory.
    private func forEachLogits(of rows: [Int], _ body: (_ rows: ArraySlice<Int>, _ logits: UnsafeMutablePointer<Float>) -> Void) {
        for start in stride(from: 0, to: rows.count, by: max(1, work.headRows)) {
            let portion = rows[start..<min(start + work.headRows, rows.count)]
            pass.logits(of: portion)
            body(portion, work.logits)
        }
    }
}
