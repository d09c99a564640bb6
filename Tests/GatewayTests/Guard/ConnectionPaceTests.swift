import Foundation
import Testing

@testable import Gateway

@Suite struct ConnectionPaceTests {
    private let start = ContinuousClock.now

    private func at(_ ms: Int) -> ContinuousClock.Instant { start + .milliseconds(ms) }

    @Test func aRequestHasDeadlinesAndAnAnswerHasNone() {
        var pace = ConnectionPace(headMs: 100, bodyMs: 1_000, at: at(0))
        #expect(pace.deadline == nil && pace.idleSince == at(0))
        pace.bytesCame(at: at(5_000))
        #expect(pace.deadline == at(5_100) && pace.idleSince == nil)
        // One byte now and then is no progress.
        pace.bytesCame(at: at(5_090))
        #expect(pace.deadline == at(5_100))
        pace.headEnded(at: at(5_099))
        #expect(pace.deadline == at(6_099))
        pace.bytesCame(at: at(6_000))
        #expect(pace.deadline == at(6_099))
        pace.requestEnded()
        #expect(pace.deadline == nil && pace.idleSince == nil)
        pace.answerEnded(at: at(9_000))
        #expect(pace.deadline == nil && pace.idleSince == at(9_000))
    }

    @Test func anAnswerBeforeTheBodysEndDoesNotEndTheBody() {
        var pace = ConnectionPace(headMs: 100, bodyMs: 1_000, at: at(0))
        pace.bytesCame(at: at(0))
        pace.headEnded(at: at(1))
        pace.answerEnded(at: at(2))
        #expect(pace.deadline == at(1_001))
    }

    @Test func theNextRequestMayComeWhileTheLastIsAnswered() {
        var pace = ConnectionPace(headMs: 100, bodyMs: 1_000, at: at(0))
        pace.bytesCame(at: at(0))
        pace.headEnded(at: at(0))
        pace.requestEnded()
        pace.bytesCame(at: at(10))
        pace.headEnded(at: at(10))
        #expect(pace.deadline == at(1_010))
        pace.requestEnded()
        pace.answerEnded(at: at(20))
        #expect(pace.phase == .answering)
        pace.answerEnded(at: at(30))
        #expect(pace.idleSince == at(30))
    }

    @Test func aHandshakeIsNoRequest() {
        var pace = ConnectionPace(headMs: 100, bodyMs: 1_000, at: at(0))
        pace.bytesCame(at: at(1))
        #expect(pace.deadline == at(101))
        pace.handshakeEnded(at: at(50))
        #expect(pace.deadline == nil && pace.idleSince == at(50))
    }

    @Test func bodiesShareTheirMemory() {
        let memory = BodyMemory(freeBytes: 10, sharedBytesMax: 100)
        do {
            var a = memory.share()
            var b = memory.share()
            func grow(_ share: inout BodyMemory.Share, _ bytes: Int) -> Bool { share.grow(to: bytes) }
            let steps = [grow(&a, 10), grow(&a, 60), grow(&a, 60), grow(&b, 60), grow(&b, 61), grow(&b, 60), grow(&a, 61)]
            #expect(steps == [true, true, true, true, false, true, false])
            #expect(memory.sharedBytes == 100)
        }
        #expect(memory.sharedBytes == 0)
    }
}

extension OverHTTP {
    @Suite struct SlowClientTests {
        private func limits(_ change: (inout GatewayLimits) -> Void) -> GatewayLimits {
            var limits = GatewayLimits()
            change(&limits)
            return limits
        }

        private let cluster = ScriptedCluster { $0.says("x") }

        @Test func aHeadThatComesByteByByteIsCutOff() async throws {
            try await withGateway(cluster, limits: limits { $0.headMs = 100 }) { port, _ in
                let client = try TestClient(port: port)
                try client.send(Array("GET /health HTTP/1.1\r\nHost: a\r\nX-A: ".utf8))
                let text = try await client.receive { _ in false }
                #expect(text.isEmpty, "closed without an answer")
                let metrics = try await exchange(port, "GET", "/metrics")
                #expect(metrics.body.contains(#"staffel_connections_closed_total{reason="slow_head"} 1"#))
                // A connection that sends nothing at all is idle, not slow.
                let idle = try TestClient(port: port)
                try await Task.sleep(for: .milliseconds(250))
                try idle.request("GET", "/health")
                #expect(try await idle.reply().status == 200)
            }
        }

        @Test func aBodyThatNeverEndsIsCutOff() async throws {
            try await withGateway(cluster, limits: limits { $0.bodyMs = 100 }) { port, _ in
                let client = try TestClient(port: port)
                try client.send(Array("POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{".utf8))
                #expect(try await !client.receive { _ in false }.contains(" 200 "))
                let metrics = try await exchange(port, "GET", "/metrics")
                #expect(metrics.body.contains(#"staffel_connections_closed_total{reason="slow_body"} 1"#))
            }
        }

        @Test func aLongAnswerIsNoSlowRequest() async throws {
            let cluster = ScriptedCluster { _ in [] }
            try await withGateway(cluster, limits: limits { ($0.headMs, $0.bodyMs) = (100, 100) }) { port, _ in
                let client = try TestClient(port: port)
                try client.request("POST", "/v1/completions", body: Array(#"{"prompt":"a"}"#.utf8))
                try await eventually { !cluster.submitted.isEmpty }
                try await Task.sleep(for: .milliseconds(300))
                for message in cluster.submitted[0].says("x") { cluster.say(message) }
                #expect(try await client.reply().status == 200)
            }
        }

        @Test func theLongestIdleMakeRoomForNewOnes() async throws {
            try await withGateway(cluster, limits: limits { $0.connectionsMax = 16 }) { port, _ in
                let idle = try (0..<60).map { _ in try TestClient(port: port) }
                // However many there are, the next one is served.
                for _ in 0..<3 { #expect(try await exchange(port, "GET", "/health").status == 200) }
                let metrics = try await exchange(port, "GET", "/metrics")
                #expect(!metrics.body.contains(#"staffel_connections_closed_total{reason="evicted"} 0"#))
                withExtendedLifetime(idle) {}
            }
        }

        @Test func longBodiesTogetherHaveABound() async throws {
            try await withGateway(cluster, limits: limits { ($0.bodyFreeBytes, $0.bodiesBytesMax) = (64, 1_000) }) { port, _ in
                let refused = try await exchange(port, "POST", "/v1/completions", #"{"prompt":"\#(String(repeating: "a", count: 2_000))"}"#)
                #expect(refused.status == 503)
                #expect(try value(refused.body, "error.code") == "overloaded")
                #expect(try await exchange(port, "POST", "/v1/completions", #"{"prompt":"a"}"#).status == 200)
            }
        }

        @Test func aKeysRateIsKept() async throws {
            let path = NSTemporaryDirectory() + "gateway-rates-\(UUID().uuidString)"
            defer { try? FileManager.default.removeItem(atPath: path) }
            let key = try APIKeyFile(path: path).add(name: "alice", settings: ["requests-per-minute=2", "tokens-per-minute=100000"])
            try await withGateway(cluster, limits: limits { $0.filesLookMs = 20 }, apiKeysPath: path) { port, _ in
                func ask() async throws -> TestClient.Reply {
                    try await exchange(port, "POST", "/v1/completions", #"{"prompt":"aa"}"#, headers: ["Authorization": "Bearer \(key)"])
                }
                let first = try await ask()
                #expect(first.status == 200 && first.headers["x-ratelimit-limit-requests"] == "2")
                #expect(first.headers["x-ratelimit-remaining-requests"] == "1" && first.headers["x-ratelimit-limit-tokens"] == "100000")
                #expect(try await ask().status == 200)
                let refused = try await ask()
                #expect(refused.status == 429 && refused.headers["retry-after"] != nil && refused.headers["x-ratelimit-remaining-requests"] == "0")
                #expect(try value(refused.body, "error.code") == "rate_limit_exceeded" && value(refused.body, "error.type") == "requests")
                #expect(cluster.submitted.count == 2)
                // And a key that is taken away counts no more, soon after.
                #expect(try APIKeyFile(path: path).remove("alice") == 1)
                try await eventually("for the file to be seen") { try await ask().status == 401 }
            }
        }
    }
}
