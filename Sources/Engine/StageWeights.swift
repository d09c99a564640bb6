import CKernels
import ModelFiles

/// The weights of one stage, packed for the kernels, in memory or mapped from the cache; or, where they may not take so much memory, streamed from
/// the cache with every step (`StreamedUnits`).
///
/// Queries and keys keep the row order of GGUF files. Those of Llama and Granite hold them in pairs of adjacent rows, those of Qwen2
/// in halves, and RoPE turns the pairs that `ModelConfiguration.Rope.pairing` names: nothing is permuted here, and a folder's rows come in
/// that order already (`HFModel`).
///
/// `@unchecked Sendable`, because pointers are not: everything is written before `init` returns and never after.
package final class StageWeights: @unchecked Sendable {
    package let model: ModelConfiguration
    package let slice: StageSlice
    /// Memory that the packed weights take, mapped ones included.
    package let byteCount: Int
    /// Where they came from.
    package let origin: LoadReport

    /// nil unless the slice has the embedding. Shares its bytes with the head where the model ties them and the stage has both.
    let embedding: sk_matrix?
    /// Of each layer one, or where it is streamed one for each place of the ring that it may lie in, which all have the same shapes.
    let layerPlaces: [[LayerWeights]]
    /// nil where all weights are in memory.
    let streamed: StreamedUnits?
    /// Where the embedding stays on the disk, it is looked up there.
    let embeddingRows: EmbeddingRows?
    /// nil unless the slice has the head.
    let head: HeadWeights?
    /// Angle by which RoPE turns pair i per position, scaling included.
    let ropeFrequencies: [Double]
    /// The same where longrope's other list holds; empty for models without.
    let ropeLongFrequencies: [Double]
    fileprivate let units: [WeightUnit: WeightBytes]
    /// What the cache lacks.
    fileprivate let unkept: [(entry: PackedEntry, weights: WeightBytes)]
    private let cache: PackedCache?

    /// Maps or copies from `cache` what it has of the slice, and packs the rest from `file`, with all threads of `pool`.
    /// `progress` is called on the calling thread with bytes of the file that are done and the bytes in all; what it throws
    /// ends the loading. The file is not needed afterwards. Writes nothing into the cache: that is `keep`.
    ///
    /// What `held`, of the same model, has is not loaded again but used in common. `placement`: nil for what suits the pool.
    ///
    /// With `memoryMax`, weights that would take more bytes are streamed from `cache`: what it lacks is written there first, and nothing of `held` is
    /// used. So it is with those that would take no more, where they are begun `.later` and `besideBytes` are taken until then: no more than
    /// `memoryMax` is taken at any time.
    ///
    /// Throws `EngineError`, and `ModelFileError` when the file can't be read.
    package init(
        file: any ModelSource, model: ModelConfiguration, slice: StageSlice, pool: ComputePool, cache: PackedCache? = nil, sharing held: Units? = nil,
        placement: WeightPlacement? = nil, memoryMax: Int? = nil, besideBytes: Int = 0, begin: WeightBegin = .now,
        progress: (_ bytesDone: Int, _ bytesTotal: Int) throws -> Void = { _, _ in }
    ) throws {
        let places = try Places(file: file, model: model, slice: slice)
        let brought = try withoutActuallyEscaping(progress) { progress -> Brought in
            if let memoryMax {
                let added = places.layouts.reduce(0) { held?.units[$1.unit] == nil ? $0 + $1.byteCount : $0 }
                let residency = try WeightResidency(
                    places.layouts, bytesMax: memoryMax, embeddingIsHead: slice.hasHead && model.tiedHead,
                    isForAll: begin == .later && besideBytes + added > memoryMax)
                if let residency { return try Self.streamed(places, residency, file, pool, cache, begin, progress) }
            }
            return try Self.inMemory(places, file, pool, cache, held, placement ?? .suiting(pool), progress)
        }
        self.model = model
        self.slice = slice
        self.cache = cache
        streamed = brought.streamed
        byteCount = brought.streamed?.residency.byteCount ?? places.byteCount
        origin = brought.report
        units = brought.units
        unkept = brought.unkept
        let weights = brought.weights
        let tokens = places.embedding.flatMap { place in weights[place.unit].first?.matrix(place.matrix) }
        embedding = slice.hasEmbedding ? tokens : nil
        embeddingRows = brought.streamed?.rows
        layerPlaces = places.layers.map { layer in weights[layer.unit].map { LayerWeights(layer.places, in: $0) } }
        head = places.head.map { head in
            let memory = weights[head.unit][0]
            return HeadWeights(
                norm: memory.vector(head.norm), output: Projection([head.matrix.map(memory.matrix) ?? tokens!]), bias: head.bias.map(memory.vector))
        }
        ropeFrequencies = model.rope.frequencies()
        ropeLongFrequencies = model.rope.switchesAt == nil ? [] : model.rope.frequencies(isLong: true)
    }

    /// What became of a slice's layouts.
    private struct Brought {
        /// By layout: where it lies or may lie.
        var weights: [[WeightBytes]]
        var report: LoadReport
        var units: [WeightUnit: WeightBytes] = [:]
        var unkept: [(entry: PackedEntry, weights: WeightBytes)] = []
        var streamed: StreamedUnits?
    }

    private static func inMemory(
        _ places: Places, _ file: any ModelSource, _ pool: ComputePool, _ cache: PackedCache?, _ held: Units?, _ placement: WeightPlacement,
        _ progress: @escaping (Int, Int) throws -> Void
    ) throws -> Brought {
        let missing = places.layouts.filter { held?.units[$0.unit] == nil }
        let loader = try WeightLoader(missing, file: file, cache: cache, placement: placement, pool: pool)
        let loaded = try loader.load(progress)
        let own = Dictionary(uniqueKeysWithValues: zip(missing.map(\.unit), loaded.weights))
        let weights = places.layouts.map { own[$0.unit] ?? held!.units[$0.unit]! }
        let units = Dictionary(uniqueKeysWithValues: zip(places.layouts.map(\.unit), weights))
        let packed = loader.entries.map { entries in loaded.packed.map { (entries[$0], loaded.weights[$0]) } } ?? []
        return Brought(
            weights: weights.map { [$0] }, report: loaded.report, units: units,
            unkept: packed + (held?.unkept.filter { units[$0.entry.table.unit] != nil } ?? []))
    }

    private static func streamed(
        _ places: Places, _ residency: WeightResidency, _ file: any ModelSource, _ pool: ComputePool, _ cache: PackedCache?,
        _ begin: WeightBegin, _ progress: @escaping (Int, Int) throws -> Void
    ) throws -> Brought {
        let loader = try StreamedLoader(places.layouts, residency, file: file, cache: cache, pool: pool)
        let loaded = try loader.load(begin, progress)
        let weights = places.layouts.enumerated().map { loaded.units.places($0, byteCount: $1.byteCount) }
        return Brought(weights: weights, report: loaded.report, streamed: loaded.units)
    }

    /// Of streamed weights: fills the memory that they take and begins to read ahead, where that was left for later. To be called by the thread that
    /// will run the stage. Throws `weightsLost`.
    package func start(pool: ComputePool) throws { try streamed?.start(pool: pool) { _ in } }

    /// Whether they come from the cache's files, all or in part, and so take no memory before they are begun.
    package var isStreamed: Bool { streamed != nil }

    /// From the disk for a step; 0 where all weights are in memory.
    package var streamedBytesPerStep: Int { streamed?.bytesPerStep ?? 0 }

    /// Since the weights were loaded.
    package var streamTotals: StreamTotals { streamed?.totals ?? StreamTotals() }

    /// Each layer once, for what does not depend on where it lies.
    var layers: [LayerWeights] { layerPlaces.map { $0[0] } }

    /// The memory that the packed weights of a slice will take; reads no tensor.
    package static func byteCount(file: any ModelSource, model: ModelConfiguration, slice: StageSlice) throws(EngineError) -> Int {
        try Places(file: file, model: model, slice: slice).byteCount
    }

    /// The same by part of the model: each layer, the embedding, and the last norm with the head's matrix, which where it is tied is the
    /// embedding once more.
    package static func byteCounts(
        file: any ModelSource, model: ModelConfiguration
    ) throws(EngineError) -> (layers: [Int], embedding: Int, head: Int) {
        let places = try Places(file: file, model: model, slice: .whole(model))
        let embedding = places.layouts[places.embedding!.unit].byteCount
        let head = places.layouts[places.head!.unit].byteCount
        return (places.layers.map { places.layouts[$0.unit].byteCount }, embedding, head + (model.tiedHead ? embedding : 0))
    }

    /// Parts of a model's weights that stay in memory while they are held here, whatever becomes of the stage that they came from.
    ///
    /// `@unchecked Sendable`, as `StageWeights` is.
    package struct Units: @unchecked Sendable {
        fileprivate let units: [WeightUnit: WeightBytes]
        fileprivate let unkept: [(entry: PackedEntry, weights: WeightBytes)]
    }

    /// Those that another slice of the same model has too.
    package func part(_ slice: StageSlice) -> Units {
        let isTiedHead = slice.hasHead && model.tiedHead
        let common = units.filter { unit, _ in
            switch unit {
            case .layer(let layer): slice.layers.contains(layer)
            case .embedding: slice.hasEmbedding || isTiedHead
            case .head: slice.hasHead
            }
        }
        return Units(units: common, unkept: unkept.filter { common[$0.entry.table.unit] != nil })
    }

    /// What `keep` has to write.
    package var unkeptBytes: Int { unkept.reduce(0) { $0 + $1.entry.table.fileBytes } }

    /// Writes what was packed into the cache, for the next start. May run on any thread beside the computing, at the disk's
    /// speed; `isCancelled` is asked every two megabytes. Gives the bytes written, which are less than `unkeptBytes` when it
    /// was cancelled or another process writes the same. Throws `cacheUnusable`; what was written until then stays.
    package func keep(isCancelled: () -> Bool = { false }) throws(EngineError) -> Int {
        guard let cache else { return 0 }
        var bytes = 0
        for (entry, weights) in unkept where try PackedWriter.write(entry, weights, in: cache, isCancelled: isCancelled) == .written {
            bytes += entry.table.fileBytes
        }
        return bytes
    }
}

/// What is done of weights that come from the cache's files when they are made. Weights that are in memory are there at once.
package enum WeightBegin: Sendable {
    /// What stays in memory is read, and what does not is read ahead.
    case now
    /// What stays is read; the rest waits for `start`.
    case filled
    /// They take no memory until `start`, so that another slice can keep its own until then.
    case later
}

/// One layer: h += residualScale Wo attention(rope(Wq n(h)), rope(Wk n(h)), Wv n(h)); h += residualScale F(n(h)).
struct LayerWeights {
    let attentionNorm: UnsafePointer<Float>  // [hidden]
    let qkv: Projection  // hidden -> queries, keys, values side by side
    let qkvBias: UnsafePointer<Float>?  // [queryWidth + 2 kvWidth]
    let attentionOutput: Projection  // queryWidth -> hidden
    let attentionOutputBias: UnsafePointer<Float>?  // [hidden]
    let feedForwardNorm: UnsafePointer<Float>  // [hidden]
    let feedForward: FeedForward

    enum FeedForward {
        /// F(x) = Wdown (silu(Wgate x) * Wup x)
        case dense(gateUp: Projection, down: Projection)  // hidden -> gates, ups side by side; feedForward -> hidden
        /// The same of the experts that the router chooses.
        case experts(ExpertWeights)
    }

    fileprivate init(_ places: LayerPlaces, in memory: WeightBytes) {
        attentionNorm = memory.vector(places.attentionNorm)
        qkv = Projection(places.qkv.map(memory.matrix))
        qkvBias = places.qkvBias.map(memory.vector)
        attentionOutput = Projection([memory.matrix(places.attentionOutput)])
        attentionOutputBias = places.attentionOutputBias.map(memory.vector)
        feedForwardNorm = memory.vector(places.feedForwardNorm)
        switch places.feedForward {
        case .dense(let gate, let up, let down):
            feedForward = .dense(gateUp: Projection([gate, up].map(memory.matrix)), down: Projection([memory.matrix(down)]))
        case .experts(let router, let gates, let ups, let downs):
            feedForward = .experts(
                ExpertWeights(
                    router: memory.matrix(router), gates: gates.map(memory.matrix), ups: ups.map(memory.matrix), downs: downs.map(memory.matrix)))
        }
    }

    /// All matrices that every row is multiplied with.
    var commonMatrices: [sk_matrix] {
        let attention = qkv.matrices + attentionOutput.matrices
        return switch feedForward {
        case .dense(let gateUp, let down): attention + gateUp.matrices + down.matrices
        case .experts(let experts): attention + [experts.router]
        }
    }
}

struct ExpertWeights {
    let router: sk_matrix  // hidden -> experts
    let gates: [sk_matrix]  // of each expert, hidden -> feedForward
    let ups: [sk_matrix]  // as gates
    let downs: [sk_matrix]  // of each expert, feedForward -> hidden
}

struct HeadWeights {
    let norm: UnsafePointer<Float>  // [hidden]
    let output: Projection  // hidden -> vocabulary
    let bias: UnsafePointer<Float>?  // [vocabulary]
}

/// Matrices with the same input, multiplied in one run of the pool; their outputs lie side by side.
struct Projection {
    let matrices: [sk_matrix]
    /// Inputs.
    let columns: Int
    /// Outputs of all matrices.
    let width: Int
    /// The forms in which the matrices take their input: one, or two where a file mixes float and quantised types.
    let kinds: [sk_activation_kind]

    init(_ matrices: [sk_matrix]) {
        self.matrices = matrices
        columns = Int(matrices[0].columns)
        width = matrices.reduce(0) { $0 + Int($1.rows) }
        let used = Set(matrices.map { sk_type_activation($0.type).rawValue })
        kinds = used.sorted().map { sk_activation_kind(rawValue: $0) }
    }
}

// MARK: - Places

private struct LayerPlaces {
    let attentionNorm: WeightLayout.VectorPlace
    let qkv: [WeightLayout.MatrixPlace]
    let qkvBias: WeightLayout.VectorPlace?
    let attentionOutput: WeightLayout.MatrixPlace
    let attentionOutputBias: WeightLayout.VectorPlace?
    let feedForwardNorm: WeightLayout.VectorPlace
    let feedForward: FeedForward

    enum FeedForward {
        typealias Place = WeightLayout.MatrixPlace
        case dense(gate: Place, up: Place, down: Place)
        case experts(router: Place, gates: [Place], ups: [Place], downs: [Place])
    }

    init(_ wanted: ModelTensors.WantedLayer, layout: inout WeightLayout) throws(EngineError) {
        attentionNorm = try layout.vector(wanted.attentionNorm)
        qkv = [try layout.matrix(wanted.query), try layout.matrix(wanted.key), try layout.matrix(wanted.value)]
        qkvBias = wanted.qkvBias.isEmpty ? nil : try layout.vector(wanted.qkvBias)
        attentionOutput = try layout.matrix(wanted.attentionOutput)
        attentionOutputBias = if let bias = wanted.attentionOutputBias { try layout.vector(bias) } else { nil }
        feedForwardNorm = try layout.vector(wanted.feedForwardNorm)
        switch wanted.feedForward {
        case .dense(let gate, let up, let down):
            feedForward = .dense(gate: try layout.matrix(gate), up: try layout.matrix(up), down: try layout.matrix(down))
        case .experts(let router, let gates, let ups, let downs):
            let places = (
                router: try layout.matrix(router), gates: try layout.experts(gates), ups: try layout.experts(ups), downs: try layout.experts(downs)
            )
            try Self.checkKinds(places.gates + places.ups, [gates.name, ups.name])
            try Self.checkKinds(places.downs, [downs.name])
            feedForward = .experts(router: places.router, gates: places.gates, ups: places.ups, downs: places.downs)
        }
    }

    /// A row is quantised once for all experts, so their formats must take it in one form.
    private static func checkKinds(_ places: [WeightLayout.MatrixPlace], _ names: [String]) throws(EngineError) {
        let kinds = Set(places.map { sk_type_activation($0.type).rawValue })
        guard kinds.count > 1 else { return }
        throw EngineError(
            .unsupportedType,
            "The experts in \(names.joined(separator: " and ")) are stored in formats that take their input in different forms. Quantise the model anew, with one format for these matrices."
        )
    }
}

/// The places of a whole slice. `unit` is an index into `layouts`.
private struct Places {
    private(set) var layouts: [WeightLayout] = []
    private(set) var embedding: (unit: Int, matrix: WeightLayout.MatrixPlace)?
    private(set) var layers: [(unit: Int, places: LayerPlaces)] = []
    /// Without a matrix where the embedding is the head.
    private(set) var head: (unit: Int, norm: WeightLayout.VectorPlace, matrix: WeightLayout.MatrixPlace?, bias: WeightLayout.VectorPlace?)?

    var byteCount: Int { layouts.reduce(0) { $0 + $1.byteCount } }

    init(file: any ModelSource, model: ModelConfiguration, slice: StageSlice) throws(EngineError) {
        try slice.check(model)
        if slice.hasEmbedding || (slice.hasHead && model.tiedHead) {
            var layout = WeightLayout(.embedding, source: file)
            let matrix = try layout.matrix(ModelTensors.wantedEmbedding(model))
            embedding = (add(layout), matrix)
        }
        for layer in slice.layers {
            var layout = WeightLayout(.layer(layer), source: file)
            let places = try LayerPlaces(ModelTensors.WantedLayer(layer, model), layout: &layout)
            layers.append((add(layout), places))
        }
        if slice.hasHead {
            var layout = WeightLayout(.head, source: file)
            let norm = try layout.vector(ModelTensors.wantedOutputNorm(model))
            let matrix = model.tiedHead ? nil : try layout.matrix(ModelTensors.wantedHead(model))
            let bias = model.headBias ? try layout.vector(ModelTensors.wantedHeadBias(model)) : nil
            head = (add(layout), norm, matrix, bias)
        }
    }

    private mutating func add(_ layout: WeightLayout) -> Int {
        layouts.append(layout)
        return layouts.count - 1
    }
}
