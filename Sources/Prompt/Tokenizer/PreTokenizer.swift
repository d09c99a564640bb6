/// How byte-level BPE cuts text into words before merging; merges never cross a word's border.
///
/// The patterns are those of the families' published tokenizer.json files, as the Oniguruma engine of the reference
/// reads them. Two things are written differently for PCRE2 so that both read the same: white space is listed
/// (PCRE2's `\s` takes U+180E for white space and, without UCP, no character beyond ASCII), and where a family first
/// isolates digits and then cuts each rest by itself, one pattern does both: a digit ends the text for the lookahead.
///
/// No family's text is normalised. Qwen 2 publishes NFC, but model files do not carry it, and what else reads them
/// (transformers, llama.cpp) encodes text as it stands; so do we, and bytes survive a round trip.
enum PreTokenizer: String, Sendable, CaseIterable {
    case gpt2 = "gpt-2"
    case smollm
    case llama3 = "llama-bpe"
    case qwen2
    case refact
    case tekken

    /// Other names that model files carry for the same cuts.
    private static let synonyms: [String: PreTokenizer] = [
        "default": .gpt2, "gpt2": .gpt2, "llama3": .llama3, "llama-v3": .llama3, "starcoder": .refact,
        "deepseek-r1-qwen": .qwen2,
    ]

    /// - Parameter name: the value of `tokenizer.ggml.pre`; files without it are cut as GPT-2 does.
    init(name: String?) throws(PromptError) {
        guard let name else {
            self = .gpt2
            return
        }
        guard let found = PreTokenizer(rawValue: name) ?? Self.synonyms[name] else {
            let supported = (Self.allCases.map(\.rawValue) + Self.synonyms.keys).sorted().joined(separator: ", ")
            throw PromptError(
                .unsupportedPreTokenizer,
                "The metadata key '\(VocabularyKey.pre)' names the pre-tokenizer '\(name)', which is not supported; supported are \(supported). Choose another model."
            )
        }
        self = found
    }

    /// Whether a word that is a token is taken whole, though merging might end elsewhere.
    var ignoresMerges: Bool { self == .llama3 || self == .tekken }

    /// Whether the family puts BOS first where `tokenizer.ggml.add_bos_token` is silent.
    var addsBOSByDefault: Bool { self == .llama3 || self == .tekken }

    /// The pattern of one word; each character of any text is in exactly one match.
    var pattern: String {
        switch self {
        case .gpt2:
            return "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\(Self.space)\\p{L}\\p{N}]+|[\(Self.space)]+(?![^\(Self.space)])|[\(Self.space)]+"
        case .smollm, .refact:
            return "'s|'t|'re|'ve|'m|'ll|'d|[\(Self.number)]| ?\\p{L}+| ?[^\(Self.space)\\p{L}\(Self.number)]+|[\(Self.space)]+(?![^\(Self.space)\(Self.number)])|[\(Self.space)]+"
        case .llama3:
            return "\(contraction)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\(Self.space)\\p{L}\\p{N}]+[\\r\\n]*|\(whiteSpace)"
        case .qwen2:
            return "\(contraction)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\(Self.space)\\p{L}\\p{N}]+[\\r\\n]*|\(whiteSpace)"
        case .tekken:
            let upper = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
            let lower = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
            let start = "[^\\r\\n\\p{L}\\p{N}]?"
            return "\(start)\(upper)*\(lower)+|\(start)\(upper)+\(lower)*|\\p{N}| ?[^\(Self.space)\\p{L}\\p{N}]+[\\r\\n/]*|\(whiteSpace)"
        }
    }

    /// The characters with Unicode's White_Space property, for use inside brackets.
    static var space: String {
        "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
    }

    /// What the reference isolates as digits, for use inside brackets: the numbers of a newer Unicode than the 14 that both
    /// its own patterns and PCRE2 10.42 know. The ranges are those that Unicode 15 to 17 have added.
    static var number: String {
        "\\p{N}\\x{10D40}-\\x{10D49}\\x{116D0}-\\x{116E3}\\x{11BF0}-\\x{11BF9}\\x{11DE0}-\\x{11DE9}\\x{11F50}-\\x{11F59}"
            + "\\x{16130}-\\x{16139}\\x{16D70}-\\x{16D79}\\x{16FF4}-\\x{16FF6}\\x{1CCF0}-\\x{1CCF9}\\x{1D2C0}-\\x{1D2D3}"
            + "\\x{1E4F0}-\\x{1E4F9}\\x{1E5F1}-\\x{1E5FA}"
    }

    private var contraction: String { "(?i:'s|'t|'re|'ve|'m|'ll|'d)" }

    /// Line ends with the white space before them; white space up to, not including, the one before a word; the rest.
    private var whiteSpace: String { "[\(Self.space)]*[\\r\\n]+|[\(Self.space)]+(?![^\(Self.space)])|[\(Self.space)]+" }
}
