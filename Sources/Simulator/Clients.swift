import ClusterCore

/// Who asked for what, what they should get and what they got.
struct Clients {
    struct Stream {
        enum State { case open, over, left, lost }

        let id: RequestID
        let request: GenerationRequest
        let answers: [ToyModel.Answer]
        var gateway: Int
        var tokens: [[TokenID]]
        var isFinished: [Bool]
        var isCancelled: [Bool]
        var state = State.open

        var isOpen: Bool { state == .open }
    }

    private(set) var streams: [Stream] = []
    /// Only ever asked by id.
    private var places: [RequestID: Int] = [:]
    /// When a coordinator was last seen serving, on its own clock.
    var lastServing = Instant(nanoseconds: 0)
    private(set) var shutdowns = 0
    /// Whose gateway is gone, and who have not come to another yet.
    private(set) var comingBack = 0

    var open: [Int] { streams.indices.filter { streams[$0].isOpen } }
    var areAllServed: Bool { !streams.contains(where: \.isOpen) }

    // MARK: - Asking

    /// - Parameter answers: what the request has to give, counted from its prompt.
    mutating func submit(_ request: GenerationRequest, expecting answers: [ToyModel.Answer], through gateway: Int, in cluster: Cluster) {
        let had = request.resumed.isEmpty ? [[TokenID]](repeating: [], count: request.choices) : request.resumed
        places[request.id] = streams.count
        streams.append(
            Stream(
                id: request.id, request: request, answers: answers, gateway: gateway, tokens: had,
                isFinished: [Bool](repeating: false, count: request.choices), isCancelled: [Bool](repeating: false, count: request.choices)))
    }

    mutating func leave(_ place: Int) { streams[place].state = .left }
    mutating func cancelled(_ choice: Int, of place: Int) { streams[place].isCancelled[choice] = true }
    mutating func shutDown() { shutdowns += 1 }
    mutating func cameBack() { comingBack -= 1 }

    /// A gateway's process is gone, and all connections to it.
    mutating func lose(gateway: Int, in cluster: Cluster) {
        for place in streams.indices where streams[place].isOpen && streams[place].gateway == gateway {
            streams[place].state = .lost
            if !streams[place].isCancelled.contains(true) {
                comingBack += 1
                cluster.agenda.add(.ends(.client(place)), at: cluster.after(cluster.numbers.octaves(1_000_000...20_000_000_000)))
            }
        }
    }

    // MARK: - Getting

    mutating func deliver(_ event: StreamEvent, to id: RequestID, from gateway: Int, in cluster: Cluster) {
        guard let place = places[id] else { return cluster.fail("something is delivered that nobody asked for") }
        let stream = streams[place]
        guard stream.gateway == gateway else { return cluster.fail("a stream is answered by another gateway") }
        guard stream.isOpen else { return cluster.fail("something comes after a stream's end: \(event.words)") }
        switch event {
        case .tokens(let choice, let news): take(news.map(\.token), Int(choice), place, cluster)
        case .finished(let choice, let reason): finish(Int(choice), reason, place, cluster)
        case .failed(let failure):
            streams[place].state = .over
            check(failure, stream, cluster)
        case .paused: cluster.coverage.count(.paused)
        case .resumed: break
        }
    }

    private mutating func take(_ news: [TokenID], _ choice: Int, _ place: Int, _ cluster: Cluster) {
        if streams[place].isFinished[choice] { return cluster.fail("tokens come after a choice's end") }
        let wanted = streams[place].answers[choice].tokens
        for token in news {
            let index = streams[place].tokens[choice].count
            guard index < wanted.count else { return cluster.fail("a choice has more than its \(wanted.count) tokens") }
            guard wanted[index] == token else {
                return cluster.fail("token \(index) of choice \(choice) of request \(streams[place].id.low % 1_000_000) is \(token); it should be \(wanted[index])")
            }
            cluster.mix(UInt64(UInt32(bitPattern: token)))
            streams[place].tokens[choice].append(token)
        }
    }

    private mutating func finish(_ choice: Int, _ reason: FinishReason, _ place: Int, _ cluster: Cluster) {
        if streams[place].isFinished[choice] { return cluster.fail("a choice ends twice") }
        streams[place].isFinished[choice] = true
        if streams[place].isFinished.allSatisfy({ $0 }) { streams[place].state = .over }
        let (answer, got) = (streams[place].answers[choice], streams[place].tokens[choice].count)
        if streams[place].isCancelled[choice] && reason == .stop { return }
        if got != answer.tokens.count || reason != answer.finish {
            cluster.fail("a choice ends with \(reason) after \(got) tokens; it should with \(answer.finish.map { "\($0)" } ?? "poison") after \(answer.tokens.count)")
        }
    }

    /// Whether the world was such that the request had to fail.
    private func check(_ failure: Failure, _ stream: Stream, _ cluster: Cluster) {
        switch failure.code {
        case .numericFailure where stream.answers.contains { $0.finish == nil }: cluster.coverage.count(.poisoned)
        case .noCapacity: cluster.coverage.count(.noCapacity)
        case .notReady where cluster.hasWaited(cluster.scenario.coordinatorWaitMs, since: cluster.lastHeard(by: stream.gateway), on: stream.gateway):
            cluster.coverage.count(.noCoordinator)
        case .queueFull where cluster.scenario.configuration.requestsWaitingMax < 64: cluster.coverage.count(.queueFull)
        case .shuttingDown where shutdowns > 0: cluster.coverage.count(.shutDown)
        default: cluster.fail("a request fails without need: \(failure.code), \(failure.message)")
        }
    }
}

extension Cluster {
    /// Whether so long has passed on a party's clock.
    func hasWaited(_ milliseconds: UInt64, since instant: Instant, on party: Int) -> Bool {
        hosts[party].clock.now(now) >= instant.advanced(milliseconds: milliseconds)
    }

    func lastHeard(by gateway: Int) -> Instant { gateways[gatewayIndex(gateway)]?.lastHeard ?? Instant(nanoseconds: 0) }

    /// A request that the seed makes up, through a gateway that lives.
    func submitSomething() {
        requestsLeft -= 1
        if requestsLeft > 0 { agenda.add(.request, at: after(gap(scenario.requestGapNanoseconds))) }
        submitOne()
    }

    func submitOne() {
        guard let gateway = liveGateway() else { return }
        let request = inventRequest()
        let answers = (0..<request.choices).map { scenario.model.generate(request, choice: UInt32($0)) }
        note("client -> \(name(gateway)): request \(request.id.low % 1_000_000), \(request.prompt.count) tokens, \(request.choices) choices")
        submit(request, expecting: answers, through: gateway)
    }

    private func submit(_ request: GenerationRequest, expecting answers: [ToyModel.Answer], through gateway: Int) {
        clients.submit(request, expecting: answers, through: gateway, in: self)
        tell(gateway: gateway, .submit(request))
    }

    /// Often many at once.
    func gap(_ most: UInt64) -> UInt64 { numbers.oneIn(3) ? 0 : UInt64(numbers.below(Int(most))) }

    /// A stopped process takes no connection.
    private func liveGateway() -> Int? {
        let live = gatewayParties.filter { isAlive($0) && hosts[$0].frozenUntil <= now }
        return live.isEmpty ? nil : numbers.pick(live)
    }

    private func inventRequest() -> GenerationRequest {
        let (model, context) = (scenario.model, scenario.configuration.contextTokens)
        var sampling = SamplingParameters()
        sampling.seed = numbers.next()
        // Where layers are handed over again and again, streams should still be there when it is done.
        sampling.maxTokens = Int32(numbers.among(1...(scenario.blockLosses > 0 ? context : numbers.oneIn(3) ? 60 : 20)))
        sampling.minTokens = numbers.oneIn(4) ? Int32(numbers.among(0...Int(sampling.maxTokens))) : 0
        sampling.ignoreEndTokens = numbers.oneIn(3)
        if numbers.oneIn(4) { sampling.stopTokens = [TokenID(numbers.below(model.vocabulary))] }
        let length = numbers.oneIn(4) ? numbers.among(1...context - 1) : numbers.among(1...30)
        var prompt = (0..<length).map { _ in TokenID(numbers.below(model.vocabulary)) }
        // Often the beginning of an earlier prompt, as chats and system prompts have it.
        if numbers.oneIn(2), !clients.streams.isEmpty {
            let earlier = numbers.pick(clients.streams).request.prompt
            let shared = numbers.among(0...min(earlier.count, prompt.count))
            prompt.replaceSubrange(..<shared, with: earlier[..<shared])
        }
        return GenerationRequest(
            id: RequestID(high: numbers.next(), low: numbers.next()), prompt: prompt, sampling: sampling,
            choices: scenario.choicesMax > 1 && numbers.oneIn(3) ? numbers.among(2...scenario.choicesMax) : 1,
            priority: numbers.oneIn(6) ? -1 : 0, tenant: Tenant(UInt64(numbers.below(scenario.tenants))), weight: numbers.oneIn(4) ? 3 : 1)
    }

    /// A client whose connection was lost goes to whichever gateway lives and asks for the rest of its stream.
    func goOnElsewhere(_ place: Int) {
        let stream = clients.streams[place]
        guard let gateway = liveGateway() else { return }
        coverage.count(.otherGateway)
        var request = stream.request
        // By its tokens, or from the start and by its earlier id (`Last-Event-ID`).
        let names = numbers.oneIn(2)
        request = GenerationRequest(
            id: RequestID(high: numbers.next(), low: numbers.next()), prompt: request.prompt, sampling: request.sampling, choices: request.choices,
            priority: request.priority, tenant: request.tenant, weight: request.weight,
            resumed: !names && stream.tokens.contains { !$0.isEmpty } ? stream.tokens : [], continues: names ? stream.id : nil)
        submit(request, expecting: stream.answers, through: gateway)
    }
}
