import CKernels
import Engine
import ModelFiles

/// Measures the products of one tensor type on one pool, each beside the machine's own limit at that moment.
final class KernelBench {
    /// Most packed bytes of a matrix whose size nobody asked for: out of every cache, and soon made.
    static let packedBytesMax = 256 << 20
    private static let activationDeviation: Float = 1

    private let instructionSet: InstructionSet
    private let pool: ComputePool
    private let limits: MachineLimits
    private let rounds: Int
    private let clock: Stopwatch

    init(pool: ComputePool, instructionSet: InstructionSet, rounds: Int, clock: Stopwatch) throws {
        self.clock = clock
        self.pool = pool
        self.instructionSet = instructionSet
        self.rounds = rounds
        limits = try MachineLimits(pool: pool, instructionSet: instructionSet, clock: clock)
    }

    // MARK: Figures

    struct Result: Codable {
        var type: String
        var rows: Int
        var columns: Int
        /// Of the whole packed matrix.
        var packedBytes: Int
        var oneColumn: OneColumn
        var manyColumns: ManyColumns
        var curve: [CurvePoint]
    }

    /// Matrix × one column: decoding. `share` is the ratio of the two rates, round by round.
    struct OneColumn: Codable {
        var bytesPerSecond: Spread
        var readBytesPerSecond: Spread
        var share: Spread
    }

    /// Matrix × many columns: prefill. Multiplications and additions both count.
    struct ManyColumns: Codable {
        var rows: Int
        var columns: Int
        var operationsPerSecond: Spread
        var peakOperationsPerSecond: Spread
        var share: Spread
    }

    /// The time of so many columns over that of one, measured just before.
    struct CurvePoint: Codable {
        var columns: Int
        var time: Spread
    }

    /// Seconds that one run of the pool takes without work.
    func barrierSeconds() -> Spread {
        let runs = 2_000
        let handle = pool.handle
        return Spread(
            (0..<rounds).map { _ in
                seconds { for _ in 0..<runs { sk_pool_run_each(handle, { _, _, _ in }, nil) } } / Double(runs)
            })
    }

    func measure(_ type: TensorType, rows: Int?, columns: Int, prefillColumns: Int, curve: [Int]) throws -> Result {
        let rowBytes = type.rowBytes(columns: columns)
        let fitting = max(16, min(29_568, Self.packedBytesMax / rowBytes) / 16 * 16)
        let matrix = PackedMatrix(type: type, rows: rows ?? fitting, columns: columns)
        let product = BenchProduct(
            matrix, batchMax: max(prefillColumns, curve.max() ?? 1), deviation: Self.activationDeviation, pool: pool, instructionSet: instructionSet)
        product.run(columns: 1)
        return Result(
            type: type.name, rows: matrix.rows, columns: columns, packedBytes: matrix.byteCount, oneColumn: oneColumn(product),
            manyColumns: manyColumns(product, columns: prefillColumns), curve: curve.map { curvePoint(product, columns: $0) })
    }

    private func oneColumn(_ product: BenchProduct) -> OneColumn {
        var rates: [Double] = []
        var bounds: [Double] = []
        var shares: [Double] = []
        var before = limits.readBytesPerSecond()
        for _ in 0..<(2 * rounds) {
            let rate = Double(product.matrix.byteCount) / seconds { product.run(columns: 1) }
            let after = limits.readBytesPerSecond()
            let bound = (before + after) / 2
            rates.append(rate)
            bounds.append(bound)
            shares.append(rate / bound)
            before = after
        }
        return OneColumn(bytesPerSecond: Spread(rates), readBytesPerSecond: Spread(bounds), share: Spread(shares))
    }

    private func seconds(_ body: () -> Void) -> Double { clock.seconds(threads: pool.threads, body) }

    /// A part of the rows is enough: the more columns, the less the weights' place in memory matters.
    private static let prefillRowsMax = 8192

    private func manyColumns(_ product: BenchProduct, columns: Int) -> ManyColumns {
        let rows = min(product.matrix.rows, Self.prefillRowsMax)
        let peak: ComputeProbe.Peak = product.matrix.isFloat ? .float32 : .int8
        var rates: [Double] = []
        var bounds: [Double] = []
        var shares: [Double] = []
        var before = limits.peakOperationsPerSecond(peak)
        for _ in 0..<rounds {
            let operations = 2 * Double(rows) * Double(product.matrix.columns) * Double(columns)
            let rate = operations / seconds { product.run(columns: columns, rows: rows) }
            let after = limits.peakOperationsPerSecond(peak)
            let bound = (before + after) / 2
            rates.append(rate)
            bounds.append(bound)
            shares.append(rate / bound)
            before = after
        }
        return ManyColumns(
            rows: rows, columns: columns, operationsPerSecond: Spread(rates), peakOperationsPerSecond: Spread(bounds), share: Spread(shares))
    }

    private func curvePoint(_ product: BenchProduct, columns: Int) -> CurvePoint {
        CurvePoint(
            columns: columns,
            time: Spread(
                (0..<rounds).map { _ in
                    let one = seconds { product.run(columns: 1) }
                    return seconds { product.run(columns: columns) } / one
                }))
    }
}
