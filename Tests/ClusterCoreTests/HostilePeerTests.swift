import Testing

@testable import ClusterCore

/// Whatever peers send, in whatever state: nothing traps, accounts stay whole, deadlines move on.
@Suite struct HostilePeerTests {
    private struct Inventor {
        var numbers: SeededNumbers

        mutating func word() -> UInt64 {
            switch Int.random(in: 0..<6, using: &numbers) {
            case 0: 0
            case 1: .max
            case 2: 1 << 62
            case 3: UInt64.random(in: 0...UInt64.max, using: &numbers)
            default: UInt64.random(in: 0...6, using: &numbers)
            }
        }
        mutating func int() -> Int { Int(truncatingIfNeeded: word()) }
        mutating func count() -> Int { Int.random(in: 0...4, using: &numbers) }
        mutating func token() -> TokenID { TokenID(truncatingIfNeeded: word()) }
        mutating func tokens() -> [TokenID] { (0..<count()).map { _ in token() } }
        mutating func key() -> PeerKey { ToyCluster.key(Int.random(in: 0..<4, using: &numbers)) }
        mutating func epoch() -> Epoch { Epoch(word()) }
        mutating func number() -> StepNumber { StepNumber(word()) }
        mutating func sequence() -> SequenceID { SequenceID(word()) }
        mutating func layers() -> Range<Int> {
            let start = Int.random(in: 0...3, using: &numbers)
            return start..<start + count()
        }
        mutating func rate() -> Double { [Double.nan, .infinity, -1, 0, 1e9].randomElement(using: &numbers)! }
        mutating func version() -> ProtocolVersion { numbers.oneIn(8) ? ProtocolVersion(major: 9, minor: 0) : .current }
        mutating func failure() -> Failure { Failure(FailureCode.allCases.randomElement(using: &numbers)!, "said a peer") }
        mutating func request() -> RequestID { RequestID(high: 0, low: UInt64.random(in: 0...5, using: &numbers)) }
        mutating func heartbeat() -> Heartbeat { Heartbeat(epoch: epoch(), lastStep: number(), stepsQueued: int()) }
        mutating func poisoned() -> [PoisonedSequence] { (0..<count() / 2).map { _ in PoisonedSequence(sequence: sequence(), layers: layers()) } }
        mutating func timings() -> [StageTiming] { (0..<count()).map { _ in timing() } }
        mutating func timing() -> StageTiming {
            StageTiming(queueNanoseconds: word(), computeNanoseconds: word(), idleNanoseconds: word(), handOverNanoseconds: word())
        }

        mutating func sampling() -> SamplingParameters {
            var sampling = SamplingParameters()
            sampling.maxTokens = numbers.oneIn(2) ? 3 : token()
            sampling.minTokens = numbers.oneIn(2) ? 0 : token()
            sampling.temperature = [Float.nan, 1, 0, -1, .infinity].randomElement(using: &numbers)!
            sampling.stopTokens = tokens()
            sampling.logitBias = (0..<count()).map { _ in LogitBias(token: token(), bias: .nan) }
            return sampling
        }

        mutating func toCoordinator() -> ToCoordinator {
            switch Int.random(in: 0..<18, using: &numbers) {
            case 0: .enrol(EnrolRequest(version: version(), role: .console, key: key(), name: ""))
            case 1:
                .workerHello(
                    WorkerHello(
                        version: version(), session: word(), name: "w",
                        capabilities: WorkerCapabilities(
                            memoryBytes: word(), threads: int(), isa: "", readBytesPerSecond: rate(), opsPerSecond: rate()), dataEndpoint: "",
                        holding: numbers.oneIn(2) ? nil : HeldSlice(epoch: epoch(), modelDigest: ToyModel().profile.digest, layers: layers()),
                        lastEpoch: epoch()))
            case 2: .gatewayHello(GatewayHello(version: version(), session: word(), name: "g"))
            case 3: .heartbeat(heartbeat())
            case 4: .loadProgress(LoadProgress(epoch: epoch(), bytesDone: word(), bytesTotal: word()))
            case 5: .loaded(epoch())
            case 6: .loadFailed(epoch(), failure())
            case 7:
                .stepResult(
                    StepResult(
                        epoch: epoch(), number: number(),
                        tokens: (0..<count()).map { _ in SampledToken(sequence: sequence(), position: int(), emitted: EmittedToken(token: token())) },
                        poisoned: poisoned(), timings: timings()))
            case 8: .stepFailed(epoch(), number(), failure())
            case 9: .leaving
            case 10:
                .submit(
                    GenerationRequest(
                        id: request(), prompt: tokens(), sampling: numbers.oneIn(2) ? SamplingParameters() : sampling(),
                        choices: numbers.oneIn(2) ? 1 : int(), topLogprobs: numbers.oneIn(2) ? nil : int(), priority: token(),
                        tenant: numbers.oneIn(2) ? .shared : Tenant(word()), weight: numbers.oneIn(2) ? 1 : int(),
                        resumed: (0..<count()).map { _ in tokens() }))
            case 11: .cancel(request())
            case 12: .cancelChoice(request(), UInt32(truncatingIfNeeded: word()))
            case 13, 14: .handoverReport(handoverReport())
            case 15: .drain(DrainRequest(worker: "w", isUndone: numbers.oneIn(2)))
            case 16: .wishToLeave
            default: .statusQuery
            }
        }

        mutating func handoverReport() -> HandoverReport {
            switch Int.random(in: 0..<5, using: &numbers) {
            case 0: .prepared(epoch())
            case 1: .progress(epoch(), bytesSent: word())
            case 2: .sent(epoch(), round: count(), bytesSent: word())
            case 3: .switched(epoch())
            default: .failed(epoch(), failure())
            }
        }

        mutating func blocks() -> [BlockID] { (0..<count()).map { _ in BlockID(UInt32(truncatingIfNeeded: numbers.oneIn(3) ? word() : 3)) } }
        mutating func peer() -> StagePeer { StagePeer(key: key(), endpoint: "") }
        mutating func kvFrame() -> KVFrame { KVFrame(epoch: epoch(), number: UInt64(count()), layers: layers(), blocks: blocks()) }

        mutating func handoverOrder() -> HandoverOrder {
            switch Int.random(in: 0..<5, using: &numbers) {
            case 0, 1: .prepare(assignment(), sources: (0..<count()).map { _ in peer() })
            case 2:
                .send(
                    KVOrder(
                        epoch: epoch(), round: int(), blocks: blocks(), targets: (0..<count()).map { _ in KVTarget(peer: peer(), layers: layers()) },
                        blockBytes: int()))
            case 3: .adopt(epoch())
            default: .abandon(epoch())
            }
        }

        mutating func assignment() -> StageAssignment {
            StageAssignment(
                epoch: Epoch(UInt64.random(in: 0...40, using: &numbers)), stage: numbers.oneIn(3) ? int() : count(),
                stageCount: numbers.oneIn(3) ? int() : 2,
                layers: layers(), kvBlocks: numbers.oneIn(3) ? int() : 8, kvType: .f16, boundary: .f32,
                modelDigest: ToyModel().profile.digest,
                modelPath: "", upstream: numbers.oneIn(2) ? nil : key(),
                downstream: numbers.oneIn(2) ? nil : StagePeer(key: key(), endpoint: ""))
        }

        mutating func step() -> Step {
            Step(
                epoch: epoch(), number: number(),
                opens: (0..<count()).map { _ in
                    SequenceOpen(
                        sequence: sequence(), choice: 0, tokens: tokens(), promptLength: int(), sampling: sampling(), endTokens: [], topLogprobs: nil)
                }, closes: (0..<count() / 3).map { _ in sequence() },
                segments: (0..<count()).map { _ in
                    Segment(
                        sequence: sequence(), start: int(), tokens: tokens(),
                        newBlocks: (0..<count()).map { _ in BlockID(UInt32(truncatingIfNeeded: word())) },
                        samples: numbers.oneIn(2), drafts: numbers.oneIn(2) ? 0 : int())
                })
        }

        mutating func health() -> ClusterHealth { ClusterHealth(state: numbers.oneIn(2) ? .serving : .recovering, detail: "\(count())") }

        mutating func fromCoordinator() -> FromCoordinator {
            switch Int.random(in: 0..<16, using: &numbers) {
            case 0: .enrolled
            case 1: numbers.oneIn(3) ? .refused(Failure(.helloExpected, "")) : .refused(Failure(.limitExceeded, ""))
            case 2, 3: .workerWelcome(WorkerWelcome(version: version()))
            case 4:
                .gatewayWelcome(
                    GatewayWelcome(
                        version: version(), coordinatorSession: word(), modelName: "", modelDigest: ToyModel().profile.digest, contextTokens: int(),
                        parameterCount: word(), modelBytes: word(), health: health()))
            case 5: .heartbeatReply(heartbeat())
            case 6:
                .assign(assignment())
            case 7: .release(epoch())
            case 8: .step(step())
            case 9: .health(health())
            case 10:
                .tokens(
                    TokenBatch(
                        request: request(), choice: UInt32(truncatingIfNeeded: word()), firstIndex: int(),
                        tokens: tokens().map { EmittedToken(token: $0) }))
            case 11: .finished(request(), choice: UInt32(truncatingIfNeeded: word()), tokenCount: int(), .stop)
            case 12, 13: .handover(handoverOrder())
            case 14: .drainStatus(DrainStatus(.moving, ""))
            default: numbers.oneIn(3) ? .closing : .failed(request(), failure())
            }
        }
    }

    @Test(arguments: 0..<40) func coordinator(seed: UInt64) {
        var inventor = Inventor(numbers: SeededNumbers(seed: seed))
        var now = Instant(nanoseconds: 0)
        let configuration = CoordinatorConfiguration(session: 1, model: ToyModel().profile, modelPath: "", expectedWorkers: 1 + Int(seed % 3))
        var coordinator = Coordinator(configuration: configuration, at: now)
        var findings: [String] = []
        for _ in 0..<1_500 {
            now = Instant(
                nanoseconds: now.nanoseconds
                    + UInt64.random(in: 0...(inventor.numbers.oneIn(20) ? 2_000_000_000 : 1_000_000), using: &inventor.numbers))
            var effects: [Coordinator.Effect] = []
            let roles: [PeerRole] = [.worker, .worker, .gateway, .console]
            let peer = inventor.key()
            let role = inventor.numbers.oneIn(10) ? roles.randomElement(using: &inventor.numbers)! : roles[Int(peer.bytes[0]) - 1]
            switch Int.random(in: 0..<20, using: &inventor.numbers) {
            case 0: coordinator.handle(.malformedFrame(from: inventor.numbers.oneIn(2) ? nil : peer), at: now, into: &effects)
            case 1: coordinator.handle(.disconnected(peer), at: now, into: &effects)
            case 2:
                let request = EnrolRequest(version: inventor.version(), role: role, key: peer, name: "")
                coordinator.handle(.enrolRequested(request, overToken: inventor.key()), at: now, into: &effects)
            case 3: coordinator.handle(.revoked(peer), at: now, into: &effects)
            case 4, 5, 6:
                // What an honest worker would say now, so that the deep states are reached.
                coordinator.handle(.deadline, at: now, into: &effects)
                if case .loading = coordinator.deployment.phase {
                    coordinator.handle(.received(.loaded(coordinator.deployment.epoch), from: peer, role: role), at: now, into: &effects)
                }
                if let step = coordinator.scheduler.inFlight.first, let last = coordinator.deployment.plan?.stages.last {
                    let tokens = step.rows.compactMap { rows in
                        rows.sampledPosition.map { SampledToken(sequence: rows.sequence, position: $0, emitted: EmittedToken(token: 4)) }
                    }
                    let result = StepResult(
                        epoch: coordinator.deployment.epoch, number: step.number, tokens: tokens, poisoned: [], timings: inventor.timings())
                    coordinator.handle(.received(.stepResult(result), from: last.worker, role: .worker), at: now, into: &effects)
                }
            default: coordinator.handle(.received(inventor.toCoordinator(), from: peer, role: role), at: now, into: &effects)
            }
            coordinator.audit(into: &findings)
            _ = coordinator.status(at: now)
            if let next = coordinator.nextDeadline, next <= now { findings.append("the deadline does not move on") }
        }
        #expect(findings == [], "seed \(seed)")
        #expect(coordinator.metrics.dropped.total > 0)
    }

    @Test(arguments: 0..<40) func worker(seed: UInt64) {
        var inventor = Inventor(numbers: SeededNumbers(seed: seed))
        var now = Instant(nanoseconds: 0)
        let capabilities = WorkerCapabilities(memoryBytes: 1, threads: 1, isa: "", readBytesPerSecond: 1, opsPerSecond: 1)
        var worker = Worker(configuration: WorkerConfiguration(session: 1, name: "", capabilities: capabilities, dataEndpoint: ""))
        var effects: [Worker.Effect] = []
        worker.handle(.start, at: now, into: &effects)
        var open: Set<PayloadHandle> = []
        var findings: [String] = []
        for turn in 0..<1_500 {
            now = Instant(nanoseconds: now.nanoseconds + UInt64.random(in: 0...100_000_000, using: &inventor.numbers))
            effects = []
            switch Int.random(in: 0..<12, using: &inventor.numbers) {
            case 0:
                open.insert(PayloadHandle(UInt64(turn)))
                let frame = StepFrame(step: inventor.step(), timings: inventor.timings(), poisoned: inventor.poisoned())
                worker.handle(.activation(frame, payload: PayloadHandle(UInt64(turn)), from: inventor.key()), at: now, into: &effects)
            case 1: for epoch in UInt64(0)...40 { worker.handle(.loaded(Epoch(epoch)), at: now, into: &effects) }
            case 2: worker.handle(.loadFailed(inventor.epoch(), inventor.failure()), at: now, into: &effects)
            case 3: worker.handle(.stepFailed(inventor.epoch(), inventor.number(), inventor.failure()), at: now, into: &effects)
            case 4: worker.handle(.deadline, at: now, into: &effects)
            case 5:
                for epoch in UInt64(0)...40 {
                    if inventor.numbers.oneIn(2) { worker.handle(.prepared(Epoch(epoch)), at: now, into: &effects) }
                    if inventor.numbers.oneIn(3) { worker.handle(.switched(Epoch(epoch)), at: now, into: &effects) }
                }
                if inventor.numbers.oneIn(4) { worker.handle(.handoverFailed(inventor.epoch(), inventor.failure()), at: now, into: &effects) }
            case 6:
                let payload = inventor.numbers.oneIn(3) ? nil : PayloadHandle(UInt64(turn))
                if let payload { open.insert(payload) }
                let frame: TransferFrame =
                    inventor.numbers.oneIn(3)
                    ? .receipt(KVReceipt(epoch: inventor.epoch(), number: UInt64(inventor.count()))) : .blocks(inventor.kvFrame())
                worker.handle(.transfer(frame, payload: payload, from: inventor.key()), at: now, into: &effects)
            case 7:
                open.insert(PayloadHandle(UInt64(turn)))
                worker.handle(.blocksRead(inventor.kvFrame(), payload: PayloadHandle(UInt64(turn)), bytes: 9), at: now, into: &effects)
                worker.handle(.blocksWritten(inventor.kvFrame(), from: inventor.key()), at: now, into: &effects)
            default: worker.handle(.received(inventor.fromCoordinator()), at: now, into: &effects)
            }
            for effect in effects {
                switch effect {
                case .discard(let payload), .compute(_, .some(let payload)), .forward(_, let payload), .writeBlocks(_, let payload, _),
                    .transfer(_, .some(let payload), _):
                    if open.remove(payload) == nil { findings.append("a payload was handed back twice") }
                default: break
                }
            }
            if let next = worker.nextDeadline, next <= now { findings.append("the deadline does not move on") }
        }
        effects = []
        worker.handle(.shutdown, at: now, into: &effects)
        for case .discard(let payload) in effects { open.remove(payload) }
        #expect(findings == [] && open.isEmpty, "seed \(seed)")
        #expect(effects.last == .ended(nil))
    }

    @Test(arguments: 0..<40) func gatewayLink(seed: UInt64) {
        var inventor = Inventor(numbers: SeededNumbers(seed: seed))
        var now = Instant(nanoseconds: 0)
        var link = GatewayLink(configuration: GatewayLinkConfiguration(session: 1, name: ""))
        var effects: [GatewayLink.Effect] = []
        link.handle(.start, at: now, into: &effects)
        var open: Set<RequestID> = []
        var findings: [String] = []
        for _ in 0..<1_500 {
            now = Instant(nanoseconds: now.nanoseconds + UInt64.random(in: 0...100_000_000, using: &inventor.numbers))
            effects = []
            let id = inventor.request()
            switch Int.random(in: 0..<8, using: &inventor.numbers) {
            case 0:
                guard open.insert(id).inserted else { continue }
                link.handle(.submit(GenerationRequest(id: id, prompt: [1], sampling: SamplingParameters())), at: now, into: &effects)
            case 1:
                open.remove(id)
                link.handle(.cancel(id), at: now, into: &effects)
            case 2: link.handle(.deadline, at: now, into: &effects)
            case 3: link.handle(.malformedFrame, at: now, into: &effects)
            default: link.handle(.received(inventor.fromCoordinator()), at: now, into: &effects)
            }
            for case .deliver(let id, let event) in effects {
                if !open.contains(id) { findings.append("something came after the end: \(event)") }
                switch event {
                case .failed, .finished: open.remove(id)
                default: break
                }
            }
            if let next = link.nextDeadline, next <= now { findings.append("the deadline does not move on") }
        }
        effects = []
        link.handle(.shutdown, at: now, into: &effects)
        for case .deliver(let id, .failed) in effects { open.remove(id) }
        #expect(findings == [] && open.isEmpty, "seed \(seed)")
        #expect(effects.last == .ended(nil))
    }
}
