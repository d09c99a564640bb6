import ClusterCore
import Prompt
import Testing

@testable import Gateway

extension OverHTTP {
/// Server-sent events over HTTP: shapes, and what happens when something goes wrong on either side.
@Suite struct StreamsTests {
    /// Ids and times replaced by words, so that an event can be compared as text.
    private func normalized(_ event: String) throws -> String {
        guard event != "[DONE]", case .string(let id) = try value(event, "id"), case .int(let created) = try value(event, "created") else { return event }
        return event.replacing("\"\(id)\"", with: "ID").replacing(":\(created),", with: ":TIME,")
    }

    private static let head = #""created":TIME,"model":"tiny","system_fingerprint":"fp_abababababab""#

    @Test func chatStreamIsExactlyThis() async throws {
        try await withGateway(ScriptedCluster { $0.says("Hé") }) { port, _ in
            let reply = try await exchange(
                port, "POST", "/v1/chat/completions",
                #"{"messages":[{"role":"user","content":"a"}],"stream":true,"stream_options":{"include_usage":true}}"#)
            #expect(reply.status == 200)
            #expect(reply.headers["content-type"] == "text/event-stream; charset=utf-8")
            #expect(reply.headers["cache-control"] == "no-cache")
            #expect(reply.headers["x-request-id"] != nil)
            let start = #"{"id":ID,"object":"chat.completion.chunk",\#(Self.head),"choices":["#
            #expect(
                try events(reply.body).map(normalized) == [
                    start + #"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}"#,
                    start + #"{"index":0,"delta":{"content":"H"},"logprobs":null,"finish_reason":null}],"usage":null}"#,
                    start + #"{"index":0,"delta":{"content":"é"},"logprobs":null,"finish_reason":null}],"usage":null}"#,
                    start + #"{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}"#,
                    start + #"],"usage":{"prompt_tokens":20,"completion_tokens":4,"total_tokens":24}}"#,
                    "[DONE]",
                ])
            #expect(Set(try events(reply.body).dropLast().map { try value($0, "id") }.map { "\($0)" }).count == 1)
        }
    }

    @Test func completionStreamIsExactlyThis() async throws {
        try await withGateway(ScriptedCluster { $0.says("ok", ending: .length) }) { port, _ in
            let reply = try await exchange(port, "POST", "/v1/completions", #"{"prompt":"a","echo":true,"stream":true,"max_tokens":2}"#)
            let start = #"{"id":ID,"object":"text_completion",\#(Self.head),"choices":[{"index":0,"text":"#
            #expect(
                try events(reply.body).map(normalized) == [
                    start + #""a","logprobs":null,"finish_reason":null}]}"#,
                    start + #""o","logprobs":null,"finish_reason":null}]}"#,
                    start + #""k","logprobs":null,"finish_reason":null}]}"#,
                    start + #""","logprobs":null,"finish_reason":"length"}]}"#,
                    "[DONE]",
                ])
        }
    }

    @Test func stopStringCancelsWhatTheClusterStillDoes() async throws {
        let cluster = ScriptedCluster { _ in [] }
        try await withGateway(cluster) { port, _ in
            let client = try TestClient(port: port)
            try client.request("POST", "/v1/completions", body: Array(#"{"prompt":"a","stop":"!","stream":true}"#.utf8))
            try await eventually { cluster.submitted.count == 1 }
            cluster.tokens("so!on", of: cluster.submitted[0], at: 0)
            let reply = try await client.reply()
            let pieces = events(reply.body)
            #expect(try value(pieces[0], "choices.0.text") == "s" && value(pieces[1], "choices.0.text") == "o")
            #expect(try value(pieces[2], "choices.0.finish_reason") == "stop")
            #expect(pieces[3] == "[DONE]")
            // The link has its own thread: the client's answer doesn't wait for the cluster's leave.
            try await eventually("for the cancel") { !cluster.cancelled.isEmpty }
            #expect(cluster.cancelled == [cluster.submitted[0].id])
            try await expectIdle(port)
        }
    }

    @Test func aFailureInMidStreamIsAnEventAndThenDone() async throws {
        let cluster = ScriptedCluster { _ in [] }
        try await withGateway(cluster) { port, _ in
            let client = try TestClient(port: port)
            try client.request("POST", "/v1/completions", body: Array(#"{"prompt":"a","stream":true}"#.utf8))
            try await eventually { cluster.submitted.count == 1 }
            cluster.tokens("x", of: cluster.submitted[0], at: 0)
            cluster.say(.failed(cluster.submitted[0].id, Failure(.numericFailure, "NaN in layers 3..<4")))
            let pieces = events(try await client.reply().body)
            #expect(try value(pieces[0], "choices.0.text") == "x")
            #expect(pieces[1] == #"{"error":{"message":"NaN in layers 3..<4","type":"server_error","param":null,"code":"numeric_failure"}}"#)
            #expect(pieces[2...] == ["[DONE]"])
            try await expectIdle(port)
        }
    }

    @Test func silenceIsFilledWithCommentsAndPausesAreTold() async throws {
        var limits = GatewayLimits()
        limits.keepAliveMs = 40
        limits.firstAnswerWaitMs = 10
        let cluster = ScriptedCluster { _ in [] }
        try await withGateway(cluster, limits: limits) { port, _ in
            let client = try TestClient(port: port)
            try client.request("POST", "/v1/completions", body: Array(#"{"prompt":"a","stream":true}"#.utf8))
            let quiet = try await client.receive { $0.components(": keep-alive\n\n") >= 2 }
            #expect(quiet.hasPrefix("HTTP/1.1 200"))
            #expect(!quiet.contains("data:"))
            cluster.say(.health(ClusterHealth(state: .recovering, detail: "worker b\nis gone")))
            _ = try await client.receive { $0.contains(": paused worker b is gone\n\n") }
            cluster.say(.health(ClusterHealth(state: .serving, detail: "")))
            _ = try await client.receive { $0.contains(": resumed\n\n") }
            for message in cluster.submitted[0].says("x") { cluster.say(message) }
            let rest = try await client.receive { _ in false }
            #expect(rest.contains("data: [DONE]"))
        }
    }

    // MARK: Clients that leave

    enum Leaving: CaseIterable, Sendable { case breakOff, halfClose, reset }

    /// No token is on its way and none comes: the connection alone tells.
    @Test(arguments: Leaving.allCases, [true, false]) func aClientThatLeavesCancels(_ leaving: Leaving, streaming: Bool) async throws {
        let cluster = ScriptedCluster { _ in [] }
        try await withGateway(cluster) { port, _ in
            let client = try TestClient(port: port)
            try client.request("POST", "/v1/completions", body: Array(#"{"prompt":["a","b"],"stream":\#(streaming)}"#.utf8))
            try await eventually { cluster.submitted.count == 2 }
            if streaming { _ = try await client.receive { $0.contains("\r\n\r\n") } }
            switch leaving {
            case .breakOff: client.breakOff()
            case .halfClose: client.halfClose()
            case .reset: client.reset()
            }
            try await eventually("for both cancels") { cluster.cancelled.count == 2 }
            #expect(Set(cluster.cancelled) == Set(cluster.submitted.map(\.id)))
            try await expectIdle(port)
            let metrics = try await exchange(port, "GET", "/metrics").body
            #expect(metrics.contains("staffel_clients_gone_total{model_name=\"tiny\",engine=\"0\"} 1\n"))
            #expect(metrics.contains(#"finished_reason="abort"} 1"#))
        }
    }

    @Test func aClientThatDoesNotReadLosesItsStream() async throws {
        var limits = GatewayLimits()
        limits.eventsBufferedMax = 64
        let cluster = ScriptedCluster { _ in [] }
        try await withGateway(cluster, limits: limits) { port, _ in
            let client = try TestClient(port: port, receiveBufferBytes: 4096)
            try client.request("POST", "/v1/completions", body: Array(#"{"prompt":"a","stream":true,"max_tokens":500,"ignore_eos":true}"#.utf8))
            try await eventually { cluster.submitted.count == 1 }
            // Enough for every buffer between here and the client, then one event more than may wait.
            let request = cluster.submitted[0]
            for index in 0..<600 { cluster.tokens([TinyModel.long], of: request, at: index) }
            try await eventually("for the cancel") { !cluster.cancelled.isEmpty }
            #expect(Set(cluster.cancelled) == [request.id])
            try await expectIdle(port)
            #expect(try await exchange(port, "GET", "/metrics").body.contains("staffel_slow_readers_total{model_name=\"tiny\",engine=\"0\"} 1\n"))
        }
    }

    @Test func aClientThatTakesNothingForTooLongIsDropped() async throws {
        var limits = GatewayLimits()
        limits.writeStallMs = 100
        let cluster = ScriptedCluster { _ in [] }
        try await withGateway(cluster, limits: limits) { port, _ in
            let client = try TestClient(port: port, receiveBufferBytes: 4096)
            try client.request("POST", "/v1/completions", body: Array(#"{"prompt":"a","stream":true,"max_tokens":500}"#.utf8))
            try await eventually { cluster.submitted.count == 1 }
            // One event that no socket buffer holds, then silence.
            cluster.tokens(Array(repeating: TinyModel.long, count: 600), of: cluster.submitted[0], at: 0)
            try await eventually("for the cancel") { cluster.cancelled == [cluster.submitted[0].id] }
            try await expectIdle(port)
        }
    }

    // MARK: The end of the gateway

    @Test func shutdownEndsStreamsWithAnErrorAndDone() async throws {
        let cluster = ScriptedCluster { _ in [] }
        let client = Slot<TestClient>()
        let waiting = Slot<TestClient>()
        try await withGateway(cluster) { port, _ in
            let streaming = try TestClient(port: port)
            try streaming.request("POST", "/v1/completions", body: Array(#"{"prompt":"a","stream":true}"#.utf8))
            let whole = try TestClient(port: port)
            try whole.request("POST", "/v1/completions", body: Array(#"{"prompt":"b"}"#.utf8))
            try await eventually { cluster.submitted.count == 2 }
            let request = cluster.submitted.first { $0.prompt == [97] }!
            cluster.tokens("x", of: request, at: 0)
            _ = try await streaming.receive { $0.contains("data: ") }
            client.value = streaming
            waiting.value = whole
        }
        // `withGateway` returned, so the service ended of its own accord.
        #expect(cluster.hasEnded)
        let rest = try await client.value!.receive { _ in false }
        #expect(rest.contains(#""type":"unavailable_error","param":null,"code":"shutting_down"}}"#))
        #expect(rest.contains("data: [DONE]\n\n"))
        let reply = try await waiting.value!.reply()
        #expect(reply.status == 503)
        #expect(try value(reply.body, "error.code") == "shutting_down")
    }

    @Test func shutdownDoesNotWaitForAClientThatDoesNotRead() async throws {
        var limits = GatewayLimits()
        limits.shutdownGraceMs = 50
        let cluster = ScriptedCluster { _ in [] }
        let client = Slot<TestClient>()
        try await withGateway(cluster, limits: limits) { port, _ in
            let stuck = try TestClient(port: port, receiveBufferBytes: 4096)
            try stuck.request("POST", "/v1/completions", body: Array(#"{"prompt":"a","stream":true,"max_tokens":500}"#.utf8))
            try await eventually { cluster.submitted.count == 1 }
            cluster.tokens(Array(repeating: TinyModel.long, count: 600), of: cluster.submitted[0], at: 0)
            client.value = stuck
        }
        #expect(cluster.hasEnded)
    }

    @Test func aCoordinatorThatRefusesForGoodEndsTheGateway() async throws {
        let cluster = ScriptedCluster(welcome: nil) { _ in [] }
        await #expect(throws: GatewayError.self) {
            try await withGateway(cluster, waitingForModel: false) { _, _ in
                cluster.say(.refused(Failure(.notAdmitted, "unknown key")))
                try await eventually { cluster.hasEnded }
            }
        }
    }

    // MARK: Many at once

    @Test func manyStreamsAtOnceEndWithTheirOwnText() async throws {
        let cluster = ScriptedCluster { $0.says("text of \($0.prompt.map(String.init).joined(separator: " "))") }
        try await withGateway(cluster) { port, _ in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<40 {
                    group.addTask {
                        let body = #"{"prompt":[\#(number)],"stream":true,"max_tokens":64}"#
                        let reply = try await exchange(port, "POST", "/v1/completions", body)
                        let text = try events(reply.body).dropLast().map { event -> String in
                            if case .string(let text) = try value(event, "choices.0.text") { text } else { "" }
                        }.joined()
                        #expect(text == "text of \(number)")
                    }
                }
                try await group.waitForAll()
            }
            try await expectIdle(port)
        }
    }
}
}

/// Carries a value out of a closure that the compiler takes for concurrent; the test awaits it in between.
final class Slot<Value: Sendable>: @unchecked Sendable {
    var value: Value?
}

extension String {
    /// How often `part` is in it.
    func components(_ part: String) -> Int { ranges(of: part).count }
}
