import CWire
import ClusterCore
import Testing

@testable import Wire

/// One wrong field at a time; the error names it.
@Suite struct ValidationTests {
    /// Fields that may be missing, because their absence means something.
    static let mayBeMissing: Set<String> = [
        "replica", "planning", "float_ops_per_second", "holding", "top_logprobs", "logprob", "loaded_share", "retry_after_seconds", "drafts",
        "machine", "read_bytes", "drafts_modelled", "weights_memory_bytes", "disk_bytes_per_second", "streamed_bytes", "stream_wait_nanoseconds",
        "stream_read_nanoseconds",
    ]
    /// Fields that came later than their messages.
    static let mayBeMissingOf: Set<String> = [
        "WorkerHello.weights_endpoint", "WeightsOffer.manifest_digest",
        "Heartbeat.expected_wait_ms", "StageTiming.idle_nanoseconds", "StageTiming.hand_over_nanoseconds", "StatusReport.pipeline", "StatusReport.kv_blocks_shared",
        "StatusReport.prompt_tokens", "StatusReport.requests_finished", "StatusReport.requests_cancelled", "StatusReport.requests_failed",
        "StatusReport.recoveries", "StatusReport.recovery_nanoseconds", "StatusReport.last_recovery_nanoseconds", "StatusReport.handovers", "StatusReport.drafts_modelled",
        "Heartbeat.last_received", "Heartbeat.held", "EpochNote.kept", "GenerationRequest.continues", "StageAssignment.keeping",
        "StageAssignment.input_blocks", "Step.rebuild_layers", "Step.rebuild_has_inputs", "WorkerStatus.held", "StatusReport.rebuilds",
        "Heartbeat.work", "StatusReport.faults", "Step.follow_ups", "StepResult.followed", "StageAssignment.upstream", "StageAssignment.downstream",
        "StageAssignment.foretells", "StageTiming.begun_nanoseconds",
    ]

    @Test func everyMissingFieldIsNamed() throws {
        var random = Seeded(7)
        var tried: Set<String> = []
        for kind in 0..<Seeded.toCoordinatorKinds {
            for _ in 0..<4 {
                let arena = PackArena()
                let message = arena.toCoordinator(random.toCoordinator(kind: kind))
                try Self.clearEach(UnsafeMutableRawPointer(message), isTop: true, &tried) {
                    try decodeToCoordinator(WireCodec.pack(message, .toCoordinator, arena))
                }
            }
        }
        for kind in 0..<Seeded.fromCoordinatorKinds {
            for _ in 0..<4 {
                let arena = PackArena()
                let message = arena.fromCoordinator(random.fromCoordinator(kind: kind))
                try Self.clearEach(UnsafeMutableRawPointer(message), isTop: true, &tried) {
                    try decodeFromCoordinator(WireCodec.pack(message, .fromCoordinator, arena))
                }
            }
        }
        #expect(tried.count > 120, "only \(tried.count) fields were tried")
    }

    /// Walks all messages below `message`, takes away one field, decodes, puts it back.
    private static func clearEach(_ message: UnsafeMutableRawPointer, isTop: Bool, _ tried: inout Set<String>, _ decode: () throws -> Any) throws {
        let descriptor = message.assumingMemoryBound(to: ProtobufCMessage.self).pointee.descriptor!.pointee
        for index in 0..<Int(descriptor.n_fields) {
            let field = descriptor.fields[index]
            let name = String(cString: field.name)
            let pathName = "\(String(cString: descriptor.short_name)).\(name)"
            let slot = message + Int(field.offset)
            if field.label == PROTOBUF_C_LABEL_REPEATED {
                guard field.type == PROTOBUF_C_TYPE_MESSAGE else { continue }
                let count = (message + Int(field.quantifier_offset)).load(as: Int.self)
                guard count > 0 else { continue }
                try clearEach(slot.load(as: UnsafePointer<UnsafeMutableRawPointer>.self)[0], isTop: false, &tried, decode)
            } else if isTop {
                guard (message + Int(field.quantifier_offset)).load(as: UInt32.self) == field.id else { continue }
                try clearEach(slot.load(as: UnsafeMutableRawPointer.self), isTop: false, &tried, decode)
            } else if field.type == PROTOBUF_C_TYPE_MESSAGE {
                guard let below = slot.load(as: UnsafeMutableRawPointer?.self) else { continue }
                try clearEach(below, isTop: false, &tried, decode)
                slot.storeBytes(of: nil, as: UnsafeMutableRawPointer?.self)
                expectMissing(name, pathName, &tried, decode)
                slot.storeBytes(of: below, as: UnsafeMutableRawPointer?.self)
            } else {
                let has = message + Int(field.quantifier_offset)
                guard has.load(as: protobuf_c_boolean.self) != 0 else { continue }
                has.storeBytes(of: 0, as: protobuf_c_boolean.self)
                expectMissing(name, pathName, &tried, decode)
                has.storeBytes(of: 1, as: protobuf_c_boolean.self)
            }
        }
    }

    private static func expectMissing(_ name: String, _ pathName: String, _ tried: inout Set<String>, _ decode: () throws -> Any) {
        if mayBeMissing.contains(name) || mayBeMissingOf.contains(pathName) { return }
        tried.insert(pathName)
        let error = #expect(throws: WireError.self, "\(pathName)") { try decode() }
        #expect(error?.code == .invalidField, "\(pathName)")
    }
}

extension ValidationTests {
    private func refuse(_ field: String, _ message: FromCoordinator, _ location: SourceLocation = #_sourceLocation) {
        let error = #expect(throws: WireError.self, sourceLocation: location) { try decodeFromCoordinator(WireCodec.encode(message)) }
        #expect(error?.field == field, sourceLocation: location)
        #expect(error?.code == .invalidField, sourceLocation: location)
    }

    private func refuse(_ field: String, _ message: ToCoordinator, _ location: SourceLocation = #_sourceLocation) {
        let error = #expect(throws: WireError.self, sourceLocation: location) { try decodeToCoordinator(WireCodec.encode(message)) }
        #expect(error?.field == field, sourceLocation: location)
        #expect(error?.code == .invalidField, sourceLocation: location)
    }

    private var random: Seeded { Seeded(11) }

    @Test func requests() {
        func refuseRequest(_ field: String, _ location: SourceLocation = #_sourceLocation, _ change: (inout GenerationRequest) -> Void) {
            var request = GenerationRequest(id: RequestID(high: 1, low: 2), prompt: [1, 2], sampling: SamplingParameters(), choices: 2)
            change(&request)
            refuse("GenerationRequest.\(field)", .submit(request), location)
        }
        refuseRequest("prompt") { $0.prompt = [] }
        refuseRequest("prompt") { $0.prompt = [1, -1] }
        refuseRequest("prompt") { $0.prompt = [TokenID(Limits.vocabularyMax)] }
        refuseRequest("prompt") { $0.prompt = [TokenID](repeating: 0, count: Limits.contextTokensMax + 1) }
        refuseRequest("choices") { $0.choices = 0 }
        refuseRequest("choices") { $0.choices = Limits.choicesMax + 1 }
        refuseRequest("top_logprobs") { $0.topLogprobs = Limits.topLogprobsMax + 1 }
        refuseRequest("weight") { $0.weight = 0 }
        refuseRequest("weight") { $0.weight = Limits.tenantWeightMax + 1 }
        refuseRequest("resumed") { $0.resumed = [[1]] }
        refuseRequest("resumed") { $0.resumed = [[1], [-5]] }
        refuseRequest("resumed") { $0.resumed = Array(repeating: [], count: Limits.choicesMax + 1) }
    }

    @Test func samplingParameters() {
        func refuseSampling(_ field: String, _ location: SourceLocation = #_sourceLocation, _ change: (inout SamplingParameters) -> Void) {
            var sampling = SamplingParameters()
            change(&sampling)
            refuse(
                "SamplingParameters.\(field)", .submit(GenerationRequest(id: RequestID(high: 0, low: 0), prompt: [1], sampling: sampling)), location)
        }
        for value in [-0.1, 101, .nan, .infinity] as [Float] { refuseSampling("temperature") { $0.temperature = value } }
        for value in [0, 1.01, -1, .nan] as [Float] { refuseSampling("top_p") { $0.topP = value } }
        for value in [-0.01, 1.01, .nan] as [Float] { refuseSampling("min_p") { $0.minP = value } }
        for value in [0, 10.1, .nan] as [Float] { refuseSampling("repetition_penalty") { $0.repetitionPenalty = value } }
        for value in [-2.1, 2.1, .nan] as [Float] {
            refuseSampling("presence_penalty") { $0.presencePenalty = value }
            refuseSampling("frequency_penalty") { $0.frequencyPenalty = value }
        }
        refuseSampling("max_tokens") { $0.maxTokens = 0 }
        refuseSampling("stop_tokens") { $0.stopTokens = [-1] }
        refuseSampling("stop_tokens") { $0.stopTokens = [TokenID](repeating: 1, count: Limits.stopTokensMax + 1) }
        refuseSampling("logit_bias_tokens") { $0.logitBias = [LogitBias(token: 2, bias: 0), LogitBias(token: 2, bias: 1)] }
        refuseSampling("logit_bias_tokens") { $0.logitBias = [LogitBias(token: 2, bias: 0), LogitBias(token: 1, bias: 1)] }
        refuseSampling("logit_bias_tokens") { $0.logitBias = (0...Limits.logitBiasMax).map { LogitBias(token: TokenID($0), bias: 0) } }
        for value in [100.5, -100.5, .nan] as [Float] { refuseSampling("logit_bias_values") { $0.logitBias = [LogitBias(token: 1, bias: value)] } }
    }

    @Test func steps() {
        func segment(_ sequence: UInt64, rows: Int = 1, start: Int = 0, blocks: [UInt32] = []) -> Segment {
            Segment(
                sequence: SequenceID(sequence), start: start, tokens: [TokenID](repeating: 1, count: rows), newBlocks: blocks.map { BlockID($0) },
                samples: true)
        }
        func refuseStep(_ field: String, _ location: SourceLocation = #_sourceLocation, _ change: (inout Step) -> Void) {
            var step = Step(epoch: Epoch(1), number: StepNumber(1), segments: [segment(1)])
            change(&step)
            refuse(field, .step(step), location)
        }
        refuseStep("Step.epoch") { $0.epoch = Epoch(Limits.epochMax + 1) }
        refuseStep("Step.number") { $0.number = StepNumber(0) }
        refuseStep("Step.segments") { $0.segments = [segment(1), segment(2), segment(1)] }
        refuseStep("Step.segments") { $0.segments = (0...Limits.stepSegmentsMax).map { segment(UInt64($0)) } }
        refuseStep("Step.segments") { $0.segments = [segment(1, rows: Limits.stepRowsMax), segment(2)] }
        refuseStep("Step.closes") { $0.closes = [SequenceID(3), SequenceID(3)] }
        refuseStep("Step.closes") { $0.closes = [SequenceID(.max)] }
        refuseStep("Step.closes") { $0.closes = (0...WireLimits.stepClosesMax).map { SequenceID(UInt64($0)) } }
        refuseStep("Step.copies_from") {
            $0.copies = (0...UInt32(Limits.stepSegmentsMax)).map { BlockCopy(from: BlockID($0), to: BlockID($0)) }
        }
        refuseStep("Segment.tokens") { $0.segments[0].tokens = [] }
        refuseStep("Segment.tokens") { $0.segments[0].tokens = [-2] }
        refuseStep("Segment.tokens") { $0.segments = [segment(1, rows: Limits.stepRowsMax + 1)] }
        refuseStep("Segment.drafts") { $0.segments[0].drafts = 1 }
        refuseStep("Segment.drafts") { ($0.segments[0].tokens, $0.segments[0].drafts) = ([1, 2], 2) }
        refuseStep("Segment.drafts") { ($0.segments[0].tokens, $0.segments[0].drafts, $0.segments[0].samples) = ([1, 2], 1, false) }
        refuseStep("Segment.start") { $0.segments[0].start = Limits.contextTokensMax }
        refuseStep("Segment.start") { $0.segments[0].start = Limits.contextTokensMax + 1 }
        refuseStep("Segment.sequence") { $0.segments[0].sequence = SequenceID(.max) }
        refuseStep("Segment.new_blocks") { $0.segments[0].newBlocks = [BlockID(4), BlockID(2), BlockID(4)] }
        refuseStep("Segment.new_blocks") { $0.segments[0].newBlocks = (0...UInt32(WireLimits.segmentBlocksMax)).map { BlockID($0) } }
    }

    @Test func opens() {
        func refuseOpen(_ field: String, _ location: SourceLocation = #_sourceLocation, _ change: (inout SequenceOpen) -> Void) {
            var open = SequenceOpen(
                sequence: SequenceID(1), choice: 0, tokens: [1, 2, 3], promptLength: 2, sampling: SamplingParameters(), endTokens: [],
                topLogprobs: nil)
            change(&open)
            refuse(field, .step(Step(epoch: Epoch(1), number: StepNumber(1), opens: [open], segments: [])), location)
        }
        refuseOpen("SequenceOpen.tokens") { $0.tokens = [] }
        refuseOpen("SequenceOpen.prompt_length") { $0.promptLength = 0 }
        refuseOpen("SequenceOpen.prompt_length") { $0.promptLength = 4 }
        refuseOpen("SequenceOpen.choice") { $0.choice = UInt32(Limits.choicesMax) }
        refuseOpen("SequenceOpen.end_tokens") { $0.endTokens = [2, 1] }
        refuseOpen("SequenceOpen.end_tokens") { $0.endTokens = (0...TokenID(WireLimits.endTokensMax)).map { $0 } }
        let open = SequenceOpen(
            sequence: SequenceID(1), choice: 0, tokens: [1], promptLength: 1, sampling: SamplingParameters(), endTokens: [], topLogprobs: nil)
        refuse("Step.opens", .step(Step(epoch: Epoch(1), number: StepNumber(1), opens: [open, open], segments: [])))
    }

    @Test func results() {
        func result(_ tokens: [SampledToken] = [], poisoned: [PoisonedSequence] = [], timings: [StageTiming] = []) -> ToCoordinator {
            .stepResult(StepResult(epoch: Epoch(1), number: StepNumber(1), tokens: tokens, poisoned: poisoned, timings: timings))
        }
        func sampled(_ emitted: EmittedToken, position: Int = 0) -> SampledToken {
            SampledToken(sequence: SequenceID(1), position: position, emitted: emitted)
        }
        let top = (0...Limits.topLogprobsMax).map { TokenLogprob(token: TokenID($0), logprob: -1) }
        refuse("EmittedToken.token", result([sampled(EmittedToken(token: -1))]))
        refuse("EmittedToken.logprob", result([sampled(EmittedToken(token: 1, logprob: .nan))]))
        refuse("EmittedToken.logprob", result([sampled(EmittedToken(token: 1, logprob: .infinity))]))
        refuse("EmittedToken.logprob", result([sampled(EmittedToken(token: 1, top: [top[0]]))]))
        refuse("EmittedToken.top_tokens", result([sampled(EmittedToken(token: 1, logprob: 0, top: top))]))
        refuse("EmittedToken.top_logprobs", result([sampled(EmittedToken(token: 1, logprob: 0, top: [TokenLogprob(token: 1, logprob: .nan)]))]))
        refuse("SampledToken.position", result([sampled(EmittedToken(token: 1), position: Limits.contextTokensMax + 1)]))
        refuse("StepResult.tokens", result([sampled(EmittedToken(token: 1)), sampled(EmittedToken(token: 2))]))
        refuse("StepResult.tokens", result([sampled(EmittedToken(token: 1), position: 5), sampled(EmittedToken(token: 2), position: 7)]))
        let poisoned = PoisonedSequence(sequence: SequenceID(1), layers: 0..<1)
        refuse("StepResult.poisoned", result(poisoned: [poisoned, poisoned]))
        refuse("PoisonedSequence.layers", result(poisoned: [PoisonedSequence(sequence: SequenceID(1), layers: 3..<3)]))
        // Times as they are: many tiny ones would cost more memory than such a frame is allowed.
        let timing = StageTiming(queueNanoseconds: 30_000, computeNanoseconds: 2_000_000)
        refuse("StepResult.timings", result(timings: [StageTiming](repeating: timing, count: Limits.stagesMax + 1)))
        refuse("StageTiming.queue_nanoseconds", result(timings: [StageTiming(queueNanoseconds: .max, computeNanoseconds: 1)]))
    }

    @Test func batches() {
        func batch(choice: UInt32 = 0, first: Int = 0, count: Int = 1) -> FromCoordinator {
            .tokens(
                TokenBatch(
                    request: RequestID(high: 0, low: 0), choice: choice, firstIndex: first,
                    tokens: [EmittedToken](repeating: EmittedToken(token: 1), count: count)))
        }
        refuse("TokenBatch.choice", batch(choice: UInt32(Limits.choicesMax)))
        refuse("TokenBatch.first_index", batch(first: Limits.contextTokensMax + 1))
        refuse("TokenBatch.tokens", batch(first: Limits.contextTokensMax))
        refuse("TokenBatch.tokens", batch(count: 0))
        refuse("TokenBatch.tokens", batch(count: Limits.tokensPerBatchMax + 1))
        refuse("Finished.choice", .finished(RequestID(high: 0, low: 0), choice: 200, tokenCount: 0, .stop))
        refuse("Finished.token_count", .finished(RequestID(high: 0, low: 0), choice: 0, tokenCount: Limits.contextTokensMax + 1, .stop))
    }

    @Test func hellosAndHeartbeats() {
        var random = self.random
        func refuseHello(_ field: String, _ location: SourceLocation = #_sourceLocation, _ change: (inout WorkerHello) -> Void) {
            var hello = WorkerHello(
                version: .current, session: 1, name: "a", capabilities: random.capabilities(), dataEndpoint: "tcp://a:1", holding: nil,
                lastEpoch: Epoch(1))
            change(&hello)
            refuse(field, .workerHello(hello), location)
        }
        refuseHello("WorkerHello.data_endpoint") { $0.dataEndpoint = "tcp://*:1" }
        refuseHello("WorkerHello.data_endpoint") { $0.dataEndpoint = "tcp://a:1\u{1B}" }
        refuseHello("WorkerHello.data_endpoint") { $0.dataEndpoint = "tcp://" + String(repeating: "a", count: Limits.endpointBytesMax) + ":1" }
        refuseHello("WorkerHello.last_epoch") { $0.lastEpoch = Epoch(.max) }
        refuseHello("WorkerCapabilities.threads") { $0.capabilities.threads = 0 }
        refuseHello("WorkerCapabilities.memory_bytes") { $0.capabilities.memoryBytes = .max }
        for value in [-1, .nan, .infinity] as [Double] {
            refuseHello("WorkerCapabilities.read_bytes_per_second") { $0.capabilities.readBytesPerSecond = value }
            refuseHello("WorkerCapabilities.ops_per_second") { $0.capabilities.opsPerSecond = value }
        }
        let digest = random.digest()
        refuseHello("HeldSlice.layers") { $0.holding = HeldSlice(epoch: Epoch(1), modelDigest: digest, layers: 2..<2) }
        refuseHello("HeldSlice.layers") { $0.holding = HeldSlice(epoch: Epoch(1), modelDigest: digest, layers: 0..<Limits.layersMax + 1) }
        refuse("Heartbeat.steps_queued", .heartbeat(Heartbeat(epoch: Epoch(1), lastStep: StepNumber(1), stepsQueued: Limits.stepsQueuedMax + 1)))
        refuse("Heartbeat.last_step", .heartbeat(Heartbeat(epoch: Epoch(1), lastStep: StepNumber(.max), stepsQueued: 0)))
        refuse("LoadProgress.bytes_done", .loadProgress(LoadProgress(epoch: Epoch(1), bytesDone: 2, bytesTotal: 1)))
        refuse("EpochNote.epoch", .loaded(Epoch(.max)))
    }

    @Test func assignmentsAndReports() {
        var random = self.random
        var assignment = StageAssignment(
            epoch: Epoch(1), stage: 1, stageCount: 3, layers: 0..<2, kvBlocks: 1, kvType: .f16, boundary: .f32, modelDigest: random.digest(),
            modelPath: "/m",
            upstream: random.key(), downstream: StagePeer(key: random.key(), endpoint: "tcp://a:1"))
        func refuseAssignment(_ field: String, _ location: SourceLocation = #_sourceLocation, _ change: (inout StageAssignment) -> Void) {
            var changed = assignment
            change(&changed)
            refuse(field, .assign(changed), location)
        }
        refuseAssignment("StageAssignment.stage") { $0.stage = 3 }
        refuseAssignment("StageAssignment.stage_count") { $0.stageCount = 0 }
        refuseAssignment("StageAssignment.stage_count") { $0.stageCount = Limits.stagesMax + 1 }
        refuseAssignment("StageAssignment.upstream") { $0.upstream = nil }
        refuseAssignment("StageAssignment.upstream") { ($0.stage, $0.stageCount) = (0, 1) }
        refuseAssignment("StageAssignment.downstream") { $0.downstream = nil }
        refuseAssignment("StageAssignment.downstream") { ($0.stage, $0.stageCount, $0.upstream) = (0, 1, nil) }
        refuseAssignment("StageAssignment.layers") { $0.layers = 1..<1 }
        refuseAssignment("StageAssignment.kv_blocks") { $0.kvBlocks = WireLimits.kvBlocksMax + 1 }
        refuseAssignment("StageAssignment.model_path") { $0.modelPath = "/a\0b" }
        refuseAssignment("StageAssignment.model_path") { $0.modelPath = String(repeating: "a", count: Limits.pathBytesMax + 1) }
        refuseAssignment("StagePeer.endpoint") { $0.downstream?.endpoint = "tcp://a" }
        assignment.stage = 2

        var report = random.status()
        let worker = WorkerStatus(
            key: random.key(), name: "w", capabilities: random.capabilities(), layers: 0..<0, state: "up", computeShare: 0.5, lastStep: StepNumber(1))
        report.workers = [worker, worker]
        refuse("StatusReport.workers", .status(report))
        for share in [-0.1, 1.1, .nan] {
            report.workers = [worker]
            report.workers[0].computeShare = share
            refuse("WorkerStatus.compute_share", .status(report))
        }
        let stage = PlanningStatus.Stage(worker: random.key(), correction: 1, predictedSeconds: 1, measuredSeconds: 1)
        let planning = PlanningStatus(
            stages: [stage], rows: 1, predictedTokensPerSecond: 1, measuredTokensPerSecond: 1, bottleneck: "", betterCut: "")
        report.workers = []
        report.planning = planning
        report.planning!.stages = [stage, stage]
        refuse("PlanningStatus.stages", .status(report))
        for rate in [-1, Double.nan, .infinity] {
            report.planning = planning
            report.planning!.measuredTokensPerSecond = rate
            refuse("PlanningStatus.measured_tokens_per_second", .status(report))
            report.planning = planning
            report.planning!.stages[0].correction = rate
            refuse("PlannedStage.correction", .status(report))
        }
        report.planning = planning
        (report.kvBlocksTotal, report.kvBlocksUsed) = (1, 2)
        refuse("StatusReport.kv_blocks_used", .status(report))
        (report.kvBlocksUsed, report.kvBlocksCached) = (1, 2)
        refuse("StatusReport.kv_blocks_cached", .status(report))
        (report.kvBlocksCached, report.kvBlocksShared) = (1, 2)
        refuse("StatusReport.kv_blocks_shared", .status(report))
        report.kvBlocksShared = 1
        report.pipeline.stepsByRows = [UInt64](repeating: 1, count: WireLimits.histogramClassesMax + 1)
        refuse("PipelineReport.steps_by_rows", .status(report))
        report.pipeline.stepsByRows = [1 << 63]
        refuse("PipelineReport.steps_by_rows", .status(report))
        report.pipeline = PipelineReport()
        report.pipeline.stages = [StageReport(worker: random.key(), layers: 1..<1)]
        refuse("StageReport.layers", .status(report))
        report.pipeline.stages[0].layers = 0..<1
        report.pipeline.stages[0].total.sentBytes = 1 << 63
        refuse("StageSums.sent_bytes", .status(report))
        report.pipeline = PipelineReport()
        report.workers = [worker]
        report.workers[0].loadedShare = 1.5
        refuse("WorkerStatus.loaded_share", .status(report))
        report = random.status()
        report.replicas = [
            ReplicaStatus(
                index: Limits.replicasMax, epoch: Epoch(1), isServing: true, sequencesRunning: 0, sequencesWaiting: 0, prefillRowsPending: 0,
                kvBlocksUsed: 0, kvBlocksTotal: 0, stepsInFlight: 0),
        ]
        refuse("ReplicaStatus.index", .status(report))
        (report.replicas[0].index, report.replicas[0].kvBlocksUsed) = (0, 1)
        refuse("ReplicaStatus.kv_blocks_used", .status(report))
    }

    /// What no value of ours can hold: broken texts, keys of another length, enums of tomorrow.
    @Test func rawFields() {
        func refuseRaw(_ field: String, _ location: SourceLocation = #_sourceLocation, _ change: (PackArena, inout Staffel__V1__EnrolRequest) -> Void)
        {
            var random = self.random
            let arena = PackArena()
            let message = arena.toCoordinator(.enrol(EnrolRequest(version: .current, role: .worker, key: random.key(), name: "a")))
            change(arena, &message.pointee.enrol.pointee)
            let error = #expect(throws: WireError.self, sourceLocation: location) {
                try decodeToCoordinator(WireCodec.pack(message, .toCoordinator, arena))
            }
            #expect(error?.field == field, sourceLocation: location)
        }
        refuseRaw("EnrolRequest.name") { $1.name = $0.data([0xFF, 0xFE]) }
        refuseRaw("EnrolRequest.name") { $1.name = $0.data([0xC0, 0x80]) }
        refuseRaw("EnrolRequest.name") { $1.name = $0.data([0x61, 0x00]) }
        refuseRaw("EnrolRequest.name") { $1.name = $0.data([0x1B]) }
        refuseRaw("EnrolRequest.name") { $1.name = $0.data([UInt8](repeating: 0x61, count: Limits.nameBytesMax + 1)) }
        refuseRaw("EnrolRequest.key") { $1.key = $0.data([UInt8](repeating: 1, count: 31)) }
        refuseRaw("EnrolRequest.key") { $1.key = $0.data([]) }
        refuseRaw("EnrolRequest.role") { $1.role = Staffel__V1__PeerRole(rawValue: 0) }
        refuseRaw("EnrolRequest.role") { $1.role = Staffel__V1__PeerRole(rawValue: 4) }
        refuseRaw("EnrolRequest.role") { $1.role = Staffel__V1__PeerRole(rawValue: 257) }
    }
}
