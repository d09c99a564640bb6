/// What a draft model is asked for: `count` tokens behind `tokens`, of which the first `known` are known and the others guesses under way.
///
/// The newest wish counts: whoever answers may give up an older one, may answer with fewer tokens, late or not at all. Nobody waits for it.
package struct DraftWish: Hashable, Sendable {
    package var sequence: SequenceID
    package var tokens: [TokenID]
    package var known: Int
    package var count: Int

    package init(sequence: SequenceID, tokens: [TokenID], known: Int, count: Int) {
        self.sequence = sequence
        self.tokens = tokens
        self.known = known
        self.count = count
    }
}
