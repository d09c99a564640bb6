import CWire
import ClusterCore

// Hellos, plans, health and what goes between gateway and coordinator, as protobuf-c's structs.

extension PackArena {
    func toCoordinator(_ message: ToCoordinator) -> UnsafeMutablePointer<Staffel__V1__ToCoordinator> {
        make(staffel__v1__to_coordinator__init) { m in
            switch message {
            case .enrol(let value): (m.kind_case, m.enrol) = (STAFFEL__V1__TO_COORDINATOR__KIND_ENROL, enrolRequest(value))
            case .workerHello(let value): (m.kind_case, m.worker_hello) = (STAFFEL__V1__TO_COORDINATOR__KIND_WORKER_HELLO, workerHello(value))
            case .gatewayHello(let value): (m.kind_case, m.gateway_hello) = (STAFFEL__V1__TO_COORDINATOR__KIND_GATEWAY_HELLO, gatewayHello(value))
            case .heartbeat(let value): (m.kind_case, m.heartbeat) = (STAFFEL__V1__TO_COORDINATOR__KIND_HEARTBEAT, heartbeat(value))
            case .loadProgress(let value): (m.kind_case, m.load_progress) = (STAFFEL__V1__TO_COORDINATOR__KIND_LOAD_PROGRESS, loadProgress(value))
            case .loaded(let epoch, let kept): (m.kind_case, m.loaded) = (STAFFEL__V1__TO_COORDINATOR__KIND_LOADED, loadedNote(epoch, kept))
            case .loadFailed(let epoch, let failure):
                (m.kind_case, m.load_failed) = (STAFFEL__V1__TO_COORDINATOR__KIND_LOAD_FAILED, loadFailed(epoch, failure))
            case .stepResult(let value): (m.kind_case, m.step_result) = (STAFFEL__V1__TO_COORDINATOR__KIND_STEP_RESULT, stepResult(value))
            case .stepFailed(let epoch, let number, let failure):
                (m.kind_case, m.step_failed) = (STAFFEL__V1__TO_COORDINATOR__KIND_STEP_FAILED, stepFailed(epoch, number, failure))
            case .leaving: (m.kind_case, m.leaving) = (STAFFEL__V1__TO_COORDINATOR__KIND_LEAVING, make(staffel__v1__empty__init))
            case .submit(let value): (m.kind_case, m.submit) = (STAFFEL__V1__TO_COORDINATOR__KIND_SUBMIT, generationRequest(value))
            case .cancel(let id): (m.kind_case, m.cancel) = (STAFFEL__V1__TO_COORDINATOR__KIND_CANCEL, requestID(id))
            case .cancelChoice(let id, let choice):
                (m.kind_case, m.cancel_choice) = (STAFFEL__V1__TO_COORDINATOR__KIND_CANCEL_CHOICE, cancelChoice(id, choice))
            case .handoverReport(let value):
                (m.kind_case, m.handover_report) = (STAFFEL__V1__TO_COORDINATOR__KIND_HANDOVER_REPORT, handoverReport(value))
            case .drain(let value): (m.kind_case, m.drain) = (STAFFEL__V1__TO_COORDINATOR__KIND_DRAIN, drainRequest(value))
            case .wishToLeave: (m.kind_case, m.wish_to_leave) = (STAFFEL__V1__TO_COORDINATOR__KIND_WISH_TO_LEAVE, make(staffel__v1__empty__init))
            case .statusQuery: (m.kind_case, m.status_query) = (STAFFEL__V1__TO_COORDINATOR__KIND_STATUS_QUERY, make(staffel__v1__empty__init))
            case .weightsQuery(let model): (m.kind_case, m.weights_query) = (STAFFEL__V1__TO_COORDINATOR__KIND_WEIGHTS_QUERY, weightsQuery(model))
            }
        }
    }

    func fromCoordinator(_ message: FromCoordinator) -> UnsafeMutablePointer<Staffel__V1__FromCoordinator> {
        make(staffel__v1__from_coordinator__init) { m in
            switch message {
            case .enrolled: (m.kind_case, m.enrolled) = (STAFFEL__V1__FROM_COORDINATOR__KIND_ENROLLED, make(staffel__v1__empty__init))
            case .refused(let value): (m.kind_case, m.refused) = (STAFFEL__V1__FROM_COORDINATOR__KIND_REFUSED, failure(value))
            case .workerWelcome(let value):
                (m.kind_case, m.worker_welcome) = (STAFFEL__V1__FROM_COORDINATOR__KIND_WORKER_WELCOME, workerWelcome(value))
            case .gatewayWelcome(let value):
                (m.kind_case, m.gateway_welcome) = (STAFFEL__V1__FROM_COORDINATOR__KIND_GATEWAY_WELCOME, gatewayWelcome(value))
            case .heartbeatReply(let value):
                (m.kind_case, m.heartbeat_reply) = (STAFFEL__V1__FROM_COORDINATOR__KIND_HEARTBEAT_REPLY, heartbeat(value))
            case .assign(let value): (m.kind_case, m.assign) = (STAFFEL__V1__FROM_COORDINATOR__KIND_ASSIGN, stageAssignment(value))
            case .release(let epoch): (m.kind_case, m.release) = (STAFFEL__V1__FROM_COORDINATOR__KIND_RELEASE, epochNote(epoch))
            case .step(let value): (m.kind_case, m.step) = (STAFFEL__V1__FROM_COORDINATOR__KIND_STEP, step(value))
            case .health(let value): (m.kind_case, m.health) = (STAFFEL__V1__FROM_COORDINATOR__KIND_HEALTH, clusterHealth(value))
            case .tokens(let value): (m.kind_case, m.tokens) = (STAFFEL__V1__FROM_COORDINATOR__KIND_TOKENS, tokenBatch(value))
            case .finished(let request, let choice, let tokenCount, let reason):
                (m.kind_case, m.finished) = (STAFFEL__V1__FROM_COORDINATOR__KIND_FINISHED, finished(request, choice, tokenCount, reason))
            case .failed(let request, let failure): (m.kind_case, m.failed) = (STAFFEL__V1__FROM_COORDINATOR__KIND_FAILED, failed(request, failure))
            case .status(let value): (m.kind_case, m.status) = (STAFFEL__V1__FROM_COORDINATOR__KIND_STATUS, statusReport(value))
            case .handover(let value): (m.kind_case, m.handover) = (STAFFEL__V1__FROM_COORDINATOR__KIND_HANDOVER, handoverOrder(value))
            case .drainStatus(let value):
                (m.kind_case, m.drain_status) = (STAFFEL__V1__FROM_COORDINATOR__KIND_DRAIN_STATUS, drainStatus(value))
            case .closing: (m.kind_case, m.closing) = (STAFFEL__V1__FROM_COORDINATOR__KIND_CLOSING, make(staffel__v1__empty__init))
            case .weightsOffer(let value): (m.kind_case, m.weights_offer) = (STAFFEL__V1__FROM_COORDINATOR__KIND_WEIGHTS_OFFER, weightsOffer(value))
            case .loadAhead(let value): (m.kind_case, m.load_ahead) = (STAFFEL__V1__FROM_COORDINATOR__KIND_LOAD_AHEAD, stageAssignment(value))
            case .weightsFetchers(let keys):
                (m.kind_case, m.weights_fetchers) = (STAFFEL__V1__FROM_COORDINATOR__KIND_WEIGHTS_FETCHERS, weightsFetchers(keys))
            }
        }
    }
}

extension PackArena {
    func name(_ text: String) -> ProtobufCBinaryData { data(Text.fitting(text, .name, bytesMax: Limits.nameBytesMax)) }
    func sentence(_ text: String) -> ProtobufCBinaryData { data(Text.fitting(text, .sentence, bytesMax: Limits.messageBytesMax)) }

    func version(_ value: ProtocolVersion) -> UnsafeMutablePointer<Staffel__V1__ProtocolVersion> {
        make(staffel__v1__protocol_version__init) { m in
            (m.has_major, m.major) = (1, value.major)
            (m.has_minor, m.minor) = (1, value.minor)
        }
    }

    func requestID(_ value: RequestID) -> UnsafeMutablePointer<Staffel__V1__RequestId> {
        make(staffel__v1__request_id__init) { m in
            (m.has_high, m.high) = (1, value.high)
            (m.has_low, m.low) = (1, value.low)
        }
    }

    func cancelChoice(_ request: RequestID, _ choice: UInt32) -> UnsafeMutablePointer<Staffel__V1__CancelChoice> {
        make(staffel__v1__cancel_choice__init) { m in
            m.request = requestID(request)
            (m.has_choice, m.choice) = (1, choice)
        }
    }

    func layerRange(_ value: Range<Int>) -> UnsafeMutablePointer<Staffel__V1__LayerRange> {
        make(staffel__v1__layer_range__init) { m in
            (m.has_first, m.first) = (1, UInt32(value.lowerBound))
            (m.has_end, m.end) = (1, UInt32(value.upperBound))
        }
    }

    func epochNote(_ epoch: Epoch) -> UnsafeMutablePointer<Staffel__V1__EpochNote> {
        make(staffel__v1__epoch_note__init) { m in (m.has_epoch, m.epoch) = (1, epoch.value) }
    }

    private func loadedNote(_ epoch: Epoch, _ kept: Range<Int>) -> UnsafeMutablePointer<Staffel__V1__EpochNote> {
        let note = epochNote(epoch)
        if !kept.isEmpty { note.pointee.kept = layerRange(kept) }
        return note
    }

    func enrolRequest(_ value: EnrolRequest) -> UnsafeMutablePointer<Staffel__V1__EnrolRequest> {
        make(staffel__v1__enrol_request__init) { m in
            m.version = version(value.version)
            (m.has_role, m.role) = (1, Staffel__V1__PeerRole(rawValue: .init(value.role.rawValue)))
            (m.has_key, m.key) = (1, data(value.key.bytes))
            (m.has_name, m.name) = (1, name(value.name))
        }
    }

    func workerHello(_ value: WorkerHello) -> UnsafeMutablePointer<Staffel__V1__WorkerHello> {
        make(staffel__v1__worker_hello__init) { m in
            m.version = version(value.version)
            (m.has_session, m.session) = (1, value.session)
            (m.has_name, m.name) = (1, name(value.name))
            m.capabilities = capabilities(value.capabilities)
            (m.has_data_endpoint, m.data_endpoint) = (1, data(Array(value.dataEndpoint.utf8)))
            m.holding = value.holding.map(heldSlice)
            (m.has_last_epoch, m.last_epoch) = (1, value.lastEpoch.value)
            if let endpoint = value.weightsEndpoint { (m.has_weights_endpoint, m.weights_endpoint) = (1, data(Array(endpoint.utf8))) }
        }
    }

    func capabilities(_ value: WorkerCapabilities) -> UnsafeMutablePointer<Staffel__V1__WorkerCapabilities> {
        make(staffel__v1__worker_capabilities__init) { m in
            (m.has_memory_bytes, m.memory_bytes) = (1, value.memoryBytes)
            (m.has_threads, m.threads) = (1, UInt32(value.threads))
            (m.has_isa, m.isa) = (1, name(value.isa))
            (m.has_read_bytes_per_second, m.read_bytes_per_second) = (1, value.readBytesPerSecond)
            (m.has_ops_per_second, m.ops_per_second) = (1, value.opsPerSecond)
            if value.floatOpsPerSecond > 0 { (m.has_float_ops_per_second, m.float_ops_per_second) = (1, value.floatOpsPerSecond) }
            if value.machine != 0 { (m.has_machine, m.machine) = (1, value.machine) }
            if value.weightsMemoryBytes > 0 { (m.has_weights_memory_bytes, m.weights_memory_bytes) = (1, value.weightsMemoryBytes) }
            if value.diskBytesPerSecond > 0 { (m.has_disk_bytes_per_second, m.disk_bytes_per_second) = (1, value.diskBytesPerSecond) }
        }
    }

    func heldSlice(_ value: HeldSlice) -> UnsafeMutablePointer<Staffel__V1__HeldSlice> {
        make(staffel__v1__held_slice__init) { m in
            (m.has_epoch, m.epoch) = (1, value.epoch.value)
            (m.has_model_digest, m.model_digest) = (1, data(value.modelDigest.bytes))
            m.layers = layerRange(value.layers)
        }
    }

    func gatewayHello(_ value: GatewayHello) -> UnsafeMutablePointer<Staffel__V1__GatewayHello> {
        make(staffel__v1__gateway_hello__init) { m in
            m.version = version(value.version)
            (m.has_session, m.session) = (1, value.session)
            (m.has_name, m.name) = (1, name(value.name))
        }
    }

    func workerWelcome(_ value: WorkerWelcome) -> UnsafeMutablePointer<Staffel__V1__WorkerWelcome> {
        make(staffel__v1__worker_welcome__init) { m in m.version = version(value.version) }
    }

    func gatewayWelcome(_ value: GatewayWelcome) -> UnsafeMutablePointer<Staffel__V1__GatewayWelcome> {
        make(staffel__v1__gateway_welcome__init) { m in
            m.version = version(value.version)
            (m.has_coordinator_session, m.coordinator_session) = (1, value.coordinatorSession)
            (m.has_model_name, m.model_name) = (1, name(value.modelName))
            (m.has_model_digest, m.model_digest) = (1, data(value.modelDigest.bytes))
            (m.has_context_tokens, m.context_tokens) = (1, UInt32(value.contextTokens))
            (m.has_parameter_count, m.parameter_count) = (1, value.parameterCount)
            (m.has_model_bytes, m.model_bytes) = (1, value.modelBytes)
            m.health = clusterHealth(value.health)
        }
    }

    func heartbeat(_ value: Heartbeat) -> UnsafeMutablePointer<Staffel__V1__Heartbeat> {
        make(staffel__v1__heartbeat__init) { m in
            (m.has_epoch, m.epoch) = (1, value.epoch.value)
            (m.has_last_step, m.last_step) = (1, value.lastStep.value)
            (m.has_steps_queued, m.steps_queued) = (1, UInt32(value.stepsQueued))
            if let received = value.lastReceived { (m.has_last_received, m.last_received) = (1, received.value) }
            if value.expectedWaitMs > 0 { (m.has_expected_wait_ms, m.expected_wait_ms) = (1, value.expectedWaitMs) }
            if !value.held.isEmpty { m.held = layerRange(value.held) }
            if let work = value.work { (m.has_work, m.work) = (1, work) }
        }
    }

    func loadProgress(_ value: LoadProgress) -> UnsafeMutablePointer<Staffel__V1__LoadProgress> {
        make(staffel__v1__load_progress__init) { m in
            (m.has_epoch, m.epoch) = (1, value.epoch.value)
            (m.has_bytes_done, m.bytes_done) = (1, value.bytesDone)
            (m.has_bytes_total, m.bytes_total) = (1, value.bytesTotal)
        }
    }

    func failure(_ value: Failure) -> UnsafeMutablePointer<Staffel__V1__Failure> {
        make(staffel__v1__failure__init) { m in
            (m.has_code, m.code) = (1, value.code.rawValue)
            (m.has_message, m.message) = (1, sentence(value.message))
            if let seconds = value.retryAfterSeconds { (m.has_retry_after_seconds, m.retry_after_seconds) = (1, UInt32(seconds)) }
        }
    }

    func loadFailed(_ epoch: Epoch, _ value: Failure) -> UnsafeMutablePointer<Staffel__V1__LoadFailed> {
        make(staffel__v1__load_failed__init) { m in
            (m.has_epoch, m.epoch) = (1, epoch.value)
            m.failure = failure(value)
        }
    }

    func stepFailed(_ epoch: Epoch, _ number: StepNumber, _ value: Failure) -> UnsafeMutablePointer<Staffel__V1__StepFailed> {
        make(staffel__v1__step_failed__init) { m in
            (m.has_epoch, m.epoch) = (1, epoch.value)
            (m.has_number, m.number) = (1, number.value)
            m.failure = failure(value)
        }
    }

    func finished(_ request: RequestID, _ choice: UInt32, _ tokenCount: Int, _ reason: FinishReason) -> UnsafeMutablePointer<Staffel__V1__Finished> {
        make(staffel__v1__finished__init) { m in
            m.request = requestID(request)
            (m.has_choice, m.choice) = (1, choice)
            (m.has_token_count, m.token_count) = (1, UInt32(tokenCount))
            (m.has_reason, m.reason) = (1, Staffel__V1__FinishReason(rawValue: .init(reason.rawValue)))
        }
    }

    func failed(_ request: RequestID, _ value: Failure) -> UnsafeMutablePointer<Staffel__V1__Failed> {
        make(staffel__v1__failed__init) { m in
            m.request = requestID(request)
            m.failure = failure(value)
        }
    }

    func clusterHealth(_ value: ClusterHealth) -> UnsafeMutablePointer<Staffel__V1__ClusterHealth> {
        make(staffel__v1__cluster_health__init) { m in
            (m.has_state, m.state) = (1, Staffel__V1__HealthState(rawValue: .init(value.state.rawValue)))
            (m.has_detail, m.detail) = (1, sentence(value.detail))
        }
    }

    func stageAssignment(_ value: StageAssignment) -> UnsafeMutablePointer<Staffel__V1__StageAssignment> {
        make(staffel__v1__stage_assignment__init) { m in
            (m.has_epoch, m.epoch) = (1, value.epoch.value)
            (m.has_stage, m.stage) = (1, UInt32(value.stage))
            (m.has_stage_count, m.stage_count) = (1, UInt32(value.stageCount))
            m.layers = layerRange(value.layers)
            (m.has_kv_blocks, m.kv_blocks) = (1, UInt32(value.kvBlocks))
            (m.has_kv_type, m.kv_type) = (1, Staffel__V1__KvType(rawValue: .init(value.kvType.rawValue)))
            (m.has_boundary, m.boundary) = (1, Staffel__V1__BoundaryType(rawValue: .init(value.boundary.rawValue)))
            (m.has_model_digest, m.model_digest) = (1, data(value.modelDigest.bytes))
            (m.has_model_path, m.model_path) = (1, data(Array(value.modelPath.utf8)))
            if let upstream = value.upstream { (m.has_upstream, m.upstream) = (1, data(upstream.bytes)) }
            m.downstream = value.downstream.map(stagePeer)
            if let keeping = value.keeping { (m.has_keeping, m.keeping) = (1, keeping.value) }
            if value.foretells { (m.has_foretells, m.foretells) = (1, 1) }
            if value.inputBlocks > 0 { (m.has_input_blocks, m.input_blocks) = (1, UInt32(value.inputBlocks)) }
        }
    }

    func stagePeer(_ value: StagePeer) -> UnsafeMutablePointer<Staffel__V1__StagePeer> {
        make(staffel__v1__stage_peer__init) { m in
            (m.has_key, m.key) = (1, data(value.key.bytes))
            (m.has_endpoint, m.endpoint) = (1, data(Array(value.endpoint.utf8)))
        }
    }

    func statusReport(_ value: StatusReport) -> UnsafeMutablePointer<Staffel__V1__StatusReport> {
        make(staffel__v1__status_report__init) { m in
            (m.has_model_name, m.model_name) = (1, name(value.modelName))
            m.health = clusterHealth(value.health)
            (m.has_epoch, m.epoch) = (1, value.epoch.value)
            (m.n_workers, m.workers) = (value.workers.count, table(value.workers, workerStatus))
            (m.has_gateways, m.gateways) = (1, UInt32(value.gateways))
            (m.has_requests_waiting, m.requests_waiting) = (1, UInt32(value.requestsWaiting))
            (m.has_sequences_running, m.sequences_running) = (1, UInt32(value.sequencesRunning))
            (m.has_kv_blocks_used, m.kv_blocks_used) = (1, UInt32(value.kvBlocksUsed))
            (m.has_kv_blocks_total, m.kv_blocks_total) = (1, UInt32(value.kvBlocksTotal))
            (m.has_steps_in_flight, m.steps_in_flight) = (1, UInt32(value.stepsInFlight))
            (m.has_steps_done, m.steps_done) = (1, value.stepsDone)
            (m.has_tokens_generated, m.tokens_generated) = (1, value.tokensGenerated)
            (m.has_frames_dropped, m.frames_dropped) = (1, value.framesDropped)
            (m.has_kv_blocks_cached, m.kv_blocks_cached) = (1, UInt32(value.kvBlocksCached))
            (m.has_prefill_positions, m.prefill_positions) = (1, value.prefillPositions)
            (m.has_prefill_positions_shared, m.prefill_positions_shared) = (1, value.prefillPositionsShared)
            (m.n_replicas, m.replicas) = (value.replicas.count, table(value.replicas, replicaStatus))
            (m.n_tenants, m.tenants) = (value.tenants.count, table(value.tenants, tenantStatus))
            (m.has_expected_wait_ms, m.expected_wait_ms) = (1, value.expectedWaitMs)
            (m.has_preemptions, m.preemptions) = (1, value.preemptions)
            (m.has_displacements, m.displacements) = (1, value.displacements)
            m.drafts_looked_up = draftCounts(value.draftsLookedUp)
            m.drafts_modelled = draftCounts(value.draftsModelled)
            observed(value, &m)
            m.planning = value.planning.map(planningStatus)
        }
    }

    func tenantStatus(_ value: TenantStatus) -> UnsafeMutablePointer<Staffel__V1__TenantStatus> {
        make(staffel__v1__tenant_status__init) { m in
            (m.has_tenant, m.tenant) = (1, value.tenant.value)
            (m.has_weight, m.weight) = (1, UInt32(value.weight))
            (m.has_waiting, m.waiting) = (1, UInt32(value.waiting))
            (m.has_running, m.running) = (1, UInt32(value.running))
        }
    }

    func draftCounts(_ value: DraftCounts) -> UnsafeMutablePointer<Staffel__V1__DraftCounts> {
        make(staffel__v1__draft_counts__init) { m in
            (m.has_proposed, m.proposed) = (1, value.proposed)
            (m.has_accepted, m.accepted) = (1, value.accepted)
        }
    }

    func planningStatus(_ value: PlanningStatus) -> UnsafeMutablePointer<Staffel__V1__PlanningStatus> {
        make(staffel__v1__planning_status__init) { m in
            (m.n_stages, m.stages) = (value.stages.count, table(value.stages, plannedStage))
            (m.has_rows, m.rows) = (1, value.rows)
            (m.has_predicted_tokens_per_second, m.predicted_tokens_per_second) = (1, value.predictedTokensPerSecond)
            (m.has_measured_tokens_per_second, m.measured_tokens_per_second) = (1, value.measuredTokensPerSecond)
            (m.has_bottleneck, m.bottleneck) = (1, sentence(value.bottleneck))
            (m.has_better_cut, m.better_cut) = (1, sentence(value.betterCut))
        }
    }

    func plannedStage(_ value: PlanningStatus.Stage) -> UnsafeMutablePointer<Staffel__V1__PlannedStage> {
        make(staffel__v1__planned_stage__init) { m in
            (m.has_worker, m.worker) = (1, data(value.worker.bytes))
            (m.has_correction, m.correction) = (1, value.correction)
            (m.has_predicted_seconds, m.predicted_seconds) = (1, value.predictedSeconds)
            (m.has_measured_seconds, m.measured_seconds) = (1, value.measuredSeconds)
        }
    }

    func workerStatus(_ value: WorkerStatus) -> UnsafeMutablePointer<Staffel__V1__WorkerStatus> {
        make(staffel__v1__worker_status__init) { m in
            (m.has_key, m.key) = (1, data(value.key.bytes))
            (m.has_name, m.name) = (1, name(value.name))
            m.capabilities = capabilities(value.capabilities)
            m.layers = layerRange(value.layers)
            (m.has_state, m.state) = (1, name(value.state))
            (m.has_compute_share, m.compute_share) = (1, value.computeShare)
            (m.has_last_step, m.last_step) = (1, value.lastStep.value)
            if let share = value.loadedShare { (m.has_loaded_share, m.loaded_share) = (1, share) }
            if !value.held.isEmpty { m.held = layerRange(value.held) }
            if let replica = value.replica { (m.has_replica, m.replica) = (1, UInt32(replica)) }
        }
    }

    func replicaStatus(_ value: ReplicaStatus) -> UnsafeMutablePointer<Staffel__V1__ReplicaStatus> {
        make(staffel__v1__replica_status__init) { m in
            (m.has_index, m.index) = (1, UInt32(value.index))
            (m.has_epoch, m.epoch) = (1, value.epoch.value)
            (m.has_is_serving, m.is_serving) = (1, value.isServing ? 1 : 0)
            (m.has_sequences_running, m.sequences_running) = (1, UInt32(value.sequencesRunning))
            (m.has_sequences_waiting, m.sequences_waiting) = (1, UInt32(value.sequencesWaiting))
            (m.has_prefill_rows_pending, m.prefill_rows_pending) = (1, UInt32(clamping: value.prefillRowsPending))
            (m.has_kv_blocks_used, m.kv_blocks_used) = (1, UInt32(value.kvBlocksUsed))
            (m.has_kv_blocks_total, m.kv_blocks_total) = (1, UInt32(value.kvBlocksTotal))
            (m.has_steps_in_flight, m.steps_in_flight) = (1, UInt32(value.stepsInFlight))
        }
    }
}
