import CWire
import ClusterCore

// protobuf-c's structures to values, each field checked. The structures live as long as the call.

enum Decoder {
    static func toCoordinator(_ frame: Staffel__V1__Frame) throws(WireError) -> ToCoordinator {
        switch frame.body_case {
        case STAFFEL__V1__FRAME__BODY_ENROL: .enrol(try enrol(frame.enrol.pointee))
        case STAFFEL__V1__FRAME__BODY_WORKER_HELLO: .workerHello(try workerHello(frame.worker_hello.pointee))
        case STAFFEL__V1__FRAME__BODY_GATEWAY_HELLO: .gatewayHello(try gatewayHello(frame.gateway_hello.pointee))
        case STAFFEL__V1__FRAME__BODY_HEARTBEAT: .heartbeat(try heartbeat(frame.heartbeat.pointee))
        case STAFFEL__V1__FRAME__BODY_LOAD_PROGRESS: .loadProgress(try loadProgress(frame.load_progress.pointee))
        case STAFFEL__V1__FRAME__BODY_LOADED: .loaded(try FieldCheck.epoch(frame.loaded.pointee.epoch, "loaded.epoch"))
        case STAFFEL__V1__FRAME__BODY_LOAD_FAILED:
            .loadFailed(
                try FieldCheck.epoch(frame.load_failed.pointee.epoch, "load_failed.epoch"),
                try failure(frame.load_failed.pointee.failure, "load_failed.failure"))
        case STAFFEL__V1__FRAME__BODY_STEP_RESULT: .stepResult(try stepResult(frame.step_result.pointee))
        case STAFFEL__V1__FRAME__BODY_STEP_FAILED:
            .stepFailed(
                try FieldCheck.epoch(frame.step_failed.pointee.epoch, "step_failed.epoch"), StepNumber(frame.step_failed.pointee.number),
                try failure(frame.step_failed.pointee.failure, "step_failed.failure"))
        case STAFFEL__V1__FRAME__BODY_LEAVING: .leaving
        case STAFFEL__V1__FRAME__BODY_SUBMIT: .submit(try generationRequest(frame.submit.pointee))
        case STAFFEL__V1__FRAME__BODY_CANCEL: .cancel(requestID(frame.cancel.pointee))
        case STAFFEL__V1__FRAME__BODY_CANCEL_CHOICE:
            .cancelChoice(
                try requestID(frame.cancel_choice.pointee.request, "cancel_choice.request"),
                try choice(frame.cancel_choice.pointee.choice, "cancel_choice.choice"))
        case STAFFEL__V1__FRAME__BODY_STATUS_QUERY: .statusQuery
        default: throw unknown(frame, "the coordinator")
        }
    }

    static func fromCoordinator(_ frame: Staffel__V1__Frame) throws(WireError) -> FromCoordinator {
        switch frame.body_case {
        case STAFFEL__V1__FRAME__BODY_ENROLLED: .enrolled
        case STAFFEL__V1__FRAME__BODY_REFUSED: .refused(try failure(frame.refused, "refused"))
        case STAFFEL__V1__FRAME__BODY_WORKER_WELCOME:
            .workerWelcome(WorkerWelcome(version: try version(frame.worker_welcome.pointee.version, "worker_welcome.version")))
        case STAFFEL__V1__FRAME__BODY_GATEWAY_WELCOME: .gatewayWelcome(try gatewayWelcome(frame.gateway_welcome.pointee))
        case STAFFEL__V1__FRAME__BODY_HEARTBEAT_REPLY: .heartbeatReply(try heartbeat(frame.heartbeat_reply.pointee))
        case STAFFEL__V1__FRAME__BODY_ASSIGN: .assign(try stageAssignment(frame.assign.pointee))
        case STAFFEL__V1__FRAME__BODY_RELEASE: .release(try FieldCheck.epoch(frame.release.pointee.epoch, "release.epoch"))
        case STAFFEL__V1__FRAME__BODY_STEP: .step(try step(frame.step.pointee))
        case STAFFEL__V1__FRAME__BODY_HEALTH: .health(try health(frame.health, "health"))
        case STAFFEL__V1__FRAME__BODY_TOKENS: .tokens(try tokenBatch(frame.tokens.pointee))
        case STAFFEL__V1__FRAME__BODY_FINISHED: try finished(frame.finished.pointee)
        case STAFFEL__V1__FRAME__BODY_FAILED:
            .failed(try requestID(frame.failed.pointee.request, "failed.request"), try failure(frame.failed.pointee.failure, "failed.failure"))
        case STAFFEL__V1__FRAME__BODY_STATUS: .status(try statusReport(frame.status.pointee))
        case STAFFEL__V1__FRAME__BODY_CLOSING: .closing
        default: throw unknown(frame, "this process")
        }
    }

    static func stepFrame(_ frame: Staffel__V1__Frame) throws(WireError) -> StepFrame {
        guard frame.body_case == STAFFEL__V1__FRAME__BODY_STEP_FRAME else { throw unknown(frame, "a stage") }
        return try stepFrame(frame.step_frame.pointee)
    }

    private static func unknown(_ frame: Staffel__V1__Frame, _ receiver: String) -> WireError {
        WireError(.unknownMessage, "a message of kind \(frame.body_case.rawValue) came, which \(receiver) does not take")
    }
}
