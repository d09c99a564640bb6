import ClusterCore
import Hummingbird
import Prompt

extension GatewayResponder {
    /// `POST /tokenize`, in llama-server's shape (`content`) and vLLM's (`prompt` or `messages`); each gets its own answer.
    func tokenize(_ call: Call) async throws(APIError) -> Response {
        let (fields, model) = try await body(of: call)
        if let content = try fields.string("content") {
            let tokens = model.tokenizer.encode(
                content, addSpecial: try fields.bool("add_special"), parseSpecial: try fields.bool("parse_special", default: true))
            return pieces(tokens, model, withPieces: try fields.bool("with_pieces"))
        }
        let tokens: [TokenID]
        if let prompt = try fields.string("prompt") {
            tokens = model.tokenizer.encode(prompt, addSpecial: try fields.bool("add_special_tokens", default: true), parseSpecial: true)
        } else if fields.value("messages") != nil {
            tokens = try Conversation(fields, limits: limits).tokens(model, now: WallClock.templateClock)
        } else {
            throw .missing("content", "'content' or 'prompt' with a string, or 'messages'")
        }
        let strings = try fields.bool("return_token_strs")
        return .json(capacity: tokens.count * 8 + 128) { writer in
            writer.object {
                $0.member("count", tokens.count)
                $0.member("max_model_len", model.contextTokens)
                $0.member("tokens") { $0.array(tokens) { $0.int($1) } }
                $0.member("token_strs") { writer in
                    if strings { writer.array(tokens) { $0.string(model.tokenizer.name(of: $1)) } } else { writer.null() }
                }
            }
        }
    }

    private func pieces(_ tokens: [TokenID], _ model: ServedModel, withPieces: Bool) -> Response {
        .json(capacity: tokens.count * 8 + 64) { writer in
            writer.object { outer in
                outer.member("tokens") { list in
                    list.array(tokens) { writer, token in
                        guard withPieces else { return writer.int(token) }
                        let bytes = model.tokenizer.bytes(of: token)
                        writer.object {
                            $0.member("id", Int(token))
                            $0.member("piece") { writer in
                                // Half a character has no text; llama-server gives its bytes then.
                                if let text = String(validating: bytes, as: UTF8.self) {
                                    writer.string(text)
                                } else {
                                    writer.array(bytes) { $0.int($1) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// `POST /detokenize`: the text stands under llama-server's name for it and under vLLM's.
    func detokenize(_ call: Call) async throws(APIError) -> Response {
        let (fields, model) = try await body(of: call)
        guard let items = try fields.array("tokens", max: Limits.contextTokensMax) else { throw .missing("tokens", "an array of token ids") }
        var tokens: [TokenID] = []
        tokens.reserveCapacity(items.count)
        for (index, item) in items.enumerated() {
            tokens.append(try GenerationOptions.token(item, "tokens[\(index)]", vocabulary: model.tokenizer.vocabularySize))
        }
        let text = model.tokenizer.text(of: tokens, skipSpecialTokens: false)
        return .json(capacity: text.utf8.count * 2 + 64) { writer in
            writer.object {
                $0.member("content", text)
                $0.member("prompt", text)
            }
        }
    }
}
