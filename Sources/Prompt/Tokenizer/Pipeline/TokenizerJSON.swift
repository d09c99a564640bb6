import ModelFiles

/// The parts of a `tokenizer.json` (Hugging Face's `tokenizers`), read and checked: what is not understood is refused by name, since a step
/// that is left out gives other tokens without a sign.
struct TokenizerJSON {
    var addedTokens: [AddedToken] = []
    var normalizer = TextNormalizer()
    var splitter = WordSplitter()
    var model: Model
    var decoder: TokenDecoder
    /// Around a text that stands alone.
    var prefix: [Int32] = []
    var suffix: [Int32] = []

    enum Model {
        case bpe(BPEDescription)
        case unigram(UnigramDescription)
    }

    /// `json`: the file's text. Throws `invalidValue` or `unsupportedTokenizer`.
    init(json: String) throws(PromptError) {
        var json = json
        let root: JSONValue
        do {
            root = try json.withUTF8 { bytes throws(ModelFileError) in try JSONValue(json: UnsafeRawBufferPointer(bytes), name: Self.file) }
        } catch {
            throw PromptError(.invalidValue, "The model's tokenizer cannot be read.", cause: error)
        }
        guard let object = root.object, let model = object["model"]?.object else { throw Self.invalid("has no object 'model'") }
        self.model = try Self.readModel(model)
        if let tokens = object["added_tokens"], !tokens.isNull { addedTokens = try Self.readAddedTokens(tokens) }
        normalizer = try TextNormalizer(json: object["normalizer"] ?? .null)
        splitter = try WordSplitter(json: object["pre_tokenizer"] ?? .null)
        decoder = try TokenDecoder(json: object["decoder"] ?? .null)
        try readPostProcessor(object["post_processor"] ?? .null)
        // Padding and truncation are wishes of a training loop; a prompt is neither cut nor filled.
    }

    static let file = HFKey.tokenizer

    static func invalid(_ what: String) -> PromptError {
        PromptError(.invalidValue, "The model's tokenizer.json \(what). The file is damaged; fetch it again.")
    }

    static func unsupported(_ what: String) -> PromptError {
        PromptError(.unsupportedTokenizer, "The model's tokenizer.json \(what), which is not supported. Choose another model, or a GGUF file of it.")
    }

    /// The object that a part is and its "type".
    static func part(_ value: JSONValue, _ what: String) throws(PromptError) -> (type: String, object: JSONObject) {
        guard let object = value.object, let type = object["type"]?.string else { throw invalid("has a \(what) without a type") }
        return (type, object)
    }

    // MARK: Model

    private static func readModel(_ object: JSONObject) throws(PromptError) -> Model {
        // Old files leave the type out.
        let type = object["type"]?.string ?? (object["merges"] != nil ? "BPE" : object["unk_id"] != nil ? "Unigram" : "unnamed")
        switch type {
        case "BPE": return .bpe(try BPEDescription(json: object))
        case "Unigram": return .unigram(try UnigramDescription(json: object))
        default: throw unsupported("has a model of the type '\(type)'")
        }
    }

    // MARK: Added tokens

    private static func readAddedTokens(_ value: JSONValue) throws(PromptError) -> [AddedToken] {
        guard let list = value.array else { throw invalid("has 'added_tokens' that are no list") }
        var tokens: [AddedToken] = []
        for entry in list {
            guard let object = entry.object, let id = object["id"]?.int, let content = object["content"]?.string, let number = Int32(exactly: id), number >= 0,
                !content.isEmpty
            else { throw invalid("has an added token without an id or a text") }
            func flag(_ key: String, _ standard: Bool) throws(PromptError) -> Bool {
                guard let value = object[key], !value.isNull else { return standard }
                guard let flag = value.bool else { throw invalid("says \(value.kind) for '\(key)' of the added token '\(content)'") }
                return flag
            }
            let special = try flag("special", false)
            tokens.append(
                AddedToken(
                    id: number, text: content, isSpecial: special, isWord: try flag("single_word", false), stripsLeft: try flag("lstrip", false),
                    stripsRight: try flag("rstrip", false), isNormalized: try flag("normalized", !special)))
        }
        return tokens
    }

    // MARK: Post-processor

    private mutating func readPostProcessor(_ value: JSONValue) throws(PromptError) {
        guard !value.isNull else { return }
        let (type, object) = try Self.part(value, "post-processor")
        switch type {
        // Only moves offsets, which nobody asks for here.
        case "ByteLevel": return
        case "Sequence":
            guard let list = object["processors"]?.array else { throw Self.invalid("has a sequence of post-processors without a list") }
            for entry in list { try readPostProcessor(entry) }
        case "TemplateProcessing": try readTemplate(object)
        case "BertProcessing", "RobertaProcessing":
            func token(_ key: String) throws(PromptError) -> Int32 {
                guard let pair = object[key]?.array, pair.count == 2, let id = pair[1].int, let number = Int32(exactly: id), number >= 0 else {
                    throw Self.invalid("has a \(type) without '\(key)'")
                }
                return number
            }
            prefix = [try token("cls")] + prefix
            suffix.append(try token("sep"))
        default: throw Self.unsupported("has a post-processor of the type '\(type)'")
        }
    }

    private mutating func readTemplate(_ object: JSONObject) throws(PromptError) {
        guard let single = object["single"]?.array else { throw Self.invalid("has a TemplateProcessing without 'single'") }
        var before: [Int32] = []
        var after: [Int32] = []
        var sequences = 0
        for piece in single {
            if piece.object?["Sequence"] != nil {
                sequences += 1
                continue
            }
            guard let name = piece.object?["SpecialToken"]?.object?["id"]?.string else { throw Self.invalid("has a TemplateProcessing with an unknown piece") }
            guard let ids = object["special_tokens"]?.object?[name]?.object?["ids"]?.array else {
                throw Self.invalid("has a TemplateProcessing that does not say the ids of '\(name)'")
            }
            for id in ids {
                guard let id = id.int, let number = Int32(exactly: id), number >= 0 else { throw Self.invalid("gives '\(name)' the id \(id.kind)") }
                if sequences == 0 { before.append(number) } else { after.append(number) }
            }
        }
        guard sequences == 1 else { throw Self.unsupported("has a TemplateProcessing with \(sequences) places for one text") }
        prefix = before + prefix
        suffix += after
    }
}
