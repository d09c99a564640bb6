import CKernels

/// Draws tokens from logits. This is the one place that says how; all arithmetic is IEEE and in the order given, so the
/// same logits, settings, choice and position give the same token everywhere.
///
/// 1. **Finite**: a NaN or an infinity in the row ends the sequence; no token is drawn.
/// 2. **Log-probabilities**, where asked for, are those of the row as it is: x − log Σ exp(x), the difference in double.
///    Alternatives are ordered by (logit descending, id ascending).
/// 3. **Adjustments** make z of x, in this order, each a rounding of its own:
///    - logit bias: z + bias;
///    - repetition penalty r, tokens of prompt or output: z / r where z > 0, else z · r;
///    - frequency penalty f, tokens that stand n times in the output: z − f · n;
///    - presence penalty p, tokens that stand in the output: z − p;
///    - an adjusted z beyond the largest float becomes that; end tokens become −∞ while fewer than `minTokens` tokens were generated.
/// 4. **Order**: candidates by (z descending, id ascending).
/// 5. **Greedy**, temperature 0: the first candidate.
/// 6. **Temperature**: y = (z − max z) / temperature.
/// 7. **Top-k**: the first k candidates; all where k is 0 or not below the vocabulary.
/// 8. **Softmax** of y over these (`sk_softmax`): in their order where top-k cut, else in the order of ids.
/// 9. **Top-p and min-p**: candidates are kept in order; the first always; each next while the double sum of those before
///    it is below top-p, and while its probability is at least min-p times the first one's. The first that fails ends the row.
/// 10. **Draw**: u in 0..<1 by `Philox` with key = seed and counter = (position, choice); the first candidate at which the
///    double sum of probabilities exceeds u times the mass kept, which counts as 1 where neither top-p nor min-p asks. Where rounding
///    leaves none, the last one of a probability above 0.
final class Sampler {
    /// Most alternatives that are given with a token.
    package static let topLogprobsMax = 20

    private let vocabulary: Int
    private let kernels: OpaquePointer
    private let memory: [UnsafeMutablePointer<Float>]
    private var adjusted: UnsafeMutablePointer<Float> { memory[0] }  // [vocabulary]: z
    private var probabilities: UnsafeMutablePointer<Float> { memory[1] }  // [vocabulary]: by id, or by rank after top-k
    private let order: CandidateOrder

    init(vocabulary: Int, kernels: OpaquePointer) {
        self.vocabulary = vocabulary
        self.kernels = kernels
        order = CandidateOrder(count: vocabulary, kernels: kernels)
        memory = (0..<2).map { _ in UnsafeMutablePointer<Float>.allocate(capacity: vocabulary) }
    }

    deinit { memory.forEach { $0.deallocate() } }

    func isFinite(_ logits: UnsafePointer<Float>) -> Bool { sk_all_finite(kernels, logits, vocabulary) }

    /// The token after the sequence's last position; nil where the logits, f32[vocabulary], are not all finite.
    func draw(logits: UnsafePointer<Float>, for sequence: SequenceState) -> SampledToken? {
        guard isFinite(logits) else { return nil }
        let drawn = token(adjust(logits, for: sequence), for: sequence)
        var sample = SampledToken(token: Int32(drawn), logprob: nil, top: [])
        if let count = sequence.topLogprobs {
            let logSum = sk_log_sum_exp(kernels, logits, Int32(vocabulary))
            sample.logprob = Float(Double(logits[drawn]) - logSum)
            sample.top = likeliest(count, logits).map {
                SampledToken.TokenLogprob(token: Int32($0), logprob: Float(Double(logits[$0]) - logSum))
            }
        }
        return sample
    }

    /// What `draw` would give if no logit behind the first `known` mattered; nil where one of these is not finite. Writes over the others.
    func foretell(logits: UnsafeMutablePointer<Float>, known: Int, for sequence: SequenceState) -> Int32? {
        guard sk_all_finite(kernels, logits, known) else { return nil }
        (logits + known).update(repeating: Self.outOfReach, count: vocabulary - known)
        return Int32(token(adjust(logits, for: sequence), for: sequence))
    }

    /// A logit that is never drawn, and none that overflows where it is divided by a temperature.
    private static let outOfReach: Float = -1e20

    // MARK: Adjustments

    /// z: `logits` itself where nothing changes them.
    private func adjust(_ logits: UnsafePointer<Float>, for sequence: SequenceState) -> UnsafePointer<Float> {
        let settings = sequence.sampling
        let bansEnd = !sequence.endTokens.isEmpty && sequence.tokens.count - sequence.promptLength < settings.minTokens
        guard bansEnd || !settings.logitBias.isEmpty || sequence.counts != nil else { return logits }

        let z = adjusted
        z.update(from: logits, count: vocabulary)
        for entry in settings.logitBias { z[Int(entry.token)] = Self.clamped(z[Int(entry.token)] + entry.bias) }
        if let counts = sequence.counts {
            for entry in counts.entries { z[Int(entry.token)] = Self.penalised(z[Int(entry.token)], entry.inOutput, settings) }
        }
        if bansEnd { for token in sequence.endTokens { z[Int(token)] = -.infinity } }
        return UnsafePointer(z)
    }

    private static func penalised(_ logit: Float, _ countInOutput: Int32, _ settings: SamplingSettings) -> Float {
        var z = logit > 0 ? logit / settings.repetitionPenalty : logit * settings.repetitionPenalty
        if countInOutput > 0 {
            z -= settings.frequencyPenalty * Float(countInOutput)
            z -= settings.presencePenalty
        }
        return clamped(z)
    }

    private static func clamped(_ z: Float) -> Float { min(max(z, -.greatestFiniteMagnitude), .greatestFiniteMagnitude) }

    // MARK: Drawing

    private func token(_ z: UnsafePointer<Float>, for sequence: SequenceState) -> Int {
        let settings = sequence.sampling
        let first = Int(sk_argmax(kernels, z, Int32(vocabulary)))
        if settings.temperature == 0 { return first }

        order.begin(z, largest: z[first])
        let isCut = settings.topK > 0 && settings.topK < vocabulary
        let candidates = isCut ? settings.topK : vocabulary
        if isCut {
            for rank in 0..<candidates { probabilities[rank] = z[order.id(at: rank)] }
            sk_temper(kernels, probabilities, z[first], settings.temperature, probabilities, Int32(candidates))
        } else {
            sk_temper(kernels, z, z[first], settings.temperature, probabilities, Int32(candidates))
        }
        sk_softmax(kernels, probabilities, probabilities, Int32(candidates))

        var kept = candidates
        var mass = 1.0
        if settings.topP < 1 || settings.minP > 0 { (kept, mass) = keep(settings, candidates, isCut) }
        let u = Philox.uniform(seed: settings.seed, choice: sequence.choice, position: sequence.tokens.count)
        return pick(u * mass, kept, isCut)
    }

    /// After top-k the probabilities lie by rank, else by id.
    private func probability(_ rank: Int, _ id: Int, _ isCut: Bool) -> Float { probabilities[isCut ? rank : id] }

    /// How many candidates top-p and min-p keep, and the probability of these together.
    private func keep(_ settings: SamplingSettings, _ candidates: Int, _ isCut: Bool) -> (count: Int, mass: Double) {
        let least = settings.minP * probability(0, order.id(at: 0), isCut)
        var mass = 0.0
        for rank in 0..<candidates {
            let p = probability(rank, order.id(at: rank), isCut)
            if rank > 0, p < least || (settings.topP < 1 && mass >= Double(settings.topP)) { return (rank, mass) }
            mass += Double(p)
        }
        return (candidates, mass)
    }

    private func pick(_ target: Double, _ candidates: Int, _ isCut: Bool) -> Int {
        var sum = 0.0
        var last = order.id(at: 0)
        for rank in 0..<candidates {
            let id = order.id(at: rank)
            let p = probability(rank, id, isCut)
            guard p > 0 else { continue }
            sum += Double(p)
            last = id
            if sum > target { return id }
        }
        return last
    }

    /// Ids of the `count` largest logits in order.
    private func likeliest(_ count: Int, _ logits: UnsafePointer<Float>) -> [Int] {
        let wanted = min(count, vocabulary)
        guard wanted > 0 else { return [] }
        let largest = logits[Int(sk_argmax(kernels, logits, Int32(vocabulary)))]
        order.begin(logits, largest: largest)
        return (0..<wanted).map { order.id(at: $0) }
    }
}

/// A drawn token with what was asked for beside it.
package struct SampledToken: Hashable, Sendable {
    package var token: Int32
    /// Natural logarithm, under the model's own distribution, before penalties and temperature; nil unless asked for.
    package var logprob: Float?
    /// Likeliest first; empty unless asked for.
    package var top: [TokenLogprob]

    package struct TokenLogprob: Hashable, Sendable {
        package var token: Int32
        package var logprob: Float
    }
}
