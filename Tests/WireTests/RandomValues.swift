import ClusterCore

@testable import Wire

/// SplitMix64: the same values on every machine for a seed.
struct Seeded: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }
}

/// Random messages that keep every rule; small mostly, at a limit now and then.
extension Seeded {
    static let toCoordinatorKinds = 18
    static let fromCoordinatorKinds = 19

    mutating func toCoordinator(kind: Int) -> ToCoordinator {
        switch kind {
        case 0: .enrol(EnrolRequest(version: version(), role: [.worker, .gateway, .console].randomElement(using: &self)!, key: key(), name: name()))
        case 1:
            .workerHello(
                WorkerHello(
                    version: version(), session: next(), name: name(), capabilities: capabilities(), dataEndpoint: endpoint(),
                    holding: maybe { HeldSlice(epoch: $0.epoch(), modelDigest: $0.digest(), layers: $0.layers()) }, lastEpoch: epoch(),
                    weightsEndpoint: maybe { $0.endpoint() }))
        case 2: .gatewayHello(GatewayHello(version: version(), session: next(), name: name()))
        case 3: .heartbeat(heartbeat())
        case 4:
            {
                let total = UInt64.random(in: 0...WireLimits.bytesMax, using: &self)
                return .loadProgress(LoadProgress(epoch: epoch(), bytesDone: UInt64.random(in: 0...total, using: &self), bytesTotal: total))
            }()
        case 5: .loaded(epoch(), kept: bool() ? 0..<0 : layers())
        case 6: .loadFailed(epoch(), failure())
        case 7: .stepResult(stepResult())
        case 8: .stepFailed(epoch(), stepNumber(), failure())
        case 9: .leaving
        case 10: .submit(generationRequest())
        case 11: .cancel(requestID())
        case 12: .cancelChoice(requestID(), UInt32(int(0...Limits.choicesMax - 1)))
        case 13: .handoverReport(handoverReport())
        case 14: .drain(DrainRequest(worker: name(), isUndone: bool()))
        case 15: .wishToLeave
        case 16: .weightsQuery(digest())
        default: .statusQuery
        }
    }

    mutating func fromCoordinator(kind: Int) -> FromCoordinator {
        switch kind {
        case 0: .enrolled
        case 1: .refused(failure())
        case 2: .workerWelcome(WorkerWelcome(version: version()))
        case 3:
            .gatewayWelcome(
                GatewayWelcome(
                    version: version(), coordinatorSession: next(), modelName: name(), modelDigest: digest(),
                    contextTokens: int(1...Limits.contextTokensMax), parameterCount: UInt64.random(in: 0...WireLimits.bytesMax, using: &self),
                    modelBytes: UInt64.random(in: 0...WireLimits.bytesMax, using: &self), health: health()))
        case 4: .heartbeatReply(heartbeat())
        case 5: .assign(assignment())
        case 6: .release(epoch())
        case 7: .step(step())
        case 8: .health(health())
        case 9:
            .tokens(
                TokenBatch(
                    request: requestID(), choice: UInt32(int(0...Limits.choicesMax - 1)), firstIndex: int(0...1000),
                    tokens: many(1...20) { $0.emitted() }))
        case 10: .finished(requestID(), choice: UInt32(int(0...Limits.choicesMax - 1)), tokenCount: int(0...1000), bool() ? .stop : .length)
        case 11: .failed(requestID(), failure())
        case 12: .status(status())
        case 13: .handover(handoverOrder())
        case 14: .drainStatus(DrainStatus([.unknown, .moving, .drained, .refused, .serving].randomElement(using: &self)!, sentence()))
        case 15: .weightsOffer(weightsOffer())
        case 16: .weightsFetchers(many(0...4) { $0.key() }.sorted())
        case 17: .loadAhead(assignment())
        default: .closing
        }
    }

    mutating func stepFrame() -> StepFrame {
        StepFrame(
            step: step(), timings: many(0...4) { $0.timing() },
            poisoned: distinct(0...3).map { PoisonedSequence(sequence: SequenceID($0), layers: layers()) })
    }

    mutating func step(segments: ClosedRange<Int> = 0...12, rows: ClosedRange<Int> = 1...30) -> Step {
        let sequences = distinct(segments)
        let opened = sequences.filter { _ in bool() }
        let lost = layers()
        var step = Step(
            epoch: epoch(), number: stepNumber(), opens: opened.map { open(SequenceID($0)) }, closes: distinct(0...5).map { SequenceID($0) },
            copies: many(0...5) {
                BlockCopy(from: BlockID(UInt32(truncatingIfNeeded: $0.next())), to: BlockID(UInt32(truncatingIfNeeded: $0.next())))
            },
            segments: sequences.map { segment(SequenceID($0), rows) },
            rebuild: maybe { Rebuild(layers: lost, hasInputs: lost.lowerBound > 0 && $0.bool()) })
        step.followUps = bool() ? 0 : int(0...Limits.followUpsMax)
        return step
    }

    mutating func followUp() -> Step {
        var step = Step(
            epoch: epoch(), number: stepNumber(),
            segments: distinct(1...9).map {
                Segment(sequence: SequenceID($0), start: int(0...Limits.contextTokensMax - 1), tokens: [token()], newBlocks: [], samples: true)
            })
        step.followUps = int(0...Limits.followUpsMax)
        return step
    }

    mutating func generationRequest(promptTokens: ClosedRange<Int> = 1...200) -> GenerationRequest {
        let choices = int(1...4)
        return GenerationRequest(
            id: requestID(), prompt: many(promptTokens) { $0.token() }, sampling: sampling(), choices: choices,
            topLogprobs: maybe { $0.int(0...Limits.topLogprobsMax) }, priority: Int32.random(in: .min ... .max, using: &self),
            tenant: Tenant(next()), weight: int(1...Limits.tenantWeightMax),
            resumed: bool() ? [] : (0..<choices).map { _ in many(0...20) { $0.token() } }, continues: maybe { $0.requestID() })
    }

    mutating func sampling() -> SamplingParameters {
        var value = SamplingParameters()
        value.temperature = Float.random(in: 0...100, using: &self)
        value.topK = Int32.random(in: 0 ... .max, using: &self)
        value.topP = Float.random(in: 0.001...1, using: &self)
        value.minP = Float.random(in: 0...1, using: &self)
        value.repetitionPenalty = Float.random(in: 0.001...10, using: &self)
        value.presencePenalty = Float.random(in: -2...2, using: &self)
        value.frequencyPenalty = Float.random(in: -2...2, using: &self)
        value.logitBias = tokensAscending(0...5).map { LogitBias(token: $0, bias: Float.random(in: -100...100, using: &self)) }
        value.seed = next()
        value.minTokens = Int32.random(in: 0 ... .max, using: &self)
        value.maxTokens = Int32.random(in: 1 ... .max, using: &self)
        value.ignoreEndTokens = bool()
        value.stopTokens = many(0...4) { $0.token() }
        return value
    }
}

extension Seeded {
    mutating func int(_ range: ClosedRange<Int>) -> Int {
        switch next() % 16 {
        case 0: range.lowerBound
        case 1: range.upperBound
        default: Int.random(in: range, using: &self)
        }
    }

    mutating func bool() -> Bool { next() & 1 == 1 }
    mutating func maybe<Value>(_ make: (inout Seeded) -> Value) -> Value? { bool() ? make(&self) : nil }

    mutating func many<Value>(_ count: ClosedRange<Int>, _ make: (inout Seeded) -> Value) -> [Value] {
        (0..<int(count)).map { _ in make(&self) }
    }

    mutating func distinct(_ count: ClosedRange<Int>) -> [UInt64] {
        var values: Set<UInt64> = []
        let wanted = int(count)
        while values.count < wanted { values.insert(next() >> 2) }
        return values.sorted().shuffled(using: &self)
    }

    mutating func tokensAscending(_ count: ClosedRange<Int>) -> [TokenID] { Set(many(count) { $0.token() }).sorted() }
    mutating func token() -> TokenID { TokenID(int(0...Limits.vocabularyMax - 1)) }
    mutating func version() -> ProtocolVersion {
        ProtocolVersion(major: UInt32(truncatingIfNeeded: next()), minor: UInt32(truncatingIfNeeded: next()))
    }
    mutating func epoch() -> Epoch { Epoch(UInt64.random(in: 0...Limits.epochMax, using: &self)) }
    mutating func stepNumber() -> StepNumber { StepNumber(UInt64.random(in: 1...WireLimits.counterMax, using: &self)) }
    mutating func requestID() -> RequestID { RequestID(high: next(), low: next()) }
    mutating func key() -> PeerKey { PeerKey(bytes: (0..<32).map { _ in UInt8.random(in: 0...255, using: &self) })! }
    mutating func digest() -> ModelDigest { ModelDigest(bytes: (0..<32).map { _ in UInt8.random(in: 0...255, using: &self) })! }

    mutating func layers() -> Range<Int> {
        let first = int(0...Limits.layersMax - 1)
        return first..<int(first + 1...Limits.layersMax)
    }

    mutating func name() -> String {
        (0..<int(0...12)).map { _ in ["a", "Z", "-", " ", "ü", "語", "🙂", "\u{301}"].randomElement(using: &self)! }.joined()
    }
    mutating func sentence() -> String { name() + (bool() ? "\n\t" : "") + name() }
    mutating func endpoint() -> String {
        ["tcp://10.1.2.3:", "tcp://a-b.example:", "tcp://[fe80::1%eth0]:"].randomElement(using: &self)! + "\(int(1...65_535))"
    }
    mutating func failure() -> Failure {
        Failure(
            FailureCode.allCases.randomElement(using: &self)!, sentence(), retryAfterSeconds: maybe { $0.int(1...Limits.retryAfterSecondsMax) })
    }
    mutating func timing() -> StageTiming {
        var timing = StageTiming(
            queueNanoseconds: next() >> 14, computeNanoseconds: next() >> 14, idleNanoseconds: bool() ? 0 : next() >> 14,
            handOverNanoseconds: bool() ? 0 : next() >> 14, readBytes: bool() ? 0 : next() >> 14)
        if bool() { (timing.streamedBytes, timing.streamWaitNanoseconds) = (next() >> 14, next() >> 14) }
        if bool() { timing.streamReadNanoseconds = next() >> 14 }
        if bool() { timing.begunNanoseconds = next() >> 14 }
        return timing
    }
    mutating func heartbeat() -> Heartbeat {
        var heartbeat = Heartbeat(
            epoch: epoch(), lastStep: stepNumber(), stepsQueued: int(0...Limits.stepsQueuedMax), lastReceived: maybe { $0.stepNumber() },
            expectedWaitMs: UInt64(int(0...Int(Limits.expectedWaitMsMax))))
        if bool() { heartbeat.held = layers() }
        if bool() { heartbeat.work = next() }
        return heartbeat
    }

    mutating func health() -> ClusterHealth {
        ClusterHealth(state: [.waitingForWorkers, .loading, .serving, .recovering, .closing].randomElement(using: &self)!, detail: sentence())
    }

    mutating func capabilities() -> WorkerCapabilities {
        var capabilities = WorkerCapabilities(
            memoryBytes: next() >> 14, threads: int(1...WireLimits.threadsMax), isa: name(),
            readBytesPerSecond: Double.random(in: 0...1e12, using: &self),
            opsPerSecond: Double.random(in: 0...1e15, using: &self),
            floatOpsPerSecond: bool() ? 0 : Double.random(in: 1...1e15, using: &self), machine: bool() ? 0 : next())
        if bool() { (capabilities.weightsMemoryBytes, capabilities.diskBytesPerSecond) = (next() >> 14, Double.random(in: 1...1e12, using: &self)) }
        return capabilities
    }

    mutating func emitted() -> EmittedToken {
        guard bool() else { return EmittedToken(token: token()) }
        return EmittedToken(
            token: token(), logprob: bool() ? -Float.infinity : Float.random(in: -100...0, using: &self),
            top: many(0...Limits.topLogprobsMax) { TokenLogprob(token: $0.token(), logprob: Float.random(in: -100...0, using: &$0)) })
    }

    mutating func open(_ sequence: SequenceID) -> SequenceOpen {
        let tokens = many(1...100) { $0.token() }
        return SequenceOpen(
            sequence: sequence, choice: UInt32(int(0...Limits.choicesMax - 1)), tokens: tokens, promptLength: int(1...tokens.count),
            cached: int(0...tokens.count - 1), sampling: sampling(),
            endTokens: tokensAscending(0...6), topLogprobs: maybe { $0.int(0...Limits.topLogprobsMax) })
    }

    mutating func segment(_ sequence: SequenceID, _ rows: ClosedRange<Int>) -> Segment {
        let tokens = many(rows) { $0.token() }
        let samples = bool()
        return Segment(
            sequence: sequence, start: int(0...Limits.contextTokensMax - tokens.count), tokens: tokens,
            newBlocks: distinct(0...3).map { BlockID(UInt32(truncatingIfNeeded: $0)) }, samples: samples,
            drafts: samples ? int(0...tokens.count - 1) : 0)
    }

    mutating func sampled(_ sequence: SequenceID, _ count: Int) -> [SampledToken] {
        let first = int(0...Limits.contextTokensMax - count)
        return (0..<count).map { SampledToken(sequence: sequence, position: first + $0, emitted: emitted()) }
    }

    mutating func stepResult() -> StepResult {
        var result = StepResult(
            epoch: epoch(), number: stepNumber(),
            tokens: distinct(0...20).flatMap { sampled(SequenceID($0), int(1...4)) },
            poisoned: distinct(0...3).map { PoisonedSequence(sequence: SequenceID($0), layers: layers()) }, timings: many(0...5) { $0.timing() })
        result.isFollowed = bool()
        return result
    }

    mutating func assignment() -> StageAssignment {
        let count = int(1...Limits.stagesMax)
        let stage = int(0...count - 1)
        var assignment = StageAssignment(
            epoch: epoch(), stage: stage, stageCount: count, layers: layers(), kvBlocks: int(0...WireLimits.kvBlocksMax),
            kvType: KVType.allCases[int(0...KVType.allCases.count - 1)],
            boundary: bool() ? .f32 : .bf16, modelDigest: digest(), modelPath: "/models/" + sentence() + "\u{1}", upstream: stage == 0 ? nil : key(),
            downstream: stage == count - 1 ? nil : StagePeer(key: key(), endpoint: endpoint()))
        if count > 1, bool() {
            assignment.upstream = assignment.upstream ?? key()
            assignment.downstream = assignment.downstream ?? StagePeer(key: key(), endpoint: endpoint())
        }
        assignment.keeping = maybe { $0.epoch() }
        assignment.foretells = bool()
        assignment.inputBlocks = bool() ? 0 : int(0...WireLimits.kvBlocksMax)
        return assignment
    }

    mutating func status() -> StatusReport {
        let blocks = int(0...WireLimits.kvBlocksMax)
        var report = StatusReport(
            modelName: name(), health: health(), epoch: epoch(),
            workers: many(0...5) {
                WorkerStatus(
                    key: $0.key(), name: $0.name(), capabilities: $0.capabilities(), layers: $0.bool() ? 0..<0 : $0.layers(), state: $0.name(),
                    computeShare: Double.random(in: 0...1, using: &$0), lastStep: $0.stepNumber(),
                    replica: $0.bool() ? nil : $0.int(0...Limits.replicasMax - 1))
            }, gateways: int(0...Limits.gatewaysMax), requestsWaiting: int(0...1000), sequencesRunning: int(0...1000), kvBlocksUsed: int(0...blocks),
            kvBlocksTotal: blocks, kvBlocksCached: int(0...blocks), stepsInFlight: int(0...1000), stepsDone: next() >> 2,
            tokensGenerated: next() >> 2, prefillPositions: next() >> 2, prefillPositionsShared: next() >> 2, framesDropped: next() >> 2,
            tenants: distinct(0...5).map {
                TenantStatus(tenant: Tenant($0), weight: int(1...Limits.tenantWeightMax), waiting: int(0...1000), running: int(0...1000))
            }, expectedWaitMs: UInt64(int(0...Int(Limits.expectedWaitMsMax))), preemptions: next() >> 2, displacements: next() >> 2,
            replicas: many(0...3) {
                let blocks = $0.int(0...WireLimits.kvBlocksMax)
                return ReplicaStatus(
                    index: $0.int(0...Limits.replicasMax - 1), epoch: $0.epoch(), isServing: $0.bool(), sequencesRunning: $0.int(0...1000),
                    sequencesWaiting: $0.int(0...1000), prefillRowsPending: $0.int(0...1000), kvBlocksUsed: $0.int(0...blocks),
                    kvBlocksTotal: blocks, stepsInFlight: $0.int(0...1000))
            })
        report.draftsLookedUp = DraftCounts(proposed: next() >> 2, accepted: next() >> 2)
        report.draftsModelled = DraftCounts(proposed: next() >> 2, accepted: next() >> 2)
        for index in report.workers.indices { report.workers[index].loadedShare = maybe { Double.random(in: 0...1, using: &$0) } }
        for index in report.workers.indices where bool() { report.workers[index].held = layers() }
        report.rebuilds.recoveries = count()
        (report.faults.connectionsEnded, report.faults.workersSilent, report.faults.stagesStuck) = (count(), count(), count())
        (report.faults.stagesSlow, report.faults.stageLinksLost, report.faults.stepsNotDelivered) = (count(), count(), count())
        report.faults.resultsLost = count()
        (report.rebuilds.layerPositionsKept, report.rebuilds.layerPositionsAll) = (count(), count())
        (report.rebuilds.layerPositionsRebuilt, report.rebuilds.positionsFromInputs) = (count(), count())
        report.pipeline = pipeline()
        report.planning = bool() ? nil : planning()
        report.kvBlocksShared = int(0...blocks)
        (report.promptTokens, report.requestsFinished, report.requestsCancelled, report.requestsFailed) = (count(), count(), count(), count())
        (report.recoveries, report.recoveryNanoseconds, report.lastRecoveryNanoseconds) = (count(), count(), count())
        (report.handovers.done, report.handovers.rolledBack, report.handovers.bytesMoved) = (count(), count(), count())
        report.handovers.positionsRecomputed = count()
        (report.handovers.lastPauseNanoseconds, report.handovers.longestPauseNanoseconds) = (count(), count())
        return report
    }

    /// Zero now and then, which the wire leaves out.
    private mutating func count() -> UInt64 { bool() ? 0 : next() >> 2 }

    private mutating func pipeline() -> PipelineReport {
        var report = PipelineReport()
        (report.windowNanoseconds, report.steps, report.rows, report.prefillRows, report.tokens) = (count(), count(), count(), count(), count())
        (report.roundTripNanoseconds, report.wireNanoseconds) = (count(), count())
        (report.overheadMedianNanoseconds, report.overhead95Nanoseconds) = (count(), count())
        (report.overheadNanosecondsTotal, report.wireNanosecondsTotal, report.rowsTotal) = (count(), count(), count())
        report.stages = many(0...4) { StageReport(worker: $0.key(), layers: $0.layers(), window: $0.sums(), total: $0.sums()) }
        report.stepsByRows = many(0...12) { $0.count() }
        report.stepsByOverhead = many(0...WireLimits.histogramClassesMax) { $0.count() }
        return report
    }

    private mutating func sums() -> StageSums {
        var sums = StageSums()
        (sums.steps, sums.computeNanoseconds, sums.idleNanoseconds) = (count(), count(), count())
        (sums.queueNanoseconds, sums.handOverNanoseconds, sums.sentBytes, sums.readBytes) = (count(), count(), count(), count())
        (sums.streamedBytes, sums.streamWaitNanoseconds) = (count(), count())
        return sums
    }

    mutating func planning() -> PlanningStatus {
        func seconds(_ random: inout Seeded) -> Double { Double.random(in: 0...100, using: &random) }
        return PlanningStatus(
            stages: many(0...5) {
                PlanningStatus.Stage(
                    worker: $0.key(), correction: seconds(&$0), predictedSeconds: seconds(&$0), measuredSeconds: seconds(&$0))
            }, rows: seconds(&self), predictedTokensPerSecond: seconds(&self), measuredTokensPerSecond: seconds(&self), bottleneck: sentence(),
            betterCut: sentence())
    }
}
