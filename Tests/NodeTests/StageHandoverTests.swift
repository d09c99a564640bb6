import ClusterCore
import Engine
import Testing

@testable import Node

/// Stage threads change their layers in mid-text, with keys and values carried over bit for bit. `StreamedHandoverTests` plays with the same hands.
@Suite struct StageHandoverTests {
    private let folder: TemporaryFolder
    let tiny: TinyModel
    static let prompt: [TokenID] = (0..<45).map { $0 * 13 % 97 }
    static let blocks = [BlockID(5), BlockID(0), BlockID(3)]

    init() throws {
        folder = try TemporaryFolder()
        tiny = try TinyModel(folder)
    }

    func assignment(_ epoch: UInt64, _ stage: Int, of count: Int, _ layers: Range<Int>, _ kvType: ClusterCore.KVType) -> StageAssignment {
        var assignment = tiny.assignment(epoch: epoch, stage: stage, of: count, layers: layers)
        assignment.kvType = kvType
        return assignment
    }

    private var sampling: SamplingParameters {
        var sampling = SamplingParameters()
        sampling.temperature = 1
        sampling.repetitionPenalty = 1.3
        sampling.seed = 11
        return sampling
    }

    /// Rows of the one sequence from `start` on; the first of an epoch makes it known, with what is computed already.
    func step(_ number: UInt64, epoch: UInt64, all: [TokenID], start: Int, opens: Bool) -> StepFrame {
        let tokens = Array(all[start...])
        let open = SequenceOpen(
            sequence: SequenceID(1), choice: 0, tokens: all, promptLength: Self.prompt.count, cached: start, sampling: sampling, endTokens: [],
            topLogprobs: nil)
        return StepFrame(
            step: Step(
                epoch: Epoch(epoch), number: StepNumber(number), opens: opens ? [open] : [],
                segments: [Segment(sequence: SequenceID(1), start: start, tokens: tokens, newBlocks: opens ? Self.blocks : [], samples: true)]))
    }

    /// The next token, through all stages.
    func run(_ frame: StepFrame, _ stages: [Worked]) throws -> TokenID {
        var rows: ActivationBuffer?
        for stage in stages {
            stage.post(.compute(frame, input: rows))
            guard case .computed(_, _, let outcome, let output) = try stage.nextButProgress() else { throw Unexpected() }
            rows = output
            if let token = outcome.tokens.first { return token.emitted.token }
        }
        throw Unexpected()
    }

    func load(_ stages: [(Worked, StageAssignment)]) throws {
        for (stage, assignment) in stages {
            stage.post(.load(assignment))
            guard case .loaded = try stage.nextButProgress() else { throw Unexpected() }
        }
    }

    func prepare(_ stages: [(Worked, StageAssignment)]) throws {
        for (stage, assignment) in stages {
            stage.post(.prepare(assignment))
            guard case .prepared(assignment.epoch) = try stage.nextButProgress() else { throw Unexpected() }
        }
    }

    func adopt(_ stages: [(Worked, StageAssignment)]) throws {
        for (stage, assignment) in stages {
            stage.post(.adopt(assignment))
            guard case .switched(assignment.epoch) = try stage.nextButProgress() else { throw Unexpected() }
        }
    }

    func copy(_ layers: Range<Int>, _ blocks: [BlockID], from sender: Worked, to receiver: Worked, epoch: UInt64) throws -> Int {
        let frame = KVFrame(epoch: Epoch(epoch), number: 1, layers: layers, blocks: blocks)
        sender.post(.read(frame))
        guard case .read(frame, let bytes) = try sender.nextButProgress() else { throw Unexpected() }
        receiver.post(.write(frame, bytes, from: PeerKey(bytes: [UInt8](repeating: 1, count: 32))!))
        guard case .written(frame, _) = try receiver.nextButProgress() else { throw Unexpected() }
        return bytes.count
    }

    func reference(_ kvType: ClusterCore.KVType, count: Int) throws -> [TokenID] {
        let stage = Worked()
        try load([(stage, assignment(1, 0, of: 1, 0..<4, kvType))])
        var all = Self.prompt
        for number in 1...count {
            all.append(try run(step(UInt64(number), epoch: 1, all: all, start: number == 1 ? 0 : all.count - 1, opens: number == 1), [stage]))
        }
        #expect(stage.end())
        return all
    }

    /// Two stages become three: a newcomer takes one layer of each; then two again, without the first.
    @Test(arguments: ClusterCore.KVType.allCases) func layersMoveInMidText(kvType: ClusterCore.KVType) throws {
        let wanted = try reference(kvType, count: 24)
        let (a, b, c) = (Worked(), Worked(), Worked())
        try load([(a, assignment(1, 0, of: 2, 0..<2, kvType)), (b, assignment(1, 1, of: 2, 2..<4, kvType))])
        var all = Self.prompt
        for number in 1...8 {
            all.append(try run(step(UInt64(number), epoch: 1, all: all, start: number == 1 ? 0 : all.count - 1, opens: number == 1), [a, b]))
        }

        let three = [
            (a, assignment(2, 0, of: 3, 0..<1, kvType)), (c, assignment(2, 1, of: 3, 1..<3, kvType)), (b, assignment(2, 2, of: 3, 3..<4, kvType)),
        ]
        try prepare(three)
        // In the background, while another step is computed: what it changes is sent once more.
        _ = try copy(1..<2, Self.blocks, from: a, to: c, epoch: 2)
        _ = try copy(2..<3, Self.blocks, from: b, to: c, epoch: 2)
        all.append(try run(step(9, epoch: 1, all: all, start: all.count - 1, opens: false), [a, b]))
        let bytes = try copy(1..<2, [Self.blocks[1]], from: a, to: c, epoch: 2) + copy(2..<3, [Self.blocks[1]], from: b, to: c, epoch: 2)
        let blockBytes = Stage.kvBlockBytes(model: try .init(file: tiny.file), layers: 1, kvType: kvType == .f16 ? .f16 : kvType == .f32 ? .f32 : .q8)
        #expect(bytes == 2 * blockBytes)
        try adopt(three)
        for number in 1...8 { all.append(try run(step(UInt64(number), epoch: 2, all: all, start: all.count - 1, opens: number == 1), [a, c, b])) }

        // Backwards: the first stage goes, and a layer moves from the last to the middle one.
        let two = [(c, assignment(3, 0, of: 2, 0..<3, kvType)), (b, assignment(3, 1, of: 2, 3..<4, kvType))]
        try prepare(two)
        _ = try copy(0..<1, Self.blocks, from: a, to: c, epoch: 3)
        try adopt(two)
        a.post(.unload)
        for number in 1...7 { all.append(try run(step(UInt64(number), epoch: 3, all: all, start: all.count - 1, opens: number == 1), [c, b])) }
        #expect(all == wanted)
        for stage in [a, b, c] { #expect(stage.end()) }
    }

    @Test func whatWasPreparedCanBeDroppedAndTheOldStageServesOn() throws {
        let wanted = try reference(.f16, count: 6)
        let a = Worked()
        try load([(a, assignment(1, 0, of: 1, 0..<4, .f16))])
        var all = Self.prompt
        for number in 1...3 {
            all.append(try run(step(UInt64(number), epoch: 1, all: all, start: number == 1 ? 0 : all.count - 1, opens: number == 1), [a]))
        }
        let half = assignment(2, 0, of: 2, 0..<2, .f16)
        try prepare([(a, half)])
        a.post(.dropPrepared)
        a.post(.adopt(half))
        guard case .handoverFailed(Epoch(2), let failure) = try a.nextButProgress() else { throw Unexpected() }
        #expect(failure.message.contains("no slice was prepared for epoch 2"))
        for number in 4...6 { all.append(try run(step(UInt64(number), epoch: 1, all: all, start: all.count - 1, opens: false), [a])) }
        #expect(all == wanted)
        #expect(a.end())
    }

    @Test func bytesThatDoNotFitAreRefused() throws {
        let a = Worked()
        let peer = PeerKey(bytes: [UInt8](repeating: 1, count: 32))!
        func failure(_ command: StageThread.Command) throws -> String {
            a.post(command)
            guard case .handoverFailed(_, let failure) = try a.nextButProgress() else { throw Unexpected() }
            return failure.message
        }
        let frame = KVFrame(epoch: Epoch(2), number: 1, layers: 2..<3, blocks: [BlockID(1)])
        #expect(try failure(.read(frame)).contains("layer 2"))
        #expect(try failure(.write(frame, ActivationBuffer(byteCount: 8), from: peer)).contains("no slice"))
        try prepare([(a, assignment(2, 1, of: 2, 2..<4, .f16))])
        #expect(try failure(.write(frame, ActivationBuffer(byteCount: 8), from: peer)).contains("8 bytes came"))
        var wrong = frame
        wrong.layers = 1..<2
        #expect(try failure(.write(wrong, ActivationBuffer(byteCount: 8), from: peer)).contains("layer 1"))
        wrong = frame
        wrong.blocks = [BlockID(8)]
        let bytes = Stage.kvBlockBytes(model: try .init(file: tiny.file), layers: 1, kvType: .f16)
        #expect(try failure(.write(wrong, ActivationBuffer(byteCount: bytes), from: peer)).contains("block 8"))
        #expect(a.end())
    }

    @Test func aModelThatIsNotThereFailsTheHandoverOnly() throws {
        let a = Worked()
        try load([(a, assignment(1, 0, of: 1, 0..<4, .f16))])
        var other = assignment(2, 0, of: 2, 0..<2, .f16)
        other.modelDigest = ClusterCore.ModelDigest(bytes: [UInt8](repeating: 3, count: 32))!
        a.post(.prepare(other))
        guard case .handoverFailed(Epoch(2), let failure) = try a.nextButProgress() else { throw Unexpected() }
        #expect(failure.code == .loadFailed)
        _ = try run(step(1, epoch: 1, all: Self.prompt, start: 0, opens: true), [a])
        #expect(a.end())
    }
}
