import ClusterCore

// Connections come up, carry messages in order, and break. As libzmq has it: a dealer connects again by itself, keeps what waits for a
// connection and loses what was under way; a router fails a send to whom it has no connection; a push socket that was refused once is dead.
extension Cluster {
    /// libzmq's own heartbeats: how long a connection on which nothing passes is taken for one.
    private static let transportTimeoutNanoseconds: UInt64 = 5_000_000_000
    private static let workerOutboxMax = 1_024

    func delay(_ link: Link) -> UInt64 {
        (scenario.delayNanoseconds + UInt64(numbers.below(Int(scenario.delayNanoseconds)))) * link.slowness
    }

    // MARK: - Messages

    /// Control links come first, then those between stages.
    private func planArrival(_ link: Link, id: Int) {
        guard !link.isPlanned, let time = link.nextArrival else { return }
        link.isPlanned = true
        agenda.add(.arrival(link: id), at: max(now, time))
    }

    private func link(_ id: Int) -> Link {
        let control = 2 * hosts.count
        return id >= control ? links[id - control].link : id % 2 == 0 ? hosts[id / 2].up : hosts[id / 2].down
    }

    private func put(_ message: Link.Message, on link: Link, id: Int) {
        link.add(message, arriving: now + delay(link))
        planArrival(link, id: id)
    }

    func arrive(_ id: Int) {
        let link = link(id)
        link.isPlanned = false
        guard let time = link.nextArrival else { return }
        let frozen = hosts[link.to].frozenUntil
        guard time <= now, frozen <= now else {
            link.isPlanned = true
            return agenda.add(.arrival(link: id), at: max(time, frozen))
        }
        let message = link.removeFirst()
        planArrival(link, id: id)
        mix(UInt64(id) + 16)
        deliver(message, link, id)
    }

    private func deliver(_ message: Link.Message, _ link: Link, _ id: Int) {
        guard isAlive(link.to) else { return }
        switch message {
        case .up(let message, let generation):
            note("coordinator <- \(name(link.from)): \(message.words)")
            receive(message, from: link.from, generation: generation)
        case .down(let message):
            note("\(name(link.to)) <- coordinator: \(message.words)")
            if isWorker(link.to) { tell(worker: link.to, .received(message)) } else { tell(gateway: link.to, .received(message)) }
        case .rows(let frame, let rows):
            guard hosts[link.to].incarnation == links[id - 2 * hosts.count].incarnation else { return }
            note("\(name(link.to)) <- \(name(link.from)): rows of epoch \(frame.step.epoch.value) step \(frame.step.number.value)")
            receive(frame, rows, at: link.to, from: link.from)
        case .transfer(let frame, let values):
            guard hosts[link.to].incarnation == links[id - 2 * hosts.count].incarnation else { return }
            note("\(name(link.to)) <- \(name(link.from)): \(frame.words)")
            receive(frame, values, at: link.to, from: link.from)
        case .followUp(let step):
            guard hosts[link.to].incarnation == links[id - 2 * hosts.count].incarnation else { return }
            note("\(name(link.to)) <- \(name(link.from)): epoch \(step.epoch.value) step \(step.number.value), a follow-up")
            tell(worker: link.to, .followUp(step, from: Self.key(link.from)))
        }
    }

    func sendUp(_ message: ToCoordinator, from party: Int) {
        let host = hosts[party]
        if host.isConnected && coordinator != nil {
            return put(.up(message, generation: host.generation), on: host.up, id: 2 * party)
        }
        if isGateway(party) {
            host.outbox.append(message)
        } else if host.outbox.count < Self.workerOutboxMax {
            host.outbox.append(message)
        }
    }

    /// `false` where the transport has no connection to it.
    func sendDown(_ message: FromCoordinator, to party: Int, generation: Int) -> Bool {
        let host = hosts[party]
        guard host.isConnected, host.generation == generation else { return false }
        // A process that is gone without anybody's knowledge takes nothing.
        if isAlive(party) { put(.down(message), on: host.down, id: 2 * party + 1) }
        return true
    }

    // MARK: - Control connections

    func planConnect(_ party: Int, after nanoseconds: UInt64) {
        hosts[party].attempt += 1
        agenda.add(.connect(party: party, attempt: hosts[party].attempt), at: after(nanoseconds))
    }

    func connect(_ party: Int, _ attempt: Int) {
        let host = hosts[party]
        guard host.attempt == attempt, isAlive(party) else { return }
        let isPossible = coordinator != nil && !host.isRevoked && host.up.blockedUntil <= now && host.down.blockedUntil <= now
        guard isPossible, host.frozenUntil <= now, hosts[0].frozenUntil <= now else {
            return planConnect(party, after: numbers.among(100_000_000...2_000_000_000))
        }
        host.generation += 1
        host.isConnected = true
        host.down.loseAll()
        for message in host.outbox { put(.up(message, generation: host.generation), on: host.up, id: 2 * party) }
        host.outbox.removeAll()
    }

    func closed(_ party: Int, _ generation: Int) {
        guard hosts[party].generation == generation, hosts[party].isConnected else { return }
        breakConnection(party)
    }

    /// The connection is gone; each direction loses its end. The dealer connects again by itself.
    func breakConnection(_ party: Int) {
        let host = hosts[party]
        host.isConnected = false
        loseTail(of: host.up)
        leaveBehind(host.up)
        loseTail(of: host.down)
        if isAlive(party) { planConnect(party, after: numbers.among(1_000_000...400_000_000)) }
    }

    /// The machine wants a new socket: what waits in the old one is lost.
    func replaceConnection(_ party: Int) {
        hosts[party].outbox.removeAll()
        breakConnection(party)
    }

    private func loseTail(of link: Link) {
        guard !link.isEmpty else { return }
        link.lose(last: numbers.among(0...link.queue.count))
    }

    /// What came over the old connection and was not read yet may be read after what comes over the next one: only one connection keeps an order.
    private func leaveBehind(_ up: Link) {
        guard !up.isEmpty, numbers.oneIn(2) else { return }
        let remains = RowsLink(from: up.from, to: up.to, endpoint: "")
        remains.state = .closed
        links.append(remains)
        let time = now + UInt64(numbers.below(20_000_000))
        for message in up.takeAll() { remains.link.add(message, arriving: max(time, up.blockedUntil)) }
        planArrival(remains.link, id: 2 * hosts.count + links.count - 1)
    }

    func loseTail(of party: Int) {
        guard hosts[party].isConnected else { return }
        breakConnection(party)
    }

    func disconnectAll(of party: Int, isNoticed: Bool, losesTail: Bool) {
        if party == 0 {
            for other in hosts.dropFirst() {
                if losesTail { loseTail(of: other.down) }
                other.up.loseAll()
                other.isConnected = false
                if isAlive(other.party) { planConnect(other.party, after: numbers.among(1_000_000...400_000_000)) }
            }
            return
        }
        let host = hosts[party]
        host.outbox.removeAll()
        if losesTail { loseTail(of: host.up) }
        leaveBehind(host.up)
        host.down.loseAll()
        let notice = isNoticed ? delay(host.up) : Self.transportTimeoutNanoseconds + UInt64(numbers.below(1_000_000_000))
        if host.isConnected { agenda.add(.closed(party: party, generation: host.generation), at: after(notice)) }
        for link in links where link.link.from == party { close(link) }
    }

    /// Nothing passes until `end`; what is sent meanwhile comes later, unless the transport gives the connection up before.
    func block(_ party: Int, up: Bool, down: Bool, until end: Agenda.Time) {
        let host = hosts[party]
        if up { host.up.blockedUntil = max(host.up.blockedUntil, end) }
        if down { host.down.blockedUntil = max(host.down.blockedUntil, end) }
        if host.isConnected, end - now > Self.transportTimeoutNanoseconds {
            agenda.add(.closed(party: party, generation: host.generation), at: after(Self.transportTimeoutNanoseconds))
        }
    }

    /// All is well from now on.
    func heal(_ party: Int) {
        for link in [hosts[party].up, hosts[party].down] {
            link.blockedUntil = 0
            link.slowness = 1
            link.isPlanned = false
        }
        planArrival(hosts[party].up, id: 2 * party)
        planArrival(hosts[party].down, id: 2 * party + 1)
        for (index, link) in links.enumerated() where link.state != .closed && (link.link.from == party || link.link.to == party) {
            link.link.blockedUntil = 0
            link.link.slowness = 1
            link.link.isPlanned = false
            planArrival(link.link, id: 2 * hosts.count + index)
        }
    }

    // MARK: - Between stages

    func openRows(from party: Int, to peer: StagePeer) -> Int {
        links.append(RowsLink(from: party, to: Self.party(peer.key), endpoint: peer.endpoint))
        return links.count - 1
    }

    /// What is under way may still arrive.
    func close(_ link: RowsLink) {
        guard link.state != .closed else { return }
        link.state = .closed
        link.outbox.removeAll()
        loseTail(of: link.link)
        // The receiver may have it in a buffer and read it much later.
        if !link.link.isEmpty, numbers.oneIn(3) { link.link.blockedUntil = after(numbers.octaves(1_000_000...2_000_000_000)) }
    }

    func send(_ message: Link.Message, over index: Int) {
        let link = links[index]
        switch link.state {
        case .connected: put(message, on: link.link, id: 2 * hosts.count + index)
        case .unconnected:
            link.outbox.append(message)
            link.state = .greeting
            agenda.add(.handshake(link: index), at: now + 2 * delay(link.link))
        case .greeting: link.outbox.append(message)
        case .refused, .closed: break
        }
    }

    func greet(_ index: Int) {
        let link = links[index]
        guard link.state == .greeting else { return }
        let to = link.link.to
        guard let worker = workers[to - 1], worker.endpoint == link.endpoint, link.link.blockedUntil <= now, hosts[to].frozenUntil <= now else {
            return agenda.add(.handshake(link: index), at: after(numbers.among(100_000_000...2_000_000_000)))
        }
        guard worker.admits(Self.key(link.link.from)) else {
            coverage.count(.handshakeRefused)
            note("\(name(to)) does not admit \(name(link.link.from))")
            link.state = .refused
            return link.outbox.removeAll()
        }
        link.state = .connected
        link.incarnation = hosts[to].incarnation
        for message in link.outbox { put(message, on: link.link, id: 2 * hosts.count + index) }
        link.outbox.removeAll()
    }

    func breakRows(_ index: Int) {
        let link = links[index]
        guard link.state == .connected else { return }
        loseTail(of: link.link)
        link.state = .greeting
        agenda.add(.handshake(link: index), at: after(numbers.among(100_000_000...400_000_000)))
    }
}
