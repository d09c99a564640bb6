import ClusterCore
import Prompt

/// The model as clients see it.
struct ServedModel: Sendable {
    var welcome: GatewayWelcome
    let prompting: ModelPrompting
    /// Names under which it is asked for; the first is shown.
    let names: [String]
    /// What a request means that says nothing of sampling.
    let defaults: GenerationDefaults

    /// - Parameters:
    ///   - names: empty for the coordinator's name.
    ///   - usesModelDefaults: whether the model's own sampling defaults are taken.
    init(welcome: GatewayWelcome, header: [UInt8], names: [String], usesModelDefaults: Bool = true) throws {
        self.welcome = welcome
        prompting = try ModelPrompting(ggufHeader: header)
        defaults = usesModelDefaults ? prompting.defaults : GenerationDefaults()
        self.names = names.isEmpty ? [welcome.modelName] : names
    }

    var name: String { names[0] }
    var tokenizer: Tokenizer { prompting.tokenizer }
    var contextTokens: Int { welcome.contextTokens }

    /// Same bytes for the same request exactly as long as this is the same.
    var fingerprint: String { "fp_" + welcome.modelDigest.description.prefix(12) }

    func isNamed(_ name: String) -> Bool { names.contains { $0.utf8.elementsEqual(name.utf8) } }

    /// Room for the answer to a prompt, or the error that says there is none.
    /// - Parameters:
    ///   - maxTokens: what the request asks for; `nil` for as much as fits.
    ///   - param: names the prompt in the error.
    func answerTokens(promptTokens: Int, maxTokens: Int?, param: String) throws(APIError) -> Int32 {
        let room = contextTokens - promptTokens
        guard room >= 1, maxTokens ?? 1 <= room else {
            throw .contextExceeded(promptTokens: promptTokens, maxTokens: maxTokens, contextTokens: contextTokens, param: param)
        }
        // The makers' `max_new_tokens` bounds every answer, as it does in vLLM.
        return Int32(min(maxTokens ?? room, defaults.maxTokens ?? room))
    }
}
