import CKernels
import Engine
import ModelFiles

/// Measures attention over paged keys and values beside the machine's limits, in turn.
final class AttentionBench {
    struct Case: Codable {
        var kv: String
        var heads: Int
        var kvHeads: Int
        var headWidth: Int
        /// Positions before the first row.
        var context: Int
        /// 1: decoding.
        var rows: Int
    }

    /// Figures are medians over rounds; shares are of one round.
    struct Result: Codable {
        var shape: Case
        var secondsPerCall: Spread
        /// Bytes of keys and values that the rows see, once, a second.
        var bytesPerSecond: Spread
        /// Of the read bandwidth measured beside.
        var bandwidthShare: Spread
        /// Multiplications and additions of scores and weighted values.
        var operationsPerSecond: Spread
        /// Of the peak of f32 fused multiply-add measured beside.
        var peakShare: Spread
    }

    /// So many bytes of keys and values that none are still in a cache when their turn comes again.
    private static let bytesMin = 192 << 20
    private static let secondsMin = 0.01

    private let shape: Case
    private let attention: sk_attention
    private let pool: ComputePool
    private let table: OpaquePointer
    private let limits: MachineLimits
    private let clock: Stopwatch
    private let memory: BenchMemory, workspace: BenchMemory, q: BenchMemory, out: BenchMemory
    private let blocks: [[Int32]]
    private var next = 0

    init(_ shape: Case, type: sk_kv_type, limits: MachineLimits, pool: ComputePool, instructionSet: InstructionSet, clock: Stopwatch) {
        self.shape = shape
        self.pool = pool
        self.limits = limits
        self.clock = clock
        table = instructionSet.table
        let width = shape.heads * shape.headWidth, slots = Int(SK_KV_BLOCK)
        let stride = sk_kv_block_bytes(type, Int32(shape.kvHeads), Int32(shape.headWidth))
        let count = (shape.context + shape.rows + slots - 1) / slots
        let copies = (Self.bytesMin + count * stride - 1) / (count * stride)
        memory = BenchMemory(byteCount: copies * count * stride)
        let kv = sk_kv(type: type, kv_heads: Int32(shape.kvHeads), head_dim: Int32(shape.headWidth), base: memory.base, stride: stride)
        attention = sk_attention(kv: kv, heads: Int32(shape.heads), scale: 1 / Float(shape.headWidth).squareRoot(), window: 0)
        q = BenchMemory(floats: shape.rows * width, seed: 11)
        out = BenchMemory(byteCount: 4 * shape.rows * width)
        // Blocks of a sequence lie anywhere, as after some time of serving.
        var random = BenchRandom(seed: 12)
        var places = (0..<Int32(copies * count)).shuffled(using: &random)[...]
        blocks = (0..<copies).map { _ in
            defer { places = places.dropFirst(count) }
            return Array(places.prefix(count))
        }
        var (copy, span) = (attention, sk_span(blocks: nil, first_position: Int32(shape.context), first_row: 0, rows: Int32(shape.rows)))
        workspace = BenchMemory(byteCount: sk_attention_workspace_bytes(&copy, &span, 1, Int32(pool.threads)))
        fill(blocks: copies * count)
    }

    /// One block's worth of random keys and values stands in all of them.
    private func fill(blocks count: Int) {
        let kvWidth = shape.kvHeads * shape.headWidth, slots = Int(SK_KV_BLOCK), stride = attention.kv.stride
        let keys = BenchMemory(floats: slots * kvWidth, seed: 13), values = BenchMemory(floats: slots * kvWidth, seed: 14)
        var kv = attention.kv
        withUnsafePointer(to: Int32(0)) { block in
            var span = sk_span(blocks: block, first_position: 0, first_row: 0, rows: Int32(slots))
            sk_kv_write(table, nil, &kv, &span, 1, keys.floats, kvWidth, values.floats, kvWidth)
        }
        for index in 1..<count { (memory.base + index * stride).copyMemory(from: memory.base, byteCount: stride) }
    }

    private func attend() {
        next = (next + 1) % blocks.count
        let width = shape.heads * shape.headWidth
        blocks[next].withUnsafeBufferPointer { blocks in
            var span = sk_span(blocks: blocks.baseAddress, first_position: Int32(shape.context), first_row: 0, rows: Int32(shape.rows))
            withUnsafePointer(to: attention) { sk_attend(table, pool.handle, $0, &span, 1, q.floats, width, out.floats, width, workspace.base) }
        }
    }

    func measure(rounds: Int) -> Result {
        let visible = Double(shape.context) + Double(shape.rows + 1) / 2  // on average
        let operations = 4 * Double(shape.rows * shape.heads * shape.headWidth) * visible
        let positions = Double((shape.context + shape.rows + Int(SK_KV_BLOCK) - 1) / Int(SK_KV_BLOCK))
        let bytes = positions * Double(attention.kv.stride)
        attend()
        let once = clock.seconds(threads: pool.threads) { attend() }
        let calls = max(1, Int(Self.secondsMin / once))
        var times: [Double] = [], rates: [Double] = [], reads: [Double] = [], speeds: [Double] = [], peaks: [Double] = []
        for _ in 0..<rounds {
            let read = limits.readBytesPerSecond(), peak = limits.peakOperationsPerSecond(.float32)
            let time = clock.seconds(threads: pool.threads) { for _ in 0..<calls { attend() } } / Double(calls)
            times.append(time)
            rates.append(bytes / time)
            reads.append(bytes / time / ((read + limits.readBytesPerSecond()) / 2))
            speeds.append(operations / time)
            peaks.append(operations / time / peak)
        }
        return Result(
            shape: shape, secondsPerCall: Spread(times), bytesPerSecond: Spread(rates), bandwidthShare: Spread(reads),
            operationsPerSecond: Spread(speeds), peakShare: Spread(peaks))
    }
}
