import CKernels
import ModelFiles

/// The weights of one stage, packed for the kernels, in memory or mapped from the cache.
///
/// Queries and keys keep the row order of the file. Llama and Granite files hold them in pairs of adjacent rows, Qwen2
/// files in halves, and RoPE turns the pairs that `ModelConfiguration.Rope.pairing` names: nothing is permuted here.
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
    let layers: [LayerWeights]
    /// nil unless the slice has the head.
    let head: HeadWeights?
    /// Angle by which RoPE turns pair i per position, scaling included.
    let ropeFrequencies: [Double]
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
    /// Throws `EngineError`, and `ModelFileError` when the file can't be read.
    package init(
        file: GGUFFile, model: ModelConfiguration, slice: StageSlice, pool: ComputePool, cache: PackedCache? = nil, sharing held: Units? = nil,
        placement: WeightPlacement? = nil, progress: (_ bytesDone: Int, _ bytesTotal: Int) throws -> Void = { _, _ in }
    ) throws {
        let places = try Places(file: file, model: model, slice: slice)
        let missing = places.layouts.filter { held?.units[$0.unit] == nil }
        let loader = try WeightLoader(missing, file: file, cache: cache, placement: placement ?? .suiting(pool), pool: pool)
        let loaded = try withoutActuallyEscaping(progress) { try loader.load($0) }
        let own = Dictionary(uniqueKeysWithValues: zip(missing.map(\.unit), loaded.weights))
        let weights = places.layouts.map { own[$0.unit] ?? held!.units[$0.unit]! }
        self.model = model
        self.slice = slice
        self.cache = cache
        byteCount = places.byteCount
        origin = loaded.report
        let units = Dictionary(uniqueKeysWithValues: zip(places.layouts.map(\.unit), weights))
        self.units = units
        let packed = loader.entries.map { entries in loaded.packed.map { (entries[$0], loaded.weights[$0]) } } ?? []
        unkept = packed + (held?.unkept.filter { units[$0.entry.table.unit] != nil } ?? [])
        let tokens = places.embedding.map { weights[$0.unit].matrix($0.matrix) }
        embedding = slice.hasEmbedding ? tokens : nil
        layers = places.layers.map { LayerWeights($0.places, in: weights[$0.unit]) }
        head = places.head.map { head in
            let memory = weights[head.unit]
            return HeadWeights(norm: memory.vector(head.norm), output: Projection([head.matrix.map(memory.matrix) ?? tokens!]))
        }
        ropeFrequencies = Self.ropeFrequencies(file: file, model: model)
    }

    /// The memory that the packed weights of a slice will take; reads no tensor.
    package static func byteCount(file: GGUFFile, model: ModelConfiguration, slice: StageSlice) throws(EngineError) -> Int {
        try Places(file: file, model: model, slice: slice).byteCount
    }

    /// The same by part of the model: each layer, the embedding, and the last norm with the head's matrix, which where it is tied is the
    /// embedding once more.
    package static func byteCounts(file: GGUFFile, model: ModelConfiguration) throws(EngineError) -> (layers: [Int], embedding: Int, head: Int) {
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

    private static func ropeFrequencies(file: GGUFFile, model: ModelConfiguration) -> [Double] {
        let pairs = model.rope.dimensions / 2
        var divisors: [Float]?
        if model.rope.scaling == .divisors { divisors = file.tensor(ModelTensors.ropeDivisors)!.dequantized() }
        var frequencies = [Double](repeating: 0, count: pairs)
        sk_rope_frequencies(model.rope.base, Int32(model.rope.dimensions), divisors, &frequencies)
        if case .linear(let factor) = model.rope.scaling { sk_rope_scale_linear(&frequencies, Int32(pairs), factor) }
        return frequencies
    }
}

/// One layer: h += residualScale Wo attention(rope(Wq n(h)), rope(Wk n(h)), Wv n(h)); h += residualScale Wdown (silu(Wgate n(h)) * Wup n(h)).
struct LayerWeights {
    let attentionNorm: UnsafePointer<Float>  // [hidden]
    let qkv: Projection  // hidden -> queries, keys, values side by side
    let qkvBias: UnsafePointer<Float>?  // [queryWidth + 2 kvWidth]
    let attentionOutput: Projection  // queryWidth -> hidden
    let feedForwardNorm: UnsafePointer<Float>  // [hidden]
    let gateUp: Projection  // hidden -> gates, ups side by side
    let down: Projection  // feedForward -> hidden

    fileprivate init(_ places: LayerPlaces, in memory: WeightBytes) {
        attentionNorm = memory.vector(places.attentionNorm)
        qkv = Projection(places.qkv.map(memory.matrix))
        qkvBias = places.qkvBias.map(memory.vector)
        attentionOutput = Projection([memory.matrix(places.attentionOutput)])
        feedForwardNorm = memory.vector(places.feedForwardNorm)
        gateUp = Projection(places.gateUp.map(memory.matrix))
        down = Projection([memory.matrix(places.down)])
    }
}

struct HeadWeights {
    let norm: UnsafePointer<Float>  // [hidden]
    let output: Projection  // hidden -> vocabulary
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
    let feedForwardNorm: WeightLayout.VectorPlace
    let gateUp: [WeightLayout.MatrixPlace]
    let down: WeightLayout.MatrixPlace

    init(_ names: ModelTensors.LayerTensors, model: ModelConfiguration, layout: inout WeightLayout) throws(EngineError) {
        attentionNorm = try layout.vector(names.attentionNorm, count: model.hidden)
        qkv = [
            try layout.matrix(names.query, rows: model.queryWidth, columns: model.hidden),
            try layout.matrix(names.key, rows: model.kvWidth, columns: model.hidden),
            try layout.matrix(names.value, rows: model.kvWidth, columns: model.hidden),
        ]
        qkvBias = model.qkvBias
            ? try layout.vector([(names.queryBias, model.queryWidth), (names.keyBias, model.kvWidth), (names.valueBias, model.kvWidth)])
            : nil
        attentionOutput = try layout.matrix(names.attentionOutput, rows: model.hidden, columns: model.queryWidth)
        feedForwardNorm = try layout.vector(names.feedForwardNorm, count: model.hidden)
        gateUp = [
            try layout.matrix(names.gate, rows: model.feedForward, columns: model.hidden),
            try layout.matrix(names.up, rows: model.feedForward, columns: model.hidden),
        ]
        down = try layout.matrix(names.down, rows: model.hidden, columns: model.feedForward)
    }
}

/// The places of a whole slice. `unit` is an index into `layouts`.
private struct Places {
    private(set) var layouts: [WeightLayout] = []
    private(set) var embedding: (unit: Int, matrix: WeightLayout.MatrixPlace)?
    private(set) var layers: [(unit: Int, places: LayerPlaces)] = []
    /// Without a matrix where the embedding is the head.
    private(set) var head: (unit: Int, norm: WeightLayout.VectorPlace, matrix: WeightLayout.MatrixPlace?)?

    var byteCount: Int { layouts.reduce(0) { $0 + $1.byteCount } }

    init(file: GGUFFile, model: ModelConfiguration, slice: StageSlice) throws(EngineError) {
        try slice.check(model)
        if slice.hasEmbedding || (slice.hasHead && model.tiedHead) {
            var layout = WeightLayout(.embedding, file: file)
            let matrix = try layout.matrix(ModelTensors.embedding, rows: model.vocabulary, columns: model.hidden)
            embedding = (add(layout), matrix)
        }
        for layer in slice.layers {
            var layout = WeightLayout(.layer(layer), file: file)
            let places = try LayerPlaces(ModelTensors.layer(layer), model: model, layout: &layout)
            layers.append((add(layout), places))
        }
        if slice.hasHead {
            var layout = WeightLayout(.head, file: file)
            let norm = try layout.vector(ModelTensors.outputNorm, count: model.hidden)
            let matrix = model.tiedHead ? nil : try layout.matrix(ModelTensors.head, rows: model.vocabulary, columns: model.hidden)
            head = (add(layout), norm, matrix)
        }
    }

    private mutating func add(_ layout: WeightLayout) -> Int {
        layouts.append(layout)
        return layouts.count - 1
    }
}
