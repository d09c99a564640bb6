import ModelFiles
import Testing

@testable import Engine

@Suite struct LocalGeneratorTests {
    private let tiny: TinyModel
    private let prompt: [Int32]
    private let sampled = SamplingSettings(temperature: 0.9, topP: 0.95, repetitionPenalty: 1.1, presencePenalty: 0.2, seed: 77)

    init() throws {
        tiny = try TinyModel(.q4_1)
        prompt = tiny.tokens(45, seed: 60)
    }

    private func generator(_ change: (inout LocalGenerator.Options) -> Void = { _ in }) throws -> LocalGenerator {
        var options = LocalGenerator.Options()
        change(&options)
        return try LocalGenerator(file: tiny.file, options: options)
    }

    @Test func threadsChunksAndCompanyChangeNoToken() throws {
        let alone = try generator().generate(prompt: prompt, maxTokens: 60, sampling: sampled, topLogprobs: 4)[0].tokens
        #expect(alone.count == 60)
        let together = try generator {
            $0.threads = 3
            $0.chunkRows = 7
            $0.instructionSet = .portable
        }.generate(prompt: prompt, choices: 5, maxTokens: 60, sampling: sampled, topLogprobs: 4)
        #expect(together[0].tokens == alone)
        #expect(Set(together.map { $0.tokens.map(\.token) }).count == 5, "each choice has random numbers of its own")
    }

    @Test func greedyTokensAreTheLargestLogits() throws {
        let generator = try generator()
        let drawn = try generator.generate(prompt: prompt, maxTokens: 5, sampling: .greedy)[0].tokens.map(\.token)
        var largest: [Int32] = []
        try generator.logits(tokens: prompt + drawn) { _, row in largest.append(Int32(row.indices.max { row[$0] < row[$1] }!)) }
        #expect(drawn == Array(largest[(prompt.count - 1)...].prefix(5)))
    }

    /// A cluster sends the tokens so far when it opens a sequence anew; the next token must not notice.
    @Test func aSequenceGoesOnFromItsTokensAfterALoss() throws {
        let whole = try generator().generate(prompt: prompt, maxTokens: 30, sampling: sampled)[0].tokens.map(\.token)
        let soFar = prompt + whole[..<20]
        let pipeline = try Pipeline(tiny, cuts: [1])
        let opening = SequenceOpening(sequence: 4, tokens: soFar, promptLength: prompt.count, sampling: sampled)
        var segment = BatchSegment(sequence: 4, start: 0, tokens: soFar, newBlocks: [0, 1, 2, 3], samples: true)
        var opens = [opening]
        var again: [Int32] = []
        while again.count < 10 {
            let sample = try pipeline.run(StageBatch(opens: opens, segments: [segment])).samples[0]
            #expect(sample.position == soFar.count + again.count)
            again.append(sample.token.token)
            opens = []
            segment = BatchSegment(sequence: 4, start: sample.position, tokens: [sample.token.token], newBlocks: [], samples: true)
        }
        #expect(again == Array(whole[20...]))
    }

    @Test func endsAtStopAndEndTokensLengthAndContext() throws {
        let free = try generator().generate(prompt: prompt, maxTokens: 20, sampling: sampled)[0]
        #expect(free.finish == .length && free.tokens.count == 20)
        let stop = free.tokens[6].token
        let first = free.tokens.firstIndex { $0.token == stop }!
        for (end, stops) in [([stop], []), ([], [stop])] as [([Int32], [Int32])] {
            let choice = try generator().generate(prompt: prompt, maxTokens: 20, sampling: sampled, endTokens: end, stopTokens: stops)[0]
            #expect(choice.finish == .stop)
            #expect(choice.tokens.map(\.token) == free.tokens[...first].map(\.token))
        }
        let ignoring = try generator().generate(prompt: prompt, maxTokens: 20, sampling: sampled, endTokens: [stop], ignoresEndTokens: true)[0]
        #expect(ignoring.tokens == free.tokens)
        var atLeast = sampled
        atLeast.minTokens = 15
        let later = try generator().generate(prompt: prompt, maxTokens: 20, sampling: atLeast, endTokens: [stop])[0]
        #expect(later.tokens.count >= 15 && !later.tokens[..<15].contains { $0.token == stop })

        let full = try generator { $0.contextLength = 48 }.generate(prompt: prompt, maxTokens: 20, sampling: sampled)[0]
        #expect(full.finish == .length && full.tokens.map(\.token) == free.tokens[..<3].map(\.token))
        let heard = try generator().generate(prompt: prompt, maxTokens: 20, sampling: sampled) { _, token in token != free.tokens[3] }[0]
        #expect(heard.finish == .ended && heard.tokens.count == 4)
    }

    @Test func aPromptThatDoesNotFitIsAnError() throws {
        let generator = try generator { $0.contextLength = 45 }
        let error = #expect(throws: EngineError.self) { try generator.generate(prompt: prompt, maxTokens: 1, sampling: .greedy) }
        #expect(error?.code == .contextExceeded)
        #expect(throws: EngineError.self) { try generator.generate(prompt: [], maxTokens: 1, sampling: .greedy) }
        #expect(throws: EngineError.self) { try generator.generate(prompt: [999], maxTokens: 1, sampling: .greedy) }
        #expect(throws: EngineError.self) { try generator.logits(tokens: []) { _, _ in } }
    }
}
