/// What a stage's sequences must look like after all steps so far: each one's length and blocks. A step that does not continue from there
/// is refused before the stage thread sees it, so the engine may rely on what it gets.
///
/// Checked: sequences are open, positions continue (after guesses: behind the last known row or any of them), blocks cover the rows and lie in the
/// KV memory, each sequence has at most one segment, row, segment and copy counts are within `Limits`. Left to the engine: token ids against the
/// vocabulary, the payload's size, and that no row is written into a block that two sequences hold. What a block holds is the coordinator's account.
struct StageLedger: Hashable, Sendable {
    private struct Entry: Hashable, Sendable {
        var length: Int
        var blockCount: Int
        /// So many of the last positions hold guesses, any of which may have been wrong.
        var drafts = 0
        /// Ascending.
        var endTokens: [TokenID] = []
    }

    private let kvBlocks: Int
    /// Only ever asked by id.
    private var entries: [SequenceID: Entry] = [:]

    init(kvBlocks: Int) { self.kvBlocks = kvBlocks }

    /// Whether the sequence may end with this token.
    func mayEnd(_ sequence: SequenceID, with token: TokenID) -> Bool { entries[sequence]?.endTokens.contains(token) ?? true }

    /// Notes the step; or says what is wrong with it, and then the ledger is not to be used any more.
    mutating func take(_ step: Step) -> String? {
        guard step.segments.count <= Limits.stepSegmentsMax else { return "\(step.segments.count) segments" }
        for sequence in step.closes where entries.removeValue(forKey: sequence) == nil { return "it closes a sequence that is not open" }
        if let rebuild = step.rebuild, !rebuild.isSound { return "it rebuilds layers that can't be" }
        guard step.copies.count <= Limits.stepSegmentsMax else { return "\(step.copies.count) copies" }
        for copy in step.copies where Int(copy.from.value) >= kvBlocks || Int(copy.to.value) >= kvBlocks {
            return "it copies a block outside the KV memory"
        }
        for open in step.opens {
            guard open.promptLength >= 1, open.promptLength <= open.tokens.count else { return "it opens a sequence without a prompt" }
            guard (0..<open.tokens.count).contains(open.cached) else { return "it opens a sequence that has no row to compute" }
            let entry = Entry(length: open.cached, blockCount: 0, endTokens: open.endTokens)
            guard entries.updateValue(entry, forKey: open.sequence) == nil else { return "it opens a sequence twice" }
        }
        var rows = 0
        var seen: Set<SequenceID> = []
        for segment in step.segments {
            if step.rebuild != nil, segment.samples || segment.drafts > 0 { return "it draws from rows that it rebuilds" }
            guard step.segments.count == 1 || seen.insert(segment.sequence).inserted else { return "it has two segments of one sequence" }
            rows += segment.tokens.count
            guard rows <= Limits.stepRowsMax else { return "it has more than \(Limits.stepRowsMax) rows" }
            if let fault = take(segment) { return fault }
        }
        return nil
    }

    private mutating func take(_ segment: Segment) -> String? {
        guard var entry = entries[segment.sequence] else { return "it has rows of a sequence that is not open" }
        guard !segment.tokens.isEmpty, (entry.length - entry.drafts...entry.length).contains(segment.start) else {
            return "rows do not continue their sequence"
        }
        guard (0..<segment.tokens.count).contains(segment.drafts), segment.drafts == 0 || segment.samples else {
            return "guesses follow no sampled row"
        }
        guard segment.newBlocks.allSatisfy({ Int($0.value) < kvBlocks }) else { return "a block lies outside the KV memory" }
        entry.length = segment.start + segment.tokens.count
        entry.drafts = segment.drafts
        entry.blockCount += segment.newBlocks.count
        guard entry.length <= entry.blockCount * Limits.positionsPerBlock else { return "rows have no block" }
        entries[segment.sequence] = entry
        return nil
    }
}
