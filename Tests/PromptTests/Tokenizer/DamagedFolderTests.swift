import ModelFiles
import Testing

@testable import Prompt

/// Tokenizer files of folders are untrusted: a damaged one gives an error or a tokenizer that works, never a trap.
@Suite struct DamagedFolderTests {
    @Test("damaged at random", arguments: ["llama3", "llama2", "unigram", "words", "precompiled", "sp-bpe", "sp-unigram"])
    func damaged(name: String) throws {
        let isModel = name.hasPrefix("sp-")
        let whole = try TokenizerFixtures.file(name + (isModel ? ".model" : ".json"), in: "hf-tokenizer")
        let texts = try TokenizerFixtures.corpus().enumerated().filter { $0.offset % 61 == 0 }.map(\.element.bytes)
        var refused = 0
        var made = 0
        for seed in 0..<UInt64(40) {
            var random = SeededRandom(seed: seed)
            var bytes = whole
            damage(&bytes, &random)
            var metadata = Metadata()
            if isModel {
                metadata.set(HFKey.sentencePiece, .array(.uint8(bytes)))
            } else {
                metadata.set(HFKey.tokenizer, .string(String(decoding: bytes, as: UTF8.self)))
            }
            do throws(PromptError) {
                let tokenizer = try Tokenizer(metadata: metadata)
                made += 1
                for text in texts { use(tokenizer, text) }
            } catch {
                #expect(error.message.contains("tokenizer"), "\(name), seed \(seed): \(error)")
                refused += 1
            }
        }
        #expect(refused > 0 && made > 0, "\(refused) refused, \(made) made: the damage is too strong or too weak to show anything")
    }

    private func use(_ tokenizer: Tokenizer, _ text: [UInt8]) {
        let tokens = tokenizer.encode(text, addSpecial: true, parseSpecial: true)
        #expect(tokens.allSatisfy { $0 >= 0 && $0 < tokenizer.vocabularySize })
        _ = tokenizer.text(of: tokens, skipSpecialTokens: false)
    }

    private func damage(_ bytes: inout [UInt8], _ random: inout SeededRandom) {
        let place = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<6, using: &random) {
        case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes.removeSubrange(place..<min(bytes.count, place + Int.random(in: 1...40, using: &random)))
        case 2: bytes.insert(bytes[Int.random(in: 0..<bytes.count, using: &random)], at: place)
        case 3: exchangeNumber(&bytes, from: place, &random)
        case 4: bytes.swapAt(place, Int.random(in: 0..<bytes.count, using: &random))
        default: exchangeNumber(&bytes, from: place / 8, &random)
        }
    }

    private func exchangeNumber(_ bytes: inout [UInt8], from place: Int, _ random: inout SeededRandom) {
        guard let digit = bytes[place...].firstIndex(where: { (0x30...0x39).contains($0) }) else { return }
        let numbers = ["0", "-1", "7", "2147483647", "1e9", "null", "99999999999999999999", "true"]
        bytes.replaceSubrange(digit...digit, with: Array(numbers.randomElement(using: &random)!.utf8))
    }

    // MARK: Refused by name

    private func message(_ json: String) -> String {
        var metadata = Metadata()
        metadata.set(HFKey.tokenizer, .string(json))
        do throws(PromptError) {
            _ = try Tokenizer(metadata: metadata)
            return ""
        } catch { return error.message }
    }

    private func json(model: String = #"{"type":"BPE","vocab":{"a":0},"merges":[]}"#, _ rest: String = "") -> String {
        #"{"model":\#(model),"decoder":{"type":"Fuse"}\#(rest)}"#
    }

    @Test func whatIsNotUnderstoodIsNamed() {
        #expect(message(json()).isEmpty)
        #expect(message(json(model: #"{"type":"WordPiece","vocab":{}}"#)).contains("'WordPiece'"))
        #expect(message(json(model: #"{"type":"BPE","vocab":{"a":0},"merges":[],"dropout":0.1}"#)).contains("at random"))
        #expect(message(json(model: #"{"type":"BPE","vocab":{"a</w>":0},"merges":[],"end_of_word_suffix":"</w>"}"#)).contains("end_of_word_suffix"))
        #expect(message(json(#","normalizer":{"type":"BertNormalizer"}"#)).contains("'BertNormalizer'"))
        #expect(message(json(#","pre_tokenizer":{"type":"UnicodeScripts"}"#)).contains("'UnicodeScripts'"))
        #expect(message(json(#","pre_tokenizer":{"type":"Split","pattern":{"Regex":"[a&&[^b]]"},"behavior":"Isolated","invert":false}"#)).contains("brackets"))
        #expect(message(json(#","pre_tokenizer":{"type":"Split","pattern":{"Regex":"^a"},"behavior":"Isolated","invert":false}"#)).contains("outside of brackets"))
        #expect(message(json(#","post_processor":{"type":"Mystery"}"#)).contains("'Mystery'"))
        #expect(message(#"{"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"decoder":{"type":"CTC"}}"#).contains("'CTC'"))
        #expect(message(json(model: #"{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}"#)).contains("'a'"))
        #expect(message(json(model: #"{"type":"BPE","vocab":{"a":4000000},"merges":[]}"#)).contains("4000000"))
    }

    @Test("an expression made to take for ever ends")
    func catastrophicExpression() throws {
        let expression = #"(a+)+\\x{FFFF}"#
        var metadata = Metadata()
        metadata.set(HFKey.tokenizer, .string(json(#","pre_tokenizer":{"type":"Split","pattern":{"Regex":"\#(expression)"},"behavior":"Isolated","invert":false}"#)))
        let tokens = try Tokenizer(metadata: metadata).encode(String(repeating: "a", count: 60), addSpecial: false, parseSpecial: false)
        #expect(tokens == [Int32](repeating: 0, count: 60))
    }
}
