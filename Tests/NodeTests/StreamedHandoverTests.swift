import ClusterCore
import Engine
import Testing

@testable import Node

/// Stages that stream their weights change their layers in mid-text, and stand by, as those do that have all in memory.
@Suite struct StreamedHandoverTests {
    private let folder: TemporaryFolder
    private let cache: PackedCache
    private let hands: StageHandoverTests
    /// For two of four layers, and either end: a stage of three streams.
    private static let memory = 288_000
    private static let whole = 0..<TinyModel.layers

    init() throws {
        folder = try TemporaryFolder()
        hands = try StageHandoverTests()
        var limits = PackedCache.Limits()
        limits.freeBytesMin = 0
        cache = PackedCache(folder: folder.file("packed"), limits: limits)
    }

    private func worker() -> Worked { Worked(cache: cache, weightsMemory: Self.memory) }

    private func assignment(_ epoch: UInt64, _ stage: Int, of count: Int, _ layers: Range<Int>) -> StageAssignment {
        hands.assignment(epoch, stage, of: count, layers, .f16)
    }

    /// More tokens of the one text, in an epoch that begins where the text is now.
    private func goOn(_ all: inout [TokenID], epoch: UInt64, count: Int, _ stages: [Worked]) throws {
        for number in 1...count {
            let start = all.count == StageHandoverTests.prompt.count ? 0 : all.count - 1
            all.append(try hands.run(hands.step(UInt64(number), epoch: epoch, all: all, start: start, opens: number == 1), stages))
        }
    }

    /// Streams → has all in memory, and the other way round; then one of them leaves, and the other has everything.
    @Test func layersMoveBetweenStreamingStages() throws {
        let wanted = try hands.reference(.f16, count: 20)
        let (a, b) = (worker(), worker())
        try hands.load([(a, assignment(1, 0, of: 2, 0..<3)), (b, assignment(1, 1, of: 2, 3..<4))])
        var all = StageHandoverTests.prompt
        try goOn(&all, epoch: 1, count: 7, [a, b])

        let moved = [(a, assignment(2, 0, of: 2, 0..<1)), (b, assignment(2, 1, of: 2, 1..<4))]
        try hands.prepare(moved)
        _ = try hands.copy(1..<3, StageHandoverTests.blocks, from: a, to: b, epoch: 2)
        try hands.adopt(moved)
        try goOn(&all, epoch: 2, count: 7, [a, b])

        let alone = [(a, assignment(3, 0, of: 1, Self.whole))]
        try hands.prepare(alone)
        _ = try hands.copy(1..<4, StageHandoverTests.blocks, from: b, to: a, epoch: 3)
        try hands.adopt(alone)
        b.post(.unload)
        try goOn(&all, epoch: 3, count: 6, [a])
        #expect(all == wanted)
        for stage in [a, b] { #expect(stage.end()) }
    }

    /// The old stage streams on while the new one is prepared beside it, and when that is given up.
    @Test func whatWasPreparedCanBeDropped() throws {
        let wanted = try hands.reference(.f16, count: 9)
        let a = worker()
        try hands.load([(a, assignment(1, 0, of: 1, Self.whole))])
        var all = StageHandoverTests.prompt
        try goOn(&all, epoch: 1, count: 3, [a])
        let next = assignment(2, 0, of: 2, 0..<3)
        try hands.prepare([(a, next)])
        all.append(try hands.run(hands.step(4, epoch: 1, all: all, start: all.count - 1, opens: false), [a]))
        a.post(.dropPrepared)
        for number in 5...7 { all.append(try hands.run(hands.step(UInt64(number), epoch: 1, all: all, start: all.count - 1, opens: false), [a])) }
        try hands.prepare([(a, assignment(3, 0, of: 1, Self.whole))])
        try hands.adopt([(a, assignment(3, 0, of: 1, Self.whole))])
        try goOn(&all, epoch: 3, count: 2, [a])
        #expect(all == wanted)
        #expect(a.end())
    }

    /// What stays in memory is there before the stage is wanted; another stage takes its place.
    @Test(arguments: [0..<4, 0..<3, 1..<4, 2..<4]) func aStandbyStreamsWhatItLoadedAhead(other: Range<Int>) throws {
        let wanted = try hands.reference(.f16, count: 6)
        let c = worker()
        for layers in [other, Self.whole] {
            let count = layers == Self.whole ? 1 : 2
            c.post(.loadAhead(assignment(1, layers.lowerBound == 0 ? 0 : 1, of: count, layers)))
            guard case .loadedAhead(layers) = try c.nextButProgress() else { throw Unexpected() }
        }
        try hands.load([(c, assignment(2, 0, of: 1, Self.whole))])
        var all = StageHandoverTests.prompt
        try goOn(&all, epoch: 2, count: 6, [c])
        #expect(all == wanted)
        #expect(c.end())
    }

    /// A standby with a stage ahead is taken in by a hand-over, for other layers.
    @Test func aStandbyJoinsInMidText() throws {
        let wanted = try hands.reference(.f16, count: 10)
        let (a, c) = (worker(), worker())
        try hands.load([(a, assignment(1, 0, of: 1, Self.whole))])
        var all = StageHandoverTests.prompt
        try goOn(&all, epoch: 1, count: 5, [a])
        c.post(.loadAhead(assignment(1, 0, of: 1, Self.whole)))
        guard case .loadedAhead(Self.whole) = try c.nextButProgress() else { throw Unexpected() }
        let two = [(a, assignment(2, 0, of: 2, 0..<1)), (c, assignment(2, 1, of: 2, 1..<4))]
        try hands.prepare(two)
        _ = try hands.copy(1..<4, StageHandoverTests.blocks, from: a, to: c, epoch: 2)
        try hands.adopt(two)
        try goOn(&all, epoch: 2, count: 5, [a, c])
        #expect(all == wanted)
        for stage in [a, c] { #expect(stage.end()) }
    }
}
