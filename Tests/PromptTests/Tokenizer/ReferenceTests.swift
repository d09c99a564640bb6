import Testing

@testable import Prompt

/// Ids equal to the reference's on the whole corpus; see ops/golden/make-tokenizer.py for what the reference is.
@Suite struct ReferenceTests {
    @Test("small vocabularies", arguments: ["gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "llama", "phi3"])
    func smallVocabulary(name: String) throws {
        var entries = try TokenizerFixtures.corpus()
        // The reference for Phi-3 can only be asked about UTF-8.
        if name == "phi3" { entries.removeAll { $0.kind == "bytes" } }
        #expect(entries.count >= 2000)
        try check(TokenizerFixtures.tokenizer(name), entries, TokenizerFixtures.expected(name, for: entries))
    }

    @Test("refact cuts as smollm does")
    func refact() throws {
        var metadata = try TokenizerFixtures.metadata("smollm")
        metadata.set("tokenizer.ggml.pre", .string("refact"))
        let entries = try TokenizerFixtures.corpus()
        try check(Tokenizer(metadata: metadata), entries, TokenizerFixtures.expected("smollm", for: entries))
    }

    @Test("the real SmolLM2 vocabulary", .enabled(if: RealModel.isNamed, "STAFFEL_TEST_MODEL is not set"))
    func smolLM2() throws {
        let metadata = try #require(try TokenizerFixtures.realModel())
        let entries = try TokenizerFixtures.corpus()
        let tokenizer = try Tokenizer(metadata: metadata)
        try check(tokenizer, entries, TokenizerFixtures.expected("smollm2", for: entries))

        #expect(tokenizer.vocabularySize == 49152)
        #expect(tokenizer.bosToken == Tokenizer.NamedToken(id: 1, text: "<|im_start|>"))
        #expect(tokenizer.eosToken == Tokenizer.NamedToken(id: 2, text: "<|im_end|>"))
        #expect(tokenizer.endTokens == [0, 2])
        #expect(!tokenizer.addsBOS && !tokenizer.addsEOS)
    }

    private func check(
        _ tokenizer: Tokenizer, _ entries: [TokenizerFixtures.Entry], _ expected: [TokenizerFixtures.Expected]
    ) throws {
        var wrong = 0
        for (entry, expected) in zip(entries, expected) {
            for (parseSpecial, ids) in [(true, expected.parsed), (false, expected.plain)] {
                guard let ids else { continue }
                let found = tokenizer.encode(entry.bytes, addSpecial: false, parseSpecial: parseSpecial)
                guard found != ids else { continue }
                wrong += 1
                guard wrong <= 5 else { continue }
                let text = String(decoding: entry.bytes, as: UTF8.self)
                Issue.record(
                    "\(entry.kind), parseSpecial \(parseSpecial): \(text.debugDescription)\nreference \(names(ids, tokenizer))\nfound     \(names(found, tokenizer))")
            }
        }
        #expect(wrong == 0, "strings that differ from the reference")
    }

    private func names(_ ids: [Int32], _ tokenizer: Tokenizer) -> [String] { ids.map { "\($0):\(tokenizer.name(of: $0))" } }
}
