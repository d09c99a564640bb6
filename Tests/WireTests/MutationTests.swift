import CWire
import ClusterCore
import Testing

@testable import Wire

/// Frames that were damaged or forged: never a trap, never more memory than the budget, always an error or a value that keeps every rule.
@Suite struct MutationTests {
    static let frames = 20_000
    static let seed: UInt64 = 0x5EED

    /// A value that decodes from damaged bytes must survive a round trip like any other.
    @Test func damagedFrames() throws {
        var random = Seeded(Self.seed)
        var refused: [WireError.Code: Int] = [:]
        var taken = 0
        for round in 0..<Self.frames {
            let (kind, original) = Self.frame(round, &random)
            let bytes = Self.damaged(original, &random)
            do throws(WireError) {
                try Self.decodeAgain(bytes, kind, round)
                taken += 1
            } catch { refused[error.code, default: 0] += 1 }
        }
        print(
            "seed \(Self.seed): \(taken) of \(Self.frames) damaged frames still decoded, refused: \(refused.map { "\($0.key.rawValue) \($0.value)" }.sorted())"
        )
        // A test that damages nothing, or everything at once, would prove nothing.
        #expect(taken > Self.frames / 100)
        #expect(refused[.malformed, default: 0] > Self.frames / 100)
        #expect(refused[.invalidField, default: 0] > Self.frames / 100)
    }

    /// Every beginning of a frame.
    @Test func cutFrames() {
        var random = Seeded(Self.seed)
        for kind in 0..<Seeded.fromCoordinatorKinds {
            let bytes = WireCodec.encode(random.fromCoordinator(kind: kind))
            for count in 0..<min(bytes.count, 400) { _ = try? decodeFromCoordinator(Array(bytes.prefix(count))) }
        }
    }

    /// Bytes that were never a frame, behind a good header.
    @Test func noise() {
        var random = Seeded(Self.seed)
        for _ in 0..<5_000 {
            let noise = (0..<random.int(0...300)).map { _ in UInt8.random(in: 0...255, using: &random) }
            _ = try? decodeToCoordinator(FrameHeader.bytes(.toCoordinator) + noise)
            _ = try? decodeFromCoordinator(FrameHeader.bytes(.fromCoordinator) + noise)
            _ = try? decodeStepFrame(FrameHeader.bytes(.stepFrame) + noise)
        }
    }

    private static func frame(_ round: Int, _ random: inout Seeded) -> (FrameHeader.Kind, [UInt8]) {
        let kind = round % (Seeded.toCoordinatorKinds + Seeded.fromCoordinatorKinds + 8)
        if kind < Seeded.toCoordinatorKinds { return (.toCoordinator, WireCodec.encode(random.toCoordinator(kind: kind))) }
        let other = kind - Seeded.toCoordinatorKinds
        if other < Seeded.fromCoordinatorKinds { return (.fromCoordinator, WireCodec.encode(random.fromCoordinator(kind: other))) }
        switch other - Seeded.fromCoordinatorKinds {
        case 0: return (.weightsRequest, WireCodec.encode(random.weightsRequest()))
        case 1: return (.weightsReply, WireCodec.encode(random.weightsReply()))
        case 2: return (.weightManifest, WireCodec.encode(random.weightManifest()))
        case 3: return (.followUp, WireCodec.encodeFollowUp(random.followUp()))
        case 4: return (.foretold, WireCodec.encodeForetold(random.followUp()))
        default: return (.stepFrame, WireCodec.encode(random.stepFrame()))
        }
    }

    private static func damaged(_ frame: [UInt8], _ random: inout Seeded) -> [UInt8] {
        var bytes = frame
        for _ in 0..<Int.random(in: 1...3, using: &random) where bytes.count > FrameHeader.byteCount {
            // The header has tests of its own; damaging it mostly would leave the rest untried.
            let at = Int.random(in: random.next() % 50 == 0 ? 0..<bytes.count : FrameHeader.byteCount..<bytes.count, using: &random)
            switch random.next() % 6 {
            case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
            case 1: bytes[at] ^= 1 << UInt8.random(in: 0...7, using: &random)
            case 2: bytes.removeSubrange(at..<min(bytes.count, at + Int.random(in: 1...8, using: &random)))
            case 3:
                bytes.insert(contentsOf: (0..<Int.random(in: 1...8, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }, at: at)
            case 4: bytes += bytes[at...]
            default: bytes[at] = [0, 0x7F, 0x80, 0xFF].randomElement(using: &random)!
            }
        }
        return bytes
    }

    private static func decodeAgain(_ bytes: [UInt8], _ kind: FrameHeader.Kind, _ round: Int) throws(WireError) {
        switch kind {
        case .toCoordinator:
            let value = try decodeToCoordinator(bytes)
            #expect(try decodeToCoordinator(WireCodec.encode(value)) == value, "seed \(seed), round \(round)")
        case .fromCoordinator:
            let value = try decodeFromCoordinator(bytes)
            #expect(try decodeFromCoordinator(WireCodec.encode(value)) == value, "seed \(seed), round \(round)")
        case .stepFrame:
            let value = try decodeStepFrame(bytes)
            #expect(try decodeStepFrame(WireCodec.encode(value)) == value, "seed \(seed), round \(round)")
        case .transferFrame:
            let value = try decodeTransferFrame(bytes)
            #expect(try decodeTransferFrame(WireCodec.encode(value)) == value, "seed \(seed), round \(round)")
        case .followUp:
            let value = try decodeFollowUp(bytes)
            #expect(try decodeFollowUp(WireCodec.encodeFollowUp(value)) == value, "seed \(seed), round \(round)")
        case .foretold:
            let value = try decodeForetold(bytes)
            #expect(try decodeForetold(WireCodec.encodeForetold(value)) == value, "seed \(seed), round \(round)")
        case .weightsRequest:
            let value = try decodeWeightsRequest(bytes)
            #expect(try decodeWeightsRequest(WireCodec.encode(value)) == value, "seed \(seed), round \(round)")
        case .weightsReply:
            let value = try decodeWeightsReply(bytes)
            #expect(try decodeWeightsReply(WireCodec.encode(value)) == value, "seed \(seed), round \(round)")
        case .weightManifest:
            let value = try decodeWeightManifest(bytes)
            #expect(WireCodec.encode(value) == bytes, "seed \(seed), round \(round)")
        }
    }
}

@Suite struct UnpackBudgetTests {
    /// Prints what honest frames cost, which is what the named multiple was chosen by: at most half of it.
    @Test func honestFramesStayFarBelow() throws {
        var random = Seeded(MutationTests.seed)
        var worst = 0.0
        var frames: [[UInt8]] = []
        for _ in 0..<50 { for kind in 0..<Seeded.fromCoordinatorKinds { frames.append(WireCodec.encode(random.fromCoordinator(kind: kind))) } }
        let decode = random.step(segments: Limits.stepSegmentsMax...Limits.stepSegmentsMax, rows: 1...1)
        frames.append(WireCodec.encode(.step(Step(epoch: Epoch(1), number: StepNumber(1), segments: decode.segments))))
        let plain = (0..<Limits.stepSegmentsMax).map {
            Segment(sequence: SequenceID(UInt64($0)), start: $0, tokens: [1], newBlocks: [], samples: true)
        }
        frames.append(WireCodec.encode(.step(Step(epoch: Epoch(1), number: StepNumber(1), segments: plain))))
        for frame in frames {
            let share = try Self.share(of: frame)
            worst = max(worst, share)
        }
        print("the costliest of \(frames.count) honest frames took \(Int(worst * 100)) % of its memory budget")
        #expect(worst < 0.5)
    }

    /// Two wire bytes for each empty submessage: the dearest bytes there are.
    @Test func emptySubmessagesAreRefusedAtTheBound() {
        let bomb: [UInt8] = (0..<400_000).map { $0 % 2 == 0 ? 0x2A : 0 }
        let step: [UInt8] = [0x42] + Self.varint(bomb.count) + bomb
        let frame = FrameHeader.bytes(.fromCoordinator) + step
        let body = Array(frame.dropFirst(FrameHeader.byteCount))
        var budget = UnpackBudget(frameBytes: frame.count)
        let error = Self.unpackError(body, &budget)
        #expect(error?.code == .malformed)
        #expect(budget.granted <= UnpackBudget.bytesFixed + frame.count * UnpackBudget.bytesPerFrameByte)
        #expect(throws: WireError.self) { try decodeFromCoordinator(frame) }
    }

    /// Wherever memory ends, protobuf-c gives back what it took and says no.
    @Test func everyBudgetIsSafe() {
        var random = Seeded(MutationTests.seed)
        let bodies = [7, 12, 9].map { Array(WireCodec.encode(random.fromCoordinator(kind: $0)).dropFirst(FrameHeader.byteCount)) }
        for body in bodies {
            for bytes in stride(from: 0, to: 12_000, by: 24) {
                var budget = UnpackBudget(bytes: bytes)
                _ = Self.unpackError(body, &budget)
                #expect(budget.granted <= bytes)
            }
        }
    }

    private static func share(of frame: [UInt8]) throws -> Double {
        var budget = UnpackBudget(frameBytes: frame.count)
        let allowed = budget.left
        let error = unpackError(Array(frame.dropFirst(FrameHeader.byteCount)), &budget)
        try #require(error == nil)
        return Double(budget.granted) / Double(allowed)
    }

    private static func unpackError(_ body: [UInt8], _ budget: inout UnpackBudget) -> WireError? {
        body.withUnsafeBytes { buffer in
            do throws(WireError) {
                _ = try budget.withUnpacked(buffer, staffel__v1__from_coordinator__unpack) { (_) throws(WireError) in 0 }
                return nil
            } catch { return error }
        }
    }

    private static func varint(_ value: Int) -> [UInt8] {
        value < 0x80 ? [UInt8(value)] : [UInt8(value & 0x7F | 0x80)] + varint(value >> 7)
    }
}
