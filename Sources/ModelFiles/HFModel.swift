/// A Hugging Face folder as the engine sees a model: its tensors under the names and in the order of rows of GGUF files (`ModelTensors`), so that
/// the folder and the GGUF file made of it are computed alike to the bit. Nothing is copied: fused tensors are looked at part by part, and rows
/// are put in order when they are read (`RowOrder`).
///
/// `tensors`, parts and headers are the folder's own, for whoever hashes and hands on bytes.
package final class HFModel: ModelSource {
    package let folder: HFFolder
    package let configuration: ModelConfiguration
    /// Every tensor that the model is computed with, under its name in GGUF files.
    package let roles: [Tensor]
    private let roleIndex: [String: Int]

    /// Throws where config.json asks for what cannot be done, and where the folder lacks a tensor, has one in another shape, or one that is
    /// not known.
    package init(_ folder: HFFolder) throws(ModelFileError) {
        self.folder = folder
        var facts = ModelConfiguration.TensorFacts()
        let names = folder.tensor("model.tok_embeddings.weight") == nil ? "model.embed_tokens.weight" : "model.tok_embeddings.weight"
        facts.vocabulary = folder.tensor(names)?.rows
        facts.headBias = folder.tensor("lm_head.bias") != nil
        let config = HFMembers(object: folder.config, file: "\(folder.path)/config.json")
        let name = try folder.metadata.string("general.name") ?? folder.path
        configuration = try HFConfigurationReader(config: config, name: name, tensors: facts).read()
        roles = try HFTensors(folder, configuration).roles()
        var index: [String: Int] = [:]
        for (number, tensor) in roles.enumerated() { index[tensor.name] = number }
        roleIndex = index
        for layer in 0..<configuration.layers {
            for wanted in ModelTensors.wanted(layer: layer, configuration) { _ = try ModelTensors.find(wanted, in: self) }
        }
        for wanted in ModelTensors.wantedOutsideLayers(configuration) { _ = try ModelTensors.find(wanted, in: self) }
    }

    /// By GGUF's name, or else by the folder's own.
    package func tensor(_ name: String) -> Tensor? { roleIndex[name].map { roles[$0] } ?? folder.tensor(name) }

    /// By GGUF's name alone.
    func tensor(role: String) -> Tensor? { roleIndex[role].map { roles[$0] } }

    package var tensors: [Tensor] { folder.tensors }
    /// A head beside a tied embedding, and what RoPE divides by, are there for other readers.
    package var weights: [Tensor] { folder.tensors.filter { !HFTensors.isIgnored($0.name, configuration) } }
    package var partNames: [String] { folder.fileNames }
    package var paths: [String] { folder.paths }
    package var metadata: Metadata { folder.metadata }
    package var headerBytes: [UInt8] { folder.headerBytes }
    package var headers: [UnsafeRawBufferPointer] { folder.headers }
    package var partsDescription: [UInt8] { folder.partsDescription }
    package var partBytes: [Int] { folder.partBytes }
    package var stamps: [FileStamp] { folder.stamps }
    package func read(part: Int, at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(ModelFileError) {
        try folder.read(part: part, at: offset, into: buffer)
    }
}

extension ModelConfiguration {
    /// Reads the configuration from the members of a config.json alone. Throws `ModelFileError`.
    package init(config: JSONObject, name: String, tensors: TensorFacts = TensorFacts()) throws(ModelFileError) {
        self = try HFConfigurationReader(config: HFMembers(object: config, file: "config.json"), name: name, tensors: tensors).read()
    }
}
