import ClusterCore
import Foundation
import Prompt
import Testing

@testable import Gateway

/// API keys with shares and bounds, and what a client is told when there is no room.
@Suite struct ClientTests {
    // SHA-256 of "alice-key" and "bob-key".
    static let alice = "72ee9d4355ccb9d3a4c9dbf37382e38e75c1b1a225b5bd1f729ee91bbda30c20"
    static let bob = "9b94dc1a51a38769f135edf04033ad7f2f487b6c25929be7a861cfc1ab10cf98"

    @Test func keysHaveSharesAndBounds() throws {
        let text = "# keys\nalice \(Self.alice)\n\nbob\t\(Self.bob) open=3 weight=4 priority=-2 # a comment\nalice \(String(repeating: "0", count: 64))\n"
        let keys = try APIKeys(text: text, path: "keys")
        let alice = try #require(keys.client(authorization: "Bearer alice-key"))
        #expect(alice.name == "alice" && alice.weight == 1 && alice.prioritySoonest == .min && alice.choicesOpenMax == nil)
        #expect("\(alice.tenant)" == "2bd806c97f0e00af")
        let bob = try #require(keys.client(authorization: "bearer bob-key"))
        #expect(bob.name == "bob" && bob.weight == 4 && bob.prioritySoonest == -2 && bob.choicesOpenMax == 3)
        #expect("\(bob.tenant)" == "81b637d8fcd2c6da")
        #expect(keys.client(authorization: "Bearer carol-key") == nil && keys.client(authorization: nil) == nil)
        #expect(Client.anybody.tenant == .shared && Client.anybody.weight == 1)
    }

    @Test(arguments: [
        ("alice", "64 hexadecimal digits"), ("alice \(alice.dropLast())", "64 hexadecimal digits"),
        ("alice \(alice) weight", "weight=N"), ("alice \(alice) weight=", "weight=N"), ("alice \(alice) weight=2x", "weight=N"),
        ("alice \(alice) weight=0", "1...100"), ("alice \(alice) weight=101", "1...100"), ("alice \(alice) open=0", "1...4096"),
        ("alice \(alice) priority=2147483648", "2147483647"), ("alice \(alice) weight=1 weight=1", "twice"),
        ("alice \(alice) wieght=1", "only weight=N, priority=N, open=N, requests-per-minute=N and tokens-per-minute=N"), ("alice \(alice) weight=9999999999999999999", "weight=N"),
        ("alice \(alice)\nalice \(bob) weight=2", "Line 2 of 'keys' says something else of 'alice'"),
    ])
    func whatIsWrongIsNamed(line: String, wanted: String) {
        let error = #expect(throws: GatewayError.self) { try APIKeys(text: line, path: "keys") }
        #expect(error?.code == .apiKeys && error?.message.contains("of 'keys'") == true)
        #expect(error?.message.contains(wanted) == true, "\(error?.message ?? "")")
    }

    @Test func priorityHasABound() throws {
        let keys = try APIKeys(text: "a \(Self.alice) priority=3\nb \(Self.bob) priority=-3\n", path: "keys")
        let (a, b) = (try #require(keys.client(authorization: "Bearer alice-key")), try #require(keys.client(authorization: "Bearer bob-key")))
        #expect(try a.priority(asked: nil) == 3 && a.priority(asked: 3) == 3 && a.priority(asked: 9) == 9)
        #expect(try b.priority(asked: nil) == 0 && b.priority(asked: -3) == -3 && Client.anybody.priority(asked: .min) == .min)
        let error = #expect(throws: APIError.self) { try a.priority(asked: 0) }
        #expect(error?.status == 400 && error?.param == "priority" && error?.code == "out_of_range")
    }
}

extension OverHTTP {
    @Suite struct SharesTests {
        private static func withKeys(_ text: String, _ body: (String) async throws -> Void) async throws {
            let path = NSTemporaryDirectory() + "gateway-keys-\(UUID().uuidString)"
            try Data(text.utf8).write(to: URL(fileURLWithPath: path))
            defer { try? FileManager.default.removeItem(atPath: path) }
            #expect(chmod(path, 0o600) == 0)
            try await body(path)
        }

        private func complete(_ port: Int, _ key: String, _ json: String = #"{"prompt":"a"}"#) async throws -> TestClient.Reply {
            try await exchange(port, "POST", "/v1/completions", json, headers: ["Authorization": "Bearer \(key)"])
        }

        private func open(_ port: Int, _ key: String, _ json: String = #"{"prompt":"a"}"#) throws -> TestClient {
            let client = try TestClient(port: port)
            try client.request("POST", "/v1/completions", body: Array(json.utf8), headers: ["Authorization": "Bearer \(key)"])
            return client
        }

        @Test func aRequestCarriesItsKeysShare() async throws {
            let cluster = ScriptedCluster { $0.says("x") }
            try await Self.withKeys("alice \(ClientTests.alice) weight=7 priority=2\nbob \(ClientTests.bob)\n") { path in
                try await withGateway(cluster, apiKeysPath: path) { port, _ in
                    #expect(try await complete(port, "alice-key").status == 200)
                    #expect(try await complete(port, "bob-key", #"{"prompt":"a","priority":-4}"#).status == 200)
                    let refused = try await complete(port, "alice-key", #"{"prompt":"a","priority":1}"#)
                    #expect(refused.status == 400)
                    #expect(try value(refused.body, "error.param") == "priority")
                    let sent = cluster.submitted
                    #expect(sent.map(\.tenant) == [Client.tenant(named: "alice"), Client.tenant(named: "bob")])
                    #expect(sent.map(\.weight) == [7, 1] && sent.map(\.priority) == [2, -4])
                }
            }
        }

        @Test func aKeyMayHaveSoManyOpenAndNoMore() async throws {
            let cluster = ScriptedCluster { _ in [] }
            try await Self.withKeys("alice \(ClientTests.alice) open=2\nbob \(ClientTests.bob)\n") { path in
                try await withGateway(cluster, apiKeysPath: path) { port, _ in
                    let first = try open(port, "alice-key", #"{"prompt":"a","n":2}"#)
                    try await eventually { cluster.submitted.count == 1 }
                    let refused = try await complete(port, "alice-key")
                    #expect(refused.status == 429 && refused.headers["retry-after"] == "1")
                    #expect(try value(refused.body, "error.code") == "rate_limit_exceeded")
                    #expect(try value(refused.body, "error.type") == "rate_limit_error")
                    #expect(try value(refused.body, "error.param") == .null)
                    let other = try open(port, "bob-key", #"{"prompt":"a","n":3}"#)
                    try await eventually { cluster.submitted.count == 2 }
                    for request in cluster.submitted { for message in request.says("x") { cluster.say(message) } }
                    #expect(try await first.reply().status == 200)
                    #expect(try await other.reply().status == 200)
                    try await expectIdle(port)
                    let again = try open(port, "alice-key")
                    try await eventually { cluster.submitted.count == 3 }
                    for message in cluster.submitted[2].says("x") { cluster.say(message) }
                    #expect(try await again.reply().status == 200)
                }
            }
        }

        @Test func oneKeyCannotTakeTheLastPlaces() async throws {
            var limits = GatewayLimits()
            limits.choicesOpenMax = 16
            let cluster = ScriptedCluster { _ in [] }
            try await Self.withKeys("alice \(ClientTests.alice)\nbob \(ClientTests.bob)\n") { path in
                try await withGateway(cluster, limits: limits, apiKeysPath: path) { port, _ in
                    let first = try open(port, "alice-key", #"{"prompt":"a","n":14}"#)
                    try await eventually { cluster.submitted.count == 1 }
                    let refused = try await complete(port, "alice-key")
                    #expect(refused.status == 429)
                    #expect(try value(refused.body, "error.code") == "queue_full")
                    let other = try open(port, "bob-key")
                    try await eventually { cluster.submitted.count == 2 }
                    for request in cluster.submitted { for message in request.says("x") { cluster.say(message) } }
                    #expect(try await first.reply().status == 200)
                    #expect(try await other.reply().status == 200)
                }
            }
        }

        /// The coordinator's word in its refusal, or where the gateway itself refuses, what it foretold last.
        @Test func retryAfterIsTheForetoldWait() async throws {
            let cluster = ScriptedCluster { request in
                request.choices == 1 ? [] : [.failed(request.id, Failure(.queueFull, "full", retryAfterSeconds: 37))]
            }
            var limits = GatewayLimits()
            limits.choicesOpenMax = 2
            limits.firstAnswerWaitMs = 30_000
            try await withGateway(cluster, limits: limits) { port, _ in
                for stream in ["true", "false"] {
                    let refused = try await exchange(port, "POST", "/v1/completions", #"{"prompt":"a","n":2,"stream":\#(stream)}"#)
                    #expect(refused.status == 429 && refused.headers["retry-after"] == "37")
                }
                let first = try TestClient(port: port)
                try first.request("POST", "/v1/completions", body: Array(#"{"prompt":"a"}"#.utf8))
                try await eventually { cluster.submitted.count == 3 }
                for (wait, seconds) in [(41_500, "42"), (10_000_000, "120"), (0, "1")] as [(UInt64, String)] {
                    cluster.say(.heartbeatReply(Heartbeat(epoch: Epoch(0), lastStep: StepNumber(0), stepsQueued: 0, expectedWaitMs: wait)))
                    try await eventually("for \(seconds)") {
                        let refused = try await exchange(port, "POST", "/v1/completions", #"{"prompt":"a","n":2}"#)
                        return refused.status == 429 && refused.headers["retry-after"] == seconds
                    }
                }
                for message in cluster.submitted[2].says("x") { cluster.say(message) }
                #expect(try await first.reply().status == 200)
            }
        }
    }
}
