import CWire
import ClusterCore

/// ClusterCore's messages as frames, and frames as messages. What `decode…` returns is within `Limits` and consistent in itself, so machines
/// need not look at lengths and ranges again.
package enum WireCodec {
    package static func encode(_ message: ToCoordinator) -> [UInt8] { pack { arena in Encoder.frame(message, &arena) } }

    package static func encode(_ message: FromCoordinator) -> [UInt8] { pack { arena in Encoder.frame(message, &arena) } }

    /// A step on its way to the next stage; its rows are a part of their own, see `payloadBytes`.
    package static func encode(_ frame: StepFrame) -> [UInt8] { pack { arena in Encoder.frame(frame, &arena) } }

    package static func decodeToCoordinator(_ bytes: UnsafeRawBufferPointer) throws(WireError) -> ToCoordinator {
        try BoundedUnpack.withFrame(FrameHeader.body(of: bytes)) { frame throws(WireError) in try Decoder.toCoordinator(frame) }
    }

    package static func decodeFromCoordinator(_ bytes: UnsafeRawBufferPointer) throws(WireError) -> FromCoordinator {
        try BoundedUnpack.withFrame(FrameHeader.body(of: bytes)) { frame throws(WireError) in try Decoder.fromCoordinator(frame) }
    }

    package static func decodeStepFrame(_ bytes: UnsafeRawBufferPointer) throws(WireError) -> StepFrame {
        try BoundedUnpack.withFrame(FrameHeader.body(of: bytes)) { frame throws(WireError) in try Decoder.stepFrame(frame) }
    }

    /// How many bytes of rows travel beside a step frame: rows × hidden × the boundary's value size.
    package static func payloadBytes(_ frame: StepFrame, hidden: Int, boundary: BoundaryType) -> Int {
        frame.step.rowCount * hidden * boundary.bytesPerValue
    }

    private static func pack(_ make: (inout Arena) -> Staffel__V1__Frame) -> [UInt8] {
        var arena = Arena()
        var frame = make(&arena)
        let size = staffel__v1__frame__get_packed_size(&frame)
        return [UInt8](unsafeUninitializedCapacity: FrameHeader.byteCount + size) { buffer, count in
            _ = buffer.initialize(from: FrameHeader.bytes)
            count = FrameHeader.byteCount + staffel__v1__frame__pack(&frame, buffer.baseAddress! + FrameHeader.byteCount)
        }
    }
}
