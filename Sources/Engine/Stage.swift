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
    var pass: ForwardPass
    /// One for each share of a run of the pool.
    private let samplers: [Sampler]
    var table: SequenceTable
    /// Rows that it hands on are kept in the one whose boundary is its end; another one has inputs of layers that it got since.
    package var stores: [BoundaryStore] = []
    // Kept from batch to batch, so that a step allocates nothing: emptied and filled again.
    private var result = StageResult()
    private var wishes: [Wish] = []
    private var drawn: [SampledToken?] = []
    /// Of a batch that was begun before anybody asked for it.
    var begun: BegunBatch?
    /// Hears which token will probably be drawn, before the last logits are there, of batches that want it (`StageBatch.isForetold`); says whether
    /// that was of use. Called by `run`.
    package var foretell: ((_ sequence: UInt64, _ position: Int, _ token: Int32) -> Bool)?

    /// - Parameters:
    ///   - kvBlocks: KV blocks (of 32 positions) that there is memory for; block ids are 0..<kvBlocks.
    ///   - rowsMax: most rows of one batch.
    ///   - pool: made on the thread that calls this and `run`.
    package convenience init(
        weights: StageWeights, kvBlocks: Int, kvType: KVType = .f16, boundary: BoundaryType = .f32, rowsMax: Int = 512,
        pool: ComputePool, instructionSet: InstructionSet
    ) throws(EngineError) {
        let kv = try KVMemory(model: weights.model, layers: weights.slice.layers.count, blocks: kvBlocks, type: kvType)
        try self.init(weights: weights, kv: kv, boundary: boundary, rowsMax: rowsMax, pool: pool, instructionSet: instructionSet)
    }

    /// As the other one, with keys and values that are there already: one entry for each layer of the slice, with room for `kvBlocks` blocks
    /// at least. The stage knows no sequence yet; who opens one says which blocks hold its past.
    package convenience init(
        weights: StageWeights, keysAndValues: [KVLayer], kvBlocks: Int, boundary: BoundaryType = .f32, rowsMax: Int = 512,
        pool: ComputePool, instructionSet: InstructionSet
    ) throws(EngineError) {
        precondition(keysAndValues.count == weights.slice.layers.count, "every layer has its keys and values")
        try self.init(
            weights: weights, kv: KVMemory(keysAndValues, blocks: kvBlocks), boundary: boundary, rowsMax: rowsMax, pool: pool,
            instructionSet: instructionSet)
    }

    private init(
        weights: StageWeights, kv: KVMemory, boundary: BoundaryType, rowsMax: Int, pool: ComputePool, instructionSet: InstructionSet
    ) throws(EngineError) {
        precondition(rowsMax > 0, "a stage takes at least one row")
        let model = weights.model
        let kernels = instructionSet.kernels
        self.weights = weights
        self.boundary = boundary
        self.pool = pool
        work = try Workspace(model: model, hasHead: weights.slice.hasHead, rowsMax: rowsMax)
        pass = ForwardPass(weights: weights, kv: kv, boundary: boundary, work: work, pool: pool, kernels: kernels)
        samplers = weights.slice.hasHead ? (0..<pool.threads).map { _ in Sampler(vocabulary: model.vocabulary, kernels: kernels) } : []
        table = SequenceTable(
            vocabulary: model.vocabulary, contextLength: model.contextLength, rowsMax: rowsMax, blocks: kv.blocks,
            draws: weights.slice.hasHead)
    }

    /// Bytes of one row between two stages: `model.hidden` values of the boundary's type.
    package var boundaryRowBytes: Int { weights.model.hidden * boundary.bytes }

    /// Of layer `layer` of the model; `nil` for a layer that another stage has.
    package func keysAndValues(ofLayer layer: Int) -> KVLayer? {
        weights.slice.layers.contains(layer) ? pass.kv.owners[layer - weights.slice.layers.lowerBound] : nil
    }

    /// Bytes of KV memory that one block takes on a stage of so many layers.
    package static func kvBlockBytes(model: ModelConfiguration, layers: Int, kvType: KVType) -> Int {
        layers * KVMemory.blockBytes(model: model, type: kvType)
    }

    /// Bytes of the memory in which a stage works, and what the head needs in addition; an estimate for plans.
    package static func workspaceBytes(model: ModelConfiguration, rowsMax: Int) -> (stage: Int, head: Int) {
        Workspace.byteCount(model: model, rowsMax: rowsMax)
    }

    /// Forgets all sequences; their blocks are free.
    package func reset() {
        begun = nil
        table.removeAll()
    }

    /// Computes one batch. Where it throws `badBatch` or `badSampling`, nothing has changed; after `weightsLost` the stage is of no use any more.
    ///
    /// Allocates nothing, but for the growth of what a sequence remembers (its tokens, its blocks: by doubling), the forms
    /// of its log-probabilities, and new arrays for the result where the caller still holds those of the result before.
    ///
    /// - Parameters:
    ///   - input: rows of the stage before, `batch.rowCount * boundaryRowBytes` bytes, aligned for their type; empty on the
    ///     first stage.
    ///   - output: receives the rows for the stage after, as many bytes; empty on the last stage. May be `input`'s memory.
    package func run(
        _ batch: StageBatch, input: UnsafeRawBufferPointer = .init(start: nil, count: 0),
        output: UnsafeMutableRawBufferPointer = .init(start: nil, count: 0)
    ) throws(EngineError) -> StageResult {
        result.poisoned.removeAll(keepingCapacity: true)
        result.samples.removeAll(keepingCapacity: true)
        result.foretold = nil
        result.layersBegun = 0
        if let rebuild = batch.rebuild {
            begun = nil
            try self.rebuild(rebuild, batch, input: input, output: output)
            return result
        }
        try computeLayers(batch, input: input, outputBytes: output.count)
        markPoisoned(batch)
        if weights.slice.hasHead {
            try draw(batch)
        } else if batch.rowCount > 0 {
            pass.give(output, rows: batch.rowCount)
            keep(UnsafeRawBufferPointer(output), of: batch)
        }
        return result
    }

    /// Has `watch` see the input of every matrix of the stage's layers from now on; nil: nobody does.
    package func watch(_ watch: MatrixInputs?) {
        watch?.bind(to: pass.projections, layers: weights.slice.layers)
        pass.watch = watch
    }

    /// As `run` on a stage that is the whole model or its last, but hands over the logits of every row, or of those from `first` on,
    /// instead of drawing tokens.
    package func logits(
        _ batch: StageBatch, input: UnsafeRawBufferPointer = .init(start: nil, count: 0), from first: Int = 0,
        _ body: (_ row: Int, _ logits: UnsafeBufferPointer<Float>) -> Void
    ) throws(EngineError) {
        precondition(weights.slice.hasHead, "only the last stage has logits")
        try computeLayers(batch, input: input, outputBytes: 0)
        let vocabulary = weights.model.vocabulary
        for start in stride(from: first, to: batch.rowCount, by: max(1, work.headRows)) {
            let portion = UnsafeBufferPointer(start: work.rowNumbers + start, count: min(work.headRows, batch.rowCount - start))
            try pass.logits(of: portion)
            for index in portion.indices {
                body(start + index, UnsafeBufferPointer(start: work.logits + index * vocabulary, count: vocabulary))
            }
        }
    }

    // MARK: Layers

    private func computeLayers(_ batch: StageBatch, input: UnsafeRawBufferPointer, outputBytes: Int) throws(EngineError) {
        let rows = batch.rowCount
        try check("input", bytes: input.count, wanted: weights.slice.hasEmbedding ? 0 : rows * boundaryRowBytes)
        try check("output", bytes: outputBytes, wanted: weights.slice.hasHead ? 0 : rows * boundaryRowBytes)
        let layersDone = takeBegun(batch)
        try table.apply(batch)
        makeCopies(batch)
        guard rows > 0 else { return }
        if let layersDone {
            result.layersBegun = layersDone
            return try pass.layers(rows: rows, spans: 1, layersDone..<weights.slice.layers.count, isBegun: true)
        }
        placeSpans(batch)
        if weights.slice.hasEmbedding {
            try embed(batch)
        } else {
            pass.take(input, rows: rows)
        }
        try pass.layers(rows: rows, spans: batch.segments.count)
    }

    func makeCopies(_ batch: StageBatch) {
        for copy in batch.copies {
            pass.kv.copy(from: Int(copy.from), to: Int(copy.to))
            for store in stores { store.copy(from: Int(copy.from), to: Int(copy.to)) }
        }
    }

    func embed(_ batch: StageBatch) throws(EngineError) {
        var first = 0
        for segment in batch.segments {
            try pass.embed(segment.tokens, first: first)
            first += segment.tokens.count
        }
    }

    func check(_ what: String, bytes: Int, wanted: Int) throws(EngineError) {
        guard bytes == wanted else {
            throw EngineError(.badBatch, "The \(what) rows of a batch are \(bytes) bytes, but \(wanted) belong to it.")
        }
    }

    func placeSpans(_ batch: StageBatch) {
        var row = 0
        for (index, segment) in batch.segments.enumerated() {
            let state = table[segment.sequence]
            work.promptLengths[index] = state.promptLength
            work.spans[index] = sk_span(
                blocks: state.blocks.baseAddress, first_position: Int32(segment.start), first_row: Int32(row),
                rows: Int32(segment.tokens.count))
            row += segment.tokens.count
        }
    }

    /// Reports the sequences with a row that is not finite; `work.healthy` is true for each segment whose rows are. Rows of guesses don't count:
    /// who knows whether the sequence ever has them.
    private func markPoisoned(_ batch: StageBatch) {
        var row = 0
        for (index, segment) in batch.segments.enumerated() {
            let known = batch.poisoned.contains(segment.sequence)
            work.healthy[index] = !known && pass.isFinite(first: row, count: segment.tokens.count - segment.drafts)
            if !known, !work.healthy[index] { poison(segment.sequence) }
            row += segment.tokens.count
        }
    }

    private func poison(_ sequence: UInt64) {
        result.poisoned.append(PoisonedRows(sequence: sequence, layers: weights.slice.layers))
    }

    // MARK: Head

    /// A row from which a token may be drawn.
    private struct Wish {
        let sequence: UInt64
        let row: Int32
        let state: SequenceState
        /// Position that the token takes.
        let position: Int
        /// Counts the segments that sample, so that one thread draws all tokens of a sequence.
        let segment: Int
        let isGuess: Bool

        /// A guess's row gives a token only where the token drawn right before it is that guess. Where its logits are not finite there is none
        /// either: the next batch has the row as a known one, and tells.
        func draw(logits: UnsafePointer<Float>, with sampler: Sampler) -> SampledToken? {
            if isGuess {
                guard state.length == position - 1, state.drawn == state.drafts.first, sampler.isFinite(logits) else { return nil }
                state.confirmDraft()
            }
            let token = sampler.draw(logits: logits, for: state)
            state.drawn = token?.token
            return token
        }
    }

    /// Logits for the wanted rows only, in portions of bounded memory, and a token for each, but for those behind a wrong guess.
    private func draw(_ batch: StageBatch) throws(EngineError) {
        findWishes(batch)
        // A sequence that ends must not live on in here.
        defer {
            for wish in wishes { wish.state.dropDrafts() }
            wishes.removeAll(keepingCapacity: true)
        }
        for start in stride(from: 0, to: wishes.count, by: max(1, work.headRows)) {
            let portion = start..<min(start + work.headRows, wishes.count)
            for (index, wish) in wishes[portion].enumerated() { work.wishedRows[index] = wish.row }
            let rows = UnsafeBufferPointer<Int32>(start: work.wishedRows, count: portion.count)
            if batch.isForetold, wishes.count == 1, let known = try pass.firstLogits(of: rows) {
                foretell(known)
                try pass.restOfLogits()
            } else {
                try pass.logits(of: rows)
            }
            drawTokens(portion)
            for (wish, token) in zip(wishes[portion], drawn) {
                if let token {
                    result.samples.append(SequenceSample(sequence: wish.sequence, position: wish.position, token: token))
                } else if !wish.isGuess {
                    poison(wish.sequence)
                }
            }
        }
    }

    private func foretell(_ known: Int) {
        let wish = wishes[0]
        guard let foretell, let token = samplers[0].foretell(logits: work.logits, known: known, for: wish.state) else { return }
        if foretell(wish.sequence, wish.position, token) { result.foretold = token }
    }

    private func findWishes(_ batch: StageBatch) {
        var row = 0
        var wishing = 0
        for (index, segment) in batch.segments.enumerated() {
            row += segment.tokens.count
            guard segment.samples, work.healthy[index] else { continue }
            let state = table[segment.sequence]
            let first = row - 1 - segment.drafts
            for guess in 0...segment.drafts where guess == 0 || pass.isFinite(first: first + guess, count: 1) {
                wishes.append(
                    Wish(
                        sequence: segment.sequence, row: Int32(first + guess), state: state, position: state.length + guess,
                        segment: wishing, isGuess: guess > 0))
            }
            wishing += 1
        }
    }

    /// One token for each row of `work.logits`, into `drawn`; nil where the row is not finite, or stands behind a guess that was wrong.
    private func drawTokens(_ portion: Range<Int>) {
        drawn.removeAll(keepingCapacity: true)
        for _ in portion { drawn.append(nil) }
        if portion.count == 1 {
            drawn[0] = wishes[portion.lowerBound].draw(logits: work.logits, with: samplers[0])
            return
        }
        wishes.withUnsafeBufferPointer { wishes in
            drawn.withUnsafeMutableBufferPointer { drawn in
                var work = DrawWork(
                    wishes: UnsafeBufferPointer(rebasing: wishes[portion]), drawn: drawn, samplers: samplers, logits: work.logits,
                    vocabulary: weights.model.vocabulary)
                // A closure for the pool would be an object made for each step.
                withUnsafeMutablePointer(to: &work) { work in
                    sk_pool_run(pool.pool, { work, thread, threads in
                        work!.assumingMemoryBound(to: DrawWork.self).pointee.draw(share: Int(thread), of: Int(threads))
                    }, work)
                }
            }
        }
    }

    private struct DrawWork {
        let wishes: UnsafeBufferPointer<Wish>
        let drawn: UnsafeMutableBufferPointer<SampledToken?>
        let samplers: [Sampler]
        let logits: UnsafeMutablePointer<Float>
        let vocabulary: Int

        func draw(share: Int, of shares: Int) {
            for index in wishes.indices where wishes[index].segment % shares == share {
                drawn[index] = wishes[index].draw(logits: logits + index * vocabulary, with: samplers[share])
            }
        }
    }
}
