import CKernels
import Testing

@Suite struct ExpertsTests {
    // MARK: Router

    private func route(_ router: sk_router, _ logits: [[Float]], _ variant: Variant = .portable) -> (chosen: [[Int32]], weights: [[Float]]) {
        var router = router
        let used = Int(router.used), flat = Aligned(logits.flatMap { $0 })
        let chosen = Aligned<Int32>(logits.count * used), weights = Aligned<Float>(logits.count * used)
        sk_route(variant.kernels, &router, flat.pointer, Int(router.experts), Int32(logits.count), chosen.pointer, weights.pointer)
        let rows = logits.indices.map { ($0 * used)..<(($0 + 1) * used) }
        return (rows.map { Array(chosen.values[$0]) }, rows.map { Array(weights.values[$0]) })
    }

    @Test func tiesGoToTheLowerIndex() {
        let router = sk_router(kind: SK_ROUTER_TOP_SOFTMAX, experts: 6, used: 3, renormalise: false)
        let (chosen, weights) = route(router, [[1, 2, 2, 0, 2, 1], [0, -0.0, 0, -1, 0, 0], [-1, -1, 5, -1, -1, -1]])
        #expect(chosen == [[1, 2, 4], [0, 1, 2], [2, 0, 1]])
        #expect(weights[0] == [weights[0][0], weights[0][0], weights[0][0]] && abs(weights[0][0] - 1.0 / 3) < 1e-6)
    }

    @Test func bothSpellingsFollowTheHeader() {
        var generator = SeededGenerator(seed: 101)
        for (experts, used) in [(8, 2), (40, 8), (16, 16), (1, 1)] {
            let logits = generator.ordinary(experts).map { $0 * 3 }
            let order = logits.indices.sorted { logits[$0] != logits[$1] ? logits[$0] > logits[$1] : $0 < $1 }.prefix(used)
            let softmax = { (x: [Float]) -> [Float] in
                var out = x
                sk_softmax(Variant.portable.kernels, x, &out, Int32(x.count))
                return out
            }
            let all = softmax(logits), some = order.map { all[$0] }
            let sum = some.dropFirst().reduce(some[0], +)
            for (kind, renormalise, expected) in [
                (SK_ROUTER_SOFTMAX_TOP, false, some), (SK_ROUTER_SOFTMAX_TOP, true, some.map { $0 / sum }),
                (SK_ROUTER_TOP_SOFTMAX, false, softmax(order.map { logits[$0] })),
            ] {
                let router = sk_router(kind: kind, experts: Int32(experts), used: Int32(used), renormalise: renormalise)
                for variant in Variant.available {
                    let (chosen, weights) = route(router, [logits], variant)
                    #expect(chosen == [order.map { Int32($0) }])
                    #expect(bits(weights[0]) == bits(expected), "\(variant) \(experts) experts")
                }
            }
            // The two spellings are the same function of real numbers.
            #expect(zip(some.map { $0 / sum }, softmax(order.map { logits[$0] })).allSatisfy { abs($0 - $1) < 1e-6 })
        }
    }

    @Test func whatIsNotFiniteIsSeen() {
        let router = sk_router(kind: SK_ROUTER_SOFTMAX_TOP, experts: 4, used: 2, renormalise: true)
        for bad in [Float.nan, .infinity, -.infinity] {
            let (chosen, weights) = route(router, [[1, bad, 3, 2]])
            #expect(chosen == [[0, 1]] && weights[0].allSatisfy { $0.isNaN })
        }
    }

    @Test func groupingIsAStableSort() {
        var generator = SeededGenerator(seed: 102)
        for (rows, used, experts) in [(1, 2, 8), (33, 2, 8), (7, 5, 5), (200, 8, 40)] {
            let chosen = (0..<rows).flatMap { _ in Array((Int32(0)..<Int32(experts)).shuffled(using: &generator).prefix(used)) }
            let first = Aligned<Int32>(experts + 1), row = Aligned<Int32>(chosen.count), slot = Aligned<Int32>(chosen.count)
            sk_group_by_expert(chosen, Int32(rows), Int32(used), Int32(experts), first.pointer, row.pointer, slot.pointer)
            let sorted = chosen.indices.sorted { (chosen[$0], $0) < (chosen[$1], $1) }
            #expect(row.values == sorted.map { Int32($0 / used) })
            #expect(sorted.enumerated().allSatisfy { slot.values[$1] == Int32($0) })
            #expect(first.values == (0...experts).map { e in Int32(chosen.filter { $0 < e }.count) })
        }
    }

    // MARK: Layer

    /// A layer of experts with its rows; the types of gates and ups, and of downs.
    private final class Layer {
        let router: sk_router
        let columns = 96
        let rows: Int
        let scale: Float
        let x: [Float]
        private let weight: Aligned<Float>
        private let norm: Aligned<sk_norm>
        private let packed: [Aligned<UInt8>]
        private let routerMatrix: sk_matrix
        private let gates: Aligned<sk_matrix>
        private let ups: Aligned<sk_matrix>
        private let downs: Aligned<sk_matrix>

        init(_ router: sk_router, inner: sk_type, outer: sk_type, rows: Int, scale: Float, using generator: inout SeededGenerator) {
            self.router = router
            self.rows = rows
            self.scale = scale
            let columns = 96, width = 64
            var packed: [Aligned<UInt8>] = []
            func matrix(_ type: sk_type, _ rows: Int, _ columns: Int) -> sk_matrix {
                let file = FileMatrix(type: type, rows: rows, columns: columns, using: &generator)
                packed.append(file.packed())
                return file.matrix(packed.last!)
            }
            routerMatrix = matrix(SK_TYPE_F32, Int(router.experts), columns)
            gates = Aligned((0..<router.experts).map { _ in matrix(inner, width, columns) })
            ups = Aligned((0..<router.experts).map { _ in matrix(inner, width, columns) })
            downs = Aligned((0..<router.experts).map { _ in matrix(outer, columns, width) })
            self.packed = packed
            x = generator.ordinary(rows * columns)
            weight = Aligned(generator.ordinary(columns))
            norm = Aligned([sk_norm(kind: SK_NORM_RMS, epsilon: 1e-5, weight: weight.pointer, bias: nil)])
        }

        /// By the layer's function, of the rows named.
        func result(_ kernels: OpaquePointer, _ pool: OpaquePointer?, rows range: Range<Int>? = nil) -> [Float] {
            let range = range ?? 0..<rows
            let residual = Aligned(Array(x[(range.lowerBound * columns)..<(range.upperBound * columns)]))
            var layer = sk_experts(
                router: router, router_matrix: routerMatrix, gates: gates.pointer, ups: ups.pointer, downs: downs.pointer,
                function: SK_FUNCTION_SILU, x: residual.pointer, ldx: columns, columns: Int32(columns), norm: norm.pointer,
                residual: residual.pointer, ldr: columns, residual_scale: scale)
            let workspace = Aligned<UInt8>(sk_experts_workspace_bytes(&layer, Int32(range.count)))
            sk_feed_experts(kernels, pool, &layer, Int32(range.count), workspace.pointer)
            return residual.values
        }

        /// One row, one expert, one step at a time, as the header says it.
        func reference(_ kernels: OpaquePointer) -> [Float] {
            (0..<rows).flatMap { row in referenceRow(kernels, Array(x[(row * columns)..<((row + 1) * columns)])) }
        }

        private func referenceRow(_ kernels: OpaquePointer, _ x: [Float]) -> [Float] {
            var normed = x
            sk_normalise(kernels, nil, norm.pointer, x, columns, 1, Int32(columns), &normed, columns)
            let logits = product(kernels, routerMatrix, normed)
            var router = router
            var chosen = [Int32](repeating: 0, count: Int(router.used)), weights = [Float](repeating: 0, count: Int(router.used))
            sk_route(kernels, &router, logits, logits.count, 1, &chosen, &weights)
            var y = [Float](repeating: 0, count: columns)
            for (expert, weight) in zip(chosen, weights).sorted(by: { $0.0 < $1.0 }) {
                let gate = product(kernels, gates.pointer[Int(expert)], normed), up = product(kernels, ups.pointer[Int(expert)], normed)
                var silu = gate
                sk_apply(kernels, SK_FUNCTION_SILU, gate, &silu, gate.count)
                let d = product(kernels, downs.pointer[Int(expert)], zip(silu, up).map { $0 * $1 })
                for i in 0..<columns { y[i] = y[i].addingProduct(weight, d[i]) }
            }
            return (0..<columns).map { scale == 1 ? x[$0] + y[$0] : x[$0].addingProduct(scale, y[$0]) }
        }

        private func product(_ kernels: OpaquePointer, _ matrix: sk_matrix, _ x: [Float]) -> [Float] {
            let kind = sk_type_activation(matrix.type)
            let activations = Aligned<UInt8>(sk_activation_bytes(kind, matrix.columns)), out = Aligned<Float>(Int(matrix.rows))
            sk_quantise(kernels, nil, kind, x, x.count, 1, matrix.columns, activations.pointer)
            var product = sk_product(matrix: matrix, activations: activations.pointer, out: out.pointer, ldo: Int(matrix.rows))
            sk_matmul(kernels, nil, &product, 1, 1)
            return out.values
        }
    }

    private static let layers: [(router: sk_router, inner: sk_type, outer: sk_type, scale: Float)] = [
        (sk_router(kind: SK_ROUTER_SOFTMAX_TOP, experts: 8, used: 2, renormalise: true), SK_TYPE_Q4_0, SK_TYPE_Q8_0, 1),
        (sk_router(kind: SK_ROUTER_TOP_SOFTMAX, experts: 40, used: 8, renormalise: false), SK_TYPE_Q4_1, SK_TYPE_F16, 0.22),
        (sk_router(kind: SK_ROUTER_SOFTMAX_TOP, experts: 3, used: 3, renormalise: false), SK_TYPE_BF16, SK_TYPE_Q4_0, 1),
    ]

    @Test(arguments: layers.indices)
    func aLayerFollowsTheHeader(index: Int) throws {
        let (router, inner, outer, scale) = Self.layers[index]
        var generator = SeededGenerator(seed: 110 + UInt64(index))
        for rows in [1, 2, 9, 70] {
            let layer = Layer(router, inner: inner, outer: outer, rows: rows, scale: scale, using: &generator)
            let expected = bits(layer.reference(Variant.plain.kernels))
            for variant in Variant.available {
                #expect(bits(layer.result(variant.kernels, nil)) == expected, "\(variant) \(rows) rows")
            }
            let kernels = Variant.available.last!.kernels
            for threads in [1, 2, 5, 8] {
                let pool = try #require(sk_pool_create(Int32(threads), nil))
                defer { sk_pool_destroy(pool) }
                #expect(bits(layer.result(kernels, pool)) == expected, "\(rows) rows on \(threads) threads")
            }
            let alone = (0..<rows).flatMap { layer.result(kernels, nil, rows: $0..<($0 + 1)) }
            #expect(bits(alone) == expected, "\(rows) rows, one at a time")
        }
    }

    @Test func groupedProductsEqualEachAlone() throws {
        var generator = SeededGenerator(seed: 120)
        // More than one run of the pool takes, some of them empty.
        let batches = (0..<150).map { [0, 1, 5, 17][$0 % 4] }, columns = 64
        let files = batches.map { _ in
            FileMatrix(type: SK_TYPE_Q4_0, rows: Int.random(in: 1...50, using: &generator), columns: columns, using: &generator)
        }
        let packed = files.map { $0.packed() }
        let rowBytes = sk_activation_bytes(SK_ACTIVATION_Q8_32, Int32(columns))
        let inputs = batches.map { Aligned<UInt8>($0 * rowBytes) }, kernels = Variant.available.last!.kernels
        for (input, batch) in zip(inputs, batches) where batch > 0 {
            let x = generator.ordinary(batch * columns)
            sk_quantise(kernels, nil, SK_ACTIVATION_Q8_32, x, columns, Int32(batch), Int32(columns), input.pointer)
        }
        let pool = try #require(sk_pool_create(3, nil))
        defer { sk_pool_destroy(pool) }
        let outs = zip(files, batches).map { Aligned<Float>($0.rows * $1) }, alone = zip(files, batches).map { Aligned<Float>($0.rows * $1) }
        let products = batches.indices.map {
            sk_grouped_product(
                matrix: files[$0].matrix(packed[$0]), activations: inputs[$0].pointer, batch: Int32(batches[$0]), out: outs[$0].pointer,
                ldo: files[$0].rows)
        }
        sk_matmul_grouped(kernels, pool, products, Int32(products.count))
        for i in batches.indices {
            var product = sk_product(matrix: products[i].matrix, activations: inputs[i].pointer, out: alone[i].pointer, ldo: files[i].rows)
            sk_matmul(kernels, nil, &product, 1, Int32(batches[i]))
            #expect(bits(outs[i].values) == bits(alone[i].values), "product \(i)")
        }
    }
}
