import CKernels

extension ModelConfiguration {
    /// How positions turn queries and keys.
    package struct Rope: Sendable, Equatable {
        /// Which two elements of a head turn together.
        package enum Pairing: String, Sendable {
            /// Elements 2i and 2i+1 (Llama, Granite and InternLM2 as GGUF stores them; so folders are read too).
            case adjacent
            /// Elements i and i + dimensions/2 (Qwen2, Phi-3).
            case halves
        }

        /// What happens to the frequencies θ^(−2i/dimensions).
        package enum Scaling: Sendable, Equatable {
            case none
            /// Every frequency divided by the factor.
            case linear(factor: Double)
            /// Frequency i divided by element i (Llama 3.1 and later).
            case divisors([Float])
            case yarn(Yarn)
            case longrope(LongRope)
        }

        /// Long wavelengths are interpolated, short ones left, those between blended (arXiv 2309.00071).
        package struct Yarn: Sendable, Equatable {
            package var factor: Double
            /// Positions before scaling.
            package var originalContext: Int
            /// Turns over the original context from which on a frequency stays.
            package var betaFast: Double
            /// Turns up to which a frequency is interpolated in full.
            package var betaSlow: Double
            /// Factor on cosines and sines.
            package var magnitude: Float

            package init(factor: Double, originalContext: Int, betaFast: Double = 32, betaSlow: Double = 1, magnitude: Float) {
                self.factor = factor
                self.originalContext = originalContext
                self.betaFast = betaFast
                self.betaSlow = betaSlow
                self.magnitude = magnitude
            }
        }

        /// Two lists of divisors (arXiv 2402.13753, Phi-3): the long ones for a sequence whose prompt is longer than the original context, and
        /// for any position behind that; the short ones else.
        ///
        /// So a position's angles follow from the request alone, and are those that transformers gives it: a long prompt is computed with the
        /// long ones throughout, and a sequence that grows across the original context keeps the keys that it has. llama.cpp takes the
        /// long ones for all sequences as soon as its context is larger.
        package struct LongRope: Sendable, Equatable {
            /// [dimensions / 2], as the next
            package var short: [Float]
            package var long: [Float]
            package var originalContext: Int
            /// Factor on cosines and sines.
            package var magnitude: Float

            package init(short: [Float], long: [Float], originalContext: Int, magnitude: Float) {
                self.short = short
                self.long = long
                self.originalContext = originalContext
                self.magnitude = magnitude
            }
        }

        /// θ
        package var base: Double
        /// Leading elements of each head that are turned; even, at most the head dimension.
        package var dimensions: Int
        package var pairing: Pairing
        package var scaling: Scaling

        package init(base: Double, dimensions: Int, pairing: Pairing, scaling: Scaling) {
            self.base = base
            self.dimensions = dimensions
            self.pairing = pairing
            self.scaling = scaling
        }

        /// Prompts longer than this, and positions from it on, are turned otherwise; nil where all are turned alike.
        package var switchesAt: Int? {
            if case .longrope(let long) = scaling { long.originalContext } else { nil }
        }
    }
}

extension ModelConfiguration.Rope.Scaling {
    /// What is impossible about it, for `pairs` frequencies; nil where nothing is.
    func fault(pairs: Int) -> String? {
        func bad(_ factor: Double) -> Bool { !(factor.isFinite && factor > 0) }
        func fault(_ divisors: [Float], _ what: String) -> String? {
            if divisors.count != pairs { return "RoPE has \(pairs) frequencies, but \(divisors.count) \(what)" }
            guard let index = divisors.firstIndex(where: { bad(Double($0)) }) else { return nil }
            return "element \(index) of the RoPE \(what) is \(divisors[index]), by which no frequency can be divided"
        }
        switch self {
        case .none: return nil
        case .linear(let factor): return bad(factor) ? "the RoPE scaling factor is \(factor)" : nil
        case .divisors(let divisors): return fault(divisors, "divisors")
        case .longrope(let long):
            if let what = fault(long.short, "short divisors") ?? fault(long.long, "long divisors") { return what }
            if !(1...(1 << 28)).contains(long.originalContext) { return "the original context of RoPE is \(long.originalContext)" }
            return bad(Double(long.magnitude)) ? "the magnitude of RoPE is \(long.magnitude)" : nil
        case .yarn(let yarn):
            if bad(yarn.factor) || yarn.factor < 1 { return "the RoPE scaling factor is \(yarn.factor)" }
            if !(1...(1 << 28)).contains(yarn.originalContext) { return "the original context of RoPE is \(yarn.originalContext)" }
            if bad(yarn.betaFast) || bad(yarn.betaSlow) || yarn.betaFast < yarn.betaSlow {
                return "YaRN blends between \(yarn.betaSlow) and \(yarn.betaFast) turns"
            }
            return bad(Double(yarn.magnitude)) ? "the magnitude of RoPE is \(yarn.magnitude)" : nil
        }
    }
}

extension ModelConfiguration.Rope {
    /// Angle by which each pair turns per position, scaling included: f64[dimensions / 2]. `isLong` says which of longrope's lists.
    package func frequencies(isLong: Bool = false) -> [Double] {
        let pairs = Int32(dimensions / 2)
        var frequencies = [Double](repeating: 0, count: dimensions / 2)
        var divisors: [Float]?
        switch scaling {
        case .divisors(let list): divisors = list
        case .longrope(let long): divisors = isLong ? long.long : long.short
        case .none, .linear, .yarn: break
        }
        sk_rope_frequencies(base, Int32(dimensions), divisors, &frequencies)
        if case .linear(let factor) = scaling { sk_rope_scale_linear(&frequencies, pairs, factor) }
        if case .yarn(let yarn) = scaling {
            sk_rope_scale_yarn(&frequencies, pairs, base, yarn.factor, yarn.betaFast, yarn.betaSlow, Double(yarn.originalContext))
        }
        return frequencies
    }

    /// Factor on cosines and sines.
    package var magnitude: Double {
        switch scaling {
        case .none, .linear, .divisors: 1
        case .yarn(let yarn): Double(yarn.magnitude)
        case .longrope(let long): Double(long.magnitude)
        }
    }

    /// Llama 3's scaling as divisors: wavelengths over originalContext / low are divided by `factor`, those under originalContext / high stay,
    /// between them it is blended. Rounded as files hold them.
    static func llama3Divisors(base: Double, dimensions: Int, factor: Double, low: Double, high: Double, originalContext: Int) -> [Float] {
        var plain = [Double](repeating: 0, count: dimensions / 2)
        sk_rope_frequencies(base, Int32(dimensions), nil, &plain)
        return plain.map { frequency in
            let turns = Double(originalContext) * frequency / 6.283185307179586
            if turns > high { return 1 }
            if turns < low { return Float(factor) }
            let smooth = (turns - low) / (high - low)
            return Float(1 / ((1 - smooth) / factor + smooth))
        }
    }

    /// What longrope multiplies cosines and sines by where nothing else is said.
    static func longMagnitude(context: Int, originalContext: Int) -> Float {
        guard context > originalContext, originalContext > 1 else { return 1 }
        let ratio = Double(context) / Double(originalContext)
        return Float((1 + sk_natural_log(ratio) / sk_natural_log(Double(originalContext))).squareRoot())
    }

    /// The same of YaRN.
    static func yarnMagnitude(factor: Double) -> Double { factor > 1 && factor.isFinite ? 0.1 * sk_natural_log(factor) + 1 : 1 }
}
