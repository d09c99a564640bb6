import ClusterCore
import Prompt
import Testing

@testable import Gateway

@Suite struct RequestDecodingTests {
    private static func job(_ json: String, chat: Bool, limits: GatewayLimits = GatewayLimits()) throws -> GenerationJob {
        guard case .object(let object) = try TemplateValue(json: Array(json.utf8)) else { throw TestClient.Trouble(message: "no object") }
        let model = try TinyModel.served()
        let fields = Fields(object)
        return chat
            ? try GenerationJob(chat: fields, model: model, limits: limits, randomSeed: 99, now: TemplateClock(secondsSinceEpoch: 0))
            : try GenerationJob(completion: fields, model: model, limits: limits, randomSeed: 99)
    }

    private static func refusal(_ json: String, chat: Bool, limits: GatewayLimits = GatewayLimits()) throws -> APIError? {
        do {
            _ = try job(json, chat: chat, limits: limits)
            return nil
        } catch let error as APIError {
            return error
        }
    }

    // MARK: Refusals

    struct Refusal: Sendable, CustomTestStringConvertible {
        var json: String
        var param: String?
        var code: String
        var testDescription: String { json }

        init(_ json: String, _ param: String?, _ code: String) {
            self.json = json
            self.param = param
            self.code = code
        }
    }

    /// Members of a chat request beside a good `messages`.
    static let chatRefusals: [Refusal] = [
        Refusal(#""temperature":"hot""#, "temperature", "invalid_type"),
        Refusal(#""temperature":-0.1"#, "temperature", "out_of_range"),
        Refusal(#""temperature":101"#, "temperature", "out_of_range"),
        Refusal(#""temperature":1e999"#, "temperature", "out_of_range"),
        Refusal(#""top_p":0"#, "top_p", "out_of_range"),
        Refusal(#""top_p":1e-60"#, "top_p", "out_of_range"),
        Refusal(#""top_p":1.01"#, "top_p", "out_of_range"),
        Refusal(#""top_k":-2"#, "top_k", "out_of_range"),
        Refusal(#""top_k":1.5"#, "top_k", "invalid_type"),
        Refusal(#""min_p":2"#, "min_p", "out_of_range"),
        Refusal(#""repetition_penalty":0"#, "repetition_penalty", "out_of_range"),
        Refusal(#""presence_penalty":2.1"#, "presence_penalty", "out_of_range"),
        Refusal(#""frequency_penalty":-3"#, "frequency_penalty", "out_of_range"),
        Refusal(#""n":0"#, "n", "out_of_range"),
        Refusal(#""n":129"#, "n", "out_of_range"),
        Refusal(#""n":true"#, "n", "invalid_type"),
        Refusal(#""best_of":3"#, "best_of", "not_supported"),
        Refusal(#""seed":"x""#, "seed", "invalid_type"),
        Refusal(#""max_tokens":0"#, "max_tokens", "out_of_range"),
        Refusal(#""max_completion_tokens":-1"#, "max_completion_tokens", "out_of_range"),
        Refusal(#""max_tokens":600"#, "messages", "context_length_exceeded"),
        Refusal(#""min_tokens":5,"max_tokens":4"#, "min_tokens", "out_of_range"),
        Refusal(#""min_tokens":600"#, "messages", "context_length_exceeded"),
        Refusal(#""stop":"""#, "stop", "out_of_range"),
        Refusal(#""stop":["a",3]"#, "stop[1]", "invalid_type"),
        Refusal(#""stop":{}"#, "stop", "invalid_type"),
        Refusal(#""stop":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"]"#, "stop", "array_too_long"),
        Refusal(#""stop_token_ids":[261]"#, "stop_token_ids[0]", "out_of_range"),
        Refusal(#""stop_token_ids":["a"]"#, "stop_token_ids[0]", "invalid_type"),
        Refusal(#""logit_bias":{"261":1}"#, "logit_bias", "out_of_range"),
        Refusal(#""logit_bias":{"x":1}"#, "logit_bias", "out_of_range"),
        Refusal(#""logit_bias":{"1":101}"#, "logit_bias.1", "out_of_range"),
        Refusal(#""logit_bias":{"1":"a"}"#, "logit_bias.1", "invalid_type"),
        Refusal(#""logit_bias":[]"#, "logit_bias", "invalid_type"),
        Refusal(#""logprobs":1"#, "logprobs", "invalid_type"),
        Refusal(#""top_logprobs":2"#, "top_logprobs", "invalid_value"),
        Refusal(#""logprobs":true,"top_logprobs":21"#, "top_logprobs", "out_of_range"),
        Refusal(#""stream":"yes""#, "stream", "invalid_type"),
        Refusal(#""stream_options":{"include_usage":true}"#, "stream_options", "invalid_value"),
        Refusal(#""stream":true,"stream_options":{"include_usage":1}"#, "stream_options.include_usage", "invalid_type"),
        Refusal(#""request_id":"a b""#, "request_id", "invalid_value"),
        Refusal(#""priority":1e10"#, "priority", "out_of_range"),
        Refusal(#""response_format":{"type":"json_object"}"#, "response_format", "not_supported"),
        Refusal(#""response_format":{"type":"json_schema","json_schema":{}}"#, "response_format", "not_supported"),
        Refusal(#""response_format":"json""#, "response_format", "invalid_type"),
        Refusal(#""structured_outputs":{"regex":"a"}"#, "structured_outputs", "not_supported"),
        Refusal(#""grammar":"root ::= a""#, "grammar", "not_supported"),
        Refusal(#""prompt_logprobs":1"#, "prompt_logprobs", "not_supported"),
        Refusal(#""chat_template":"{{ x }}""#, "chat_template", "not_supported"),
        Refusal(#""functions":[]"#, "functions", "not_supported"),
        Refusal(#""modalities":["text","audio"]"#, "modalities", "not_supported"),
        Refusal(#""tool_choice":"required""#, "tool_choice", "not_supported"),
        Refusal(#""tool_choice":{"type":"function","function":{"name":"f"}}"#, "tool_choice", "not_supported"),
        Refusal(#""tool_choice":7"#, "tool_choice", "invalid_type"),
        Refusal(#""tools":[{"type":"function"}]"#, "tools[0].function", "missing_required_parameter"),
        Refusal(#""tools":[{"type":"retrieval"}]"#, "tools[0].type", "not_supported"),
        Refusal(#""continue_final_message":true"#, "continue_final_message", "invalid_value"),
        Refusal(#""continue_final_message":true,"add_generation_prompt":true"#, "continue_final_message", "invalid_value"),
    ]

    @Test(arguments: chatRefusals) func chatMemberIsRefusedByName(_ refusal: Refusal) throws {
        let error = try Self.refusal(#"{"messages":[{"role":"user","content":"Hi"}],\#(refusal.json)}"#, chat: true)
        #expect(error?.status == 400)
        #expect(error?.param == refusal.param)
        #expect(error?.code == refusal.code)
        #expect(error?.message.isEmpty == false)
    }

    static let conversationRefusals: [Refusal] = [
        Refusal("{}", "messages", "missing_required_parameter"),
        Refusal(#"{"messages":[]}"#, "messages", "missing_required_parameter"),
        Refusal(#"{"messages":"Hi"}"#, "messages", "invalid_type"),
        Refusal(#"{"messages":["Hi"]}"#, "messages[0]", "invalid_type"),
        Refusal(#"{"messages":[{"content":"Hi"}]}"#, "messages[0].role", "missing_required_parameter"),
        Refusal(#"{"messages":[{"role":"robot","content":"Hi"}]}"#, "messages[0].role", "invalid_value"),
        Refusal(#"{"messages":[{"role":3,"content":"Hi"}]}"#, "messages[0].role", "invalid_type"),
        Refusal(#"{"messages":[{"role":"user"}]}"#, "messages[0].content", "missing_required_parameter"),
        Refusal(#"{"messages":[{"role":"user","content":3}]}"#, "messages[0].content", "invalid_type"),
        Refusal(#"{"messages":[{"role":"user","content":[3]}]}"#, "messages[0].content[0]", "invalid_type"),
        Refusal(#"{"messages":[{"role":"user","content":[{"text":"a"}]}]}"#, "messages[0].content[0].type", "missing_required_parameter"),
        Refusal(
            #"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:"}}]}]}"#,
            "messages[0].content[0].type", "not_supported"),
        Refusal(
            #"{"messages":[{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{"}}]}]}"#,
            "messages[0].tool_calls[0].function.arguments", "invalid_json"),
        Refusal(
            #"{"messages":[{"role":"assistant","tool_calls":[{"id":"1"}]}]}"#, "messages[0].tool_calls[0].function",
            "missing_required_parameter"),
    ]

    @Test(arguments: conversationRefusals) func conversationIsRefusedByName(_ refusal: Refusal) throws {
        let error = try Self.refusal(refusal.json, chat: true)
        #expect(error?.status == 400)
        #expect(error?.param == refusal.param)
        #expect(error?.code == refusal.code)
    }

    static let completionRefusals: [Refusal] = [
        Refusal("{}", "prompt", "missing_required_parameter"),
        Refusal(#"{"prompt":""}"#, "prompt", "invalid_value"),
        Refusal(#"{"prompt":[]}"#, "prompt", "invalid_value"),
        Refusal(#"{"prompt":[[]]}"#, "prompt[0]", "invalid_value"),
        Refusal(#"{"prompt":3}"#, "prompt", "invalid_type"),
        Refusal(#"{"prompt":["a",1]}"#, "prompt[1]", "invalid_type"),
        Refusal(#"{"prompt":[1,"a"]}"#, "prompt[1]", "invalid_type"),
        Refusal(#"{"prompt":[261]}"#, "prompt[0]", "out_of_range"),
        Refusal(#"{"prompt":[-1]}"#, "prompt[0]", "out_of_range"),
        Refusal(#"{"prompt":[[1],[2,261]]}"#, "prompt[1][1]", "out_of_range"),
        Refusal(#"{"prompt":["a","b"],"n":65}"#, "n", "out_of_range"),
        Refusal(#"{"prompt":"a","logprobs":21}"#, "logprobs", "out_of_range"),
        Refusal(#"{"prompt":"a","logprobs":true}"#, "logprobs", "invalid_type"),
        Refusal(#"{"prompt":"a","echo":true,"logprobs":1}"#, "echo", "not_supported"),
        Refusal(#"{"prompt":"a","suffix":"b"}"#, "suffix", "not_supported"),
    ]

    @Test(arguments: completionRefusals) func completionIsRefusedByName(_ refusal: Refusal) throws {
        let error = try Self.refusal(refusal.json, chat: false)
        #expect(error?.status == 400)
        #expect(error?.param == refusal.param)
        #expect(error?.code == refusal.code)
    }

    @Test func contextErrorTellsTokensAndLimit() throws {
        let error = try Self.refusal(#"{"prompt":"\#(String(repeating: "a", count: 500))","max_tokens":13}"#, chat: false)
        #expect(error?.code == "context_length_exceeded")
        #expect(
            error?.message
                == "The prompt has 500 tokens, and 13 more were asked for: 513 in all, but the model's context is 512 tokens. Shorten the prompt or ask for fewer tokens.")
        #expect(try Self.refusal(#"{"prompt":"\#(String(repeating: "a", count: 500))","max_tokens":12}"#, chat: false) == nil)
    }

    @Test func tooManyMessages() throws {
        var limits = GatewayLimits()
        limits.messagesMax = 2
        let message = #"{"role":"user","content":"a"}"#
        let error = try Self.refusal(#"{"messages":[\#(message),\#(message),\#(message)]}"#, chat: true, limits: limits)
        #expect(error?.param == "messages")
        #expect(error?.code == "array_too_long")
    }

    // MARK: What is taken

    @Test func everyOptionArrives() throws {
        let job = try Self.job(
            #"""
            {"prompt":"a","temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.05,"repetition_penalty":1.1,"presence_penalty":0.25,
             "frequency_penalty":-0.5,"logit_bias":{"7":-100,"3":2.5},"seed":-1,"min_tokens":2,"max_tokens":9,"ignore_eos":true,
             "stop_token_ids":[5],"stop":["x","y"],"include_stop_str_in_output":true,"skip_special_tokens":false,"n":2,"best_of":2,
             "logprobs":3,"stream":true,"stream_options":{"include_usage":true},"priority":-4,"return_token_ids":true,
             "request_id":"my-request","user":"somebody","made_up":{"deep":[1]}}
            """#, chat: false)
        var sampling = SamplingParameters()
        sampling.temperature = 0.5
        sampling.topP = 0.9
        sampling.topK = 40
        sampling.minP = 0.05
        sampling.repetitionPenalty = 1.1
        sampling.presencePenalty = 0.25
        sampling.frequencyPenalty = -0.5
        sampling.logitBias = [LogitBias(token: 3, bias: 2.5), LogitBias(token: 7, bias: -100)]
        sampling.seed = .max
        sampling.minTokens = 2
        sampling.maxTokens = 9
        sampling.ignoreEndTokens = true
        sampling.stopTokens = [5]
        let id = RequestID(high: 1, low: 2)
        #expect(
            job.request(id, prompt: 0, of: .anybody, priority: try #require(job.options.priority))
                == GenerationRequest(id: id, prompt: [97], sampling: sampling, choices: 2, topLogprobs: 3, priority: -4))
        #expect(job.options.stopStrings == ["x", "y"])
        #expect(job.options.includesStopString && !job.options.skipsSpecialTokens && job.options.streams)
        #expect(job.options.includesUsage && job.options.returnsTokenIDs)
        #expect(job.options.requestName == "my-request")
    }

    @Test func absentAndNullAreDefaults() throws {
        let bare = try Self.job(#"{"prompt":"ab"}"#, chat: false)
        let nulls = try Self.job(#"{"prompt":"ab","temperature":null,"n":null,"stop":null,"seed":null,"logprobs":null,"stream":null}"#, chat: false)
        let id = RequestID(high: 0, low: 0)
        #expect(bare.request(id, prompt: 0, of: .anybody, priority: 0) == nulls.request(id, prompt: 0, of: .anybody, priority: 0))
        #expect(bare.request(id, prompt: 0, of: .anybody, priority: 0).sampling.maxTokens == 16)
        #expect(bare.request(id, prompt: 0, of: .anybody, priority: 0).sampling.seed == 99)
        #expect(bare.request(id, prompt: 0, of: .anybody, priority: 0).sampling.temperature == 1)
        let chat = try Self.job(#"{"messages":[{"role":"user","content":"Hi"}]}"#, chat: true)
        #expect(Int(chat.answerTokens[0]) == TinyModel.contextTokens - chat.promptTokens)
    }

    @Test func promptShapes() throws {
        func prompts(_ json: String) throws -> [[TokenID]] { try Self.job(#"{"prompt":\#(json)}"#, chat: false).prompts.map(\.tokens) }
        #expect(try prompts(#""ab""#) == [[97, 98]])
        #expect(try prompts(#"["ab","c"]"#) == [[97, 98], [99]])
        #expect(try prompts("[97,98]") == [[97, 98]])
        #expect(try prompts("[[97],[98,99]]") == [[97], [98, 99]])
        // Control tokens in a raw prompt are tokens; the merge of t and h is made.
        #expect(try prompts(#""<|im_start|>th""#) == [[TinyModel.turnStart, TinyModel.th]])
        #expect(try Self.job(#"{"prompt":[104,105],"echo":true}"#, chat: false).prompts[0].echo == "hi")
    }

    @Test func messagesReachTheTemplateInItsOwnTerms() throws {
        let model = try TinyModel.served()
        func text(_ json: String) throws -> String {
            let job = try Self.job(json, chat: true)
            return model.tokenizer.text(of: job.prompts[0].tokens, skipSpecialTokens: false)
        }
        // Parts are joined, developers are the system, absent content of a calling assistant is empty.
        #expect(
            try text(
                #"""
                {"messages":[{"role":"developer","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
                {"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},
                {"role":"tool","tool_call_id":"1","content":"4"}]}
                """#)
                == "<|im_start|>system\na\nb<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n<|im_start|>tool\n4<|im_end|>\n<|im_start|>assistant\n")
        #expect(
            try text(#"{"messages":[{"role":"user","content":"a"}],"tools":[{"type":"function","function":{"name":"f"}}]}"#)
                == "<|im_start|>user\na<|im_end|>\n" + #"[{"type": "function", "function": {"name": "f"}}]"# + "<|im_start|>assistant\n")
        #expect(
            try text(#"{"messages":[{"role":"user","content":"a"}],"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"none"}"#)
                == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n")
        #expect(
            try text(#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"Well, "}],"continue_final_message":true}"#)
                == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nWell,")
        #expect(try text(#"{"messages":[{"role":"user","content":"a"}],"add_generation_prompt":false}"#) == "<|im_start|>user\na<|im_end|>\n")
    }

    /// Whatever bytes come, a request is decoded or refused, never a trap.
    @Test(arguments: 0..<20) func damagedRequestsAreRefused(seed: UInt64) throws {
        var random = SplitMix(state: seed)
        let model = try TinyModel.served()
        let good = Array(
            #"{"messages":[{"role":"user","content":[{"type":"text","text":"Hi \u00e9"}]}],"temperature":0.5,"stop":["a"],"n":2,"logit_bias":{"1":2},"tools":[{"type":"function","function":{"name":"f"}}],"stream":true,"stream_options":{"include_usage":true}}"#
                .utf8)
        for _ in 0..<200 {
            var bytes = good
            for _ in 0...Int(random.next() % 4) {
                let place = Int(random.next() % UInt64(bytes.count))
                switch random.next() % 4 {
                case 0: bytes[place] = UInt8(truncatingIfNeeded: random.next())
                case 1: bytes.remove(at: place)
                case 2: bytes.insert(Array("[]{}\":,0-9eE.null".utf8)[Int(random.next() % 17)], at: place)
                default: bytes.removeSubrange(place...)
                }
                if bytes.isEmpty { bytes = [0x7B] }
            }
            guard let value = try? TemplateValue(json: bytes), case .object(let object) = value else { continue }
            do throws(APIError) {
                _ = try GenerationJob(
                    chat: Fields(object), model: model, limits: GatewayLimits(), randomSeed: 0,
                    now: TemplateClock(secondsSinceEpoch: 0))
            } catch {
                #expect(error.status == 400)
            }
        }
    }
}

/// Seeded randomness for tests (Steele, Lea and Flood's SplitMix64).
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
