import ClusterCore
import DequeModule

/// A worker's process: its machine, what its socket thread keeps, and its stage thread.
final class WorkerProcess {
    enum Job {
        case load(StageAssignment)
        case unload
        case compute(StepFrame, [UInt64]?)
        case prepare(StageAssignment)
        case dropPrepared
        case loadAhead(StageAssignment)
        case read(KVFrame)
        case write(KVFrame, [UInt64], from: PeerKey)
        case adopt(StageAssignment)

        /// A load that runs when it waits stops, and steps are left out.
        var supersedes: Bool {
            switch self {
            case .load, .unload: true
            default: false
            }
        }
    }

    var machine: Worker
    let endpoint: String
    var upstream: PeerKey?
    var downstream: Int?
    /// Those with whom it exchanges keys and values, and the links to them.
    var peers: [PeerKey] = []
    var transfers: [(peer: StagePeer, link: Int)] = []
    /// Rows that the machine knows by handle.
    var payloads: [UInt64: [UInt64]] = [:]
    var payloadsMade: UInt64 = 0

    // The stage thread.
    var jobs: Deque<Job> = []
    var running: Job?
    /// Numbers jobs, so that an event for an earlier one is void.
    var job = 0
    /// Chunks of the present load that are in memory.
    var chunks = 0
    var stage: ToyStage?
    /// Layers whose weights are in memory.
    var held: Range<Int>?
    /// What the last stage left, while the next one is loaded.
    var remains: ToyStage.Remains?
    /// Whose steps left what is in memory, and of which epoch the stage is.
    var content: Epoch?
    var loadedEpoch: Epoch?
    /// Since when its stage thread does nothing.
    var hungSince: Agenda.Time?
    var isHung: Bool { hungSince != nil }
    /// When the present job began, and how long it takes.
    var span: (from: Agenda.Time, nanoseconds: UInt64) = (0, 0)
    var failsNextStep = false
    /// A step failed: what comes after it is computed from a wrong state until the next load, and nobody may use it.
    var isSuspect = false
    // The thread that prepares a slice.
    var preparing: StageAssignment?
    /// Weights alone, for a stage that may come.
    var isAhead = false
    var wasAhead = false
    var preparerJob = 0
    var preparedChunks = 0
    /// What it made: memory for the layers that the stage has not, by layer.
    var prepared: (epoch: Epoch, memory: [Int: [UInt64]])?
    /// The last epoch of which it was given a step.
    var provedEpoch: UInt64?

    init(machine: Worker, endpoint: String) {
        self.machine = machine
        self.endpoint = endpoint
    }

    /// Grows while the stage thread gets on: as the real one's, it does so several times in a layer.
    func workDone(at now: Agenda.Time) -> UInt64 {
        let piecesMax: UInt64 = 1_000
        guard case .compute = running, span.nanoseconds > 0 else { return UInt64(job) * piecesMax }
        let pieces = UInt64(6 * (stage?.assignment.layers.count ?? 1))
        let until = max(span.from, min(now, hungSince ?? now))
        return UInt64(job) * piecesMax + min(pieces, (until - span.from) * pieces / span.nanoseconds)
    }

    /// Whose connections are let in.
    func admits(_ key: PeerKey) -> Bool { upstream == key || peers.contains(key) }
}

extension Cluster {
    func startWorker(_ party: Int) {
        ports += 1
        let endpoint = "tcp://10.0.0.\(party):\(ports)"
        let capabilities = WorkerCapabilities(
            memoryBytes: scenario.memoryBytes[party - 1], threads: 1, isa: "portable",
            readBytesPerSecond: scenario.readBytesPerSecond[party - 1], opsPerSecond: 1e12)
        let configuration = WorkerConfiguration(
            session: sessions, name: name(party), capabilities: capabilities, dataEndpoint: endpoint)
        workers[party - 1] = WorkerProcess(machine: Worker(configuration: configuration), endpoint: endpoint)
        planConnect(party, after: numbers.among(100_000...3_000_000))
        tell(worker: party, .start)
    }

    /// Rows have come over the data socket.
    func receive(_ frame: StepFrame, _ rows: [UInt64], at party: Int, from sender: Int) {
        guard let process = workers[party - 1] else { return }
        tell(worker: party, .activation(frame, payload: keep(rows, process), from: Self.key(sender)))
    }

    /// Keys and values, or the word that they came.
    func receive(_ frame: TransferFrame, _ values: [UInt64]?, at party: Int, from sender: Int) {
        guard let process = workers[party - 1] else { return }
        tell(worker: party, .transfer(frame, payload: values.map { keep($0, process) }, from: Self.key(sender)))
    }

    func keep(_ rows: [UInt64], _ process: WorkerProcess) -> PayloadHandle {
        process.payloadsMade += 1
        process.payloads[process.payloadsMade] = rows
        return PayloadHandle(process.payloadsMade)
    }

    func take(_ handle: PayloadHandle, _ process: WorkerProcess) -> [UInt64] {
        if let rows = process.payloads.removeValue(forKey: handle.value) { return rows }
        fail("a worker hands a payload back twice")
        return []
    }

    func tell(worker party: Int, _ event: Worker.Event) {
        guard let process = workers[party - 1] else { return }
        var effects: [Worker.Effect] = []
        events += 1
        let local = hosts[party].clock.now(now)
        if let due = process.machine.nextDeadline, due <= local {
            process.machine.handle(.workDone(process.workDone(at: now)), at: local, into: &effects)
        }
        let early = process.machine.metrics.stepsEarly
        process.machine.handle(event, at: hosts[party].clock.now(now), into: &effects)
        if process.machine.metrics.stepsEarly > early { coverage.count(.followUpOvertaken) }
        for effect in effects {
            note(effect, event)
            perform(effect, party, process)
        }
        // It may have ended.
        if workers[party - 1] === process { planTimer(of: party, at: process.machine.nextDeadline) }
    }

    private func perform(_ effect: Worker.Effect, _ party: Int, _ process: WorkerProcess) {
        switch effect {
        case .send(let message):
            if case .stepFailed(_, _, let failure) = message, failure.message.hasPrefix(Worker.unfitStep) {
                fail("\(name(party)) was given a wrong step: \(failure.message)")
            }
            sendUp(message, from: party)
        case .load(let assignment): post(.load(assignment), party, process)
        case .loadAhead(let assignment): post(.loadAhead(assignment), party, process)
        case .unload: post(.unload, party, process)
        case .connectDownstream(let peer):
            if let old = process.downstream { close(links[old]) }
            process.downstream = peer.map { openRows(from: party, to: $0) }
        case .admitUpstream(let key): process.upstream = key
        case .compute(let frame, let payload):
            process.provedEpoch = frame.step.epoch.value
            post(.compute(frame, payload.map { take($0, process) }), party, process)
        case .forward(let frame, let payload):
            let rows = take(payload, process)
            if let downstream = process.downstream { send(.rows(frame, rows), over: downstream) }
        case .followUp(let step):
            coverage.count(.followedUp)
            if let downstream = process.downstream { send(.followUp(step), over: downstream) }
        case .discard(let payload): _ = take(payload, process)
        case .reconnect: replaceConnection(party)
        case .prepare, .dropPrepared, .readBlocks, .writeBlocks, .adopt, .admitPeers, .transfer, .closeTransfers:
            performHandover(effect, party, process)
        // Its weights are where it is.
        case .offerWeights, .admitFetchers: break
        case .log(let entry):
            if entry.level == .error { fail("a worker logs an error: \(entry.message)") }
            note("\(name(party)): \(entry.words)")
        case .ended(let failure):
            if let failure { fail("a worker ended: \(failure.message)") }
            kill(party, losesTail: false)
            // Told to leave by a fault that is over.
            if isSettling && party != absent { agenda.add(.start(party: party), at: after(numbers.octaves(1_000_000...2_000_000_000))) }
        }
    }

    // MARK: - The stage thread

    /// As many commands as may wait for the real one.
    private static let commandsMax = 16
    static let loadChunks = 3

    func post(_ job: WorkerProcess.Job, _ party: Int, _ process: WorkerProcess) {
        process.jobs.append(job)
        if process.jobs.count > Self.commandsMax { fail("more commands for the stage thread of \(name(party)) than it may have") }
        if process.running == nil { startJob(party, process) }
    }

    /// A load stops, and a step is left out, when another load or an unload waits behind it.
    private func isSuperseded(_ process: WorkerProcess) -> Bool { process.jobs.contains(where: \.supersedes) }

    private func startJob(_ party: Int, _ process: WorkerProcess) {
        while process.running == nil, let next = process.jobs.popFirst() {
            switch next {
            case .unload:
                process.stage = nil
                process.held = nil
                process.remains = nil
                dropPrepared(process)
            case .prepare(let assignment):
                process.isAhead = false
                prepare(assignment, party, process)
            case .dropPrepared: dropPrepared(process)
            case .loadAhead(let assignment):
                guard process.stage == nil else { continue }
                process.isAhead = true
                prepare(assignment, party, process)
            case .read(let frame), .write(let frame, _, _): run(next, for: copyNanoseconds(frame), party, process)
            case .adopt: run(next, for: 20_000, party, process)
            case .load(let assignment): startLoad(assignment, party, process)
            case .compute(let frame, _):
                guard !isSuperseded(process) else {
                    coverage.count(.stepsSuperseded)
                    continue
                }
                run(next, for: computeNanoseconds(frame.step, party, process), party, process)
            }
        }
    }

    func run(_ job: WorkerProcess.Job, for nanoseconds: UInt64, _ party: Int, _ process: WorkerProcess) {
        process.running = job
        process.job += 1
        process.span = (now, nanoseconds)
        agenda.add(.stage(worker: party, incarnation: hosts[party].incarnation, job: process.job), at: after(nanoseconds))
    }

    private func computeNanoseconds(_ step: Step, _ party: Int, _ process: WorkerProcess) -> UInt64 {
        let usual = scenario.stepNanoseconds + scenario.rowNanoseconds * UInt64(step.rowCount)
        let layers = UInt64(process.stage?.assignment.layers.count ?? 1)
        return (usual * layers / UInt64(scenario.model.layerCount) + UInt64(numbers.below(1_000))) * hosts[party].slowness
    }

    private func startLoad(_ assignment: StageAssignment, _ party: Int, _ process: WorkerProcess) {
        if let stage = process.stage { process.remains = stage.remains }
        process.stage = nil
        let isWanted = assignment.keeping.map { $0 == process.content || $0 == process.loadedEpoch } ?? false
        if !isWanted { process.remains = nil }
        if !isWanted { process.content = nil }
        process.loadedEpoch = nil
        process.chunks = 0
        dropPrepared(process)
        if process.held == assignment.layers {
            coverage.count(.sliceKept)
            if process.wasAhead { coverage.count(.sliceAhead) }
            process.wasAhead = false
            return run(.load(assignment), for: 10_000, party, process)
        }
        process.held = nil
        run(.load(assignment), for: loadNanoseconds(party), party, process)
    }

    func loadNanoseconds(_ party: Int) -> UInt64 {
        numbers.among(scenario.loadNanoseconds / 2...scenario.loadNanoseconds) / UInt64(Self.loadChunks) * hosts[party].slowness
    }

    func goOn(_ party: Int, _ incarnation: Int, _ job: Int) {
        guard hosts[party].incarnation == incarnation, let process = workers[party - 1], process.job == job, !process.isHung else { return }
        guard hosts[party].frozenUntil <= now else {
            return agenda.add(.stage(worker: party, incarnation: incarnation, job: job), at: hosts[party].frozenUntil)
        }
        mix(UInt64(party) + 64)
        switch process.running {
        case .load(let assignment): goOnLoading(assignment, party, process)
        case .compute(let frame, let rows): finish(frame, rows, party, process)
        case .read(let frame): finishReading(frame, party, process)
        case .write(let frame, let values, let peer): finishWriting(frame, values, from: peer, party, process)
        case .adopt(let assignment): finishAdopting(assignment, party, process)
        case .unload, .prepare, .dropPrepared, .loadAhead, nil: break
        }
        // The machine may have ended, or the report given the thread more to do.
        if workers[party - 1] === process, process.running == nil { startJob(party, process) }
    }

    private func goOnLoading(_ assignment: StageAssignment, _ party: Int, _ process: WorkerProcess) {
        if process.held != assignment.layers {
            if isSuperseded(process) {
                coverage.count(.loadSuperseded)
                process.running = nil
                return
            }
            switch hosts[party].loading {
            case .works: break
            case .fails:
                process.running = nil
                return tell(worker: party, .loadFailed(assignment.epoch, Failure(.loadFailed, "No room is left for the weights.")))
            case .stalls: return run(.load(assignment), for: 200_000_000, party, process)
            }
            process.chunks += 1
            tell(worker: party, .loadProgressed(assignment.epoch, bytesDone: UInt64(process.chunks), bytesTotal: UInt64(Self.loadChunks)))
            guard workers[party - 1] === process else { return }
            if process.chunks < Self.loadChunks { return run(.load(assignment), for: loadNanoseconds(party), party, process) }
        }
        process.held = assignment.layers
        process.isSuspect = false
        // Blocks that a smaller plan gave back are lost.
        if process.remains?.blocks ?? 0 < assignment.kvBlocks { process.remains = nil }
        let kept = process.remains?.layers.clamped(to: assignment.layers) ?? 0..<0
        process.stage = ToyStage(model: scenario.model, assignment: assignment, garbage: numbers.next(), keeping: process.remains)
        process.remains = nil
        process.loadedEpoch = assignment.epoch
        if kept.isEmpty { process.content = assignment.epoch }
        process.running = nil
        note("\(name(party)) has loaded layers \(assignment.layers) for epoch \(assignment.epoch.value)")
        tell(worker: party, .loaded(assignment.epoch, kept: kept))
    }

    private func finish(_ frame: StepFrame, _ rows: [UInt64]?, _ party: Int, _ process: WorkerProcess) {
        process.running = nil
        let (epoch, number) = (frame.step.epoch, frame.step.number)
        guard process.stage?.assignment.epoch == epoch else { return fail("a step of epoch \(epoch.value) meets another epoch's stage") }
        if process.failsNextStep {
            process.failsNextStep = false
            process.isSuspect = true
            return tell(worker: party, .stepFailed(epoch, number, Failure(.internalError, "the stage has no memory left")))
        }
        process.content = epoch
        var result = process.stage!.compute(frame, input: rows)
        if process.isSuspect, let finding = result.findings.first {
            return tell(worker: party, .stepFailed(epoch, number, Failure(.internalError, finding)))
        }
        if let finding = result.findings.first { return fail("\(name(party)) was given a wrong step: \(finding)") }
        result.outcome.computeNanoseconds = computeNanoseconds(frame.step, party, process)
        noteGuesses(frame.step, result.outcome)
        let payload = process.stage!.assignment.isLast ? nil : keep(result.rows, process)
        tell(worker: party, .stepComputed(epoch, number, result.outcome, payload: payload))
    }

    // MARK: - What shows of its decisions

    private func noteGuesses(_ step: Step, _ outcome: StepOutcome) {
        for segment in step.segments where segment.drafts > 0 {
            let drawn = outcome.tokens.count { $0.sequence == segment.sequence }
            if drawn > 1 { coverage.count(.guessRight) }
            if drawn > 0 && drawn <= segment.drafts { coverage.count(.guessWrong) }
        }
    }

    private func note(_ effect: Worker.Effect, _ event: Worker.Event) {
        switch effect {
        case .send(.loaded): if case .received(.assign) = event { coverage.count(.loadedAgain) }
        case .reconnect: coverage.count(.workerReconnects)
        case .log(let entry) where entry.message == "dropped a frame; further ones of this cause are only counted":
            switch entry["cause"] {
            case DropCause.oldEpoch.rawValue: coverage.count(.droppedOldEpochRows)
            case DropCause.wrongState.rawValue: coverage.count(.droppedWrongState)
            case DropCause.wrongUpstream.rawValue: coverage.count(.droppedWrongUpstream)
            case DropCause.unknownStep.rawValue: coverage.count(.droppedUnknownStep)
            case DropCause.malformed.rawValue: coverage.count(.droppedMalformed)
            default: break
            }
        default: break
        }
    }
}
