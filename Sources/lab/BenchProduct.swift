import CKernels
import Engine
import ModelFiles

/// A packed matrix with a batch of activations and room for what comes out.
final class BenchProduct {
    let matrix: PackedMatrix
    private let activations: UnsafeMutableRawPointer
    private let out: UnsafeMutablePointer<Float>
    private let pool: ComputePool
    private let table: OpaquePointer

    init(_ matrix: PackedMatrix, batchMax: Int, deviation: Float, pool: ComputePool, instructionSet: InstructionSet) {
        self.matrix = matrix
        self.pool = pool
        table = instructionSet.table
        let kind = sk_type_activation(matrix.kernelMatrix.type)
        let columns = matrix.columns
        activations = .allocate(byteCount: sk_activation_bytes(kind, Int32(columns)) * batchMax, alignment: Int(SK_ALIGNMENT))
        out = .allocate(capacity: matrix.rows * batchMax)
        out.initialize(repeating: 0, count: matrix.rows * batchMax)

        let floats = UnsafeMutableRawBufferPointer.allocate(byteCount: 4 * columns * batchMax, alignment: 64)
        defer { floats.deallocate() }
        SyntheticBlocks(type: .f32, deviation: deviation).fill(floats, seed: 99)
        sk_quantise(
            table, pool.handle, kind, floats.baseAddress!.assumingMemoryBound(to: Float.self), columns, Int32(batchMax), Int32(columns), activations)
    }

    deinit {
        activations.deallocate()
        out.deallocate()
    }

    /// The first `rows` rows (all where nil) times `columns` columns.
    func run(columns: Int, rows: Int? = nil) {
        var part = matrix.kernelMatrix
        if let rows { part.rows = Int32(rows) }
        var product = sk_product(matrix: part, activations: activations, out: out, ldo: matrix.rows)
        sk_matmul(table, pool.handle, &product, 1, Int32(columns))
    }
}
