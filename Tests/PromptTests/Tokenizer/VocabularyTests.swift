import ModelFiles
import Testing

@testable import Prompt

/// Metadata in, tokenizer or one clear error out.
@Suite struct VocabularyTests {
    /// A change to a good vocabulary's metadata, and what it must lead to.
    struct Fault: Sendable, CustomTestStringConvertible {
        let key: String
        let value: MetadataValue?
        let code: PromptErrorCode
        var fixture = "gpt-2"

        var testDescription: String { "\(fixture) \(key) = \(value.map { String(describing: $0).prefix(60) } ?? "nothing")" }
    }

    static let faults: [Fault] = [
        Fault(key: VocabularyKey.model, value: nil, code: .missingKey),
        Fault(key: VocabularyKey.model, value: .uint32(1), code: .invalidValue),
        Fault(key: VocabularyKey.model, value: .string("bert"), code: .unsupportedTokenizer),
        Fault(key: VocabularyKey.pre, value: .string("gpt-17"), code: .unsupportedPreTokenizer),
        Fault(key: VocabularyKey.tokens, value: nil, code: .missingKey),
        Fault(key: VocabularyKey.tokens, value: .array(.uint32([1])), code: .invalidValue),
        Fault(key: VocabularyKey.tokens, value: .array(.string(StringArray([]))), code: .invalidValue),
        Fault(key: VocabularyKey.merges, value: nil, code: .missingKey),
        Fault(key: VocabularyKey.merges, value: .array(.string(StringArray(["ab"]))), code: .invalidValue),
        Fault(key: VocabularyKey.merges, value: .array(.string(StringArray(["a "]))), code: .invalidValue),
        Fault(key: VocabularyKey.merges, value: .array(.string(StringArray([" "]))), code: .invalidValue),
        Fault(key: VocabularyKey.merges, value: .array(.string(StringArray(["a 東"]))), code: .invalidValue),
        Fault(key: VocabularyKey.types, value: .array(.int32([1, 1])), code: .invalidValue),
        Fault(key: SpecialTokenKey.bos.metadataKey, value: .uint32(1_000_000), code: .invalidValue),
        Fault(key: SpecialTokenKey.eos.metadataKey, value: .int32(-1), code: .invalidValue),
        Fault(key: SpecialTokenKey.eom.metadataKey, value: .string("x"), code: .invalidValue),
        Fault(key: VocabularyKey.addBOS, value: .string("yes"), code: .invalidValue),
        Fault(key: VocabularyKey.scores, value: nil, code: .missingKey, fixture: "llama"),
        Fault(key: VocabularyKey.scores, value: .array(.float32([0])), code: .invalidValue, fixture: "llama")
    ]

    @Test("a fault in the metadata is an error that names the key", arguments: faults)
    func faultyMetadata(fault: Fault) throws {
        var metadata = try TokenizerFixtures.metadata(fault.fixture)
        if let value = fault.value { metadata.set(fault.key, value) } else { metadata.remove(fault.key) }
        let error = #expect(throws: PromptError.self) { try Tokenizer(metadata: metadata) }
        #expect(error?.code == fault.code)
        #expect(error?.message.contains(fault.key) == true, "\(error?.message ?? "")")
    }

    @Test("types and scores that mean nothing")
    func badElements() throws {
        var metadata = try TokenizerFixtures.metadata("llama")
        let count = try #require(try metadata.stringArray(VocabularyKey.tokens)).count
        metadata.set(VocabularyKey.types, .array(.int32(Array(repeating: 9, count: count))))
        #expect(throws: PromptError.self) { try Tokenizer(metadata: metadata) }
        metadata.set(VocabularyKey.types, .array(.int32(Array(repeating: 6, count: count))))
        #expect(throws: PromptError.self) { try Tokenizer(metadata: metadata) }
        metadata.remove(VocabularyKey.types)
        #expect(throws: Never.self) { try Tokenizer(metadata: metadata) }
        metadata.set(VocabularyKey.scores, .array(.float32(Array(repeating: .nan, count: count))))
        #expect(throws: PromptError.self) { try Tokenizer(metadata: metadata) }
    }

    @Test("BOS and EOS go where the metadata puts them")
    func bosAndEOS() throws {
        var metadata = try TokenizerFixtures.metadata("gpt-2")
        let bos = try #require(Tokenizer(metadata: metadata).bosToken).id
        let eos = try #require(Tokenizer(metadata: metadata).eosToken).id
        #expect(try Tokenizer(metadata: metadata).encode("", addSpecial: true, parseSpecial: false) == [])
        metadata.set(VocabularyKey.addBOS, .bool(true))
        metadata.set(VocabularyKey.addEOS, .bool(true))
        #expect(try Tokenizer(metadata: metadata).encode("", addSpecial: true, parseSpecial: false) == [bos, eos])
        #expect(try Tokenizer(metadata: metadata).encode("", addSpecial: false, parseSpecial: false) == [])
        metadata.remove(SpecialTokenKey.bos.metadataKey)
        let error = #expect(throws: PromptError.self) { try Tokenizer(metadata: metadata) }
        #expect(error?.message.contains(SpecialTokenKey.bos.metadataKey) == true)
    }

    @Test("defaults of the families where the keys are silent")
    func defaults() throws {
        #expect(try !TokenizerFixtures.tokenizer("gpt-2").addsBOS)
        #expect(try TokenizerFixtures.tokenizer("llama-bpe").addsBOS)
        #expect(try TokenizerFixtures.tokenizer("tekken").addsBOS)
        var metadata = try TokenizerFixtures.metadata("llama")
        #expect(try Tokenizer(metadata: metadata).addsBOS)
        for key in [SpecialTokenKey.bos, .eos, .unknown] { metadata.remove(key.metadataKey) }
        let tokenizer = try Tokenizer(metadata: metadata)
        #expect(tokenizer.bosToken == Tokenizer.NamedToken(id: 1, text: "<s>"))
        #expect(tokenizer.eosToken == Tokenizer.NamedToken(id: 2, text: "</s>"))
        #expect(tokenizer.unknownToken == Tokenizer.NamedToken(id: 0, text: "<unk>"))
    }

    @Test("end tokens come from keys and from names")
    func endTokens() throws {
        var metadata = try TokenizerFixtures.metadata("gpt-2")
        let names = ["<|endoftext|>", "<|im_end|>", "<|eot_id|>"]
        let tokenizer = try Tokenizer(metadata: metadata)
        #expect(Set(tokenizer.endTokens.map(tokenizer.name(of:))) == Set(names))
        metadata.set(SpecialTokenKey.eot.metadataKey, .uint32(7))
        #expect(
            try Tokenizer(metadata: metadata).endTokens == tokenizer.endTokens + [7]
                || Tokenizer(metadata: metadata).endTokens == [7] + tokenizer.endTokens)
    }

    @Test("an end token that the converter left normal is a control token all the same")
    func normalEndToken() throws {
        var metadata = try TokenizerFixtures.metadata("gpt-2")
        metadata.remove(VocabularyKey.types)
        let tokenizer = try Tokenizer(metadata: metadata)
        let end = try #require(tokenizer.tokenID(named: "<|im_end|>"))
        #expect(tokenizer.isSpecial(end))
        #expect(tokenizer.encode("<|im_end|>", addSpecial: false, parseSpecial: true) == [end])
        #expect(tokenizer.tokenID(named: "<|im_start|>") == nil)
    }

    @Test("added tokens: the longest, control tokens only where asked for")
    func addedTokens() throws {
        let tokenizer = try TokenizerFixtures.tokenizer("qwen2")
        let think = try #require(tokenizer.tokenID(named: "<think>"))
        let longer = try #require(tokenizer.tokenID(named: "<think>>"))
        let end = try #require(tokenizer.tokenID(named: "<|im_end|>"))
        #expect(tokenizer.tokenID(named: "<think") == nil)
        #expect(tokenizer.tokenID(named: "<think><think>") == nil)
        #expect(tokenizer.tokenID(named: "") == nil)
        let text = "<think><think>>\u{0}<|im_end|>"
        #expect(tokenizer.encode(text, addSpecial: false, parseSpecial: true).filter { $0 > 255 } == [think, longer, end])
        let plain = tokenizer.encode(text, addSpecial: false, parseSpecial: false)
        #expect(plain.starts(with: [think, longer]) && !plain.contains(end))
        #expect(tokenizer.isSpecial(end) && !tokenizer.isSpecial(think))
        #expect(!tokenizer.isSpecial(-1) && !tokenizer.isSpecial(Int32.max))
        #expect(tokenizer.bytes(of: -1) == [] && tokenizer.name(of: Int32.max) == "")
    }

    @Test("without byte tokens unknown characters in a row are one unknown token")
    func unknownCharacters() throws {
        var source = VocabularySource(model: "llama", tokens: StringArray(["<unk>", "<s>", "</s>", "▁", "a", "▁a"]))
        source.types = [2, 3, 3, 1, 1, 1]
        source.scores = [0, 0, 0, -3, -4, -1]
        let tokenizer = try Tokenizer(source)
        #expect(tokenizer.encode("a 東京a é", addSpecial: true, parseSpecial: false) == [1, 5, 3, 0, 4, 3, 0])
    }

    @Test("pieces whose characters are no pieces themselves still merge")
    func partCharacters() throws {
        var source = VocabularySource(model: "llama", tokens: StringArray(["<unk>", "<s>", "</s>", "xy", "xyz", "▁xyz", "▁"]))
        source.types = [2, 3, 3, 1, 1, 1, 1]
        source.scores = [0, 0, 0, -1, -2, -3, -4]
        let tokenizer = try Tokenizer(source)
        #expect(tokenizer.encode("xyz zyxy", addSpecial: false, parseSpecial: false) == [5, 6, 0, 3])
    }
}
