import ClusterCore
import Engine
import ModelFiles

/// The model a coordinator serves, as the machines and the gateways need it.
package struct ServedModel: Sendable {
    package let profile: ModelProfile
    package let path: String
    /// The first file's bytes up to the end of its metadata: tokenizer and chat template, for gateways that have no copy of the file.
    package let header: [UInt8]
    package let parameterCount: UInt64
    package let fileBytes: UInt64

    /// Reads the file's headers. `endTokens` come from its tokenizer, which this target does not know; `name`: what clients call the model.
    /// Throws `ModelFileError` when the file or its configuration cannot be served, `NodeError` when its header is over the limit.
    package init(path: String, name: String?, endTokens: [TokenID], kvType: ClusterCore.KVType) throws {
        try self.init(file: ModelOpener.open(path: path), path: path, name: name, endTokens: endTokens, kvType: kvType)
    }

    /// The same of a file that is open, or of an outline.
    package init(file: any ModelSource, path: String, name: String?, endTokens: [TokenID], kvType: ClusterCore.KVType) throws {
        let model = try ModelConfiguration(source: file)
        let header = file.headerBytes
        guard header.count <= Limits.modelHeaderBytesMax else {
            throw NodeError(
                .modelUnusable,
                "\(path): its metadata take \(header.count) bytes, at most \(Limits.modelHeaderBytesMax) can be sent to gateways; make the file anew without the large keys")
        }
        let sizes = ModelSizes(source: file, model: model)
        let packed = try StageWeights.byteCounts(file: file, model: model)
        let kvBlockBytes = Stage.kvBlockBytes(model: model, layers: 1, kvType: Engine.KVType(kvType))
        self.path = path
        self.header = header
        parameterCount = UInt64(sizes.parameters)
        fileBytes = UInt64(file.fileBytes)
        var profile = ModelProfile(
            digest: ClusterCore.ModelDigest(bytes: ModelFiles.ModelDigest(file).bytes)!, name: name ?? model.name,
            layerBytes: packed.layers.map(UInt64.init), embeddingBytes: UInt64(packed.embedding), headBytes: UInt64(packed.head),
            headIsTied: model.tiedHead, hidden: model.hidden, vocabulary: model.vocabulary, contextTokens: model.contextLength,
            kvBytesPerTokenPerLayer: UInt64(kvBlockBytes / Limits.positionsPerBlock), endTokens: endTokens.sorted())
        profile.longPromptTokens = model.rope.switchesAt
        profile.arithmetic = ModelArithmetic(file: file, model: model)
        self.profile = profile
    }
}
