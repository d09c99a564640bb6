import ClusterCore
import Foundation
import Logging
import Synchronization
import ZeroMQ

/// The thread that owns the socket to the coordinator and the machine behind it: poll, machine, send, to completion.
final class LinkThread: Sendable {
    /// The longest wait: a clock that the machine does not ask for costs nothing, and no wait is without end.
    private static let waitMaxMs: UInt64 = 1_000
    /// Messages taken before commands and deadlines get their turn.
    private static let messagesPerTurnMax = 256

    private let configuration: GatewayConfiguration
    private let logger: Logger
    private let context: Context
    private let mailbox: Mailbox<LinkCommand>
    private let finished = Latch()

    init(configuration: GatewayConfiguration, logger: Logger) throws(GatewayError) {
        self.configuration = configuration
        self.logger = logger
        do {
            context = try Context()
            mailbox = try Mailbox(capacity: configuration.limits.linkCommandsMax)
        } catch {
            throw GatewayError(.link, "The gateway's way to the coordinator cannot be made.", cause: error)
        }
    }

    var owner: LinkOwner {
        LinkOwner(post: { self.mailbox.post($0) }, start: { self.start($0) }, join: { await self.finished.wait() })
    }

    private func start(_ link: ClusterLink) {
        let thread = Thread { [self] in
            do throws(ZeroMQError) {
                try run(link)
            } catch {
                // Only a lack of descriptors or memory comes here; the service ends and says so.
                logger.error("the socket to the coordinator failed", metadata: ["error": "\(error)"])
                link.ended(Failure(.internalError, "\(error)"))
            }
            finished.open()
        }
        thread.name = "staffel-link"
        thread.start()
    }

    private func run(_ link: ClusterLink) throws(ZeroMQError) {
        var driver = LinkDriver(
            link: link, session: .random(in: 1...UInt64.max), name: configuration.name,
            requestsOpenMax: configuration.limits.choicesOpenMax, coordinatorWaitMs: configuration.coordinatorWaitMs, logger: logger)
        var socket = try LinkSocket(context, configuration)
        var poller = Poller()
        var goesOn = try perform(driver.start(at: Self.now), &socket)
        while goesOn {
            try wait(until: driver.nextDeadline, socket, &poller)
            goesOn = try turn(&driver, &socket)
        }
        // Goodbye is a courtesy; the coordinator's heartbeat finds out without it.
        try socket.flush()
    }

    /// False when the driver has ended.
    private func turn(_ driver: inout LinkDriver, _ socket: inout LinkSocket) throws(ZeroMQError) -> Bool {
        try socket.flush()
        for _ in 0..<Self.messagesPerTurnMax {
            guard let incoming = try socket.receive() else { break }
            let actions =
                switch incoming {
                case .message(let message, let header): driver.received(message, header: header, at: Self.now)
                case .malformed: driver.receivedMalformedFrame(at: Self.now)
                }
            guard try perform(actions, &socket) else { return false }
        }
        for command in mailbox.drain() {
            guard try perform(driver.perform(command, at: Self.now), &socket) else { return false }
        }
        if try socket.isRefused() {
            // No retry mends that: clients are told now, rather than when their patience ends.
            let failure = Failure(
                .notAdmitted, "the coordinator does not admit this gateway's key: it was revoked or never enrolled; join with a new key and token")
            return try perform(driver.received(.refused(failure), header: nil, at: Self.now), &socket)
        }
        guard let deadline = driver.nextDeadline, deadline <= Self.now else { return true }
        return try perform(driver.reachedDeadline(at: Self.now), &socket)
    }

    private func perform(_ actions: [LinkDriver.Action], _ socket: inout LinkSocket) throws(ZeroMQError) -> Bool {
        for action in actions {
            switch action {
            case .send(let message): try socket.send(message)
            case .reconnect: socket = try LinkSocket(context, configuration)
            case .ended: return false
            }
        }
        return true
    }

    private func wait(until deadline: Instant?, _ socket: borrowing LinkSocket, _ poller: inout Poller) throws(ZeroMQError) {
        let now = Self.now
        // Rounded up, or the last millisecond before a deadline would be spent spinning.
        let left = deadline.map { ($0.nanoseconds(since: now) + 999_999) / 1_000_000 } ?? Self.waitMaxMs
        poller.removeAll()
        _ = poller.watch(socket.socket, socket.hasUnsent ? [.readable, .writable] : .readable)
        _ = poller.watch(mailbox)
        _ = try poller.wait(milliseconds: Int(min(left, Self.waitMaxMs)))
    }

    private static var now: Instant { Instant(nanoseconds: DispatchTime.now().uptimeNanoseconds) }
}

/// Opens once; who waits goes on then.
private final class Latch: Sendable {
    private struct State {
        var isOpen = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())

    func open() {
        let waiting = state.withLock { state in
            defer { state = State(isOpen: true) }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    func wait() async {
        await withCheckedContinuation { continuation in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiting.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }
}
