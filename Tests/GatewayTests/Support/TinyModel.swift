import ClusterCore
import Prompt

@testable import Gateway

/// A model that is small enough to read: token i is byte i; 256 and 257 open and close a turn; 258 ends a text; 259 is "th";
/// 260 is 16,384 times "x".
enum TinyModel {
    static let turnStart: TokenID = 256
    static let turnEnd: TokenID = 257
    static let textEnd: TokenID = 258
    static let th: TokenID = 259
    static let long: TokenID = 260
    static let vocabulary = 261
    static let contextTokens = 512

    static let template = """
        {% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}\
        {% if tools %}{{ tools | tojson }}{% endif %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
        """

    static func tokens(_ text: String) -> [TokenID] { text.utf8.map { TokenID($0) } }

    static func welcome(health: ClusterHealth.State = .serving, contextTokens: Int = contextTokens) -> GatewayWelcome {
        GatewayWelcome(
            version: .current, coordinatorSession: 1, modelName: "tiny",
            modelDigest: ModelDigest(bytes: Array(repeating: 0xAB, count: 32))!, contextTokens: contextTokens,
            parameterCount: 12_345, modelBytes: 67_890,
            health: ClusterHealth(state: health, detail: "told by the test"))
    }

    static func served(names: [String] = [], contextTokens: Int = contextTokens) throws -> ServedModel {
        try ServedModel(welcome: welcome(contextTokens: contextTokens), header: header(), names: names)
    }

    /// The key-value section of a GGUF file.
    /// `sampling`: its makers' defaults, by GGUF's names below `general.sampling.`.
    static func header(template: String? = template, sampling: [(String, Float)] = []) -> [UInt8] {
        var pairs: [[UInt8]] = [
            pair("general.architecture", string: "llama"),
            pair("tokenizer.ggml.model", string: "gpt2"),
            pair("tokenizer.ggml.pre", string: "gpt-2"),
            pair("tokenizer.ggml.tokens", strings: tokenTexts),
            pair("tokenizer.ggml.token_type", ints: (0..<vocabulary).map { (256...258).contains($0) ? 3 : 1 }),
            pair("tokenizer.ggml.merges", strings: ["t h"]),
            pair("tokenizer.ggml.bos_token_id", uint32: 258),
            pair("tokenizer.ggml.eos_token_id", uint32: 257),
            pair("tokenizer.ggml.add_bos_token", bool: false),
        ]
        if let template { pairs.append(pair("tokenizer.chat_template", string: template)) }
        for (name, number) in sampling {
            let key = "general.sampling." + name
            pairs.append(Float(Int(number)) == number ? pair(key, uint32: UInt32(number)) : text(key) + little(UInt32(6)) + little(number.bitPattern))
        }
        return Array("GGUF".utf8) + little(UInt32(3)) + little(UInt64(0)) + little(UInt64(pairs.count)) + pairs.joined()
    }

    /// GPT-2's alphabet: printable Latin-1 for itself, the other bytes from U+0100 on.
    private static var tokenTexts: [String] {
        var next: UInt32 = 0x100
        let bytes = (0..<256).map { (byte: UInt32) -> String in
            if (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || (0xAE...0xFF).contains(byte) {
                return String(Unicode.Scalar(byte)!)
            }
            defer { next += 1 }
            return String(Unicode.Scalar(next)!)
        }
        return bytes + ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "th", String(repeating: "x", count: 16_384)]
    }

    // MARK: GGUF

    private static func little<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
        withUnsafeBytes(of: number.littleEndian) { Array($0) }
    }

    private static func text(_ string: String) -> [UInt8] { little(UInt64(string.utf8.count)) + Array(string.utf8) }

    private static func pair(_ key: String, string: String) -> [UInt8] { text(key) + little(UInt32(8)) + text(string) }
    private static func pair(_ key: String, uint32: UInt32) -> [UInt8] { text(key) + little(UInt32(4)) + little(uint32) }
    private static func pair(_ key: String, bool: Bool) -> [UInt8] { text(key) + little(UInt32(7)) + [bool ? 1 : 0] }

    private static func pair(_ key: String, strings: [String]) -> [UInt8] {
        text(key) + little(UInt32(9)) + little(UInt32(8)) + little(UInt64(strings.count)) + strings.flatMap { text($0) }
    }

    private static func pair(_ key: String, ints: [Int32]) -> [UInt8] {
        text(key) + little(UInt32(9)) + little(UInt32(5)) + little(UInt64(ints.count)) + ints.flatMap { little($0) }
    }
}
