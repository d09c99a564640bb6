import CWire
import ClusterCore

// Hellos, plans, health and what goes between gateway and coordinator, out of protobuf-c's structs.

/// Structs of protobuf-c in, values out; throws at the first field that is wrong.
enum Unpack {
    static func toCoordinator(_ p: UnsafePointer<Staffel__V1__ToCoordinator>) throws(WireError) -> ToCoordinator {
        let f = Fields("ToCoordinator")
        let m = p.pointee
        switch m.kind_case {
        case STAFFEL__V1__TO_COORDINATOR__KIND_ENROL: return .enrol(try enrolRequest(f.submessage(m.enrol, "enrol")))
        case STAFFEL__V1__TO_COORDINATOR__KIND_WORKER_HELLO: return .workerHello(try workerHello(f.submessage(m.worker_hello, "worker_hello")))
        case STAFFEL__V1__TO_COORDINATOR__KIND_GATEWAY_HELLO: return .gatewayHello(try gatewayHello(f.submessage(m.gateway_hello, "gateway_hello")))
        case STAFFEL__V1__TO_COORDINATOR__KIND_HEARTBEAT: return .heartbeat(try heartbeat(f.submessage(m.heartbeat, "heartbeat")))
        case STAFFEL__V1__TO_COORDINATOR__KIND_LOAD_PROGRESS: return .loadProgress(try loadProgress(f.submessage(m.load_progress, "load_progress")))
        case STAFFEL__V1__TO_COORDINATOR__KIND_LOADED: return try loaded(f.submessage(m.loaded, "loaded"))
        case STAFFEL__V1__TO_COORDINATOR__KIND_LOAD_FAILED: return try loadFailed(f.submessage(m.load_failed, "load_failed"))
        case STAFFEL__V1__TO_COORDINATOR__KIND_STEP_RESULT: return .stepResult(try stepResult(f.submessage(m.step_result, "step_result")))
        case STAFFEL__V1__TO_COORDINATOR__KIND_STEP_FAILED: return try stepFailed(f.submessage(m.step_failed, "step_failed"))
        case STAFFEL__V1__TO_COORDINATOR__KIND_LEAVING: return .leaving
        case STAFFEL__V1__TO_COORDINATOR__KIND_SUBMIT: return .submit(try generationRequest(f.submessage(m.submit, "submit")))
        case STAFFEL__V1__TO_COORDINATOR__KIND_CANCEL: return .cancel(try requestID(m.cancel, f, "cancel"))
        case STAFFEL__V1__TO_COORDINATOR__KIND_CANCEL_CHOICE: return try cancelChoice(f.submessage(m.cancel_choice, "cancel_choice"))
        case STAFFEL__V1__TO_COORDINATOR__KIND_STATUS_QUERY: return .statusQuery
        case STAFFEL__V1__TO_COORDINATOR__KIND_HANDOVER_REPORT:
            return .handoverReport(try handoverReport(f.submessage(m.handover_report, "handover_report")))
        case STAFFEL__V1__TO_COORDINATOR__KIND_DRAIN: return .drain(try drainRequest(f.submessage(m.drain, "drain")))
        case STAFFEL__V1__TO_COORDINATOR__KIND_WISH_TO_LEAVE: return .wishToLeave
        case STAFFEL__V1__TO_COORDINATOR__KIND_WEIGHTS_QUERY: return .weightsQuery(try weightsQuery(f.submessage(m.weights_query, "weights_query")))
        default: throw unknown("the coordinator")
        }
    }

    static func fromCoordinator(_ p: UnsafePointer<Staffel__V1__FromCoordinator>) throws(WireError) -> FromCoordinator {
        let f = Fields("FromCoordinator")
        let m = p.pointee
        switch m.kind_case {
        case STAFFEL__V1__FROM_COORDINATOR__KIND_ENROLLED: return .enrolled
        case STAFFEL__V1__FROM_COORDINATOR__KIND_REFUSED: return .refused(try failure(m.refused, f, "refused"))
        case STAFFEL__V1__FROM_COORDINATOR__KIND_WORKER_WELCOME:
            return .workerWelcome(
                WorkerWelcome(version: try version(f.submessage(m.worker_welcome, "worker_welcome").pointee.version, Fields("WorkerWelcome"))))
        case STAFFEL__V1__FROM_COORDINATOR__KIND_GATEWAY_WELCOME:
            return .gatewayWelcome(try gatewayWelcome(f.submessage(m.gateway_welcome, "gateway_welcome")))
        case STAFFEL__V1__FROM_COORDINATOR__KIND_HEARTBEAT_REPLY:
            return .heartbeatReply(try heartbeat(f.submessage(m.heartbeat_reply, "heartbeat_reply")))
        case STAFFEL__V1__FROM_COORDINATOR__KIND_ASSIGN: return .assign(try stageAssignment(f.submessage(m.assign, "assign")))
        case STAFFEL__V1__FROM_COORDINATOR__KIND_RELEASE: return .release(try epochNote(f.submessage(m.release, "release")))
        case STAFFEL__V1__FROM_COORDINATOR__KIND_STEP: return .step(try step(f.submessage(m.step, "step")))
        case STAFFEL__V1__FROM_COORDINATOR__KIND_HEALTH: return .health(try clusterHealth(f.submessage(m.health, "health")))
        case STAFFEL__V1__FROM_COORDINATOR__KIND_TOKENS: return .tokens(try tokenBatch(f.submessage(m.tokens, "tokens")))
        case STAFFEL__V1__FROM_COORDINATOR__KIND_FINISHED: return try finished(f.submessage(m.finished, "finished"))
        case STAFFEL__V1__FROM_COORDINATOR__KIND_FAILED: return try failed(f.submessage(m.failed, "failed"))
        case STAFFEL__V1__FROM_COORDINATOR__KIND_STATUS: return .status(try statusReport(f.submessage(m.status, "status")))
        case STAFFEL__V1__FROM_COORDINATOR__KIND_CLOSING: return .closing
        case STAFFEL__V1__FROM_COORDINATOR__KIND_HANDOVER: return .handover(try handoverOrder(f.submessage(m.handover, "handover")))
        case STAFFEL__V1__FROM_COORDINATOR__KIND_DRAIN_STATUS:
            return .drainStatus(try drainStatus(f.submessage(m.drain_status, "drain_status")))
        case STAFFEL__V1__FROM_COORDINATOR__KIND_WEIGHTS_OFFER: return .weightsOffer(try weightsOffer(f.submessage(m.weights_offer, "weights_offer")))
        case STAFFEL__V1__FROM_COORDINATOR__KIND_LOAD_AHEAD: return .loadAhead(try stageAssignment(f.submessage(m.load_ahead, "load_ahead")))
        case STAFFEL__V1__FROM_COORDINATOR__KIND_WEIGHTS_FETCHERS:
            return .weightsFetchers(try weightsFetchers(f.submessage(m.weights_fetchers, "weights_fetchers")))
        default: throw unknown("a worker, gateway or console")
        }
    }

    private static func unknown(_ receiver: String) -> WireError {
        WireError(.unknownMessage, "a message to \(receiver) is of a kind that this release does not know; run the same release on all machines")
    }
}

extension Unpack {
    static func version(_ p: UnsafeMutablePointer<Staffel__V1__ProtocolVersion>?, _ f: Fields) throws(WireError) -> ProtocolVersion {
        let m = try f.submessage(p, "version").pointee
        return ProtocolVersion(major: try f.present(m.has_major, m.major, "version"), minor: try f.present(m.has_minor, m.minor, "version"))
    }

    static func cancelChoice(_ p: UnsafePointer<Staffel__V1__CancelChoice>) throws(WireError) -> ToCoordinator {
        let f = Fields("CancelChoice")
        let m = p.pointee
        return .cancelChoice(
            try requestID(m.request, f, "request"), UInt32(try f.integer(m.has_choice, m.choice, "choice", 0...Limits.choicesMax - 1)))
    }

    static func requestID(_ p: UnsafeMutablePointer<Staffel__V1__RequestId>?, _ f: Fields, _ field: StaticString) throws(WireError) -> RequestID {
        let m = try f.submessage(p, field).pointee
        return RequestID(high: try f.present(m.has_high, m.high, field), low: try f.present(m.has_low, m.low, field))
    }

    static func epochNote(_ p: UnsafePointer<Staffel__V1__EpochNote>) throws(WireError) -> Epoch {
        try Fields("EpochNote").epoch(p.pointee.has_epoch, p.pointee.epoch)
    }

    static func enrolRequest(_ p: UnsafePointer<Staffel__V1__EnrolRequest>) throws(WireError) -> EnrolRequest {
        let f = Fields("EnrolRequest")
        let m = p.pointee
        guard let role = PeerRole(rawValue: UInt8(clamping: try f.present(m.has_role, m.role, "role").rawValue)) else {
            throw f.invalid("role", "is \(m.role.rawValue), which this release does not know")
        }
        return EnrolRequest(
            version: try version(m.version, f), role: role, key: try f.key(m.has_key, m.key, "key"), name: try f.name(m.has_name, m.name, "name"))
    }

    static func workerHello(_ p: UnsafePointer<Staffel__V1__WorkerHello>) throws(WireError) -> WorkerHello {
        let f = Fields("WorkerHello")
        let m = p.pointee
        var holding: HeldSlice?
        if let held = m.holding { holding = try heldSlice(held) }
        var weightsEndpoint: String?
        if m.has_weights_endpoint != 0 { weightsEndpoint = try f.endpoint(m.has_weights_endpoint, m.weights_endpoint, "weights_endpoint") }
        return WorkerHello(
            version: try version(m.version, f), session: try f.present(m.has_session, m.session, "session"),
            name: try f.name(m.has_name, m.name, "name"),
            capabilities: try capabilities(f.submessage(m.capabilities, "capabilities")),
            dataEndpoint: try f.endpoint(m.has_data_endpoint, m.data_endpoint, "data_endpoint"), holding: holding,
            lastEpoch: try f.epoch(m.has_last_epoch, m.last_epoch, "last_epoch"), weightsEndpoint: weightsEndpoint)
    }

    static func capabilities(_ p: UnsafePointer<Staffel__V1__WorkerCapabilities>) throws(WireError) -> WorkerCapabilities {
        let f = Fields("WorkerCapabilities")
        let m = p.pointee
        var capabilities = WorkerCapabilities(
            memoryBytes: try f.counter(m.has_memory_bytes, m.memory_bytes, "memory_bytes", atMost: WireLimits.bytesMax),
            threads: try f.integer(m.has_threads, m.threads, "threads", 1...WireLimits.threadsMax), isa: try f.name(m.has_isa, m.isa, "isa"),
            readBytesPerSecond: try f.rate(m.has_read_bytes_per_second, m.read_bytes_per_second, "read_bytes_per_second"),
            opsPerSecond: try f.rate(m.has_ops_per_second, m.ops_per_second, "ops_per_second"),
            floatOpsPerSecond: m.has_float_ops_per_second == 0
                ? 0 : try f.rate(m.has_float_ops_per_second, m.float_ops_per_second, "float_ops_per_second"),
            machine: m.has_machine == 0 ? 0 : m.machine)
        capabilities.weightsMemoryBytes = try f.counterOrZero(
            m.has_weights_memory_bytes, m.weights_memory_bytes, "weights_memory_bytes", atMost: WireLimits.bytesMax)
        if m.has_disk_bytes_per_second != 0 {
            capabilities.diskBytesPerSecond = try f.rate(m.has_disk_bytes_per_second, m.disk_bytes_per_second, "disk_bytes_per_second")
        }
        return capabilities
    }

    static func heldSlice(_ p: UnsafePointer<Staffel__V1__HeldSlice>) throws(WireError) -> HeldSlice {
        let f = Fields("HeldSlice")
        let m = p.pointee
        return HeldSlice(
            epoch: try f.epoch(m.has_epoch, m.epoch), modelDigest: try f.digest(m.has_model_digest, m.model_digest, "model_digest"),
            layers: try f.layers(m.layers, "layers"))
    }

    static func gatewayHello(_ p: UnsafePointer<Staffel__V1__GatewayHello>) throws(WireError) -> GatewayHello {
        let f = Fields("GatewayHello")
        let m = p.pointee
        return GatewayHello(
            version: try version(m.version, f), session: try f.present(m.has_session, m.session, "session"),
            name: try f.name(m.has_name, m.name, "name"))
    }

    static func gatewayWelcome(_ p: UnsafePointer<Staffel__V1__GatewayWelcome>) throws(WireError) -> GatewayWelcome {
        let f = Fields("GatewayWelcome")
        let m = p.pointee
        return GatewayWelcome(
            version: try version(m.version, f),
            coordinatorSession: try f.present(m.has_coordinator_session, m.coordinator_session, "coordinator_session"),
            modelName: try f.name(m.has_model_name, m.model_name, "model_name"),
            modelDigest: try f.digest(m.has_model_digest, m.model_digest, "model_digest"),
            contextTokens: try f.integer(m.has_context_tokens, m.context_tokens, "context_tokens", 1...Limits.contextTokensMax),
            parameterCount: try f.counter(m.has_parameter_count, m.parameter_count, "parameter_count", atMost: WireLimits.bytesMax),
            modelBytes: try f.counter(m.has_model_bytes, m.model_bytes, "model_bytes", atMost: WireLimits.bytesMax),
            health: try clusterHealth(f.submessage(m.health, "health")))
    }

    static func heartbeat(_ p: UnsafePointer<Staffel__V1__Heartbeat>) throws(WireError) -> Heartbeat {
        let f = Fields("Heartbeat")
        let m = p.pointee
        var heartbeat = Heartbeat(
            epoch: try f.epoch(m.has_epoch, m.epoch), lastStep: StepNumber(try f.counter(m.has_last_step, m.last_step, "last_step")),
            stepsQueued: try f.integer(m.has_steps_queued, m.steps_queued, "steps_queued", 0...Limits.stepsQueuedMax),
            lastReceived: m.has_last_received == 0
                ? nil : StepNumber(try f.counter(m.has_last_received, m.last_received, "last_received")),
            expectedWaitMs: m.has_expected_wait_ms == 0
                ? 0 : try f.counter(m.has_expected_wait_ms, m.expected_wait_ms, "expected_wait_ms", atMost: Limits.expectedWaitMsMax))
        if let held = m.held { heartbeat.held = try f.layers(held, "held") }
        if m.has_work != 0 { heartbeat.work = m.work }
        return heartbeat
    }

    private static func loaded(_ p: UnsafePointer<Staffel__V1__EpochNote>) throws(WireError) -> ToCoordinator {
        let kept = try p.pointee.kept.map { kept throws(WireError) in try Fields("EpochNote").layers(kept, "kept") }
        return .loaded(try epochNote(p), kept: kept ?? 0..<0)
    }

    static func loadProgress(_ p: UnsafePointer<Staffel__V1__LoadProgress>) throws(WireError) -> LoadProgress {
        let f = Fields("LoadProgress")
        let m = p.pointee
        let total = try f.counter(m.has_bytes_total, m.bytes_total, "bytes_total", atMost: WireLimits.bytesMax)
        return LoadProgress(
            epoch: try f.epoch(m.has_epoch, m.epoch), bytesDone: try f.counter(m.has_bytes_done, m.bytes_done, "bytes_done", atMost: total),
            bytesTotal: total)
    }

    static func failure(_ p: UnsafeMutablePointer<Staffel__V1__Failure>?, _ outer: Fields, _ field: StaticString) throws(WireError) -> Failure {
        let m = try outer.submessage(p, field).pointee
        let f = Fields("Failure")
        let number = try f.present(m.has_code, m.code, "code")
        guard let code = FailureCode(rawValue: number) else { throw f.invalid("code", "is \(number), which this release does not know") }
        var seconds: Int?
        if m.has_retry_after_seconds != 0 {
            seconds = try f.integer(m.has_retry_after_seconds, m.retry_after_seconds, "retry_after_seconds", 1...Limits.retryAfterSecondsMax)
        }
        return Failure(code, try f.sentence(m.has_message, m.message, "message"), retryAfterSeconds: seconds)
    }

    static func loadFailed(_ p: UnsafePointer<Staffel__V1__LoadFailed>) throws(WireError) -> ToCoordinator {
        let f = Fields("LoadFailed")
        return .loadFailed(try f.epoch(p.pointee.has_epoch, p.pointee.epoch), try failure(p.pointee.failure, f, "failure"))
    }

    static func stepFailed(_ p: UnsafePointer<Staffel__V1__StepFailed>) throws(WireError) -> ToCoordinator {
        let f = Fields("StepFailed")
        let m = p.pointee
        return .stepFailed(
            try f.epoch(m.has_epoch, m.epoch), StepNumber(try f.counter(m.has_number, m.number, "number")), try failure(m.failure, f, "failure"))
    }

    static func finished(_ p: UnsafePointer<Staffel__V1__Finished>) throws(WireError) -> FromCoordinator {
        let f = Fields("Finished")
        let m = p.pointee
        guard let reason = FinishReason(rawValue: UInt8(clamping: try f.present(m.has_reason, m.reason, "reason").rawValue)) else {
            throw f.invalid("reason", "is \(m.reason.rawValue), which this release does not know")
        }
        return .finished(
            try requestID(m.request, f, "request"), choice: UInt32(try f.integer(m.has_choice, m.choice, "choice", 0...Limits.choicesMax - 1)),
            tokenCount: try f.integer(m.has_token_count, m.token_count, "token_count", 0...Limits.contextTokensMax), reason)
    }

    static func failed(_ p: UnsafePointer<Staffel__V1__Failed>) throws(WireError) -> FromCoordinator {
        let f = Fields("Failed")
        return .failed(try requestID(p.pointee.request, f, "request"), try failure(p.pointee.failure, f, "failure"))
    }

    static func clusterHealth(_ p: UnsafePointer<Staffel__V1__ClusterHealth>) throws(WireError) -> ClusterHealth {
        let f = Fields("ClusterHealth")
        let m = p.pointee
        guard let state = ClusterHealth.State(rawValue: UInt8(clamping: try f.present(m.has_state, m.state, "state").rawValue)) else {
            throw f.invalid("state", "is \(m.state.rawValue), which this release does not know")
        }
        return ClusterHealth(state: state, detail: try f.sentence(m.has_detail, m.detail, "detail"))
    }

    static func stageAssignment(_ p: UnsafePointer<Staffel__V1__StageAssignment>) throws(WireError) -> StageAssignment {
        let f = Fields("StageAssignment")
        let m = p.pointee
        let stageCount = try f.integer(m.has_stage_count, m.stage_count, "stage_count", 1...Limits.stagesMax)
        let stage = try f.integer(m.has_stage, m.stage, "stage", 0...stageCount - 1)
        guard let kvType = KVType(rawValue: UInt8(clamping: try f.present(m.has_kv_type, m.kv_type, "kv_type").rawValue)) else {
            throw f.invalid("kv_type", "is \(m.kv_type.rawValue), which this release does not know")
        }
        guard let boundary = BoundaryType(rawValue: UInt8(clamping: try f.present(m.has_boundary, m.boundary, "boundary").rawValue)) else {
            throw f.invalid("boundary", "is \(m.boundary.rawValue), which this release does not know")
        }
        // Those between the last stage and the first are there since protocol 2.4, and never where one stage is both.
        let (isFirst, isLast) = (stage == 0, stage == stageCount - 1)
        try f.require(m.has_upstream != 0 || isFirst, "upstream", "is missing at stage \(stage)")
        try f.require(m.downstream != nil || isLast, "downstream", "is missing at stage \(stage) of \(stageCount)")
        try f.require(m.has_upstream == 0 || stageCount > 1, "upstream", "is given where there is one stage")
        try f.require(m.downstream == nil || stageCount > 1, "downstream", "is given where there is one stage")
        var upstream: PeerKey?
        if m.has_upstream != 0 { upstream = try f.key(m.has_upstream, m.upstream, "upstream") }
        var downstream: StagePeer?
        if let peer = m.downstream { downstream = try stagePeer(peer) }
        var assignment = StageAssignment(
            epoch: try f.epoch(m.has_epoch, m.epoch), stage: stage, stageCount: stageCount, layers: try f.layers(m.layers, "layers"),
            kvBlocks: try f.integer(m.has_kv_blocks, m.kv_blocks, "kv_blocks", 0...WireLimits.kvBlocksMax), kvType: kvType, boundary: boundary,
            modelDigest: try f.digest(m.has_model_digest, m.model_digest, "model_digest"),
            modelPath: try f.text(m.has_model_path, m.model_path, "model_path", .path, bytesMax: Limits.pathBytesMax), upstream: upstream,
            downstream: downstream)
        if m.has_keeping != 0 { assignment.keeping = try f.epoch(m.has_keeping, m.keeping) }
        assignment.foretells = m.has_foretells != 0 && m.foretells != 0
        if m.has_input_blocks != 0 {
            assignment.inputBlocks = try f.integer(m.has_input_blocks, m.input_blocks, "input_blocks", 0...WireLimits.kvBlocksMax)
        }
        return assignment
    }

    static func stagePeer(_ p: UnsafePointer<Staffel__V1__StagePeer>) throws(WireError) -> StagePeer {
        let f = Fields("StagePeer")
        let m = p.pointee
        return StagePeer(key: try f.key(m.has_key, m.key, "key"), endpoint: try f.endpoint(m.has_endpoint, m.endpoint, "endpoint"))
    }

    static func statusReport(_ p: UnsafePointer<Staffel__V1__StatusReport>) throws(WireError) -> StatusReport {
        let f = Fields("StatusReport")
        let m = p.pointee
        let workers = try f.list(m.n_workers, m.workers, "workers", atMost: Limits.workersMax, workerStatus)
        try f.requireDistinct(workers.map(\.key), "workers")
        let tenants = try f.list(m.n_tenants, m.tenants, "tenants", atMost: Limits.tenantsReportedMax, tenantStatus)
        try f.requireDistinct(tenants.map(\.tenant), "tenants")
        var planning: PlanningStatus?
        if let part = m.planning { planning = try planningStatus(part) }
        let blocksTotal = try f.integer(m.has_kv_blocks_total, m.kv_blocks_total, "kv_blocks_total", 0...WireLimits.kvBlocksMax)
        var report = StatusReport(
            modelName: try f.name(m.has_model_name, m.model_name, "model_name"), health: try clusterHealth(f.submessage(m.health, "health")),
            epoch: try f.epoch(m.has_epoch, m.epoch), workers: workers,
            gateways: try f.integer(m.has_gateways, m.gateways, "gateways", 0...Limits.gatewaysMax),
            requestsWaiting: try f.integer(m.has_requests_waiting, m.requests_waiting, "requests_waiting", 0...WireLimits.requestsMax),
            sequencesRunning: try f.integer(m.has_sequences_running, m.sequences_running, "sequences_running", 0...WireLimits.requestsMax),
            kvBlocksUsed: try f.integer(m.has_kv_blocks_used, m.kv_blocks_used, "kv_blocks_used", 0...blocksTotal), kvBlocksTotal: blocksTotal,
            kvBlocksCached: try f.integer(m.has_kv_blocks_cached, m.kv_blocks_cached, "kv_blocks_cached", 0...blocksTotal),
            stepsInFlight: try f.integer(m.has_steps_in_flight, m.steps_in_flight, "steps_in_flight", 0...WireLimits.requestsMax),
            stepsDone: try f.counter(m.has_steps_done, m.steps_done, "steps_done"),
            tokensGenerated: try f.counter(m.has_tokens_generated, m.tokens_generated, "tokens_generated"),
            prefillPositions: try f.counter(m.has_prefill_positions, m.prefill_positions, "prefill_positions"),
            prefillPositionsShared: try f.counter(m.has_prefill_positions_shared, m.prefill_positions_shared, "prefill_positions_shared"),
            framesDropped: try f.counter(m.has_frames_dropped, m.frames_dropped, "frames_dropped"), tenants: tenants,
            expectedWaitMs: try f.counter(m.has_expected_wait_ms, m.expected_wait_ms, "expected_wait_ms", atMost: Limits.expectedWaitMsMax),
            preemptions: try f.counter(m.has_preemptions, m.preemptions, "preemptions"),
            displacements: try f.counter(m.has_displacements, m.displacements, "displacements"),
            replicas: try f.list(m.n_replicas, m.replicas, "replicas", atMost: Limits.replicasMax, replicaStatus))
        report.draftsLookedUp = try draftCounts(f.submessage(m.drafts_looked_up, "drafts_looked_up"))
        try observed(m, f, &report)
        report.planning = planning
        return report
    }

    static func tenantStatus(_ p: UnsafePointer<Staffel__V1__TenantStatus>) throws(WireError) -> TenantStatus {
        let f = Fields("TenantStatus")
        let m = p.pointee
        return TenantStatus(
            tenant: Tenant(try f.present(m.has_tenant, m.tenant, "tenant")),
            weight: try f.integer(m.has_weight, m.weight, "weight", 1...Limits.tenantWeightMax),
            waiting: try f.integer(m.has_waiting, m.waiting, "waiting", 0...WireLimits.requestsMax),
            running: try f.integer(m.has_running, m.running, "running", 0...WireLimits.requestsMax))
    }

    static func draftCounts(_ p: UnsafePointer<Staffel__V1__DraftCounts>) throws(WireError) -> DraftCounts {
        let f = Fields("DraftCounts")
        return DraftCounts(
            proposed: try f.counter(p.pointee.has_proposed, p.pointee.proposed, "proposed"),
            accepted: try f.counter(p.pointee.has_accepted, p.pointee.accepted, "accepted"))
    }

    static func planningStatus(_ p: UnsafePointer<Staffel__V1__PlanningStatus>) throws(WireError) -> PlanningStatus {
        let f = Fields("PlanningStatus")
        let m = p.pointee
        let stages = try f.list(m.n_stages, m.stages, "stages", atMost: Limits.stagesMax, plannedStage)
        try f.requireDistinct(stages.map(\.worker), "stages")
        return PlanningStatus(
            stages: stages, rows: try f.rate(m.has_rows, m.rows, "rows"),
            predictedTokensPerSecond: try f.rate(
                m.has_predicted_tokens_per_second, m.predicted_tokens_per_second, "predicted_tokens_per_second"),
            measuredTokensPerSecond: try f.rate(m.has_measured_tokens_per_second, m.measured_tokens_per_second, "measured_tokens_per_second"),
            bottleneck: try f.sentence(m.has_bottleneck, m.bottleneck, "bottleneck"),
            betterCut: try f.sentence(m.has_better_cut, m.better_cut, "better_cut"))
    }

    static func plannedStage(_ p: UnsafePointer<Staffel__V1__PlannedStage>) throws(WireError) -> PlanningStatus.Stage {
        let f = Fields("PlannedStage")
        let m = p.pointee
        return PlanningStatus.Stage(
            worker: try f.key(m.has_worker, m.worker, "worker"), correction: try f.rate(m.has_correction, m.correction, "correction"),
            predictedSeconds: try f.rate(m.has_predicted_seconds, m.predicted_seconds, "predicted_seconds"),
            measuredSeconds: try f.rate(m.has_measured_seconds, m.measured_seconds, "measured_seconds"))
    }

    static func workerStatus(_ p: UnsafePointer<Staffel__V1__WorkerStatus>) throws(WireError) -> WorkerStatus {
        let f = Fields("WorkerStatus")
        let m = p.pointee
        var status = WorkerStatus(
            key: try f.key(m.has_key, m.key, "key"), name: try f.name(m.has_name, m.name, "name"),
            capabilities: try capabilities(f.submessage(m.capabilities, "capabilities")), layers: try f.layers(m.layers, "layers", mayBeEmpty: true),
            state: try f.name(m.has_state, m.state, "state"),
            computeShare: try f.rate(m.has_compute_share, m.compute_share, "compute_share", atMost: 1),
            lastStep: StepNumber(try f.counter(m.has_last_step, m.last_step, "last_step")),
            replica: m.has_replica == 0 ? nil : try f.integer(m.has_replica, m.replica, "replica", 0...Limits.replicasMax - 1))
        if let held = m.held { status.held = try f.layers(held, "held") }
        if m.has_loaded_share != 0 { status.loadedShare = try f.rate(m.has_loaded_share, m.loaded_share, "loaded_share", atMost: 1) }
        return status
    }

    static func replicaStatus(_ p: UnsafePointer<Staffel__V1__ReplicaStatus>) throws(WireError) -> ReplicaStatus {
        let f = Fields("ReplicaStatus")
        let m = p.pointee
        let blocksTotal = try f.integer(m.has_kv_blocks_total, m.kv_blocks_total, "kv_blocks_total", 0...WireLimits.kvBlocksMax)
        return ReplicaStatus(
            index: try f.integer(m.has_index, m.index, "index", 0...Limits.replicasMax - 1), epoch: try f.epoch(m.has_epoch, m.epoch),
            isServing: try f.present(m.has_is_serving, m.is_serving, "is_serving") != 0,
            sequencesRunning: try f.integer(m.has_sequences_running, m.sequences_running, "sequences_running", 0...WireLimits.requestsMax),
            sequencesWaiting: try f.integer(m.has_sequences_waiting, m.sequences_waiting, "sequences_waiting", 0...WireLimits.requestsMax),
            prefillRowsPending: try f.integer(m.has_prefill_rows_pending, m.prefill_rows_pending, "prefill_rows_pending", 0...Int(UInt32.max)),
            kvBlocksUsed: try f.integer(m.has_kv_blocks_used, m.kv_blocks_used, "kv_blocks_used", 0...blocksTotal), kvBlocksTotal: blocksTotal,
            stepsInFlight: try f.integer(m.has_steps_in_flight, m.steps_in_flight, "steps_in_flight", 0...WireLimits.requestsMax))
    }
}
