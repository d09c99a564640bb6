import ClusterCore
import Prompt
import Testing

@testable import Gateway

extension OverHTTP {
@Suite struct RoutesTests {
    private let cluster = ScriptedCluster { $0.says("Hello") }

    @Test func monitoringRoutesAnswer() async throws {
        try await withGateway(cluster) { port, _ in
            #expect(try await exchange(port, "GET", "/health").body == #"{"status":"ok"}"#)
            #expect(try await exchange(port, "GET", "/ping").status == 200)
            #expect(try await exchange(port, "GET", "/version").body == #"{"version":"unknown"}"#)
            let metrics = try await exchange(port, "GET", "/metrics")
            #expect(metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8")
            #expect(metrics.body.contains("staffel_serving 1\n"))
            #expect(metrics.body.contains(#"http_requests_total{handler="/health",method="GET",status="200"} 1"#))
        }
    }

    @Test func chatAnswersWhole() async throws {
        try await withGateway(cluster) { port, _ in
            let reply = try await exchange(
                port, "POST", "/v1/chat/completions", #"{"model":"tiny","messages":[{"role":"user","content":"Hi"}],"seed":3}"#)
            #expect(reply.status == 200)
            #expect(reply.headers["content-type"] == "application/json")
            #expect(reply.headers["x-request-id"]?.count == 32)
            #expect(try value(reply.body, "choices.0.message.content") == "Hello")
            #expect(try value(reply.body, "choices.0.finish_reason") == "stop")
            #expect(try value(reply.body, "object") == "chat.completion")
            #expect(try value(reply.body, "usage.completion_tokens") == 6)
            let prompt = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
            let model = try TinyModel.served()
            #expect(cluster.submitted.map(\.prompt) == [model.tokenizer.encode(prompt, addSpecial: false, parseSpecial: true)])
            #expect(cluster.submitted.first?.sampling.seed == 3)
            #expect(cluster.submitted.first?.id.description == reply.headers["x-request-id"])
        }
    }
}
}
