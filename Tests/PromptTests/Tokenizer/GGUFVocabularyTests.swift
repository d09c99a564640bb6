import ModelFiles
import Testing

@testable import Prompt

/// Tokenizers of folders in the words of GGUF files: equal tokens over the whole corpus, or a refusal that names what cannot be said.
@Suite struct GGUFVocabularyTests {
    private static func json(_ name: String) throws -> String {
        String(decoding: try TokenizerFixtures.file(name + ".json", in: "hf-tokenizer"), as: UTF8.self)
    }

    private static func folder(json: String, _ more: [(String, MetadataValue)] = []) -> Metadata {
        var metadata = Metadata()
        metadata.set(HFKey.tokenizer, .string(json))
        for (key, value) in more { metadata.set(key, value) }
        return metadata
    }

    private static func folder(model name: String) throws -> Metadata {
        var metadata = Metadata()
        metadata.set(HFKey.sentencePiece, .array(.uint8(try TokenizerFixtures.file(name + ".model", in: "hf-tokenizer"))))
        return metadata
    }

    /// With seven rows of the embedding that no token has.
    private static func made(
        _ folder: Metadata, architecture: String = "llama"
    ) throws -> (original: Tokenizer, made: Tokenizer, GGUFVocabulary) {
        let original = try Tokenizer(metadata: folder)
        let vocabulary = try GGUFVocabulary(folder: folder, architecture: architecture, rows: original.vocabularySize + 7)
        var metadata = vocabulary.metadata
        metadata.set("general.architecture", .string(architecture))
        return (original, try Tokenizer(metadata: metadata), vocabulary)
    }

    /// `isText`: of texts only, and not of bytes that are none.
    private func expectEqual(_ original: Tokenizer, _ made: Tokenizer, isNFC: Bool = false, isText: Bool = true) throws {
        for entry in try TokenizerFixtures.corpus() {
            let composed = TextNormalizer.NormalizationForm.nfc.applied(to: Array(entry.text.utf8))
            if isText && entry.kind == "bytes" || isNFC && !entry.text.utf8.elementsEqual(composed) { continue }
            for isSpecial in [true, false] {
                let wanted = original.encode(entry.bytes, addSpecial: isSpecial, parseSpecial: isSpecial)
                let found = made.encode(entry.bytes, addSpecial: isSpecial, parseSpecial: isSpecial)
                try #require(found == wanted, "\(entry.kind) \(entry.text.debugDescription)")
                #expect(made.text(of: found, skipSpecialTokens: isSpecial) == original.text(of: wanted, skipSpecialTokens: isSpecial))
            }
        }
    }

    @Test("byte-level BPE", arguments: [("llama3", "llama-bpe"), ("qwen2", "qwen2"), ("smollm", "smollm")]) func byteLevel(name: String, pre: String) throws {
        let (original, made, vocabulary) = try Self.made(Self.folder(json: Self.json(name)))
        #expect(try vocabulary.metadata.string("tokenizer.ggml.model") == "gpt2" && vocabulary.metadata.string("tokenizer.ggml.pre") == pre)
        #expect(made.vocabularySize == original.vocabularySize + 7 && made.addsBOS == (name == "llama3"))
        #expect(made.bytes(of: Int32(original.vocabularySize) + 3) == [], "rows without a token stand for no text")
        #expect(vocabulary.notes.isEmpty == (name != "qwen2"))
        try expectEqual(original, made, isNFC: name == "qwen2", isText: name == "qwen2")
    }

    /// tokenizer.json as it is made of a SentencePiece file: all ways to make a piece are merges, in the order of scores.
    private static func converted(prefix: String) throws -> String {
        let file = try SentencePieceFile(TokenizerFixtures.file("sp-bpe.model", in: "hf-tokenizer"))
        func text(_ bytes: some Sequence<UInt8>) -> TemplateValue { .string(String(decoding: Array(bytes), as: UTF8.self)) }
        var vocabulary = TemplateObject()
        var added: [TemplateValue] = []
        var known: Set<[UInt8]> = []
        for (id, piece) in file.pieces.enumerated() {
            vocabulary[String(decoding: piece.text, as: UTF8.self)] = .int(id)
            known.insert(piece.text)
            guard [.control, .unknown, .userDefined].contains(piece.type) else { continue }
            added.append(["id": .int(id), "content": text(piece.text), "special": .bool(piece.type != .userDefined), "normalized": false])
        }
        var merges: [(score: Float, id: Int, pair: TemplateValue)] = []
        for (id, piece) in file.pieces.enumerated() where piece.type == .normal {
            for cut in piece.text.indices.dropFirst() where piece.text[cut] & 0xC0 != 0x80 {
                let (left, right) = (Array(piece.text[..<cut]), Array(piece.text[cut...]))
                if known.contains(left), known.contains(right) { merges.append((piece.score, id, .array([text(left), text(right)]))) }
            }
        }
        merges.sort { $0.score == $1.score ? $0.id < $1.id : $0.score > $1.score }
        let model: TemplateValue = [
            "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": .object(vocabulary),
            "merges": .array(merges.map(\.pair)),
        ]
        let (normalizer, splitter) = Self.steps(prefix)
        let strip: TemplateValue = ["type": "Strip", "content": " ", "start": .int(prefix == "never" || prefix == "None" ? 0 : 1), "stop": 0]
        let replace: TemplateValue = ["type": "Replace", "pattern": ["String": "▁"], "content": " "]
        let decoders: TemplateValue = [replace, ["type": "ByteFallback"], ["type": "Fuse"], strip]
        let whole: TemplateValue = [
            "added_tokens": .array(added), "normalizer": normalizer, "pre_tokenizer": splitter, "decoder": ["type": "Sequence", "decoders": decoders],
            "model": model,
        ]
        return String(decoding: whole.json, as: UTF8.self)
    }

    private static func steps(_ prefix: String) -> (normalizer: TemplateValue, splitter: TemplateValue) {
        let replace: TemplateValue = ["type": "Replace", "pattern": ["String": " "], "content": "▁"]
        let prepend: TemplateValue = ["type": "Prepend", "prepend": "▁"]
        switch prefix {
        case "Prepend": return (["type": "Sequence", "normalizers": [prepend, replace]], nil)
        case "None": return (["type": "Sequence", "normalizers": [replace]], nil)
        default: return (nil, ["type": "Metaspace", "replacement": "▁", "prepend_scheme": .string(prefix), "split": false])
        }
    }

    @Test("SentencePiece's BPE in a tokenizer.json", arguments: ["Prepend", "None", "always", "first", "never"]) func converted(prefix: String) throws {
        let roles: [(String, MetadataValue)] = [(HFKey.specialToken("bos"), .string("<s>")), (HFKey.specialToken("eos"), .string("</s>")), (HFKey.addBOS, .bool(true))]
        let (original, made, vocabulary) = try Self.made(Self.folder(json: Self.converted(prefix: prefix), roles))
        #expect(try vocabulary.metadata.string("tokenizer.ggml.model") == "llama" && made.addsBOS)
        let names = ["Prepend": "every_text", "always": "every_text_without", "first": "first_text_without"]
        #expect(try vocabulary.metadata.string("tokenizer.staffel.space_prefix") == names[prefix])
        #expect(vocabulary.notes.isEmpty == (names[prefix] == nil))
        try expectEqual(original, made)
    }

    @Test func sentencePieceFile() throws {
        let (original, made, vocabulary) = try Self.made(Self.folder(model: "sp-bpe"))
        #expect(try vocabulary.metadata.string("tokenizer.staffel.space_prefix") == "before_user_defined" && vocabulary.notes.count == 1)
        try expectEqual(original, made)
    }

    @Test func endsAndRolesAreKept() throws {
        let more: [(String, MetadataValue)] = [
            (HFKey.specialToken("eos"), .string("<|endoftext|>")), (HFKey.specialToken("pad"), .string("<|endoftext|>")), (HFKey.endTokens, .array(.int32([5, 9, 600]))),
            (HFKey.addEOS, .bool(true)),
        ]
        let (original, made, _) = try Self.made(Self.folder(json: Self.json("smollm"), more))
        #expect(made.endTokens == original.endTokens && made.endTokens.contains(5) && made.endTokens.contains(9))
        #expect(made.eosToken == original.eosToken && made.paddingToken == original.paddingToken && made.addsEOS)
    }

    @Test("what GGUF has no words for is named", arguments: [
        ("gpt4o", "pre_tokenizer"), ("cl100k", "normalizer"), ("gpt2", "pre_tokenizer"), ("unigram", "Unigram"), ("unigram-bytes", "Unigram"),
        ("precompiled", "Unigram model"), ("llama2", "scores"), ("words", "pre_tokenizer"), ("metaspace", "normalizer"),
    ]) func refusals(name: String, words: String) throws {
        let error = try #require(throws: PromptError.self) { try Self.made(Self.folder(json: Self.json(name))) }
        #expect(error.code == .unsupportedTokenizer && error.message.contains(words) && error.message.contains("Serve the folder"), "\(error)")
    }

    @Test(arguments: ["sp-unigram", "sp-unigram-plain"]) func unigramFilesAreRefused(name: String) throws {
        let error = try #require(throws: PromptError.self) { try Self.made(Self.folder(model: name)) }
        #expect(error.code == .unsupportedTokenizer && error.message.contains("Unigram"))
    }

    @Test func switchesThatHaveNoKeyAreRefused() throws {
        let json = try Self.json("smollm")
        let changes: [(old: String, new: String, word: String)] = [
            (#""rstrip":false"#, #""rstrip":true"#, "rstrip"), (#""lstrip":false"#, #""lstrip":true"#, "lstrip"),
            (#""single_word":false"#, #""single_word":true"#, "single_word"), (#""ignore_merges":false"#, #""ignore_merges":true"#, "ignore_merges"),
            (#""normalizer":null"#, #""normalizer":{"type":"NFKC"}"#, "normalizer"),
            (#""individual_digits":true"#, #""individual_digits":false"#, "pre_tokenizer"),
            (#""add_prefix_space":false"#, #""add_prefix_space":true"#, "pre_tokenizer"),
        ]
        for (old, new, word) in changes {
            #expect(json.contains(old))
            let changed = json.replacing(old, with: new)
            let error = try #require(throws: PromptError.self) { try Self.made(Self.folder(json: changed)) }
            #expect(error.code == .unsupportedTokenizer && error.message.contains(word), "\(word): \(error)")
        }
        let folder = Self.folder(json: json)
        #expect(throws: PromptError.self) { try GGUFVocabulary(folder: folder, architecture: "llama", rows: 600) }
        let nothing = try #require(throws: PromptError.self) { try GGUFVocabulary(folder: Metadata(), architecture: "llama", rows: 600) }
        #expect(nothing.code == .missingKey)
        let many = Self.folder(json: json, [(HFKey.endTokens, .array(.int32([5, 6, 7, 8, 9])))])
        #expect(throws: PromptError.self) { try Self.made(many) }
    }
}
