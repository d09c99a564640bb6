import ClusterCore
import Prompt

/// The JSON shapes of one request's answer, whole and in chunks.
struct Answer {
    let kind: GenerationJob.Kind
    /// `chatcmpl-…` or `cmpl-…`; the same on all chunks.
    let id: String
    /// Seconds since 1970.
    let created: Int
    let model: String
    let fingerprint: String
    let promptTokens: Int
    let includesUsage: Bool
    let hasLogprobs: Bool
    /// By prompt; empty unless token ids were asked for.
    let promptTokenIDs: [[TokenID]]
    let returnsTokenIDs: Bool

    init(job: GenerationJob, model: ServedModel, requestID: RequestID, created: Int) {
        kind = job.kind
        id = (job.kind == .chat ? "chatcmpl-" : "cmpl-") + requestID.description
        self.created = created
        self.model = model.name
        fingerprint = model.fingerprint
        promptTokens = job.promptTokens
        includesUsage = job.options.includesUsage
        hasLogprobs = job.options.topLogprobs != nil
        returnsTokenIDs = job.options.returnsTokenIDs
        promptTokenIDs = job.options.returnsTokenIDs ? job.prompts.map(\.tokens) : []
    }

    /// A choice of a whole answer.
    struct Choice {
        var piece = Piece()
        var finish: FinishReason?
        var prompt = 0
    }

    // MARK: Whole answers

    func whole(_ choices: [Choice], completionTokens: Int) -> [UInt8] {
        JSONWriter.text(capacity: 1024) { writer in
            writer.object { answer in
                head(&answer, object: kind == .chat ? "chat.completion" : "text_completion")
                answer.member("choices") { list in
                    list.array(choices.enumerated()) { writer, item in
                        writer.object { wholeChoice(&$0, item.offset, item.element) }
                    }
                }
                answer.member("usage") { usage(&$0, completionTokens) }
                if kind == .chat, let ids = promptTokenIDs.first { answer.member("prompt_token_ids") { $0.array(ids) { $0.int($1) } } }
            }
        }
    }

    private func wholeChoice(_ writer: inout JSONWriter, _ index: Int, _ choice: Choice) {
        writer.member("index", index)
        switch kind {
        case .chat:
            writer.member("message") { message in
                message.object {
                    $0.member("role", "assistant")
                    $0.member("content", choice.piece.text)
                    $0.nullMember("refusal")
                }
            }
        case .completion: writer.member("text", choice.piece.text)
        }
        writer.member("logprobs") { logprobs(&$0, choice.piece.entries) }
        writer.member("finish_reason", orNull: choice.finish?.name)
        if returnsTokenIDs {
            writer.member("token_ids") { $0.array(choice.piece.tokenIDs) { $0.int($1) } }
            if kind == .completion { writer.member("prompt_token_ids") { $0.array(promptTokenIDs[choice.prompt]) { $0.int($1) } } }
        }
    }

    // MARK: Chunks

    /// The chunk that opens a choice of a chat: who speaks.
    func roleChunk(choice: Int) -> [UInt8] {
        chunk { writer in
            writer.member("index", choice)
            writer.member("delta") { delta in
                delta.object {
                    $0.member("role", "assistant")
                    $0.member("content", "")
                }
            }
            writer.nullMember("logprobs")
            writer.nullMember("finish_reason")
        }
    }

    /// The chunk that carries what a choice gained.
    func pieceChunk(choice: Int, _ piece: Piece) -> [UInt8] {
        chunk { writer in
            writer.member("index", choice)
            switch kind {
            case .chat: writer.member("delta") { $0.object { $0.member("content", piece.text) } }
            case .completion: writer.member("text", piece.text)
            }
            writer.member("logprobs") { logprobs(&$0, piece.entries) }
            writer.nullMember("finish_reason")
            if returnsTokenIDs { writer.member("token_ids") { $0.array(piece.tokenIDs) { $0.int($1) } } }
        }
    }

    /// The last chunk of a choice.
    func finishChunk(choice: Int, _ reason: FinishReason) -> [UInt8] {
        chunk { writer in
            writer.member("index", choice)
            switch kind {
            case .chat: writer.member("delta") { $0.object { _ in } }
            case .completion: writer.member("text", "")
            }
            writer.nullMember("logprobs")
            writer.member("finish_reason", reason.name)
        }
    }

    /// The chunk behind all choices, for `include_usage`.
    func usageChunk(completionTokens: Int) -> [UInt8] {
        JSONWriter.text { writer in
            writer.object { chunk in
                head(&chunk, object: chunkObject)
                chunk.member("choices") { $0.array { _ in } }
                chunk.member("usage") { usage(&$0, completionTokens) }
            }
        }
    }

    private var chunkObject: String { kind == .chat ? "chat.completion.chunk" : "text_completion" }

    private func chunk(_ choice: (inout JSONWriter) -> Void) -> [UInt8] {
        JSONWriter.text { writer in
            writer.object { chunk in
                head(&chunk, object: chunkObject)
                chunk.member("choices") { $0.array { $0.object(choice) } }
                // With usage asked for, OpenAI says `null` on all chunks but the last.
                if includesUsage { chunk.nullMember("usage") }
            }
        }
    }

    // MARK: Parts

    private func head(_ writer: inout JSONWriter, object: String) {
        writer.member("id", id)
        writer.member("object", object)
        writer.member("created", created)
        writer.member("model", model)
        writer.member("system_fingerprint", fingerprint)
    }

    private func usage(_ writer: inout JSONWriter, _ completionTokens: Int) {
        writer.object {
            $0.member("prompt_tokens", promptTokens)
            $0.member("completion_tokens", completionTokens)
            $0.member("total_tokens", promptTokens + completionTokens)
        }
    }

    private func logprobs(_ writer: inout JSONWriter, _ entries: [TokenEntry]) {
        guard hasLogprobs else { return writer.null() }
        switch kind {
        case .chat: chatLogprobs(&writer, entries)
        case .completion: legacyLogprobs(&writer, entries)
        }
    }

    private func chatLogprobs(_ writer: inout JSONWriter, _ entries: [TokenEntry]) {
        func token(_ writer: inout JSONWriter, _ bytes: [UInt8], _ logprob: Float) {
            writer.member("token", String(decoding: bytes, as: UTF8.self))
            writer.member("logprob") { $0.logprob(logprob) }
            writer.member("bytes") { $0.array(bytes) { $0.int($1) } }
        }
        writer.object { logprobs in
            logprobs.member("content") { content in
                content.array(entries) { writer, entry in
                    writer.object { member in
                        token(&member, entry.bytes, entry.logprob)
                        member.member("top_logprobs") { top in
                            top.array(entry.top) { writer, alternative in
                                writer.object { token(&$0, alternative.bytes, alternative.logprob) }
                            }
                        }
                    }
                }
            }
            logprobs.nullMember("refusal")
        }
    }

    private func legacyLogprobs(_ writer: inout JSONWriter, _ entries: [TokenEntry]) {
        writer.object { logprobs in
            logprobs.member("tokens") { $0.array(entries) { $0.string(Self.legacyText($1.bytes)) } }
            logprobs.member("token_logprobs") { $0.array(entries) { $0.logprob($1.logprob) } }
            logprobs.member("top_logprobs") { top in
                top.array(entries) { writer, entry in
                    writer.object { legacyTop(&$0, entry) }
                }
            }
            logprobs.member("text_offset") { $0.array(entries) { $0.int($1.textOffset) } }
        }
    }

    /// Text to log-probability; the token itself is always there. Of two tokens with one text the likelier counts.
    private func legacyTop(_ writer: inout JSONWriter, _ entry: TokenEntry) {
        var seen: Set<[UInt8]> = []
        for alternative in entry.top + [.init(bytes: entry.bytes, logprob: entry.logprob)] {
            let text = Self.legacyText(alternative.bytes)
            guard seen.insert(Array(text.utf8)).inserted else { continue }
            writer.member(text) { $0.logprob(alternative.logprob) }
        }
    }

    /// Half characters are written as OpenAI writes them, `bytes:\xe2\x80`.
    private static func legacyText(_ bytes: [UInt8]) -> String {
        if let text = String(validating: bytes, as: UTF8.self) { return text }
        return "bytes:" + bytes.map { byte in (byte < 16 ? "\\x0" : "\\x") + String(byte, radix: 16) }.joined()
    }
}

extension FinishReason {
    var name: String {
        switch self {
        case .stop: "stop"
        case .length: "length"
        }
    }
}
