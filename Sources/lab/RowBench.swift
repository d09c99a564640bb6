import CKernels
import Engine
import ModelFiles

/// Everything of a forward pass that is neither a product nor attention, by the row, at the 72B shape, and the drawing of tokens.
final class RowBench {
    /// One thing measured. Bytes are those of floats and quants that it reads and writes.
    struct Piece {
        var name: String
        var rows: Int
        var bytesPerRow: Int
        var run: () -> Void
    }

    struct Result: Codable {
        var name: String
        var rows: Int
        var secondsPerRow: Spread
        var bytesPerSecond: Spread
    }

    private static let hidden = DecodePieces.hidden, feed = DecodePieces.feed, vocabulary = DecodePieces.vocabulary
    private static let heads = DecodePieces.heads, headWidth = DecodePieces.headWidth
    /// One measurement takes at least about so long.
    private static let secondsMin = 0.002

    private let pool: ComputePool
    private let table: OpaquePointer
    private let instructionSet: InstructionSet
    private let rowsMax: Int
    private let x: BenchMemory, y: BenchMemory, weight: BenchMemory, quantised: BenchMemory
    private let cosines: BenchMemory, sines: BenchMemory
    private let peaked: BenchMemory, flat: BenchMemory
    private let positions: [Int32]
    private let norm: sk_norm

    init(pool: ComputePool, instructionSet: InstructionSet, rowsMax: Int) {
        self.pool = pool
        self.instructionSet = instructionSet
        self.rowsMax = rowsMax
        table = instructionSet.table
        x = BenchMemory(floats: rowsMax * 2 * Self.feed, seed: 1)
        y = BenchMemory(floats: rowsMax * Self.feed, seed: 2)
        weight = BenchMemory(floats: Self.feed, seed: 3)
        quantised = BenchMemory(byteCount: rowsMax * sk_activation_bytes(SK_ACTIVATION_Q8_32, Int32(Self.feed)))
        cosines = BenchMemory(floats: rowsMax * Self.headWidth, seed: 4)
        sines = BenchMemory(floats: rowsMax * Self.headWidth, seed: 5)
        positions = Array(0..<Int32(rowsMax))
        norm = sk_norm(kind: SK_NORM_RMS, epsilon: 1e-6, weight: weight.floats, bias: nil)
        // A row of deviation 1 has thousands of tokens that count; one with a few large logits has a handful.
        flat = BenchMemory(floats: Self.vocabulary, seed: 6)
        peaked = BenchMemory(floats: Self.vocabulary, seed: 7)
        for rank in 0..<8 { peaked.floats[rank * 18_000 + 77] = 22 - 2 * Float(rank) }
    }

    // MARK: Pieces

    /// Norms, RoPE, quantising, gates and residuals of `rows` rows.
    func rowPieces(rows: Int) -> [Piece] {
        let (hidden, feed) = (Self.hidden, Self.feed), count = Int32(rows), floatBytes = 4 * hidden
        let (q32, q256) = (sk_activation_bytes(SK_ACTIVATION_Q8_32, Int32(hidden)), sk_activation_bytes(SK_ACTIVATION_Q8_256, Int32(hidden)))
        func piece(_ name: String, _ bytes: Int, _ run: @escaping (OpaquePointer?, OpaquePointer?) -> Void) -> Piece {
            Piece(name: name, rows: rows, bytesPerRow: bytes) { [self] in run(table, pool.handle) }
        }
        return [
            piece("RMS norm, \(hidden)", 2 * floatBytes) { [self] table, pool in
                withUnsafePointer(to: norm) { sk_normalise(table, pool, $0, x.floats, hidden, count, Int32(hidden), y.floats, hidden) }
            },
            piece("norm and quantising, \(hidden)", 2 * floatBytes + q32) { [self] table, pool in
                withUnsafePointer(to: norm) {
                    sk_normalise_quantise(
                        table, pool, $0, x.floats, hidden, count, Int32(hidden), y.floats, hidden, SK_ACTIVATION_Q8_32, quantised.base)
                }
            },
            piece("quantising in blocks of 32, \(hidden)", floatBytes + q32) { [self] table, pool in
                sk_quantise(table, pool, SK_ACTIVATION_Q8_32, x.floats, hidden, count, Int32(hidden), quantised.base)
            },
            piece("quantising in blocks of 256, \(hidden)", floatBytes + q256) { [self] table, pool in
                sk_quantise(table, pool, SK_ACTIVATION_Q8_256, x.floats, hidden, count, Int32(hidden), quantised.base)
            },
            piece("RoPE in halves, \(Self.heads) heads of \(Self.headWidth)", 2 * floatBytes) { [self] _, _ in turn(SK_ROPE_HALVES, count) },
            piece("RoPE in pairs, \(Self.heads) heads of \(Self.headWidth)", 2 * floatBytes) { [self] _, _ in turn(SK_ROPE_ADJACENT, count) },
            piece("silu · up and quantising, \(feed)", 12 * feed + sk_activation_bytes(SK_ACTIVATION_Q8_32, Int32(feed))) { [self] table, pool in
                sk_gate(
                    table, pool, SK_FUNCTION_SILU, x.floats, x.floats + feed, 2 * feed, count, Int32(feed), y.floats, feed, SK_ACTIVATION_Q8_32,
                    quantised.base)
            },
            piece("adding to the residual, \(hidden)", 3 * floatBytes) { [self] table, pool in
                sk_add(table, pool, y.floats, hidden, weight.floats, 0, count, Int32(hidden))
            },
        ]
    }

    private func turn(_ pairing: sk_rope_pairing, _ rows: Int32) {
        sk_rope(
            table, pool.handle, pairing, x.floats, Self.hidden, rows, Int32(Self.heads), Int32(Self.headWidth), Int32(Self.headWidth), positions,
            cosines.floats, sines.floats)
    }

    /// One token from a row of 152,064 logits, by the engine's sampler on one thread.
    func draws() -> [Piece] {
        let probe = SamplingProbe(vocabulary: Self.vocabulary, instructionSet: instructionSet)
        let settings: [(String, SamplingSettings)] = [
            ("greedy", .greedy), ("temperature 0.8", SamplingSettings(temperature: 0.8)), ("top-k 50", SamplingSettings(temperature: 0.8, topK: 50)),
            ("top-p 0.95", SamplingSettings(temperature: 0.8, topP: 0.95)), ("min-p 0.05", SamplingSettings(temperature: 0.8, minP: 0.05)),
            ("repetition 1.1", SamplingSettings(temperature: 0.8, topP: 0.95, repetitionPenalty: 1.1)),
        ]
        return settings.flatMap { name, settings in
            [("peaked", peaked), ("flat", flat)].map { row, logits in
                let draw = probe.draws(settings)
                return Piece(name: "draw, \(row) row, \(name)", rows: 1, bytesPerRow: 4 * Self.vocabulary) {
                    precondition(draw(logits.floats) != nil, "the logits are finite")
                }
            }
        }
    }

    // MARK: Measuring

    func measure(_ piece: Piece, rounds: Int, clock: Stopwatch) -> Result {
        piece.run()
        let threads = piece.rows == 1 ? 1 : pool.threads
        let once = clock.seconds(threads: threads) { piece.run() }
        let calls = max(1, min(10_000, Int(Self.secondsMin / max(once, 1e-9))))
        let times = (0..<rounds).map { _ in
            clock.seconds(threads: threads) { for _ in 0..<calls { piece.run() } } / Double(calls * piece.rows)
        }
        return Result(
            name: piece.name, rows: piece.rows, secondsPerRow: Spread(times), bytesPerSecond: Spread(times.map { Double(piece.bytesPerRow) / $0 }))
    }
}
