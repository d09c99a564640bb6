/// How a worker or gateway keeps in touch with its coordinator: hello until welcomed, then heartbeats; silence makes a new connection.
///
/// States: greeting (hello is repeated with growing pauses, because a connection may come up late or drop what it was given) and joined.
/// Nothing here ends: a coordinator may be gone for days.
struct CoordinatorLink: Hashable, Sendable {
    enum Action: Hashable, Sendable {
        case hello
        case heartbeat
        case reconnect
    }

    private let heartbeatIntervalMs: UInt64
    private let timeoutMs: UInt64
    private let greetingTimeoutMs: UInt64
    private let backoffMinMs: UInt64
    private let backoffMaxMs: UInt64

    private(set) var isJoined = false
    /// While greeting: since when. While joined: since when nothing was heard.
    private(set) var silentSince = Instant(nanoseconds: 0)
    private var connectedAt = Instant(nanoseconds: 0)
    private var nextAction: Instant?
    private var backoffMs: UInt64

    /// - Parameter timeoutMs: of silence, while joined. A hello has `Limits.greetingTimeoutMs`, or this if it is longer.
    init(heartbeatIntervalMs: UInt64, timeoutMs: UInt64, backoffMinMs: UInt64, backoffMaxMs: UInt64) {
        precondition(heartbeatIntervalMs > 0 && backoffMinMs > 0 && timeoutMs > 0, "pauses are longer than nothing")
        self.heartbeatIntervalMs = heartbeatIntervalMs
        self.timeoutMs = timeoutMs
        greetingTimeoutMs = max(timeoutMs, Limits.greetingTimeoutMs)
        self.backoffMinMs = backoffMinMs
        self.backoffMaxMs = backoffMaxMs
        backoffMs = backoffMinMs
    }

    mutating func start(at now: Instant) -> [Action] {
        silentSince = now
        connectedAt = now
        return greet(now)
    }

    /// Anything from the coordinator.
    mutating func heard(at now: Instant) { if isJoined { silentSince = now } }

    mutating func welcomed(at now: Instant) {
        isJoined = true
        silentSince = now
        backoffMs = backoffMinMs
        nextAction = now.advanced(milliseconds: heartbeatIntervalMs)
    }

    /// The coordinator does not know this peer (any more). Ignored while a hello is under way already, or two answers would make four.
    mutating func helloExpected(at now: Instant) -> [Action] {
        guard isJoined else { return [] }
        isJoined = false
        silentSince = now
        return greet(now)
    }

    /// The coordinator said that it ends, or will not have us now: greet again after a pause.
    mutating func dismissed(at now: Instant) {
        if isJoined { silentSince = now }
        isJoined = false
        backoff(now)
    }

    mutating func tick(at now: Instant) -> [Action] {
        guard let due = deadline, due <= now else { return [] }
        if isJoined {
            // Silence counts while somebody listens: where this process itself stood still, what the coordinator said is still to be read.
            let lateMs = now.milliseconds(since: due)
            if lateMs >= heartbeatIntervalMs { silentSince = min(now, silentSince.advanced(milliseconds: lateMs)) }
            guard silentSince.advanced(milliseconds: timeoutMs) > now else {
                isJoined = false
                silentSince = now
                connectedAt = now
                return [.reconnect] + greet(now)
            }
            nextAction = now.advanced(milliseconds: heartbeatIntervalMs)
            return [.heartbeat]
        }
        // A hello that is not answered for so long may sit in a dead connection.
        guard connectedAt.advanced(milliseconds: greetingTimeoutMs) <= now else { return greet(now) }
        connectedAt = now
        return [.reconnect] + greet(now)
    }

    var deadline: Instant? {
        guard isJoined else { return nextAction }
        let silenceEnds = silentSince.advanced(milliseconds: timeoutMs)
        return nextAction.map { min($0, silenceEnds) } ?? silenceEnds
    }

    private mutating func greet(_ now: Instant) -> [Action] {
        backoff(now)
        return [.hello]
    }

    private mutating func backoff(_ now: Instant) {
        nextAction = now.advanced(milliseconds: backoffMs)
        backoffMs = min(backoffMs * 2, backoffMaxMs)
    }
}
