import CKernels
import Engine
import Foundation
import ModelFiles

/// A whole model at work on one pool, measured in llama-bench's terms: `pp` is a prompt in one batch, `tg` tokens one by one. Every
/// measurement has the machine's own limit, taken just before, in between and just after, beside it.
final class ModelBench {
    /// Decode steps are measured in pieces about so long, a probe between two: the machine's bandwidth may change at any second.
    private static let pieceSeconds = 0.25

    let weights: StageWeights
    let pool: ComputePool
    let work: ModelWork
    private let stage: Stage
    let limits: MachineLimits
    let kvBytes: Int

    /// `rowsMax`: the most rows of a batch. `blocks`: KV blocks for the largest measurement, see `blocks(sequences:positions:)`.
    init(
        weights: StageWeights, work: ModelWork, threads: Int, kvType: KVType, rowsMax: Int, blocks: Int, instructionSet: InstructionSet
    ) throws {
        self.weights = weights
        self.work = work
        pool = try ComputePool(threads: threads)
        limits = try MachineLimits(pool: pool, instructionSet: instructionSet)
        kvBytes = blocks * Stage.kvBlockBytes(model: weights.model, layers: weights.model.layers, kvType: kvType)
        stage = try Stage(weights: weights, kvBlocks: blocks, kvType: kvType, rowsMax: rowsMax, pool: pool, instructionSet: instructionSet)
    }

    /// KV blocks that `sequences` of so many positions each take.
    static func blocks(sequences: Int, positions: Int) -> Int { sequences * ((positions + Int(SK_KV_BLOCK) - 1) / Int(SK_KV_BLOCK)) }

    // MARK: Prefill

    struct Prefill: Codable {
        var tokens: Int
        var seconds: Double
        var tokensPerSecond: Double
        /// Of the time that the products would take at the peak rate of their types' arithmetic.
        var shareOfPeak: Double
    }

    func prefill(tokens count: Int) throws -> Prefill {
        let idealBefore = work.idealSeconds(rows: count, peak: limits.peakOperationsPerSecond)
        stage.reset()
        let tokens = Self.tokens(count, vocabulary: weights.model.vocabulary, sequence: 0)
        let opening = SequenceOpening(sequence: 0, tokens: tokens, promptLength: count, sampling: .greedy)
        let blocks = (0..<Int32(Self.blocks(sequences: 1, positions: count))).map { $0 }
        let segment = BatchSegment(sequence: 0, start: 0, tokens: tokens, newBlocks: blocks, samples: true)
        let time = try Self.seconds { try expectDraws(stage.run(StageBatch(opens: [opening], segments: [segment])), 1) }
        let ideal = (idealBefore + work.idealSeconds(rows: count, peak: limits.peakOperationsPerSecond)) / 2
        return Prefill(tokens: count, seconds: time, tokensPerSecond: Double(count) / time, shareOfPeak: ideal / time)
    }

    // MARK: Decode

    struct Decode: Codable {
        var sequences: Int
        var steps: Int
        var seconds: Double
        /// Of all sequences together.
        var tokensPerSecond: Double
        /// Weights, keys and values that a step reads, once each, on average.
        var bytesPerStep: Double
        var bytesPerSecond: Double
        /// Mean of the probes between the pieces.
        var readBytesPerSecond: Double
        /// Of the time that reading these bytes would take at the probes' rate; each piece counts with the probes around it.
        var shareOfBandwidth: Double
    }

    /// Sequences that begin with nothing and get one token a step. Tokens are given, so that all runs do the same work, but drawn
    /// as well, as in use.
    func decode(sequences: Int, steps: Int, sampling: SamplingSettings = .greedy) throws -> Decode {
        stage.reset()
        let tokens = (0..<sequences).map { Self.tokens(steps, vocabulary: weights.model.vocabulary, sequence: $0) }
        var time = 0.0
        var ideal = 0.0
        var bytes = 0.0
        var probes = [limits.readBytesPerSecond()]
        var done = 0
        while done < steps {
            let first = done
            let piece = try Self.seconds {
                let start = ContinuousClock().now
                repeat {
                    try step(done, tokens: tokens, sampling: sampling)
                    done += 1
                } while done < steps && (ContinuousClock().now - start) / .seconds(1) < Self.pieceSeconds
            }
            probes.append(limits.readBytesPerSecond())
            let read = (first..<done).reduce(0.0) { $0 + work.bytesRead(sequences: sequences, position: $1) }
            time += piece
            bytes += read
            ideal += read / ((probes[probes.count - 2] + probes[probes.count - 1]) / 2)
        }
        return Decode(
            sequences: sequences, steps: steps, seconds: time, tokensPerSecond: Double(sequences * steps) / time,
            bytesPerStep: bytes / Double(steps), bytesPerSecond: bytes / time, readBytesPerSecond: probes.reduce(0, +) / Double(probes.count),
            shareOfBandwidth: ideal / time)
    }

    private func step(_ position: Int, tokens: [[Int32]], sampling: SamplingSettings) throws {
        var batch = StageBatch(segments: [])
        let blockBegins = position % Int(SK_KV_BLOCK) == 0
        for (sequence, own) in tokens.enumerated() {
            if position == 0 {
                batch.opens.append(
                    SequenceOpening(sequence: UInt64(sequence), tokens: [own[0]], promptLength: 1, sampling: sampling))
            }
            let block = Int32(position / Int(SK_KV_BLOCK) * tokens.count + sequence)
            batch.segments.append(
                BatchSegment(
                    sequence: UInt64(sequence), start: position, tokens: [own[position]], newBlocks: blockBegins ? [block] : [], samples: true))
        }
        try expectDraws(stage.run(batch), tokens.count)
    }

    /// A step in which no token was drawn ended early: its time would flatter.
    private func expectDraws(_ result: StageResult, _ count: Int) throws {
        guard result.samples.count == count else {
            throw EngineError(.badBatch, "\(result.samples.count) of \(count) tokens were drawn: the model's logits are not finite. Measure another file.")
        }
    }

    private static func tokens(_ count: Int, vocabulary: Int, sequence: Int) -> [Int32] {
        (0..<count).map { Int32(($0 * 7919 + sequence * 104_729 + 13) % vocabulary) }
    }

    private static func seconds(_ body: () throws -> Void) rethrows -> Double { try Stopwatch.wall.seconds(threads: 1, body) }
}
