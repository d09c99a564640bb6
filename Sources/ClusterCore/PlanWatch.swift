/// Whether a plan that measured times show to be uneven is made anew. That costs a hand-over beside what is served, or where it can't be one an
/// epoch: slices are loaded, running streams are computed again from their tokens.
package enum ReplanPolicy: String, Hashable, Sendable, CaseIterable {
    /// Only while no request is open.
    case whenIdle = "when-idle"
    case always
    case never
}

/// How the plan in force does beside its forecast, and what would be better.
///
/// A better cut is a candidate once it is faster by `recutGainMin`; it stays one until the gain falls below half of that; it is due when it has
/// been one for `recutSustainMs` without a break. After a new cut nothing is due for `recutPauseMs`, doubled with each, so that two loads that
/// alternate don't make a cluster that only loads.
package struct PlanWatch: Sendable {
    /// Of the steps of late, in which the last ones count most. Seconds.
    package struct Pace: Hashable, Sendable {
        package private(set) var measured = 0.0
        package private(set) var predicted = 0.0
        package private(set) var steps = 0.0

        /// A step counts for half once so many others came after it: 44.
        fileprivate static let memory = 63.0 / 64

        mutating func note(measured: Double, predicted: Double) {
            self.measured = self.measured * Self.memory + measured
            self.predicted = self.predicted * Self.memory + predicted
            steps = steps * Self.memory + 1
        }
    }

    package struct Better: Hashable, Sendable {
        package var plan: Plan
        /// Its longest turn is shorter by this share of its own.
        package var gain: Double
        package var since: Instant
    }

    /// Of the plan in force: as it was when it was made, then with what was measured since.
    package private(set) var forecast: PlanForecast?
    /// By stage.
    package private(set) var stages: [Pace] = []
    /// From one result to the next, while steps are in flight.
    package private(set) var intervals = Pace()
    /// Rows of the steps in `intervals`, likewise, and those that gave a token.
    private var rows = 0.0
    private var tokens = 0.0
    private var lastResult = Instant(nanoseconds: 0)
    package private(set) var better: Better?
    private var nextCheck = Instant(nanoseconds: 0)
    private var pauseEnd = Instant(nanoseconds: 0)
    private var pauseMs: UInt64 = 0
    package private(set) var recuts: UInt64 = 0

    package init() {}

    // MARK: - Measuring

    mutating func begin(_ forecast: PlanForecast) {
        self.forecast = forecast
        stages = [Pace](repeating: Pace(), count: forecast.plan.stages.count)
        intervals = Pace()
        (rows, tokens) = (0, 0)
        better = nil
    }

    mutating func end(at now: Instant, _ speeds: inout MeasuredSpeeds) {
        for stage in forecast?.plan.stages ?? [] { speeds.rest(stage.worker, at: now) }
        better = nil
    }

    /// All steps count, prompts' chunks too: where requests come all the time, few steps only decode. Every step goes through all stages, so what
    /// the prediction has wrong of chunks it has wrong of all workers.
    ///
    /// - Parameter inFlight: steps on their way when its result came, itself included.
    mutating func note(_ step: StepInFlight, _ timings: [StageTiming], inFlight: Int, at now: Instant, _ speeds: inout MeasuredSpeeds) {
        defer { lastResult = now }
        guard let forecast, timings.count == stages.count, step.rowCount > 0 else { return }
        speeds.note(hops: timings.count + 1, seconds: Double(Self.overhead(of: step, timings, at: now)) * 1e-9)
        for (index, timing) in timings.enumerated() {
            let measured = Double(timing.computeNanoseconds) * 1e-9
            let predicted = forecast.parts(index, step.load).total
            stages[index].note(measured: measured, predicted: predicted)
            let worker = forecast.workers[index]
            let bare = predicted / worker.factor(rows: step.load.rows)
            speeds.note(worker.key, rows: step.load.rows, measuredSeconds: measured, predictedSeconds: bare, at: now)
        }
        let interval = Double(now.nanoseconds(since: max(lastResult, step.sentAt))) * 1e-9
        intervals.note(measured: interval, predicted: forecast.intervalSeconds(step.load, inFlight: inFlight))
        rows = rows * Pace.memory + Double(step.rowCount)
        tokens = tokens * Pace.memory + Double(step.load.sampledRows)
    }

    /// As `StepTimeline.overheadNanoseconds`, but for what begun computing hides of it: that another plan's would hide as much is not said.
    private static func overhead(of step: StepInFlight, _ timings: [StageTiming], at now: Instant) -> UInt64 {
        let known = timings.reduce(UInt64(0)) { sum, timing in
            let waited = timing.queueNanoseconds - min(timing.queueNanoseconds, timing.idleNanoseconds)
            let computed = timing.computeNanoseconds - min(timing.computeNanoseconds, timing.begunNanoseconds)
            return saturatingSum(sum, saturatingSum(waited, computed))
        }
        let taken = now.nanoseconds(since: step.sentAt)
        return taken - min(taken, known)
    }

    /// What the planner says of the same plan now, with all that was measured since. Steps to come are held against it.
    mutating func refresh(_ forecast: PlanForecast) {
        precondition(forecast.plan.stages == self.forecast?.plan.stages, "another plan begins anew")
        self.forecast = forecast
    }

    /// Rows of a step, on average; 0 before the first.
    package var rowsMean: Double { intervals.steps > 0 ? rows / intervals.steps : 0 }
    package var tokensPerSecond: Double { intervals.measured > 0 ? tokens / intervals.measured : 0 }
    package var predictedTokensPerSecond: Double { intervals.predicted > 0 ? tokens / intervals.predicted : 0 }

    // MARK: - A better cut

    mutating func isCheckDue(_ configuration: CoordinatorConfiguration, at now: Instant) -> Bool {
        guard nextCheck <= now else { return false }
        nextCheck = now.advanced(milliseconds: configuration.recutCheckMs)
        return true
    }

    /// - Parameter gain: by how much `plan` is faster than the one in force.
    mutating func compare(_ plan: Plan, gain: Double, _ configuration: CoordinatorConfiguration, at now: Instant) {
        let gainMin = better == nil ? configuration.recutGainMin : configuration.recutGainMin / 2
        guard gain >= gainMin, plan.stages != forecast?.plan.stages else { return better = nil }
        better = Better(plan: plan, gain: gain, since: better?.since ?? now)
    }

    func isRecutDue(_ configuration: CoordinatorConfiguration, at now: Instant) -> Bool {
        guard let better, pauseEnd <= now else { return false }
        return better.since.advanced(milliseconds: configuration.recutSustainMs) <= now
    }

    mutating func noteRecut(_ configuration: CoordinatorConfiguration, at now: Instant) {
        // Long after the last one's pause this is a new matter.
        let isCalm = pauseEnd.advanced(milliseconds: configuration.recutPauseMaxMs) <= now
        pauseMs = isCalm ? configuration.recutPauseMs : min(max(2 * pauseMs, configuration.recutPauseMs), configuration.recutPauseMaxMs)
        pauseEnd = now.advanced(milliseconds: pauseMs)
        recuts += 1
    }
}
