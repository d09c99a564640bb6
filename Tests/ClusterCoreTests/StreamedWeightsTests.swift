import Testing

@testable import ClusterCore

/// Workers that stream what their memory does not hold.
@Suite struct StreamedWeightsTests {
    private static let mib: UInt64 = 1 << 20

    /// Ten layers of 100 MiB, a head of 150 and an embedding of 200 MiB.
    private static func model(tied: Bool = false) -> ModelProfile {
        var model = ModelProfile(
            digest: ModelDigest(bytes: [UInt8](repeating: 1, count: 32))!, name: "m", layerBytes: [UInt64](repeating: 100 * mib, count: 10),
            embeddingBytes: 200 * mib, headBytes: 150 * mib, headIsTied: tied, hidden: 16, vocabulary: 100_000, contextTokens: 4_096,
            kvBytesPerTokenPerLayer: 0, endTokens: [])
        model.arithmetic.workspaceBytes = 7
        return model
    }

    private static func worker(_ index: UInt8 = 0, memory: UInt64, weights: UInt64, disk: Double = 1e9) -> Planner.Candidate {
        var worker = Planner.Candidate(key: ToyCluster.key(Int(index)), memoryBytes: memory * mib, readBytesPerSecond: 1e11)
        worker.streams(beyond: weights * mib, bytesPerSecond: disk)
        return worker
    }

    private static func cost(_ model: ModelProfile = model()) -> StageCost { StageCost(model: model, demand: PlanDemand()) }

    @Test func whatFitsIsNotStreamed() {
        let worker = Self.worker(memory: 2_000, weights: 1_350)
        #expect(Self.cost().streamedBytes(worker, 0..<10, hasHead: true) == 0)
        #expect(Self.cost().fixedBytes(worker, 0..<10, hasHead: true) == 1_350 * Self.mib + 7)
    }

    @Test func theRestComesFromDiskWithEveryStep() {
        let worker = Self.worker(memory: 2_000, weights: 850)
        let cost = Self.cost()
        // The head, the window on the embedding (4 MiB) and three places leave room for some 3.96 layers.
        let streamed = Double(cost.streamedBytes(worker, 0..<10, hasHead: true)) / Double(Self.mib)
        #expect(abs(streamed - (1_000 - (850 - 150 - 4 - 300))) < 1)
        #expect(cost.fixedBytes(worker, 0..<10, hasHead: true) == 850 * Self.mib + 7)
        // The disk is slower than anything else.
        let time = cost.decodeSeconds(worker, 0..<10, hasHead: true)
        #expect(abs(time - streamed * 0x1p20 / 1e9) < 1e-9)
        #expect(cost.seconds(worker, 0..<10, hasHead: true, .decode(rows: 1, context: 0)).largest == .disk)
    }

    /// Only the embedding's rows are read of it: without it all fits.
    @Test func anEmbeddingAloneIsNotStreamed() {
        #expect(Self.cost().streamedBytes(Self.worker(memory: 2_000, weights: 1_200), 0..<10, hasHead: true) == 0)
        #expect(Self.cost(Self.model(tied: true)).streamedBytes(Self.worker(memory: 2_000, weights: 1_100), 0..<10, hasHead: true) > 0)
    }

    @Test func theRingMustFit() {
        let cost = Self.cost()
        #expect(cost.fixedBytes(Self.worker(memory: 2_000, weights: 340), 0..<10, hasHead: true) > 1 << 60)
        #expect(cost.fixedBytes(Self.worker(memory: 2_000, weights: 360), 0..<10, hasHead: true) == 360 * Self.mib + 7)
        // Without head and embedding less is enough.
        #expect(cost.fixedBytes(Self.worker(memory: 2_000, weights: 210), 1..<9, hasHead: false) == 210 * Self.mib + 7)
    }

    /// The planner's search needs it.
    @Test func aPartOfAStageNeverTakesLonger() {
        let cost = Self.cost()
        for weights: UInt64 in [260, 300, 370, 460, 520, 700, 910, 1_200] {
            let worker = Self.worker(memory: 4_000, weights: weights)
            for start in 0..<10 {
                for end in start + 1...10 {
                    let time = cost.decodeSeconds(worker, start..<end, hasHead: end == 10)
                    if end < 10 { #expect(time <= cost.decodeSeconds(worker, start..<end + 1, hasHead: end + 1 == 10) + 1e-12) }
                    if start > 0 { #expect(time <= cost.decodeSeconds(worker, start - 1..<end, hasHead: end == 10) + 1e-12) }
                }
            }
        }
    }

    /// Two workers of 600 MiB serve 1,350 MiB of weights, which without streaming need more.
    @Test func aPlanMayBeLargerThanItsMemory() throws {
        let plain = (0..<2).map { Planner.Candidate(key: ToyCluster.key($0), memoryBytes: 600 * Self.mib, readBytesPerSecond: 1e11) }
        #expect(throws: Failure.self) { try Planner.plan(model: Self.model(), workers: plain, contextTokens: 32, kvBlocksMax: 1).get() }
        let streaming = (0..<2).map { Self.worker(UInt8($0), memory: 600, weights: 500) }
        let plan = try Planner.plan(model: Self.model(), workers: streaming, contextTokens: 32, kvBlocksMax: 1).get()
        #expect(plan.stages.count == 2)
        // A slower disk gets fewer layers.
        let uneven = [Self.worker(0, memory: 600, weights: 500, disk: 1e8), Self.worker(1, memory: 600, weights: 500, disk: 1e9)]
        let cut = try Planner.plan(model: Self.model(), workers: uneven, contextTokens: 32, kvBlocksMax: 1).get()
        let slow = try #require(cut.stages.first { $0.worker == ToyCluster.key(0) })
        #expect(slow.layers.count < 5)
    }

    @Test func theBoundIsThatOfTheBusiestMachine() {
        func status(_ machines: [UInt64]) -> StatusReport {
            var report = StatusReport(
                modelName: "m", health: ClusterHealth(state: .serving, detail: ""), epoch: Epoch(1), workers: [], gateways: 1, requestsWaiting: 0,
                sequencesRunning: 0, kvBlocksUsed: 0, kvBlocksTotal: 1, kvBlocksCached: 0, stepsInFlight: 0, stepsDone: 4, tokensGenerated: 4,
                prefillPositions: 0, prefillPositionsShared: 0, framesDropped: 0)
            for (index, machine) in machines.enumerated() {
                var capabilities = WorkerCapabilities(
                    memoryBytes: 1, threads: 1, isa: "avx2", readBytesPerSecond: 1, opsPerSecond: 1, machine: machine)
                (capabilities.weightsMemoryBytes, capabilities.diskBytesPerSecond) = (1, 100)
                let key = ToyCluster.key(index)
                report.workers.append(
                    WorkerStatus(
                        key: key, name: "w", capabilities: capabilities, layers: index..<index + 1, state: "serving", computeShare: 0,
                        lastStep: StepNumber(1)))
                var total = StageSums()
                (total.steps, total.computeNanoseconds, total.streamedBytes) = (4, 16_000_000_000, 800)
                report.pipeline.stages.append(StageReport(worker: key, layers: index..<index + 1, total: total))
            }
            return report
        }
        #expect(status([]).diskBound == nil)
        let apart = status([1, 2]).diskBound
        #expect(apart == DiskBound(bytesPerStep: 400, boundSeconds: 2, stepSeconds: 8))
        let together = status([7, 7]).diskBound
        #expect(together == DiskBound(bytesPerStep: 400, boundSeconds: 4, stepSeconds: 8) && together?.reachedShare == 0.5)
        // Five workers that each find a fifth of the disk: a step took less than all their shares make.
        var shared = status([7, 7, 7, 7, 7])
        for index in shared.workers.indices { shared.workers[index].capabilities.diskBytesPerSecond = 20 }
        #expect(shared.diskBound == DiskBound(bytesPerStep: 1_000, boundSeconds: 20, stepSeconds: 20))
    }

    // MARK: What steps find

    @Test func aDiskIsWhatStepsFound() {
        var record = DiskRecord()
        record.note(bytes: 0, nanoseconds: 400_000_000)
        record.note(bytes: 400, nanoseconds: 0)
        record.note(bytes: 400, nanoseconds: 400_000_000)
        #expect(record.bytesPerSecond == nil, "half a second says something, less does not")
        record.note(bytes: 200, nanoseconds: 200_000_000)
        #expect(record.bytesPerSecond.map { abs($0 - 1_000) < 1e-6 } == true)
        // A disk that others use too: what was before fades.
        for _ in 0..<100 { record.note(bytes: 500, nanoseconds: 1_000_000_000) }
        #expect(record.bytesPerSecond.map { abs($0 - 500) < 2 } == true)
        record.note(bytes: .max, nanoseconds: 1)
        #expect(record.bytesPerSecond?.isFinite == true, "a peer's word")
    }

    @Test func stepsCorrectWhatAWorkerMeasuredAtItsStart() {
        var speeds = MeasuredSpeeds()
        let (one, other) = (ToyCluster.key(0), ToyCluster.key(1))
        speeds.met(one, session: 1)
        for _ in 0..<40 {
            speeds.note(one, rows: 1, measuredSeconds: 0.3, predictedSeconds: 0.1, at: Instant(nanoseconds: 1))
        }
        #expect(speeds.correction(of: one, isComputing: true, at: Instant(nanoseconds: 2)) > 2)
        speeds.note(one, streamed: 100, nanoseconds: 100_000_000)
        #expect(speeds.diskRate(of: one) == nil && speeds.correction(of: one, isComputing: true, at: Instant(nanoseconds: 2)) > 2)
        speeds.note(one, streamed: 900, nanoseconds: 900_000_000)
        #expect(speeds.diskRate(of: one).map { abs($0 - 1_000) < 1e-6 } == true && speeds.diskRate(of: other) == nil)
        #expect(speeds.correction(of: one, isComputing: true, at: Instant(nanoseconds: 2)) == 1, "it was measured against another disk")
        speeds.met(one, session: 2)
        #expect(speeds.diskRate(of: one) == nil, "a new process measured anew")
    }
}
