import ClusterCore

// What goes wrong, and how it passes.
extension Cluster {
    /// One fault of the seed's mix. Where it has no object, nothing happens and nothing is counted.
    func breakSomething() {
        if scenario.startsWork, !isMeetingWork, clients.areAllServed {
            // What breaks while nothing is done shows little.
            isMeetingWork = true
            for _ in 0..<numbers.among(1...3) { submitOne() }
            let step = scenario.stepNanoseconds + scenario.delayNanoseconds * UInt64(scenario.workers)
            return agenda.add(.fault, at: after(numbers.octaves(scenario.delayNanoseconds...30 * step)))
        }
        isMeetingWork = false
        faultsLeft -= 1
        if faultsLeft > 0 { agenda.add(.fault, at: after(gap(scenario.faultGapNanoseconds))) }
        let fault = numbers.pick(scenario.faults)
        note("fault: \(fault.rawValue)")
        if make(fault) { coverage.count(fault) }
    }

    private func make(_ fault: Fault) -> Bool {
        switch fault {
        case .coordinatorKilled, .coordinatorEnded, .gatewayKilled, .gatewayEnded: endService(fault)
        case .workerKilled, .workerRestarted, .workerEnded, .hostLost, .workerLeaves: endWorker(fault)
        case .workersInARow: beginFailuresInARow()
        case .workerDrained: drainWorker()
        case .processStopped, .hostSuspended, .clockLeaps, .clockDrifts: disturbMachine(fault)
        case .stageHangs, .stageSlow, .stepFails, .diskFull, .loadStalls: disturbStage(fault)
        case .controlTailLost, .rowsTailLost, .linkCut, .linkHalfOpen, .partition, .linkSlow: disturbNetwork(fault)
        // Where the scenario has it, it comes with a frame (`loseSomeBlocks`).
        case .blocksTailLost: false
        case .malformedFrame: sendNonsense()
        case .keyRevoked: revokeKey()
        case .clientLeaves, .choiceCancelled: cancelSomething(fault)
        }
    }

    /// Who lives and does not stand still.
    private func one(of parties: some Sequence<Int>) -> Int? {
        let live = parties.filter { isAlive($0) && hosts[$0].frozenUntil <= now }
        return live.isEmpty ? nil : numbers.pick(live)
    }

    private func restart(_ party: Int, within range: ClosedRange<UInt64>) {
        agenda.add(.start(party: party), at: after(numbers.octaves(range)))
    }

    private func ends(_ trouble: Agenda.Trouble, within range: ClosedRange<UInt64>) {
        agenda.add(.ends(trouble), at: after(numbers.octaves(range)))
    }

    // MARK: - Processes

    private func endService(_ fault: Fault) -> Bool {
        let isCoordinator = fault == .coordinatorKilled || fault == .coordinatorEnded
        guard let party = isCoordinator ? one(of: [0]) : one(of: gatewayParties) else { return false }
        if fault == .coordinatorEnded || fault == .gatewayEnded { clients.shutDown() }
        switch fault {
        case .coordinatorEnded: tellCoordinator(.shutdown)
        case .gatewayEnded: tell(gateway: party, .shutdown)
        default: kill(party)
        }
        restart(party, within: 10_000_000...(isCoordinator ? 8_000_000_000 : 20_000_000_000))
        return true
    }

    private func endWorker(_ fault: Fault) -> Bool {
        guard let party = one(of: workerParties) else { return false }
        switch fault {
        case .workerEnded: tell(worker: party, .shutdown)
        case .workerLeaves: tell(worker: party, .leave(withinMs: numbers.octaves(10...60_000)))
        case .hostLost: kill(party, isNoticed: false)
        default: kill(party)
        }
        if fault == .workerRestarted {
            restart(party, within: 100_000...20_000_000)
        } else if !numbers.oneIn(4) {
            restart(party, within: 20_000_000...30_000_000_000)
        }
        return true
    }

    private func drainWorker() -> Bool {
        guard coordinator != nil, hosts[0].frozenUntil <= now, let party = one(of: workerParties) else { return false }
        order(draining: party)
        ends(.draining(party: party), within: 20_000_000...20_000_000_000)
        return true
    }

    /// As `staffel drain` does.
    private func order(draining party: Int, isUndone: Bool = false) {
        tellCoordinator(.received(.drain(DrainRequest(worker: name(party), isUndone: isUndone)), from: Self.consoleKey, role: .console))
    }

    // MARK: - Machines

    private func disturbMachine(_ fault: Fault) -> Bool {
        guard let party = one(of: hosts.indices) else { return false }
        let host = hosts[party]
        let duration = numbers.octaves(5_000_000...20_000_000_000)
        switch fault {
        case .clockLeaps: host.clock.leap(nanoseconds: duration)
        case .clockDrifts:
            host.clock.run(at: numbers.among(950_000...1_050_000), from: now)
            ends(.drift(party: party), within: 1_000_000_000...30_000_000_000)
        default:
            if fault == .hostSuspended { host.clock.stand(nanoseconds: duration, from: now) }
            host.frozenUntil = after(duration)
        }
        tellTime(party)
        return true
    }

    /// Its clock is another one than the one for which its deadline was planned.
    private func tellTime(_ party: Int) {
        hosts[party].timerAt = .max
        switch party {
        case 0: planTimer(of: party, at: coordinator?.machine.nextDeadline)
        case _ where isWorker(party): planTimer(of: party, at: workers[party - 1]?.machine.nextDeadline)
        default: planTimer(of: party, at: gateways[gatewayIndex(party)]?.machine.nextDeadline)
        }
    }

    // MARK: - Stages

    private func disturbStage(_ fault: Fault) -> Bool {
        guard let party = one(of: workerParties), let process = workers[party - 1] else { return false }
        let host = hosts[party]
        switch fault {
        case .stageHangs:
            process.hungSince = process.hungSince ?? now
            if numbers.oneIn(3) { ends(.hungStage(party, incarnation: host.incarnation), within: 50_000_000...20_000_000_000) }
        case .stepFails: process.failsNextStep = true
        case .stageSlow:
            host.slowness = scenario.slowness[party - 1] * UInt64(numbers.among(2...60))
            ends(.slowWorker(party), within: 50_000_000...20_000_000_000)
        default:
            host.loading = fault == .diskFull ? .fails : .stalls
            ends(.brokenLoading(party), within: 50_000_000...20_000_000_000)
            // Weights in memory would hide it.
            if numbers.oneIn(2) {
                kill(party)
                restart(party, within: 100_000...20_000_000)
            }
        }
        return true
    }

    // MARK: - Network

    private func disturbNetwork(_ fault: Fault) -> Bool {
        let duration = numbers.octaves(1_000_000...20_000_000_000)
        switch fault {
        case .controlTailLost:
            let connected = hosts.dropFirst().filter(\.isConnected)
            let busy = connected.filter { !$0.up.isEmpty || !$0.down.isEmpty }
            guard !connected.isEmpty else { return false }
            loseTail(of: numbers.pick(busy.isEmpty || numbers.oneIn(4) ? connected : busy).party)
        case .rowsTailLost:
            let connected = links.indices.filter { links[$0].state == .connected }
            let busy = connected.filter { !links[$0].link.isEmpty }
            guard !connected.isEmpty else { return false }
            breakRows(numbers.pick(busy.isEmpty ? connected : busy))
        case .linkSlow: return slowSomething()
        case .linkHalfOpen:
            let isUp = numbers.oneIn(2)
            block(numbers.pick(Array(hosts.indices.dropFirst())), up: isUp, down: !isUp, until: after(duration))
        case .partition:
            let party = numbers.pick(Array(workerParties))
            block(party, up: true, down: true, until: after(duration))
            for link in links where link.state != .closed && (link.link.from == party || link.link.to == party) {
                link.link.blockedUntil = after(duration)
            }
        default: block(numbers.pick(Array(hosts.indices.dropFirst())), up: true, down: true, until: after(duration))
        }
        return true
    }

    private func slowSomething() -> Bool {
        // A message takes a second at most.
        let slowness = min(UInt64(numbers.among(10...1_000)), 1_000_000_000 / (2 * scenario.delayNanoseconds))
        let open = links.indices.filter { links[$0].state == .connected }
        if !open.isEmpty, numbers.oneIn(2) {
            let index = numbers.pick(open)
            links[index].link.slowness = slowness
            ends(.slowLink(2 * hosts.count + index), within: 10_000_000...10_000_000_000)
        } else {
            let party = numbers.pick(Array(hosts.indices.dropFirst()))
            let isUp = numbers.oneIn(2)
            (isUp ? hosts[party].up : hosts[party].down).slowness = slowness
            ends(.slowLink(2 * party + (isUp ? 0 : 1)), within: 10_000_000...10_000_000_000)
        }
        return true
    }

    private func sendNonsense() -> Bool {
        guard let party = one(of: hosts.indices) else { return false }
        let sender = Self.key(numbers.pick(Array(hosts.indices.dropFirst())))
        switch party {
        case 0: tellCoordinator(.malformedFrame(from: numbers.oneIn(2) ? sender : nil))
        case _ where isWorker(party): tell(worker: party, .malformedFrame(from: numbers.oneIn(2) ? sender : nil))
        default: tell(gateway: party, .malformedFrame)
        }
        return true
    }

    private func revokeKey() -> Bool {
        guard coordinator != nil, hosts[0].frozenUntil <= now else { return false }
        let party = numbers.pick(Array(hosts.indices.dropFirst()))
        guard !hosts[party].isRevoked else { return false }
        hosts[party].isRevoked = true
        coordinator?.routes[party] = nil
        breakConnection(party)
        tellCoordinator(.revoked(Self.key(party)))
        ends(.revocation(party: party), within: 20_000_000...10_000_000_000)
        return true
    }

    // MARK: - Clients

    private func cancelSomething(_ fault: Fault) -> Bool {
        let open = clients.open.filter { hosts[clients.streams[$0].gateway].frozenUntil <= now }
        guard !open.isEmpty else { return false }
        let place = numbers.pick(open)
        let stream = clients.streams[place]
        if fault == .clientLeaves {
            clients.leave(place)
            tell(gateway: stream.gateway, .cancel(stream.id))
        } else {
            let choices = stream.isFinished.indices.filter { !stream.isFinished[$0] }
            let choice = numbers.pick(choices)
            clients.cancelled(choice, of: place)
            tell(gateway: stream.gateway, .cancelChoice(stream.id, UInt32(choice)))
        }
        return true
    }

    // MARK: - What passes

    func end(_ trouble: Agenda.Trouble) {
        switch trouble {
        case .slowWorker(let party): hosts[party].slowness = scenario.slowness[party - 1]
        case .brokenLoading(let party): hosts[party].loading = .works
        case .hungStage(let party, let incarnation):
            guard hosts[party].incarnation == incarnation, let process = workers[party - 1], process.isHung else { return }
            process.hungSince = nil
            // It goes on with what it was in.
            agenda.add(.stage(worker: party, incarnation: incarnation, job: process.job), at: after(1_000))
        case .slowLink(let id):
            let control = 2 * hosts.count
            (id >= control ? links[id - control].link : id % 2 == 0 ? hosts[id / 2].up : hosts[id / 2].down).slowness = 1
        case .transferLink(let index): breakTransfer(index)
        case .revocation(let party): hosts[party].isRevoked = false
        case .drift(let party):
            hosts[party].clock.run(at: 1_000_000, from: max(now, hosts[party].frozenUntil))
            tellTime(party)
        case .draining(let party): order(draining: party, isUndone: true)
        case .doomed(let party): endDoomed(party)
        case .client(let place):
            clients.cameBack()
            goOnElsewhere(place)
        }
    }

    /// No more faults: all that is broken is mended, all that is gone comes back, but for one that may stay away.
    func settle() {
        note("no more faults")
        isSettling = true
        absent = scenario.allReturn ? nil : numbers.pick(Array(workerParties))
        for party in hosts.indices {
            hosts[party].isRevoked = false
            hosts[party].loading = .works
            hosts[party].slowness = isWorker(party) ? scenario.slowness[party - 1] : 1
            heal(party)
            // Nobody but a person, or a watchdog, ends a stage thread that hangs.
            if isWorker(party), party == absent || workers[party - 1]?.isHung == true { kill(party) }
            if party != absent { start(party) }
            if isWorker(party) { order(draining: party, isUndone: true) }
        }
    }
}
