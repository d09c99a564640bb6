import ClusterCore
import DequeModule

/// One direction of a connection: keeps the order of what it carries, and may lose the end of it.
final class Link {
    enum Message {
        /// With the number of the connection that it was sent over.
        case up(ToCoordinator, generation: Int)
        case down(FromCoordinator)
        case rows(StepFrame, [UInt64])
        case transfer(TransferFrame, [UInt64]?)
        case followUp(Step)
    }

    let from: Int
    let to: Int
    private(set) var queue: Deque<(at: Agenda.Time, message: Message)> = []
    private var lastArrival: Agenda.Time = 0
    /// Whether the agenda knows of the next arrival.
    var isPlanned = false
    /// Nothing arrives before.
    var blockedUntil: Agenda.Time = 0
    /// What a message's way takes times longer than usual.
    var slowness: UInt64 = 1

    init(from: Int, to: Int) {
        self.from = from
        self.to = to
    }

    var isEmpty: Bool { queue.isEmpty }

    /// When it arrives.
    func add(_ message: Message, arriving time: Agenda.Time) {
        lastArrival = max(lastArrival + 1, time)
        queue.append((lastArrival, message))
    }

    var nextArrival: Agenda.Time? { queue.first.map { max($0.at, blockedUntil) } }

    func removeFirst() -> Message { queue.removeFirst().message }

    /// What was sent last is lost.
    func lose(last count: Int) { queue.removeLast(min(count, queue.count)) }
    /// What is left of a connection that is gone, and comes when it will.
    func takeAll() -> [Message] {
        defer { loseAll() }
        return queue.map(\.message)
    }

    func loseAll() { queue.removeAll(keepingCapacity: true) }
}

/// A worker's way to the next stage, or to one with which it exchanges keys and values: connected with the first frame.
final class RowsLink {
    enum State { case unconnected, greeting, connected, refused, closed }

    let link: Link
    let endpoint: String
    /// Of the process at the other end.
    var incarnation = 0
    var state = State.unconnected
    /// Waits for the connection.
    var outbox: [Link.Message] = []

    init(from: Int, to: Int, endpoint: String) {
        link = Link(from: from, to: to)
        self.endpoint = endpoint
    }
}

/// A machine with at most one process, and its connection to the coordinator.
final class Host {
    let party: Int
    let up: Link
    let down: Link
    var clock: LocalClock
    /// Of its process: the present one or the last. An event planned for an earlier one is void.
    var incarnation = 0
    /// Nothing happens on it before.
    var frozenUntil: Agenda.Time = 0
    var timerAt: Agenda.Time = .max

    // The connection, as the coordinator's transport sees it.
    var isConnected = false
    var generation = 0
    var attempt = 0
    /// What waits for a connection.
    var outbox: [ToCoordinator] = []
    var isRevoked = false

    // What is wrong with it.
    var slowness: UInt64 = 1
    enum Loading { case works, fails, stalls }
    var loading = Loading.works

    init(party: Int, clock: LocalClock) {
        self.party = party
        self.clock = clock
        up = Link(from: party, to: 0)
        down = Link(from: 0, to: party)
    }
}
