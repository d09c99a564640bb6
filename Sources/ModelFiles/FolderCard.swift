extension ModelCard {
    /// The card of a Hugging Face folder; of one that has nothing but its config.json, or of a config.json alone, with what that says. A folder
    /// whose weights cannot be used has a card too, which says why.
    ///
    /// Throws `ModelFileError` where there is no config.json that can be read.
    package init(folder path: String) throws(ModelFileError) {
        guard ModelOpener.isFolder(path) else {
            self.init(try Folder(config: FileBytes(mapping: path), path: path, metadata: Metadata(), name: path))
            return
        }
        let files = try FolderFiles(path: path)
        if files.hasWeights {
            self.init(Folder(try HFFolder(path: path)))
            return
        }
        guard let config = try files.openText(HFFile.config) else {
            throw ModelFileError(.missingFile, "'\(path)' has no \(HFFile.config). Name a Hugging Face model's folder, a config.json, or a GGUF file.")
        }
        let metadata = try HFMetadata(folder: files, config: config.jsonObject, texts: HFTexts(files)).metadata()
        self.init(try Folder(config: config, path: config.name, metadata: metadata, name: files.lastName))
    }
}

extension ModelCard.Folder {
    /// Of a folder with weights.
    init(_ folder: HFFolder) {
        let name = ((try? folder.metadata.string("general.name")) ?? nil) ?? folder.path
        self.init(path: folder.path, name: name, family: Self.family(folder.config), metadata: folder.metadata)
        files = folder.paths
        fileBytes = folder.fileBytes
        digest = ModelDigest(folder).hexadecimal
        tensors = folder.tensors
        do throws(ModelFileError) {
            let model = try HFModel(folder)
            (self.model, sizes) = (model.configuration, ModelSizes(source: model, model: model.configuration))
        } catch {
            refusal = error.message
        }
    }

    /// Of a config.json without weights; sizes are those that its type would have.
    init(config: FileBytes, path: String, metadata: Metadata, name: String) throws(ModelFileError) {
        let object = try config.jsonObject
        self.init(path: path, name: name, family: Self.family(object), metadata: metadata)
        fileBytes = config.bytes.count
        let (type, isNamed) = GGUFFile.weightType(of: object)
        assumed = "\(type.name), " + (isNamed ? "which config.json names" : "as config.json names no type")
        do throws(ModelFileError) {
            let outline = try GGUFFile.outline(config: object, name: name, path: path, type: type)
            let model = try ModelConfiguration(file: outline)
            (self.model, sizes) = (model, ModelSizes(file: outline, model: model))
        } catch {
            refusal = error.message
        }
    }

    private static func family(_ config: JSONObject) -> String { config["model_type"]?.string ?? "unknown" }
}

extension GGUFFile {
    /// The type in which a config.json says its weights are, and whether it says one of those that are read; else BF16.
    package static func weightType(of config: JSONObject) -> (type: TensorType, isNamed: Bool) {
        let known: [String: TensorType] = ["float32": .f32, "float16": .f16, "bfloat16": .bf16]
        let said = (config["torch_dtype"] ?? config["dtype"])?.string.flatMap { known[$0] }
        return (said ?? .bf16, said != nil)
    }

    /// `outline(config:)` of a config.json, or of the one in a folder.
    package static func outline(configAt path: String) throws(ModelFileError) -> GGUFFile {
        let isFolder = ModelOpener.isFolder(path)
        let file = try FileBytes(mapping: isFolder ? path + "/" + HFFile.config : path)
        let name = isFolder ? try FolderFiles(path: path).lastName : path
        let object = try file.jsonObject
        return try outline(config: object, name: name, path: file.name, type: weightType(of: object).type)
    }
}

extension FolderFiles {
    var hasWeights: Bool { has(HFFile.weights) || has(HFFile.index) }
}

extension ModelConfiguration.Rope.Scaling {
    /// As people call it.
    var kind: String {
        switch self {
        case .none: "default"
        case .linear: "linear"
        case .divisors: "llama3"
        case .longrope: "longrope"
        case .yarn: "yarn"
        }
    }
}
