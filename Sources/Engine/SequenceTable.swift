import CKernels

/// The sequences that a stage holds: their tokens, their positions, their KV blocks, and how many hold each block.
///
/// Sequences with the same beginning may hold the same blocks, but only full ones of their past: a row is written only into a block that its
/// sequence alone holds.
///
/// A batch is checked as a whole before any of it is applied, so a wrong one changes nothing. All stages apply the same
/// rules to the same batches, so all of them accept a batch or none does.
struct SequenceTable {
    let vocabulary: Int
    let contextLength: Int
    let rowsMax: Int
    /// Whether this stage draws tokens, and so counts those that penalties look at.
    let draws: Bool

    private var sequences: [UInt64: SequenceState] = [:]
    /// By block: how many sequences hold it.
    private var holders: [Int32]
    /// Blocks and sequences named so far by the batch under check; kept to spare allocations.
    private var named: Set<Int32> = []
    private var seen: Set<UInt64> = []

    init(vocabulary: Int, contextLength: Int, rowsMax: Int, blocks: Int, draws: Bool) {
        self.vocabulary = vocabulary
        self.contextLength = contextLength
        self.rowsMax = rowsMax
        self.draws = draws
        holders = Array(repeating: 0, count: blocks)
    }

    subscript(sequence: UInt64) -> SequenceState { sequences[sequence]! }

    /// Checks `batch`, then applies it: closes, opens, and the positions and blocks of its segments. Copying is the caller's.
    mutating func apply(_ batch: StageBatch) throws(EngineError) {
        try checkOpens(batch)
        try checkCopies(batch)
        try checkSegments(batch)
        for sequence in batch.closes { forget(sequence) }
        for opening in batch.opens {
            sequences[opening.sequence] = SequenceState(
                opening, positionsMax: min(contextLength, holders.count * KVMemory.positionsPerBlock),
                counts: draws && opening.sampling.countsTokens)
        }
        for segment in batch.segments {
            for block in segment.newBlocks { holders[Int(block)] += 1 }
            sequences[segment.sequence]!.advance(segment)
        }
    }

    /// Whether the segment follows what is there of its sequence, in blocks that this alone holds already.
    func canGoOn(_ segment: BatchSegment) -> Bool {
        guard let state = sequences[segment.sequence], state.length == segment.start, state.drafts.isEmpty, segment.newBlocks.isEmpty,
            segment.start + segment.tokens.count <= min(contextLength, state.blocks.count * KVMemory.positionsPerBlock),
            segment.tokens.allSatisfy({ (0..<Int32(clamping: vocabulary)).contains($0) })
        else { return false }
        let size = KVMemory.positionsPerBlock
        return (segment.start / size...(segment.start + segment.tokens.count - 1) / size).allSatisfy { holders[Int(state.blocks[$0])] == 1 }
    }

    mutating func removeAll() {
        for sequence in Array(sequences.keys) { forget(sequence) }
    }

    private mutating func forget(_ sequence: UInt64) {
        guard let state = sequences.removeValue(forKey: sequence) else { return }
        for block in state.blocks { holders[Int(block)] -= 1 }
    }

    // MARK: Checks

    private func checkOpens(_ batch: StageBatch) throws(EngineError) {
        for (index, opening) in batch.opens.enumerated() {
            let id = opening.sequence
            let known = sequences[id] != nil && !batch.closes.contains(id)
            guard !known, !batch.opens[..<index].contains(where: { $0.sequence == id }) else {
                throw bad("Sequence \(id) is opened, but it is open already. Close it first.")
            }
            guard !opening.tokens.isEmpty, (1...opening.tokens.count).contains(opening.promptLength) else {
                throw bad("Sequence \(id) is opened with \(opening.tokens.count) tokens of which \(opening.promptLength) are the prompt; a prompt has at least one.")
            }
            guard (0..<opening.tokens.count).contains(opening.cached) else {
                throw bad("Sequence \(id) is opened with \(opening.tokens.count) tokens, \(opening.cached) of them computed; at least the last has to be left.")
            }
            try checkTokens(opening.tokens, of: id)
            try opening.sampling.check(vocabulary: vocabulary)
            try checkTokens(opening.endTokens, of: id)
            guard Set(opening.endTokens).count < vocabulary else {
                throw bad("Sequence \(id) names all \(vocabulary) tokens as end tokens, so none could be drawn.")
            }
            guard (0...Sampler.topLogprobsMax).contains(opening.topLogprobs ?? 0) else {
                throw bad("Sequence \(id) asks for \(opening.topLogprobs ?? 0) alternatives a token; at most \(Sampler.topLogprobsMax) are given.")
            }
        }
    }

    private func checkCopies(_ batch: StageBatch) throws(EngineError) {
        for copy in batch.copies {
            for block in [copy.from, copy.to] where block < 0 || block >= holders.count {
                throw bad("KV block \(block) is to be copied or written; this stage has \(holders.count).")
            }
            guard holdersLeft(of: copy.to, after: batch.closes) == 0 else { throw bad("KV block \(copy.to) is to be overwritten by a copy, but it is in use.") }
        }
    }

    /// Sequences that hold the block once the batch has closed its own.
    private func holdersLeft(of block: Int32, after closes: [UInt64]) -> Int {
        guard holders[Int(block)] > 0 else { return 0 }
        return Int(holders[Int(block)]) - closes.count { sequences[$0]?.blocks.contains(block) ?? false }
    }

    private mutating func checkSegments(_ batch: StageBatch) throws(EngineError) {
        let rows = batch.rowCount
        guard rows <= rowsMax else { throw bad("The batch has \(rows) rows; this stage takes \(rowsMax).") }
        named.removeAll(keepingCapacity: true)
        seen.removeAll(keepingCapacity: true)
        for segment in batch.segments {
            guard seen.insert(segment.sequence).inserted else { throw bad("Sequence \(segment.sequence) has two segments; join them.") }
            try check(segment, in: batch)
        }
    }

    private mutating func check(_ segment: BatchSegment, in batch: StageBatch) throws(EngineError) {
        let id = segment.sequence
        let opening = batch.opens.first { $0.sequence == id }
        let state = opening == nil && !batch.closes.contains(id) ? sequences[id] : nil
        guard opening != nil || state != nil else { throw bad("The batch has rows of sequence \(id), which is not open.") }
        guard !segment.tokens.isEmpty else { throw bad("Sequence \(id) has a segment without tokens.") }
        try checkTokens(segment.tokens, of: id)

        let length = state?.length ?? opening!.cached
        let guessed = state?.drafts.count ?? 0
        guard (length...length + guessed).contains(segment.start) else {
            throw bad(
                "Sequence \(id) goes on at position \(segment.start), but it has \(length) positions and \(guessed) guesses: rows must follow each other.")
        }
        guard (0..<segment.tokens.count).contains(segment.drafts), segment.drafts == 0 || segment.samples else {
            throw bad("Sequence \(id) has \(segment.drafts) guesses in \(segment.tokens.count) rows; guesses follow a known row that is drawn from.")
        }
        let end = segment.start + segment.tokens.count
        guard end <= contextLength else { throw bad("Sequence \(id) would have \(end) positions; the model's context is \(contextLength).") }
        let blocks = (state?.blocks.count ?? 0) + segment.newBlocks.count
        guard blocks * KVMemory.positionsPerBlock >= end else {
            throw bad("Sequence \(id) would have \(end) positions, but only \(blocks) KV blocks of \(KVMemory.positionsPerBlock).")
        }
        try checkBlocks(of: segment, held: state?.blocks ?? UnsafeBufferPointer(start: nil, count: 0), cached: opening?.cached ?? 0, in: batch)

        let known = opening?.tokens ?? state!.tokens
        // Behind a guess nothing is known that the segment could contradict.
        let overlap = max(0, min(end, known.count) - segment.start)
        guard segment.tokens.prefix(overlap).elementsEqual(known.dropFirst(segment.start).prefix(overlap)) else {
            throw bad("The rows of sequence \(id) from position \(length) on are not the tokens that it was opened with.")
        }
        guard !segment.samples || end - segment.drafts >= known.count else {
            throw bad("Sequence \(id) is to draw a token after position \(end - segment.drafts - 1), but \(known.count) tokens are known already.")
        }
    }

    /// New blocks belong to nobody, but for those that hold nothing but computed positions of a sequence just opened; and rows go only into
    /// blocks that nobody else holds.
    private mutating func checkBlocks(
        of segment: BatchSegment, held: UnsafeBufferPointer<Int32>, cached: Int, in batch: StageBatch
    ) throws(EngineError) {
        let size = KVMemory.positionsPerBlock
        for (index, block) in segment.newBlocks.enumerated() {
            guard block >= 0, block < holders.count else {
                throw bad("Sequence \(segment.sequence) is given KV block \(block); this stage has \(holders.count).")
            }
            if (held.count + index + 1) * size <= cached { continue }
            guard holdersLeft(of: block, after: batch.closes) == 0, named.insert(block).inserted else {
                throw bad("Sequence \(segment.sequence) is given KV block \(block), which is in use already.")
            }
        }
        let last = min((segment.start + segment.tokens.count - 1) / size, held.count - 1)
        for index in stride(from: segment.start / size, through: last, by: 1) {
            let block = held[index]
            guard holders[Int(block)] <= 1 || holdersLeft(of: block, after: batch.closes) <= 1 else {
                throw bad("Sequence \(segment.sequence) is to write into KV block \(block), which another one holds too.")
            }
        }
    }

    private func checkTokens(_ tokens: [Int32], of sequence: UInt64) throws(EngineError) {
        for token in tokens where token < 0 || token >= vocabulary {
            throw bad("Sequence \(sequence) has token \(token) of a vocabulary of \(vocabulary).")
        }
    }

    private func bad(_ message: String) -> EngineError { EngineError(.badBatch, message) }
}

/// One open sequence.
final class SequenceState {
    let sampling: SamplingSettings
    let choice: UInt32
    let endTokens: [Int32]
    let topLogprobs: Int?
    let promptLength: Int
    /// All tokens known: those it was opened with, then those of rows.
    private(set) var tokens: [Int32]
    /// Positions whose keys and values are, or by the end of the batch will be, in memory. Guesses don't count before they are known to be right.
    private(set) var length = 0
    /// Guesses that stand behind these, in order, each of which may turn out to be right.
    private(set) var drafts: ArraySlice<Int32> = []
    /// The token that was drawn last; nil where none could be.
    var drawn: Int32?
    /// How often each token was seen; nil where no penalty asks.
    private(set) var counts: TokenCounts?
    private let table: BlockTable

    var blocks: UnsafeBufferPointer<Int32> { table.blocks }

    /// Has room from the start for `positionsMax` positions, the most that the stage can hold: a step that decodes should not ask for memory.
    /// What is never written to costs addresses only.
    init(_ opening: SequenceOpening, positionsMax: Int, counts wanted: Bool) {
        table = BlockTable(capacity: (positionsMax + KVMemory.positionsPerBlock - 1) / KVMemory.positionsPerBlock)
        sampling = opening.sampling
        choice = opening.choice
        endTokens = opening.endTokens
        topLogprobs = opening.topLogprobs
        promptLength = opening.promptLength
        tokens = []
        tokens.reserveCapacity(max(positionsMax, opening.tokens.count))
        tokens += opening.tokens
        length = opening.cached
        if wanted { counts = TokenCounts(tokens: tokens, promptLength: promptLength) }
    }

    func advance(_ segment: BatchSegment) {
        table.append(segment.newBlocks)
        while length < segment.start { confirmDraft() }
        let known = segment.tokens.count - segment.drafts
        length += known
        for token in segment.tokens[..<known].suffix(max(0, length - tokens.count)) { append(token) }
        drafts = segment.drafts == 0 ? [] : segment.tokens[known...]
    }

    /// The first guess was right.
    func confirmDraft() {
        append(drafts.removeFirst())
        length += 1
    }

    /// What guesses are left were wrong.
    func dropDrafts() { drafts = [] }

    private func append(_ token: Int32) {
        tokens.append(token)
        counts?.add(output: token)
    }
}

/// A sequence's KV block ids at an address that the kernels may keep for the length of a batch.
private final class BlockTable {
    private(set) var blocks = UnsafeBufferPointer<Int32>(start: nil, count: 0)
    private var storage: UnsafeMutablePointer<Int32>
    private var capacity: Int

    init(capacity: Int) {
        self.capacity = max(1, capacity)
        storage = .allocate(capacity: self.capacity)
    }

    func append(_ new: [Int32]) {
        guard !new.isEmpty else { return }
        let count = blocks.count + new.count
        // More than a sequence can fill are still a sound batch.
        if count > capacity {
            capacity = max(count, 2 * capacity)
            let larger = UnsafeMutablePointer<Int32>.allocate(capacity: capacity)
            larger.update(from: storage, count: blocks.count)
            storage.deallocate()
            storage = larger
        }
        for (index, block) in new.enumerated() { storage[blocks.count + index] = block }
        blocks = UnsafeBufferPointer(start: storage, count: count)
    }

    deinit { storage.deallocate() }
}
