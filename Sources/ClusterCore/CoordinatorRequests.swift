// Requests come in, tokens go out. Each accepted request ends once: finished, failed or cancelled.

extension Coordinator {
    mutating func submit(_ request: GenerationRequest, from gateway: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        if let open = requests[request.id] {
            if open.gateway == gateway { return sendAgain(open, after: request, &effects) }
            // Its gateway's last word before a restart may come late, when the next process has submitted already.
            if open.gateway == nil, open.request.isSame(as: request) {
                requests[request.id]!.gateway = gateway
                abandoned[request.id] = nil
                return sendAgain(requests[request.id]!, after: request, &effects)
            }
            return refuse(request.id, Failure(.invalidRequest, "a request with this id is open at another gateway"), gateway, &effects)
        }
        if let fault = request.fault(model: configuration.model, contextTokens: configuration.contextTokens) {
            return refuse(request.id, fault, gateway, &effects)
        }
        // A restarted coordinator gets all at once that ran and waited before, so both limits count together.
        let openMax = configuration.requestsWaitingMax + configuration.sequencesRunningMax
        let earlier = earlier(than: request)
        if let earlier, isAbandoned(earlier) {
            // Its places are this one's.
            close(earlier, &effects)
        } else if !hasPlaces(for: request, of: openMax) {
            let failure = Failure(
                .queueFull, "\(openCount) sequences are open already, of at most \(openMax); try again later",
                retryAfterSeconds: WaitForecast.retryAfterSeconds(waitMs: expectedWaitMs(of: request.tenant)))
            return refuse(request.id, failure, gateway, &effects)
        }
        if let earlier { goOn(with: request, from: gateway, after: earlier, now, &effects) } else { accept(request, from: gateway, now, &effects) }
    }

    /// Until this coordinator has served, what comes was mostly open at another before it: that had its place.
    private func hasPlaces(for request: GenerationRequest, of openMax: Int) -> Bool {
        guard fleet.hasServed else { return openCount + request.choices <= openMax }
        return SharedPlaces(max: openMax).admits(request.choices, open: openCount, ofTenant: line.open(of: request.tenant))
    }

    private mutating func refuse(_ id: RequestID, _ failure: Failure, _ gateway: PeerKey, _ effects: inout [Effect]) {
        metrics.requestsFailed[failure.code, default: 0] += 1
        log(.info, "refused a request", [.init("request", id), .init("reason", failure.message)], &effects)
        effects.append(.send(.failed(id, failure), to: gateway))
    }

    private mutating func accept(_ request: GenerationRequest, from gateway: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        metrics.requestsAccepted += 1
        metrics.promptTokens += UInt64(request.prompt.count)
        log(.debug, "accepted a request", [.init("request", request.id), .init("prompt_tokens", request.prompt.count)], &effects)
        var open = OpenRequest(id: request.id, gateway: gateway, submittedAt: now, request: request, choices: [])
        for choice in 0..<request.choices {
            let sequence = GeneratedSequence(id: takeSequenceID(), request: request, choice: UInt32(choice), arrival: nextArrival)
            let resumedCount = sequence.generatedCount
            // The tokens that came along may be all there are: only their end was lost.
            if let finish = sequence.finishReason(endTokens: configuration.model.endTokens, contextTokens: configuration.contextTokens) {
                open.choices.append(OpenRequest.Choice(sequence: nil, resumedCount: resumedCount, finish: finish))
                effects.append(.send(.finished(request.id, choice: UInt32(choice), tokenCount: resumedCount, finish), to: gateway))
            } else {
                enter(sequence)
                open.choices.append(OpenRequest.Choice(sequence: sequence.id, resumedCount: resumedCount))
            }
        }
        nextArrival += 1
        requests[request.id] = open
        if open.isFinished { finish(open, &effects) }
    }

    /// The gateway lost something on the way, or fears so: it gets what comes after the tokens it has.
    mutating func sendAgain(_ open: OpenRequest, after request: GenerationRequest, _ effects: inout [Effect]) {
        guard let gateway = open.gateway else { return }
        for (index, choice) in open.choices.enumerated() {
            let has = index < request.resumed.count ? request.resumed[index].count : 0
            var next = min(max(0, has - choice.resumedCount), choice.emitted.count)
            while next < choice.emitted.count {
                let tokens = choice.emitted[next..<min(next + Limits.tokensPerBatchMax, choice.emitted.count)]
                let batch = TokenBatch(
                    request: open.id, choice: UInt32(index), firstIndex: choice.resumedCount + next, tokens: Array(tokens))
                effects.append(.send(.tokens(batch), to: gateway))
                next += tokens.count
            }
            if let finish = choice.finish {
                effects.append(.send(.finished(open.id, choice: UInt32(index), tokenCount: choice.tokenCount, finish), to: gateway))
            }
        }
        // It was kept in case that its end had been lost.
        if open.isFinished { forget(open.id) }
    }

    // MARK: - Progress

    mutating func deliver(_ advance: Scheduler.Advance, _ effects: inout [Effect]) {
        guard requests[advance.request] != nil else { preconditionFailure("an open sequence belongs to an open request") }
        let gateway = requests[advance.request]!.gateway
        let index = Int(advance.choice)
        let firstIndex = requests[advance.request]!.choices[index].tokenCount
        requests[advance.request]!.choices[index].emitted.append(advance.emitted)
        metrics.generatedTokens += 1
        backlog.generated(advance.sequence)
        let batch = TokenBatch(request: advance.request, choice: advance.choice, firstIndex: firstIndex, tokens: [advance.emitted])
        if let gateway { effects.append(.send(.tokens(batch), to: gateway)) }
        guard let finish = advance.finish else { return }
        backlog.end(advance.sequence)
        requests[advance.request]!.choices[index].sequence = nil
        requests[advance.request]!.choices[index].finish = finish
        if let gateway { effects.append(.send(.finished(advance.request, choice: advance.choice, tokenCount: firstIndex + 1, finish), to: gateway)) }
        if requests[advance.request]!.isFinished { self.finish(requests[advance.request]!, &effects) }
    }

    // MARK: - The one end

    private mutating func finish(_ request: OpenRequest, _ effects: inout [Effect]) {
        metrics.requestsFinished += 1
        log(.debug, "finished a request", [.init("request", request.id)], &effects)
        if isAbandoned(request), !request.isContinued { keepFinished(request.id) } else { forget(request.id) }
    }

    mutating func cancel(_ id: RequestID, from gateway: PeerKey, _ effects: inout [Effect]) {
        // An unknown one crossed with its request's end: nobody's fault.
        guard let request = requests[id], request.gateway == gateway else { return }
        close(request, &effects)
    }

    /// The gateway found a stop string in one choice's text: that choice is done, the others go on.
    mutating func cancel(_ choice: UInt32, of id: RequestID, from gateway: PeerKey, _ effects: inout [Effect]) {
        guard let request = requests[id], request.gateway == gateway, Int(choice) < request.choices.count else {
            return drop(.unknownRequest, from: gateway, &effects)
        }
        // Crossed with the choice's own end.
        guard let sequence = request.choices[Int(choice)].sequence else { return }
        leave(sequence)
        requests[id]!.choices[Int(choice)].sequence = nil
        requests[id]!.choices[Int(choice)].finish = .stop
        if requests[id]!.isFinished { finish(requests[id]!, &effects) }
    }

    /// Nobody reads its tokens any more.
    mutating func close(_ request: OpenRequest, _ effects: inout [Effect]) {
        if !request.isFinished {
            metrics.requestsCancelled += 1
            log(.debug, "cancelled a request", [.init("request", request.id)], &effects)
        }
        forget(request.id)
    }

    mutating func fail(_ id: RequestID, _ failure: Failure, _ effects: inout [Effect]) {
        guard let request = requests[id] else { preconditionFailure("only open requests fail") }
        metrics.requestsFailed[failure.code, default: 0] += 1
        log(.info, "failed a request", [.init("request", id), .init("code", "\(failure.code)"), .init("reason", failure.message)], &effects)
        if let gateway = request.gateway { effects.append(.send(.failed(id, failure), to: gateway)) }
        forget(id)
    }

    private mutating func forget(_ id: RequestID) {
        guard let request = requests.removeValue(forKey: id) else { return }
        abandoned.removeValue(forKey: id)
        for choice in request.choices { if let sequence = choice.sequence { leave(sequence) } }
    }

    mutating func failPoisoned(_ entry: PoisonedSequence, in replica: Int, _ effects: inout [Effect]) {
        // Two choices of a request may be poisoned by the same step: the first one ended it.
        guard let sequence = fleet[replica].scheduler[entry.sequence] else { return }
        let layers = "\(entry.layers.lowerBound)..<\(entry.layers.upperBound)"
        fail(
            sequence.request,
            Failure(
                .numericFailure,
                "a NaN or infinity came up in layers \(layers); the model file may be damaged, or the prompt overflows its number format"),
            &effects)
    }

    // MARK: - Waiting for capacity

    /// While no plan fits, requests wait; each no longer than `recoveryWaitMs` from its submission or the loss, whichever is later.
    mutating func expireRequests(_ now: Instant, _ effects: inout [Effect]) {
        guard fleet.isIdle else { return }
        for request in requests.values {
            guard expiry(of: request) <= now else { return }
            let reason = fleet.lastFailure.map { ": " + $0.message } ?? ""
            fail(request.id, Failure(.noCapacity, "no workers could serve the model within \(configuration.recoveryWaitMs) ms" + reason), &effects)
        }
    }

    private func expiry(of request: OpenRequest) -> Instant {
        max(request.submittedAt, fleet.unservedSince ?? request.submittedAt).advanced(milliseconds: configuration.recoveryWaitMs)
    }

    var requestDeadline: Instant? {
        guard fleet.isIdle else { return nil }
        return requests.values.first.map { expiry(of: $0) }
    }
}
