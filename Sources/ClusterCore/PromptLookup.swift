/// Guesses what comes next in one sequence from what came before in it: where its last tokens stood earlier, what followed them there follows
/// again. Costs no model; right where text is quoted, edited, summarised or repeats itself.
///
/// Every place of the sequence is filed under the few tokens before it, in chains from the latest place to the first. Filing a token takes the same
/// short time however long the sequence is, four bytes a token and a table of at most `headsMax` entries; so does a look-up.
///
/// A text that is edited leaves its source and comes back to it: a name is changed, a number counted up. Right behind the changed token nothing
/// agrees; so there is a second guess, which goes on in the source as if the change had been one for one.
package struct PromptLookup: Sendable {
    /// A place is found by so many tokens before it. Fewer match by chance in any text.
    package static let gramTokens = 3
    /// So many tokens before a place are compared at most: who agrees in more is no better.
    package static let matchTokensMax = 32
    /// Places that one look-up visits.
    package static let placesVisitedMax = 24
    /// Where the last guess came from is still the source as long as so many of the last `sourceTokens` tokens are the same there.
    package static let sourceTokens = 24
    package static let sourceAgreementMin = 8
    /// Tokens that one call files: a long prompt is taken in over several steps.
    package static let tokensFiledMax = 4_096
    private static let headsMin = 1 << 8
    private static let headsMax = 1 << 16

    /// Tokens that are likely to follow.
    package struct Guess: Hashable, Sendable {
        package var tokens: [TokenID]
        /// So many tokens before them are the same as before the place that they were read from.
        package var matched: Int
        /// That place is so many tokens before the sequence's end.
        package var distance: Int
    }

    /// By hash of a gram: the latest place behind it; 0 is none, because no gram ends there.
    private var heads: [Int32]
    /// By place: the place before it under the same hash.
    private var earlier: [Int32] = [0]
    /// Of the guess that was followed last.
    private var distance: Int?

    /// - Parameter tokens: about so many tokens the sequence will have; decides how long chains become, and nothing else.
    package init(expecting tokens: Int) {
        var size = Self.headsMin
        while size < min(tokens, Self.headsMax) { size *= 2 }
        heads = [Int32](repeating: 0, count: size)
    }

    /// At most `most` guesses of what follows `tokens`, which are those of the last call and more. `nil`: nothing agrees, or the sequence is not
    /// wholly filed yet.
    package mutating func guess(after tokens: [TokenID], most: Int) -> Guess? {
        guard file(tokens), tokens.count >= Self.gramTokens, most > 0 else { return nil }
        var place = heads[slot(tokens, before: tokens.count)]
        var best = (place: 0, matched: Self.gramTokens - 1)
        for _ in 0..<Self.placesVisitedMax where place > 0 {
            let matched = agreement(tokens, before: Int(place))
            // The latest of equals: texts drift.
            if matched > best.matched { best = (Int(place), matched) }
            if matched == Self.matchTokensMax { break }
            place = earlier[Int(place)]
        }
        return best.place == 0 ? nil : guess(after: tokens, from: best.place, matched: best.matched, most: most)
    }

    /// What stands where the guess that was followed last would go on by now, if the text still is mostly the same there. `nil`: it is not, or
    /// nothing was followed yet.
    package func guessInSource(after tokens: [TokenID], most: Int) -> Guess? {
        guard let distance, most > 0 else { return nil }
        let place = tokens.count - distance
        let compared = min(place, Self.sourceTokens)
        let same = (0..<compared).count { tokens[place - 1 - $0] == tokens[tokens.count - 1 - $0] }
        return same < Self.sourceAgreementMin ? nil : guess(after: tokens, from: place, matched: agreement(tokens, before: place), most: most)
    }

    /// `guess` is taken for the likeliest, sent or not: the text is there.
    package mutating func follow(_ guess: Guess) { distance = guess.distance }

    private func guess(after tokens: [TokenID], from place: Int, matched: Int, most: Int) -> Guess {
        Guess(tokens: continuation(of: tokens, from: place, count: most), matched: matched, distance: tokens.count - place)
    }

    /// What stands from `place` on, and once the end is reached what was guessed itself: a text that turns in circles goes on doing so.
    private func continuation(of tokens: [TokenID], from place: Int, count: Int) -> [TokenID] {
        var guessed: [TokenID] = []
        for index in place..<place + count { guessed.append(index < tokens.count ? tokens[index] : guessed[index - tokens.count]) }
        return guessed
    }

    /// How many tokens before `place` are those before the end, at most `matchTokensMax`.
    private func agreement(_ tokens: [TokenID], before place: Int) -> Int {
        var count = 0
        while count < min(place, Self.matchTokensMax), tokens[place - 1 - count] == tokens[tokens.count - 1 - count] { count += 1 }
        return count
    }

    /// Files all places but the last, which is the one asked for. `false`: more than one call's worth is left.
    private mutating func file(_ tokens: [TokenID]) -> Bool {
        let end = min(tokens.count, earlier.count + Self.tokensFiledMax)
        while earlier.count < end {
            let place = earlier.count
            guard place >= Self.gramTokens else {
                earlier.append(0)
                continue
            }
            let slot = slot(tokens, before: place)
            earlier.append(heads[slot])
            heads[slot] = Int32(place)
        }
        return end == tokens.count
    }

    private func slot(_ tokens: [TokenID], before place: Int) -> Int {
        var hash: UInt64 = 0
        for token in tokens[(place - Self.gramTokens)..<place] {
            hash = (hash ^ UInt64(UInt32(bitPattern: token))) &* 0x9E37_79B9_7F4A_7C15
            hash ^= hash >> 29
        }
        return Int(hash & UInt64(heads.count - 1))
    }
}
