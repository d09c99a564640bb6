import Testing

@testable import ClusterCore

/// A stage thread that is stuck, one that is slow, and a link that loses what it should bring: told apart within two seconds by what heartbeats say.
@Suite struct StepPlaceTests {
    private typealias Stuck = StepSuspectTests.Stuck

    /// Both stages send a heartbeat each 250 ms; the second one has the step and says of its stage thread what `work` gives for the time.
    ///
    /// - Returns: when the epoch ended, in milliseconds.
    private func run(
        _ stuck: inout Stuck, until end: UInt64, received: [UInt64] = [2, 2], computed: [UInt64] = [2, 1], silentFrom: UInt64 = .max,
        work: (UInt64) -> UInt64?
    ) -> UInt64? {
        let epoch = stuck.coordinator.deployment.epoch
        for milliseconds in stride(from: UInt64(250), through: end, by: 250) {
            for worker in 0..<2 {
                if worker == 1, milliseconds >= silentFrom { continue }
                var heartbeat = Heartbeat(
                    epoch: Epoch(1), lastStep: StepNumber(computed[worker]), stepsQueued: 0, lastReceived: StepNumber(received[worker]))
                heartbeat.work = worker == 1 ? work(milliseconds) : 3
                stuck.tell(.heartbeat(heartbeat), from: worker, at: milliseconds)
                if stuck.coordinator.deployment.epoch != epoch { return milliseconds }
                let deadline = stuck.coordinator.nextDeadline
                #expect(deadline == nil || deadline! > Instant(nanoseconds: milliseconds * 1_000_000), "a deadline moves on")
            }
        }
        return nil
    }

    private func state(_ stuck: Stuck, at milliseconds: UInt64) -> String {
        let workers = stuck.coordinator.status(at: Instant(nanoseconds: milliseconds * 1_000_000)).workers
        return workers.first { $0.name == "w1" }?.state ?? "gone"
    }

    @Test func aStuckStageThreadIsFoundWithinTwoSecondsAndLeftOutUntilItMoves() {
        var stuck = Stuck()
        let ended = run(&stuck, until: 5_000) { _ in 7 }
        #expect(ended == 250 + Limits.stuckDeadlineFloorMs)
        #expect(stuck.struck == [1] && stuck.coordinator.metrics.faults.stagesStuck == 1)
        #expect(stuck.coordinator.deployment.plan?.stages.map(\.worker) == [ToyCluster.key(0)])
        // Long after its suspension it is still of no use: it could load nothing.
        #expect(run(&stuck, until: 50_000) { _ in 7 } == nil)
        #expect(state(stuck, at: 50_000) == "stuck")
        _ = run(&stuck, until: 250) { _ in 8 }
        #expect(state(stuck, at: 90_000) == "standby")
    }

    @Test func oneThatOnlyEndsItsStepGoesOnToo() {
        var stuck = Stuck()
        #expect(run(&stuck, until: 5_000) { _ in 7 } != nil)
        #expect(run(&stuck, until: 2_000) { _ in 7 } == nil && !stuck.coordinator.membership.stuck.isEmpty)
        _ = run(&stuck, until: 250, computed: [2, 2]) { _ in 7 }
        #expect(stuck.coordinator.membership.stuck.isEmpty)
    }

    @Test func aNewProcessIsNotTheStuckOne() {
        var stuck = Stuck()
        #expect(run(&stuck, until: 5_000) { _ in 7 } != nil)
        var hello = stuck.hello(1)
        stuck.tell(.workerHello(hello), from: 1, at: 1_900)
        #expect(state(stuck, at: 1_900) == "stuck")
        hello.session += 100
        stuck.tell(.workerHello(hello), from: 1, at: 2_000)
        #expect(stuck.coordinator.membership.stuck.isEmpty)
    }

    @Test func aSlowWorkerIsWaitedForAndToldOnce() {
        var stuck = Stuck()
        var told = 0
        for milliseconds in stride(from: UInt64(250), through: 30_000, by: 250) {
            for worker in 0..<2 {
                var heartbeat = Heartbeat(
                    epoch: Epoch(1), lastStep: StepNumber(worker == 0 ? 2 : 1), stepsQueued: 0, lastReceived: StepNumber(2))
                heartbeat.work = milliseconds / 1_000
                stuck.tell(.heartbeat(heartbeat), from: worker, at: milliseconds)
                told += stuck.effects.count {
                    if case .log(let entry) = $0 { entry.message == "a worker is slow; its stage thread gets on" } else { false }
                }
            }
            if milliseconds == 5_000 { #expect(state(stuck, at: 5_000) == "slow") }
        }
        #expect(told == 1 && stuck.struck == [] && stuck.coordinator.deployment.epoch == Epoch(1))
        #expect(stuck.coordinator.metrics.faults.stagesSlow == 1 && stuck.coordinator.metrics.faults.stagesStuck == 0)
    }

    /// Work without an end is no work: nothing waits for ever.
    @Test func aStepThatNeverEndsIsGivenUp() {
        var stuck = Stuck()
        let ended = run(&stuck, until: 100_000) { $0 }
        #expect(ended.map { $0 >= 60_000 && $0 <= 61_000 } == true && stuck.struck == [1])
        #expect(stuck.coordinator.metrics.faults.stagesSlow == 1 && stuck.coordinator.membership.stuck.isEmpty)
    }

    @Test func aWorkerOfAnEarlierReleaseIsJudgedByItsStep() {
        var stuck = Stuck()
        let ended = run(&stuck, until: 20_000) { _ in nil }
        #expect(ended == 10_250 && stuck.struck == [1] && stuck.coordinator.membership.stuck.isEmpty)
    }

    @Test func aLinkIsJudgedByWhoShouldHaveReceived() {
        var lost = Stuck()
        #expect(run(&lost, until: 5_000, received: [2, 1], computed: [2, 1]) { _ in 7 } == 250 + Limits.linkDeadlineFloorMs)
        #expect(lost.struck == [] && lost.coordinator.metrics.faults.stageLinksLost == 1)
        // Its last word is from before the end: it may have received it since. Its silence is judged as such.
        var silent = Stuck()
        let ended = run(&silent, until: 5_000, received: [2, 1], computed: [2, 1], silentFrom: 750) { _ in 7 }
        // With the next heartbeat of the other one.
        #expect(ended == (500 + Limits.workerSilenceMs + 249) / 250 * 250 && silent.coordinator.metrics.faults.workersSilent == 1)
        #expect(silent.coordinator.metrics.faults.stageLinksLost == 0)
    }

    // MARK: - Deadlines from measured times

    private let configuration = CoordinatorConfiguration(session: 1, model: ToyModel().profile, modelPath: "/m", expectedWorkers: 2)
    private let stages = [StagePlan(worker: ToyCluster.key(0), layers: 0..<4), StagePlan(worker: ToyCluster.key(1), layers: 4..<6)]

    private func measured(rows: Int, milliseconds: [UInt64], way: UInt64) -> StepPatience {
        var patience = StepPatience()
        let timings = milliseconds.map { StageTiming(queueNanoseconds: 0, computeNanoseconds: $0 * 1_000_000) }
        patience.note(rows: rows, timings, stages: stages, wayNanoseconds: way * 1_000_000)
        return patience
    }

    @Test func patienceFollowsTheSlowestLayerAndTheRows() {
        // 100 ms a layer in the first stage, 300 ms in the second.
        let patience = measured(rows: 16, milliseconds: [400, 600], way: 200)
        #expect(patience.stuckMs(rows: 16, isFirst: false, configuration) == 8 * 300)
        #expect(patience.stuckMs(rows: 256, isFirst: false, configuration) == 8 * 300 * 16)
        #expect(patience.stuckMs(rows: 16, isFirst: true, configuration) == Limits.stepDeadlineFloorMs)
        // The next larger one is as good as it gets.
        #expect(patience.stuckMs(rows: 1, isFirst: false, configuration) == 8 * 300)
        #expect(patience.lostMs(rows: 16, isFirst: false, configuration) == Limits.linkDeadlineFloorMs)
        #expect(patience.lostMs(rows: 64, isFirst: false, configuration) == 4 * 200 * 4)
        #expect(patience.lostMs(rows: 16, isFirst: true, configuration) == Limits.linkFirstFloorMs)
    }

    @Test func smallModelsHaveTheFloorAndUnknownOnesPatience() {
        #expect(measured(rows: 16, milliseconds: [4, 2], way: 1).stuckMs(rows: 256, isFirst: false, configuration) == Limits.stuckDeadlineFloorMs)
        #expect(StepPatience().stuckMs(rows: 1, isFirst: true, configuration) == configuration.stepDeadlineUnmeasuredMs)
    }
}
