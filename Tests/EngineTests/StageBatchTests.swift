import ModelFiles
import Testing

@testable import Engine

/// Batches that cannot be: each is refused as a whole, and what comes after is as if it had never been.
@Suite struct StageBatchTests {
    private let tiny: TinyModel
    private let prompt: [Int32]

    init() throws {
        tiny = try TinyModel(.q8_0)
        prompt = tiny.tokens(40, seed: 30)
    }

    private var opening: SequenceOpening { SequenceOpening(sequence: 1, tokens: prompt, promptLength: prompt.count) }
    private var first: BatchSegment { BatchSegment(sequence: 1, start: 0, tokens: Array(prompt[..<35]), newBlocks: [3, 5], samples: false) }
    private var second: BatchSegment { BatchSegment(sequence: 1, start: 35, tokens: Array(prompt[35...]), newBlocks: [], samples: true) }

    private func with(_ segment: BatchSegment, _ change: (inout BatchSegment) -> Void) -> BatchSegment {
        var segment = segment
        change(&segment)
        return segment
    }

    private func with(_ opening: SequenceOpening, _ change: (inout SequenceOpening) -> Void) -> SequenceOpening {
        var opening = opening
        opening.sequence = 2
        change(&opening)
        return opening
    }

    /// What may come after the prompt's first 35 tokens, and must not be taken.
    private var wrong: [(String, StageBatch)] {
        let other = BatchSegment(sequence: 2, start: 0, tokens: prompt, newBlocks: [7, 8], samples: false)
        return [
            ("unknown sequence", StageBatch(segments: [other])),
            ("closed in the same batch", StageBatch(closes: [1], segments: [second])),
            ("opened twice", StageBatch(opens: [opening], segments: [second])),
            ("opened twice in one batch", StageBatch(opens: [with(opening) { _ in }, with(opening) { _ in }], segments: [])),
            ("gap", StageBatch(segments: [with(second) { $0.start = 36 }])),
            ("overlap", StageBatch(segments: [with(second) { $0.start = 34 }])),
            ("negative start", StageBatch(segments: [with(second) { $0.start = -1 }])),
            ("no tokens", StageBatch(segments: [with(second) { $0.tokens = [] }])),
            ("other tokens than opened with", StageBatch(segments: [with(second) { $0.tokens[0] = ($0.tokens[0] + 1) % 173 }])),
            ("token too large", StageBatch(segments: [with(second) { $0.tokens[4] = 173 }])),
            ("token negative", StageBatch(segments: [with(second) { $0.tokens[4] = -1 }])),
            ("draws in the middle of the prompt", StageBatch(segments: [with(second) { $0.tokens.removeLast() }])),
            ("two segments", StageBatch(segments: [second, second])),
            ("table too short", StageBatch(segments: [with(second) { $0.tokens += Array(repeating: 1, count: 30) }])),
            ("unknown block", StageBatch(segments: [with(second) { $0.newBlocks = [64] }])),
            ("negative block", StageBatch(segments: [with(second) { $0.newBlocks = [-1] }])),
            ("own block again", StageBatch(segments: [with(second) { $0.newBlocks = [3] }])),
            ("block twice", StageBatch(segments: [with(second) { $0.newBlocks = [9, 9] }])),
            ("another's block", StageBatch(opens: [with(opening) { _ in }], segments: [with(other) { $0.newBlocks = [5, 6] }])),
            (
                "beyond the context",
                StageBatch(segments: [
                    with(second) {
                        $0.tokens += Array(repeating: 1, count: 601)
                        $0.newBlocks = Array(10..<40)
                    }
                ])
            ),
            ("too many rows", StageBatch(segments: [with(second) { $0.tokens += Array(repeating: 1, count: 640) }])),
            ("opened without tokens", StageBatch(opens: [with(opening) { $0.tokens = [] }], segments: [])),
            ("opened without a prompt", StageBatch(opens: [with(opening) { $0.promptLength = 0 }], segments: [])),
            ("prompt longer than tokens", StageBatch(opens: [with(opening) { $0.promptLength = 41 }], segments: [])),
            ("opened with an unknown token", StageBatch(opens: [with(opening) { $0.tokens[3] = 173 }], segments: [])),
            ("an unknown end token", StageBatch(opens: [with(opening) { $0.endTokens = [-4] }], segments: [])),
            ("nothing left to draw", StageBatch(opens: [with(opening) { $0.endTokens = Array(0..<173) }], segments: [])),
            ("too many alternatives", StageBatch(opens: [with(opening) { $0.topLogprobs = 21 }], segments: [])),
            ("wrong sampling", StageBatch(opens: [with(opening) { $0.sampling.topP = 0 }], segments: []))
        ]
    }

    @Test func aWrongBatchIsRefusedAndChangesNothing() throws {
        let expected = try Pipeline(tiny).logits(of: prompt, chunks: [35, 5])
        let pipeline = try Pipeline(tiny)
        let start = try pipeline.logits(StageBatch(opens: [opening], segments: [first]))
        for (what, batch) in wrong {
            let error = #expect(throws: EngineError.self, "\(what)") { try pipeline.run(batch) }
            #expect(error?.code == .badBatch || error?.code == .badSampling, "\(what): \(String(describing: error))")
        }
        #expect(try start + pipeline.logits(StageBatch(segments: [second])) == expected)
    }

    @Test func rowsOfAnotherSizeAreRefused() throws {
        let stages = try Pipeline(tiny, cuts: [1]).stages
        let batch = StageBatch(opens: [opening], segments: [first])
        var rows = [UInt8](repeating: 0, count: 35 * stages[0].boundaryRowBytes - 4)
        rows.withUnsafeMutableBytes { output in
            #expect(throws: EngineError.self) { try stages[0].run(batch, output: output) }
            #expect(throws: EngineError.self) { try stages[1].run(batch, input: UnsafeRawBufferPointer(output)) }
        }
    }

    @Test func closingFreesBlocksForTheSameBatch() throws {
        let pipeline = try Pipeline(tiny, kvBlocks: 6)
        _ = try pipeline.run(StageBatch(opens: [opening], segments: [first]))
        let again = SequenceOpening(sequence: 2, tokens: prompt, promptLength: prompt.count)
        let batch = StageBatch(
            closes: [1, 99], opens: [again], segments: [BatchSegment(sequence: 2, start: 0, tokens: prompt, newBlocks: [5, 3], samples: false)])
        #expect(try pipeline.logits(batch) == Pipeline(tiny).logits(of: prompt, chunks: [40]))
    }

    @Test func aBatchWithoutRowsOnlyOpensAndCloses() throws {
        let pipeline = try Pipeline(tiny, cuts: [1, 2])
        #expect(try pipeline.run(StageBatch(opens: [opening], segments: [])).samples.isEmpty)
        #expect(try pipeline.run(StageBatch(segments: [first])).samples.isEmpty)
        #expect(try pipeline.run(StageBatch(segments: [second])).samples.map(\.position) == [40])
        #expect(try pipeline.run(StageBatch(closes: [1], segments: [])).samples.isEmpty)
    }
}
