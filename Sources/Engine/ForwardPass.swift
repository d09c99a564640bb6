import CKernels
import ModelFiles

/// The layers of a stage over the rows of a batch: all arithmetic of the model but the drawing of tokens.
///
/// Rows of all sequences go through each matrix together; only attention looks at which row belongs to whom. Every row's
/// result is the same whatever else is in the batch: that is the kernels' promise, and no sum here crosses rows.
///
/// A layer is five runs of the pool: four projections, with the norms, biases, gates and residuals around them, and
/// attention. Rows that come in large numbers take some more, which are then worth it.
struct ForwardPass {
    let weights: StageWeights
    let kv: KVMemory
    let boundary: BoundaryType
    let work: Workspace
    let pool: ComputePool
    let kernels: OpaquePointer
    let projections: StageProjections
    /// Sees the input of each projection before it is computed.
    var watch: MatrixInputs?
    private let model: ModelConfiguration
    /// By layer of the stage; 0: none.
    private let windows: [Int32]
    /// Those that differ.
    private let windowsUsed: [Int32]

    init(weights: StageWeights, kv: KVMemory, boundary: BoundaryType, work: Workspace, pool: ComputePool, kernels: OpaquePointer) {
        self.weights = weights
        self.kv = kv
        self.boundary = boundary
        self.work = work
        self.pool = pool
        self.kernels = kernels
        model = weights.model
        projections = StageProjections(weights: weights, work: work)
        windows = weights.slice.layers.map { Int32(clamping: weights.model.window(ofLayer: $0)) }
        windowsUsed = Set(windows).sorted()
    }

    // MARK: Layers

    /// Takes `work.hidden`, rows 0..<rows, through all layers of the stage. `work.spans` says to which sequences and positions they belong.
    ///
    /// - Parameters:
    ///   - wanted: places in the stage's own layers; the others are left out.
    ///   - isBegun: layers before these were computed for the same rows and spans, and nothing since then.
    func layers(rows: Int, spans: Int, _ wanted: Range<Int>? = nil, isBegun: Bool = false) throws(EngineError) {
        let wanted = wanted ?? kv.layers.indices
        if !isBegun { turnTables(spans: spans) }
        let scratch = try work.scratch(bytes: max(projections.workspaceBytes(rows: rows, threads: pool.threads), attentionBytes(spans: spans)))
        for index in wanted {
            // Waits for the disk where the layer does not stay in memory.
            let place = try weights.streamed?.acquire(layer: index) ?? 0
            let layer = projections.layers[index][place]
            // h += residualScale · Wo · attention(rope(Wq n(h) + bq), rope(Wk n(h) + bk), Wv n(h) + bv)
            project(layer.qkv, rows: rows, scratch)
            attend(layer: index, rows: rows, spans: spans, scratch)
            project(layer.attentionOutput, rows: rows, scratch)
            // h += residualScale · F(n(h))
            switch layer.feedForward {
            case .dense(let gateUp, let down):
                project(gateUp, rows: rows, scratch)
                project(down, rows: rows, scratch)
            case .experts(let experts):
                sk_feed_experts(kernels, pool.pool, experts, Int32(rows), scratch)
                watch?.see(experts, rows: rows, workspace: scratch)
                pool.workDone?.note()
            }
            weights.streamed?.release(layer: index)
            // After every layer, so that a cut changes nothing.
            if boundary == .bf16 { sk_round_bf16(kernels, work.hidden, rows * model.hidden) }
        }
    }

    private func project(_ projection: UnsafePointer<sk_projection>, rows: Int, _ scratch: UnsafeMutableRawPointer) {
        watch?.see(projection, rows: rows, kernels: kernels)
        sk_project(kernels, pool.pool, projection, Int32(rows), scratch)
        pool.workDone?.note()
    }

    /// work.attended = attention of the rows' queries over what the layer lets them see of their sequences, themselves included.
    private func attend(layer: Int, rows: Int, spans: Int, _ scratch: UnsafeMutableRawPointer) {
        let width = model.queryWidth + 2 * model.kvWidth
        let queries = work.qkv
        let keys = queries + model.queryWidth
        let values = keys + model.kvWidth
        let pool = pool(for: rows * width)

        // Query and key heads lie side by side, so one call turns both.
        sk_rope(
            kernels, pool, model.rope.pairing.kernelPairing, queries, width, Int32(rows), Int32(model.heads + model.kvHeads),
            Int32(model.headDimension), Int32(model.rope.dimensions), work.rowNumbers, work.cosines, work.sines)
        var attention = attention(over: kv.layers[layer], window: windows[layer])
        sk_kv_write(kernels, pool, &attention.kv, work.spans, Int32(spans), keys, width, values, width)
        sk_attend(kernels, self.pool.pool, &attention, work.spans, Int32(spans), queries, width, work.attended, model.queryWidth, scratch)
        self.pool.workDone?.note()
    }

    private func attention(over kv: sk_kv, window: Int32) -> sk_attention {
        sk_attention(kv: kv, heads: Int32(model.heads), scale: model.attentionScale, window: window)
    }

    /// The same for all layers of one window, whose KV differ in nothing but their place.
    private func attentionBytes(spans: Int) -> Int {
        guard let first = kv.layers.first else { return 0 }
        var bytes = 0
        for window in windowsUsed {
            var attention = attention(over: first, window: window)
            bytes = max(bytes, sk_attention_workspace_bytes(&attention, work.spans, Int32(spans), Int32(pool.threads)))
        }
        return bytes
    }

    // MARK: Ends

    /// h = E[token] · embeddingScale, into `work.hidden` from row `first` on.
    func embed(_ tokens: [Int32], first: Int) throws(EngineError) {
        for (index, token) in tokens.enumerated() {
            let row = work.hidden + (first + index) * model.hidden
            if let rows = weights.embeddingRows {
                try rows.look(up: token, to: row)
            } else {
                var embedding = weights.embedding!
                sk_packed_row_to_f32(&embedding, token, row)
            }
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

    /// logits = (Whead · n(h) + bias) / logitDivisor of the rows named, at most `work.headRows`, into `work.logits`.
    ///
    /// Where the head is quantised, its input is too, and no later layer dampens what that costs: with 8 bits it is a quarter of all that
    /// quantised activations cost a small model. So what they leave out is multiplied as a row of its own and added:
    /// logits = Whead a + Whead (n(h) - a).
    func logits(of rows: UnsafeBufferPointer<Int32>) throws(EngineError) {
        try prepareLogits(of: rows)
        try logits(projections.head!, rows: rows.count, columns: 0..<model.vocabulary)
    }

    /// The first so many logits of a single row; the others come with `restOfLogits`. `nil`: the head is in one piece, and nothing was done.
    func firstLogits(of row: UnsafeBufferPointer<Int32>) throws(EngineError) -> Int? {
        precondition(row.count == 1, "a head is computed in parts for one row")
        guard let parts = projections.headParts else { return nil }
        try prepareLogits(of: row)
        try logits(parts.first, rows: 1, columns: 0..<parts.split)
        return parts.split
    }

    func restOfLogits() throws(EngineError) {
        guard let parts = projections.headParts else { preconditionFailure("the rest follows the first logits") }
        try logits(parts.rest, rows: 1, columns: parts.split..<model.vocabulary)
    }

    private var isHeadWhole: Bool { weights.head!.output.kinds[0] == SK_ACTIVATION_F32 }

    /// n(h) into `work.headInput`, and behind it what quantising leaves of each row.
    private func prepareLogits(of rows: UnsafeBufferPointer<Int32>) throws(EngineError) {
        let head = weights.head!
        let (count, hidden) = (rows.count, model.hidden)
        var norm = sk_norm(kind: SK_NORM_RMS, epsilon: model.normEpsilon, weight: head.norm, bias: nil)
        for (index, row) in rows.enumerated() {
            sk_normalise(kernels, nil, &norm, work.hidden + Int(row) * hidden, hidden, 1, Int32(hidden), work.headInput + index * hidden, hidden)
        }
        guard !isHeadWhole else { return }
        let kind = head.output.kinds[0]
        let scratch = try work.scratch(bytes: projections.workspaceBytes(rows: 2 * count, threads: pool.threads))
        sk_quantise(kernels, nil, kind, work.headInput, hidden, Int32(count), Int32(hidden), scratch)
        sk_quantisation_rest(kernels, kind, work.headInput, hidden, scratch, Int32(count), Int32(hidden), work.headInput + count * hidden, hidden)
    }

    /// - Parameter columns: the head's outputs that `projection` makes: all of them where there is more than one row.
    private func logits(_ projection: UnsafePointer<sk_projection>, rows: Int, columns: Range<Int>) throws(EngineError) {
        let (vocabulary, width, isWhole) = (model.vocabulary, Int32(columns.count), isHeadWhole)
        let rowsToMultiply = isWhole ? rows : 2 * rows
        let scratch = try work.scratch(bytes: projections.workspaceBytes(rows: rowsToMultiply, threads: pool.threads))
        project(projection, rows: rowsToMultiply, scratch)
        let logits = work.logits + columns.lowerBound
        let pool = pool(for: rows * columns.count)
        if !isWhole { sk_add(kernels, pool, logits, vocabulary, logits + rows * vocabulary, vocabulary, Int32(rows), width) }
        if let bias = weights.head!.bias { sk_add_bias(kernels, pool, logits, vocabulary, bias + columns.lowerBound, Int32(rows), width) }
        // One rounding of the factor, one of the product.
        if model.logitDivisor != 1 { sk_scale(kernels, logits, 1 / model.logitDivisor, rows * columns.count) }
    }

    /// Whether rows first..<first + count of `work.hidden` hold no NaN and no infinity.
    func isFinite(first: Int, count: Int) -> Bool {
        sk_all_finite(kernels, work.hidden + first * model.hidden, count * model.hidden)
    }

    // MARK: Pieces

    /// The cosines and sines of each row's position, once for all layers.
    private func turnTables(spans: Int) {
        let switchesAt = model.rope.switchesAt ?? Int.max
        for index in 0..<spans {
            let span = work.spans[index]
            let first = Int(span.first_position), end = first + Int(span.rows)
            // Rows that stand before `longFrom` take the short list of longrope; without longrope there is one list only.
            let longFrom = work.promptLengths[index] > switchesAt ? first : min(max(first, switchesAt), end)
            turnTable(weights.ropeFrequencies, positions: first..<longFrom, row: Int(span.first_row))
            turnTable(weights.ropeLongFrequencies, positions: longFrom..<end, row: Int(span.first_row) + longFrom - first)
        }
    }

    private func turnTable(_ frequencies: [Double], positions: Range<Int>, row: Int) {
        guard !positions.isEmpty else { return }
        let pairs = model.rope.dimensions / 2
        let offset = row * pairs
        sk_rope_table(
            frequencies, Int32(pairs), Int32(positions.lowerBound), Int32(positions.count), model.rope.magnitude, work.cosines + offset,
            work.sines + offset)
    }

    /// Waking the pool costs more than a small row operation; the bits are the same either way.
    private func pool(for elements: Int) -> OpaquePointer? { elements < 32_768 ? nil : pool.pool }
}

extension ModelConfiguration.Rope.Pairing {
    fileprivate var kernelPairing: sk_rope_pairing { self == .adjacent ? SK_ROPE_ADJACENT : SK_ROPE_HALVES }
}
