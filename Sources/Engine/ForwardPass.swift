import CKernels
import ModelFiles

/// The layers of a stage over the rows of a batch: all arithmetic of the model but the drawing of tokens.
///
/// Rows of all sequences go through each matrix together; only attention looks at which row belongs to whom. Every row's
/// result is the same whatever else is in the batch: that is the kernels' promise, and no sum here crosses rows.
struct ForwardPass {
    let weights: StageWeights
    let kv: KVMemory
    let boundary: BoundaryType
    let work: Workspace
    let pool: ComputePool
    let kernels: OpaquePointer

    private var model: ModelConfiguration { weights.model }

    // MARK: Layers

    /// Takes `work.hidden`, rows 0..<rows, through all layers of the stage. `work.spans` says to which sequences and positions they belong.
    func layers(rows: Int, spans: Int) throws(EngineError) {
        turnTables(spans: spans)
        for (layer, kv) in zip(weights.layers, kv.layers) {
            try attention(layer, kv, rows: rows, spans: spans)
            feedForward(layer, rows: rows)
            // After every layer, so that a cut changes nothing.
            if boundary == .bf16 { sk_round_bf16(kernels, work.hidden, rows * model.hidden) }
        }
    }

    /// h += residualScale · Wo · attention(rope(Wq n(h) + bq), rope(Wk n(h) + bk), Wv n(h) + bv)
    private func attention(_ layer: LayerWeights, _ kv: sk_kv, rows: Int, spans: Int) throws(EngineError) {
        let queries = work.qkv
        let keys = queries + model.queryWidth
        let values = keys + model.kvWidth
        let width = layer.qkv.width

        normalise(work.hidden, by: layer.attentionNorm, rows: rows, for: layer.qkv)
        multiply(layer.qkv, rows: rows, into: queries)
        if let bias = layer.qkvBias { sk_add_bias(kernels, pool(for: rows * width), queries, width, bias, Int32(rows), Int32(width)) }

        // Query and key heads lie side by side, so one call turns both.
        sk_rope(
            kernels, pool(for: rows * width), model.rope.pairing.kernelPairing, queries, width, Int32(rows), Int32(model.heads + model.kvHeads),
            Int32(model.headDimension), Int32(model.rope.dimensions), work.rowNumbers, work.cosines, work.sines)

        var cache = kv
        sk_kv_write(kernels, pool(for: rows * width), &cache, work.spans, Int32(spans), keys, width, values, width)
        var attention = sk_attention(kv: kv, heads: Int32(model.heads), scale: model.attentionScale, window: 0)
        let bytes = sk_attention_workspace_bytes(&attention, work.spans, Int32(spans), Int32(pool.threads))
        sk_attend(
            kernels, pool.pool, &attention, work.spans, Int32(spans), queries, width, work.attended, model.queryWidth,
            try work.attentionMemory(bytes: bytes))

        let output = layer.attentionOutput
        sk_quantise(
            kernels, pool(for: rows * output.columns), output.kinds[0], work.attended, model.queryWidth, Int32(rows), Int32(output.columns),
            work.activations(output.kinds[0]))
        multiply(output, rows: rows, into: work.delta)
        addDelta(rows: rows)
    }

    /// h += residualScale · Wdown · (silu(Wgate n(h)) ⊙ Wup n(h))
    private func feedForward(_ layer: LayerWeights, rows: Int) {
        let gate = work.gateUp
        let up = gate + model.feedForward
        let width = layer.gateUp.width
        let kind = layer.down.kinds[0]

        normalise(work.hidden, by: layer.feedForwardNorm, rows: rows, for: layer.gateUp)
        multiply(layer.gateUp, rows: rows, into: gate)
        sk_gate(
            kernels, pool(for: rows * width), SK_FUNCTION_SILU, gate, up, width, Int32(rows), Int32(model.feedForward), gate, width, kind,
            work.activations(kind))
        multiply(layer.down, rows: rows, into: work.delta)
        addDelta(rows: rows)
    }

    // MARK: Ends

    /// h = E[token] · embeddingScale, into `work.hidden` from row `first` on.
    func embed(_ tokens: [Int32], first: Int) {
        var embedding = weights.embedding!
        for (index, token) in tokens.enumerated() {
            sk_packed_row_to_f32(&embedding, token, work.hidden + (first + index) * model.hidden)
        }
        if model.embeddingScale != 1 {
            sk_scale(kernels, work.hidden + first * model.hidden, model.embeddingScale, tokens.count * model.hidden)
        }
    }

    /// Rows from the stage before.
    func take(_ bytes: UnsafeRawBufferPointer, rows: Int) {
        switch boundary {
        case .f32: UnsafeMutableRawPointer(work.hidden).copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
        case .bf16: sk_from_bf16(kernels, bytes.baseAddress!.assumingMemoryBound(to: UInt16.self), work.hidden, rows * model.hidden)
        }
    }

    /// Rows for the stage after.
    func give(_ bytes: UnsafeMutableRawBufferPointer, rows: Int) {
        switch boundary {
        case .f32: bytes.baseAddress!.copyMemory(from: work.hidden, byteCount: bytes.count)
        case .bf16: sk_to_bf16(kernels, work.hidden, bytes.baseAddress!.assumingMemoryBound(to: UInt16.self), rows * model.hidden)
        }
    }

    /// logits = Whead · n(h) / logitDivisor of the rows named, at most `work.headRows`, into `work.logits`.
    func logits(of rows: ArraySlice<Int>) {
        let head = weights.head!
        for (index, row) in rows.enumerated() {
            (work.headInput + index * model.hidden).update(from: work.hidden + row * model.hidden, count: model.hidden)
        }
        normalise(work.headInput, by: head.norm, rows: rows.count, for: head.output)
        multiply(head.output, rows: rows.count, into: work.logits)
        // One rounding of the factor, one of the product.
        if model.logitDivisor != 1 { sk_scale(kernels, work.logits, 1 / model.logitDivisor, rows.count * model.vocabulary) }
    }

    /// Whether rows first..<first + count of `work.hidden` hold no NaN and no infinity.
    func isFinite(first: Int, count: Int) -> Bool {
        sk_all_finite(kernels, work.hidden + first * model.hidden, count * model.hidden)
    }

    // MARK: Pieces

    /// The cosines and sines of each row's position, once for all layers.
    private func turnTables(spans: Int) {
        let pairs = model.rope.dimensions / 2
        for index in 0..<spans {
            let span = work.spans[index]
            let offset = Int(span.first_row) * pairs
            sk_rope_table(
                weights.ropeFrequencies, Int32(pairs), span.first_position, span.rows, 1, work.cosines + offset, work.sines + offset)
        }
    }

    /// n(x) in each form that the projection takes; the rows as floats pass through `work.delta`, which is free until the product.
    private func normalise(_ x: UnsafeMutablePointer<Float>, by weight: UnsafePointer<Float>, rows: Int, for projection: Projection) {
        var norm = sk_norm(kind: SK_NORM_RMS, epsilon: model.normEpsilon, weight: weight, bias: nil)
        let pool = pool(for: rows * model.hidden)
        sk_normalise_quantise(
            kernels, pool, &norm, x, model.hidden, Int32(rows), Int32(model.hidden), work.delta, model.hidden, projection.kinds[0],
            work.activations(projection.kinds[0]))
        for kind in projection.kinds.dropFirst() {
            sk_quantise(kernels, pool, kind, work.delta, model.hidden, Int32(rows), Int32(model.hidden), work.activations(kind))
        }
    }

    private func multiply(_ projection: Projection, rows: Int, into out: UnsafeMutablePointer<Float>) {
        withUnsafeTemporaryAllocation(of: sk_product.self, capacity: projection.matrices.count) { products in
            var offset = 0
            for (index, matrix) in projection.matrices.enumerated() {
                products[index] = sk_product(
                    matrix: matrix, activations: work.activations(sk_type_activation(matrix.type)), out: out + offset, ldo: projection.width)
                offset += Int(matrix.rows)
            }
            sk_matmul(kernels, pool.pool, products.baseAddress!, Int32(products.count), Int32(rows))
        }
    }

    private func addDelta(rows: Int) {
        let pool = pool(for: rows * model.hidden)
        if model.residualScale == 1 {
            sk_add(kernels, pool, work.hidden, model.hidden, work.delta, model.hidden, Int32(rows), Int32(model.hidden))
        } else {
            sk_add_scaled(
                kernels, pool, work.hidden, model.hidden, work.delta, model.hidden, model.residualScale, Int32(rows), Int32(model.hidden))
        }
    }

    /// Waking the pool costs more than a small row operation; the bits are the same either way.
    private func pool(for elements: Int) -> OpaquePointer? { elements < 32_768 ? nil : pool.pool }
}

extension ModelConfiguration.Rope.Pairing {
    fileprivate var kernelPairing: sk_rope_pairing { self == .adjacent ? SK_ROPE_ADJACENT : SK_ROPE_HALVES }
}
