import ModelFiles
import Testing

@testable import Engine

/// Sequences that use what others left in KV memory: the bits are those of computing it anew, and nobody's past can be overwritten.
@Suite struct SharedBlocksTests {
    private let tiny: TinyModel
    private let prompt: [Int32]

    init() throws {
        tiny = try TinyModel(.q8_0)
        prompt = tiny.tokens(90, seed: 40)
    }

    private func opening(_ id: UInt64, cached: Int = 0, _ tokens: [Int32]? = nil) -> SequenceOpening {
        SequenceOpening(sequence: id, tokens: tokens ?? prompt, promptLength: (tokens ?? prompt).count, cached: cached)
    }

    private func rows(_ id: UInt64, _ range: Range<Int>, _ blocks: [Int32], _ tokens: [Int32]? = nil) -> BatchSegment {
        BatchSegment(sequence: id, start: range.lowerBound, tokens: Array((tokens ?? prompt)[range]), newBlocks: blocks, samples: false)
    }

    @Test(arguments: KVType.allCases) func aSharedBeginningGivesTheBitsOfComputingIt(kvType: KVType) throws {
        let expected = try Pipeline(tiny, kvType: kvType).logits(of: prompt, chunks: [90])
        let other = Array(prompt[..<70]) + tiny.tokens(20, seed: 41)
        let expectedOther = try Pipeline(tiny, kvType: kvType).logits(of: other, chunks: [90])

        let pipeline = try Pipeline(tiny, cuts: [1], kvType: kvType)
        _ = try pipeline.logits(StageBatch(opens: [opening(1)], segments: [rows(1, 0..<70, [0, 1, 2])]))
        // One goes on; two take its full blocks; another one copies the block in which the common beginning ends.
        let logits = try pipeline.logits(
            StageBatch(
                copies: [.init(from: 2, to: 9)], opens: [opening(2, cached: 64), opening(3, cached: 70, other), opening(4, cached: 64)],
                segments: [rows(1, 70..<90, []), rows(2, 64..<90, [0, 1, 3]), rows(3, 70..<90, [0, 1, 9], other), rows(4, 64..<80, [0, 1, 4])]))
        #expect(Array(logits[0..<20]) == Array(expected[70..<90]))
        #expect(Array(logits[20..<46]) == Array(expected[64..<90]))
        #expect(Array(logits[46..<66]) == Array(expectedOther[70..<90]))
        // The first owner leaves; the others keep what it wrote.
        let later = try pipeline.logits(StageBatch(closes: [1], segments: [rows(4, 80..<90, [])]))
        #expect(later == Array(expected[80..<90]))
    }

    @Test func whatWouldOverwriteAnothersPastIsRefused() throws {
        let pipeline = try Pipeline(tiny)
        _ = try pipeline.logits(StageBatch(opens: [opening(1)], segments: [rows(1, 0..<70, [0, 1, 2])]))
        _ = try pipeline.logits(StageBatch(opens: [opening(2, cached: 64)], segments: [rows(2, 64..<70, [0, 1, 3])]))
        let wrong: [(String, StageBatch)] = [
            ("a block that is written is held by another", StageBatch(opens: [opening(3, cached: 64)], segments: [rows(3, 64..<70, [0, 1, 2])])),
            ("a block half of the past", StageBatch(opens: [opening(3, cached: 70)], segments: [rows(3, 70..<71, [0, 1, 2])])),
            ("a copy over what is in use", StageBatch(copies: [.init(from: 0, to: 3)], segments: [])),
            ("a copy of no block", StageBatch(copies: [.init(from: 64, to: 9)], segments: [])),
            ("a copy to no block", StageBatch(copies: [.init(from: 0, to: -1)], segments: [])),
            ("nothing left to compute", StageBatch(opens: [opening(3, cached: 90)], segments: [])),
            ("less than nothing computed", StageBatch(opens: [opening(3, cached: -1)], segments: [])),
            ("rows of the cached past", StageBatch(opens: [opening(3, cached: 64)], segments: [rows(3, 0..<70, [0, 1, 5])])),
        ]
        for (what, batch) in wrong {
            #expect(throws: EngineError.self, "\(what)") { try pipeline.logits(batch) }
        }
        let logits = try pipeline.logits(StageBatch(segments: [rows(2, 70..<90, [])]))
        #expect(try logits == Array(Pipeline(tiny).logits(of: prompt, chunks: [90])[70...]))
    }
}
