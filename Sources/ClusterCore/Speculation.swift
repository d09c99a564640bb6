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
    /// What a step may take longer for guesses where other sequences wait for the same stages.
    package static let othersDelayMax = 0.05

    package let mode: Mode
    /// At most so many guesses a step.
    private let most: Int
    private var speculators: [SequenceID: Speculator] = [:]
    package private(set) var lookups = DraftCounts()

    private struct Speculator {
        var lookup: PromptLookup
        var record = DraftRecord()
        /// Of the step in flight.
        var underWay: (matched: Int, count: Int)?
    }

    package init(mode: Mode, most: Int = Speculation.draftTokensMax) {
        self.mode = mode
        self.most = min(most, Self.draftTokensMax)
    }

    package var isOn: Bool { mode != .off && most > 0 }

    /// At most `room` guesses of what follows the sequence's tokens; none where none are worth their time.
    ///
    /// - Parameter stretch: how many times longer the step takes with so many rows more; `nil`: not known, or not to be had.
    package mutating func drafts(for sequence: GeneratedSequence, room: Int, stretch: (_ rows: Int) -> Double?) -> [TokenID] {
        let room = min(room, most)
        // Where not even one row is to be had, or no plain step was measured yet, there is nothing to weigh.
        guard isOn, room > 0, stretch(1) != nil else { return [] }
        var speculator = speculators.removeValue(forKey: sequence.id) ?? Speculator(
            lookup: PromptLookup(expecting: sequence.tokens.count + Int(sequence.sampling.maxTokens)))
        defer { speculators[sequence.id] = speculator }
        guard let guess = speculator.lookup.guess(after: sequence.tokens, most: room) else { return [] }
        let count = speculator.record.count(matched: guess.matched, most: guess.tokens.count, stretch: stretch)
        guard count > 0 else { return [] }
        speculator.underWay = (guess.matched, count)
        return Array(guess.tokens.prefix(count))
    }

    /// Of `count` guesses that were sent the first `accepted` were right, and the sequence's part of the step took `stretch` times a plain one.
    package mutating func returned(_ id: SequenceID, count: Int, accepted: Int, stretch: Double) {
        lookups.proposed += UInt64(count)
        lookups.accepted += UInt64(accepted)
        // Fewer may have been sent than were given: there was no block for all, or one of them ends the sequence.
        guard let underWay = speculators[id]?.underWay, count <= underWay.count else { return }
        speculators[id]!.underWay = nil
        speculators[id]!.record.returned(matched: underWay.matched, count: count, accepted: accepted, stretch: stretch)
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
}
