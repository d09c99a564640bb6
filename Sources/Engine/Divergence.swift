#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// How far a model's next-token distributions p lie from a reference's, q: the mean over positions of KL(q || p) = Σ q (ln q - ln p), in nats,
/// and the share of positions at which both find the same token likeliest.
///
/// It tells quantised models apart on far shorter texts than perplexity does, because it looks at all tokens and not only at the one that came.
package struct Divergence: Sendable {
    /// Positions so far.
    package private(set) var count = 0
    private var sum = 0.0
    private var sumOfSquares = 0.0
    private var agreeing = 0

    package init() {}

    package var mean: Double { sum / Double(count) }

    /// The mean's standard error, which takes positions for independent; 0 where it cannot be told.
    package var error: Double {
        guard count > 1 else { return 0 }
        let variance = sumOfSquares / Double(count) - mean * mean
        return variance > 0 ? (variance / Double(count - 1)).squareRoot() : 0
    }

    /// 0...1
    package var agreement: Double { Double(agreeing) / Double(count) }

    /// Adds a position and returns its divergence. Both: f32[vocabulary], the same number, at least one.
    package mutating func add(_ logits: UnsafeBufferPointer<Float>, reference: UnsafeBufferPointer<Float>) -> Double {
        precondition(logits.count == reference.count && !logits.isEmpty, "\(logits.count) logits beside \(reference.count)")
        let (q, p) = (Softmax(reference), Softmax(logits))
        var divergence = 0.0
        for index in logits.indices {
            let expected = q.logarithm(reference[index])
            divergence += exp(expected) * (expected - p.logarithm(logits[index]))
        }
        count += 1
        sum += divergence
        sumOfSquares += divergence * divergence
        if q.likeliest == p.likeliest { agreeing += 1 }
        return divergence
    }
}

/// What turns a row of logits into logarithms of probabilities.
private struct Softmax {
    /// The lowest index of the largest logit.
    let likeliest: Int
    private let logarithmOfSum: Double

    init(_ logits: UnsafeBufferPointer<Float>) {
        var best = 0
        for index in logits.indices where logits[index] > logits[best] { best = index }
        likeliest = best
        let largest = Double(logits[best])
        var total = 0.0
        for logit in logits { total += exp(Double(logit) - largest) }
        logarithmOfSum = largest + log(total)
    }

    func logarithm(_ logit: Float) -> Double { Double(logit) - logarithmOfSum }
}
