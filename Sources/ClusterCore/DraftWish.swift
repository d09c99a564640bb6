/// What a draft model is asked for: how a sequence goes on, `count` tokens behind `tokens`, of which the first `known` are known and the others
/// guesses under way.
///
/// The newest wish counts: whoever answers may give up an older one, may answer with fewer tokens, late or not at all. Nobody waits for it.
package struct DraftWish: Hashable, Sendable {
    package var sequence: SequenceID
    package var tokens: [TokenID]
    package var known: Int
    package var count: Int
    // How the sequence's own tokens are drawn. With the same random numbers, a model that thinks alike draws the same.
    package var promptLength: Int
    package var choice: UInt32
    package var sampling: SamplingParameters

    package init(for sequence: GeneratedSequence, behind guesses: [TokenID], count: Int) {
        self.sequence = sequence.id
        tokens = sequence.tokens + guesses
        known = sequence.tokens.count
        self.count = count
        promptLength = sequence.promptLength
        choice = sequence.choice
        sampling = sequence.sampling
    }
}
