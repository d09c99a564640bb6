import Foundation
import ModelFiles
import Testing

@testable import Prompt

/// Tokenizers of Hugging Face folders: ids and texts equal to the references' on the whole corpus; see ops/golden/make-hf-tokenizer.py.
@Suite struct FolderTokenizerTests {
    static let jsons = [
        "llama3", "qwen2", "gpt2", "gpt4o", "cl100k", "smollm", "llama2", "metaspace", "unigram", "unigram-bytes", "words", "precompiled",
    ]
    static let models = ["sp-bpe", "sp-unigram", "sp-bpe-maps", "sp-unigram-plain"]

    /// A tokenizer of one file and of what tokenizer_config.json would say.
    static func tokenizer(_ name: String) throws -> Tokenizer {
        var metadata = Metadata()
        if name.hasPrefix("sp-") {
            metadata.set(HFKey.sentencePiece, .array(.uint8(try TokenizerFixtures.file(name + ".model", in: "hf-tokenizer"))))
        } else {
            metadata.set(HFKey.tokenizer, .string(String(decoding: try TokenizerFixtures.file(name + ".json", in: "hf-tokenizer"), as: UTF8.self)))
        }
        return try Tokenizer(metadata: metadata)
    }

    /// Those that the script takes: every second one, without digits that the reference's Unicode does not know.
    static func entries() throws -> [TokenizerFixtures.Entry] {
        try TokenizerFixtures.corpus().filter { $0.kind != "bytes" }.enumerated().filter { $0.offset % 2 == 0 }.map(\.element)
            .filter { !$0.text.unicodeScalars.contains { (0x1FBF0...0x1FBF9).contains($0.value) } }
    }

    @Test("ids", arguments: jsons + models)
    func ids(name: String) throws {
        let entries = try Self.entries()
        let tokenizer = try Self.tokenizer(name)
        let expected = try TokenizerFixtures.expected(name, for: entries, in: "hf-tokenizer")
        var wrong = 0
        for (entry, expected) in zip(entries, expected) {
            for (isSpecial, ids) in [(true, expected.parsed), (false, expected.plain)] {
                guard let ids else { continue }
                let found = tokenizer.encode(entry.bytes, addSpecial: isSpecial, parseSpecial: isSpecial)
                guard found != ids else { continue }
                wrong += 1
                guard wrong <= 3 else { continue }
                Issue.record("\(entry.kind), special \(isSpecial): \(entry.text.debugDescription)\nreference \(names(ids, tokenizer))\nfound     \(names(found, tokenizer))")
            }
        }
        #expect(wrong == 0, "strings that differ from the reference")
    }

    @Test("texts, whole and token by token", arguments: jsons + models)
    func texts(name: String) throws {
        let entries = try Self.entries()
        let tokenizer = try Self.tokenizer(name)
        let ids = try TokenizerFixtures.expected(name, for: entries, in: "hf-tokenizer")
        let texts = try JSONDecoder().decode([String?].self, from: Data(TokenizerFixtures.file(name + ".texts", in: "hf-tokenizer")))
        #expect(texts.count == entries.count)
        var wrong = 0
        for (entry, (ids, text)) in zip(entries, zip(ids, texts)) {
            let wanted = text ?? entry.text
            let found = tokenizer.text(of: ids.parsed, skipSpecialTokens: true)
            var stream = StreamingDetokenizer(tokenizer: tokenizer, skipSpecialTokens: true)
            let streamed = ids.parsed.map { stream.append($0) }.joined() + stream.finish()
            guard !found.utf8.elementsEqual(wanted.utf8) || !streamed.utf8.elementsEqual(wanted.utf8) else { continue }
            wrong += 1
            guard wrong <= 3 else { continue }
            Issue.record("\(entry.kind) \(names(ids.parsed, tokenizer))\nreference \(wanted.debugDescription)\nfound     \(found.debugDescription)\nstreamed  \(streamed.debugDescription)")
        }
        #expect(wrong == 0, "texts that differ from the reference")
    }

    @Test("bytes that are not UTF-8 come back", arguments: ["llama3", "gpt2", "llama2", "unigram-bytes", "sp-bpe"])
    func strayBytes(name: String) throws {
        let tokenizer = try Self.tokenizer(name)
        for bytes: [UInt8] in [[0xFF], [0x61, 0xC3, 0x62], [0xE2, 0x82, 0x20, 0x61], [0x20, 0xF0, 0x9F]] {
            let ids = tokenizer.encode(bytes, addSpecial: false, parseSpecial: false)
            let back = Array(ids.flatMap { tokenizer.bytes(of: $0) }.drop { $0 == 0x20 })
            #expect(back == Array(bytes.drop { $0 == 0x20 }), "\(name) \(bytes)")
        }
    }

    private func names(_ ids: [Int32], _ tokenizer: Tokenizer) -> [String] { ids.map { "\($0):\(tokenizer.name(of: $0))" } }
}
