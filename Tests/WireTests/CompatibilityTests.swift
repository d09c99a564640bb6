import ClusterCore
import Testing

@testable import Wire

/// What other releases rely on.
@Suite struct CompatibilityTests {
    private static func hex(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// Bytes of the wire as they were when protocol 2.0 was fixed. A change here is a change of the protocol's major, never of the test.
    @Test func goldenBytes() throws {
        #expect(Self.hex(WireCodec.encode(.leaving)) == "5354464c020001005200")
        #expect(Self.hex(WireCodec.encode(.closing)) == "5354464c020002007200")
        #expect(
            Self.hex(WireCodec.encode(.heartbeat(Heartbeat(epoch: Epoch(3), lastStep: StepNumber(300), stepsQueued: 2))))
                == "5354464c02000100220708031 0ac021802".replacingBlanks)
        #expect(
            Self.hex(WireCodec.encode(.cancel(RequestID(high: 1, low: 0x0203))))
                == "5354464c02000100621209 0100000000000000 11 0302000000000000".replacingBlanks)
        let frame = StepFrame(
            step: Step(
                epoch: Epoch(1), number: StepNumber(2), closes: [SequenceID(9)],
                segments: [Segment(sequence: SequenceID(7), start: 5, tokens: [300], newBlocks: [BlockID(4)], samples: true)]),
            timings: [StageTiming(queueNanoseconds: 1, computeNanoseconds: 128)])
        let step = "0801 1002 2208 0900000000000000 2a12 0807 1005 1a04 2c010000 2204 04000000 2801"
        let expected = "5354464c02000300 0a22 \(step) 1205 0801 108001"
        #expect(Self.hex(WireCodec.encode(frame)) == expected.replacingBlanks)
        #expect(try decodeStepFrame(WireCodec.encode(frame)) == frame)
    }

    /// Fields that came after 2.0: old bytes say nothing of them, and what says nothing is written as the old bytes.
    @Test func laterFieldsAreLeftOutWhereTheyAreZero() throws {
        func bytes(_ timing: StageTiming) -> [UInt8] {
            WireCodec.encode(
                .stepResult(StepResult(epoch: Epoch(1), number: StepNumber(2), tokens: [], poisoned: [], timings: [timing])))
        }
        #expect(Self.hex(bytes(StageTiming(queueNanoseconds: 1, computeNanoseconds: 2))) == "5354464c02000100420a08011002 2a04 08011002".replacingBlanks)
        let full = StageTiming(queueNanoseconds: 1, computeNanoseconds: 2, idleNanoseconds: 3, handOverNanoseconds: 4)
        #expect(Self.hex(bytes(full)) == "5354464c02000100420e08011002 2a08 0801100218032004".replacingBlanks)
        // An idle time beyond what the wire carries is cut, not refused: a cluster may rest for weeks.
        let rested = StageTiming(queueNanoseconds: 1, computeNanoseconds: 2, idleNanoseconds: .max, handOverNanoseconds: .max)
        guard case .stepResult(let result) = try decodeToCoordinator(bytes(rested)) else { throw WireError(.malformed, "another message") }
        #expect(result.timings.first?.idleNanoseconds == WireLimits.nanosecondsMax)
    }

    @Test func unknownFieldsAreIgnored() throws {
        // Field 1000 as a number, field 1001 as bytes, behind a message and inside of one.
        let unknown: [UInt8] = [0xC0, 0x3E, 5, 0xCA, 0x3E, 2, 1, 2]
        #expect(try decodeToCoordinator(WireCodec.encode(.leaving) + unknown) == .leaving)
        let note = FrameHeader.bytes(.toCoordinator) + [0x32, UInt8(2 + unknown.count), 0x08, 9] + unknown
        #expect(try decodeToCoordinator(note) == .loaded(Epoch(9)))
    }

    @Test func unknownKindsAreTold() {
        for body in [[], [0xFA, 0x01, 0]] as [[UInt8]] {
            let to = #expect(throws: WireError.self) { try decodeToCoordinator(FrameHeader.bytes(.toCoordinator) + body) }
            #expect(to?.code == .unknownMessage)
            let from = #expect(throws: WireError.self) { try decodeFromCoordinator(FrameHeader.bytes(.fromCoordinator) + body) }
            #expect(from?.code == .unknownMessage)
        }
    }

    /// A foreign peer, another release, the wrong socket and a damaged frame are four different things to tell a person.
    @Test func headers() {
        func code(_ bytes: [UInt8]) -> WireError.Code? { (#expect(throws: WireError.self) { try decodeToCoordinator(bytes) })?.code }
        let good = WireCodec.encode(.statusQuery)
        for foreign in [[], Array("GET / HTTP/1.1\r\n".utf8), Array("STFL".utf8), [UInt8](repeating: 0, count: 64)] {
            #expect(code(foreign) == .notStaffel)
        }
        #expect(code(FrameHeader.bytes(.toCoordinator, major: 3) + good.dropFirst(8)) == .versionMismatch)
        #expect(code(FrameHeader.bytes(.toCoordinator, major: 257) + good.dropFirst(8)) == .versionMismatch)
        #expect(code(FrameHeader.bytes(.fromCoordinator) + good.dropFirst(8)) == .wrongFrame)
        #expect(code(FrameHeader.bytes(.toCoordinator) + [0x6A, 9]) == .malformed)
        #expect(code(good + [UInt8](repeating: 0, count: Limits.controlFrameBytesMax)) == .tooLarge)
    }

    @Test func modelHeaders() throws {
        try WireCodec.checkModelHeader(byteCount: Limits.modelHeaderBytesMax)
        for count in [0, Limits.modelHeaderBytesMax + 1] { #expect(throws: WireError.self) { try WireCodec.checkModelHeader(byteCount: count) } }
    }
}

extension String {
    fileprivate var replacingBlanks: String { filter { $0 != " " } }
}
