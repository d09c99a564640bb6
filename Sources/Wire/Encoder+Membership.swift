import CWire
import ClusterCore

extension Encoder {
    static func empty(_ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__Empty> {
        var value = Staffel__V1__Empty()
        staffel__v1__empty__init(&value)
        return arena.pointer(value)
    }

    static func version(_ version: ProtocolVersion, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__Version> {
        var value = Staffel__V1__Version()
        staffel__v1__version__init(&value)
        value.major = version.major
        value.minor = version.minor
        return arena.pointer(value)
    }

    static func range(_ range: Range<Int>, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__Range> {
        var value = Staffel__V1__Range()
        staffel__v1__range__init(&value)
        value.lower = UInt32(range.lowerBound)
        value.upper = UInt32(range.upperBound)
        return arena.pointer(value)
    }

    static func count(_ count: Int?, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__Count>? {
        guard let count else { return nil }
        var value = Staffel__V1__Count()
        staffel__v1__count__init(&value)
        value.value = UInt64(count)
        return arena.pointer(value)
    }

    static func requestID(_ id: RequestID, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__RequestId> {
        var value = Staffel__V1__RequestId()
        staffel__v1__request_id__init(&value)
        value.high = id.high
        value.low = id.low
        return arena.pointer(value)
    }

    static func failure(_ failure: Failure, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__Failure> {
        var value = Staffel__V1__Failure()
        staffel__v1__failure__init(&value)
        value.code = failure.code.rawValue
        value.message = arena.string(failure.message.cut(toBytes: Limits.messageBytesMax))
        return arena.pointer(value)
    }

    static func epochOnly(_ epoch: Epoch, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__EpochOnly> {
        var value = Staffel__V1__EpochOnly()
        staffel__v1__epoch_only__init(&value)
        value.epoch = epoch.value
        return arena.pointer(value)
    }

    static func enrol(_ request: EnrolRequest, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__EnrolRequest> {
        var value = Staffel__V1__EnrolRequest()
        staffel__v1__enrol_request__init(&value)
        value.version = version(request.version, &arena)
        value.role = UInt32(request.role.rawValue)
        value.key = arena.bytes(request.key.bytes)
        value.name = arena.string(request.name.cut(toBytes: Limits.nameBytesMax))
        return arena.pointer(value)
    }

    static func capabilities(_ capabilities: WorkerCapabilities, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__WorkerCapabilities> {
        var value = Staffel__V1__WorkerCapabilities()
        staffel__v1__worker_capabilities__init(&value)
        value.memory_bytes = capabilities.memoryBytes
        value.threads = UInt32(capabilities.threads)
        value.isa = arena.string(capabilities.isa)
        value.read_bytes_per_second = capabilities.readBytesPerSecond
        value.ops_per_second = capabilities.opsPerSecond
        return arena.pointer(value)
    }

    static func workerHello(_ hello: WorkerHello, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__WorkerHello> {
        var value = Staffel__V1__WorkerHello()
        staffel__v1__worker_hello__init(&value)
        value.version = version(hello.version, &arena)
        value.session = hello.session
        value.name = arena.string(hello.name.cut(toBytes: Limits.nameBytesMax))
        value.capabilities = capabilities(hello.capabilities, &arena)
        value.data_endpoint = arena.string(hello.dataEndpoint)
        value.last_epoch = hello.lastEpoch.value
        if let holding = hello.holding {
            var slice = Staffel__V1__HeldSlice()
            staffel__v1__held_slice__init(&slice)
            slice.epoch = holding.epoch.value
            slice.model_digest = arena.bytes(holding.modelDigest.bytes)
            slice.layers = range(holding.layers, &arena)
            value.holding = arena.pointer(slice)
        }
        return arena.pointer(value)
    }

    static func gatewayHello(_ hello: GatewayHello, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__GatewayHello> {
        var value = Staffel__V1__GatewayHello()
        staffel__v1__gateway_hello__init(&value)
        value.version = version(hello.version, &arena)
        value.session = hello.session
        value.name = arena.string(hello.name.cut(toBytes: Limits.nameBytesMax))
        return arena.pointer(value)
    }

    static func gatewayWelcome(_ welcome: GatewayWelcome, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__GatewayWelcome> {
        var value = Staffel__V1__GatewayWelcome()
        staffel__v1__gateway_welcome__init(&value)
        value.version = version(welcome.version, &arena)
        value.coordinator_session = welcome.coordinatorSession
        value.model_name = arena.string(welcome.modelName.cut(toBytes: Limits.nameBytesMax))
        value.model_digest = arena.bytes(welcome.modelDigest.bytes)
        value.context_tokens = UInt32(welcome.contextTokens)
        value.parameter_count = welcome.parameterCount
        value.model_bytes = welcome.modelBytes
        value.health = health(welcome.health, &arena)
        return arena.pointer(value)
    }

    static func heartbeat(_ beat: Heartbeat, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__Heartbeat> {
        var value = Staffel__V1__Heartbeat()
        staffel__v1__heartbeat__init(&value)
        value.epoch = beat.epoch.value
        value.last_step = beat.lastStep.value
        value.steps_queued = UInt32(clamping: beat.stepsQueued)
        return arena.pointer(value)
    }

    static func health(_ health: ClusterHealth, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__ClusterHealth> {
        var value = Staffel__V1__ClusterHealth()
        staffel__v1__cluster_health__init(&value)
        value.state = UInt32(health.state.rawValue)
        value.detail = arena.string(health.detail.cut(toBytes: Limits.messageBytesMax))
        return arena.pointer(value)
    }

    static func stageAssignment(_ assignment: StageAssignment, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__StageAssignment> {
        var value = Staffel__V1__StageAssignment()
        staffel__v1__stage_assignment__init(&value)
        value.epoch = assignment.epoch.value
        value.stage = UInt32(assignment.stage)
        value.stage_count = UInt32(assignment.stageCount)
        value.layers = range(assignment.layers, &arena)
        value.kv_blocks = UInt32(assignment.kvBlocks)
        value.kv_type = UInt32(assignment.kvType.rawValue)
        value.boundary = UInt32(assignment.boundary.rawValue)
        value.model_digest = arena.bytes(assignment.modelDigest.bytes)
        value.model_path = arena.string(assignment.modelPath.cut(toBytes: Limits.pathBytesMax))
        value.upstream = arena.bytes(assignment.upstream?.bytes ?? [])
        if let downstream = assignment.downstream {
            var peer = Staffel__V1__StagePeer()
            staffel__v1__stage_peer__init(&peer)
            peer.key = arena.bytes(downstream.key.bytes)
            peer.endpoint = arena.string(downstream.endpoint)
            value.downstream = arena.pointer(peer)
        }
        return arena.pointer(value)
    }

    static func statusReport(_ report: StatusReport, _ arena: inout Arena) -> UnsafeMutablePointer<Staffel__V1__StatusReport> {
        var value = Staffel__V1__StatusReport()
        staffel__v1__status_report__init(&value)
        value.model_name = arena.string(report.modelName.cut(toBytes: Limits.nameBytesMax))
        value.health = health(report.health, &arena)
        value.epoch = report.epoch.value
        let workers = report.workers.map { worker in workerStatus(worker, &arena) }
        value.n_workers = workers.count
        value.workers = arena.pointers(workers)
        value.gateways = UInt32(clamping: report.gateways)
        value.requests_waiting = UInt32(clamping: report.requestsWaiting)
        value.sequences_running = UInt32(clamping: report.sequencesRunning)
        value.kv_blocks_used = UInt32(clamping: report.kvBlocksUsed)
        value.kv_blocks_total = UInt32(clamping: report.kvBlocksTotal)
        value.steps_in_flight = UInt32(clamping: report.stepsInFlight)
        value.steps_done = report.stepsDone
        value.tokens_generated = report.tokensGenerated
        value.frames_dropped = report.framesDropped
        return arena.pointer(value)
    }

    private static func workerStatus(_ status: WorkerStatus, _ arena: inout Arena) -> Staffel__V1__WorkerStatus {
        var value = Staffel__V1__WorkerStatus()
        staffel__v1__worker_status__init(&value)
        value.key = arena.bytes(status.key.bytes)
        value.name = arena.string(status.name.cut(toBytes: Limits.nameBytesMax))
        value.capabilities = capabilities(status.capabilities, &arena)
        value.layers = range(status.layers, &arena)
        value.state = arena.string(status.state.cut(toBytes: Limits.nameBytesMax))
        value.compute_share = status.computeShare
        value.last_step = status.lastStep.value
        return value
    }
}

extension String {
    /// The longest prefix of whole characters within so many bytes of UTF-8.
    func cut(toBytes limit: Int) -> String {
        guard utf8.count > limit else { return self }
        var end = utf8.index(startIndex, offsetBy: limit)
        while end > startIndex, end.samePosition(in: unicodeScalars) == nil { end = utf8.index(before: end) }
        return String(self[..<end])
    }
}
