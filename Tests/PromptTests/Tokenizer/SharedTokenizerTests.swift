import Testing

@testable import Prompt

/// One tokenizer for all requests of a process.
@Suite struct SharedTokenizerTests {
    @Test("many threads at once get what one gets", arguments: ["tekken", "llama"])
    func concurrentUse(name: String) async throws {
        let tokenizer = try TokenizerFixtures.tokenizer(name)
        let texts = try TokenizerFixtures.corpus().map(\.bytes)
        let alone = texts.map { tokenizer.encode($0, addSpecial: false, parseSpecial: true) }
        await withTaskGroup(of: [[Int32]].self) { group in
            for _ in 0..<8 {
                group.addTask { texts.map { tokenizer.encode($0, addSpecial: false, parseSpecial: true) } }
            }
            for await result in group { #expect(result == alone) }
        }
    }

    @Test("the benchmark counts what encoding gives")
    func benchmark() throws {
        let tokenizer = try TokenizerFixtures.tokenizer("smollm")
        let text = Array("The quick brown fox. ".utf8)
        let result = TokenizerBenchmark.run(tokenizer: tokenizer, text: text, seconds: 0.001)
        #expect(result.tokens == tokenizer.encode(text, addSpecial: false, parseSpecial: false).count)
        #expect(result.passes >= 1 && result.bytesPerSecond > 0)
    }
}
