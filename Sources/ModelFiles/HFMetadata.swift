/// The files of a folder that say how the model speaks: of each the bytes, nil where there is none.
struct HFTexts {
    let tokenizer: FileBytes?
    let sentencePiece: FileBytes?
    let tokenizerConfig: FileBytes?
    let chatTemplate: FileBytes?
    let chatTemplateJSON: FileBytes?
    let generation: FileBytes?

    init(_ folder: FolderFiles) throws(ModelFileError) {
        tokenizer = try folder.openText(HFFile.tokenizer)
        // Where both are there, transformers reads tokenizer.json.
        sentencePiece = tokenizer == nil ? try folder.openText(HFFile.sentencePiece) : nil
        tokenizerConfig = try folder.openText(HFFile.tokenizerConfig)
        chatTemplate = try folder.openText(HFFile.chatTemplate)
        chatTemplateJSON = chatTemplate == nil ? try folder.openText(HFFile.chatTemplateJSON) : nil
        generation = try folder.openText(HFFile.generation)
    }

    /// Those that are there, in the order of the model's parts.
    var files: [(name: String, file: FileBytes)] {
        [
            (HFFile.generation, generation), (HFFile.tokenizer, tokenizer), (HFFile.sentencePiece, sentencePiece),
            (HFFile.tokenizerConfig, tokenizerConfig), (HFFile.chatTemplate, chatTemplate), (HFFile.chatTemplateJSON, chatTemplateJSON),
        ].compactMap { name, file in file.map { (name, $0) } }
    }
}

/// Keys under which a folder's tokenizer and defaults stand in `ModelSource.metadata`. Those of GGUF keep their names; a tokenizer file is one
/// value, as it is: whoever makes a tokenizer reads it.
package enum HFKey {
    /// tokenizer.json, a text.
    package static let tokenizer = "tokenizer.huggingface.json"
    /// tokenizer.model, an array of uint8.
    package static let sentencePiece = "tokenizer.sentencepiece.model"
    /// bos, eos, unk or pad token, a text.
    package static func specialToken(_ role: String) -> String { "tokenizer.huggingface.\(role)_token" }
    /// Ids that end a generation, an array of int32: `eos_token_id` of generation_config.json, else of config.json.
    package static let endTokens = "tokenizer.huggingface.end_token_ids"
    package static let addBOS = "tokenizer.ggml.add_bos_token"
    package static let addEOS = "tokenizer.ggml.add_eos_token"
    package static let chatTemplate = "tokenizer.chat_template"
    /// Of templates with names: the template of one, and all names.
    package static func chatTemplate(named name: String) -> String { "\(chatTemplate).\(name)" }
    package static let chatTemplateNames = "tokenizer.chat_templates"
}

/// Makes `ModelSource.metadata` of a folder's JSON files.
struct HFMetadata {
    let folder: FolderFiles
    let config: JSONObject
    let texts: HFTexts

    func metadata() throws(ModelFileError) -> Metadata {
        var metadata = Metadata()
        metadata.set("general.name", .string(folder.lastName))
        if let license = try ModelCardText(folder).license { metadata.set("general.license", .string(license)) }
        if let tokenizer = texts.tokenizer { metadata.set(HFKey.tokenizer, .string(try tokenizer.text)) }
        if let model = texts.sentencePiece { metadata.set(HFKey.sentencePiece, .array(.uint8(Array(model.bytes)))) }
        if let file = texts.tokenizerConfig { try addTokenizerConfig(file, &metadata) }
        try addChatTemplateFiles(&metadata)
        try addEndTokens(&metadata)
        if let file = texts.generation { try SamplingDefaults(file.jsonObject, name: file.name).add(to: &metadata) }
        return metadata
    }

    // MARK: tokenizer_config.json

    private func addTokenizerConfig(_ file: FileBytes, _ metadata: inout Metadata) throws(ModelFileError) {
        let object = try file.jsonObject
        for role in ["bos", "eos", "unk", "pad"] {
            guard let value = object["\(role)_token"], !value.isNull else { continue }
            guard let text = value.string ?? value.object?["content"]?.string else { throw wrong(file, "\(role)_token", value, "a token's text") }
            metadata.set(HFKey.specialToken(role), .string(text))
        }
        for (key, name) in [("add_bos_token", HFKey.addBOS), ("add_eos_token", HFKey.addEOS)] {
            guard let value = object[key], !value.isNull else { continue }
            guard let flag = value.bool else { throw wrong(file, key, value, "true or false") }
            metadata.set(name, .bool(flag))
        }
        guard let template = object["chat_template"], !template.isNull else { return }
        try addChatTemplate(template, file, &metadata)
    }

    /// A text, or a list of `{"name": …, "template": …}`.
    private func addChatTemplate(_ value: JSONValue, _ file: FileBytes, _ metadata: inout Metadata) throws(ModelFileError) {
        if let text = value.string { return metadata.set(HFKey.chatTemplate, .string(text)) }
        guard let list = value.array else { throw wrong(file, "chat_template", value, "a text or a list of named ones") }
        var names: [String] = []
        for entry in list {
            guard let name = entry.object?["name"]?.string, let template = entry.object?["template"]?.string, !names.contains(name), !name.isEmpty,
                name.utf8.count <= 64
            else { throw wrong(file, "chat_template", entry, "a template with a name of its own") }
            names.append(name)
            metadata.set(name == "default" ? HFKey.chatTemplate : HFKey.chatTemplate(named: name), .string(template))
        }
        metadata.set(HFKey.chatTemplateNames, .array(.string(StringArray(names))))
    }

    /// Files of their own come before what tokenizer_config.json says.
    private func addChatTemplateFiles(_ metadata: inout Metadata) throws(ModelFileError) {
        if let file = texts.chatTemplate { return metadata.set(HFKey.chatTemplate, .string(try file.text)) }
        guard let file = texts.chatTemplateJSON else { return }
        guard let value = try file.jsonObject["chat_template"] else { throw wrong(file, "chat_template", .null, "a text") }
        try addChatTemplate(value, file, &metadata)
    }

    // MARK: Token ids

    private func addEndTokens(_ metadata: inout Metadata) throws(ModelFileError) {
        let own = try texts.generation?.jsonObject["eos_token_id"]
        let value = own.flatMap { $0.isNull ? nil : $0 } ?? config["eos_token_id"] ?? config["text_config"]?.object?["eos_token_id"]
        guard let value, !value.isNull else { return }
        let ids = value.array ?? [value]
        var numbers: [Int32] = []
        for id in ids {
            guard let id = id.int, let number = Int32(exactly: id), number >= 0 else {
                throw ModelFileError(.invalidValue, "'\(folder.name)': eos_token_id holds \(id.kind); a token's id is a number from 0 on. Mend the folder.")
            }
            numbers.append(number)
        }
        metadata.set(HFKey.endTokens, .array(.int32(numbers)))
    }

    private func wrong(_ file: FileBytes, _ key: String, _ value: JSONValue, _ wanted: String) -> ModelFileError {
        ModelFileError(.invalidValue, "\(file.name): '\(key)' should be \(wanted), but is \(value.kind). Mend the file, or fetch it again.")
    }
}

/// The head of a folder's README.md, which says the licence between two lines of three dashes. Only looked at, never trusted: what is no such
/// head says nothing.
struct ModelCardText {
    private static let bytesMax = 64 << 10
    private let lines: [Substring]

    init(_ folder: FolderFiles) throws(ModelFileError) {
        guard let file = try? folder.open(HFFile.card) else {
            lines = []
            return
        }
        let text = String(decoding: file.bytes.prefix(Self.bytesMax), as: UTF8.self)
        // A carriage return and a line feed are one character to Swift.
        let all = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        guard all.first?.trimmingSpaces == "---", let end = all.dropFirst().firstIndex(where: { $0.trimmingSpaces == "---" }) else {
            lines = []
            return
        }
        lines = Array(all[1..<end])
    }

    /// "license_name" says more than "license: other".
    var license: String? {
        let plain = value("license")
        return plain == "other" ? value("license_name") ?? plain : plain
    }

    private func value(_ key: String) -> String? {
        guard let line = lines.first(where: { $0.hasPrefix(key + ":") }) else { return nil }
        let text = line.dropFirst(key.count + 1).trimmingSpaces
        let bare = text.count >= 2 && (text.first == "\"" || text.first == "'") && text.last == text.first ? text.dropFirst().dropLast() : text[...]
        return bare.isEmpty ? nil : String(bare)
    }
}

extension Substring {
    fileprivate var trimmingSpaces: Substring {
        var text = self
        while let first = text.first, first == " " || first == "\r" || first == "\r\n" { text.removeFirst() }
        while let last = text.last, last == " " || last == "\r" || last == "\r\n" { text.removeLast() }
        return text
    }
}
