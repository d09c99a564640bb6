import CKernels
import ModelFiles

/// The weights of one stage, packed for the kernels in one piece of memory.
///
/// Queries and keys keep the row order of the file. Llama and Granite files hold them in pairs of adjacent rows, Qwen2
/// files in halves, and RoPE turns the pairs that `ModelConfiguration.Rope.pairing` names: nothing is permuted here.
///
/// `@unchecked Sendable`, because pointers are not: everything is written before `init` returns and never after.
package final class StageWeights: @unchecked Sendable {
    package let model: ModelConfiguration
    package let slice: StageSlice
    /// Memory that the packed weights take.
    package var byteCount: Int { memory.byteCount }

    /// nil unless the slice has the embedding. Shares its bytes with the head where the model ties them and the stage has both.
    let embedding: sk_matrix?
    let layers: [LayerWeights]
    /// nil unless the slice has the head.
    let head: HeadWeights?
    /// Angle by which RoPE turns pair i per position, scaling included.
    let ropeFrequencies: [Double]
    private let memory: AlignedMemory

    /// Reads and packs the slice from `file` with all threads of `pool`. `progress` is called on the calling thread with
    /// the bytes of the file that were read so far and the bytes to read in all; what it throws ends the loading.
    /// The file is not needed afterwards.
    package init(
        file: GGUFFile, model: ModelConfiguration, slice: StageSlice, pool: ComputePool,
        progress: (_ bytesDone: Int, _ bytesTotal: Int) throws -> Void = { _, _ in }
    ) throws {
        let places = try Places(file: file, model: model, slice: slice)
        let memory = try places.layout.load(pool: pool, progress: progress)
        self.memory = memory
        self.model = model
        self.slice = slice
        embedding = places.embedding.map(memory.matrix)
        layers = places.layers.map { LayerWeights($0, memory: memory) }
        head = places.head.map { HeadWeights(norm: memory.vector($0.norm), output: Projection([memory.matrix($0.matrix)])) }
        ropeFrequencies = Self.ropeFrequencies(file: file, model: model)
    }

    /// The memory that the packed weights of a slice will take; reads no tensor.
    package static func byteCount(file: GGUFFile, model: ModelConfiguration, slice: StageSlice) throws(EngineError) -> Int {
        try Places(file: file, model: model, slice: slice).layout.byteCount
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

    fileprivate init(_ places: LayerPlaces, memory: AlignedMemory) {
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

/// The places of a whole slice.
private struct Places {
    var layout: WeightLayout
    let embedding: WeightLayout.MatrixPlace?
    var layers: [LayerPlaces] = []
    let head: (norm: WeightLayout.VectorPlace, matrix: WeightLayout.MatrixPlace)?

    init(file: GGUFFile, model: ModelConfiguration, slice: StageSlice) throws(EngineError) {
        try slice.check(model)
        layout = WeightLayout(file: file)
        embedding = slice.hasEmbedding
            ? try layout.matrix(ModelTensors.embedding, rows: model.vocabulary, columns: model.hidden) : nil
        for layer in slice.layers {
            layers.append(try LayerPlaces(ModelTensors.layer(layer), model: model, layout: &layout))
        }
        if slice.hasHead {
            let norm = try layout.vector(ModelTensors.outputNorm, count: model.hidden)
            if model.tiedHead, let embedding {
                head = (norm, embedding)
            } else {
                let name = model.tiedHead ? ModelTensors.embedding : ModelTensors.head
                head = (norm, try layout.matrix(name, rows: model.vocabulary, columns: model.hidden))
            }
        } else {
            head = nil
        }
    }
}
