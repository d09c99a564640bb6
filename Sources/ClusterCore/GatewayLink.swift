import OrderedCollections

/// One gateway's side of its requests: keeps each open request's prompt and tokens so far, so that whatever is lost on the way (a message, a
/// connection, the coordinator) comes again and every stream gets each token once.
///
/// States of its link: greeting, joined (`CoordinatorLink`). End state: ended, after `.shutdown` or a refusal that no retry mends; every request has
/// had its end by then. Wrong calls: messages for unknown requests are dropped, and tokens for one are answered with a cancel; submitting an
/// open request's id again is our own bug and traps; a submit after the end is answered with `shuttingDown`.
package struct GatewayLink: Sendable {
    private let configuration: GatewayLinkConfiguration
    private var link: CoordinatorLink
    private var requests: OrderedDictionary<RequestID, Stream> = [:]
    /// As clients should see it.
    private var health = ClusterHealth(state: .waitingForWorkers, detail: "the coordinator has not answered yet")
    /// What the coordinator foretold last.
    private var expectedWaitMs: UInt64 = 0
    private var coordinatorSession: UInt64?
    /// No request needs attention before this. News only ever move a request's own deadline back, so it is looked for anew only when it comes.
    private var nextAttention: Instant?
    private var hasEnded = false
    package private(set) var metrics = GatewayLinkMetrics()

    private struct Stream {
        struct Choice {
            var tokens: [TokenID]
            var isFinished = false
            /// Finished by this gateway: a coordinator that runs it anew has to be told again.
            var isCancelled = false
        }

        var request: GenerationRequest
        var choices: [Choice]
        /// When it was last submitted or heard of.
        var lastHeard: Instant
        var submittedAt: Instant
        /// Something is missing and was asked for again.
        var isCatchingUp = false
        var isPaused = false

        var isFinished: Bool { choices.allSatisfy(\.isFinished) }

        /// The request with all that its choices have.
        var resumed: GenerationRequest {
            var again = request
            if choices.contains(where: { !$0.tokens.isEmpty }) { again.resumed = choices.map(\.tokens) }
            return again
        }
    }

    package init(configuration: GatewayLinkConfiguration) {
        self.configuration = configuration
        link = CoordinatorLink(
            heartbeatIntervalMs: configuration.heartbeatIntervalMs, timeoutMs: configuration.heartbeatTimeoutMs,
            backoffMinMs: configuration.reconnectBackoffMinMs, backoffMaxMs: configuration.reconnectBackoffMaxMs)
    }

    private var isStatusAsked = false

    package var openCount: Int { requests.count }

    package mutating func handle(_ event: Event, at now: Instant, into effects: inout [Effect]) {
        guard !hasEnded else {
            if case .submit(let request) = event { effects.append(.deliver(request.id, .failed(Self.shuttingDown))) }
            return
        }
        let wasJoined = link.isJoined
        switch event {
        case .start: perform(link.start(at: now), &effects)
        case .submit(let request): submit(request, now, &effects)
        case .cancel(let id): cancel(id, &effects)
        case .cancelChoice(let id, let choice): cancel(choice, of: id, &effects)
        case .statusWanted: askStatus(&effects)
        case .received(let message): received(message, now, &effects)
        case .malformedFrame: drop(.malformed, &effects)
        case .deadline: break
        case .shutdown:
            if link.isJoined { effects.append(.send(.leaving)) }
            return end(nil, because: Self.shuttingDown, &effects)
        }
        perform(link.tick(at: now), &effects)
        guard !hasEnded else { return }
        // Joined or not, other deadlines hold.
        if link.isJoined != wasJoined || nextAttention.map({ $0 <= now }) == true { attend(now, &effects) }
    }

    private static let shuttingDown = Failure(.shuttingDown, "this gateway is shutting down; send the request again later")

    private mutating func perform(_ actions: [CoordinatorLink.Action], _ effects: inout [Effect]) {
        for action in actions {
            switch action {
            case .hello:
                let hello = GatewayHello(version: .current, session: configuration.session, name: configuration.name)
                effects.append(.send(.gatewayHello(hello)))
            case .heartbeat:
                effects.append(.send(.heartbeat(Heartbeat(epoch: Epoch(0), lastStep: StepNumber(0), stepsQueued: 0))))
            case .reconnect:
                metrics.reconnects += 1
                effects.append(.log(LogEntry(.warning, "the coordinator is silent; connecting anew")))
                effects.append(.reconnect)
                take(ClusterHealth(state: .waitingForWorkers, detail: "the coordinator does not answer"), &effects)
            }
        }
    }

    // MARK: - Requests

    private mutating func submit(_ request: GenerationRequest, _ now: Instant, _ effects: inout [Effect]) {
        precondition(requests[request.id] == nil, "a request's id is used once")
        guard requests.count < configuration.requestsOpenMax else {
            let failure = Failure(
                .queueFull, "this gateway has \(requests.count) requests open, the most it may; try again later",
                retryAfterSeconds: WaitForecast.retryAfterSeconds(waitMs: expectedWaitMs))
            return effects.append(.deliver(request.id, .failed(failure)))
        }
        let choices = (0..<max(0, request.choices)).map { index in
            Stream.Choice(tokens: index < request.resumed.count ? request.resumed[index] : [])
        }
        guard !choices.isEmpty else {
            return effects.append(.deliver(request.id, .failed(Failure(.invalidRequest, "no choice was asked for"))))
        }
        let stream = Stream(request: request, choices: choices, lastHeard: now, submittedAt: now)
        requests[request.id] = stream
        nextAttention = [nextAttention, deadline(of: stream)].compactMap(\.self).min()
        metrics.requestsSubmitted += 1
        if link.isJoined { effects.append(.send(.submit(request))) }
    }

    private mutating func cancel(_ id: RequestID, _ effects: inout [Effect]) {
        guard requests.removeValue(forKey: id) != nil else { return }
        metrics.requestsCancelled += 1
        if link.isJoined { effects.append(.send(.cancel(id))) }
    }

    private mutating func cancel(_ choice: UInt32, of id: RequestID, _ effects: inout [Effect]) {
        guard let stream = requests[id], Int(choice) < stream.choices.count, !stream.choices[Int(choice)].isFinished else { return }
        requests[id]!.choices[Int(choice)].isCancelled = true
        if link.isJoined { effects.append(.send(.cancelChoice(id, choice))) }
        end(choice, of: id, .stop, &effects)
    }

    /// Idempotent at the coordinator: an open request gets what it lacks, an unknown one is run from where it stands.
    private mutating func submitAgain(_ id: RequestID, _ now: Instant, _ effects: inout [Effect]) {
        guard link.isJoined, let stream = requests[id] else { return }
        requests[id]!.lastHeard = now
        metrics.requestsResubmitted += 1
        effects.append(.send(.submit(stream.resumed)))
        for (index, choice) in stream.choices.enumerated() where choice.isCancelled {
            effects.append(.send(.cancelChoice(id, UInt32(index))))
        }
    }

    /// One question at a time; after a reconnect the next one asks again.
    private mutating func askStatus(_ effects: inout [Effect]) {
        guard link.isJoined else { return }
        isStatusAsked = true
        effects.append(.send(.statusQuery))
    }

    // MARK: - The coordinator's word

    private mutating func received(_ message: FromCoordinator, _ now: Instant, _ effects: inout [Effect]) {
        link.heard(at: now)
        switch message {
        case .gatewayWelcome(let welcome): welcomed(welcome, now, &effects)
        case .refused(let failure): refused(failure, now, &effects)
        case .heartbeatReply(let heartbeat): heard(expectedWaitMs: heartbeat.expectedWaitMs, &effects)
        case .health(let health): if link.isJoined { take(health, &effects) }
        case .tokens(let batch): receivedTokens(batch, now, &effects)
        case .finished(let id, let choice, let count, let reason): finished(id, choice, count, reason, now, &effects)
        case .failed(let id, let failure): failed(id, failure, &effects)
        case .closing:
            link.dismissed(at: now)
            take(ClusterHealth(state: .closing, detail: "the coordinator is shutting down"), &effects)
        case .status(let report) where isStatusAsked:
            isStatusAsked = false
            effects.append(.status(report))
        case .enrolled, .workerWelcome, .assign, .release, .step, .status, .handover, .drainStatus, .weightsOffer, .weightsFetchers, .loadAhead:
            drop(.wrongRole, &effects)
        }
    }

    private mutating func welcomed(_ welcome: GatewayWelcome, _ now: Instant, _ effects: inout [Effect]) {
        if !link.isJoined { effects.append(.log(LogEntry(.notice, "joined the cluster", [.init("model", welcome.modelName)]))) }
        link.welcomed(at: now)
        coordinatorSession = welcome.coordinatorSession
        effects.append(.welcomed(welcome))
        take(welcome.health, &effects)
        // Whether the coordinator is another one or only the connection is: what is missing comes.
        for id in requests.keys { submitAgain(id, now, &effects) }
    }

    private mutating func refused(_ failure: Failure, _ now: Instant, _ effects: inout [Effect]) {
        switch failure.code {
        case .helloExpected: perform(link.helloExpected(at: now), &effects)
        case .limitExceeded, .notReady, .shuttingDown:
            effects.append(.log(LogEntry(.warning, "the coordinator refused this gateway for now", [.init("reason", failure.message)])))
            link.dismissed(at: now)
        default:
            effects.append(.log(LogEntry(.warning, "the coordinator refused this gateway", [.init("reason", failure.message)])))
            end(failure, because: failure, &effects)
        }
    }

    private mutating func receivedTokens(_ batch: TokenBatch, _ now: Instant, _ effects: inout [Effect]) {
        guard let stream = requests[batch.request] else {
            // Its client left, and the cancel was lost.
            drop(.unknownRequest, &effects)
            return effects.append(.send(.cancel(batch.request)))
        }
        guard Int(batch.choice) < stream.choices.count, batch.firstIndex >= 0 else { return drop(.unknownChoice, &effects) }
        let choice = stream.choices[Int(batch.choice)]
        guard !choice.isFinished else { return }
        let has = choice.tokens.count
        requests[batch.request]!.lastHeard = now
        guard batch.firstIndex <= has else { return catchUp(batch.request, now, &effects) }
        let news = Array(batch.tokens.dropFirst(has - batch.firstIndex))
        guard !news.isEmpty else { return }
        requests[batch.request]!.isCatchingUp = false
        requests[batch.request]!.choices[Int(batch.choice)].tokens += news.map(\.token)
        metrics.tokensDelivered += UInt64(news.count)
        effects.append(.deliver(batch.request, .tokens(choice: batch.choice, news)))
    }

    /// Tokens before these were lost. Asked for once; if that is lost as well, the request falls silent and is submitted again in time.
    private mutating func catchUp(_ id: RequestID, _ now: Instant, _ effects: inout [Effect]) {
        guard !requests[id]!.isCatchingUp else { return }
        requests[id]!.isCatchingUp = true
        submitAgain(id, now, &effects)
    }

    private mutating func finished(
        _ id: RequestID, _ choice: UInt32, _ tokenCount: Int, _ reason: FinishReason, _ now: Instant, _ effects: inout [Effect]
    ) {
        guard let stream = requests[id] else { return drop(.unknownRequest, &effects) }
        guard Int(choice) < stream.choices.count else { return drop(.unknownChoice, &effects) }
        guard !stream.choices[Int(choice)].isFinished else { return }
        requests[id]!.lastHeard = now
        guard stream.choices[Int(choice)].tokens.count >= tokenCount else { return catchUp(id, now, &effects) }
        end(choice, of: id, reason, &effects)
    }

    private mutating func end(_ choice: UInt32, of id: RequestID, _ reason: FinishReason, _ effects: inout [Effect]) {
        requests[id]!.choices[Int(choice)].isFinished = true
        effects.append(.deliver(id, .finished(choice: choice, reason)))
        guard requests[id]!.isFinished else { return }
        metrics.requestsFinished += 1
        requests.removeValue(forKey: id)
    }

    private mutating func failed(_ id: RequestID, _ failure: Failure, _ effects: inout [Effect]) {
        guard requests.removeValue(forKey: id) != nil else { return drop(.unknownRequest, &effects) }
        metrics.requestsFailed += 1
        effects.append(.deliver(id, .failed(failure)))
    }

    // MARK: - What clients see of the cluster

    private mutating func heard(expectedWaitMs: UInt64, _ effects: inout [Effect]) {
        guard expectedWaitMs != self.expectedWaitMs else { return }
        self.expectedWaitMs = expectedWaitMs
        effects.append(.expectedWait(milliseconds: expectedWaitMs))
    }

    private mutating func take(_ news: ClusterHealth, _ effects: inout [Effect]) {
        guard news != health else { return }
        health = news
        effects.append(.health(news))
        for (id, stream) in requests where stream.isPaused == news.isServing {
            requests[id]!.isPaused = !news.isServing
            effects.append(.deliver(id, news.isServing ? .resumed : .paused(news.detail)))
        }
    }

    // MARK: - Time

    /// Requests that hear nothing are submitted again; those that wait for a coordinator in vain fail.
    private mutating func attend(_ now: Instant, _ effects: inout [Effect]) {
        for (id, stream) in requests where deadline(of: stream) <= now {
            if link.isJoined {
                requests[id]!.isCatchingUp = false
                submitAgain(id, now, &effects)
            } else {
                failed(id, Failure(.notReady, "the coordinator did not answer within \(configuration.coordinatorWaitMs) ms"), &effects)
            }
        }
        nextAttention = requests.values.map { deadline(of: $0) }.min()
    }

    private func deadline(of stream: Stream) -> Instant {
        link.isJoined
            ? stream.lastHeard.advanced(milliseconds: configuration.resubmitAfterMs)
            : max(stream.submittedAt, link.silentSince).advanced(milliseconds: configuration.coordinatorWaitMs)
    }

    package var nextDeadline: Instant? {
        guard !hasEnded else { return nil }
        return [link.deadline, nextAttention].compactMap(\.self).min()
    }

    // MARK: - The end

    private mutating func end(_ failure: Failure?, because reason: Failure, _ effects: inout [Effect]) {
        for id in requests.keys { effects.append(.deliver(id, .failed(reason))) }
        metrics.requestsFailed += UInt64(requests.count)
        requests.removeAll()
        effects.append(.ended(failure))
        hasEnded = true
    }

    private mutating func drop(_ cause: DropCause, _ effects: inout [Effect]) {
        if let entry = metrics.dropped.count(cause) { effects.append(.log(entry)) }
    }
}

/// Counts since the gateway's start, for `/metrics` and tests.
package struct GatewayLinkMetrics: Hashable, Sendable {
    package var requestsSubmitted: UInt64 = 0
    package var requestsResubmitted: UInt64 = 0
    package var requestsFinished: UInt64 = 0
    package var requestsFailed: UInt64 = 0
    package var requestsCancelled: UInt64 = 0
    package var tokensDelivered: UInt64 = 0
    package var reconnects: UInt64 = 0
    package var dropped = DropCounts()

    package init() {}
}
