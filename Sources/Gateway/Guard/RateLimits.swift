import ClusterCore
import Hummingbird
import Synchronization

/// Requests and tokens that each API key's holder may have in a minute at this gateway.
///
/// A request is counted when it comes, whatever becomes of it. Its prompt's tokens are taken when it is admitted, its answer's as they are made:
/// an answer is never cut for this, the requests after it wait until what it overdrew is made good.
final class RateLimits: Sendable {
    typealias Instant = ContinuousClock.Instant

    /// What of a client's is limited; OpenAI's words.
    enum Kind: String, Sendable { case requests, tokens }

    private struct Account {
        var requests: MinuteBucket?
        var tokens: MinuteBucket?
    }

    private let accounts = Mutex<[Tenant: Account]>([:])

    /// Counts a request.
    /// - Throws: 429 when the client had as many as it may; it is not counted then.
    func take(requestOf client: Client, at now: Instant = .now) throws(APIError) {
        let refusal: APIError? = update(client, now) { account in
            guard let wait = account.requests?.wait(for: 1, at: now), wait > .zero else {
                account.requests?.take(1, at: now)
                return nil
            }
            return Self.refusal(.requests, limit: client.requestsPerMinuteMax, asked: 1, wait: wait)
        }
        if let refusal { throw refusal }
    }

    /// Takes a prompt's tokens.
    /// - Throws: 429 when they are more than there are; none are taken then.
    func take(tokens: Int, of client: Client, at now: Instant = .now) throws(APIError) {
        let refusal: APIError? = update(client, now) { account in
            guard account.tokens != nil else { return nil }
            let wait = account.tokens!.wait(for: tokens, at: now)
            guard wait == .zero else { return Self.refusal(.tokens, limit: client.tokensPerMinuteMax, asked: tokens, wait: wait) }
            account.tokens!.take(tokens, at: now)
            return nil
        }
        if let refusal { throw refusal }
    }

    /// Tokens that were generated, which nobody could know before.
    func charge(tokens: Int, to client: Client, at now: Instant = .now) { update(client, now) { $0.tokens?.take(tokens, at: now) } }

    /// A prompt that was not run after all.
    func giveBack(tokens: Int, to client: Client, at now: Instant = .now) { update(client, now) { $0.tokens?.giveBack(tokens, at: now) } }

    /// The headers that OpenAI's clients know: how much there may be, how much is left, when all of it will be there again.
    func headers(of client: Client, at now: Instant = .now) -> [(HeaderName.Name, String)] {
        update(client, now) { account in
            var headers: [(HeaderName.Name, String)] = []
            func write(_ bucket: inout MinuteBucket?, _ limit: HeaderName.Name, _ remaining: HeaderName.Name, _ reset: HeaderName.Name) {
                guard bucket != nil else { return }
                headers.append((limit, String(bucket!.perMinute)))
                headers.append((remaining, String(bucket!.available(at: now))))
                headers.append((reset, Self.text(bucket!.waitUntilFull(at: now))))
            }
            write(&account.requests, HeaderName.limitRequests, HeaderName.remainingRequests, HeaderName.resetRequests)
            write(&account.tokens, HeaderName.limitTokens, HeaderName.remainingTokens, HeaderName.resetTokens)
            return headers
        }
    }

    /// Clients that have no limits have no account either, so there are never more of these than lines in the file of keys.
    private func update<Value>(_ client: Client, _ now: Instant, _ body: (inout Account) -> Value) -> Value {
        accounts.withLock { accounts in
            guard client.isMetered else {
                accounts[client.tenant] = nil
                var none = Account()
                return body(&none)
            }
            var account = accounts[client.tenant] ?? Account()
            Self.fit(&account.requests, client.requestsPerMinuteMax, now)
            Self.fit(&account.tokens, client.tokensPerMinuteMax, now)
            defer { accounts[client.tenant] = account }
            return body(&account)
        }
    }

    /// The file of keys may say something else than it did.
    private static func fit(_ bucket: inout MinuteBucket?, _ limit: Int?, _ now: Instant) {
        guard let limit else { return bucket = nil }
        if bucket == nil { return bucket = MinuteBucket(perMinute: limit, at: now) }
        if bucket!.perMinute != limit { bucket!.change(perMinute: limit, at: now) }
    }

    /// - Parameter wait: `nil` where waiting does not help.
    private static func refusal(_ kind: Kind, limit: Int?, asked: Int, wait: Duration?) -> APIError {
        let limitText = "With this API key \(limit ?? 0) \(kind.rawValue) a minute are allowed, and \(asked) were asked for"
        guard let wait else {
            return APIError(
                status: 429, type: kind.rawValue, code: "rate_limit_exceeded", message: "\(limitText) at once: shorten the prompt.", shouldRetry: false)
        }
        let seconds = max(1, Int(wait.inSeconds.rounded(.up)))
        return APIError(
            status: 429, type: kind.rawValue, code: "rate_limit_exceeded",
            message: "\(limitText) before enough of it was free again. Please try again in \(text(wait)).",
            retryAfterSeconds: min(seconds, Limits.retryAfterSecondsMax))
    }

    /// OpenAI's way to write durations: `20ms`, `1.2s`, `6m0s`. Rounded up to whole milliseconds.
    static func text(_ duration: Duration) -> String {
        let milliseconds = Int((max(0, duration.inSeconds) * 1_000).rounded(.up))
        guard milliseconds >= 1_000 else { return "\(milliseconds)ms" }
        let (minutes, rest) = milliseconds.quotientAndRemainder(dividingBy: 60_000)
        let (seconds, fraction) = rest.quotientAndRemainder(dividingBy: 1_000)
        var text = "\(seconds)"
        if fraction > 0 {
            var digits = String(1_000 + fraction).dropFirst()
            while digits.last == "0" { digits.removeLast() }
            text += ".\(digits)"
        }
        return (minutes > 0 ? "\(minutes)m" : "") + text + "s"
    }
}
