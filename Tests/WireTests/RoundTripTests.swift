import ClusterCore
import Testing

@testable import Wire

func decodeToCoordinator(_ bytes: [UInt8]) throws(WireError) -> ToCoordinator {
    let result: Result<ToCoordinator, WireError> = bytes.withUnsafeBytes { buffer in
        Result { () throws(WireError) in try WireCodec.decodeToCoordinator(buffer) }
    }
    return try result.get()
}

func decodeFromCoordinator(_ bytes: [UInt8]) throws(WireError) -> FromCoordinator {
    let result: Result<FromCoordinator, WireError> = bytes.withUnsafeBytes { buffer in
        Result { () throws(WireError) in try WireCodec.decodeFromCoordinator(buffer) }
    }
    return try result.get()
}

func decodeStepFrame(_ bytes: [UInt8]) throws(WireError) -> StepFrame {
    let result: Result<StepFrame, WireError> = bytes.withUnsafeBytes { buffer in
        Result { () throws(WireError) in try WireCodec.decodeStepFrame(buffer) }
    }
    return try result.get()
}

/// What was sent is what arrives, for every kind of message.
@Suite struct RoundTripTests {
    static let seed: UInt64 = 20_261_121

    @Test(arguments: 0..<Seeded.toCoordinatorKinds) func toCoordinator(_ kind: Int) throws {
        var random = Seeded(Self.seed + UInt64(kind))
        for round in 0..<100 {
            let message = random.toCoordinator(kind: kind)
            let decoded = try decodeToCoordinator(WireCodec.encode(message))
            #expect(decoded == message, "seed \(Self.seed), round \(round)")
        }
    }

    @Test(arguments: 0..<Seeded.fromCoordinatorKinds) func fromCoordinator(_ kind: Int) throws {
        var random = Seeded(Self.seed + UInt64(kind))
        for round in 0..<100 {
            let message = random.fromCoordinator(kind: kind)
            let decoded = try decodeFromCoordinator(WireCodec.encode(message))
            #expect(decoded == message, "seed \(Self.seed), round \(round)")
        }
    }

    @Test func stepFrames() throws {
        var random = Seeded(Self.seed)
        for round in 0..<200 {
            let frame = random.stepFrame()
            let decoded = try decodeStepFrame(WireCodec.encode(frame))
            #expect(decoded == frame, "seed \(Self.seed), round \(round)")
            let payload = WireCodec.payloadBytes(frame, hidden: 576, boundary: .bf16)
            #expect(payload == frame.step.rowCount * 576 * 2)
            try WireCodec.checkPayload(byteCount: payload, of: frame, hidden: 576, boundary: .bf16)
            #expect(throws: WireError.self) { try WireCodec.checkPayload(byteCount: payload + 1, of: frame, hidden: 576, boundary: .bf16) }
            #expect(throws: WireError.self) { try WireCodec.checkPayload(byteCount: 2 * payload + 1, of: frame, hidden: 576, boundary: .f32) }
        }
    }

    /// The fullest step that the limits allow: 512 sequences of one row each.
    @Test func fullStep() throws {
        var random = Seeded(Self.seed)
        let full = random.step(segments: Limits.stepSegmentsMax...Limits.stepSegmentsMax, rows: 1...1)
        #expect(full.rowCount == Limits.stepRowsMax)
        #expect(try decodeFromCoordinator(WireCodec.encode(.step(full))) == .step(full))
    }

    @Test func textsForPeopleAreCutAndCleaned() throws {
        let long = String(repeating: "é", count: Limits.messageBytesMax)
        guard case .refused(let failure) = try decodeFromCoordinator(WireCodec.encode(.refused(Failure(.internalError, long)))) else {
            Issue.record("another kind")
            return
        }
        #expect(failure.message == String(repeating: "é", count: Limits.messageBytesMax / 2))
        let escape = FromCoordinator.refused(Failure(.internalError, "a\u{1B}[31mb\u{0}c\nd"))
        #expect(try decodeFromCoordinator(WireCodec.encode(escape)) == .refused(Failure(.internalError, "a\u{FFFD}[31mb\u{FFFD}c\nd")))
    }
}
