import CKernels
import Testing

/// A projection equals its parts in turn, in every bit, whoever computes what.
@Suite struct ProjectionTests {
    private struct Case {
        var types: [sk_type]
        var rows: [Int]  // of each matrix
        var columns = 96
        var norm: sk_norm_kind?
        var bias = false
        var gated = false
        var residualScale: Float?
    }

    private static let cases: [Case] = [
        Case(types: [SK_TYPE_Q4_0], rows: [70]),
        Case(types: [SK_TYPE_Q4_1, SK_TYPE_F16, SK_TYPE_Q8_0], rows: [48, 16, 33], norm: SK_NORM_RMS, bias: true),
        Case(types: [SK_TYPE_Q8_0, SK_TYPE_BF16], rows: [83, 83], norm: SK_NORM_RMS, gated: true),
        Case(types: [SK_TYPE_Q4_0, SK_TYPE_Q4_0], rows: [160, 160], norm: SK_NORM_LAYER, bias: true, gated: true),
        Case(types: [SK_TYPE_Q4_1], rows: [133], bias: true, residualScale: 1),
        Case(types: [SK_TYPE_F32], rows: [21], residualScale: 0.22),
    ]

    /// Everything that a case reads, and what it must give.
    private final class World {
        let it: Case
        let batch: Int
        let width: Int
        let matrices: Aligned<sk_matrix>
        let x: Aligned<Float>
        let weight: Aligned<Float>
        let bias: Aligned<Float>
        let residual: [Float]
        let norm: Aligned<sk_norm>
        private let packed: [Aligned<UInt8>]

        init(_ it: Case, batch: Int, using generator: inout SeededGenerator) {
            self.it = it
            self.batch = batch
            width = it.rows.reduce(0, +)
            let files = zip(it.types, it.rows).map { FileMatrix(type: $0, rows: $1, columns: it.columns, using: &generator) }
            packed = files.map { $0.packed() }
            matrices = Aligned(zip(files, packed).map { $0.matrix($1) })
            x = Aligned(generator.ordinary(batch * it.columns))
            weight = Aligned(generator.ordinary(it.columns))
            bias = Aligned(generator.ordinary(width))
            residual = generator.ordinary(batch * width)
            norm = Aligned([sk_norm(kind: it.norm ?? SK_NORM_RMS, epsilon: 1e-5, weight: weight.pointer, bias: nil)])
        }

        /// By the functions of one step each, on one thread.
        func inTurn(_ kernels: OpaquePointer) -> [Float] {
            let columns = Int32(it.columns), rows = Int32(batch)
            let normed = Aligned(x.values), out = Aligned<Float>(batch * width)
            if it.norm != nil {
                sk_normalise(kernels, nil, norm.pointer, x.pointer, it.columns, rows, columns, normed.pointer, it.columns)
            }
            var offset = 0
            for index in 0..<it.rows.count {
                let kind = sk_type_activation(it.types[index])
                let activations = Aligned<UInt8>(batch * sk_activation_bytes(kind, columns))
                sk_quantise(kernels, nil, kind, normed.pointer, it.columns, rows, columns, activations.pointer)
                var product = sk_product(
                    matrix: matrices.pointer[index], activations: activations.pointer, out: out.pointer + offset, ldo: width)
                sk_matmul(kernels, nil, &product, 1, rows)
                offset += it.rows[index]
            }
            if it.bias { sk_add_bias(kernels, nil, out.pointer, width, bias.pointer, rows, Int32(width)) }
            if it.gated {
                sk_gate(
                    kernels, nil, SK_FUNCTION_SILU, out.pointer, out.pointer + it.rows[0], width, rows, Int32(it.rows[0]), out.pointer, width,
                    SK_ACTIVATION_F32, nil)
            }
            return result(out, add: { residual, scale in
                guard let residual else { return }
                if scale == 1 {
                    sk_add(kernels, nil, residual, width, out.pointer, width, rows, Int32(width))
                } else {
                    sk_add_scaled(kernels, nil, residual, width, out.pointer, width, scale, rows, Int32(width))
                }
            })
        }

        func inOne(_ kernels: OpaquePointer, _ pool: OpaquePointer?) -> [Float] {
            let out = Aligned<Float>(batch * width)
            return result(out, add: { residual, scale in
                var projection = sk_projection(
                    x: x.pointer, ldx: it.columns, columns: Int32(it.columns), norm: it.norm == nil ? nil : UnsafePointer(norm.pointer),
                    count: Int32(it.rows.count), matrices: matrices.pointer, out: out.pointer, ldo: width,
                    bias: it.bias ? UnsafePointer(bias.pointer) : nil, gated: it.gated, function: SK_FUNCTION_SILU, residual: residual,
                    ldr: width, residual_scale: scale)
                let threads = pool.map { sk_pool_threads($0) } ?? 1
                let workspace = Aligned<UInt8>(sk_project_workspace_bytes(&projection, Int32(batch), threads))
                sk_project(kernels, pool, &projection, Int32(batch), workspace.pointer)
            })
        }

        /// What the case is about: the residual, the gated half of the outputs, or all of them.
        private func result(_ out: Aligned<Float>, add: (UnsafeMutablePointer<Float>?, Float) -> Void) -> [Float] {
            guard let scale = it.residualScale else {
                add(nil, 1)
                guard it.gated else { return out.values }
                return (0..<batch).flatMap { row in out.values[(row * width)..<(row * width + it.rows[0])] }
            }
            let residual = Aligned(residual)
            add(residual.pointer, scale)
            return residual.values
        }
    }

    @Test(arguments: cases.indices)
    func equalsItsPartsInTurn(index: Int) throws {
        var generator = SeededGenerator(seed: 91 + UInt64(index))
        // One row, few (each thread prepares them for itself) and many (prepared once for all).
        for batch in [1, 3, 42, 60] {
            let world = World(Self.cases[index], batch: batch, using: &generator)
            for variant in Variant.available {
                let expected = bits(world.inTurn(variant.kernels))
                #expect(bits(world.inOne(variant.kernels, nil)) == expected, "\(variant) batch \(batch) without a pool")
                for threads in [1, 2, 3, 8] where variant == Variant.available.last || threads == 3 {
                    let pool = try #require(sk_pool_create(Int32(threads), nil))
                    defer { sk_pool_destroy(pool) }
                    #expect(bits(world.inOne(variant.kernels, pool)) == expected, "\(variant) batch \(batch) on \(threads) threads")
                }
            }
        }
    }

    @Test func sharesCoverEveryGroupOnce() {
        for rows in [1, 16, 17, 100, 576, 8192] {
            var matrix = sk_matrix(type: SK_TYPE_Q8_0, rows: Int32(rows), columns: 32, packed: nil)
            for threads in [1, 2, 3, 7, 64] {
                var next: Int32 = 0
                for thread in 0..<threads {
                    var first: Int32 = -1
                    var last: Int32 = -1
                    sk_matmul_share(&matrix, Int32(thread), Int32(threads), &first, &last)
                    #expect(first == next && last >= first)
                    next = last
                }
                #expect(Int(next) == (rows + 15) / 16, "\(rows) rows on \(threads) threads")
            }
        }
    }
}
