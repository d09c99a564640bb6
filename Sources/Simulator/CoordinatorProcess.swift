import ClusterCore
import DequeModule

/// The coordinator's process: its machine and what its socket thread keeps.
final class CoordinatorProcess {
    var machine: Coordinator
    let session: UInt64
    /// By party: the connection over which it was last heard.
    var routes: [Int?]
    /// Those to whom a send failed while effects are performed: the machine hears of them afterwards.
    var unreachable: Deque<PeerKey> = []
    var isPerforming = false
    var handled: UInt64 = 0
    /// The last plan that served, as (stages, epoch).
    var servedStages: Int?
    var servingEpochs: Set<UInt64> = []
    var loadingEpochs: Set<UInt64> = []
    var preemptions: UInt64 = 0
    var displacements: UInt64 = 0
    var accepted: UInt64 = 0
    /// Workers that are to have no layers any more, as its log calls them.
    var drained: Set<String> = []

    init(machine: Coordinator, session: UInt64, parties: Int) {
        self.machine = machine
        self.session = session
        routes = [Int?](repeating: nil, count: parties)
    }
}

extension Cluster {
    /// Every so many events of the coordinator its accounts are looked through.
    private static let auditInterval: UInt64 = 8

    func startCoordinator() {
        var configuration = scenario.configuration
        configuration.session = sessions
        configuration.isRestart = hosts[0].incarnation > 1
        let machine = Coordinator(configuration: configuration, at: hosts[0].clock.now(now))
        coordinator = CoordinatorProcess(machine: machine, session: sessions, parties: hosts.count)
        planTimer(of: 0, at: coordinator!.machine.nextDeadline)
    }

    func receive(_ message: ToCoordinator, from party: Int, generation: Int) {
        guard !hosts[party].isRevoked else { return tellCoordinator(.malformedFrame(from: Self.key(party))) }
        coordinator?.routes[party] = generation
        tellCoordinator(.received(message, from: Self.key(party), role: isWorker(party) ? .worker : .gateway))
    }

    func tellCoordinator(_ event: Coordinator.Event) {
        guard let process = coordinator else { return }
        var effects: [Coordinator.Effect] = []
        events += 1
        process.machine.handle(event, at: hosts[0].clock.now(now), into: &effects)
        note(event, effects, process)
        process.isPerforming = true
        perform(effects, process)
        process.isPerforming = false
        if process.machine.isServing { clients.lastServing = hosts[0].clock.now(now) }
        goOnWithFailures()
        process.handled += 1
        if process.handled % Self.auditInterval == 0 { audit(process) }
        planTimer(of: 0, at: process.machine.nextDeadline)
        while coordinator === process, let key = process.unreachable.popFirst() { tellCoordinator(.disconnected(key)) }
    }

    func audit(_ process: CoordinatorProcess) {
        if let finding = process.machine.audit() { fail("the coordinator's accounts are wrong: \(finding)") }
    }

    /// In the order in which the real one does it: a step goes before the tokens of the one before it, and before nothing else.
    private func perform(_ effects: [Coordinator.Effect], _ process: CoordinatorProcess) {
        var tokens: [Coordinator.Effect] = []
        for effect in effects {
            switch effect {
            case .send(.tokens, _): tokens.append(effect)
            case .send(.step, _): perform(effect, process)
            default:
                for effect in tokens { perform(effect, process) }
                tokens.removeAll(keepingCapacity: true)
                perform(effect, process)
            }
        }
        for effect in tokens { perform(effect, process) }
    }

    private func perform(_ effect: Coordinator.Effect, _ process: CoordinatorProcess) {
        switch effect {
        case .send(.drainStatus(let status), Self.consoleKey): note("console <- coordinator: \(FromCoordinator.drainStatus(status).words)")
        case .send(let message, let key): send(message, to: Self.party(key), process)
        case .log(let entry):
            if entry.level == .error { fail("the coordinator logs an error: \(entry.message)") }
            note("coordinator: \(entry.words)")
        case .ended: kill(0, losesTail: false)
        case .admit, .consumeToken: fail("a key is admitted that nobody asked for")
        // Its workers have their weights, and it has no draft model.
        case .trace, .admitFetchers, .hashWeights, .draft: break
        }
    }

    private func send(_ message: FromCoordinator, to party: Int, _ process: CoordinatorProcess) {
        guard let generation = process.routes[party] else { return }
        if sendDown(message, to: party, generation: generation) { return }
        process.routes[party] = nil
        if process.isPerforming { return process.unreachable.append(Self.key(party)) }
        tellCoordinator(.disconnected(Self.key(party)))
    }

    // MARK: - What shows of its decisions

    private func note(_ event: Coordinator.Event, _ effects: [Coordinator.Effect], _ process: CoordinatorProcess) {
        if case .received(.submit(let request), _, _) = event { noteSubmit(request, effects, process) }
        if case .received(.workerHello, _, _) = event { noteHello(effects) }
        for effect in effects {
            switch effect {
            case .send(.assign(let assignment), let key):
                let worker = Self.party(key)
                if owners.knows(assignment, of: worker, by: process.session) { coverage.count(.assignedAgain) }
                if let finding = owners.assign(assignment, to: worker, by: process.session) { fail(finding) }
                if process.drained.contains("\(key)") { fail("\(name(worker)) is given a stage, though it is drained") }
                process.loadingEpochs.insert(assignment.epoch.value)
            case .send(.handover(.prepare(let assignment, _)), let key):
                if let finding = owners.assign(assignment, to: Self.party(key), by: process.session) { fail(finding) }
                if process.drained.contains("\(key)") { fail("\(name(Self.party(key))) is handed layers, though it is drained") }
            case .send(.drainStatus(let status), _): note(status)
            case .send(.step(let step), _): note(step)
            case .send(.failed(_, let failure), _) where failure.code == .noCapacity:
                // Judged here: the news may be long on its way.
                if !hasWaited(scenario.configuration.recoveryWaitMs, since: clients.lastServing, on: 0) {
                    fail("a request is given up too early: \(failure.message)")
                }
            case .send(.release, _): coverage.count(.released)
            case .send(.refused(let failure), _): if failure.code == .helloExpected { coverage.count(.helloDemanded) }
            case .send(.heartbeatReply, _): if case .received(.heartbeat, _, _) = event {} else { coverage.count(.workerAsked) }
            case .log(let entry): note(entry, process)
            default: break
            }
        }
        let metrics = process.machine.metrics
        coverage.count(.preempted, times: metrics.preemptions - process.preemptions)
        process.preemptions = metrics.preemptions
        let displacements = process.machine.displacements
        coverage.count(.displaced, times: displacements - process.displacements)
        process.displacements = displacements
    }

    private func note(_ status: DrainStatus) {
        switch status.state {
        case .drained: coverage.count(.drained)
        case .refused: coverage.count(.drainRefused)
        case .unknown, .moving, .serving: break
        }
    }

    private func noteHello(_ effects: [Coordinator.Effect]) {
        let isKnown = effects.contains { if case .send(.workerWelcome, _) = $0 { true } else { false } }
        let isNews = effects.contains { effect in
            if case .log(let entry) = effect { ["worker joined", "epoch ended"].contains(entry.message) } else { false }
        }
        if isKnown && !isNews { coverage.count(.workerGreetedAgain) }
    }

    private func noteSubmit(_ request: GenerationRequest, _ effects: [Coordinator.Effect], _ process: CoordinatorProcess) {
        let isNew = process.machine.metrics.requestsAccepted > process.accepted
        process.accepted = process.machine.metrics.requestsAccepted
        if isNew && !request.resumed.isEmpty { coverage.count(.resumed) }
        for effect in effects {
            if case .send(.finished(request.id, _, _, _), _) = effect { coverage.count(isNew ? .resumedAtEnd : .sentAgain) }
            if case .send(.tokens(let batch), _) = effect, batch.request == request.id { coverage.count(.sentAgain) }
        }
    }

    private func note(_ step: Step) {
        if let rebuild = step.rebuild {
            coverage.count(rebuild.hasInputs ? .rebuiltFromInputs : rebuild.layers.lowerBound == 0 ? .rebuiltFirst : .rebuiltThrough)
            if coordinator?.machine.isDecodingBesideRebuild == true { coverage.count(.rebuiltBeside) }
        }
        if !step.copies.isEmpty { coverage.count(.blockCopied) }
        for open in step.opens {
            if open.cached > 0 { coverage.count(.prefixShared) }
            if open.tokens.count > open.promptLength { coverage.count(.rebuilt) }
        }
    }

    private func note(_ entry: LogEntry, _ process: CoordinatorProcess) {
        switch entry.message {
        case "worker joined": if entry["role"] == "standby" { coverage.count(.standbyJoined) }
        case "a worker is drained": process.drained.insert(entry["peer"])
        case "draining was undone": process.drained.remove(entry["peer"])
        case "worker lost":
            process.drained.remove(entry["peer"])
            if let branch = Self.losses[entry["reason"]] { coverage.count(branch) }
        case "a worker has a stage of a plan that is over": coverage.count(.forgottenReleased)
        case "a worker is slow; its stage thread gets on": coverage.count(.workerSlow)
        case "a stage thread that was stuck goes on": coverage.count(.workerUnstuck)
        case "gateway lost": if let branch = Self.losses[entry["reason"]] { coverage.count(branch) }
        case "epoch ended": noteEnd(entry, process)
        case "a request goes on through another gateway": coverage.count(.wentOn)
        case "no plan fits the workers": coverage.count(.noPlan)
        case "cutting the layers anew": coverage.count(.recut)
        case "handing layers over":
            guard entry["reason"] == "measured times" else { return }
            coverage.count(.recutBeside)
            if process.machine.isIdle { coverage.count(.recutUnnoticed) }
        case "the workers' plans of before are kept":
            coverage.count(.planHeld)
            if entry["plans"] != "1" || entry["beside"] != "0" { coverage.count(.planHeldBeside) }
        case "serving": noteServing(entry, process)
        case "streams keep what is left of their past":
            coverage.count(.pastKept)
            if entry["lost_layers"] == "none" { coverage.count(.pastWhole) }
            if entry["while_rebuilding"] == "true" { coverage.count(.lostAgain) }
        case "layers were handed over":
            coverage.count(.handedOver)
            if entry["bytes"] != "0" { coverage.count(.blocksHandedOver) }
            noteServing(entry, process)
        case "a hand-over was given up; the old plan goes on": coverage.count(.handoverGivenUp)
        case "layers can't be handed over while they serve": coverage.count(.handoverImpossible)
        case "dropped a frame; further ones of this cause are only counted":
            switch entry["cause"] {
            case DropCause.oldEpoch.rawValue: coverage.count(.droppedOldEpoch)
            case DropCause.unknownPeer.rawValue: coverage.count(.droppedUnknownPeer)
            case DropCause.malformed.rawValue: coverage.count(.droppedMalformed)
            default: break
            }
        default: break
        }
    }

    private static let losses: [String: Branch] = [
        "the worker left": .workerLeft, "the worker's process was restarted": .workerRestartedSeen,
        "the worker's connection ended": .workerDisconnected, "the worker's key was revoked": .workerRevoked,
        "no heartbeat came in time": .workerSilent, "the gateway left": .gatewayLeft,
        "the gateway's process was restarted": .gatewayRestartedSeen, "the gateway did not come back": .gatewayGone,
        "the gateway's key was revoked": .gatewayRevoked,
    ]

    private func noteEnd(_ entry: LogEntry, _ process: CoordinatorProcess) {
        let reason = entry["reason"]
        let branch: Branch =
            switch reason {
            case _ where Self.losses[reason] != nil: .endedByLoss
            case "a worker reconnected and frames may be lost": .endedByReconnect
            case "a step's result was lost": .endedByResult
            case _ where reason.contains("came where"): .endedByFrame
            case _ where reason.contains("did nothing for the last"): .endedByStuck
            case _ where reason.contains("computed did not reach"): .endedByLink
            case _ where reason.contains("did not come back after"): .endedByOverdue
            case _ where reason.contains("made no progress"): .endedByStall
            case _ where reason.contains("No room"): .endedByLoad
            case _ where reason.hasPrefix("a hand-over failed at its end"): .endedByHandover
            case "a worker leaves": .endedByLeaving
            default: .endedByStep
            }
        coverage.count(branch)
        let epoch = UInt64(entry["epoch"]) ?? 0
        if !process.servingEpochs.contains(epoch) {
            coverage.count(process.loadingEpochs.contains(epoch) && hasLoaded(epoch) ? .endedWhileProving : .endedWhileLoading)
        }
        if process.machine.isServing { coverage.count(.endedBesideOthers) }
    }

    /// Whether some stage of the epoch has the probe step.
    private func hasLoaded(_ epoch: UInt64) -> Bool {
        workers.contains { $0?.provedEpoch == epoch }
    }

    private func noteServing(_ entry: LogEntry, _ process: CoordinatorProcess) {
        process.servingEpochs.insert(UInt64(entry["epoch"]) ?? 0)
        if process.machine.servingCount > 1 { coverage.count(.secondReplica) }
        guard let stages = Int(entry["stages"]) else { return }
        if let before = process.servedStages { coverage.count(stages < before ? .narrower : stages > before ? .wider : .sameWidth) }
        process.servedStages = stages
    }
}

extension LogEntry {
    /// Empty where there is no such field.
    subscript(key: String) -> String { fields.first { $0.key == key }?.value ?? "" }

    var words: String { ([message] + fields.map { "\($0.key)=\($0.value)" }).joined(separator: " ") }
}
