import ClusterCore
import Prompt

@testable import Gateway

// What clients send, as far as it is ours to read: HTTP itself is read by NIO, and `ops/check-security` sends the gateway what is no HTTP.

extension FuzzTarget {
    private static let jsonWords = [
        "{", "}", "[", "]", ",", ":", "\"", "\\u0000", "\\ud800", "1e999", "-0", "9223372036854775808", "null", "true", "false", "\"role\"",
        "\"content\"", "\"messages\"", "\"prompt\"", "\"user\"", "\"tool_calls\"", "\"type\"", "\"text\"", "\"stop\"", "\"logit_bias\"", "\"n\"",
        "\"max_tokens\"", "\"stream\"", "\"logprobs\"", "\"top_logprobs\"", "\"seed\"", "\"echo\"", "\"tools\"", "\"function\"", "\"parameters\"",
    ]

    static let gateway: [FuzzTarget] = [
        FuzzTarget(
            name: "chat-request", seeds: { chatSeeds.map { Array($0.utf8) } }, dictionary: jsonWords, isText: true,
            make: { try request(chat: true) }),
        FuzzTarget(
            name: "completion-request", seeds: { completionSeeds.map { Array($0.utf8) } }, dictionary: jsonWords, isText: true,
            make: { try request(chat: false) }),
        FuzzTarget(
            name: "api-keys",
            seeds: {
                let digest = String(repeating: "ab", count: 32)
                return ["alice \(digest) weight=2 priority=-1 open=3 requests-per-minute=60 tokens-per-minute=9 # c\r\n", "b \(digest)\n\n#\nb \(digest)\n"]
                    .map { Array($0.utf8) }
            }, dictionary: ["weight=", "priority=", "open=", "requests-per-minute=", "tokens-per-minute=", "9223372036854775808", "#", "\u{2028}"], isText: true,
            make: {
                { input in
                    guard let text = String(validating: input, as: UTF8.self) else { return "no UTF-8" }
                    do {
                        let keys = try APIKeys(text: text, path: "keys")
                        _ = keys.client(authorization: "Bearer \(text)")
                        return "took \(keys.count)"
                    } catch let error as GatewayError {
                        return String(error.message.suffix(28))
                    }
                }
            }),
    ]

    private static let chatSeeds = [
        #"{"messages":[{"role":"user","content":"Hello"}],"max_tokens":5,"temperature":0.7,"top_p":0.9,"seed":7,"stream":true}"#,
        #"{"model":"tiny","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"é"}]},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},{"role":"tool","tool_call_id":"1","content":"2"}],"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{"x":{"type":"integer"}}}}}]}"#,
        #"{"messages":[{"role":"user","content":"x"}],"n":2,"stop":["a","b"],"logit_bias":{"5":-100,"7":3.5},"logprobs":true,"top_logprobs":4,"stream_options":{"include_usage":true},"min_tokens":1,"ignore_eos":true,"stop_token_ids":[3],"priority":-2,"request_id":"q"}"#,
        #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}],"continue_final_message":true,"add_generation_prompt":false,"chat_template_kwargs":{"a":[1,2.5,null,{"b":"\u00e9\ud83c\udfc3"}]}}"#,
    ]

    private static let completionSeeds = [
        #"{"prompt":"Once upon a time","max_tokens":16,"echo":true,"stream":false,"top_k":40,"min_p":0.05,"repetition_penalty":1.1}"#,
        #"{"prompt":["a","b"],"n":2,"logprobs":3,"stop":"\n","presence_penalty":0.5,"frequency_penalty":-0.5,"suffix":""}"#,
        #"{"prompt":[[1,2,3],[258,257]],"max_tokens":1,"best_of":1,"seed":-1}"#,
        #"{"prompt":[72,101,108],"temperature":0,"skip_special_tokens":false,"include_stop_str_in_output":true,"return_token_ids":true}"#,
    ]

    private static func request(chat: Bool) throws -> Reader {
        let model = try TinyModel.served()
        let limits = GatewayLimits()
        return { input in
            guard String(validating: input, as: UTF8.self) != nil else { return "no UTF-8" }
            let value: TemplateValue
            do throws(TemplateError) {
                value = try TemplateValue(json: input, depthMax: limits.jsonDepthMax)
            } catch { return "no JSON: \(error.message.prefix(24))" }
            guard case .object(let object) = value else { return "no object" }
            do throws(APIError) {
                let fields = Fields(object)
                let job =
                    chat
                    ? try GenerationJob(chat: fields, model: model, limits: limits, randomSeed: 1, now: TemplateClock(secondsSinceEpoch: 0))
                    : try GenerationJob(completion: fields, model: model, limits: limits, randomSeed: 1)
                check(job, model)
                return "took \(job.choiceCount) choices"
            } catch {
                precondition((400..<500).contains(error.status) && !error.message.isEmpty)
                return "\(error.code) \(error.param?.prefix { $0 != "[" } ?? "")"
            }
        }
    }

    /// What the coordinator would be sent is within what it takes.
    private static func check(_ job: GenerationJob, _ model: ServedModel) {
        for (index, prompt) in job.prompts.enumerated() {
            precondition(!prompt.tokens.isEmpty && prompt.tokens.allSatisfy { (0..<TokenID(model.tokenizer.vocabularySize)).contains($0) })
            precondition(prompt.tokens.count + Int(job.answerTokens[index]) <= model.contextTokens && job.answerTokens[index] > 0)
        }
        precondition((1...Limits.choicesMax).contains(job.choiceCount))
    }
}
