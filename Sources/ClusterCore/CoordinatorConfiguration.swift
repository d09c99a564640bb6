/// All that a coordinator is told at start. Every default of the cluster's behaviour stands here.
package struct CoordinatorConfiguration: Hashable, Sendable {
    /// Random for each start of the process.
    package var session: UInt64
    package var model: ModelProfile
    /// Sent to workers, which try their own path first and check the digest of either.
    package var modelPath: String
    package var parameterCount: UInt64
    package var modelBytes: UInt64
    /// Where workers fetch weights from the coordinator's own file; `nil` for nowhere.
    package var weightsPeer: StagePeer?
    /// The lowest protocol whose workers can fetch the model.
    package var weightsMinor: UInt32 = 0

    /// Prompt and output together; never above the model's own.
    package var contextTokens: Int
    package var kvType: KVType = .f16
    package var boundary: BoundaryType = .f32

    /// The first plan waits for so many workers.
    package var expectedWorkers: Int
    /// So many of the workers that are there are kept back for the next loss, and all others serve, however many join while streams run. `nil`:
    /// `expectedWorkers` serve and all others stand by.
    package var standbyWorkers: Int?
    /// How many pipelines the workers are divided into.
    package var replicas = ReplicaCount.automatic
    /// The load that the number of replicas is chosen for: so many sequences at once in all.
    package var plannedSequences: Int = 16
    package var workersMax: Int = Limits.workersMax
    package var gatewaysMax: Int = Limits.gatewaysMax

    package var requestsWaitingMax: Int = Limits.requestsWaitingMax
    package var sequencesRunningMax: Int = Limits.sequencesRunningMax
    /// See `Scheduler.Settings`.
    package var tenantStretchMax = 4.0
    /// KV blocks are made as memory allows, up to this.
    package var kvBlocksMax: Int = kvBlocksMaxDefault
    package static let kvBlocksMaxDefault = 8_192
    package var stepRowsMax: Int = Limits.stepRowsMax
    /// Prefill rows of one step, when nobody decodes.
    package var prefillRowsPerStep: Int = 256
    /// The longest time between two tokens of a running sequence that others' prefill may cause. `nil`: twice what it is without.
    package var interTokenBudgetMs: UInt64?
    /// Whether requests with the same beginning share its keys and values.
    package var sharesPrefixes = true
    /// Share of the KV memory, in 0...100, to which beginnings that nobody uses make it grow beyond what requests needed at once.
    package var prefixCachePercent: Int = 25
    /// Each worker keeps the rows that it hands on, up to so many bytes and a small share of its memory: where the worker after it is lost, what that
    /// one knew can be computed from them by its successor alone.
    package var boundaryCacheBytes: UInt64 = boundaryCacheBytesDefault
    package static let boundaryCacheBytesDefault: UInt64 = 256 << 20
    /// Where guesses of next tokens come from.
    package var speculation = Speculation.Mode.promptLookup
    /// Whether the Node has a draft model that answers `.draft`.
    package var hasDraftModel = false
    /// Steps in flight for each stage of the plan.
    package var stepsInFlightPerStage: Int = 1
    /// Whether each step that came back gives a `.trace`.
    package var tracesSteps = false

    /// How often peers send heartbeats. A worker that is late by another one is spoken to.
    package var heartbeatIntervalMs: UInt64 = Limits.heartbeatIntervalMs
    package var heartbeatTimeoutMs: UInt64 = Limits.workerSilenceMs
    package var loadProgressTimeoutMs: UInt64 = Limits.loadProgressTimeoutMs
    /// Of a step on a worker that does not say whether it gets on, and of the first step after a load.
    package var stepDeadlineFloorMs: UInt64 = Limits.stepDeadlineFloorMs
    /// Of a step on a worker that says so.
    package var stuckDeadlineFloorMs: UInt64 = Limits.stuckDeadlineFloorMs
    /// Where a step was lost between two processes, nobody is struck for it and little is lost, so it is looked for sooner.
    package var linkDeadlineFloorMs: UInt64 = Limits.linkDeadlineFloorMs
    package var linkFirstFloorMs: UInt64 = Limits.linkFirstFloorMs
    /// Patience with the first step of all, before any step time is known: weights may still have to come from disk. At least so long a worker is
    /// waited for that says that it gets on.
    package var stepDeadlineUnmeasuredMs: UInt64 = 60_000
    /// A step is overdue after the longest step time seen lately times this, but never before the floor.
    package var stepDeadlineFactor: UInt64 = 8
    /// How long requests wait for a plan that fits before they fail with `noCapacity`.
    package var recoveryWaitMs: UInt64 = Limits.recoveryWaitMs
    /// How long after the last join or loss a narrow plan that nobody uses is made anew with the standbys.
    package var planSettleMs: UInt64 = Limits.planSettleMs
    /// After a restart, workers come back within their backoff; how long after the last one to plan without those still missing.
    package var restartSettleMs: UInt64 = 6_000
    /// The same where as many as expected are there, but some hold parts of a plan whose other parts may be about to come; and from its start,
    /// how long a coordinator that is not the first of its cluster waits for those who hold something at all.
    package var restartReturnMs: UInt64 = 1_500
    /// Another coordinator ran before it with the same keys: there may be workers that serve a plan.
    package var isRestart = false
    /// The steps for which stages are cut evenly, and what lies between them.
    package var demand = PlanDemand()
    /// Whether a plan that measured times show to be uneven is made anew.
    package var replan = ReplanPolicy.whenIdle
    /// A better cut counts when it is faster by this share, and no longer when by less than half of it...
    package var recutGainMin = 0.1
    /// ... and is made when it has been better for so long. Stage times vary.
    package var recutSustainMs: UInt64 = 10_000
    package var recutCheckMs: UInt64 = 2_000
    /// Where nobody waits for an answer, a cut with at least so many times the KV blocks is loaded anew; others are handed over.
    package var recutBlocksGain = 1.125
    /// How long a plan that was cut anew is left alone; doubled each time, up to `recutPauseMaxMs`.
    package var recutPauseMs: UInt64 = 60_000
    package var recutPauseMaxMs: UInt64 = 3_600_000
    /// How long a lost gateway's requests run on before they are cancelled.
    package var gatewayGraceMs: UInt64 = 10_000

    package init(
        session: UInt64, model: ModelProfile, modelPath: String, expectedWorkers: Int, contextTokens: Int? = nil,
        parameterCount: UInt64 = 0, modelBytes: UInt64 = 0
    ) {
        self.session = session
        self.model = model
        self.modelPath = modelPath
        self.expectedWorkers = expectedWorkers
        self.contextTokens = min(contextTokens ?? model.contextTokens, model.contextTokens)
        self.parameterCount = parameterCount
        self.modelBytes = modelBytes
    }
}
