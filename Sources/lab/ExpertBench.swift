import Engine
import ModelFiles

/// Measures the products of a layer of experts beside dense ones and the machine's limits, in turn.
final class ExpertBench {
    private let layers: ExpertLayers
    private let limits: MachineLimits
    private let pool: ComputePool
    private let type: TensorType
    private let rounds: Int
    private let clock: Stopwatch
    private var nextLayer = 0
    private static let draws = 16
    /// One measurement takes at least about so long.
    private static let secondsMin = 0.004
    private static let callsMax = 64

    init(_ layers: ExpertLayers, type: TensorType, limits: MachineLimits, pool: ComputePool, rounds: Int, clock: Stopwatch) {
        self.layers = layers
        self.type = type
        self.limits = limits
        self.pool = pool
        self.rounds = rounds
        self.clock = clock
    }

    /// Figures are medians over rounds; ratios and shares are of one round.
    struct Result: Codable {
        var rows: Int
        /// Rows times experts used.
        var activeRows: Int
        /// Different experts of a layer that were chosen, on average.
        var expertsTouched: Double
        var secondsPerActiveRow: Spread
        /// Time of the same products one expert after the other, over that of the grouped ones.
        var oneByOne: Spread
        /// Time of as many rows through one expert alone, over that of the grouped ones: 1 is a dense product's speed per active row.
        var dense: Spread
        /// Time of the whole layer over that of its products.
        var layer: Spread
        /// Packed bytes of the experts touched, a second, over the read bandwidth measured beside.
        var bandwidthShare: Spread
        /// Operations over the peak measured beside.
        var peakShare: Spread
    }

    func measure(rows: Int, seed: UInt64) -> Result {
        let sizes = layers.sizes, active = rows * sizes.used
        var random = BenchRandom(seed: seed &+ UInt64(rows))
        let draws = (0..<Self.draws).map { _ in ExpertDraw(sizes, rows: rows, using: &random) }
        let touched = Double(draws.reduce(0) { $0 + $1.touched }) / Double(Self.draws)
        let operations = 2 * 3 * Double(sizes.hidden) * Double(sizes.width) * Double(active)
        let bytes = touched * Double(layers.expertBytes)
        let once = clock.seconds(threads: pool.threads) { layers.grouped(draws[0], layer: turn()) }
        let calls = max(1, min(Self.callsMax, Int(Self.secondsMin / once)) / Self.draws * Self.draws)

        var times: [Double] = [], oneByOne: [Double] = [], dense: [Double] = [], layer: [Double] = []
        var reads: [Double] = [], peaks: [Double] = []
        for _ in 0..<rounds {
            let read = limits.readBytesPerSecond(), peak = limits.peakOperationsPerSecond(type.isFloat ? .float32 : .int8)
            let time = seconds(calls) { layers.grouped(draws[$0 % Self.draws], layer: turn()) }
            times.append(time / Double(active))
            oneByOne.append(seconds(calls) { layers.oneByOne(draws[$0 % Self.draws], layer: turn()) } / time)
            dense.append(seconds(calls) { layers.dense(rows: active, expert: $0 % sizes.experts, layer: turn()) } / time)
            layer.append(seconds(calls) { _ in layers.whole(rows: rows, layer: turn()) } / time)
            reads.append(bytes / time / ((read + limits.readBytesPerSecond()) / 2))
            peaks.append(operations / time / peak)
        }
        return Result(
            rows: rows, activeRows: active, expertsTouched: touched, secondsPerActiveRow: Spread(times), oneByOne: Spread(oneByOne),
            dense: Spread(dense), layer: Spread(layer), bandwidthShare: Spread(reads), peakShare: Spread(peaks))
    }

    /// The next layer, so that none is in a cache.
    private func turn() -> Int {
        nextLayer = (nextLayer + 1) % layers.layers
        return nextLayer
    }

    private func seconds(_ calls: Int, _ body: (Int) -> Void) -> Double {
        body(0)  // threads that slept are awake
        return clock.seconds(threads: pool.threads) { for call in 0..<calls { body(call) } } / Double(calls)
    }
}
