import ModelFiles

/// The tokenizer keys of a model file as plain values, as they stand in the file: types are right, nothing else is checked.
struct VocabularySource: Sendable {
    /// `tokenizer.ggml.model`: which algorithm.
    var model: String
    /// `tokenizer.ggml.pre`: how byte-level BPE cuts text into words.
    var pre: String?
    /// `tokenizer.ggml.tokens`: the text of each token, in the alphabet of the algorithm.
    var tokens: StringArray
    /// `tokenizer.ggml.token_type`, see `TokenType`.
    var types: [Int]?
    /// `tokenizer.ggml.scores`: SentencePiece's log probabilities; the higher score merges first.
    var scores: [Double]?
    /// `tokenizer.ggml.merges`: "left right", the earlier merges first.
    var merges: StringArray?
    /// `tokenizer.ggml.KEY_token_id`, by `SpecialTokenKey`.
    var specialTokens: [SpecialTokenKey: Int] = [:]
    var addBOS: Bool?
    var addEOS: Bool?
    var addSpacePrefix: Bool?
    /// `tokenizer.staffel.space_prefix`, a name of `SpacePrefix`: where texts get their space, told more exactly than files usually do.
    var spacePrefix: String?
    var layout = Layout.standard

    /// What a family does around added tokens that no key of its own tells; read from the architecture's name.
    enum Layout: Sendable {
        case standard
        /// Added tokens swallow the white space after them, and each text gets its space in front.
        case phi3
    }

    init(model: String, tokens: StringArray) {
        self.model = model
        self.tokens = tokens
    }

    init(metadata: Metadata) throws(PromptError) {
        do {
            guard let model = try metadata.string(VocabularyKey.model) else { throw Self.missing(VocabularyKey.model) }
            guard let tokens = try metadata.stringArray(VocabularyKey.tokens) else { throw Self.missing(VocabularyKey.tokens) }
            self.init(model: model, tokens: tokens)
            pre = try metadata.string(VocabularyKey.pre)
            types = try metadata.ints(VocabularyKey.types)
            scores = try metadata.doubles(VocabularyKey.scores)
            merges = try metadata.stringArray(VocabularyKey.merges)
            addBOS = try metadata.bool(VocabularyKey.addBOS)
            addEOS = try metadata.bool(VocabularyKey.addEOS)
            addSpacePrefix = try metadata.bool(VocabularyKey.addSpacePrefix)
            spacePrefix = try metadata.string(VocabularyKey.spacePrefix)
            if try metadata.string(VocabularyKey.architecture) == "phi3", model == "llama" { layout = .phi3 }
            for key in SpecialTokenKey.allCases { specialTokens[key] = try metadata.int(key.metadataKey) }
        } catch let error as ModelFileError {
            throw PromptError(.invalidValue, "The model file's vocabulary cannot be read: \(error.message)", cause: error)
        } catch let error as PromptError {
            throw error
        } catch {
            preconditionFailure("metadata getters throw ModelFileError only: \(error)")
        }
    }

    /// Sets the keys that `init(metadata:)` reads.
    func write(to metadata: inout Metadata) {
        metadata.set(VocabularyKey.model, .string(model))
        if let pre { metadata.set(VocabularyKey.pre, .string(pre)) }
        metadata.set(VocabularyKey.tokens, .array(.string(tokens)))
        if let scores { metadata.set(VocabularyKey.scores, .array(.float32(scores.map { Float($0) }))) }
        if let types { metadata.set(VocabularyKey.types, .array(.int32(types.map { Int32($0) }))) }
        if let merges { metadata.set(VocabularyKey.merges, .array(.string(merges))) }
        for key in SpecialTokenKey.allCases { if let id = specialTokens[key] { metadata.set(key.metadataKey, .uint32(UInt32(id))) } }
        if let addBOS { metadata.set(VocabularyKey.addBOS, .bool(addBOS)) }
        if let addEOS { metadata.set(VocabularyKey.addEOS, .bool(addEOS)) }
        if let addSpacePrefix { metadata.set(VocabularyKey.addSpacePrefix, .bool(addSpacePrefix)) }
        if let spacePrefix { metadata.set(VocabularyKey.spacePrefix, .string(spacePrefix)) }
    }

    static func missing(_ key: String) -> PromptError {
        PromptError(
            .missingKey,
            "The model file has no metadata key '\(key)', without which text cannot be turned into tokens. Convert the model again, with its tokenizer files beside it."
        )
    }
}

/// The names of the metadata keys that make a vocabulary.
enum VocabularyKey {
    static let architecture = "general.architecture"
    static let model = "tokenizer.ggml.model"
    static let pre = "tokenizer.ggml.pre"
    static let tokens = "tokenizer.ggml.tokens"
    static let types = "tokenizer.ggml.token_type"
    static let scores = "tokenizer.ggml.scores"
    static let merges = "tokenizer.ggml.merges"
    static let addBOS = "tokenizer.ggml.add_bos_token"
    static let addEOS = "tokenizer.ggml.add_eos_token"
    static let addSpacePrefix = "tokenizer.ggml.add_space_prefix"
    static let spacePrefix = "tokenizer.staffel.space_prefix"
}

/// The roles that metadata can give to a token by its id.
enum SpecialTokenKey: String, CaseIterable, Sendable {
    case bos, eos, eot, eom, unknown, padding

    var metadataKey: String { "tokenizer.ggml.\(rawValue)_token_id" }
}

/// What `tokenizer.ggml.token_type` says of a token; the numbers are the file format's.
enum TokenType: UInt8, Sendable {
    case normal = 1
    case unknown = 2
    case control = 3
    case userDefined = 4
    case unused = 5
    case byte = 6
}
