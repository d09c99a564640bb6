/// A Hugging Face folder as the GGUF file that is made of it: tensors under the names and in the shapes that readers of GGUF files expect,
/// experts stacked, and metadata that say what config.json does. `ModelConversion` writes it.
///
/// Parts, headers and bytes are the folder's own: the digest of the file that is made names the folder.
package final class FolderAsGGUF: ModelSource {
    private let model: HFModel
    package let metadata: Metadata
    package let tensors: [Tensor]
    private let tensorIndex: [String: Int]

    /// `vocabulary`: the keys of the tokenizer in GGUF's words; what is given has no `HFKey` of a tokenizer file. Throws `unsupportedFeature` where
    /// no key says what config.json does.
    package init(_ model: HFModel, vocabulary: Metadata) throws(ModelFileError) {
        self.model = model
        metadata = try Self.metadata(model, vocabulary)
        tensors = Self.tensors(model)
        var index: [String: Int] = [:]
        for (number, tensor) in tensors.enumerated() { index[tensor.name] = number }
        tensorIndex = index
    }

    package var configuration: ModelConfiguration { model.configuration }

    private static func metadata(_ model: HFModel, _ vocabulary: Metadata) throws(ModelFileError) -> Metadata {
        var metadata = Metadata()
        try model.configuration.write(to: &metadata)
        let own = model.metadata
        for key in own.keys where key.hasPrefix("general.") || key.hasPrefix(HFKey.chatTemplate) { metadata.set(key, own[key]!) }
        for key in vocabulary.keys { metadata.set(key, vocabulary[key]!) }
        return metadata
    }

    // MARK: Tensors

    private static func tensors(_ model: HFModel) -> [Tensor] {
        let configuration = model.configuration
        var tensors = [ModelTensors.embedding, ModelTensors.outputNorm, ModelTensors.head, ModelTensors.headBias].compactMap(model.tensor(role:))
        for (name, floats) in configuration.ropeTensors { tensors.append(Tensor(name: name, floats: floats)) }
        for layer in 0..<configuration.layers { tensors += layerTensors(layer, model) }
        return tensors
    }

    private static func layerTensors(_ layer: Int, _ model: HFModel) -> [Tensor] {
        var tensors: [Tensor] = []
        for wanted in ModelTensors.wanted(layer: layer, model.configuration) {
            if let whole = fused(wanted, layer, model) {
                if !tensors.contains(where: { $0.name == whole.name }) { tensors.append(whole) }
            } else if let tensor = model.tensor(role: wanted.name) {
                tensors.append(tensor)
            } else {
                let pieces = ModelTensors.tensors(wanted, in: model)
                precondition(pieces.count == wanted.experts, "a model that was checked lacks '\(wanted.name)'")
                tensors.append(Tensor(stacking: pieces, name: wanted.name))
            }
        }
        return tensors
    }

    /// Readers of Phi-3's files want what its folders fuse in one tensor too; of other families in parts.
    private static func fused(_ wanted: ModelTensors.Wanted, _ layer: Int, _ model: HFModel) -> Tensor? {
        guard model.configuration.architecture == .phi3, let name = wanted.fused?.name else { return nil }
        let own = ["attn_qkv.weight": "self_attn.qkv_proj.weight", "ffn_up.weight": "mlp.gate_up_proj.weight"]
        return own.first { name.hasSuffix($0.key) }.flatMap { model.folder.tensor("model.layers.\(layer).\($0.value)")?.named(name) }
    }

    package func tensor(_ name: String) -> Tensor? { tensorIndex[name].map { tensors[$0] } }

    // MARK: The folder's own

    package var paths: [String] { model.paths }
    package var headerBytes: [UInt8] { metadata.ggufHeaderBytes }
    package var headers: [UnsafeRawBufferPointer] { model.headers }
    package var partsDescription: [UInt8] { model.partsDescription }
    package var partNames: [String] { model.partNames }
    package var partBytes: [Int] { model.partBytes }
    package var stamps: [FileStamp] { model.stamps }
    package func read(part: Int, at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(ModelFileError) {
        try model.read(part: part, at: offset, into: buffer)
    }
}
