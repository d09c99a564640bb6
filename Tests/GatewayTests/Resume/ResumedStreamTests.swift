import ClusterCore
import Testing

@testable import Gateway

extension OverHTTP {
/// Streams that go on at a gateway that never saw them, by `Last-Event-ID`.
@Suite struct ResumedStreamTests {
    private struct Event: Hashable {
        var id: String?
        var data: String
    }

    /// As the HTML standard reads them.
    private func events(_ body: String) -> [Event] {
        body.parts(at: "\n\n").compactMap { block in
            var event = Event(data: "")
            for line in block.split(separator: "\n") {
                if line.hasPrefix("id: ") { event.id = String(line.dropFirst(4)) }
                if line.hasPrefix("data: ") { event.data += line.dropFirst(6) }
            }
            return event.data.isEmpty ? nil : event
        }
    }

    private func stream(_ port: Int, _ path: String, _ body: String, last: String? = nil) async throws -> [Event] {
        let headers = last.map { ["Last-Event-ID": $0] } ?? ["Accept": "text/event-stream"]
        let reply = try await exchange(port, "POST", path, body, headers: headers)
        #expect(reply.status == 200, "\(reply.body)")
        return events(reply.body)
    }

    private func refusal(_ port: Int, _ path: String, _ body: String, last: String) async throws -> String {
        let reply = try await exchange(port, "POST", path, body, headers: ["Last-Event-ID": last])
        #expect(reply.status == 400)
        guard case .string(let code) = try value(reply.body, "error.code") else { return reply.body }
        return code
    }

    static let requests: [(path: String, body: String)] = [
        ("/v1/chat/completions", #"{"messages":[{"role":"user","content":"a"}],"stream":true,"stream_options":{"include_usage":true}}"#),
        ("/v1/chat/completions", #"{"messages":[{"role":"user","content":"a"}],"stream":true,"n":2,"stop":"!?","logprobs":true}"#),
        ("/v1/completions", #"{"prompt":["ab","c"],"echo":true,"stream":true,"max_tokens":40,"return_token_ids":true,"temperature":0.7}"#),
        ("/v1/completions", #"{"prompt":"ab","stream":true,"max_tokens":9,"n":3,"stream_options":{"include_usage":true}}"#),
    ]

    /// At two gateways, whose coordinators give the tokens one by one to the first and all at once to the second.
    @Test(arguments: requests.indices) func theRestFollowsWhatWasDelivered(index: Int) async throws {
        let (path, body) = Self.requests[index]
        let answer = TinyModel.tokens("Hé€ so!? on").map { EmittedToken(token: $0, logprob: -1.5) }
        let first = ScriptedCluster { $0.answers(answer, ending: .length) }
        let second = ScriptedCluster { request in
            (0..<UInt32(request.choices)).flatMap { choice in
                [
                    FromCoordinator.tokens(TokenBatch(request: request.id, choice: choice, firstIndex: 0, tokens: answer)),
                    .finished(request.id, choice: choice, tokenCount: answer.count, .length),
                ]
            }
        }
        var whole: [Event] = []
        try await withGateway(first) { port, _ in whole = try await stream(port, path, body) }
        #expect(whole.last?.data == "[DONE]" && whole.last?.id == nil)
        #expect(whole.dropLast().allSatisfy { $0.id != nil } && Set(whole.map(\.id)).count == whole.count)
        try await withGateway(second) { port, _ in
            for place in whole.indices.dropLast() {
                let rest = try await stream(port, path, body, last: whole[place].id!)
                #expect(rest.map(\.data) == whole[(place + 1)...].map(\.data), "from event \(place) of \(whole.count)")
                // And once more, from the middle of the rest.
                guard rest.count > 2 else { continue }
                let again = try await stream(port, path, body, last: rest[rest.count / 2 - 1].id!)
                #expect(again.map(\.data) == rest[(rest.count / 2)...].map(\.data), "from event \(place), then from the middle")
            }
            let metrics = try await exchange(port, "GET", "/metrics").body
            #expect(metrics.contains("staffel_streams_resumed_total{"))
        }
        let begun = first.submitted[0]
        #expect(second.submitted.allSatisfy { $0.sampling.seed == begun.sampling.seed }, "a request without a seed keeps the one that it was given")
        #expect(second.submitted[0].continues == begun.id)
        #expect(second.submitted.allSatisfy { $0.continues != nil && $0.continues != $0.id })
        if first.submitted.count > 1 { #expect(second.submitted[1].continues == first.submitted[1].id) }
    }

    /// The role's chunk has an id too: the client may have had just that.
    @Test func anErrorHasNoIDAndDoesNotEndTheStream() async throws {
        let (path, body) = Self.requests[0]
        let failing = ScriptedCluster { request in
            Array(request.says("Hello").prefix(3)) + [.failed(request.id, Failure(.noCapacity, "no worker is left"))]
        }
        var before: [Event] = []
        try await withGateway(failing) { port, _ in before = try await stream(port, path, body) }
        #expect(before.count == 6, "a role, three letters, the error and [DONE]")
        #expect(before[4].id == nil && before[4].data.contains("no_capacity"))
        try await withGateway(ScriptedCluster { $0.says("Hello") }) { port, _ in
            let rest = try await stream(port, path, body, last: before[3].id!)
            #expect(try value(rest[0].data, "choices.0.delta.content") == "l")
            #expect(try rest.count == 5 && value(rest[0].data, "id") == value(before[0].data, "id"))
        }
    }

    @Test func commentsDoNotEndAnEventThatHasAnID() async throws {
        var limits = GatewayLimits()
        limits.keepAliveMs = 40
        limits.firstAnswerWaitMs = 10
        let cluster = ScriptedCluster { _ in [] }
        try await withGateway(cluster, limits: limits) { port, _ in
            let client = try TestClient(port: port)
            try client.request("POST", "/v1/completions", body: Array(#"{"prompt":"a","stream":true}"#.utf8), headers: ["Accept": "TEXT/event-stream, */*"])
            let quiet = try await client.receive { $0.parts(at: ": keep-alive\n").count > 3 }
            #expect(!quiet.contains(": keep-alive\n\n"))
            for message in cluster.submitted[0].says("x") { cluster.say(message) }
            let rest = try await client.receive { _ in false }
            #expect(rest.contains("id: s1."))
        }
    }

    @Test func idsAreForThoseWhoAccept() async throws {
        try await withGateway(ScriptedCluster { $0.says("x") }) { port, _ in
            for accept in [[:], ["Accept": "*/*"], ["Accept": "application/json"]] {
                let reply = try await exchange(port, "POST", "/v1/completions", #"{"prompt":"a","stream":true}"#, headers: accept)
                #expect(!reply.body.contains("id: "), "\(accept)")
            }
            let reply = try await exchange(
                port, "POST", "/v1/completions", #"{"prompt":"a"}"#, headers: ["Accept": "text/event-stream", "Last-Event-ID": "nonsense"])
            #expect(reply.status == 200, "what is no stream has nothing to go on with")
            let begun = try await stream(port, "/v1/completions", #"{"prompt":"a","stream":true}"#, last: "")
            #expect(begun.count == 3, "an empty id is none")
        }
    }

    @Test func anotherRequestOrModelIsRefused() async throws {
        let (path, body) = Self.requests[0]
        var last = ""
        try await withGateway(ScriptedCluster { $0.says("Hello") }) { port, _ in
            last = try await stream(port, path, body)[2].id!
            let changed = body.replacing("\"a\"", with: "\"b\"")
            for (body, id, code) in [
                (changed, last, "last_event_id_request_mismatch"), (body + " ", last, "last_event_id_request_mismatch"),
                (body, String(last.dropLast()), "invalid_last_event_id"), (body, "41", "invalid_last_event_id"),
            ] {
                let found = try await refusal(port, path, body, last: id)
                #expect(found == code)
            }
        }
        var welcome = TinyModel.welcome()
        welcome.modelDigest = ModelDigest(bytes: Array(repeating: 0xAC, count: 32))!
        try await withGateway(ScriptedCluster(welcome: welcome) { $0.says("Hello") }) { port, _ in
            let found = try await refusal(port, path, body, last: last)
            #expect(found == "last_event_id_model_mismatch")
        }
    }
}
}

extension String {
    fileprivate func parts(at separator: String) -> [String] {
        var parts: [String] = []
        var rest = self[...]
        while let range = rest.firstRange(of: separator) {
            parts.append(String(rest[..<range.lowerBound]))
            rest = rest[range.upperBound...]
        }
        return parts + [String(rest)]
    }
}
