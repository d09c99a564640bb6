import ModelFiles
import Testing

@testable import Prompt

/// Model files are untrusted: damaged vocabularies give an error or a tokenizer that works, never a trap.
@Suite struct DamagedVocabularyTests {
    @Test("damaged at random", arguments: ["gpt-2", "llama-bpe", "llama", "phi3"])
    func damaged(name: String) throws {
        let whole = try TokenizerFixtures.metadata(name)
        let texts = try TokenizerFixtures.corpus().enumerated().filter { $0.offset % 23 == 0 }.map(\.element.bytes)
        var refused = 0
        for seed in 0..<UInt64(60) {
            var random = SeededRandom(seed: seed)
            var metadata = whole
            for _ in 0..<Int.random(in: 1...3, using: &random) { try damage(&metadata, &random) }
            do throws(PromptError) {
                let tokenizer = try Tokenizer(metadata: metadata)
                for text in texts { use(tokenizer, text) }
            } catch {
                #expect(error.message.contains("tokenizer.ggml."), "\(name), seed \(seed): \(error)")
                refused += 1
            }
        }
        #expect(refused > 5 && refused < 55, "\(refused) of 60 refused: the damage is too strong or too weak to show anything")
    }

    private func use(_ tokenizer: Tokenizer, _ text: [UInt8]) {
        let tokens = tokenizer.encode(text, addSpecial: true, parseSpecial: true)
        #expect(tokens.allSatisfy { $0 >= 0 && $0 < tokenizer.vocabularySize })
        _ = tokenizer.text(of: tokens, skipSpecialTokens: false)
    }

    private func damage(_ metadata: inout Metadata, _ random: inout SeededRandom) throws {
        let key = metadata.keys.filter { $0.hasPrefix("tokenizer.ggml.") }.randomElement(using: &random)!
        switch (try #require(metadata[key]), Int.random(in: 0..<10, using: &random)) {
        case (_, 0):
            metadata.remove(key)
        case (.array(.string(let strings)), let kind):
            metadata.set(key, .array(.string(StringArray(damaged(Array(strings), kind, &random)))))
        case (.array(.int32(var numbers)), _):
            numbers[Int.random(in: numbers.indices, using: &random)] = Int32.random(in: -1...8, using: &random)
            for index in numbers.indices where Int.random(in: 0..<9, using: &random) == 0 { numbers[index] = Int32.random(in: 1...4, using: &random) }
            metadata.set(key, .array(.int32(numbers)))
        case (.array(.float32(var numbers)), _):
            let values: [Float] = [0, -0.0, .infinity, -.infinity, .greatestFiniteMagnitude, -5, -5]
            for index in numbers.indices where Bool.random(using: &random) { numbers[index] = values.randomElement(using: &random)! }
            metadata.set(key, .array(.float32(numbers)))
        case (.uint32, _):
            metadata.set(key, .uint32(UInt32.random(in: 0...2500, using: &random)))
        default:
            metadata.set(key, .string(["gpt2", "llama", "qwen2", "tekken", "", "gpt-2"].randomElement(using: &random)!))
        }
    }

    private func damaged(_ strings: [String], _ kind: Int, _ random: inout SeededRandom) -> [String] {
        var strings = strings
        let some = { (random: inout SeededRandom) in Int.random(in: strings.indices, using: &random) }
        switch kind {
        case 1...3: strings.removeLast(Int.random(in: 1..<strings.count, using: &random))
        case 4: strings.shuffle(using: &random)
        case 5: strings[some(&random)] = strings[some(&random)]
        case 6: strings[some(&random)] = ""
        case 7: strings[some(&random)] = "\u{0}\u{10FFFF} \u{301}"
        default: strings[some(&random)] = String(repeating: "▁a ", count: Int.random(in: 0...400, using: &random))
        }
        return strings
    }
}
