import ClusterCore
import Engine
import Testing

@testable import Node

/// A stage is lost in mid-text; the others keep what they have, and its layers are computed again, bit for bit.
@Suite struct StageRebuildTests {
    private let folder: TemporaryFolder
    private let tiny: TinyModel
    private static let prompt: [TokenID] = (0..<45).map { $0 * 13 % 97 }
    private static let blocks = [BlockID(5), BlockID(0), BlockID(3)]
    private static let sequence = SequenceID(1)

    init() throws {
        folder = try TemporaryFolder()
        tiny = try TinyModel(folder)
    }

    private func assignment(_ epoch: UInt64, _ stage: Int, of count: Int, _ layers: Range<Int>, keeping: UInt64? = nil) -> StageAssignment {
        var assignment = tiny.assignment(epoch: epoch, stage: stage, of: count, layers: layers)
        assignment.keeping = keeping.map { Epoch($0) }
        assignment.inputBlocks = stage == count - 1 ? 0 : 6
        return assignment
    }

    private func open(_ all: [TokenID], cached: Int) -> SequenceOpen {
        var sampling = SamplingParameters()
        sampling.temperature = 1
        sampling.repetitionPenalty = 1.3
        sampling.seed = 11
        return SequenceOpen(
            sequence: Self.sequence, choice: 0, tokens: all, promptLength: Self.prompt.count, cached: cached, sampling: sampling, endTokens: [],
            topLogprobs: nil)
    }

    private func step(_ number: UInt64, epoch: UInt64, all: [TokenID], start: Int, opens: Bool) -> StepFrame {
        StepFrame(
            step: Step(
                epoch: Epoch(epoch), number: StepNumber(number), opens: opens ? [open(all, cached: start)] : [],
                segments: [
                    Segment(sequence: Self.sequence, start: start, tokens: Array(all[start...]), newBlocks: opens ? Self.blocks : [], samples: true)
                ]))
    }

    private func rebuild(_ number: UInt64, epoch: UInt64, all: [TokenID], _ positions: Range<Int>, _ rebuild: Rebuild) -> StepFrame {
        StepFrame(
            step: Step(
                epoch: Epoch(epoch), number: StepNumber(number), opens: positions.lowerBound == 0 ? [open(all, cached: 0)] : [],
                segments: [
                    Segment(
                        sequence: Self.sequence, start: positions.lowerBound, tokens: Array(all[positions]),
                        newBlocks: positions.lowerBound == 0 ? Self.blocks : [], samples: false)
                ], rebuild: rebuild))
    }

    /// Through all stages; the next token, if one was drawn.
    private func run(_ frame: StepFrame, _ stages: [Worked]) throws -> TokenID? {
        var rows: ActivationBuffer?
        for stage in stages {
            stage.post(.compute(frame, input: rows))
            guard case .computed(_, _, let outcome, let output) = try stage.nextButProgress() else { throw Unexpected() }
            rows = output
            if let token = outcome.tokens.first { return token.emitted.token }
        }
        return nil
    }

    /// What each kept.
    private func load(_ stages: [(Worked, StageAssignment)]) throws -> [Range<Int>] {
        try stages.map { stage, assignment in
            stage.post(.load(assignment))
            guard case .loaded(assignment.epoch, let kept) = try stage.nextButProgress() else { throw Unexpected() }
            return kept
        }
    }

    private func generate(_ count: Int, epoch: UInt64, from number: UInt64 = 1, opens: Bool, _ all: inout [TokenID], _ stages: [Worked]) throws {
        for index in 0..<UInt64(count) {
            let isFirst = opens && index == 0
            let start = isFirst && all.count == Self.prompt.count ? 0 : all.count - 1
            all.append(try #require(try run(step(number + index, epoch: epoch, all: all, start: start, opens: isFirst), stages)))
        }
    }

    private func reference(count: Int) throws -> [TokenID] {
        let stage = Worked()
        _ = try load([(stage, assignment(1, 0, of: 1, 0..<4))])
        var all = Self.prompt
        try generate(count, epoch: 1, opens: true, &all, [stage])
        #expect(stage.end())
        return all
    }

    /// In chunks, the middle one across a block's border.
    private func rebuild(_ layers: Range<Int>, hasInputs: Bool, epoch: UInt64, _ all: [TokenID], _ stages: [Worked]) throws {
        let ends = [20, 40, all.count - 1]
        for (index, end) in ends.enumerated() {
            let positions = (index == 0 ? 0 : ends[index - 1])..<end
            let frame = rebuild(UInt64(index + 1), epoch: epoch, all: all, positions, Rebuild(layers: layers, hasInputs: hasInputs))
            #expect(try run(frame, stages) == nil)
        }
    }

    @Test(arguments: [true, false]) func aSuccessorTakesTheMiddle(hasInputs: Bool) throws {
        let wanted = try reference(count: 20)
        let (a, b, c, d) = (Worked(), Worked(), Worked(), Worked())
        let three = { (epoch: UInt64, keeping: UInt64?) in
            [
                assignment(epoch, 0, of: 3, 0..<1, keeping: keeping), assignment(epoch, 1, of: 3, 1..<3),
                assignment(epoch, 2, of: 3, 3..<4, keeping: keeping),
            ]
        }
        _ = try load(Array(zip([a, b, c], three(1, nil))))
        var all = Self.prompt
        try generate(8, epoch: 1, opens: true, &all, [a, b, c])
        // A load that was given up in between changes nothing.
        #expect(try load([(a, assignment(2, 0, of: 3, 0..<1, keeping: 1))]) == [0..<1])
        var plan = three(3, 1)
        plan[0].keeping = Epoch(2)
        #expect(try load(Array(zip([a, d, c], plan))) == [0..<1, 0..<0, 3..<4])
        try rebuild(1..<3, hasInputs: hasInputs, epoch: 3, all, [a, d, c])
        try generate(12, epoch: 3, from: 4, opens: false, &all, [a, d, c])
        #expect(all == wanted)
        for stage in [a, b, c, d] { #expect(stage.end()) }
    }

    @Test(arguments: [true, false]) func theNeighboursShareTheMiddle(hasInputs: Bool) throws {
        let wanted = try reference(count: 20)
        let (a, b, c) = (Worked(), Worked(), Worked())
        _ = try load([(a, assignment(1, 0, of: 3, 0..<1)), (b, assignment(1, 1, of: 3, 1..<3)), (c, assignment(1, 2, of: 3, 3..<4))])
        var all = Self.prompt
        try generate(8, epoch: 1, opens: true, &all, [a, b, c])
        #expect(try load([(a, assignment(2, 0, of: 2, 0..<2, keeping: 1)), (c, assignment(2, 1, of: 2, 2..<4, keeping: 1))]) == [0..<1, 3..<4])
        try rebuild(1..<3, hasInputs: hasInputs, epoch: 2, all, [a, c])
        try generate(12, epoch: 2, from: 4, opens: false, &all, [a, c])
        #expect(all == wanted)
        for stage in [a, b, c] { #expect(stage.end()) }
    }

    @Test func theFirstStageIsRebuiltFromTokens() throws {
        let wanted = try reference(count: 14)
        let (a, b, c) = (Worked(), Worked(), Worked())
        _ = try load([(a, assignment(1, 0, of: 2, 0..<2)), (b, assignment(1, 1, of: 2, 2..<4))])
        var all = Self.prompt
        try generate(6, epoch: 1, opens: true, &all, [a, b])
        #expect(try load([(c, assignment(2, 0, of: 2, 0..<2)), (b, assignment(2, 1, of: 2, 2..<4, keeping: 1))]) == [0..<0, 2..<4])
        try rebuild(0..<2, hasInputs: false, epoch: 2, all, [c, b])
        try generate(8, epoch: 2, from: 4, opens: false, &all, [c, b])
        #expect(all == wanted)
        for stage in [a, b, c] { #expect(stage.end()) }
    }

    /// Whoever has another epoch's keys and values has none of this one's.
    @Test func anotherEpochsPastIsNotKept() throws {
        let a = Worked()
        _ = try load([(a, assignment(1, 0, of: 1, 0..<4))])
        var all = Self.prompt
        try generate(2, epoch: 1, opens: true, &all, [a])
        #expect(try load([(a, assignment(7, 0, of: 1, 0..<4, keeping: 6))]) == [0..<0])
        #expect(try load([(a, assignment(8, 0, of: 1, 0..<4, keeping: 1))]) == [0..<0])
        #expect(a.end())
    }

    @Test func aSliceThatWasLoadedAheadIsThere() throws {
        let a = Worked()
        let ahead = assignment(4, 1, of: 2, 2..<4)
        a.post(.loadAhead(ahead))
        guard case .loadedAhead(2..<4) = try a.nextButProgress() else { throw Unexpected() }
        var next = ahead
        next.epoch = Epoch(5)
        #expect(try load([(a, next)]) == [0..<0])
        #expect(a.end())
    }
}
