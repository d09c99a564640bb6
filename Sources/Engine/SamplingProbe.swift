/// Draws tokens from rows of logits without a sequence around them: what measurements take.
package final class SamplingProbe {
    private let sampler: Sampler

    package init(vocabulary: Int, instructionSet: InstructionSet) {
        sampler = Sampler(vocabulary: vocabulary, kernels: instructionSet.kernels)
    }

    /// A draw of one sequence; made once, used for any number of rows.
    package func draws(_ settings: SamplingSettings) -> (_ logits: UnsafePointer<Float>) -> Int32? {
        let opening = SequenceOpening(sequence: 0, tokens: [0], promptLength: 1, sampling: settings)
        let state = SequenceState(opening, positionsMax: 1, counts: settings.countsTokens)
        return { [sampler] logits in sampler.draw(logits: logits, for: state)?.token }
    }
}
