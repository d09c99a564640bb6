import Testing

@testable import ClusterCore

/// What a coordinator's status and trace say of its steps.
@Suite struct CoordinatorAccountTests {
    private static let ms: UInt64 = 1_000_000
    private static let workers = [ToyCluster.key(0), ToyCluster.key(1)]
    private static let gateway = ToyCluster.key(7)

    private struct Run {
        var coordinator: Coordinator
        var effects: [Coordinator.Effect] = []

        init(traces: Bool) {
            var model = ToyModel().profile
            model.kvBytesPerTokenPerLayer = 1
            var configuration = CoordinatorConfiguration(session: 1, model: model, modelPath: "/m", expectedWorkers: 2, contextTokens: 64)
            configuration.replicas = .exactly(1)
            configuration.tracesSteps = traces
            coordinator = Coordinator(configuration: configuration, at: Instant(nanoseconds: 0))
        }

        mutating func receive(_ message: ToCoordinator, from peer: PeerKey, role: PeerRole = .worker, ms: UInt64) {
            effects = []
            coordinator.handle(
                .received(message, from: peer, role: role), at: Instant(nanoseconds: ms * CoordinatorAccountTests.ms), into: &effects)
        }

        func status(ms: UInt64) -> StatusReport { coordinator.status(at: Instant(nanoseconds: ms * CoordinatorAccountTests.ms)) }

        var sent: [Step] {
            effects.compactMap { if case .send(.step(let step), _) = $0 { step } else { nil } }
        }
        var traced: [TraceEvent] {
            effects.compactMap { if case .trace(let event) = $0 { event } else { nil } }
        }

        /// Both workers join and are told to load.
        mutating func join() {
            for (index, key) in CoordinatorAccountTests.workers.enumerated() {
                let hello = WorkerHello(
                    version: .current, session: 1, name: "w\(index)",
                    capabilities: WorkerCapabilities(memoryBytes: 7_000, threads: 1, isa: "", readBytesPerSecond: 1_000, opsPerSecond: 1),
                    dataEndpoint: "tcp://w:1", holding: nil)
                receive(.workerHello(hello), from: key, ms: 1)
            }
        }

        /// The oldest step comes back, with one token for each row that is sampled.
        mutating func answer(_ step: Step, timings: [StageTiming], ms: UInt64) {
            let tokens = step.segments.filter(\.samples).map {
                SampledToken(sequence: $0.sequence, position: $0.start + $0.tokens.count, emitted: EmittedToken(token: 5))
            }
            receive(
                .stepResult(StepResult(epoch: step.epoch, number: step.number, tokens: tokens, poisoned: [], timings: timings)),
                from: CoordinatorAccountTests.workers[1], ms: ms)
        }
    }

    private static let timings = [
        StageTiming(queueNanoseconds: 0, computeNanoseconds: 4 * ms, idleNanoseconds: 6 * ms, handOverNanoseconds: ms),
        StageTiming(queueNanoseconds: ms, computeNanoseconds: 2 * ms, idleNanoseconds: 8 * ms, handOverNanoseconds: ms),
    ]

    /// Loaded and proved at 10 ms, then three steps of 10 ms each for one request.
    private func served(traces: Bool = false) throws -> Run {
        var run = Run(traces: traces)
        run.join()
        for key in Self.workers { run.receive(.loaded(Epoch(1)), from: key, ms: 2) }
        run.answer(try #require(run.sent.first), timings: Self.timings, ms: 10)
        #expect(run.status(ms: 10).pipeline.steps == 1, "the probe is a step")
        run.receive(.gatewayHello(GatewayHello(version: .current, session: 1, name: "g")), from: Self.gateway, role: .gateway, ms: 10)
        var sampling = SamplingParameters()
        sampling.maxTokens = 3
        let request = GenerationRequest(id: RequestID(high: 0, low: 1), prompt: [1, 2, 3], sampling: sampling)
        run.receive(.submit(request), from: Self.gateway, role: .gateway, ms: 10)
        for number in 1...3 as ClosedRange<UInt64> { run.answer(try #require(run.sent.first), timings: Self.timings, ms: 10 + 10 * number) }
        return run
    }

    @Test func theStatusSaysWhereTimeWent() throws {
        let run = try served()
        let report = run.status(ms: 40)
        #expect(report.requestsFinished == 1 && report.promptTokens == 3 && report.tokensGenerated == 3 && run.traced.isEmpty)
        let pipeline = report.pipeline
        #expect(pipeline.steps == 4 && pipeline.rows == 1 + 3 + 1 + 1 && pipeline.prefillRows == 3)
        #expect(pipeline.stages.map(\.worker) == Self.workers && pipeline.stages.map(\.layers) == [0..<3, 3..<6])
        #expect(pipeline.stages[0].window.computeMilliseconds == 4 && pipeline.stages[1].window.queueMilliseconds == 1)
        #expect(pipeline.stages[0].total.sentBytes == UInt64(6 * ToyModel().profile.hidden * 4) && pipeline.stages[1].total.sentBytes == 0)
        // Each step: 10 ms, of which 6 are computing; nothing waits behind others. The probe took 8.
        #expect(pipeline.wireNanoseconds == 3 * Self.ms)
        #expect(abs(Double(pipeline.overheadMedianNanoseconds) - 4e6) < 0.5e6)
        #expect(pipeline.stepsByRows.prefix(3) == [3, 0, 1])
        #expect(report.workers.map(\.loadedShare) == [nil, nil])
    }

    @Test func loadingIsAShare() {
        var run = Run(traces: false)
        run.join()
        #expect(run.status(ms: 1).workers.map(\.loadedShare) == [nil, nil], "nobody said anything yet")
        run.receive(.loadProgress(LoadProgress(epoch: Epoch(1), bytesDone: 30, bytesTotal: 120)), from: Self.workers[0], ms: 2)
        run.receive(.loaded(Epoch(1)), from: Self.workers[1], ms: 3)
        #expect(run.status(ms: 4).workers.map(\.loadedShare) == [0.25, 1])
    }

    @Test func stepsAreTracedWhereThatIsAskedFor() throws {
        var run = Run(traces: true)
        run.join()
        for key in Self.workers { run.receive(.loaded(Epoch(1)), from: key, ms: 2) }
        run.answer(try #require(run.sent.first), timings: Self.timings, ms: 12)
        let line = StepTimeline(
            sentAt: Instant(nanoseconds: 2 * Self.ms), returnedAt: Instant(nanoseconds: 12 * Self.ms), timings: Self.timings)
        #expect(
            run.traced == [
                .epoch(Epoch(1), [TraceEvent.Stage(worker: "w0", layers: 0..<3), TraceEvent.Stage(worker: "w1", layers: 3..<6)]),
                .step(StepTrace(epoch: Epoch(1), number: StepNumber(1), rows: 1, decodeRows: 1, timeline: line)),
            ])
        #expect(try served(traces: true).traced.count == 1)
    }

    @Test func aLossIsARecoveryWithAPause() throws {
        var run = try served()
        run.receive(.leaving, from: Self.workers[1], ms: 50)
        #expect(run.status(ms: 60).pipeline.stages.isEmpty && run.status(ms: 60).recoveries == 1)
        run.receive(.loaded(Epoch(2)), from: Self.workers[0], ms: 70)
        let probe = try #require(run.sent.first)
        run.receive(
            .stepResult(
                StepResult(
                    epoch: Epoch(2), number: probe.number,
                    tokens: probe.segments.map { SampledToken(sequence: $0.sequence, position: 1, emitted: EmittedToken(token: 5)) }, poisoned: [],
                    timings: [Self.timings[0]])), from: Self.workers[0], ms: 90)
        let report = run.status(ms: 100)
        #expect(report.lastRecoveryNanoseconds == 40 * Self.ms && report.recoveryNanoseconds == 40 * Self.ms)
        #expect(report.pipeline.stages.map(\.worker) == [Self.workers[0]] && report.pipeline.stepsByRows.reduce(0, +) == 5)
    }
}
