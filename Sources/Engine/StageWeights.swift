import CKernels
import ModelFiles

/// The weights of one stage, packed for the kernels in one piece of memory; immutable once made.
///
/// Queries and keys keep the row order of the file. Llama and Granite files hold them in pairs of adjacent rows, Qwen2
/// files in halves, and RoPE turns the pairs that `ModelConfiguration.Rope.pairing` names: nothing is permuted here.
package final class StageWeights: Sendable {
    package let model: ModelConfiguration
    package let slice: StageSlice
    /// Memory that the packed weights take.
    package let byteCount: Int

    /// nil unless `slice.hasEmbedding`. Shares its bytes with the head where the model ties them and the stage has both.
    let embedding: PackedMatrix?
    let layers: [LayerWeights]
    /// nil unless `slice.hasHead`.
    let head: HeadWeights?
    /// Angle of RoPE's pair i at position 1, after scaling.
    let ropeFrequencies: [Double]

    private let memory: WeightMemory

    /// Reads and packs the slice from `file` with all threads of `pool`. `progress` is called on the calling thread with
    /// the bytes of the file that were read so far and the bytes to read in all; what it throws ends the loading.
    /// The file may be closed afterwards.
    package init(
        file: GGUFFile, model: ModelConfiguration, slice: StageSlice, pool: ComputePool,
        progress: (_ bytesDone: Int, _ bytesTotal: Int) throws -> Void = { _, _ in }
    ) throws {
        try slice.check(model)
        var layout = WeightLayout(file: file, model: model)
        let shared = slice.hasEmbedding && slice.hasHead && model.tiedHead
        let embedding = slice.hasEmbedding || (slice.hasHead && model.tiedHead)
            ? try layout.matrix(ModelTensors.embedding, rows: model.vocabulary, columns: model.hidden) : nil
        let layers = try slice.layers.map { try LayerWeights.Places(layer: $0, layout: &layout) }
        let norm = slice.hasHead ? try layout.vector(ModelTensors.outputNorm, count: model.hidden) : nil
        let output = slice.hasHead && !model.tiedHead
            ? try layout.matrix(ModelTensors.head, rows: model.vocabulary, columns: model.hidden) : embedding
        _ = shared

        let memory = try layout.load(pool: pool, progress: progress)
        self.memory = memory
        self.model = model
        self.slice = slice
        byteCount = memory.byteCount
        self.embedding = slice.hasEmbedding ? embedding.map(memory.matrix) : nil
        self.layers = layers.map { LayerWeights($0, memory: memory) }
        self.head = norm.map { HeadWeights(norm: memory.vector($0), matrix: memory.matrix(output!)) }
        ropeFrequencies = try Self.ropeFrequencies(file: file, model: model)
    }

    /// The memory that the packed weights of a slice will take, from the file's header alone.
    package static func byteCount(file: GGUFFile, model: ModelConfiguration, slice: StageSlice) throws(EngineError) -> Int {
        fatalError()
    }
}
