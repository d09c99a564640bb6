/// Which guesses a decoding sequence takes along, so that one step may bring it several tokens.
///
/// States of a sequence in here: unknown, known, and known with guesses under way. Wrong calls: what comes back for a sequence that is not known, or
/// other guesses than are under way (those of a lost epoch), is counted and teaches nothing.
package struct Speculation: Sendable {
    package enum Mode: UInt8, Hashable, Sendable, CaseIterable {
        case off = 0
        /// Guesses come from the sequence's own text: `PromptLookup`.
        case promptLookup = 1
    }

    /// Rows that a sequence has in one step beside its own.
    package static let draftTokensMax = 15
    /// Where so many tokens agree, no other source is asked.
    static let agreementSure = 10

    package let mode: Mode
    /// At most so many guesses a step.
    private let most: Int
    /// Whether there is a draft model to ask.
    package let hasModel: Bool
    private var speculators: [SequenceID: Speculator] = [:]
    package private(set) var lookups = DraftCounts()
    package private(set) var modelled = DraftCounts()
    /// The last wish: the same is not uttered twice.
    private var wished: (sequence: SequenceID, length: Int)?

    private struct Speculator {
        var lookup: PromptLookup
        var record = DraftRecord()
        /// What the draft model takes to stand from this position on.
        var offer: (position: Int, tokens: [TokenID])?
        /// Of the step in flight.
        var underWay: (evidence: DraftRecord.Evidence, count: Int)?

        init(_ sequence: GeneratedSequence) {
            lookup = PromptLookup(expecting: sequence.tokens.count + Int(sequence.sampling.maxTokens))
        }

        /// What stood behind the same tokens, or where these agree in few, perhaps in the source that was followed until now.
        mutating func lookUp(_ tokens: [TokenID], most: Int) -> (guess: PromptLookup.Guess, evidence: DraftRecord.Evidence)? {
            var found = lookup.guess(after: tokens, most: most).map { (guess: $0, evidence: DraftRecord.Evidence.agreement($0.matched)) }
            if (found?.guess.matched ?? 0) < Speculation.agreementSure, let other = lookup.guessInSource(after: tokens, most: most),
                other.distance != found?.guess.distance,
                found.map({ record.probability($0.evidence) < record.probability(.source) }) ?? true
            {
                found = (other, .source)
            }
            if let found { lookup.follow(found.guess) }
            return found
        }

        /// Guesses that the draft model is asked for.
        mutating func countAsked(most: Int) -> Int {
            if let evidence = underWay?.evidence, evidence != .model, record.probability(evidence) > record.probability(.model) { return 0 }
            return record.countAsked(most: most)
        }

        /// What the draft model's last word still has to say behind `tokens`: nothing where it was wrong, or is overtaken.
        func offered(after tokens: [TokenID]) -> ArraySlice<TokenID> {
            guard let offer, offer.position <= tokens.count, tokens.count - offer.position < offer.tokens.count else { return [] }
            let past = tokens.count - offer.position
            return offer.tokens[..<past].elementsEqual(tokens[offer.position...]) ? offer.tokens[past...] : []
        }
    }

    package init(mode: Mode, most: Int = Speculation.draftTokensMax, hasModel: Bool = false) {
        self.mode = mode
        self.most = min(most, Self.draftTokensMax)
        self.hasModel = hasModel
    }

    package var isOn: Bool { (mode != .off || hasModel) && most > 0 }

    /// At most `room` guesses of what follows the sequence's tokens; none where none are worth their time.
    ///
    /// - Parameter stretch: how many times longer the step takes with so many rows more; `nil`: not known, or not to be had.
    package mutating func drafts(for sequence: GeneratedSequence, room: Int, stretch: (_ rows: Int) -> Double?) -> [TokenID] {
        let room = min(room, most)
        // Where not even one row is to be had, or no plain step was measured yet, there is nothing to weigh.
        guard isOn, room > 0, stretch(1) != nil else { return [] }
        var speculator = speculators.removeValue(forKey: sequence.id) ?? Speculator(sequence)
        defer { speculators[sequence.id] = speculator }
        guard let (tokens, evidence) = best(&speculator, sequence.tokens, room) else { return [] }
        let count = speculator.record.count(evidence, most: tokens.count, stretch: stretch)
        guard count > 0 else { return [] }
        speculator.underWay = (evidence, count)
        return Array(tokens.prefix(count))
    }

    /// Of what was looked up and what the draft model offers, that whose like was right most often so far; the first of equals.
    private func best(_ speculator: inout Speculator, _ tokens: [TokenID], _ room: Int) -> (tokens: [TokenID], evidence: DraftRecord.Evidence)? {
        var best: (tokens: [TokenID], evidence: DraftRecord.Evidence, probability: Double)?
        if mode == .promptLookup, let found = speculator.lookUp(tokens, most: room) {
            best = (found.guess.tokens, found.evidence, speculator.record.probability(found.evidence))
        }
        let offered = speculator.offered(after: tokens).prefix(room)
        let probability = speculator.record.probability(.model)
        if !offered.isEmpty, probability > best?.probability ?? 0 { best = (Array(offered), .model, probability) }
        return best.map { ($0.tokens, $0.evidence) }
    }

    // MARK: - The draft model

    /// What the draft model should think about now: how a sequence goes on behind the guesses that are under way. `nil`: it was asked already, or
    /// its word is not worth its time: it was wrong too often, or what was looked up is right more often.
    package mutating func wish(for sequence: GeneratedSequence, behind guesses: [TokenID]) -> DraftWish? {
        let length = sequence.tokens.count
        guard hasModel, most > 0, wished?.sequence != sequence.id || wished?.length != length else { return nil }
        wished = (sequence.id, length)
        let count = speculators[sequence.id, default: Speculator(sequence)].countAsked(most: most)
        return count == 0 ? nil : DraftWish(for: sequence, behind: guesses, count: count)
    }

    /// The draft model says what stands from position `atLength` on. Late, wrong and unasked-for words do no harm: they are compared with what is
    /// known.
    package mutating func drafted(_ sequence: GeneratedSequence, atLength: Int, tokens: [TokenID]) {
        guard hasModel, atLength >= 0 else { return }
        speculators[sequence.id, default: Speculator(sequence)].offer = (atLength, tokens)
    }

    // MARK: - Results

    /// Of `count` guesses that were sent the first `accepted` were right, and the sequence's part of the step took `stretch` times a plain one.
    package mutating func returned(_ id: SequenceID, count: Int, accepted: Int, stretch: Double) {
        let underWay = speculators[id]?.underWay
        if underWay?.evidence == .model { modelled.add(count, accepted) } else { lookups.add(count, accepted) }
        // Fewer may have been sent than were given: there was no block for all, or one of them ends the sequence.
        guard let underWay, count <= underWay.count else { return }
        speculators[id]!.underWay = nil
        speculators[id]!.record.returned(underWay.evidence, count: count, accepted: accepted, stretch: stretch)
    }

    /// A step without guesses brought a token.
    package mutating func advancedPlainly(_ id: SequenceID) { speculators[id]?.record.advancedPlainly() }

    package mutating func forget(_ id: SequenceID) { speculators[id] = nil }
}

/// Guesses since the coordinator's start.
package struct DraftCounts: Hashable, Sendable {
    /// Rows of guesses whose step came back.
    package var proposed: UInt64 = 0
    /// Those that were right, and so came out as tokens.
    package var accepted: UInt64 = 0

    package init(proposed: UInt64 = 0, accepted: UInt64 = 0) {
        self.proposed = proposed
        self.accepted = accepted
    }

    mutating func add(_ proposed: Int, _ accepted: Int) {
        self.proposed += UInt64(proposed)
        self.accepted += UInt64(accepted)
    }
}
