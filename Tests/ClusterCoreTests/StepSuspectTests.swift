import Testing

@testable import ClusterCore

/// A hung stage thread, a link that is half open and a result that was lost look the same from afar: nothing comes. Heartbeats tell them apart.
@Suite struct StepSuspectTests {
    private static let stages = (0..<3).map { ToyCluster.key($0) }

    /// - Parameter progress: by stage, the last step received and the last one computed; `nil` for one of another epoch.
    private func suspect(_ progress: [(received: UInt64?, computed: UInt64)?], isFollowUp: Bool = false) -> StepSuspect {
        StepSuspect(step: StepNumber(9), isFollowUp: isFollowUp, epoch: Epoch(2), stages: Self.stages) { key in
            let stage = Self.stages.firstIndex(of: key)!
            guard let (received, computed) = progress[stage] else {
                return Heartbeat(epoch: Epoch(1), lastStep: StepNumber(99), stepsQueued: 0, lastReceived: StepNumber(99))
            }
            return Heartbeat(epoch: Epoch(2), lastStep: StepNumber(computed), stepsQueued: 0, lastReceived: received.map { StepNumber($0) })
        }
    }

    @Test func theFirstStageThatDidNotComputeIsLookedAt() {
        let key = Self.stages
        #expect(suspect([(9, 8), (8, 8), (8, 8)]) == .worker(key[0]))
        #expect(suspect([(9, 9), (9, 8), (8, 8)]) == .worker(key[1]))
        #expect(suspect([(10, 10), (10, 10), (9, 7)]) == .worker(key[2]))
        #expect(suspect([(9, 9), (8, 8), (8, 8)]) == .link(from: key[0], to: key[1]))
        #expect(suspect([(10, 9), (9, 9), (8, 7)]) == .link(from: key[1], to: key[2]))
        #expect(suspect([(8, 8), (8, 8), (8, 8)]) == .sending(key[0]))
        #expect(suspect([(9, 9), (9, 9), (9, 9)]) == .result)
        #expect(suspect([(9, 9), nil, (8, 8)]) == .worker(key[1]))
        // Of protocol 2.0: it does not say what it received.
        #expect(suspect([(9, 9), (nil, 8), (8, 8)]) == .worker(key[1]))
        // A follow-up comes from the last stage.
        #expect(suspect([(8, 8), (8, 8), (8, 8)], isFollowUp: true) == .link(from: key[2], to: key[0]))
        #expect(suspect([(9, 9), (8, 8), (8, 8)], isFollowUp: true) == .link(from: key[0], to: key[1]))
    }

    @Test func aLinkIsForgivenOnceInAWhile() {
        var faults = LinkFaults()
        let (a, b) = (Self.stages[0], Self.stages[1])
        func at(_ seconds: UInt64) -> Instant { Instant(nanoseconds: 0).advanced(milliseconds: seconds * 1_000) }
        let again = [(a, b, 1), (b, a, 2), (a, b, 3), (a, b, 3 + LinkFaults.memoryMs / 1_000)].map { from, to, seconds in
            faults.note(from: from, to: to, at: at(seconds))
        }
        #expect(again == [false, false, true, false])
        for index in 0..<200 { _ = faults.note(from: ToyCluster.key(index), to: a, at: at(1_000)) }
    }

    // MARK: - In the coordinator

    /// Two stages serve one request whose second step does not come back.
    struct Stuck {
        var coordinator: Coordinator
        var effects: [Coordinator.Effect] = []

        init() {
            var configuration = CoordinatorConfiguration(session: 1, model: ToyModel().profile, modelPath: "/m", expectedWorkers: 2)
            configuration.replicas = .exactly(1)
            coordinator = Coordinator(configuration: configuration, at: Instant(nanoseconds: 0))
            for index in 0..<2 { tell(.workerHello(hello(index)), from: index, at: 1) }
            for index in 0..<2 { tell(.loaded(Epoch(1)), from: index, at: 2) }
            tell(
                .stepResult(
                    StepResult(
                        epoch: Epoch(1), number: StepNumber(1),
                        tokens: [SampledToken(sequence: SequenceID(1), position: 1, emitted: EmittedToken(token: 9))], poisoned: [],
                        timings: [StageTiming](repeating: StageTiming(queueNanoseconds: 0, computeNanoseconds: 1_000_000), count: 2))),
                from: 1, at: 3)
            let gateway = PeerKey(bytes: [UInt8](repeating: 200, count: 32))!
            let version = ProtocolVersion.current
            handle(.received(.gatewayHello(GatewayHello(version: version, session: 5, name: "g")), from: gateway, role: .gateway), at: 4)
            let request = GenerationRequest(id: RequestID(high: 1, low: 1), prompt: [1, 2, 3], sampling: SamplingParameters())
            handle(.received(.submit(request), from: gateway, role: .gateway), at: 5)
        }

        func hello(_ index: Int) -> WorkerHello {
            WorkerHello(
                version: .current, session: UInt64(index + 1), name: "w\(index)",
                capabilities: WorkerCapabilities(memoryBytes: 1 << 30, threads: 1, isa: "portable", readBytesPerSecond: 1e9, opsPerSecond: 1e9),
                dataEndpoint: "tcp://127.0.0.1:\(index + 1)", holding: nil)
        }

        mutating func tell(_ message: ToCoordinator, from worker: Int, at milliseconds: UInt64) {
            handle(.received(message, from: ToyCluster.key(worker), role: .worker), at: milliseconds)
        }

        mutating func handle(_ event: Coordinator.Event, at milliseconds: UInt64) {
            effects = []
            coordinator.handle(event, at: Instant(nanoseconds: milliseconds * 1_000_000), into: &effects)
        }

        /// Both send heartbeats until the step is overdue.
        mutating func wait(_ received: [UInt64], _ computed: [UInt64]) {
            for milliseconds in stride(from: UInt64(1_000), through: 12_000, by: 1_000) {
                for worker in 0..<2 {
                    let heartbeat = Heartbeat(
                        epoch: Epoch(1), lastStep: StepNumber(computed[worker]), stepsQueued: 0, lastReceived: StepNumber(received[worker]))
                    tell(.heartbeat(heartbeat), from: worker, at: milliseconds)
                    if coordinator.deployment.epoch > Epoch(1) { return }
                }
            }
        }

        var struck: [Int] { (0..<2).filter { coordinator.membership.strikes[ToyCluster.key($0)] != nil } }
    }

    @Test func aHungStageIsLeftOut() {
        var stuck = Stuck()
        stuck.wait([2, 2], [2, 1])
        #expect(stuck.struck == [1] && stuck.coordinator.deployment.plan?.stages.map(\.worker) == [ToyCluster.key(0)])
    }

    @Test func aLinkThatLostAStepCostsNobodyItsPlace() {
        var stuck = Stuck()
        stuck.wait([2, 1], [2, 1])
        #expect(stuck.struck == [] && stuck.coordinator.deployment.plan?.stages.count == 2 && stuck.coordinator.deployment.epoch == Epoch(2))
    }

    // MARK: - Versions

    @Test func anotherMinorWorksAndAnotherMajorIsToldWhy() {
        var stuck = Stuck()
        var older = stuck.hello(5)
        older.version = ProtocolVersion(major: ProtocolVersion.current.major, minor: 0)
        stuck.tell(.workerHello(older), from: 5, at: 20)
        #expect(stuck.effects.contains(.send(.workerWelcome(WorkerWelcome(version: .current)), to: ToyCluster.key(5))))
        var newer = stuck.hello(6)
        newer.version.minor += 7
        stuck.tell(.workerHello(newer), from: 6, at: 21)
        #expect(stuck.effects.contains(.send(.workerWelcome(WorkerWelcome(version: .current)), to: ToyCluster.key(6))))
        var other = stuck.hello(7)
        other.version.major += 1
        stuck.tell(.workerHello(other), from: 7, at: 22)
        let refusal = stuck.effects.compactMap { effect -> Failure? in
            if case .send(.refused(let failure), _) = effect { failure } else { nil }
        }.first
        #expect(refusal?.code == .versionMismatch && refusal?.message.contains("\(other.version)") == true)
        #expect(stuck.coordinator.membership.workers[ToyCluster.key(7)] == nil)
    }

    /// The last stage goes on by itself where both ends of the pipeline know how, and foretells where both know that.
    @Test func onlyWhoKnowsIsToldAhead() throws {
        for (first, last, follows, foretells) in [
            (UInt32(5), UInt32(5), true, true), (4, 5, true, false), (5, 4, true, false), (3, 5, false, false), (9, 7, true, true),
        ] {
            var stuck = Stuck()
            let plan = try #require(stuck.coordinator.deployment.plan)
            for (stage, minor) in zip(plan.stages, [first, last]) { stuck.coordinator.membership.workers[stage.worker]!.hello.version.minor = minor }
            let assignments = (0..<2).map { stuck.coordinator.assignment(of: $0, in: plan, epoch: Epoch(7)) }
            #expect((assignments[0].upstream == plan.stages[1].worker) == follows && (assignments[1].downstream != nil) == follows)
            #expect(!assignments[0].foretells && assignments[1].foretells == foretells, "\(first) and \(last)")
        }
    }

    /// Who has no hand-over takes part in plans, but is not asked for what it does not know.
    @Test func aWorkerWithoutHandOverIsDrainedByNobody() {
        var stuck = Stuck()
        stuck.coordinator.membership.workers[ToyCluster.key(0)]!.hello.version.minor = 0
        let console = PeerKey(bytes: [UInt8](repeating: 201, count: 32))!
        stuck.handle(.received(.drain(DrainRequest(worker: "w1")), from: console, role: .console), at: 30)
        let states = stuck.effects.compactMap { effect -> DrainStatus.State? in
            if case .send(.drainStatus(let status), console) = effect { status.state } else { nil }
        }
        #expect(states == [.refused])
        #expect(!stuck.effects.contains { if case .send(.handover, _) = $0 { true } else { false } })
        #expect(stuck.coordinator.deployment.epoch == Epoch(1) && stuck.coordinator.deployment.isServing)
    }
}
