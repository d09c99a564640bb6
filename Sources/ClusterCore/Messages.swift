// Every message between processes, as values. `Wire` turns them into frames and back and refuses what breaks a limit.

/// Speaks the same protocol: equal `major`. `minor` tells features that are only used when both sides have them.
package struct ProtocolVersion: Hashable, Sendable, CustomStringConvertible {
    package var major: UInt32
    package var minor: UInt32

    package static let current = ProtocolVersion(major: 2, minor: 5)
    /// From this one on workers hand layers over while they serve.
    package static let handoverMinor: UInt32 = 1
    /// From this one on workers keep what a lost epoch left, rebuild single layers, and load ahead.
    package static let rebuildMinor: UInt32 = 2
    /// From this one on workers fetch models of several named parts: Hugging Face folders.
    package static let namedPartsMinor: UInt32 = 3
    /// From this one on a plan's last worker sends follow-up steps to its first.
    package static let followUpMinor: UInt32 = 4
    /// From this one on it also tells the first which step that will probably be, before it knows.
    package static let foretellMinor: UInt32 = 5

    package init(major: UInt32, minor: UInt32) {
        self.major = major
        self.minor = minor
    }

    package var description: String { "\(major).\(minor)" }
}

package enum PeerRole: UInt8, Hashable, Sendable {
    case worker = 1
    case gateway = 2
    /// `staffel status` and other commands of the person who runs the cluster.
    case console = 3
}

/// From a worker, gateway or console to the coordinator.
package enum ToCoordinator: Hashable, Sendable {
    /// The only message allowed over a one-time token's key: admit this key from now on.
    case enrol(EnrolRequest)
    case workerHello(WorkerHello)
    case gatewayHello(GatewayHello)
    /// Sent every `Limits.heartbeatIntervalMs` by workers and gateways after their hello.
    case heartbeat(Heartbeat)
    case loadProgress(LoadProgress)
    /// The slice is in memory. `kept`: of its layers, those that still have the keys and values that the assignment wanted kept; often none.
    case loaded(Epoch, kept: Range<Int> = 0..<0)
    case loadFailed(Epoch, Failure)
    case stepResult(StepResult)
    /// The stage could not compute a step (an error of our own or of its memory): its worker is treated as failed.
    case stepFailed(Epoch, StepNumber, Failure)
    /// The worker or gateway is about to end on purpose.
    case leaving
    case submit(GenerationRequest)
    case cancel(RequestID)
    /// One choice is not needed any more (a stop string was found in its text); the others go on.
    case cancelChoice(RequestID, UInt32)
    case statusQuery
    case handoverReport(HandoverReport)
    /// From a console. Asked again and again, for it tells how far the draining is; answered by `drainStatus`.
    case drain(DrainRequest)
    /// The worker is about to end and asks to be relieved of its layers first; answered by `drainStatus` when that is done or can't be.
    case wishToLeave
    /// A worker that must load a slice has no file of this model. Asked again every `Limits.weightsQueryIntervalMs` while it fetches.
    case weightsQuery(ModelDigest)
}

/// From the coordinator to a worker, gateway or console.
package enum FromCoordinator: Hashable, Sendable {
    case enrolled
    case refused(Failure)
    case workerWelcome(WorkerWelcome)
    case gatewayWelcome(GatewayWelcome)
    case heartbeatReply(Heartbeat)
    case assign(StageAssignment)
    /// Forget the slice; the worker stays as a standby.
    case release(Epoch)
    /// To the first stage.
    case step(Step)
    /// To gateways, whenever it changes.
    case health(ClusterHealth)
    case tokens(TokenBatch)
    /// `tokenCount`: how many tokens the choice generated in all. A gateway that has fewer lost some on the way and submits again.
    case finished(RequestID, choice: UInt32, tokenCount: Int, FinishReason)
    case failed(RequestID, Failure)
    case status(StatusReport)
    /// The coordinator ends on purpose.
    case closing
    case handover(HandoverOrder)
    case drainStatus(DrainStatus)
    /// The answer to `.weightsQuery`.
    case weightsOffer(WeightsOffer)
    /// These workers fetch weights: let them, and nobody else, ask for what is here. Whenever it changes.
    case weightsFetchers([PeerKey])
    /// To a worker without a stage: have this one's weights in memory, for it may be yours next. When there is nothing better to do.
    case loadAhead(StageAssignment)
}

package struct EnrolRequest: Hashable, Sendable {
    package var version: ProtocolVersion
    package var role: PeerRole
    package var key: PeerKey
    package var name: String

    package init(version: ProtocolVersion, role: PeerRole, key: PeerKey, name: String) {
        self.version = version
        self.role = role
        self.key = key
        self.name = name
    }
}

package struct WorkerHello: Hashable, Sendable {
    package var version: ProtocolVersion
    /// Random for each start of the process: tells a restart from a reconnect.
    package var session: UInt64
    /// For people; the host's name and process id unless set.
    package var name: String
    package var capabilities: WorkerCapabilities
    /// Where its data socket listens.
    package var dataEndpoint: String
    /// What it already serves, after the coordinator's restart.
    package var holding: HeldSlice?
    /// The highest epoch it ever took part in, so that a restarted coordinator's epochs lie above it. At most `Limits.epochMax`.
    package var lastEpoch: Epoch
    /// Where it hands weights on; `nil` from a worker that does not.
    package var weightsEndpoint: String?

    package init(
        version: ProtocolVersion, session: UInt64, name: String, capabilities: WorkerCapabilities, dataEndpoint: String,
        holding: HeldSlice?, lastEpoch: Epoch = Epoch(0), weightsEndpoint: String? = nil
    ) {
        self.weightsEndpoint = weightsEndpoint
        self.version = version
        self.session = session
        self.name = name
        self.capabilities = capabilities
        self.dataEndpoint = dataEndpoint
        self.holding = holding
        self.lastEpoch = lastEpoch
    }
}

package struct HeldSlice: Hashable, Sendable {
    package var epoch: Epoch
    package var modelDigest: ModelDigest
    package var layers: Range<Int>

    package init(epoch: Epoch, modelDigest: ModelDigest, layers: Range<Int>) {
        self.epoch = epoch
        self.modelDigest = modelDigest
        self.layers = layers
    }
}

package struct WorkerWelcome: Hashable, Sendable {
    package var version: ProtocolVersion
    package init(version: ProtocolVersion) { self.version = version }
}

package struct GatewayHello: Hashable, Sendable {
    package var version: ProtocolVersion
    package var session: UInt64
    package var name: String

    package init(version: ProtocolVersion, session: UInt64, name: String) {
        self.version = version
        self.session = session
        self.name = name
    }
}

/// The model as a gateway needs it. The model file's raw header (tokenizer, chat template) travels beside it as a payload part.
package struct GatewayWelcome: Hashable, Sendable {
    package var version: ProtocolVersion
    /// New for each start of the coordinator: when it changes, the gateway submits its open requests again.
    package var coordinatorSession: UInt64
    package var modelName: String
    package var modelDigest: ModelDigest
    /// Prompt and output together.
    package var contextTokens: Int
    package var parameterCount: UInt64
    package var modelBytes: UInt64
    package var health: ClusterHealth

    package init(
        version: ProtocolVersion, coordinatorSession: UInt64, modelName: String, modelDigest: ModelDigest, contextTokens: Int,
        parameterCount: UInt64, modelBytes: UInt64, health: ClusterHealth
    ) {
        self.version = version
        self.coordinatorSession = coordinatorSession
        self.modelName = modelName
        self.modelDigest = modelDigest
        self.contextTokens = contextTokens
        self.parameterCount = parameterCount
        self.modelBytes = modelBytes
        self.health = health
    }
}

package struct Heartbeat: Hashable, Sendable {
    package var epoch: Epoch
    /// The last step that the stage thread finished: a hung stage thread is seen though its socket thread lives.
    package var lastStep: StepNumber
    package var stepsQueued: Int
    /// The last step that came with all its rows, computed or not: where it is missing, the link to the stage before is at fault and not the stage
    /// thread. `nil` from a worker of protocol 2.0.
    package var lastReceived: StepNumber?
    /// In a reply to a gateway: how long a request would wait behind all that is open, at most `Limits.expectedWaitMsMax`.
    package var expectedWaitMs: UInt64
    /// Of a worker without a stage: the layers that it has in memory ahead. Empty where there are none.
    package var held = 0..<0
    /// Of a worker: grows while its stage thread gets on, in the middle of a step too, so that one that is stuck and one that is slow can be told
    /// apart. Only that it changes means anything. `nil` from earlier releases.
    package var work: UInt64?

    package init(epoch: Epoch, lastStep: StepNumber, stepsQueued: Int, lastReceived: StepNumber? = nil, expectedWaitMs: UInt64 = 0) {
        self.epoch = epoch
        self.lastStep = lastStep
        self.stepsQueued = stepsQueued
        self.lastReceived = lastReceived
        self.expectedWaitMs = expectedWaitMs
    }
}

package struct LoadProgress: Hashable, Sendable {
    package var epoch: Epoch
    package var bytesDone: UInt64
    package var bytesTotal: UInt64

    package init(epoch: Epoch, bytesDone: UInt64, bytesTotal: UInt64) {
        self.epoch = epoch
        self.bytesDone = bytesDone
        self.bytesTotal = bytesTotal
    }
}

/// Tokens of one choice, oldest first.
package struct TokenBatch: Hashable, Sendable {
    package var request: RequestID
    package var choice: UInt32
    /// Index of the first of `tokens` among the choice's generated tokens: a gateway drops what it already has.
    package var firstIndex: Int
    package var tokens: [EmittedToken]

    package init(request: RequestID, choice: UInt32, firstIndex: Int, tokens: [EmittedToken]) {
        self.request = request
        self.choice = choice
        self.firstIndex = firstIndex
        self.tokens = tokens
    }
}

/// Whether a request sent now would be answered, and if not, why.
package struct ClusterHealth: Hashable, Sendable {
    package enum State: UInt8, Hashable, Sendable {
        /// No plan is in force: nobody can say when requests will be answered. A gateway's also while it has no coordinator.
        case waitingForWorkers = 1
        /// Workers load their stages for the first time since the coordinator's start.
        case loading = 2
        case serving = 3
        /// It has served, and workers load the stages of a new plan: requests wait for that and are answered.
        case recovering = 4
        case closing = 5
    }

    package var state: State
    /// One sentence for a person.
    package var detail: String

    package init(state: State, detail: String) {
        self.state = state
        self.detail = detail
    }

    package var isServing: Bool { state == .serving }
}

/// What `staffel status` prints.
package struct StatusReport: Hashable, Sendable {
    package var modelName: String
    package var health: ClusterHealth
    package var epoch: Epoch
    package var workers: [WorkerStatus]
    package var gateways: Int
    package var requestsWaiting: Int
    package var sequencesRunning: Int
    package var kvBlocksUsed: Int
    package var kvBlocksTotal: Int
    /// Of those not used: so many hold beginnings that serve later requests.
    package var kvBlocksCached: Int
    package var stepsInFlight: Int
    package var stepsDone: UInt64
    package var tokensGenerated: UInt64
    /// Positions of prompts that were to be computed, and those of them that were there already.
    package var prefillPositions: UInt64
    package var prefillPositionsShared: UInt64
    package var framesDropped: UInt64
    /// Those with a plan, in order of their indices.
    package var replicas: [ReplicaStatus]
    /// With most open first, at most `Limits.tenantsReportedMax`.
    package var tenants: [TenantStatus]
    /// How long a request would wait behind all that is open.
    package var expectedWaitMs: UInt64
    /// Sequences that had to give up their blocks, and those of them that gave way to a tenant that had nothing running.
    package var preemptions: UInt64
    package var displacements: UInt64
    /// Guesses from sequences' own text.
    package var draftsLookedUp = DraftCounts()
    /// Guesses of the draft model.
    package var draftsModelled = DraftCounts()

    package var pipeline = PipelineReport()
    /// Of those used: so many are held by several sequences.
    package var kvBlocksShared = 0
    // Since the coordinator's start.
    package var promptTokens: UInt64 = 0
    package var requestsFinished: UInt64 = 0
    package var requestsCancelled: UInt64 = 0
    package var requestsFailed: UInt64 = 0
    /// Epochs that ended while they served, the time in which nothing served since, and the last of these pauses.
    package var recoveries: UInt64 = 0
    package var recoveryNanoseconds: UInt64 = 0
    package var lastRecoveryNanoseconds: UInt64 = 0
    package var handovers = HandoverCounts()
    package var rebuilds = RebuildCounts()
    package var faults = FaultCounts()
    /// While a plan serves.
    package var planning: PlanningStatus?

    package init(
        modelName: String, health: ClusterHealth, epoch: Epoch, workers: [WorkerStatus], gateways: Int, requestsWaiting: Int,
        sequencesRunning: Int, kvBlocksUsed: Int, kvBlocksTotal: Int, kvBlocksCached: Int, stepsInFlight: Int, stepsDone: UInt64,
        tokensGenerated: UInt64, prefillPositions: UInt64, prefillPositionsShared: UInt64, framesDropped: UInt64,
        tenants: [TenantStatus] = [], expectedWaitMs: UInt64 = 0, preemptions: UInt64 = 0, displacements: UInt64 = 0,
        replicas: [ReplicaStatus] = []
    ) {
        self.modelName = modelName
        self.health = health
        self.epoch = epoch
        self.workers = workers
        self.gateways = gateways
        self.requestsWaiting = requestsWaiting
        self.sequencesRunning = sequencesRunning
        self.kvBlocksUsed = kvBlocksUsed
        self.kvBlocksTotal = kvBlocksTotal
        self.kvBlocksCached = kvBlocksCached
        self.stepsInFlight = stepsInFlight
        self.stepsDone = stepsDone
        self.tokensGenerated = tokensGenerated
        self.prefillPositions = prefillPositions
        self.prefillPositionsShared = prefillPositionsShared
        self.framesDropped = framesDropped
        self.replicas = replicas
        self.tenants = tenants
        self.expectedWaitMs = expectedWaitMs
        self.preemptions = preemptions
        self.displacements = displacements
    }
}

package struct WorkerStatus: Hashable, Sendable {
    package var key: PeerKey
    package var name: String
    package var capabilities: WorkerCapabilities
    /// Empty for a standby.
    package var layers: Range<Int>
    package var state: String
    /// Shares of the time since serving began, 0...1.
    package var computeShare: Double
    package var lastStep: StepNumber
    /// `nil` for a standby.
    package var replica: Int?
    /// How much of its slice is in memory while it loads, 0...1; `nil` otherwise, and before the worker said.
    package var loadedShare: Double?
    /// Of a standby: the layers that it has in memory ahead.
    package var held = 0..<0

    package init(
        key: PeerKey, name: String, capabilities: WorkerCapabilities, layers: Range<Int>, state: String, computeShare: Double,
        lastStep: StepNumber, replica: Int? = nil
    ) {
        self.key = key
        self.name = name
        self.capabilities = capabilities
        self.layers = layers
        self.state = state
        self.computeShare = computeShare
        self.lastStep = lastStep
        self.replica = replica
    }
}
