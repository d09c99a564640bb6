/// How far a connection is with its present request, and by when it has to be further: what a client that sends a byte now and then can't
/// hold open.
///
/// States: idle (nothing of a request has come), head (some of it has), body, answering. No end state: a connection has many requests. Events
/// that don't fit the state change nothing: a client may send the next request while the last one is answered.
struct ConnectionPace: Hashable, Sendable {
    typealias Instant = ContinuousClock.Instant

    enum Phase: Hashable, Sendable {
        case idle(since: Instant)
        case head(since: Instant)
        case body(since: Instant)
        case answering
    }

    private(set) var phase: Phase
    /// Requests whose answers have not ended.
    private var answersOpen = 0
    private let headMs: UInt64
    private let bodyMs: UInt64

    init(headMs: UInt64, bodyMs: UInt64, at now: Instant) {
        self.headMs = headMs
        self.bodyMs = bodyMs
        phase = .idle(since: now)
    }

    /// Bytes, of whatever.
    mutating func bytesCame(at now: Instant) {
        if case .idle = phase { phase = .head(since: now) }
    }

    /// What came so far was no request: TLS has agreed on its keys.
    mutating func handshakeEnded(at now: Instant) {
        if case .head = phase { phase = .idle(since: now) }
    }

    mutating func headEnded(at now: Instant) {
        answersOpen += 1
        phase = .body(since: now)
    }

    mutating func requestEnded() {
        if case .body = phase { phase = .answering }
    }

    mutating func answerEnded(at now: Instant) {
        answersOpen = max(0, answersOpen - 1)
        if case .answering = phase, answersOpen == 0 { phase = .idle(since: now) }
    }

    /// When the connection is to be closed if nothing more happens; `nil` where that is not ours to say.
    var deadline: Instant? {
        switch phase {
        case .head(let since): since + .milliseconds(headMs)
        case .body(let since): since + .milliseconds(bodyMs)
        case .idle, .answering: nil
        }
    }

    var idleSince: Instant? {
        if case .idle(let since) = phase { since } else { nil }
    }
}
