import ClusterCore
import Logging
import Prompt
import Synchronization

/// The cluster as the HTTP side sees it: a model, a state of health, and a way in for requests.
final class ClusterLink: Sendable {
    private struct State {
        var model: ServedModel?
        var health = ClusterHealth(state: .waitingForWorkers, detail: "The gateway has not reached the coordinator yet.")
        /// The end of the last time in which `health` was serving.
        var servedUntil: ContinuousClock.Instant?
        /// Why no model could be made of what the coordinator sent.
        var modelFailure: String?
        /// Digest of the model that is being prepared.
        var preparing: ModelDigest?
        var choicesOpen = 0
        /// Not of those without an API key.
        var choicesOpenByTenant: [Tenant: Int] = [:]
        /// How long a request would wait, as the coordinator said last.
        var expectedWaitMs: UInt64 = 0
        var isShuttingDown = false
        var hasEnded = false
        var endFailure: Failure?
        var waitingForEnd: [CheckedContinuation<Void, Never>] = []
        /// Who wants the cluster's status, by a number that only this list knows.
        var waitingForStatus: [(number: UInt64, continuation: CheckedContinuation<StatusReport?, Never>)] = []
        var statusesAsked: UInt64 = 0

        mutating func hear(_ news: ClusterHealth) {
            if health.isServing, !news.isServing { servedUntil = .now }
            health = news
        }
    }

    /// A scrape is answered without the cluster's numbers when the coordinator takes longer.
    static let statusWaitMs = 250
    static let statusWaitersMax = 64

    private let state = Mutex(State())
    private let configuration: GatewayConfiguration
    private let logger: Logger
    private let post: @Sendable (LinkCommand) -> Bool

    /// - Parameter post: hands a command to the thread that owns the `LinkDriver`; false when its mailbox is full.
    init(configuration: GatewayConfiguration, logger: Logger, post: @escaping @Sendable (LinkCommand) -> Bool) {
        self.configuration = configuration
        self.logger = logger
        self.post = post
    }

    // MARK: For handlers

    /// The model, once the coordinator has told of it.
    var model: ServedModel? { state.withLock { $0.model } }

    var choicesOpen: Int { state.withLock { $0.choicesOpen } }

    /// Serving only when this gateway too is ready to.
    var health: ClusterHealth {
        state.withLock { state in
            if state.isShuttingDown { return ClusterHealth(state: .closing, detail: "The gateway is shutting down.") }
            if let failure = state.modelFailure { return ClusterHealth(state: .waitingForWorkers, detail: failure) }
            if state.model == nil, [.serving, .recovering].contains(state.health.state) {
                return ClusterHealth(state: .loading, detail: "The gateway is reading the model's vocabulary.")
            }
            return state.health
        }
    }

    /// What `/health` says: whether requests are answered at once or, as `GatewayLimits.recoveryToleratedMs` says, after a pause.
    var answersRequests: Bool {
        let health = health
        guard health.state == .recovering, let servedUntil = state.withLock({ $0.servedUntil }) else { return health.isServing }
        return ContinuousClock.now - servedUntil < .milliseconds(configuration.limits.recoveryToleratedMs)
    }

    /// Counts `choices` in, or refuses: full, too many of this client's, or ending. Each admission is given back by `release`.
    ///
    /// Where clients are told apart, one of them can't take the last places (`SharedPlaces`).
    func admit(choices: Int, of client: Client) throws(Failure) {
        let limit = configuration.limits.choicesOpenMax
        let failure: Failure? = state.withLock { state in
            if state.isShuttingDown || state.hasEnded { return Failure(.shuttingDown, "The gateway is shutting down. Try again later.") }
            let seconds = WaitForecast.retryAfterSeconds(waitMs: state.expectedWaitMs)
            let own = state.choicesOpenByTenant[client.tenant] ?? 0
            if let most = client.choicesOpenMax, own + choices > most {
                let message = "With this API key \(own) choices are open, \(choices) more were asked for, and \(most) may be open at once."
                return Failure(.rateLimited, message + " Wait for one to end.", retryAfterSeconds: seconds)
            }
            let isAnybody = client == .anybody
            let hasRoom =
                isAnybody
                ? state.choicesOpen + choices <= limit : SharedPlaces(max: limit).admits(choices, open: state.choicesOpen, ofTenant: own)
            guard hasRoom else {
                let message = "\(state.choicesOpen) of \(limit) places are taken, \(choices) more were asked for. Try again later."
                return Failure(.queueFull, message, retryAfterSeconds: seconds)
            }
            state.choicesOpen += choices
            if !isAnybody { state.choicesOpenByTenant[client.tenant] = own + choices }
            return nil
        }
        if let failure { throw failure }
    }

    func release(choices: Int, of client: Client) {
        state.withLock { state in
            state.choicesOpen -= choices
            guard let own = state.choicesOpenByTenant[client.tenant] else { return }
            state.choicesOpenByTenant[client.tenant] = own > choices ? own - choices : nil
        }
    }

    /// The stream hears of the request until it ends or is cancelled.
    func submit(_ request: GenerationRequest, to stream: GenerationStream, prompt: Int) throws(Failure) {
        guard post(.submit(request, stream, prompt: prompt)) else {
            throw Failure(.queueFull, "The way to the coordinator is full. Try again later.")
        }
    }

    func cancel(_ id: RequestID) {
        // A full mailbox must not lose a cancellation: the sequence would run to its end for nobody.
        guard !post(.cancel(id)) else { return }
        Task {
            while !post(.cancel(id)) { try? await Task.sleep(for: .milliseconds(10)) }
        }
    }

    /// One choice of several is not needed any more. Where the mailbox is full it runs on, which costs time and nothing else.
    func cancel(_ choice: UInt32, of id: RequestID) { _ = post(.cancelChoice(id, choice)) }

    /// Ends all streams with `shuttingDown`, refuses new ones, says goodbye to the coordinator.
    func shutDown() {
        let isFirst = state.withLock { state in
            defer { state.isShuttingDown = true }
            return !state.isShuttingDown
        }
        guard isFirst, !post(.shutDown) else { return }
        Task {
            while !post(.shutDown) { try? await Task.sleep(for: .milliseconds(10)) }
        }
    }

    /// What the coordinator says of its cluster now; `nil` when it does not say it in time.
    func status() async -> StatusReport? {
        await withCheckedContinuation { continuation in
            let number: UInt64? = state.withLock { state in
                guard !state.hasEnded, state.waitingForStatus.count < Self.statusWaitersMax else { return nil }
                state.statusesAsked += 1
                state.waitingForStatus.append((state.statusesAsked, continuation))
                return state.statusesAsked
            }
            guard let number else { return continuation.resume(returning: nil) }
            guard post(.askStatus) else { return giveUp(statusNumber: number) }
            Task {
                try? await Task.sleep(for: .milliseconds(Self.statusWaitMs))
                giveUp(statusNumber: number)
            }
        }
    }

    private func giveUp(statusNumber number: UInt64) {
        let waiter = state.withLock { state in
            state.waitingForStatus.firstIndex { $0.number == number }.map { state.waitingForStatus.remove(at: $0) }
        }
        waiter?.continuation.resume(returning: nil)
    }

    // MARK: For the server

    /// Set when the coordinator refused this gateway for good.
    var endFailure: Failure? { state.withLock { $0.endFailure } }

    /// What a request is told that comes after the end.
    var endedFailure: Failure { endFailure ?? Failure(.shuttingDown, "The gateway is shutting down. Try again later.") }

    /// Returns when the link has ended, for whatever reason.
    func untilEnded() async {
        await withCheckedContinuation { continuation in
            let hasEnded = state.withLock { state in
                if !state.hasEnded { state.waitingForEnd.append(continuation) }
                return state.hasEnded
            }
            if hasEnded { continuation.resume() }
        }
    }

    // MARK: For the driver

    func expectedWaitChanged(milliseconds: UInt64) { state.withLock { $0.expectedWaitMs = milliseconds } }

    /// Answers whoever waits: what comes now is newer than any of their questions' times.
    func statusCame(_ report: StatusReport) {
        let waiting = state.withLock { state in
            defer { state.waitingForStatus = [] }
            return state.waitingForStatus
        }
        for waiter in waiting { waiter.continuation.resume(returning: report) }
    }

    func healthChanged(_ health: ClusterHealth) { state.withLock { $0.hear(health) } }

    func ended(_ failure: Failure?) {
        let waiting = state.withLock { state in
            defer { state.waitingForEnd = [] }
            state.hasEnded = true
            state.endFailure = failure
            return state.waitingForEnd
        }
        for continuation in waiting { continuation.resume() }
    }

    /// Makes the vocabulary and the template of the header, beside the thread that must keep its heartbeats going.
    func welcomed(_ welcome: GatewayWelcome, header: [UInt8]) {
        let isKnown = state.withLock { state in
            state.hear(welcome.health)
            if state.model?.welcome.modelDigest == welcome.modelDigest {
                state.model?.welcome = welcome
                return true
            }
            defer { state.preparing = welcome.modelDigest }
            return state.preparing == welcome.modelDigest
        }
        guard !isKnown else { return }
        let names = configuration.servedModelNames
        Task.detached { self.prepare(welcome, header, names) }
    }

    private func prepare(_ welcome: GatewayWelcome, _ header: [UInt8], _ names: [String]) {
        do {
            let model = try ServedModel(welcome: welcome, header: header, names: names, usesModelDefaults: configuration.usesModelDefaults)
            state.withLock { state in
                guard state.preparing == welcome.modelDigest else { return }
                state.preparing = nil
                state.model = model
                state.modelFailure = nil
            }
            logger.info("model known", metadata: ["model": "\(welcome.modelName)", "contextTokens": "\(welcome.contextTokens)"])
        } catch {
            state.withLock { state in
                guard state.preparing == welcome.modelDigest else { return }
                state.preparing = nil
                state.model = nil
                state.modelFailure = "The gateway cannot use the model's vocabulary: \(error)"
            }
            logger.error("model unusable", metadata: ["model": "\(welcome.modelName)", "error": "\(error)"])
        }
    }
}
