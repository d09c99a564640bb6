import CKernels

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// What a person wants to know of a model file before serving it: `staffel inspect` prints it. A file that cannot be
/// served has a card too, which says why.
package struct ModelCard: Sendable, Encodable, CustomStringConvertible {
    /// One tensor format's share of the file.
    package struct Share: Sendable, Encodable {
        package let type: String
        package let tensors: Int
        package let elements: Int
        package let bytes: Int
    }

    /// What is known of the decoder when the file can be served.
    package struct Decoder: Sendable, Encodable {
        package let hidden: Int
        package let layers: Int
        package let heads: Int
        package let kvHeads: Int
        package let headDimension: Int
        package let feedForward: Int
        package let ropeBase: Double
        package let tiedHead: Bool
        package let layerBytesMin: Int
        package let layerBytesMax: Int
        package let embeddingBytes: Int
        package let headBytes: Int
        /// All layers, keys and values in f16.
        package let kvBytesPerToken: Int
        /// The same by the type in which they are kept, "f16", "f32" or "q8_0", as it lies in memory: heads whose size is no multiple of 16
        /// are filled up.
        package let kvBytesPerTokenByType: [String: Int]
        /// "default", "llama3", "longrope", "linear", "yarn" …
        package let ropeKind: String
    }

    package let paths: [String]
    package let name: String
    package let architecture: String
    /// `general.license`; nil where the file does not say.
    package let license: String?
    /// Licence, restrictions and provenance, as far as the file says.
    package let origin: ModelOrigin
    /// nil where no weights are at hand.
    package let digest: String?
    /// nil for a folder.
    package let ggufVersion: Int?
    package let fileBytes: Int
    package let parameters: Int
    /// Of these, what one token's pass multiplies; nil where it is all of them.
    package let activeParameters: Int?
    package let contextLength: Int?
    package let vocabulary: Int?
    package let tokenizer: String?
    package let hasChatTemplate: Bool
    /// Largest share of bytes first.
    package let types: [Share]
    package let decoder: Decoder?
    /// What the figures of bytes rest on where there are no weights: "BF16, which config.json names".
    package let assumed: String?
    /// Why the model cannot be served; nil where it can.
    package let refusal: String?

    /// Never fails: a value of a wrong type in the metadata is left out, and the refusal names it.
    package init(_ file: GGUFFile) {
        let metadata = file.metadata
        paths = file.paths
        architecture = (try? metadata.string("general.architecture")) ?? "unknown"
        name = (try? metadata.string("general.name")) ?? architecture
        license = try? metadata.string("general.license")
        origin = ModelOrigin(metadata)
        digest = ModelDigest(file).hexadecimal
        ggufVersion = file.version
        fileBytes = file.fileBytes
        // RoPE's divisors are a table and no weights.
        parameters = file.tensors.filter { !$0.name.hasPrefix("rope_") }.reduce(0) { $0 + $1.elementCount }
        contextLength = try? metadata.int(architecture + ".context_length")
        let tokens = try? metadata.stringArray("tokenizer.ggml.tokens")
        vocabulary = tokens?.count ?? file.tensor(ModelTensors.embedding)?.rows
        tokenizer = ModelCard.tokenizer(metadata)
        hasChatTemplate = metadata["tokenizer.chat_template"] != nil
        types = ModelCard.shares(file.tensors)
        assumed = nil
        do {
            let model = try ModelConfiguration(file: file)
            decoder = ModelCard.decoder(model, ModelSizes(file: file, model: model), ropeKind: ModelCard.ropeKind(file, architecture))
            activeParameters = model.experts.map { _ in model.activeParameterCount }
            refusal = nil
        } catch {
            decoder = nil
            activeParameters = nil
            refusal = error.message
        }
    }

    /// What a folder's card is made of; the fields are those of the card.
    struct Folder {
        var path: String
        var name: String
        var family: String
        var metadata: Metadata
        var files: [String] = []
        var fileBytes = 0
        var digest: String?
        var tensors: [Tensor] = []
        var assumed: String?
        var model: ModelConfiguration?
        var sizes: ModelSizes?
        var refusal: String?
    }

    init(_ folder: Folder) {
        paths = folder.files.isEmpty ? [folder.path] : folder.files
        name = folder.name
        architecture = folder.family
        license = try? folder.metadata.string("general.license")
        origin = ModelOrigin(folder.metadata)
        digest = folder.digest
        ggufVersion = nil
        fileBytes = folder.fileBytes
        parameters = folder.model?.parameterCount ?? folder.tensors.reduce(0) { $0 + $1.elementCount }
        activeParameters = folder.model.flatMap { model in model.experts.map { _ in model.activeParameterCount } }
        contextLength = folder.model?.contextLength
        vocabulary = folder.model?.vocabulary
        let kinds = [(HFKey.tokenizer, "tokenizer.json"), (HFKey.sentencePiece, "tokenizer.model")]
        tokenizer = kinds.first { folder.metadata[$0.0] != nil }?.1
        hasChatTemplate = folder.metadata[HFKey.chatTemplate] != nil
        types = ModelCard.shares(folder.tensors)
        assumed = folder.assumed
        if let model = folder.model, let sizes = folder.sizes {
            decoder = ModelCard.decoder(model, sizes, ropeKind: model.rope.scaling.kind)
        } else {
            decoder = nil
        }
        refusal = folder.refusal
    }

    /// The card as JSON with sorted keys, one object.
    package var json: String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(self) else { preconditionFailure("a card of plain values is always JSON") }
        return String(decoding: data, as: UTF8.self)
    }

    /// The card as a table for a terminal; values that come from the file have their control characters taken out.
    package var description: String {
        var lines: [(String, String)] = [
            ("model", name),
            ("architecture", architecture),
            ("licence", origin.licenseLine),
            ("parameters", ModelCard.decimal(parameters) + (activeParameters.map { ", of which \(ModelCard.decimal($0)) for each token" } ?? "")),
            ("file", ModelCard.fileLine(paths: paths, bytes: fileBytes, version: ggufVersion)),
            ("digest", digest ?? "none without weights"),
            ("context", contextLength.map { "\($0) tokens" } ?? "unknown"),
            ("vocabulary", vocabulary.map { "\($0) tokens" + (tokenizer.map { ", \($0)" } ?? "") } ?? "unknown"),
            ("chat template", hasChatTemplate ? "yes" : "no"),
        ]
        lines.insert(contentsOf: ModelCard.lines(origin), at: 3)
        for (index, share) in types.enumerated() {
            let text = "\(share.type): \(share.tensors) tensors, \(ModelCard.size(share.bytes))"
            lines.append((index == 0 ? "weights" : "", text))
        }
        if let assumed { lines.append(("weights", "none here; bytes are foretold for \(assumed)")) }
        if let decoder { lines += ModelCard.lines(decoder) }
        if let refusal { lines.append(("cannot be served", refusal)) }

        let width = lines.map(\.0.count).max() ?? 0
        return lines.map { label, text in
            label + String(repeating: " ", count: width - label.count + 2) + ModelCard.printable(text)
        }.joined(separator: "\n")
    }

    // MARK: Parts of the table

    private static func lines(_ decoder: Decoder) -> [(String, String)] {
        let heads = "\(decoder.heads) heads of \(decoder.headDimension), \(decoder.kvHeads) for keys and values"
        let layer =
            decoder.layerBytesMin == decoder.layerBytesMax
            ? size(decoder.layerBytesMax) : "\(size(decoder.layerBytesMin)) to \(size(decoder.layerBytesMax))"
        return [
            ("decoder", "\(decoder.layers) layers, hidden \(decoder.hidden), feed-forward \(decoder.feedForward)"),
            ("attention", heads),
            ("RoPE", "base \(decoder.ropeBase), \(decoder.ropeKind)"),
            ("memory per layer", layer),
            ("embedding, head", "\(size(decoder.embeddingBytes)), \(size(decoder.headBytes))" + (decoder.tiedHead ? " (one matrix)" : "")),
            (
                "KV per token",
                ["f16", "q8_0", "f32"].compactMap { type in decoder.kvBytesPerTokenByType[type].map { "\(decimal($0)) bytes as \(type)" } }
                    .joined(separator: ", ")
            ),
        ]
    }

    private static func fileLine(paths: [String], bytes: Int, version: Int?) -> String {
        let parts = paths.count == 1 ? paths[0] : "\(paths[0]) and \(paths.count - 1) more"
        return "\(parts), \(size(bytes))" + (version.map { ", GGUF version \($0)" } ?? "")
    }

    private static func tokenizer(_ metadata: Metadata) -> String? {
        guard let model = (try? metadata.string("tokenizer.ggml.model")) ?? nil else { return nil }
        guard let pre = (try? metadata.string("tokenizer.ggml.pre")) ?? nil else { return model }
        return "\(model) (\(pre))"
    }

    private static func shares(_ tensors: [Tensor]) -> [Share] {
        TensorType.allCases.compactMap { type in
            let own = tensors.filter { $0.type == type }
            guard !own.isEmpty else { return nil }
            return Share(
                type: type.name, tensors: own.count, elements: own.reduce(0) { $0 + $1.elementCount },
                bytes: own.reduce(0) { $0 + $1.byteCount })
        }.sorted { ($0.bytes, $1.type) > ($1.bytes, $0.type) }
    }

    private static func lines(_ origin: ModelOrigin) -> [(String, String)] {
        let people = [origin.author, origin.organization].compactMap { $0 }.joined(separator: ", ")
        var lines: [(String, String)] = []
        if !people.isEmpty { lines.append(("made by", people)) }
        if let source = origin.source { lines.append(("published at", source)) }
        if !origin.baseModels.isEmpty { lines.append(("made from", origin.baseModels.joined(separator: ", "))) }
        if let quantizedBy = origin.quantizedBy { lines.append(("quantised by", quantizedBy)) }
        return lines
    }

    private static func ropeKind(_ file: GGUFFile, _ architecture: String) -> String {
        if file.tensor("rope_factors_long.weight") != nil { return "longrope" }
        if file.tensor(ModelTensors.ropeDivisors) != nil { return "llama3" }
        let kind = ((try? file.metadata.string(architecture + ".rope.scaling.type")) ?? nil) ?? "none"
        return kind == "none" ? "default" : kind
    }

    private static func kvBytes(_ model: ModelConfiguration) -> [String: Int] {
        let kinds: [(String, sk_kv_type)] = [("f16", SK_KV_F16), ("f32", SK_KV_F32), ("q8_0", SK_KV_Q8)]
        return Dictionary(
            uniqueKeysWithValues: kinds.map { name, kind in
                (name, model.layers * sk_kv_block_bytes(kind, Int32(model.kvHeads), Int32(model.headDimension)) / Int(SK_KV_BLOCK))
            })
    }

    private static func decoder(_ model: ModelConfiguration, _ sizes: ModelSizes, ropeKind: String) -> Decoder {
        Decoder(
            hidden: model.hidden, layers: model.layers, heads: model.heads, kvHeads: model.kvHeads,
            headDimension: model.headDimension, feedForward: model.feedForward, ropeBase: model.rope.base,
            tiedHead: model.tiedHead, layerBytesMin: sizes.layers.min() ?? 0, layerBytesMax: sizes.layers.max() ?? 0,
            embeddingBytes: sizes.embedding, headBytes: sizes.head, kvBytesPerToken: model.kvBytesPerToken(elementBytes: 2),
            kvBytesPerTokenByType: kvBytes(model), ropeKind: ropeKind)
    }

    // MARK: Numbers and texts

    /// Binary units with one decimal: "97.4 MiB".
    private static func size(_ bytes: Int) -> String {
        let units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
        var unit = 0
        var tenths = bytes * 10
        while tenths >= 10_240, unit < units.count - 1 {
            tenths = (tenths + 512) / 1024
            unit += 1
        }
        return unit == 0 ? "\(bytes) bytes" : "\(tenths / 10).\(tenths % 10) \(units[unit])"
    }

    /// Digits in groups of three: "134,515,008".
    private static func decimal(_ number: Int) -> String {
        var groups: [String] = []
        var digits = String(number)
        while digits.count > 3 {
            groups.insert(String(digits.suffix(3)), at: 0)
            digits.removeLast(3)
        }
        return ([digits] + groups).joined(separator: ",")
    }

    /// A model's name must not move the cursor of whoever inspects it.
    private static func printable(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.map { $0.properties.generalCategory == .control ? " " : $0 }))
    }
}
