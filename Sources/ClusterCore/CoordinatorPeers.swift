// Workers and gateways come, go and fall silent.

extension Coordinator {
    // MARK: - Enrolment

    /// Admits a key that came over a one-time token.
    mutating func enrol(_ request: EnrolRequest, over token: PeerKey, _ effects: inout [Effect]) {
        guard request.version.major == ProtocolVersion.current.major else {
            return effects.append(.send(.refused(versionMismatch(request.version)), to: token))
        }
        guard request.role != .console else {
            drop(.wrongRole, from: token, &effects)
            return effects.append(.send(.refused(Failure(.notAdmitted, "a token enrols workers and gateways only")), to: token))
        }
        log(.notice, "enrolled a key", [.init("peer", request.key), .init("role", "\(request.role)"), .init("name", request.name)], &effects)
        effects.append(.admit(request.key, request.role, name: request.name))
        effects.append(.consumeToken(token))
        effects.append(.send(.enrolled, to: token))
    }

    private func versionMismatch(_ theirs: ProtocolVersion) -> Failure {
        let ours = ProtocolVersion.current
        return Failure(
            .versionMismatch,
            "the peer speaks protocol \(theirs), the coordinator \(ours); run releases with the same first number on both sides")
    }

    // MARK: - Hello

    mutating func greet(_ hello: WorkerHello, from worker: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        if let failure = refusal(of: hello, from: worker) {
            log(.warning, "refused a worker", [.init("peer", worker), .init("name", hello.name), .init("reason", failure.message)], &effects)
            return effects.append(.send(.refused(failure), to: worker))
        }
        let known = membership.workers[worker]
        if let known, known.hello.session != hello.session {
            lose(worker: worker, because: "the worker's process was restarted", now, &effects)
            membership.strikes[worker] = nil
        }
        speeds.met(worker, session: hello.session)
        unstick(worker, session: hello.session, said: nil, now, &effects)
        defer { weights.tell(worker, hello, &effects) }
        // A restarted coordinator's epochs must lie above all that its workers have seen, or an old frame could pass for a new one.
        fleet.hasSeen(max(hello.lastEpoch, hello.holding?.epoch ?? Epoch(0)))
        effects.append(.send(.workerWelcome(WorkerWelcome(version: .current)), to: worker))
        if membership.workers[worker] == nil {
            join(hello, worker, now, &effects)
        } else {
            greetAgain(hello, worker, now, &effects)
        }
    }

    private func refusal(of hello: WorkerHello, from worker: PeerKey) -> Failure? {
        if hello.version.major != ProtocolVersion.current.major { return versionMismatch(hello.version) }
        if max(hello.lastEpoch, hello.holding?.epoch ?? Epoch(0)).value > Limits.epochMax {
            return Failure(.invalidRequest, "the worker says it saw epoch \(hello.lastEpoch.value), which is above \(Limits.epochMax)")
        }
        if membership.workers[worker] == nil && membership.workers.count >= configuration.workersMax {
            return Failure(.limitExceeded, "there are \(configuration.workersMax) workers already; raise the limit or stop one")
        }
        return nil
    }

    private mutating func join(_ hello: WorkerHello, _ worker: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        membership.workers[worker] = WorkerMember(
            key: worker, hello: hello, lastHeard: now, progress: Heartbeat(epoch: Epoch(0), lastStep: StepNumber(0), stepsQueued: 0),
            holdsSlice: hello.holding != nil, heldBefore: membership.assigned.contains(worker) ? nil : hello.holding)
        fleet.lastChange = now
        fleet.triedInVain = nil
        fleet.widenedInVain = nil
        fleet.grownInVain = nil
        log(
            .notice, "worker joined",
            [
                .init("peer", worker), .init("name", hello.name), .init("memory_bytes", hello.capabilities.memoryBytes),
                .init("role", fleet.isIdle ? "candidate" : "standby"),
            ], &effects)
        // What it holds is of a plan that went on without it, unless that was an earlier coordinator's and is another replica's to come.
        guard hello.holding != nil, !fleet.isIdle, !awaitsHolders(membership.workers[worker]!, now) else { return }
        releaseSlice(of: worker, &effects)
    }

    /// The same process over a new connection: messages between the two connections may be lost.
    private mutating func greetAgain(_ hello: WorkerHello, _ worker: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        membership.workers[worker]!.hello = hello
        membership.workers[worker]!.lastHeard = now
        membership.workers[worker]!.ahead = nil
        fleet.standbyPlaces = nil
        // An order or a report may be lost.
        giveUpHandovers(with: worker, because: "a worker reconnected", now, &effects)
        guard let replica = fleet.replica(of: worker), let stage = fleet[replica].deployment.stage(of: worker) else { return }
        let deployment = fleet[replica].deployment
        let holdsThisEpoch = hello.holding?.epoch == deployment.epoch
        switch deployment.phase {
        // What it kept it says when it is asked again.
        case .loading where holdsThisEpoch && fleet[replica].remains == nil: loaded(deployment.epoch, worker, now, &effects)
        case .loading(let plan, _): effects.append(.send(.assign(loadAssignment(of: stage, in: plan, of: replica)), to: worker))
        case .proving, .serving:
            if !holdsThisEpoch || !fleet[replica].scheduler.inFlight.isEmpty {
                recover(replica, "a worker reconnected and frames may be lost", now, &effects)
            }
        case .idle: break
        }
    }

    mutating func greet(_ hello: GatewayHello, from gateway: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        guard hello.version.major == ProtocolVersion.current.major else {
            return effects.append(.send(.refused(versionMismatch(hello.version)), to: gateway))
        }
        if let known = membership.gateways[gateway], known.session != hello.session {
            lose(gateway: gateway, because: "the gateway's process was restarted", keepingRequestsSince: now, &effects)
        }
        if membership.gateways[gateway] == nil {
            guard membership.gateways.count < configuration.gatewaysMax else {
                let failure = Failure(.limitExceeded, "there are \(configuration.gatewaysMax) gateways already; raise the limit or stop one")
                return effects.append(.send(.refused(failure), to: gateway))
            }
            log(.notice, "gateway joined", [.init("peer", gateway), .init("name", hello.name)], &effects)
        }
        membership.gateways[gateway] = GatewayMember(
            key: gateway, session: hello.session, name: hello.name, lastHeard: now, lostSince: nil)
        effects.append(.send(.gatewayWelcome(gatewayWelcome), to: gateway))
    }

    private var gatewayWelcome: GatewayWelcome {
        GatewayWelcome(
            version: .current, coordinatorSession: configuration.session, modelName: configuration.model.name,
            modelDigest: configuration.model.digest, contextTokens: configuration.contextTokens,
            parameterCount: configuration.parameterCount, modelBytes: configuration.modelBytes, health: health)
    }

    // MARK: - Heartbeats

    mutating func heard(_ heartbeat: Heartbeat, from worker: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        membership.workers[worker]!.progress = heartbeat
        membership.workers[worker]!.toldAt = now
        unstick(worker, session: membership.workers[worker]!.hello.session, said: heartbeat, now, &effects)
        locateStep(after: worker, now, &effects)
        releaseForgottenSlice(of: worker, saying: heartbeat, &effects)
    }

    /// It has a stage that no plan in force gave it, and its hello said nothing of that: it came back while it still loaded, or the hello was older
    /// than the order. It would keep memory for nobody, and load nothing ahead.
    private mutating func releaseForgottenSlice(of worker: PeerKey, saying heartbeat: Heartbeat, _ effects: inout [Effect]) {
        guard (1...Limits.epochMax).contains(heartbeat.epoch.value), !membership.workers[worker]!.holdsSlice, !fleet.isIdle,
            fleet.replica(of: worker) == nil, fleet.replica(handingOverWith: worker) == nil
        else { return }
        // What it holds may be of an earlier coordinator's plan that nobody else told of.
        fleet.hasSeen(heartbeat.epoch)
        log(
            .info, "a worker has a stage of a plan that is over", [.init("peer", worker), .init("epoch", heartbeat.epoch.value)], &effects)
        releaseSlice(of: worker, &effects)
        membership.workers[worker]!.ahead = nil
        fleet.standbyPlaces = nil
    }

    // MARK: - Loss

    mutating func lose(worker: PeerKey, because reason: String, _ now: Instant, _ effects: inout [Effect]) {
        guard let member = membership.workers.removeValue(forKey: worker) else { return }
        endFetch(of: worker, &effects)
        log(.warning, "worker lost", [.init("peer", worker), .init("name", member.hello.name), .init("reason", reason)], &effects)
        fleet.lastChange = now
        fleet.grownInVain = nil
        if fleet.replica(of: worker) == nil { giveUpHandovers(with: worker, because: reason, now, &effects) }
        if let replica = fleet.replica(of: worker) { recover(replica, reason, now, &effects) }
    }

    /// - Parameter since: its requests run on for a grace from then, for clients that come back to another gateway; `nil`: they end now.
    mutating func lose(gateway: PeerKey, because reason: String, keepingRequestsSince since: Instant? = nil, _ effects: inout [Effect]) {
        guard let member = membership.gateways.removeValue(forKey: gateway) else { return }
        log(.warning, "gateway lost", [.init("peer", gateway), .init("name", member.name), .init("reason", reason)], &effects)
        for request in requests.values where request.gateway == gateway {
            if let since { abandon(request.id, since) } else { close(request, &effects) }
        }
    }

    mutating func disconnected(_ peer: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        if membership.workers[peer] != nil { metrics.faults.connectionsEnded += 1 }
        lose(worker: peer, because: "the worker's connection ended", now, &effects)
        missed(gateway: peer, now, &effects)
    }

    mutating func revoked(_ peer: PeerKey, _ now: Instant, _ effects: inout [Effect]) {
        lose(worker: peer, because: "the worker's key was revoked", now, &effects)
        lose(gateway: peer, because: "the gateway's key was revoked", &effects)
    }

    // MARK: - Silence

    private var heartbeatTimeoutMs: UInt64 { configuration.heartbeatTimeoutMs }

    mutating func failSilentPeers(_ now: Instant, _ effects: inout [Effect]) {
        excuseOwnSilence(now, &effects)
        for worker in membership.workers.values where worker.lastHeard.advanced(milliseconds: heartbeatTimeoutMs) <= now {
            metrics.faults.workersSilent += 1
            lose(worker: worker.key, because: "no heartbeat came in time", now, &effects)
        }
        for worker in membership.workers.values where nextQuestion(worker) <= now {
            membership.workers[worker.key]!.lastAsked = now
            effects.append(.send(.heartbeatReply(worker.progress), to: worker.key))
        }
        for gateway in membership.gateways.values {
            if gateway.lostSince == nil, gateway.lastHeard.advanced(milliseconds: heartbeatTimeoutMs) <= now {
                missed(gateway: gateway.key, now, &effects)
            }
            if let lost = membership.gateways[gateway.key]!.lostSince, lost.advanced(milliseconds: configuration.gatewayGraceMs) <= now {
                lose(gateway: gateway.key, because: "the gateway did not come back", &effects)
            }
        }
    }

    /// Silence counts while somebody listens. Where this process itself stood still (it was stopped, had no processor, waited for a disk), what peers
    /// said meanwhile is still to be read, and the first word of one of them would have all others given up. That it stood still shows by a deadline
    /// that it was woken for too late.
    private mutating func excuseOwnSilence(_ now: Instant, _ effects: inout [Effect]) {
        guard let due = membershipDeadline else { return }
        let lateMs = now.milliseconds(since: due)
        guard lateMs >= configuration.heartbeatIntervalMs else { return }
        func excused(_ heard: Instant) -> Instant { min(now, heard.advanced(milliseconds: lateMs)) }
        for key in membership.workers.keys { membership.workers[key]!.lastHeard = excused(membership.workers[key]!.lastHeard) }
        for key in membership.gateways.keys { membership.gateways[key]!.lastHeard = excused(membership.gateways[key]!.lastHeard) }
        guard lateMs >= heartbeatTimeoutMs / 2 else { return }
        log(.warning, "the coordinator stood still; it does not hold others' silence against them", [.init("ms", lateMs)], &effects)
    }

    /// A worker that misses a heartbeat is spoken to: where its process has died the transport can't deliver that and says so at once
    /// (`disconnected`), long before its silence proves anything. One that lives takes it for a reply.
    private func nextQuestion(_ worker: WorkerMember) -> Instant {
        max(worker.lastHeard, worker.lastAsked).advanced(milliseconds: 2 * configuration.heartbeatIntervalMs)
    }

    /// Asked for after every event: plain loops, because a lazy closure over `self` copies the whole coordinator.
    var membershipDeadline: Instant? {
        var deadline: Instant?
        func note(_ instant: Instant) { deadline = min(deadline ?? instant, instant) }
        for worker in membership.workers.values {
            note(min(worker.lastHeard.advanced(milliseconds: heartbeatTimeoutMs), nextQuestion(worker)))
        }
        for gateway in membership.gateways.values {
            note(
                gateway.lostSince.map { $0.advanced(milliseconds: configuration.gatewayGraceMs) }
                    ?? gateway.lastHeard.advanced(milliseconds: heartbeatTimeoutMs))
        }
        return deadline
    }
}
