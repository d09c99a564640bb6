import ClusterCore
import Synchronization

/// One HTTP request's run through the cluster: places are taken and requests submitted at its birth, and whatever becomes
/// of its handler they are cancelled and given back at its end.
final class Generation: Sendable {
    let model: ServedModel
    let job: GenerationJob
    let answer: Answer
    let stream: GenerationStream
    private let client: Client
    private let priority: Int32
    private let ids: [RequestID]
    /// Where the stream began at another gateway: the id under which the cluster may still have its tokens.
    private let continues: RequestID?
    private let link: ClusterLink
    private let connection: Connection?
    private let meter: RequestMeter
    /// By prompt: whether the cluster may still work on it.
    private let open: Mutex<[Bool]>

    /// - Parameter meter: began when the request arrived.
    /// - Throws: when the gateway is full or ending; nothing is left behind then.
    init(
        _ job: GenerationJob, of client: Client, priority: Int32, model: ServedModel, id: RequestID, identity: StreamIdentity, link: ClusterLink,
        connection: Connection?, limits: GatewayLimits, meter: RequestMeter
    ) throws(Failure) {
        try link.admit(choices: job.choiceCount, of: client)
        self.client = client
        self.priority = priority
        self.model = model
        self.job = job
        self.link = link
        self.connection = connection
        self.meter = meter
        answer = Answer(job: job, model: model, requestID: identity.answer, created: identity.created)
        continues = identity.last?.run
        // The prompts of one HTTP request count on from its id, so that logs show what belongs together.
        ids = job.prompts.indices.map { RequestID(high: id.high, low: id.low &+ UInt64($0)) }
        open = Mutex(Array(repeating: true, count: job.prompts.count))
        stream = GenerationStream(eventsBufferedMax: limits.eventsBufferedMax) {
            meter.slowReader()
            // The writer waits for a client that does not read: only the connection's end wakes it.
            connection?.close()
        }
        meter.submitted(job)
        try submit()
        connection?.onGone { [weak self] in self?.clientLeft() }
    }

    deinit { end() }

    private func submit() throws(Failure) {
        for (index, id) in ids.enumerated() {
            do {
                var request = job.request(id, prompt: index, of: client, priority: priority)
                request.continues = continues.map { RequestID(high: $0.high, low: $0.low &+ UInt64(index)) }
                try link.submit(request, to: stream, prompt: index)
            } catch {
                end(.error)
                throw error
            }
        }
    }

    /// On the connection's event loop: the cluster hears of it before any handler wakes.
    private func clientLeft() {
        meter.clientGone()
        cancelAll()
        stream.clientLeft()
    }

    /// Tells the meter and the cluster what an output means for them.
    func note(_ output: GenerationProgress.Output, _ progress: GenerationProgress) {
        switch output {
        case .piece(let choice, _, _): meter.tokens(choice: choice, total: progress.tokenCount(of: choice))
        case .cancel(let prompt): cancel(prompt)
        case .cancelChoice(let prompt, let choice): link.cancel(choice, of: ids[prompt])
        case .failed, .remark: break
        }
    }

    /// Tokens whose text the client has already.
    func skip(choice: Int, _ progress: GenerationProgress) { meter.skipped(choice: choice, total: progress.tokenCount(of: choice)) }

    /// Once, when nothing more is wanted; later calls do nothing.
    func end(_ ending: GatewayMetrics.Ending = .abort) {
        cancelAll()
        stream.end()
        guard meter.ended(ending) else { return }
        connection?.onGone(nil)
        link.release(choices: job.choiceCount, of: client)
    }

    private func cancelAll() {
        for prompt in job.prompts.indices { cancel(prompt) }
    }

    /// Cancelling what has ended is harmless, so nothing has to be told apart here.
    private func cancel(_ prompt: Int) {
        let isOpen = open.withLock { open in
            defer { open[prompt] = false }
            return open[prompt]
        }
        if isOpen { link.cancel(ids[prompt]) }
    }
}

/// Takes the times of one generation to the metrics.
final class RequestMeter: Sendable {
    private struct State {
        var first: ContinuousClock.Instant?
        var last: [Int: ContinuousClock.Instant] = [:]
        var totals: [Int: Int] = [:]
        var isSubmitted = false
        var hasEnded = false
    }

    private let metrics: GatewayMetrics
    private let began: ContinuousClock.Instant
    private let onTokens: @Sendable (Int) -> Void
    private let state = Mutex(State())

    /// - Parameter onTokens: hears how many more tokens were generated.
    init(metrics: GatewayMetrics, began: ContinuousClock.Instant, onTokens: @escaping @Sendable (Int) -> Void = { _ in }) {
        self.metrics = metrics
        self.began = began
        self.onTokens = onTokens
    }

    func submitted(_ job: GenerationJob) {
        state.withLock { $0.isSubmitted = true }
        metrics.submitted(job)
    }

    func slowReader() { metrics.slowReader() }
    func clientGone() { metrics.clientGone() }

    /// - Parameter total: tokens of the choice so far.
    func tokens(choice: Int, total: Int) {
        let now = ContinuousClock.now
        let (gained, gap, isFirst) = state.withLock { state in
            let gained = total - (state.totals[choice] ?? 0)
            guard gained > 0 else { return (0, Duration?.none, false) }
            let gap = state.last[choice].map { now - $0 }
            let isFirst = state.first == nil
            state.totals[choice] = total
            state.last[choice] = now
            if isFirst { state.first = now }
            return (gained, gap, isFirst)
        }
        guard gained > 0 else { return }
        metrics.tokens(gained)
        onTokens(gained)
        if isFirst { metrics.firstToken(seconds: (now - began).inSeconds) }
        if let gap { metrics.interToken(seconds: gap.inSeconds) }
    }

    /// Tokens that another gateway gave the client and counted.
    func skipped(choice: Int, total: Int) { state.withLock { $0.totals[choice] = total } }

    /// False when it was called before.
    func ended(_ ending: GatewayMetrics.Ending) -> Bool {
        let now = ContinuousClock.now
        let before = state.withLock { state in
            defer { state.hasEnded = true }
            return state
        }
        guard !before.hasEnded else { return false }
        guard before.isSubmitted else { return true }
        metrics.ended(
            ending, tokens: before.totals.values.reduce(0, +), seconds: (now - began).inSeconds,
            decodeSeconds: before.first.map { (now - $0).inSeconds })
        return true
    }
}

extension Duration {
    var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
