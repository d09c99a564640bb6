import CWire
import ClusterCore

/// Messages ↔ frames. What decodes is within `Limits` and consistent in itself; whether it makes sense now is the machines' affair.
///
/// Encoding never fails for values that decoding would accept. Texts for people are cut to their limit; other values out of range are refused by
/// the receiver.
package enum WireCodec {
    package static func encode(_ message: ToCoordinator) -> [UInt8] {
        let arena = PackArena()
        return pack(arena.toCoordinator(message), .toCoordinator, arena)
    }

    package static func encode(_ message: FromCoordinator) -> [UInt8] {
        let arena = PackArena()
        return pack(arena.fromCoordinator(message), .fromCoordinator, arena)
    }

    package static func encode(_ frame: StepFrame) -> [UInt8] {
        let arena = PackArena()
        return pack(arena.stepFrame(frame), .stepFrame, arena)
    }

    package static func encode(_ frame: TransferFrame) -> [UInt8] {
        let arena = PackArena()
        return pack(arena.transferFrame(frame), .transferFrame, arena)
    }

    /// What the last stage sends to the first (`Step.followUp`).
    package static func encodeFollowUp(_ step: Step) -> [UInt8] {
        let arena = PackArena()
        return pack(arena.step(step), .followUp, arena)
    }

    /// What it expects to send (`Worker.foretold`).
    package static func encodeForetold(_ step: Step) -> [UInt8] {
        let arena = PackArena()
        return pack(arena.step(step), .foretold, arena)
    }

    package static func decodeToCoordinator(_ frame: UnsafeRawBufferPointer) throws(WireError) -> ToCoordinator {
        let body = try FrameHeader.body(of: frame, .toCoordinator)
        var budget = UnpackBudget(frameBytes: frame.count)
        return try budget.withUnpacked(body, staffel__v1__to_coordinator__unpack, Unpack.toCoordinator)
    }

    package static func decodeFromCoordinator(_ frame: UnsafeRawBufferPointer) throws(WireError) -> FromCoordinator {
        let body = try FrameHeader.body(of: frame, .fromCoordinator)
        var budget = UnpackBudget(frameBytes: frame.count)
        return try budget.withUnpacked(body, staffel__v1__from_coordinator__unpack, Unpack.fromCoordinator)
    }

    package static func decodeStepFrame(_ frame: UnsafeRawBufferPointer) throws(WireError) -> StepFrame {
        let body = try FrameHeader.body(of: frame, .stepFrame)
        var budget = UnpackBudget(frameBytes: frame.count)
        return try budget.withUnpacked(body, staffel__v1__step_frame__unpack, Unpack.stepFrame)
    }

    package static func decodeTransferFrame(_ frame: UnsafeRawBufferPointer) throws(WireError) -> TransferFrame {
        let body = try FrameHeader.body(of: frame, .transferFrame)
        var budget = UnpackBudget(frameBytes: frame.count)
        return try budget.withUnpacked(body, staffel__v1__transfer_frame__unpack, Unpack.transferFrame)
    }

    package static func decodeFollowUp(_ frame: UnsafeRawBufferPointer) throws(WireError) -> Step { try followUp(frame, .followUp) }

    package static func decodeForetold(_ frame: UnsafeRawBufferPointer) throws(WireError) -> Step { try followUp(frame, .foretold) }

    private static func followUp(_ frame: UnsafeRawBufferPointer, _ kind: FrameHeader.Kind) throws(WireError) -> Step {
        let body = try FrameHeader.body(of: frame, kind)
        var budget = UnpackBudget(frameBytes: frame.count)
        return try budget.withUnpacked(body, staffel__v1__step__unpack, Unpack.followUp)
    }

    /// What a frame between two workers is; asked before it is decoded. Nothing else is, so any other byte means a step's frame.
    package enum BetweenWorkers {
        case step
        case transfer
        case followUp
        case foretold
    }

    package static func kindBetweenWorkers(_ frame: UnsafeRawBufferPointer) -> BetweenWorkers {
        switch frame.count >= FrameHeader.byteCount ? FrameHeader.Kind(rawValue: frame[6]) : nil {
        case .transferFrame: .transfer
        case .followUp: .followUp
        case .foretold: .foretold
        default: .step
        }
    }

    /// Bytes of the activation part beside `frame`: rows × `hidden` values, row by row, little-endian.
    package static func payloadBytes(_ frame: StepFrame, hidden: Int, boundary: BoundaryType) -> Int {
        precondition(hidden > 0 && hidden <= Limits.hiddenMax)
        return frame.step.rowCount * hidden * boundary.bytesPerValue
    }

    package static func checkPayload(byteCount: Int, of frame: StepFrame, hidden: Int, boundary: BoundaryType) throws(WireError) {
        let expected = payloadBytes(frame, hidden: hidden, boundary: boundary)
        guard byteCount == expected else {
            throw WireError(
                .wrongPayload,
                "step \(frame.step.number.value) has \(frame.step.rowCount) rows of \(hidden) values, \(expected) bytes; \(byteCount) bytes came beside it; "
                    + "check that both stages run the same model and boundary type")
        }
    }

    /// The model's raw header beside a `GatewayWelcome`.
    package static func checkModelHeader(byteCount: Int) throws(WireError) {
        guard byteCount > 0, byteCount <= Limits.modelHeaderBytesMax else {
            throw WireError(.wrongPayload, "a model header of \(byteCount) bytes came in; 1 to \(Limits.modelHeaderBytesMax) are read")
        }
    }

    static func pack<Message>(_ message: UnsafeMutablePointer<Message>, _ kind: FrameHeader.Kind, _ arena: PackArena) -> [UInt8] {
        withExtendedLifetime(arena) {
            let base = UnsafeRawPointer(message).assumingMemoryBound(to: ProtobufCMessage.self)
            let size = FrameHeader.byteCount + protobuf_c_message_get_packed_size(base)
            return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
                FrameHeader.write(kind, to: buffer)
                count = FrameHeader.byteCount + protobuf_c_message_pack(base, buffer.baseAddress! + FrameHeader.byteCount)
            }
        }
    }
}
