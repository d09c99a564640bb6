import Testing

@testable import Gateway

@Suite struct RateLimitTests {
    private let start = ContinuousClock.now

    private func at(_ seconds: Double) -> ContinuousClock.Instant { start + .seconds(seconds) }

    private func client(_ settings: String) throws -> Client {
        try Client(name: "alice", settings: settings.split(separator: " "), place: "line")
    }

    @Test func aBucketHoldsAMinuteAndFillsEvenly() {
        var bucket = MinuteBucket(perMinute: 60, at: at(0))
        #expect(bucket.available(at: at(0)) == 60)
        bucket.take(60, at: at(0))
        #expect(bucket.available(at: at(0)) == 0 && bucket.wait(for: 1, at: at(0)) == .seconds(1))
        #expect(bucket.available(at: at(10)) == 10 && bucket.wait(for: 10, at: at(10)) == .zero)
        #expect(bucket.wait(for: 61, at: at(10)) == nil, "no wait is long enough")
        #expect(bucket.available(at: at(10_000)) == 60)
        // Overdrawn by a minute and a half.
        bucket.take(150, at: at(10_000))
        #expect(bucket.available(at: at(10_001)) == 0)
        #expect(bucket.wait(for: 1, at: at(10_001)) == .seconds(90))
        bucket.giveBack(1_000, at: at(10_000))
        #expect(bucket.available(at: at(10_000)) == 60)
        // An instant before the last one changes nothing.
        #expect(bucket.available(at: at(9_000)) == 60)
    }

    @Test func aChangedLimitKeepsWhatWasTaken() {
        var bucket = MinuteBucket(perMinute: 60, at: at(0))
        bucket.take(50, at: at(0))
        bucket.change(perMinute: 600, at: at(0))
        #expect(bucket.available(at: at(0)) == 550)
        bucket.change(perMinute: 20, at: at(0))
        #expect(bucket.available(at: at(0)) == 0)
    }

    @Test func requestsAreRefusedUntilThereAreSome() throws {
        let limits = RateLimits()
        let alice = try client("requests-per-minute=2")
        try limits.take(requestOf: alice, at: at(0))
        try limits.take(requestOf: alice, at: at(0))
        let error = #expect(throws: APIError.self) { try limits.take(requestOf: alice, at: at(0)) }
        #expect(error?.status == 429 && error?.type == "requests" && error?.code == "rate_limit_exceeded" && error?.retryAfterSeconds == 30)
        #expect(error?.shouldRetry == nil && error?.message.contains("try again in 30s") == true)
        try limits.take(requestOf: alice, at: at(30))
        #expect(throws: APIError.self) { try limits.take(requestOf: alice, at: at(59)) }
        // Nobody else is concerned.
        var bob = try client("requests-per-minute=2")
        bob.tenant = Client.tenant(named: "bob")
        try limits.take(requestOf: bob, at: at(30))
        for _ in 0..<100 { try limits.take(requestOf: .anybody, at: at(30)) }
    }

    @Test func tokensOfAnswersAreOwed() throws {
        let limits = RateLimits()
        let alice = try client("tokens-per-minute=100")
        try limits.take(tokens: 40, of: alice, at: at(0))
        limits.charge(tokens: 90, to: alice, at: at(0))
        let error = #expect(throws: APIError.self) { try limits.take(tokens: 10, of: alice, at: at(0)) }
        #expect(error?.type == "tokens" && error?.retryAfterSeconds == 24, "30 owed and 10 wanted at 100 a minute")
        try limits.take(tokens: 10, of: alice, at: at(24.001))
        let tooLong = #expect(throws: APIError.self) { try limits.take(tokens: 101, of: alice, at: at(1_000)) }
        #expect(tooLong?.shouldRetry == false && tooLong?.retryAfterSeconds == nil)
        limits.giveBack(tokens: 10, to: alice, at: at(24.001))
        try limits.take(tokens: 10, of: alice, at: at(24.001))
    }

    @Test func headersAreThoseThatClientsKnow() throws {
        let limits = RateLimits()
        let alice = try client("requests-per-minute=60 tokens-per-minute=600")
        try limits.take(requestOf: alice, at: at(0))
        try limits.take(tokens: 5, of: alice, at: at(0))
        let headers = Dictionary(uniqueKeysWithValues: limits.headers(of: alice, at: at(0)).map { ($0.0.rawName, $0.1) })
        #expect(
            headers == [
                "x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-limit-tokens": "600", "x-ratelimit-remaining-tokens": "595", "x-ratelimit-reset-tokens": "500ms",
            ])
        #expect(limits.headers(of: .anybody, at: at(0)).isEmpty)
        // A limit that was taken out of the file is forgotten, and begins anew when it comes back.
        #expect(limits.headers(of: try client(""), at: at(0)).isEmpty)
        #expect(limits.headers(of: alice, at: at(0)).first { $0.0 == HeaderName.remainingRequests }?.1 == "60")
    }

    @Test(arguments: [
        (0.0, "0ms"), (0.0001, "1ms"), (0.02, "20ms"), (0.9995, "1s"), (1.0, "1s"), (1.2, "1.2s"), (59.9999, "1m0s"), (360.0, "6m0s"), (61.05, "1m1.05s"),
    ])
    func durationsAreWrittenAsOpenAIDoes(seconds: Double, text: String) {
        #expect(RateLimits.text(.seconds(seconds)) == text)
    }
}
