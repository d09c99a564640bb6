import ClusterCore
import Engine
import Foundation
import Logging
import ModelFiles
import Testing

@testable import Node

/// The draft model's guesses are the tokens that it would draw itself, whatever it was asked before.
@Suite struct DraftModelTests {
    private let folder: TemporaryFolder
    private let tiny: TinyModel

    init() throws {
        folder = try TemporaryFolder()
        tiny = try TinyModel(folder)
    }

    private func greedy(_ tokens: [TokenID], _ count: Int) throws -> [TokenID] { try drawn(tokens, count, Self.sampling()) }

    private func drawn(_ tokens: [TokenID], _ count: Int, _ sampling: SamplingParameters) throws -> [TokenID] {
        try LocalGenerator(file: GGUFFile(path: tiny.path)).generate(prompt: tokens, maxTokens: count, sampling: SamplingSettings(sampling))[0]
            .tokens.map(\.token)
    }

    private static func sampling(temperature: Float = 0) -> SamplingParameters {
        var sampling = SamplingParameters()
        sampling.temperature = temperature
        sampling.seed = 7
        return sampling
    }

    private static func wish(_ id: UInt64, _ tokens: [TokenID], behind guesses: [TokenID] = [], count: Int, temperature: Float = 0) -> DraftWish {
        let request = GenerationRequest(id: RequestID(high: 0, low: id), prompt: tokens, sampling: sampling(temperature: temperature))
        return DraftWish(
            for: GeneratedSequence(id: SequenceID(id), request: request, choice: 0, arrival: 0), behind: guesses, count: count)
    }

    private func guesses(
        _ model: DraftModel, after tokens: [TokenID], count: Int, temperature: Float = 0, isStale: () -> Bool = { false }
    ) throws -> [TokenID] {
        var heard: [[TokenID]] = []
        try model.guess(Self.wish(1, tokens, count: count, temperature: temperature), isStale: isStale) { heard.append($0) }
        #expect(heard.enumerated().allSatisfy { $1.count == $0 + 1 && heard.last!.starts(with: $1) }, "each word says one token more")
        return heard.last ?? []
    }

    private func model(contextTokens: Int = 256) throws -> DraftModel {
        try DraftModel(path: tiny.path, contextTokens: contextTokens, pool: ComputePool(threads: 1), instructionSet: .fromEnvironment())
    }

    @Test func guessesAreGreedyTokensWhateverCameBefore() throws {
        let model = try model()
        let first: [TokenID] = (0..<100).map { $0 * 7 % 90 }
        // Longer, shorter, partly other, wholly other, the same again.
        let wishes: [[TokenID]] = [first, first + [3, 4], Array(first[..<40]), Array(first[..<33]) + [1, 2], [5], first, first]
        for tokens in wishes {
            #expect(try guesses(model, after: tokens, count: 9) == greedy(tokens, 9))
        }
    }

    @Test func aSampledSequenceIsGuessedWithItsOwnRandomNumbers() throws {
        let model = try model()
        for tokens in [[1, 2, 3], [1, 2, 3, 4, 5], [9]] as [[TokenID]] {
            let sampled = try drawn(tokens, 9, Self.sampling(temperature: 1))
            #expect(try guesses(model, after: tokens, count: 9, temperature: 1) == sampled)
            #expect(try sampled != greedy(tokens, 9))
        }
    }

    @Test func theContextAndAWishThatIsOutOfDateEndIt() throws {
        let model = try model(contextTokens: 40)
        let tokens: [TokenID] = (0..<38).map { $0 }
        #expect(try guesses(model, after: tokens, count: 9).count == 3)
        #expect(try guesses(model, after: Array(0..<41), count: 9) == [])
        #expect(try guesses(model, after: [], count: 9) == [])
        #expect(try guesses(model, after: tokens, count: 0) == [])
        var rows = 0
        let some = try guesses(self.model(), after: tokens, count: 9) {
            rows += 1
            return rows == 3
        }
        #expect(try some == greedy(tokens, 3))
    }

    /// The tiny model with such a list of tokens.
    private func file(_ name: String, tokens: [String]?) throws -> String {
        var metadata = tiny.file.metadata
        if let tokens { metadata.set("tokenizer.ggml.tokens", .array(.string(StringArray(tokens)))) }
        var writer = GGUFWriter(metadata: metadata)
        for tensor in tiny.file.tensors { writer.add(tensor.name, type: tensor.type, shape: tensor.shape, bytes: Array(tensor.bytes)) }
        try writer.write(to: folder.file(name))
        return folder.file(name)
    }

    @Test func anotherVocabularyIsRefused() throws {
        let tokens = (0..<TinyModel.vocabulary).map { "t\($0)" }
        var others = tokens
        others[40] = "other"
        let served = try file("served.gguf", tokens: tokens)
        try DraftModel.checkVocabulary(of: file("same.gguf", tokens: tokens), against: served)
        for (name, tokens, says) in [("other.gguf", others, "token 40"), ("none.gguf", nil, "lists no tokens")] as [(String, [String]?, String)] {
            let path = try file(name, tokens: tokens)
            let error = #expect(throws: NodeError.self) { try DraftModel.checkVocabulary(of: path, against: served) }
            #expect(error?.code == .modelUnusable && error?.message.contains(says) == true)
        }
    }

    @Test func theThreadAnswersTheNewestWishAndEnds() throws {
        let thread = DraftThread(
            .init(path: tiny.path, contextTokens: 64, threads: 1, instructionSet: try .fromEnvironment()), logger: Logger(label: "test"))
        #expect(thread.takeWord() == nil)
        // Loading takes longer than this: the first wish is overtaken.
        thread.post(Self.wish(1, [9, 9, 9], count: 2))
        thread.post(Self.wish(2, [1, 2, 3], behind: [4], count: 2))
        let expected = try [4] + greedy([1, 2, 3, 4], 2)
        var word: DraftThread.Word?
        for _ in 0..<5_000 where word?.tokens.count != expected.count {
            word = thread.takeWord() ?? word
            usleep(1_000)
        }
        #expect(word == .init(sequence: SequenceID(2), atLength: 3, tokens: expected))
        #expect(thread.takeWord() == nil, "each word is taken once")
        #expect(thread.end(timeoutMs: 5_000))
    }

    @Test func aModelThatCanNotBeLoadedIsSilentAndEnds() throws {
        let thread = DraftThread(
            .init(path: folder.file("missing.gguf"), contextTokens: 64, threads: 1, instructionSet: try .fromEnvironment()),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        thread.post(Self.wish(1, [1], count: 2))
        #expect(thread.end(timeoutMs: 5_000) && thread.takeWord() == nil)
    }
}
