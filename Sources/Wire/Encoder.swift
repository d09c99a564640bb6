import CWire
import ClusterCore

// Values to protobuf-c's structures, in the order of proto/staffel.proto. Structures live in the arena until they are packed.

enum Encoder {
    static func frame(_ message: ToCoordinator, _ arena: inout Arena) -> Staffel__V1__Frame {
        var frame = Staffel__V1__Frame()
        staffel__v1__frame__init(&frame)
        switch message {
        case .enrol(let request):
            frame.body_case = STAFFEL__V1__FRAME__BODY_ENROL
            frame.enrol = enrol(request, &arena)
        case .workerHello(let hello):
            frame.body_case = STAFFEL__V1__FRAME__BODY_WORKER_HELLO
            frame.worker_hello = workerHello(hello, &arena)
        case .gatewayHello(let hello):
            frame.body_case = STAFFEL__V1__FRAME__BODY_GATEWAY_HELLO
            frame.gateway_hello = gatewayHello(hello, &arena)
        case .heartbeat(let beat):
            frame.body_case = STAFFEL__V1__FRAME__BODY_HEARTBEAT
            frame.heartbeat = heartbeat(beat, &arena)
        case .loadProgress(let progress):
            frame.body_case = STAFFEL__V1__FRAME__BODY_LOAD_PROGRESS
            var value = Staffel__V1__LoadProgress()
            staffel__v1__load_progress__init(&value)
            value.epoch = progress.epoch.value
            value.bytes_done = progress.bytesDone
            value.bytes_total = progress.bytesTotal
            frame.load_progress = arena.pointer(value)
        case .loaded(let epoch):
            frame.body_case = STAFFEL__V1__FRAME__BODY_LOADED
            frame.loaded = epochOnly(epoch, &arena)
        case .loadFailed(let epoch, let fault):
            frame.body_case = STAFFEL__V1__FRAME__BODY_LOAD_FAILED
            var value = Staffel__V1__LoadFailed()
            staffel__v1__load_failed__init(&value)
            value.epoch = epoch.value
            value.failure = failure(fault, &arena)
            frame.load_failed = arena.pointer(value)
        case .stepResult(let result):
            frame.body_case = STAFFEL__V1__FRAME__BODY_STEP_RESULT
            frame.step_result = stepResult(result, &arena)
        case .stepFailed(let epoch, let number, let fault):
            frame.body_case = STAFFEL__V1__FRAME__BODY_STEP_FAILED
            var value = Staffel__V1__StepFailed()
            staffel__v1__step_failed__init(&value)
            value.epoch = epoch.value
            value.number = number.value
            value.failure = failure(fault, &arena)
            frame.step_failed = arena.pointer(value)
        case .leaving:
            frame.body_case = STAFFEL__V1__FRAME__BODY_LEAVING
            frame.leaving = empty(&arena)
        case .submit(let request):
            frame.body_case = STAFFEL__V1__FRAME__BODY_SUBMIT
            frame.submit = generationRequest(request, &arena)
        case .cancel(let id):
            frame.body_case = STAFFEL__V1__FRAME__BODY_CANCEL
            frame.cancel = requestID(id, &arena)
        case .cancelChoice(let id, let choice):
            frame.body_case = STAFFEL__V1__FRAME__BODY_CANCEL_CHOICE
            var value = Staffel__V1__CancelChoice()
            staffel__v1__cancel_choice__init(&value)
            value.request = requestID(id, &arena)
            value.choice = choice
            frame.cancel_choice = arena.pointer(value)
        case .statusQuery:
            frame.body_case = STAFFEL__V1__FRAME__BODY_STATUS_QUERY
            frame.status_query = empty(&arena)
        }
        return frame
    }

    static func frame(_ message: FromCoordinator, _ arena: inout Arena) -> Staffel__V1__Frame {
        var frame = Staffel__V1__Frame()
        staffel__v1__frame__init(&frame)
        switch message {
        case .enrolled:
            frame.body_case = STAFFEL__V1__FRAME__BODY_ENROLLED
            frame.enrolled = empty(&arena)
        case .refused(let fault):
            frame.body_case = STAFFEL__V1__FRAME__BODY_REFUSED
            frame.refused = failure(fault, &arena)
        case .workerWelcome(let welcome):
            frame.body_case = STAFFEL__V1__FRAME__BODY_WORKER_WELCOME
            var value = Staffel__V1__WorkerWelcome()
            staffel__v1__worker_welcome__init(&value)
            value.version = version(welcome.version, &arena)
            frame.worker_welcome = arena.pointer(value)
        case .gatewayWelcome(let welcome):
            frame.body_case = STAFFEL__V1__FRAME__BODY_GATEWAY_WELCOME
            frame.gateway_welcome = gatewayWelcome(welcome, &arena)
        case .heartbeatReply(let beat):
            frame.body_case = STAFFEL__V1__FRAME__BODY_HEARTBEAT_REPLY
            frame.heartbeat_reply = heartbeat(beat, &arena)
        case .assign(let assignment):
            frame.body_case = STAFFEL__V1__FRAME__BODY_ASSIGN
            frame.assign = stageAssignment(assignment, &arena)
        case .release(let epoch):
            frame.body_case = STAFFEL__V1__FRAME__BODY_RELEASE
            frame.release = epochOnly(epoch, &arena)
        case .step(let value):
            frame.body_case = STAFFEL__V1__FRAME__BODY_STEP
            frame.step = step(value, &arena)
        case .health(let state):
            frame.body_case = STAFFEL__V1__FRAME__BODY_HEALTH
            frame.health = health(state, &arena)
        case .tokens(let batch):
            frame.body_case = STAFFEL__V1__FRAME__BODY_TOKENS
            frame.tokens = tokenBatch(batch, &arena)
        case .finished(let id, let choice, let tokenCount, let reason):
            frame.body_case = STAFFEL__V1__FRAME__BODY_FINISHED
            var value = Staffel__V1__Finished()
            staffel__v1__finished__init(&value)
            value.request = requestID(id, &arena)
            value.choice = choice
            value.token_count = UInt32(tokenCount)
            value.reason = UInt32(reason.rawValue)
            frame.finished = arena.pointer(value)
        case .failed(let id, let fault):
            frame.body_case = STAFFEL__V1__FRAME__BODY_FAILED
            var value = Staffel__V1__RequestFailed()
            staffel__v1__request_failed__init(&value)
            value.request = requestID(id, &arena)
            value.failure = failure(fault, &arena)
            frame.failed = arena.pointer(value)
        case .status(let report):
            frame.body_case = STAFFEL__V1__FRAME__BODY_STATUS
            frame.status = statusReport(report, &arena)
        case .closing:
            frame.body_case = STAFFEL__V1__FRAME__BODY_CLOSING
            frame.closing = empty(&arena)
        }
        return frame
    }

    static func frame(_ value: StepFrame, _ arena: inout Arena) -> Staffel__V1__Frame {
        var frame = Staffel__V1__Frame()
        staffel__v1__frame__init(&frame)
        frame.body_case = STAFFEL__V1__FRAME__BODY_STEP_FRAME
        frame.step_frame = stepFrame(value, &arena)
        return frame
    }
}
