import ClusterCore
import Testing

@testable import Wire

func decodeTransferFrame(_ bytes: [UInt8]) throws(WireError) -> TransferFrame {
    let result: Result<TransferFrame, WireError> = bytes.withUnsafeBytes { buffer in
        Result { () throws(WireError) in try WireCodec.decodeTransferFrame(buffer) }
    }
    return try result.get()
}

func decodeFollowUp(_ bytes: [UInt8]) throws(WireError) -> Step {
    let result: Result<Step, WireError> = bytes.withUnsafeBytes { buffer in
        Result { () throws(WireError) in try WireCodec.decodeFollowUp(buffer) }
    }
    return try result.get()
}

func decodeForetold(_ bytes: [UInt8]) throws(WireError) -> Step {
    let result: Result<Step, WireError> = bytes.withUnsafeBytes { buffer in
        Result { () throws(WireError) in try WireCodec.decodeForetold(buffer) }
    }
    return try result.get()
}

@Suite struct HandoverFrameTests {
    static let seed: UInt64 = 20_261_122

    @Test func roundTrip() throws {
        var random = Seeded(Self.seed)
        for round in 0..<300 {
            let frame = random.transferFrame()
            #expect(try decodeTransferFrame(WireCodec.encode(frame)) == frame, "seed \(Self.seed), round \(round)")
            let order = FromCoordinator.handover(random.handoverOrder())
            #expect(try decodeFromCoordinator(WireCodec.encode(order)) == order, "seed \(Self.seed), round \(round)")
            let report = ToCoordinator.handoverReport(random.handoverReport())
            #expect(try decodeToCoordinator(WireCodec.encode(report)) == report, "seed \(Self.seed), round \(round)")
        }
    }

    @Test func framesOfOneKindAreNotTakenForAnother() throws {
        let frame = KVFrame(epoch: Epoch(1), number: 1, layers: 0..<2, blocks: [BlockID(3)])
        let bytes = WireCodec.encode(TransferFrame.blocks(frame))
        #expect(bytes.withUnsafeBytes { WireCodec.kindBetweenWorkers($0) } == .transfer)
        #expect(throws: WireError.self) { try decodeStepFrame(bytes) }
        #expect(WireCodec.encode(.leaving).withUnsafeBytes { WireCodec.kindBetweenWorkers($0) } == .step)
        #expect([UInt8](repeating: 40, count: 7).withUnsafeBytes { WireCodec.kindBetweenWorkers($0) } == .step)
    }

    @Test func followUpsComeAlone() throws {
        var random = Seeded(11)
        for _ in 0..<200 {
            let step = random.followUp()
            let bytes = WireCodec.encodeFollowUp(step)
            #expect(bytes.withUnsafeBytes { WireCodec.kindBetweenWorkers($0) } == .followUp)
            #expect(try decodeFollowUp(bytes) == step)
            #expect(throws: WireError.self) { try decodeStepFrame(bytes) }
        }
        func refused(_ change: (inout Step) -> Void) -> String? {
            var step = random.followUp()
            change(&step)
            return (#expect(throws: WireError.self) { try decodeFollowUp(WireCodec.encodeFollowUp(step)) })?.field
        }
        #expect(refused { $0.segments = [] } == "Step.segments")
        #expect(refused { $0.segments[0].newBlocks = [BlockID(1)] } == "Step.segments")
        #expect(refused { $0.segments[0].samples = false } == "Step.segments")
        #expect(refused { $0.segments[0].tokens.append(1) } == "Step.segments")
        #expect(refused { $0.closes = [SequenceID(1)] } == "Step.segments")
        #expect(refused { $0.followUps = Limits.followUpsMax + 1 } == "Step.follow_ups")
    }

    @Test func foretoldStepsAreNoSteps() throws {
        var random = Seeded(12)
        for _ in 0..<100 {
            let step = random.followUp()
            let bytes = WireCodec.encodeForetold(step)
            #expect(bytes.withUnsafeBytes { WireCodec.kindBetweenWorkers($0) } == .foretold)
            #expect(try decodeForetold(bytes) == step)
            #expect(throws: WireError.self) { try decodeFollowUp(bytes) }
            #expect(throws: WireError.self) { try decodeForetold(WireCodec.encodeFollowUp(step)) }
        }
        var step = random.followUp()
        step.segments[0].newBlocks = [BlockID(1)]
        #expect((#expect(throws: WireError.self) { try decodeForetold(WireCodec.encodeForetold(step)) })?.field == "Step.segments")
    }

    @Test func whatIsOutOfBoundsIsRefused() {
        func refused(_ frame: KVFrame) -> String? {
            (#expect(throws: WireError.self) { try decodeTransferFrame(WireCodec.encode(.blocks(frame))) })?.field
        }
        let block = BlockID(1)
        #expect(refused(KVFrame(epoch: Epoch(1), number: 1, layers: 0..<1, blocks: [])) == "KvFrame.blocks")
        #expect(refused(KVFrame(epoch: Epoch(1), number: 1, layers: 0..<1, blocks: [block, block])) == "KvFrame.blocks")
        #expect(refused(KVFrame(epoch: Epoch(1), number: 1, layers: 3..<3, blocks: [block])) == "KvFrame.layers")
        let many = (0...UInt32(Limits.kvFrameBlocksMax)).map { BlockID($0) }
        #expect(refused(KVFrame(epoch: Epoch(1), number: 1, layers: 0..<1, blocks: many)) == "KvFrame.blocks")
        #expect(refused(KVFrame(epoch: Epoch(1 << 63), number: 1, layers: 0..<1, blocks: [block])) == "KvFrame.epoch")

        func refused(_ order: KVOrder) -> String? {
            (#expect(throws: WireError.self) { try decodeFromCoordinator(WireCodec.encode(.handover(.send(order)))) })?.field
        }
        let target = KVTarget(peer: StagePeer(key: PeerKey(bytes: [UInt8](repeating: 1, count: 32))!, endpoint: "tcp://127.0.0.1:1"), layers: 0..<1)
        func order(_ blocks: [BlockID], _ targets: [KVTarget], _ bytes: Int = 64) -> KVOrder {
            KVOrder(epoch: Epoch(1), round: 1, blocks: blocks, targets: targets, blockBytes: bytes)
        }
        #expect(refused(order([BlockID(2), BlockID(1)], [target])) == "KvOrder.blocks")
        #expect(refused(order([block], [])) == "KvOrder.targets")
        #expect(refused(order([block], [target], Limits.kvBlockBytesMax + 1)) == "KvOrder.block_bytes")
    }

    /// Damaged frames are refused or give other values within the bounds; nothing traps.
    @Test func damagedFramesNeverTrap() {
        var random = Seeded(Self.seed + 1)
        for _ in 0..<5_000 {
            var bytes = WireCodec.encode(random.transferFrame())
            for _ in 0...random.int(0...3) { bytes[random.int(0...bytes.count - 1)] = UInt8(random.int(0...255)) }
            if random.bool() { bytes.removeLast(random.int(0...bytes.count - 1)) }
            guard case .blocks(let frame)? = try? decodeTransferFrame(bytes) else { continue }
            #expect(!frame.blocks.isEmpty && frame.blocks.count <= Limits.kvFrameBlocksMax && !frame.layers.isEmpty)
        }
    }
}
