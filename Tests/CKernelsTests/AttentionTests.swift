import CKernels
import Foundation
import Testing

/// One sequence's queries, keys and values, its block table, and KV memory shared with others.
struct AttentionCase {
    var heads: Int
    var kvHeads: Int
    var headDim: Int
    var type = SK_KV_F16
    var window = 0
    var positions: Int

    var q: [Float] = []  // [positions, heads * headDim]
    var k: [Float] = []  // [positions, kvHeads * headDim]
    var v: [Float] = []
    var blocks: [Int32] = []
    var blockCount = 0

    init(heads: Int, kvHeads: Int, headDim: Int, positions: Int, type: sk_kv_type = SK_KV_F16, window: Int = 0, seed: UInt64) {
        (self.heads, self.kvHeads, self.headDim, self.positions, self.type, self.window) = (heads, kvHeads, headDim, positions, type, window)
        var generator = SeededGenerator(seed: seed)
        q = generator.ordinary(positions * heads * headDim)
        k = generator.ordinary(positions * kvHeads * headDim)
        v = generator.ordinary(positions * kvHeads * headDim)
        blockCount = (positions + 31) / 32 + 3
        // Blocks lie in any order and not side by side.
        blocks = Array((0..<Int32(blockCount)).shuffled(using: &generator).prefix((positions + 31) / 32))
    }

    /// Memory of all blocks; what was never written is NaN, so that reading it would show.
    func memory() -> Aligned<UInt8> {
        Aligned<UInt8>(blockCount * sk_kv_block_bytes(type, Int32(kvHeads), Int32(headDim)), fill: 0xff)
    }

    func kv(_ memory: Aligned<UInt8>) -> sk_kv {
        sk_kv(type: type, kv_heads: Int32(kvHeads), head_dim: Int32(headDim), base: memory.pointer,
              stride: sk_kv_block_bytes(type, Int32(kvHeads), Int32(headDim)))
    }

    /// Feeds the sequence in pieces of these lengths, as steps of an engine would, and returns [positions, heads * headDim].
    func run(_ variant: Variant, pieces: [Int], pool: OpaquePointer? = nil, memory: Aligned<UInt8>? = nil) -> [Float] {
        let memory = memory ?? self.memory(), width = heads * headDim, kvWidth = kvHeads * headDim
        var attention = sk_attention(kv: kv(memory), heads: Int32(heads), scale: 0.125, window: Int32(window))
        var out = [Float](repeating: .nan, count: positions * width), first = 0
        for rows in pieces {
            blocks.withUnsafeBufferPointer { table in
                var span = sk_span(blocks: table.baseAddress!, first_position: Int32(first), first_row: Int32(first), rows: Int32(rows))
                sk_kv_write(variant.kernels, pool, &attention.kv, &span, 1, k, kvWidth, v, kvWidth)
                let threads = pool.map { sk_pool_threads($0) } ?? 1
                let workspace = Aligned<UInt8>(sk_attention_workspace_bytes(&attention, &span, 1, threads), fill: 0xff)
                sk_attend(variant.kernels, pool, &attention, &span, 1, q, width, &out, width, workspace.pointer)
            }
            first += rows
        }
        precondition(first == positions)
        return out
    }

    /// What KV memory keeps of one head's keys or values at one position: each dimension, and for Q8 the scale of its block (else 1).
    private func stored(_ x: ArraySlice<Float>) -> (values: [Float], scales: [Float]) {
        func checked(_ x: Float) -> Float { x.isFinite ? x : .nan }
        switch type {
        case SK_KV_F32: return (x.map(checked), x.map { _ in 1 })
        case SK_KV_F16: return (x.map { checked(Float(Float16($0))) }, x.map { _ in 1 })
        default:
            var values: [Float] = [], scales: [Float] = []
            for start in stride(from: x.startIndex, to: x.endIndex, by: 32) {
                let block = x[start..<min(start + 32, x.endIndex)], largest = block.map(\.magnitude).max()!
                let counts = block.allSatisfy(\.isFinite) && largest >= 0x1p-100
                let scale = counts ? Float(bitPattern: ((largest / 127).bitPattern + 0xffff) & 0xffff_0000) : block.allSatisfy(\.isFinite) ? 0 : .nan
                values += block.map { counts ? ($0 * (1 / scale)).rounded(.toNearestOrEven) : 0 }
                scales += block.map { _ in scale }
            }
            return (values, scales)
        }
    }

    private func contractScore(_ key: (values: [Float], scales: [Float]), _ query: ArraySlice<Float>) -> Float {
        let query = Array(query)
        guard type == SK_KV_Q8 else { return (0..<headDim).reduce(Float(0)) { $0.addingProduct(key.values[$1], query[$1]) } * 0.125 }
        return stride(from: 0, to: headDim, by: 32).reduce(Float(0)) { score, start in
            let dot = (start..<min(start + 32, headDim)).reduce(Float(0)) { $0.addingProduct(key.values[$1], query[$1]) }
            return score.addingProduct(key.scales[start], dot)
        } * 0.125
    }

    /// The rule of the header for one row and head, one number at a time.
    func contractRow(_ position: Int, head: Int) -> [Float] {
        let kvHead = head / (heads / kvHeads), low = window > 0 ? max(0, position + 1 - window) : 0
        let query = q[(position * heads + head) * headDim..<(position * heads + head + 1) * headDim]
        func at(_ x: [Float], _ p: Int) -> (values: [Float], scales: [Float]) {
            stored(x[(p * kvHeads + kvHead) * headDim..<(p * kvHeads + kvHead + 1) * headDim])
        }
        var state: (m: Float, l: Float, v: [Float])?
        for chunk in low / 256...position / 256 {
            let visible = max(low, chunk * 256)...min(position, chunk * 256 + 255)
            var e = [Float](repeating: 0, count: 256)
            let scores = visible.map { contractScore(at(k, $0), query) }
            let m = scores.reduce(-Float.infinity) { $1 > $0 ? $1 : $0 }
            for (p, score) in zip(visible, scores) { e[p - chunk * 256] = contractExp(score - m) }
            let l = contractSum(e) { $0 + $1 }
            var values = [Float](repeating: 0, count: headDim)
            for p in visible {
                let value = at(v, p)
                for d in 0..<headDim { values[d] = values[d].addingProduct(e[p - chunk * 256] * value.scales[d], value.values[d]) }
            }
            guard let before = state else {
                state = (m, l, values)
                continue
            }
            let top = m > before.m ? m : before.m, f = contractExp(before.m - top), g = contractExp(m - top)
            state = (top, (l * g).addingProduct(before.l, f), zip(before.v, values).map { ($1 * g).addingProduct($0, f) })
        }
        let r = 1 / state!.l
        return state!.v.map { $0 * r }
    }

    private func contractExp(_ x: Float) -> Float {
        var y: Float = 0
        withUnsafePointer(to: x) { sk_apply(Variant.plain.kernels, SK_FUNCTION_EXP, $0, &y, 1) }
        return y
    }
}

@Suite struct AttentionTests {
    static let cases: [AttentionCase] = [
        AttentionCase(heads: 9, kvHeads: 3, headDim: 64, positions: 300, seed: 81),
        AttentionCase(heads: 8, kvHeads: 1, headDim: 128, positions: 270, type: SK_KV_F32, seed: 82),
        AttentionCase(heads: 2, kvHeads: 2, headDim: 96, positions: 530, seed: 83),
        AttentionCase(heads: 3, kvHeads: 1, headDim: 72, positions: 70, type: SK_KV_F32, seed: 84),
        AttentionCase(heads: 4, kvHeads: 2, headDim: 16, positions: 600, window: 100, seed: 85),
        AttentionCase(heads: 6, kvHeads: 1, headDim: 32, positions: 520, type: SK_KV_F32, window: 1, seed: 86),
        AttentionCase(heads: 5, kvHeads: 1, headDim: 40, positions: 560, window: 257, seed: 87),
        AttentionCase(heads: 40, kvHeads: 1, headDim: 8, positions: 40, seed: 88),
        AttentionCase(heads: 9, kvHeads: 3, headDim: 64, positions: 300, type: SK_KV_Q8, seed: 93),
        AttentionCase(heads: 8, kvHeads: 1, headDim: 128, positions: 270, type: SK_KV_Q8, seed: 94),
        AttentionCase(heads: 5, kvHeads: 1, headDim: 25, positions: 560, type: SK_KV_Q8, window: 257, seed: 95),
        AttentionCase(heads: 7, kvHeads: 1, headDim: 72, positions: 290, type: SK_KV_Q8, seed: 96),
        AttentionCase(heads: 2, kvHeads: 2, headDim: 1, positions: 270, type: SK_KV_Q8, window: 3, seed: 97),
        AttentionCase(heads: 11, kvHeads: 1, headDim: 33, positions: 530, seed: 98),
        AttentionCase(heads: 6, kvHeads: 2, headDim: 25, positions: 45, type: SK_KV_F32, seed: 99),
    ]

    @Test(arguments: cases.indices)
    func followsTheContract(index: Int) {
        let c = Self.cases[index], width = c.heads * c.headDim
        let out = c.run(.portable, pieces: [c.positions])
        let rows = Set([0, 1, 15, 16, 31, 32, 69, 255, 256, 257, 299, 511, 512, 519, c.positions - 1]).filter { $0 < c.positions }
        for row in rows {
            for head in [0, c.heads - 1] {
                let got = Array(out[row * width + head * c.headDim..<row * width + (head + 1) * c.headDim])
                #expect(bits(got) == bits(c.contractRow(row, head: head)), "row \(row) head \(head)")
            }
        }
    }

    @Test(arguments: cases.indices, Variant.faster)
    func equalsPlainCInEveryBit(index: Int, variant: Variant) {
        let c = Self.cases[index], memory = c.memory(), plainMemory = c.memory()
        let out = c.run(variant, pieces: [c.positions], memory: memory)
        #expect(bits(out) == bits(c.run(.plain, pieces: [c.positions], memory: plainMemory)))
        #expect(memory.values == plainMemory.values, "the KV memory itself")
    }

    @Test(arguments: cases.indices)
    func decodeAndPrefillInAnyPiecesAreOne(index: Int) {
        let c = Self.cases[index], wholeMemory = c.memory()
        var generator = SeededGenerator(seed: 89)
        let whole = bits(c.run(.best, pieces: [c.positions], memory: wholeMemory))
        var random = [Int]()
        while random.reduce(0, +) < c.positions { random.append(min(Int.random(in: 1...90, using: &generator), c.positions - random.reduce(0, +))) }
        for pieces in [Array(repeating: 1, count: c.positions), random, [c.positions - 1, 1]] {
            let memory = c.memory()
            #expect(bits(c.run(.best, pieces: pieces, memory: memory)) == whole, "\(pieces.prefix(20)) …")
            #expect(memory.values == wholeMemory.values, "KV written by decode is KV written by prefill")
        }
    }

    /// With few rows and several threads chunks become work of their own; with many rows they do not.
    @Test(arguments: cases.indices)
    func threadsChangeNothing(index: Int) throws {
        let c = Self.cases[index]
        let expected = bits(c.run(.best, pieces: [c.positions]))
        for threads in 2...4 {
            let pool = try #require(sk_pool_create(Int32(threads), nil))
            defer { sk_pool_destroy(pool) }
            for pieces in [[c.positions], [c.positions - 2, 1, 1]] {
                #expect(bits(c.run(.best, pieces: pieces, pool: pool)) == expected, "\(threads) threads, \(pieces)")
            }
        }
    }

    @Test func sequencesOfOneStepDoNotMeet() throws {
        var a = AttentionCase(heads: 6, kvHeads: 2, headDim: 64, positions: 290, seed: 90)
        var b = AttentionCase(heads: 6, kvHeads: 2, headDim: 64, positions: 33, seed: 91)
        let aAlone = bits(a.run(.portable, pieces: [290])), bAlone = bits(b.run(.portable, pieces: [33]))
        // One memory for both: b's blocks come after a's.
        b.blocks = b.blocks.map { $0 + Int32(a.blockCount) }
        a.blockCount += b.blockCount
        let memory = a.memory(), width = 6 * 64, kvWidth = 2 * 64
        let pool = try #require(sk_pool_create(2, nil))
        defer { sk_pool_destroy(pool) }
        for variant in Variant.available {
            var attention = sk_attention(kv: a.kv(memory), heads: 6, scale: 0.125, window: 0)
            var out = [Float](repeating: 0, count: 323 * width)
            a.blocks.withUnsafeBufferPointer { aTable in
                b.blocks.withUnsafeBufferPointer { bTable in
                    let spans = [
                        sk_span(blocks: aTable.baseAddress!, first_position: 0, first_row: 33, rows: 290),
                        sk_span(blocks: bTable.baseAddress!, first_position: 0, first_row: 0, rows: 33),
                    ]
                    sk_kv_write(variant.kernels, pool, &attention.kv, spans, 2, b.k + a.k, kvWidth, b.v + a.v, kvWidth)
                    let workspace = Aligned<UInt8>(sk_attention_workspace_bytes(&attention, spans, 2, 2))
                    sk_attend(variant.kernels, pool, &attention, spans, 2, b.q + a.q, width, &out, width, workspace.pointer)
                }
            }
            #expect(bits(Array(out[..<(33 * width)])) == bAlone && bits(Array(out[(33 * width)...])) == aAlone, "\(variant)")
        }
    }

    /// A value of infinity at a later position must not reach earlier rows of the same prefill, weight zero or not.
    @Test(arguments: Variant.available)
    func laterPositionsAreInvisible(variant: Variant) {
        var c = AttentionCase(heads: 2, kvHeads: 1, headDim: 32, positions: 48, seed: 92)
        let before = bits(c.run(variant, pieces: [48])), width = 64
        for d in 0..<32 {
            c.v[40 * 32 + d] = .infinity
            c.k[41 * 32 + d] = .nan
        }
        let after = bits(c.run(variant, pieces: [48]))
        #expect(after[..<(40 * width)] == before[..<(40 * width)])
        #expect(after[(40 * width)..<(41 * width)].allSatisfy { !Float(bitPattern: $0).isFinite })
    }

    static let types = [SK_KV_F32, SK_KV_F16, SK_KV_Q8]

    /// Whatever can't be kept as a number poisons each row that sees it, and no row before: never a position that is passed over in silence.
    @Test(arguments: types, Variant.available)
    func whatIsNotFinitePoisonsAllRowsThatSeeIt(type: sk_kv_type, variant: Variant) {
        for bad: Float in type == SK_KV_F16 ? [-Float.infinity, 65520] : [Float.nan, -Float.infinity] {
            for isKey in [true, false] {
                var c = AttentionCase(heads: 3, kvHeads: 1, headDim: 40, positions: 300, type: type, seed: 101)
                let width = 3 * 40
                for head in 0..<3 { for row in 0..<300 { c.q[row * width + head * 40 + 33] = Float(head - 1) } }
                let clean = c.run(variant, pieces: [300])
                if isKey { c.k[270 * 40 + 33] = bad } else { c.v[270 * 40 + 33] = bad }
                let out = c.run(variant, pieces: [200, 100])
                #expect(clean.allSatisfy { $0.isFinite })
                #expect(bits(Array(out[..<(270 * width)])) == bits(Array(clean[..<(270 * width)])))
                for row in 270..<300 {
                    for head in 0..<3 {
                        let heads = out[row * width + head * 40..<row * width + (head + 1) * 40]
                        // A key spoils the whole head; a value its dimension, or its block of 32.
                        #expect(isKey ? heads.allSatisfy { $0.isNaN } : heads[heads.startIndex + 33].isNaN, "\(bad) row \(row) head \(head)")
                    }
                }
            }
        }
    }

    /// Keys and values from subnormal to nearly too large, zeros of both signs, blocks of zeros: bits are equal, and Q8 follows its rule.
    @Test(arguments: types)
    func extremesAreTheSameEverywhere(type: sk_kv_type) {
        var generator = SeededGenerator(seed: 102)
        var c = AttentionCase(heads: 4, kvHeads: 2, headDim: 48, positions: 290, type: type, seed: 103)
        let largest: Float = type == SK_KV_F16 ? 60_000 : 1e18
        c.k = generator.hostile(c.k.count).map { max(-largest, min(largest, $0)) }
        c.v = generator.hostile(c.v.count).map { max(-largest, min(largest, $0)) }
        for p in stride(from: 0, to: 290, by: 7) { for d in 0..<48 { c.k[p * 96 + d] = d % 2 == 0 ? 0 : -0.0 } }
        let plainMemory = c.memory(), plain = bits(c.run(.plain, pieces: [290], memory: plainMemory)), width = 4 * 48
        for variant in Variant.faster {
            let memory = c.memory()
            #expect(bits(c.run(variant, pieces: [100, 1, 189], memory: memory)) == plain, "\(variant)")
            #expect(memory.values == plainMemory.values)
        }
        for (row, head) in [(0, 0), (15, 3), (256, 1), (289, 2)] {
            #expect(Array(plain[row * width + head * 48..<row * width + (head + 1) * 48]) == bits(c.contractRow(row, head: head)))
        }
    }

    /// One long sequence among short ones: its chunks are shared out, and nobody's bits change.
    @Test(arguments: types)
    func aMixedBatchIsTheSameOnAnyNumberOfThreads(type: sk_kv_type) throws {
        let lengths = [2100, 3, 40, 257, 1, 600], dim = 24, heads = 4, kvHeads = 2, width = heads * dim, kvWidth = kvHeads * dim
        let alone = lengths.enumerated().map {
            AttentionCase(heads: heads, kvHeads: kvHeads, headDim: dim, positions: $1, type: type, seed: 110 + UInt64($0))
        }
        let rows = [1, 2, 40, 1, 1, 70]  // of the step: the rest was written before
        let blockBytes = sk_kv_block_bytes(type, Int32(kvHeads), Int32(dim))
        let memory = Aligned<UInt8>(alone.reduce(0) { $0 + $1.blockCount } * blockBytes, fill: 0xff)
        var first: Int32 = 0, tables: [[Int32]] = []
        for c in alone {
            tables.append(c.blocks.map { $0 + first })
            first += Int32(c.blockCount)
        }
        let kv = sk_kv(type: type, kv_heads: Int32(kvHeads), head_dim: Int32(dim), base: memory.pointer, stride: blockBytes)
        let table = UnsafeMutablePointer<Int32>.allocate(capacity: 200)
        defer { table.deallocate() }
        var q: [Float] = [], expected: [UInt32] = [], spans: [sk_span] = [], used = 0, row = 0
        for (index, c) in alone.enumerated() {
            for (i, block) in tables[index].enumerated() { table[used + i] = block }
            var all = sk_span(blocks: table + used, first_position: 0, first_row: 0, rows: Int32(c.positions)), view = kv
            sk_kv_write(Variant.best.kernels, nil, &view, &all, 1, c.k, kvWidth, c.v, kvWidth)
            let start = c.positions - rows[index]
            spans.append(sk_span(blocks: table + used, first_position: Int32(start), first_row: Int32(row), rows: Int32(rows[index])))
            q += c.q[(start * width)...]
            expected += bits(Array(c.run(.best, pieces: [c.positions])[(start * width)...]))
            used += tables[index].count
            row += rows[index]
        }
        var attention = sk_attention(kv: kv, heads: Int32(heads), scale: 0.125, window: 0)
        for threads in 1...5 {
            let pool = try #require(sk_pool_create(Int32(threads), nil))
            defer { sk_pool_destroy(pool) }
            for order in [spans, spans.reversed()] {
                let workspace = Aligned<UInt8>(sk_attention_workspace_bytes(&attention, order, 6, Int32(threads)), fill: 0xff)
                var out = [Float](repeating: 0, count: row * width)
                sk_attend(Variant.best.kernels, pool, &attention, order, 6, q, width, &out, width, workspace.pointer)
                #expect(bits(out) == expected, "\(threads) threads")
            }
        }
    }

    @Test func workspaceIsBoundedByThreadsAndContext() {
        let kv = sk_kv(type: SK_KV_F16, kv_heads: 8, head_dim: 128, base: nil, stride: 0)
        var attention = sk_attention(kv: kv, heads: 64, scale: 1, window: 0)
        for (rows, context) in [(1, 32_767), (512, 32_256), (31, 32_000), (512, 0)] {
            for threads in [1, 2, 64] {
                var span = sk_span(blocks: nil, first_position: Int32(context), first_row: 0, rows: Int32(rows))
                let bytes = sk_attention_workspace_bytes(&attention, &span, 1, Int32(threads)), chunks = (context + rows + 255) / 256
                #expect(bytes <= threads * (128 << 10) + 4 * threads * 32 * chunks * 144 * 4, "\(rows) rows, \(threads) threads")
            }
        }
    }

    @Test func agreesWithPlainAttentionInDouble() {
        let c = Self.cases[2], width = c.heads * c.headDim, out = c.run(.portable, pieces: [c.positions])
        for row in [0, 100, 529] {
            for head in 0..<c.heads {
                let base = head * c.headDim
                func half(_ x: Float) -> Double { Double(Float(Float16(x))) }
                let scores = (0...row).map { p in
                    (0..<c.headDim).reduce(0.0) { $0 + half(c.k[p * width + base + $1]) * Double(c.q[row * width + base + $1]) } * 0.125
                }
                let top = scores.max()!, e = scores.map { exp($0 - top) }, sum = e.reduce(0, +)
                for d in stride(from: 0, to: c.headDim, by: 7) {
                    let exact = (0...row).reduce(0.0) { $0 + e[$1] * half(c.v[$1 * width + base + d]) } / sum
                    #expect(abs(Double(out[row * width + base + d]) - exact) < 2e-4)
                }
            }
        }
    }
}

extension Variant {
    static var best: Variant { available.last! }
}
