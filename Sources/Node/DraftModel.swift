import ClusterCore
import Engine
import ModelFiles

/// A small model on the coordinator's machine that guesses how a sequence goes on. Keeps the keys and values of what it saw last, so that the next
/// wish for the same sequence costs only what is new.
///
/// Not `Sendable`: the thread that makes it runs it.
package final class DraftModel {
    /// Rows of a batch; between two of them a wish that is out of date is given up.
    static let chunkRows = 64

    private let stage: Stage
    private let contextLength: Int
    /// The tokens of which keys and values are in memory, from position 0 on.
    private var known: [TokenID] = []
    /// One more with each wish: to the stage each is a new sequence that begins with what the last one left.
    private var sequence: UInt64 = 0

    /// Loads the model at `path`, to be run with the served model's tokens, in contexts of at most `contextTokens`.
    ///
    /// Throws `ModelFileError` and `EngineError` where it can't be loaded.
    package init(path: String, contextTokens: Int, pool: ComputePool, instructionSet: InstructionSet) throws {
        let file = try ModelOpener.open(path: path)
        let model = try ModelConfiguration(source: file)
        contextLength = min(model.contextLength, contextTokens)
        stage = try Stage(
            weights: StageWeights(file: file, model: model, slice: .whole(model), pool: pool),
            kvBlocks: BlockAllocator.blocks(forPositions: contextLength), rowsMax: Self.chunkRows, pool: pool, instructionSet: instructionSet)
    }

    /// The tokens that this model would draw behind the wish's, one after the other. Fewer than wished at the context's end or once `isStale` says
    /// so; none where this model finds a number that is not finite.
    ///
    /// - Parameter onToken: hears all guesses so far, after each.
    package func guess(_ wish: DraftWish, isStale: () -> Bool = { false }, onToken: ([TokenID]) -> Void) throws(EngineError) {
        // The last guess is drawn from a row and needs none of its own.
        let count = min(wish.count, contextLength - wish.tokens.count + 1)
        guard count > 0, !wish.tokens.isEmpty, wish.tokens.count <= contextLength else { return }
        var batch = open(wish)
        var waiting = wish.tokens[known.count...]
        var blocks = 0
        var guessed: [TokenID] = []
        while true {
            let rows = Array(waiting.prefix(Self.chunkRows))
            let needed = BlockAllocator.blocks(forPositions: known.count + rows.count)
            let draws = rows.count == waiting.count
            batch.segments = [
                BatchSegment(
                    sequence: sequence, start: known.count, tokens: rows, newBlocks: (blocks..<max(blocks, needed)).map { Int32($0) }, samples: draws)
            ]
            let result = try stage.run(batch)
            known += rows
            blocks = max(blocks, needed)
            waiting = waiting.dropFirst(rows.count)
            if draws {
                guard let token = result.samples.first?.token.token else { return }
                guessed.append(token)
                onToken(guessed)
                if guessed.count == count { return }
                waiting = [token]
            }
            if isStale() { return }
            batch = StageBatch(segments: [])
        }
    }

    /// A new sequence in the old one's blocks, with as much of its past as is the same.
    private func open(_ wish: DraftWish) -> StageBatch {
        let tokens = wish.tokens
        var same = 0
        while same < min(known.count, tokens.count - 1), known[same] == tokens[same] { same += 1 }
        known.removeSubrange(same...)
        sequence += 1
        return StageBatch(
            closes: [sequence - 1],
            opens: [
                SequenceOpening(
                    sequence: sequence, tokens: tokens, promptLength: wish.promptLength, cached: same, sampling: SamplingSettings(wish.sampling),
                    choice: wish.choice)
            ],
            segments: [])
    }

    /// Throws `NodeError` unless token ids mean the same text in both models.
    package static func checkVocabulary(of path: String, against served: String) throws {
        let key = "tokenizer.ggml.tokens"
        let (mine, theirs) = try (ModelOpener.open(path: path), ModelOpener.open(path: served))
        let (own, wanted) = try (mine.metadata.stringArray(key), theirs.metadata.stringArray(key))
        let sizes = try (ModelConfiguration(source: mine).vocabulary, ModelConfiguration(source: theirs).vocabulary)
        func refuse(_ found: String) -> NodeError {
            NodeError(.modelUnusable, "\(path) cannot guess for \(served): \(found). Name a draft model with the same tokenizer, or leave it out")
        }
        if own == nil, wanted == nil {
            // Folders have a tokenizer's own file instead of a list: the same text has the same tokens.
            let files = [HFKey.tokenizer, HFKey.sentencePiece]
            guard sizes.0 == sizes.1, files.contains(where: { mine.metadata[$0] != nil }) else {
                throw refuse("its vocabulary has \(sizes.0) tokens and the served model's \(sizes.1)")
            }
            for file in files where mine.metadata[file] != theirs.metadata[file] { throw refuse("their tokenizers differ") }
            return
        }
        guard let own, let wanted else { throw refuse("one of the files lists no tokens") }
        guard own.count == wanted.count, sizes.0 == sizes.1 else {
            throw refuse("its vocabulary has \(sizes.0) tokens and the served model's \(sizes.1)")
        }
        if let other = own.indices.first(where: { own.bytes(at: $0) != wanted.bytes(at: $0) }) {
            throw refuse("token \(other) is '\(own[other])' in one and '\(wanted[other])' in the other")
        }
    }
}
