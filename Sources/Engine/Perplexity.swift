#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// How surprised a model is by a text: exp of the mean of -log p(next token), as llama.cpp defines it.
///
/// The text's tokens are cut into chunks of `contextTokens`, the rest is left out; each chunk is a sequence of its own. Where the model's
/// texts begin with BOS, it stands in for each chunk's first token. The tokens behind a chunk's first half count, so each has a past.
/// The error is that of the mean's exponential, σ / √(n - 1) · perplexity, which takes positions for independent.
package struct Perplexity: Sendable {
    /// Tokens that have counted so far.
    package private(set) var count = 0
    private var sum = 0.0
    private var sumOfSquares = 0.0

    package init() {}

    package var value: Double { count == 0 ? .nan : exp(mean) }

    /// 0 where it cannot be told.
    package var error: Double {
        guard count > 1 else { return 0 }
        let variance = sumOfSquares / Double(count) - mean * mean
        return variance > 0 ? (variance / Double(count - 1)).squareRoot() * value : 0
    }

    /// Of -log p, in nats.
    package var mean: Double { sum / Double(count) }

    /// - Parameter loss: -log p of a token that came.
    package mutating func add(_ loss: Double) {
        count += 1
        sum += loss
        sumOfSquares += loss * loss
    }

    /// Chunks that a text of so many tokens has.
    package static func chunks(tokens: Int, contextTokens: Int) -> Int { tokens / contextTokens }

    /// The tokens of chunk `index`, with BOS where the model wants one.
    package static func chunk(_ index: Int, of tokens: [Int32], contextTokens: Int, bos: Int32?) -> [Int32] {
        var chunk = Array(tokens[(index * contextTokens)..<((index + 1) * contextTokens)])
        if let bos { chunk[0] = bos }
        return chunk
    }

    /// The position of the first logits that count; those of the last token don't, since nothing comes after.
    package static func firstCounted(contextTokens: Int) -> Int { contextTokens / 2 }
    /// How many of a chunk's tokens count.
    package static func countedInChunk(contextTokens: Int) -> Int { contextTokens - 1 - firstCounted(contextTokens: contextTokens) }

    /// -log p(token) under the softmax of `logits`.
    package static func loss(of token: Int32, _ logits: UnsafeBufferPointer<Float>) -> Double {
        var largest = -Float.infinity
        for logit in logits where logit > largest { largest = logit }
        var total = 0.0
        for logit in logits { total += Double(exp(logit - largest)) }
        return log(total) - Double(logits[Int(token)] - largest)
    }
}

extension LocalGenerator {
    /// Adds the tokens of one chunk that count to `perplexity`; returns the loss of each.
    ///
    /// - Parameter seeing: gets the logits of each, f32[vocabulary], valid during the call.
    /// - Throws: `notFinite` where a logit is none, since no perplexity could be told then.
    package func measure(
        chunk: [Int32], into perplexity: inout Perplexity, seeing: (_ logits: UnsafeBufferPointer<Float>) -> Void = { _ in }
    ) throws -> [Double] {
        let first = Perplexity.firstCounted(contextTokens: chunk.count)
        var losses: [Double] = []
        try logits(tokens: chunk, from: first) { row, logits in
            guard row + 1 < chunk.count else { return }
            losses.append(Perplexity.loss(of: chunk[row + 1], logits))
            seeing(logits)
        }
        for loss in losses {
            guard loss.isFinite else {
                throw EngineError(.notFinite, "The logits hold a NaN or an infinity, so there is no perplexity. The model file may be damaged.")
            }
            perplexity.add(loss)
        }
        return losses
    }
}
