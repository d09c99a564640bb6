import ClusterCore
import Prompt

/// One choice's tokens on their way to text: characters are never cut, stop strings end it, end tokens don't show.
///
/// States: running, ended. What comes after the end is ignored: the cluster is a step ahead of a stop string.
struct ChoiceAssembler {
    private var detokenizer: StreamingDetokenizer
    private var stops: StopStrings
    private let tokenizer: Tokenizer
    /// Tokens that end a choice and then are no part of its text.
    private let endTokens: Set<TokenID>
    private let showsEnd: Bool
    private let collectsTokenIDs: Bool
    /// An end token that was drawn; whether it ended the choice only the next event tells.
    private var heldEnd: EmittedToken?
    /// Unicode scalars that were made before the next token, as Python counts a string's length.
    private var textOffset: Int
    private(set) var finish: FinishReason?
    /// All that were drawn up to the end, end tokens too.
    private(set) var tokenCount = 0

    init(model: ServedModel, job: GenerationJob, prompt: Int) {
        let options = job.options
        tokenizer = model.tokenizer
        detokenizer = StreamingDetokenizer(
            tokenizer: model.tokenizer, skipSpecialTokens: options.skipsSpecialTokens, continuesText: job.kind == .completion)
        do {
            stops = try StopStrings(options.stopStrings, includeStop: options.includesStopString)
        } catch {
            preconditionFailure("stop strings were checked when the request was read: \(error)")
        }
        endTokens = Set(options.sampling.stopTokens).union(options.sampling.ignoreEndTokens ? [] : model.tokenizer.endTokens)
        showsEnd = options.includesStopString
        collectsTokenIDs = options.returnsTokenIDs
        textOffset = job.prompts[prompt].echo.unicodeScalars.count
    }

    var hasEnded: Bool { finish != nil }

    /// The text that these tokens complete. Look at `finish` afterwards.
    mutating func append(_ tokens: [EmittedToken]) -> Piece {
        var piece = Piece()
        for token in tokens where !hasEnded {
            tokenCount += 1
            if collectsTokenIDs { piece.tokenIDs.append(token.token) }
            if let end = heldEnd {
                heldEnd = nil
                append(end, to: &piece)
            }
            if endTokens.contains(token.token) { heldEnd = token } else { append(token, to: &piece) }
        }
        return piece
    }

    /// The rest of the text, once the cluster says that the choice ended.
    mutating func end(_ reason: FinishReason) -> Piece {
        var piece = Piece()
        guard !hasEnded else { return piece }
        if let end = heldEnd, reason != .stop || showsEnd { append(end, to: &piece) }
        if !hasEnded {
            piece.text += stops.append(detokenizer.finish())
            if !stops.isStopped { piece.text += stops.finish() }
            finish = stops.isStopped ? .stop : reason
        }
        return piece
    }

    private mutating func append(_ token: EmittedToken, to piece: inout Piece) {
        guard !hasEnded else { return }
        let text = detokenizer.append(token.token)
        piece.text += stops.append(text)
        if let logprob = token.logprob {
            let top = token.top.map { TokenEntry.Alternative(bytes: tokenizer.bytes(of: $0.token), logprob: $0.logprob) }
            piece.entries.append(
                TokenEntry(bytes: tokenizer.bytes(of: token.token), logprob: logprob, top: top, textOffset: textOffset))
        }
        textOffset += text.unicodeScalars.count
        if stops.isStopped { finish = .stop }
    }
}

/// What one event adds to a choice.
struct Piece: Hashable {
    var text = ""
    /// One for each token that shows; empty unless log-probabilities were asked for.
    var entries: [TokenEntry] = []
    /// The tokens that were drawn, the end token too, as usage counts them; empty unless they were asked for.
    var tokenIDs: [TokenID] = []

    var isEmpty: Bool { text.isEmpty && entries.isEmpty && tokenIDs.isEmpty }

    static func += (a: inout Piece, b: Piece) {
        a.text += b.text
        a.entries += b.entries
        a.tokenIDs += b.tokenIDs
    }
}

/// A token with its log-probability, as an answer shows it.
struct TokenEntry: Hashable {
    struct Alternative: Hashable {
        var bytes: [UInt8]
        var logprob: Float
    }

    var bytes: [UInt8]
    var logprob: Float
    /// Likeliest first.
    var top: [Alternative]
    /// Where its text begins in the choice's text, in Unicode scalars.
    var textOffset: Int
}
