// Requests whose gateway is gone, and clients that come back through another one.
//
// A lost gateway's requests run on for `gatewayGraceMs`: the gateway may only have lost its connection, and its clients may come to another
// (`Last-Event-ID`). Such a client's request has an id of its own and names the earlier one. Its tokens would be the same if it were generated
// from the start, so what the earlier one has is taken, and nothing is given away that the client could not have computed: whether the two are
// the same request is all that has to be checked.

extension Coordinator {
    /// A gateway's connection is gone. Its requests run on for a grace, but those that its clients went on with elsewhere.
    mutating func missed(gateway: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        guard let member = membership.gateways[gateway], member.lostSince == nil else { return }
        membership.gateways[gateway]!.lostSince = now
        for request in requests.values where request.gateway == gateway && request.isContinued { close(request, &effects) }
    }

    /// Its gateway is gone; the tokens that come are kept for whoever goes on.
    mutating func abandon(_ id: RequestID, _ since: Instant) {
        requests[id]!.gateway = nil
        if abandoned[id] == nil { abandoned[id] = since }
    }

    /// It has finished and its gateway is gone: it waits for its reader no longer than one that still runs.
    mutating func keepFinished(_ id: RequestID) {
        if abandoned[id] == nil { abandoned[id] = lastHandled }
    }

    /// Nobody reads what it generates, as far as known.
    func isAbandoned(_ request: OpenRequest) -> Bool {
        guard let gateway = request.gateway else { return true }
        return membership.gateways[gateway]?.lostSince != nil
    }

    // MARK: - Going on

    /// The open request that `request` names, where the two are the same but for their ids and all its tokens can be told.
    func earlier(than request: GenerationRequest) -> OpenRequest? {
        guard let id = request.continues, request.resumed.isEmpty, let open = requests[id] else { return nil }
        // Tokens that it came with itself have no log-probabilities any more.
        return open.request.isSame(as: request) && (request.topLogprobs == nil || open.choices.allSatisfy { $0.resumedCount == 0 }) ? open : nil
    }

    /// Opens `request` with all tokens that the earlier one has, and sends them: only what comes after is generated.
    mutating func goOn(
        with request: GenerationRequest, from gateway: PeerKey, after earlier: OpenRequest, _ now: Instant, _ effects: inout [Effect]
    ) {
        let known = earlier.choices.indices.map { earlier.knownTokens(of: $0) }
        metrics.requestsAccepted += 1
        metrics.requestsContinued += 1
        log(
            .info, "a request goes on through another gateway",
            [.init("request", request.id), .init("earlier", earlier.id), .init("tokens", known.reduce(0) { $0 + $1.count })], &effects)
        var open = OpenRequest(id: request.id, gateway: gateway, submittedAt: now, request: request, choices: [])
        var again = request
        again.resumed = known.map { $0.map(\.token) }
        for (index, choice) in earlier.choices.enumerated() {
            open.choices.append(OpenRequest.Choice(sequence: nil, resumedCount: 0, emitted: known[index], finish: choice.finish))
            guard choice.finish == nil else { continue }
            let sequence = GeneratedSequence(id: takeSequenceID(), request: again, choice: UInt32(index), arrival: nextArrival)
            enter(sequence)
            open.choices[index].sequence = sequence.id
        }
        nextArrival += 1
        requests[open.id] = open
        requests[earlier.id]?.isContinued = true
        if open.isFinished { metrics.requestsFinished += 1 }
        sendAgain(open, after: request, &effects)
    }

    // MARK: - The end of waiting

    mutating func closeAbandoned(_ now: Instant, _ effects: inout [Effect]) {
        while let (id, since) = abandoned.elements.first, since.advanced(milliseconds: configuration.gatewayGraceMs) <= now {
            guard let request = requests[id] else { preconditionFailure("what is abandoned is open") }
            close(request, &effects)
        }
    }

    var abandonedDeadline: Instant? {
        abandoned.elements.first.map { $0.value.advanced(milliseconds: configuration.gatewayGraceMs) }
    }
}

extension GenerationRequest {
    /// But for its id and the tokens that it comes with.
    func isSame(as other: GenerationRequest) -> Bool {
        prompt == other.prompt && sampling == other.sampling && choices == other.choices && topLogprobs == other.topLogprobs && tenant == other.tenant
    }
}

extension OpenRequest {
    /// All tokens of a choice. Those that came with the request are known without log-probabilities.
    fileprivate func knownTokens(of choice: Int) -> [EmittedToken] {
        let had = choice < request.resumed.count ? request.resumed[choice] : []
        return had.map { EmittedToken(token: $0) } + choices[choice].emitted
    }
}
