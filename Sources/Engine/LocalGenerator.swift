import ModelFiles

/// The whole model in one process: tokens in, tokens out. The reference that the cluster must equal.
package final class LocalGenerator {
    package struct Options: Sendable {
        package var threads = 1
        package var kvType = KVType.f16
        package var boundary = BoundaryType.f32
        /// Positions that one sequence may have, at most the model's own limit; nil: as the model says.
        package var contextLength: Int? = nil
        /// Rows of one prefill batch.
        package var chunkRows = 512
        package var instructionSet: InstructionSet? = nil
        package init() {}
    }

    package enum Finish: String, Sendable { case stop, length }

    package struct Choice: Sendable {
        package var tokens: [SampledToken] = []
        package var finish = Finish.length
    }

    package let model: ModelConfiguration

    package init(
        file: GGUFFile, options: Options, progress: (_ bytesDone: Int, _ bytesTotal: Int) throws -> Void = { _, _ in }
    ) throws { fatalError() }

    /// Continues `prompt` `choices` times, all choices side by side. A choice ends with (and holds) an end or stop token, or after
    /// `maxTokens`, or when the context is full. `onToken` hears of each token as it is drawn; false ends that choice.
    package func generate(
        prompt: [Int32], choices: Int = 1, maxTokens: Int, sampling: SamplingSettings, endTokens: [Int32] = [],
        stopTokens: [Int32] = [], ignoresEndTokens: Bool = false, topLogprobs: Int? = nil,
        onToken: (_ choice: Int, _ token: SampledToken) throws -> Bool = { _, _ in true }
    ) throws -> [Choice] { fatalError() }

    /// The logits after each token of `tokens`, in order: f32[vocabulary] each, valid during the call.
    package func logits(tokens: [Int32], _ body: (_ row: Int, _ logits: UnsafeBufferPointer<Float>) throws -> Void) throws { fatalError() }
}
