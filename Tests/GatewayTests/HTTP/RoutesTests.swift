import ClusterCore
import Foundation
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

    @Test func aRequestIsNamedByHeaderThenBodyThenUs() async throws {
        try await withGateway(cluster) { port, _ in
            let body = #"{"prompt":"a","request_id":"from-body"}"#
            #expect(try await exchange(port, "POST", "/v1/completions", body).headers["x-request-id"] == "from-body")
            let both = try await exchange(port, "POST", "/v1/completions", body, headers: ["x-request-id": "from-header"])
            #expect(both.headers["x-request-id"] == "from-header")
            let unusable = try await exchange(port, "GET", "/ping", headers: ["x-request-id": "a b"])
            #expect(unusable.headers["x-request-id"]?.count == 32)
        }
    }

    @Test func headHasNoBody() async throws {
        try await withGateway(cluster) { port, _ in
            let reply = try await exchange(port, "HEAD", "/health")
            #expect(reply.status == 200)
            #expect(reply.body.isEmpty)
        }
    }

    @Test func keysAreAskedForWhereThereAreAny() async throws {
        let path = NSTemporaryDirectory() + "gateway-keys-\(UUID().uuidString)"
        // SHA-256 of "secret".
        let text = "# keys\nalice 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\n"
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        #expect(chmod(path, 0o644) == 0)
        #expect(throws: GatewayError.self) { try APIKeys(path: path) }
        #expect(chmod(path, 0o600) == 0)
        try await withGateway(cluster, apiKeysPath: path) { port, _ in
            for (header, status) in [("Bearer secret", 200), ("bearer secret", 200), ("Bearer secret2", 401), ("secret", 401), ("", 401)] {
                let reply = try await exchange(port, "GET", "/v1/models", headers: header.isEmpty ? [:] : ["Authorization": header])
                #expect(reply.status == status)
            }
            #expect(try await exchange(port, "GET", "/health").status == 200)
            let refused = try await exchange(port, "POST", "/v1/completions", #"{"prompt":"a"}"#)
            #expect(try value(refused.body, "error.type") == "authentication_error")
        }
    }
}
}
