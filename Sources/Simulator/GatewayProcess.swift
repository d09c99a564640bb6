import ClusterCore

/// A gateway's process: its machine. Who listens to its streams is `Clients`' matter.
final class GatewayProcess {
    var machine: GatewayLink
    /// When it last heard anything of a coordinator, on its own clock.
    var lastHeard: Instant

    init(machine: GatewayLink, at instant: Instant) {
        self.machine = machine
        lastHeard = instant
    }
}

extension Cluster {
    func startGateway(_ party: Int) {
        var configuration = GatewayLinkConfiguration(session: sessions, name: name(party))
        configuration.coordinatorWaitMs = scenario.coordinatorWaitMs
        configuration.resubmitAfterMs = scenario.resubmitAfterMs
        gateways[gatewayIndex(party)] = GatewayProcess(machine: GatewayLink(configuration: configuration), at: hosts[party].clock.now(now))
        planConnect(party, after: numbers.among(100_000...3_000_000))
        tell(gateway: party, .start)
    }

    func tell(gateway party: Int, _ event: GatewayLink.Event) {
        guard let process = gateways[gatewayIndex(party)] else { return }
        if case .received = event { process.lastHeard = hosts[party].clock.now(now) }
        var effects: [GatewayLink.Effect] = []
        events += 1
        process.machine.handle(event, at: hosts[party].clock.now(now), into: &effects)
        for effect in effects {
            note(effect, event)
            perform(effect, party)
        }
        if gateways[gatewayIndex(party)] === process { planTimer(of: party, at: process.machine.nextDeadline) }
    }

    private func perform(_ effect: GatewayLink.Effect, _ party: Int) {
        switch effect {
        case .send(let message): sendUp(message, from: party)
        case .deliver(let id, let event):
            note("\(name(party)) -> client: \(id.low % 1_000_000) \(event.words)")
            clients.deliver(event, to: id, from: party, in: self)
        case .reconnect: replaceConnection(party)
        case .log(let entry):
            if entry.level == .error { fail("a gateway logs an error: \(entry.message)") }
            note("\(name(party)): \(entry.words)")
        case .welcomed, .health, .expectedWait, .status: break
        case .ended(let failure):
            if let failure { fail("a gateway ended: \(failure.message)") }
            kill(party, losesTail: false)
        }
    }

    private func note(_ effect: GatewayLink.Effect, _ event: GatewayLink.Event) {
        switch (effect, event) {
        case (.send(.submit), .received(.gatewayWelcome)): coverage.count(.submittedAfterWelcome)
        case (.send(.submit), .received(.tokens)), (.send(.submit), .received(.finished)): coverage.count(.submittedAfterGap)
        case (.send(.submit), .submit): break
        case (.send(.submit), _): coverage.count(.submittedAfterSilence)
        case (.send(.cancel), .received(.tokens)): coverage.count(.strayCancelled)
        case (.send(.cancelChoice), .cancelChoice): break
        case (.send(.cancelChoice), _): coverage.count(.cancelledChoiceAgain)
        case (.reconnect, _): coverage.count(.gatewayReconnects)
        case (.log(let entry), _) where entry["cause"] == DropCause.unknownRequest.rawValue: coverage.count(.droppedUnknownRequest)
        case (.log(let entry), _) where entry["cause"] == DropCause.malformed.rawValue: coverage.count(.droppedMalformed)
        default: break
        }
    }
}
