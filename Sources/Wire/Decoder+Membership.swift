import CWire
import ClusterCore

extension Decoder {
    static func version(_ pointer: UnsafeMutablePointer<Staffel__V1__Version>?, _ field: String) throws(WireError) -> ProtocolVersion {
        let version = try FieldCheck.present(pointer, field)
        return ProtocolVersion(major: version.major, minor: version.minor)
    }

    static func requestID(_ id: Staffel__V1__RequestId) -> RequestID { RequestID(high: id.high, low: id.low) }

    static func requestID(_ pointer: UnsafeMutablePointer<Staffel__V1__RequestId>?, _ field: String) throws(WireError) -> RequestID {
        requestID(try FieldCheck.present(pointer, field))
    }

    static func choice(_ value: UInt32, _ field: String) throws(WireError) -> UInt32 {
        UInt32(try FieldCheck.number(value, 0...(Limits.choicesMax - 1), field))
    }

    static func failure(_ pointer: UnsafeMutablePointer<Staffel__V1__Failure>?, _ field: String) throws(WireError) -> Failure {
        let failure = try FieldCheck.present(pointer, field)
        guard let code = FailureCode(rawValue: failure.code) else { throw FieldCheck.fail(field, "has the unknown code \(failure.code)") }
        return Failure(code, try FieldCheck.text(failure.message, bytesMax: Limits.messageBytesMax, "\(field).message"))
    }

    static func enrol(_ request: Staffel__V1__EnrolRequest) throws(WireError) -> EnrolRequest {
        EnrolRequest(
            version: try version(request.version, "enrol.version"), role: try FieldCheck.kind(request.role, "enrol.role"),
            key: try FieldCheck.key(request.key, "enrol.key"),
            name: try FieldCheck.text(request.name, bytesMax: Limits.nameBytesMax, "enrol.name"))
    }

    static func capabilities(
        _ pointer: UnsafeMutablePointer<Staffel__V1__WorkerCapabilities>?, _ field: String
    ) throws(WireError) -> WorkerCapabilities {
        let capabilities = try FieldCheck.present(pointer, field)
        return WorkerCapabilities(
            memoryBytes: UInt64(try FieldCheck.number(capabilities.memory_bytes, 0...(1 << 60), "\(field).memory_bytes")),
            threads: try FieldCheck.number(capabilities.threads, 1...65_536, "\(field).threads"),
            isa: try FieldCheck.text(capabilities.isa, bytesMax: Limits.nameBytesMax, "\(field).isa"),
            readBytesPerSecond: try FieldCheck.finite(capabilities.read_bytes_per_second, atLeast: 1, "\(field).read_bytes_per_second"),
            opsPerSecond: try FieldCheck.finite(capabilities.ops_per_second, atLeast: 1, "\(field).ops_per_second"))
    }

    static func workerHello(_ hello: Staffel__V1__WorkerHello) throws(WireError) -> WorkerHello {
        var holding: HeldSlice?
        if let slice = hello.holding?.pointee {
            holding = HeldSlice(
                epoch: try FieldCheck.epoch(slice.epoch, "worker_hello.holding.epoch"),
                modelDigest: try FieldCheck.digest(slice.model_digest, "worker_hello.holding.model_digest"),
                layers: try FieldCheck.layers(slice.layers, "worker_hello.holding.layers"))
        }
        return WorkerHello(
            version: try version(hello.version, "worker_hello.version"), session: hello.session,
            name: try FieldCheck.text(hello.name, bytesMax: Limits.nameBytesMax, "worker_hello.name"),
            capabilities: try capabilities(hello.capabilities, "worker_hello.capabilities"),
            dataEndpoint: try FieldCheck.endpoint(hello.data_endpoint, "worker_hello.data_endpoint"), holding: holding,
            lastEpoch: try FieldCheck.epoch(hello.last_epoch, "worker_hello.last_epoch"))
    }

    static func gatewayHello(_ hello: Staffel__V1__GatewayHello) throws(WireError) -> GatewayHello {
        GatewayHello(
            version: try version(hello.version, "gateway_hello.version"), session: hello.session,
            name: try FieldCheck.text(hello.name, bytesMax: Limits.nameBytesMax, "gateway_hello.name"))
    }

    static func gatewayWelcome(_ welcome: Staffel__V1__GatewayWelcome) throws(WireError) -> GatewayWelcome {
        GatewayWelcome(
            version: try version(welcome.version, "gateway_welcome.version"), coordinatorSession: welcome.coordinator_session,
            modelName: try FieldCheck.text(welcome.model_name, bytesMax: Limits.nameBytesMax, "gateway_welcome.model_name"),
            modelDigest: try FieldCheck.digest(welcome.model_digest, "gateway_welcome.model_digest"),
            contextTokens: try FieldCheck.number(welcome.context_tokens, 1...Limits.contextTokensMax, "gateway_welcome.context_tokens"),
            parameterCount: welcome.parameter_count, modelBytes: welcome.model_bytes,
            health: try health(welcome.health, "gateway_welcome.health"))
    }

    static func heartbeat(_ beat: Staffel__V1__Heartbeat) throws(WireError) -> Heartbeat {
        Heartbeat(
            epoch: try FieldCheck.epoch(beat.epoch, "heartbeat.epoch"), lastStep: StepNumber(beat.last_step),
            stepsQueued: Int(beat.steps_queued))
    }

    static func loadProgress(_ progress: Staffel__V1__LoadProgress) throws(WireError) -> LoadProgress {
        LoadProgress(
            epoch: try FieldCheck.epoch(progress.epoch, "load_progress.epoch"), bytesDone: progress.bytes_done, bytesTotal: progress.bytes_total)
    }

    static func health(_ pointer: UnsafeMutablePointer<Staffel__V1__ClusterHealth>?, _ field: String) throws(WireError) -> ClusterHealth {
        let health = try FieldCheck.present(pointer, field)
        return ClusterHealth(
            state: try FieldCheck.kind(health.state, "\(field).state"),
            detail: try FieldCheck.text(health.detail, bytesMax: Limits.messageBytesMax, "\(field).detail"))
    }

    static func stageAssignment(_ assignment: Staffel__V1__StageAssignment) throws(WireError) -> StageAssignment {
        let stageCount = try FieldCheck.number(assignment.stage_count, 1...Limits.stagesMax, "assign.stage_count")
        let stage = try FieldCheck.number(assignment.stage, 0...(stageCount - 1), "assign.stage")
        let upstream = assignment.upstream.len == 0 ? nil : try FieldCheck.key(assignment.upstream, "assign.upstream")
        var downstream: StagePeer?
        if let peer = assignment.downstream?.pointee {
            downstream = StagePeer(
                key: try FieldCheck.key(peer.key, "assign.downstream.key"),
                endpoint: try FieldCheck.endpoint(peer.endpoint, "assign.downstream.endpoint"))
        }
        guard (upstream == nil) == (stage == 0) else { throw FieldCheck.fail("assign.upstream", "contradicts stage \(stage) of \(stageCount)") }
        guard (downstream == nil) == (stage == stageCount - 1) else {
            throw FieldCheck.fail("assign.downstream", "contradicts stage \(stage) of \(stageCount)")
        }
        return StageAssignment(
            epoch: try FieldCheck.epoch(assignment.epoch, "assign.epoch"), stage: stage, stageCount: stageCount,
            layers: try FieldCheck.layers(assignment.layers, "assign.layers"),
            kvBlocks: try FieldCheck.number(assignment.kv_blocks, 1...(1 << 24), "assign.kv_blocks"),
            kvType: try FieldCheck.kind(assignment.kv_type, "assign.kv_type"),
            boundary: try FieldCheck.kind(assignment.boundary, "assign.boundary"),
            modelDigest: try FieldCheck.digest(assignment.model_digest, "assign.model_digest"),
            modelPath: try FieldCheck.text(assignment.model_path, bytesMax: Limits.pathBytesMax, "assign.model_path"),
            upstream: upstream, downstream: downstream)
    }

    static func statusReport(_ report: Staffel__V1__StatusReport) throws(WireError) -> StatusReport {
        StatusReport(
            modelName: try FieldCheck.text(report.model_name, bytesMax: Limits.nameBytesMax, "status.model_name"),
            health: try health(report.health, "status.health"), epoch: try FieldCheck.epoch(report.epoch, "status.epoch"),
            workers: try FieldCheck.list(report.workers, report.n_workers, max: Limits.workersMax, "status.workers", workerStatus),
            gateways: Int(report.gateways), requestsWaiting: Int(report.requests_waiting), sequencesRunning: Int(report.sequences_running),
            kvBlocksUsed: Int(report.kv_blocks_used), kvBlocksTotal: Int(report.kv_blocks_total), stepsInFlight: Int(report.steps_in_flight),
            stepsDone: report.steps_done, tokensGenerated: report.tokens_generated, framesDropped: report.frames_dropped)
    }

    private static func workerStatus(_ status: Staffel__V1__WorkerStatus) throws(WireError) -> WorkerStatus {
        WorkerStatus(
            key: try FieldCheck.key(status.key, "status.worker.key"),
            name: try FieldCheck.text(status.name, bytesMax: Limits.nameBytesMax, "status.worker.name"),
            capabilities: try capabilities(status.capabilities, "status.worker.capabilities"),
            layers: try FieldCheck.layers(status.layers, emptyIsFine: true, "status.worker.layers"),
            state: try FieldCheck.text(status.state, bytesMax: Limits.nameBytesMax, "status.worker.state"),
            computeShare: try FieldCheck.finite(status.compute_share, atLeast: 0, "status.worker.compute_share"),
            lastStep: StepNumber(status.last_step))
    }
}
