import ClusterCore
import Logging
import Prompt
import Testing
import ZeroMQ

@testable import Gateway

extension OverHTTP {
    /// Whole answers and refusals over HTTP.
    @Suite struct AnswersTests {
        @Test func modelsAreListed() async throws {
            try await withGateway(ScriptedCluster { _ in [] }, names: ["small", "org/tiny"]) { port, _ in
                let list = try await exchange(port, "GET", "/v1/models")
                #expect(try value(list.body, "object") == "list")
                #expect(try value(list.body, "data.0.id") == "small")
                #expect(try value(list.body, "data.1.id") == "org/tiny")
                #expect(try value(list.body, "data.0.root") == "tiny")
                #expect(try value(list.body, "data.0.max_model_len") == 512)
                #expect(try value(list.body, "data.0.meta.n_params") == 12_345)
                #expect(try value(list.body, "data.0.origin.license") == "cc-by-nc-4.0")
                #expect(try value(list.body, "data.0.origin.restrictions.0") == "non-commercial use only")
                for path in ["/v1/models/org/tiny", "/v1/models/org%2Ftiny"] {
                    #expect(try value(try await exchange(port, "GET", path).body, "id") == "org/tiny")
                }
                let missing = try await exchange(port, "GET", "/v1/models/other")
                #expect(missing.status == 404)
                #expect(try value(missing.body, "error.code") == "model_not_found")
            }
        }

        @Test func choicesOfListPromptsComeInOrder() async throws {
            let cluster = ScriptedCluster { request in
                request.says(request.prompt == [97] ? "one" : "two", ending: .length)
            }
            try await withGateway(cluster) { port, _ in
                let reply = try await exchange(port, "POST", "/v1/completions", #"{"prompt":["a","b"],"n":2,"echo":true,"max_tokens":3}"#)
                for (index, text) in ["aone", "aone", "btwo", "btwo"].enumerated() {
                    #expect(try value(reply.body, "choices.\(index).text") == .string(text))
                    #expect(try value(reply.body, "choices.\(index).index") == .int(index))
                    #expect(try value(reply.body, "choices.\(index).finish_reason") == "length")
                }
                #expect(try value(reply.body, "usage") == ["prompt_tokens": 2, "completion_tokens": 12, "total_tokens": 14])
                #expect(cluster.submitted.map(\.choices) == [2, 2])
            }
        }

        @Test func logprobsInBothShapes() async throws {
            let cluster = ScriptedCluster { request in
                let drawn = [
                    EmittedToken(
                        token: 104, logprob: -0.25, top: [TokenLogprob(token: 104, logprob: -0.25), TokenLogprob(token: 0xE2, logprob: -.infinity)])
                ]
                return request.answers(drawn, ending: .length)
            }
            try await withGateway(cluster) { port, _ in
                let chat = try await exchange(
                    port, "POST", "/v1/chat/completions",
                    #"{"messages":[{"role":"user","content":"a"}],"logprobs":true,"top_logprobs":2,"max_tokens":1}"#)
                #expect(
                    try value(chat.body, "choices.0.logprobs")
                        == TemplateValue(
                            json: Array(
                                #"""
                                {"content":[{"token":"h","logprob":-0.25,"bytes":[104],"top_logprobs":[{"token":"h","logprob":-0.25,"bytes":[104]},
                                {"token":"\#u{FFFD}","logprob":-9999.0,"bytes":[226]}]}],"refusal":null}
                                """#.utf8)))
                let legacy = try await exchange(port, "POST", "/v1/completions", #"{"prompt":"a","logprobs":2,"max_tokens":1}"#)
                #expect(
                    try value(legacy.body, "choices.0.logprobs")
                        == TemplateValue(
                            json: Array(
                                #"{"tokens":["h"],"token_logprobs":[-0.25],"top_logprobs":[{"h":-0.25,"bytes:\\xe2":-9999.0}],"text_offset":[0]}"#
                                    .utf8)))
            }
        }

        @Test func tokenIDsAreReturnedOnRequest() async throws {
            try await withGateway(ScriptedCluster { $0.says("hi", ending: .length) }) { port, _ in
                let reply = try await exchange(port, "POST", "/v1/completions", #"{"prompt":"ab","return_token_ids":true}"#)
                #expect(try value(reply.body, "choices.0.token_ids") == [104, 105])
                #expect(try value(reply.body, "choices.0.prompt_token_ids") == [97, 98])
            }
        }

        @Test func tokenizeAndDetokenizeInBothShapes() async throws {
            try await withGateway(ScriptedCluster { _ in [] }) { port, _ in
                func tokens(_ json: String) async throws -> TemplateValue {
                    try value(try await exchange(port, "POST", "/tokenize", json).body, "tokens")
                }
                #expect(try await tokens(#"{"content":"ath"}"#) == [97, 259])
                #expect(try await tokens(#"{"content":"<|im_end|>"}"#) == [257])
                #expect(try await tokens(#"{"content":"<","parse_special":false}"#) == [60])
                #expect(
                    try await tokens(#"{"content":"aé","with_pieces":true}"#) == [
                        ["id": 97, "piece": "a"], ["id": 195, "piece": [195]], ["id": 169, "piece": [169]]
                    ])
                #expect(
                    try await tokens(#"{"messages":[{"role":"user","content":"a"}],"add_generation_prompt":false}"#) == [
                        256, 117, 115, 101, 114, 10, 97, 257, 10
                    ])
                let vllm = try await exchange(port, "POST", "/tokenize", #"{"prompt":"ab","return_token_strs":true}"#)
                #expect(vllm.body == #"{"count":2,"max_model_len":512,"tokens":[97,98],"token_strs":["a","b"]}"#)
                let back = try await exchange(port, "POST", "/detokenize", #"{"tokens":[97,259,257]}"#)
                #expect(back.body == #"{"content":"ath<|im_end|>","prompt":"ath<|im_end|>"}"#)
                #expect(try await exchange(port, "POST", "/tokenize", "{}").status == 400)
                #expect(try await exchange(port, "POST", "/detokenize", #"{"tokens":[261]}"#).status == 400)
            }
        }

        // MARK: Refusals

        struct Refused: Sendable, CustomTestStringConvertible {
            var method = "POST"
            var path = "/v1/chat/completions"
            var body: [UInt8]
            var status: Int
            var code: String
            var testDescription: String { "\(method) \(path) \(status) \(code)" }
        }

        static let refused: [Refused] = [
            Refused(body: Array("{".utf8), status: 400, code: "invalid_json"),
            Refused(body: [], status: 400, code: "invalid_json"),
            Refused(body: Array("[]".utf8), status: 400, code: "invalid_type"),
            Refused(body: Array(#"{"messages":"#.utf8) + [0xFF, 0x7D], status: 400, code: "invalid_utf8"),
            Refused(body: Array(String(repeating: "[", count: 100).utf8), status: 400, code: "invalid_json"),
            Refused(body: Array(#"{"model":"gpt-4","messages":[]}"#.utf8), status: 404, code: "model_not_found"),
            Refused(body: Array(#"{"model":4}"#.utf8), status: 400, code: "invalid_type"),
            Refused(body: Array("{\((0..<300).map { "\"k\($0)\":0" }.joined(separator: ","))}".utf8), status: 400, code: "too_many_members"),
            Refused(body: Array(repeating: 0x20, count: 70_000), status: 413, code: "request_too_large"),
            Refused(method: "GET", body: [], status: 405, code: "method_not_allowed"),
            Refused(method: "POST", path: "/v1/models", body: Array("{}".utf8), status: 405, code: "method_not_allowed"),
            Refused(method: "GET", path: "/v1/nothing", body: [], status: 404, code: "unknown_url"),
            Refused(method: "GET", path: "/", body: [], status: 404, code: "unknown_url")
        ]

        @Test(arguments: refused) func refusalsHaveStatusAndShape(_ refused: Refused) async throws {
            var limits = GatewayLimits()
            limits.bodyBytesMax = 65_536
            try await withGateway(ScriptedCluster { _ in [] }, limits: limits) { port, _ in
                let client = try TestClient(port: port)
                try client.request(refused.method, refused.path, body: refused.body, headers: ["x-request-id": "mine-1"])
                let reply = try await client.reply()
                #expect(reply.status == refused.status)
                #expect(reply.headers["x-request-id"] == "mine-1")
                #expect(reply.headers["content-type"] == "application/json")
                #expect(try value(reply.body, "error.code") == .string(refused.code))
                guard case .object(let error) = try value(reply.body, "error") else { throw TestClient.Trouble(message: reply.body) }
                #expect(error.entries.map(\.key) == ["message", "type", "param", "code"])
            }
        }

        @Test func aBodyThatGrowsPastTheLimitIsRefused() async throws {
            var limits = GatewayLimits()
            limits.bodyBytesMax = 1000
            try await withGateway(ScriptedCluster { _ in [] }, limits: limits) { port, _ in
                let client = try TestClient(port: port)
                let chunk = "1f4\r\n" + String(repeating: " ", count: 500) + "\r\n"
                try client.send(
                    Array(
                        ("POST /v1/completions HTTP/1.1\r\nHost: t\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
                            + chunk + chunk + chunk + "0\r\n\r\n").utf8))
                #expect(try await client.reply().status == 413)
            }
        }

        struct Fate: Sendable, CustomTestStringConvertible {
            var code: FailureCode
            var status: Int
            var type: String
            var testDescription: String { "\(code)" }
        }

        static let fates: [Fate] = [
            Fate(code: .contextExceeded, status: 400, type: "invalid_request_error"),
            Fate(code: .queueFull, status: 429, type: "rate_limit_error"),
            Fate(code: .notReady, status: 503, type: "unavailable_error"),
            Fate(code: .shuttingDown, status: 503, type: "unavailable_error"),
            Fate(code: .numericFailure, status: 500, type: "server_error"),
            Fate(code: .internalError, status: 500, type: "server_error")
        ]

        /// A refusal by the coordinator has its own status, for streams too as long as no header went out.
        @Test(arguments: fates) func theClustersFailureHasAStatus(_ fate: Fate) async throws {
            let cluster = ScriptedCluster { [.failed($0.id, Failure(fate.code, "because"))] }
            // Long enough for any machine: a stream's headers must not go out before the refusal has come.
            var limits = GatewayLimits()
            limits.firstAnswerWaitMs = 30_000
            try await withGateway(cluster, limits: limits) { port, server in
                for stream in ["true", "false"] {
                    let reply = try await exchange(port, "POST", "/v1/completions", #"{"prompt":"a","stream":\#(stream)}"#)
                    #expect(reply.status == fate.status)
                    #expect(try value(reply.body, "error.type") == .string(fate.type))
                    #expect(try value(reply.body, "error.message") == "because")
                    #expect((reply.headers["retry-after"] != nil) == (fate.status == 429))
                    #expect((reply.headers["x-should-retry"] == "false") == (fate.code == .numericFailure))
                }
                try await expectIdle(port)
            }
        }

        @Test func fullMeans429UntilThereIsRoom() async throws {
            var limits = GatewayLimits()
            limits.choicesOpenMax = 2
            let cluster = ScriptedCluster { _ in [] }
            try await withGateway(cluster, limits: limits) { port, _ in
                let first = try TestClient(port: port)
                try first.request("POST", "/v1/completions", body: Array(#"{"prompt":"a","n":2}"#.utf8))
                try await eventually { cluster.submitted.count == 1 }
                let reply = try await exchange(port, "POST", "/v1/completions", #"{"prompt":"b"}"#)
                #expect(reply.status == 429)
                #expect(reply.headers["retry-after"] == "1")
                #expect(try value(reply.body, "error.code") == "queue_full")
                for message in cluster.submitted[0].says("x") { cluster.say(message) }
                #expect(try await first.reply().status == 200)
                let third = try TestClient(port: port)
                try third.request("POST", "/v1/completions", body: Array(#"{"prompt":"c"}"#.utf8))
                try await eventually { cluster.submitted.count == 2 }
            }
        }

        @Test func beforeTheModelIsKnownEverythingSaysWhy() async throws {
            try await withGateway(ScriptedCluster(welcome: nil) { _ in [] }, waitingForModel: false) { port, _ in
                let health = try await exchange(port, "GET", "/health")
                #expect(health.status == 503)
                #expect(try value(health.body, "error.code") == 503)
                #expect(try value(health.body, "error.type") == "unavailable_error")
                let chat = try await exchange(port, "POST", "/v1/chat/completions", #"{"messages":[]}"#)
                #expect(chat.status == 503)
                #expect(try value(chat.body, "error.code") == "not_ready")
                #expect(try await exchange(port, "GET", "/v1/models").status == 503)
                #expect(try await exchange(port, "GET", "/ping").status == 200)
            }
        }

        @Test func healthFollowsTheCoordinator() async throws {
            let cluster = ScriptedCluster { _ in [] }
            try await withGateway(cluster) { port, _ in
                cluster.say(.health(ClusterHealth(state: .waitingForWorkers, detail: "worker b is gone")))
                try await eventually { try await exchange(port, "GET", "/health").status == 503 }
                #expect(try value(try await exchange(port, "GET", "/health").body, "error.message") == "worker b is gone")
                cluster.say(.health(ClusterHealth(state: .serving, detail: "")))
                try await eventually { try await exchange(port, "GET", "/health").status == 200 }
            }
        }

        /// A cut made anew takes a moment in which requests wait: no reason for a load balancer to take the gateway out.
        @Test(arguments: [(UInt64(3_600_000), 200), (0, 503)]) func healthToleratesAShortRecovery(toleratedMs: UInt64, status: Int) async throws {
            let cluster = ScriptedCluster { _ in [] }
            var limits = GatewayLimits()
            limits.recoveryToleratedMs = toleratedMs
            try await withGateway(cluster, limits: limits) { port, server in
                cluster.say(.health(ClusterHealth(state: .recovering, detail: "2 workers load the model")))
                try await eventually { server.health.state == .recovering }
                #expect(try await exchange(port, "GET", "/health").status == status)
                cluster.say(.health(ClusterHealth(state: .waitingForWorkers, detail: "1 of 2 expected workers are there")))
                try await eventually { try await exchange(port, "GET", "/health").status == 503 }
            }
        }

        /// Its requests would be refused: it has no vocabulary for them.
        @Test func withoutAModelNoRecoveryIsTolerated() throws {
            let keys = try CurveKeyPair.generate()
            let configuration = GatewayConfiguration(coordinatorEndpoint: "", coordinatorKey: keys.publicKey, keys: keys, name: "test")
            let link = ClusterLink(configuration: configuration, logger: Logger(label: "gateway-test")) { _ in true }
            for state in [ClusterHealth.State.serving, .recovering] {
                link.healthChanged(ClusterHealth(state: state, detail: ""))
                #expect(!link.answersRequests && link.health.state == .loading, "\(state)")
            }
        }

        @Test func aModelWithoutATemplateCompletesButDoesNotChat() async throws {
            try await withGateway(ScriptedCluster(header: TinyModel.header(template: nil)) { $0.says("x") }) { port, _ in
                let chat = try await exchange(port, "POST", "/v1/chat/completions", #"{"messages":[{"role":"user","content":"a"}]}"#)
                #expect(chat.status == 400)
                #expect(try value(chat.body, "error.code") == "no_chat_template")
                #expect(try await exchange(port, "POST", "/v1/completions", #"{"prompt":"a"}"#).status == 200)
            }
        }

        @Test func theTemplatesOwnRefusalReachesTheClient() async throws {
            let header = TinyModel.header(template: "{{ raise_exception('roles must alternate') }}")
            try await withGateway(ScriptedCluster(header: header) { _ in [] }) { port, _ in
                let chat = try await exchange(port, "POST", "/v1/chat/completions", #"{"messages":[{"role":"user","content":"a"}]}"#)
                #expect(chat.status == 400)
                #expect(try value(chat.body, "error.message") == "roles must alternate")
                #expect(try value(chat.body, "error.param") == "messages")
            }
        }

        @Test func aHeaderThatIsNoModelIsTold() async throws {
            try await withGateway(ScriptedCluster(header: [1, 2, 3]) { _ in [] }, waitingForModel: false) { port, server in
                try await eventually { server.health.detail.contains("vocabulary") && server.health.state == .waitingForWorkers }
                #expect(try await exchange(port, "GET", "/health").status == 503)
            }
        }

        @Test func aConnectionServesOneRequestAfterAnother() async throws {
            try await withGateway(ScriptedCluster { $0.says("x") }) { port, _ in
                let client = try TestClient(port: port)
                for _ in 0..<3 {
                    try client.request("POST", "/v1/completions", body: Array(#"{"prompt":"a"}"#.utf8), closing: false)
                    let reply = try await client.receive { $0.hasSuffix("}") }
                    #expect(reply.hasPrefix("HTTP/1.1 200"))
                }
            }
        }
    }
}

/// All places are given back and nothing runs any more, as the metrics tell.
func expectIdle(_ port: Int) async throws {
    try await eventually("for idleness") {
        let text = try await exchange(port, "GET", "/metrics").body
        return ["staffel_num_requests_running", "staffel_num_requests_waiting", "staffel_num_choices_open"].allSatisfy { name in
            text.contains("\(name){model_name=\"tiny\",engine=\"0\"} 0\n")
        }
    }
}
