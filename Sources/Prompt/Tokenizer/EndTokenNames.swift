import ModelFiles

/// Tokens that end a turn or a text by their name. Metadata names one `eos`, yet chat models end turns with others
/// (Llama 3 ends a text with 128001, a turn with `<|eot_id|>`, a tool call with `<|eom_id|>`), and many files leave
/// the keys for those out.
enum EndTokenNames {
    static let all: [String] = [
        "<|endoftext|>",  // GPT-2, Qwen, SmolLM, Phi-3
        "<|end_of_text|>",  // Llama 3, Granite
        "<|im_end|>",  // ChatML: Qwen, SmolLM, Yi, MIO
        "<|eot_id|>", "<|eom_id|>",  // Llama 3
        "<|end|>",  // Phi-3
        "<end_of_turn>",  // Gemma
        "<|end_of_turn|>", "<|END_OF_TURN_TOKEN|>",  // OpenChat, Command R
        "<EOT>", "_<EOT>", "<|EOT|>",  // DeepSeek Coder and kin
        "<｜end▁of▁sentence｜>",  // DeepSeek
    ]

    static func ids(in tokens: StringArray) -> [Int32] {
        let names = Set(all.map { Array($0.utf8) })
        return tokens.indices.compactMap { id in
            let bytes = tokens.bytes(at: id)
            // Only the first byte is looked at for nearly all of a vocabulary.
            guard bytes.first == UInt8(ascii: "<") || bytes.first == UInt8(ascii: "_") else { return nil }
            return names.contains(Array(bytes)) ? Int32(id) : nil
        }
    }
}
