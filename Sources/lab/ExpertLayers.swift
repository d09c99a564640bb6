import CKernels
import Engine
import ModelFiles

/// Layers of experts with random weights, more than a cache holds, and what their products read and write.
final class ExpertLayers {
    let sizes: ExpertShape.Sizes
    /// Packed bytes of one expert's three matrices.
    let expertBytes: Int
    let layers: Int
    private let shape: ExpertShape
    private let table: OpaquePointer
    private let pool: OpaquePointer
    private let memory: BenchMemory
    private let routerMemory: BenchMemory
    private let inputs: BenchMemory, gated: BenchMemory, gateUp: BenchMemory, delta: BenchMemory
    private let x: BenchMemory, weight: BenchMemory
    private let workspace: BenchMemory
    private let inputBytes: Int, gatedBytes: Int
    private var gates: [sk_matrix] = [], ups: [sk_matrix] = [], downs: [sk_matrix] = []  // [layers * experts]

    /// So much memory that no layer is still in a cache when its turn comes again.
    static let bytesMin = 256 << 20

    init(_ shape: ExpertShape, type: TensorType, rowsMax: Int, pool: ComputePool, instructionSet: InstructionSet) {
        self.shape = shape
        sizes = shape.sizes
        table = instructionSet.table
        self.pool = pool.handle
        let kernelType = sk_type(rawValue: UInt32(type.rawValue)), kind = sk_type_activation(kernelType)
        let (hidden, width, slots) = (sizes.hidden, sizes.width, rowsMax * sizes.used)
        let inner = PackedMatrix(type: type, rows: width, columns: hidden), outer = PackedMatrix(type: type, rows: hidden, columns: width)
        let one = [inner, inner, outer]
        expertBytes = one.reduce(0) { $0 + $1.byteCount }
        layers = max(1, (Self.bytesMin + expertBytes * sizes.experts - 1) / (expertBytes * sizes.experts))
        memory = BenchMemory(byteCount: layers * sizes.experts * expertBytes)
        // The same numbers in each expert: what is measured depends on none of them.
        for expert in 0..<(layers * sizes.experts) {
            var place = memory.base + expert * expertBytes
            for (index, source) in one.enumerated() {
                place.copyMemory(from: source.kernelMatrix.packed, byteCount: source.byteCount)
                var matrix = source.kernelMatrix
                matrix.packed = UnsafeRawPointer(place)
                if index == 0 { gates.append(matrix) } else if index == 1 { ups.append(matrix) } else { downs.append(matrix) }
                place += source.byteCount
            }
        }
        inputBytes = sk_activation_bytes(kind, Int32(hidden))
        gatedBytes = sk_activation_bytes(kind, Int32(width))
        inputs = BenchMemory(activations: slots, columns: hidden, kind: kind, instructionSet: instructionSet)
        gated = BenchMemory(activations: slots, columns: width, kind: kind, instructionSet: instructionSet)
        gateUp = BenchMemory(byteCount: 4 * slots * 2 * width)
        delta = BenchMemory(byteCount: 4 * slots * hidden)
        x = BenchMemory(floats: rowsMax * hidden, seed: 5)
        weight = BenchMemory(floats: hidden, seed: 6)
        routerMemory = BenchMemory(byteCount: sk_packed_bytes(SK_TYPE_F32, Int32(sizes.experts), Int32(hidden)))
        let router = BenchMemory(floats: sizes.experts * hidden, seed: 7)
        sk_pack_rows(SK_TYPE_F32, router.base, Int32(sizes.experts), Int32(hidden), routerMemory.base)
        workspace = BenchMemory(byteCount: Self.workspaceBytes(shape, gate: gates[0], down: downs[0], rows: rowsMax))
    }

    private static func workspaceBytes(_ shape: ExpertShape, gate: sk_matrix, down: sk_matrix, rows: Int) -> Int {
        withUnsafePointer(to: gate) { gate in
            withUnsafePointer(to: down) { down in
                var layer = sk_experts()
                layer.router = shape.router
                layer.router_matrix = sk_matrix(type: SK_TYPE_F32, rows: Int32(shape.sizes.experts), columns: Int32(shape.sizes.hidden), packed: nil)
                layer.gates = gate
                layer.downs = down
                layer.columns = Int32(shape.sizes.hidden)
                return sk_experts_workspace_bytes(&layer, Int32(rows))
            }
        }
    }

    // MARK: Products

    /// Of all experts that were drawn, grouped.
    func grouped(_ draw: ExpertDraw, layer: Int) {
        let (first, second) = products(draw.rows, layer: layer)
        sk_matmul_grouped(table, pool, first, Int32(first.count))
        sk_matmul_grouped(table, pool, second, Int32(second.count))
    }

    /// The same, one expert after the other: its gate with its up, then its down.
    func oneByOne(_ draw: ExpertDraw, layer: Int) {
        let (first, second) = products(draw.rows, layer: layer)
        for index in stride(from: 0, to: first.count, by: 2) { run(Array(first[index..<(index + 2)])) }
        for product in second { run([product]) }
    }

    /// One expert's products with so many rows as its batch.
    func dense(rows: Int, expert: Int, layer: Int) {
        var draw = Array(repeating: 0, count: sizes.experts)
        draw[expert] = rows
        let (first, second) = products(draw, layer: layer)
        run(first)
        run(second)
    }

    private func run(_ products: [sk_grouped_product]) {
        let plain = products.map { sk_product(matrix: $0.matrix, activations: $0.activations, out: $0.out, ldo: $0.ldo) }
        sk_matmul(table, pool, plain, Int32(plain.count), products[0].batch)
    }

    /// rows: of each expert.
    private func products(_ rows: [Int], layer: Int) -> (gatesAndUps: [sk_grouped_product], downs: [sk_grouped_product]) {
        let width = sizes.width
        var first: [sk_grouped_product] = [], second: [sk_grouped_product] = []
        var slot = 0
        for (expert, count) in rows.enumerated() where count > 0 {
            let index = layer * sizes.experts + expert, input = inputs.base + slot * inputBytes
            let out = gateUp.floats + slot * 2 * width
            first.append(sk_grouped_product(matrix: gates[index], activations: input, batch: Int32(count), out: out, ldo: 2 * width))
            first.append(sk_grouped_product(matrix: ups[index], activations: input, batch: Int32(count), out: out + width, ldo: 2 * width))
            second.append(
                sk_grouped_product(
                    matrix: downs[index], activations: gated.base + slot * gatedBytes, batch: Int32(count), out: delta.floats + slot * sizes.hidden,
                    ldo: sizes.hidden))
            slot += count
        }
        return (first, second)
    }

    // MARK: Whole layer

    /// Norm, router, grouping, products, gates, quantising and sums, as a model's layer has them. The router's own choice of experts.
    func whole(rows: Int, layer: Int) {
        let start = layer * sizes.experts
        let routerMatrix = sk_matrix(type: SK_TYPE_F32, rows: Int32(sizes.experts), columns: Int32(sizes.hidden), packed: routerMemory.base)
        var norm = sk_norm(kind: SK_NORM_RMS, epsilon: 1e-5, weight: weight.floats, bias: nil)
        gates.withUnsafeBufferPointer { gates in
            ups.withUnsafeBufferPointer { ups in
                downs.withUnsafeBufferPointer { downs in
                    withUnsafePointer(to: &norm) { norm in
                        var experts = sk_experts(
                            router: shape.router,
                            router_matrix: routerMatrix,
                            gates: gates.baseAddress! + start, ups: ups.baseAddress! + start, downs: downs.baseAddress! + start,
                            function: SK_FUNCTION_SILU, x: x.floats, ldx: sizes.hidden, columns: Int32(sizes.hidden), norm: norm,
                            residual: delta.floats, ldr: sizes.hidden, residual_scale: 1)
                        sk_feed_experts(table, pool, &experts, Int32(rows), workspace.base)
                    }
                }
            }
        }
    }
}
