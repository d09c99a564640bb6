/// A model as Hugging Face publishes it: a folder with `config.json`, safetensors (one file, or shards with an index), a tokenizer
/// (`tokenizer.json` or SentencePiece's `tokenizer.model`), and beside them `tokenizer_config.json`, `chat_template.jinja` and
/// `generation_config.json`. Opened, mapped and checked as a whole before anyone sees it.
///
/// Its parts are those files, in this order; of a JSON or text all bytes are header, so they name the model and travel with its weights.
package final class HFFolder: ModelSource {
    /// The folder's path.
    package let path: String
    /// Names of the parts in the folder, in order.
    package let fileNames: [String]
    package let paths: [String]
    /// `config.json`: the architecture and its switches.
    package let config: JSONObject
    package let metadata: Metadata
    package let tensors: [Tensor]
    private let tensorIndex: [String: Int]
    private let parts: [Part]

    /// One file, and how many bytes at its beginning describe and do not weigh.
    private struct Part: Sendable {
        let name: String
        let file: FileBytes
        let headerEnd: Int
    }

    package convenience init(path: String) throws(ModelFileError) {
        try self.init(FolderFiles(path: path))
    }

    /// The same from memory; the bytes are copied.
    package convenience init(name: String, files: [String: [UInt8]]) throws(ModelFileError) {
        try self.init(FolderFiles(name: name, files: files))
    }

    private init(_ folder: FolderFiles) throws(ModelFileError) {
        var parts: [Part] = []
        guard let config = try folder.openText(HFFile.config) else {
            throw ModelFileError(.missingFile, "'\(folder.name)' has no \(HFFile.config). Name a Hugging Face model's folder with all of its files, or a GGUF file.")
        }
        self.config = try config.jsonObject
        parts.append(Part(name: HFFile.config, file: config, headerEnd: config.bytes.count))
        let texts = try HFTexts(folder)
        for (name, file) in texts.files { parts.append(Part(name: name, file: file, headerEnd: file.bytes.count)) }
        metadata = try HFMetadata(folder: folder, config: self.config, texts: texts).metadata()

        tensors = try HFFolder.openWeights(folder, after: &parts).flatMap(\.tensors)
        // Swift takes canonically equivalent names for equal; two such tensors are refused as well.
        var index: [String: Int] = [:]
        for (number, tensor) in tensors.enumerated() where index.updateValue(number, forKey: tensor.name) != nil {
            throw ModelFileError(.duplicateTensor, "'\(folder.name)': the tensor '\(tensor.name)' appears twice. The folder is damaged; fetch it again.")
        }
        self.parts = parts
        tensorIndex = index
        path = folder.name
        fileNames = parts.map(\.name)
        paths = parts.map(\.file.name)
    }

    /// As transformers looks for them: one file, else an index, which becomes a part as well.
    private static func openWeights(_ folder: FolderFiles, after parts: inout [Part]) throws(ModelFileError) -> [SafetensorsFile] {
        if let file = try folder.open(HFFile.weights) { return [try append(file, HFFile.weights, &parts)] }
        guard let indexFile = try folder.openText(HFFile.index) else {
            let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json"].first(where: folder.has)
            let hint = pickled.map { " Its weights are in \($0), which may run code when it is read; save the model again as safetensors." } ?? ""
            throw ModelFileError(.missingFile, "'\(folder.name)' has neither \(HFFile.weights) nor \(HFFile.index).\(hint)")
        }
        let index = try SafetensorsIndex(.object(try indexFile.jsonObject), name: indexFile.name)
        parts.append(Part(name: HFFile.index, file: indexFile, headerEnd: indexFile.bytes.count))
        let first = parts.count
        var shards: [SafetensorsFile] = []
        for name in index.shards {
            guard let file = try folder.open(name) else {
                throw ModelFileError(
                    .missingPart, "\(indexFile.name) names \(index.shards.count) files, but '\(folder.path(name))' is not there. Put all files of the model into one folder.")
            }
            shards.append(try append(file, name, &parts))
        }
        try index.check(shards.flatMap(\.tensors), firstPart: first, name: indexFile.name)
        return shards
    }

    private static func append(_ file: FileBytes, _ name: String, _ parts: inout [Part]) throws(ModelFileError) -> SafetensorsFile {
        let shard = try SafetensorsFile(file: file, part: parts.count)
        parts.append(Part(name: name, file: file, headerEnd: shard.headerEnd))
        return shard
    }

    package var partNames: [String] { fileNames }

    package func tensor(_ name: String) -> Tensor? { tensorIndex[name].map { tensors[$0] } }

    package var headerBytes: [UInt8] { metadata.ggufHeaderBytes }

    package var headers: [UnsafeRawBufferPointer] {
        parts.map { UnsafeRawBufferPointer(rebasing: $0.file.bytes[..<$0.headerEnd]) }
    }

    package var partsDescription: [UInt8] {
        Array(parts.map { "\($0.name) \($0.headerEnd)\n" }.joined().utf8)
    }

    package var partBytes: [Int] { parts.map(\.file.bytes.count) }

    package var stamps: [FileStamp] { parts.map(\.file.stamp) }

    package func read(part: Int, at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(ModelFileError) {
        try parts[part].file.read(at: offset, into: buffer)
    }
}

/// The names that files of a folder have.
enum HFFile {
    static let config = "config.json"
    static let weights = "model.safetensors"
    static let index = "model.safetensors.index.json"
    static let tokenizer = "tokenizer.json"
    static let sentencePiece = "tokenizer.model"
    static let tokenizerConfig = "tokenizer_config.json"
    static let chatTemplate = "chat_template.jinja"
    static let chatTemplateJSON = "chat_template.json"
    static let generation = "generation_config.json"
    static let card = "README.md"
}
