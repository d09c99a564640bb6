import ClusterCore
import Foundation
import ModelFiles

/// A Hugging Face folder of random F32 weights in shards, small enough that a stage loads it in a moment.
struct FolderModel {
    static let (layers, hidden, inner, vocabulary) = (4, 64, 96, 97)

    let path: String
    let model: HFModel
    let digest: ClusterCore.ModelDigest

    /// Writes it to `folder`/`name`. A tied head, where `headBeside`, lies there all the same, as some folders have it; `hasEmptyText`: with a chat
    /// template of no bytes.
    init(_ folder: TemporaryFolder, name: String = "model", tied: Bool = true, headBeside: Bool = false, hasEmptyText: Bool = true) throws {
        path = folder.file(name)
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        let config: [String: Any] = [
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": Self.hidden, "num_hidden_layers": Self.layers, "num_attention_heads": 4,
            "num_key_value_heads": 2, "intermediate_size": Self.inner, "vocab_size": Self.vocabulary, "max_position_embeddings": 512, "rms_norm_eps": 0.001,
            "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": tied,
        ]
        try JSONSerialization.data(withJSONObject: config, options: .sortedKeys).write(to: URL(fileURLWithPath: path + "/config.json"))
        try Data("{}".utf8).write(to: URL(fileURLWithPath: path + "/generation_config.json"))
        if hasEmptyText { try Data().write(to: URL(fileURLWithPath: path + "/chat_template.jinja")) }
        try Self.writeShards(path, Self.shapes(hasHead: !tied || headBeside))
        model = try HFModel(HFFolder(path: path))
        digest = ClusterCore.ModelDigest(bytes: ModelFiles.ModelDigest(model).bytes)!
    }

    private static func shapes(hasHead: Bool) -> [(name: String, shape: [Int])] {
        var shapes: [(String, [Int])] = [("model.embed_tokens.weight", [vocabulary, hidden]), ("model.norm.weight", [hidden])]
        if hasHead { shapes.append(("lm_head.weight", [vocabulary, hidden])) }
        for layer in 0..<layers {
            let own = "model.layers.\(layer)."
            shapes += [
                (own + "input_layernorm.weight", [hidden]), (own + "post_attention_layernorm.weight", [hidden]),
                (own + "self_attn.q_proj.weight", [hidden, hidden]), (own + "self_attn.k_proj.weight", [hidden / 2, hidden]),
                (own + "self_attn.v_proj.weight", [hidden / 2, hidden]), (own + "self_attn.o_proj.weight", [hidden, hidden]),
                (own + "mlp.gate_proj.weight", [inner, hidden]), (own + "mlp.up_proj.weight", [inner, hidden]), (own + "mlp.down_proj.weight", [hidden, inner]),
                (own + "self_attn.rotary_emb.inv_freq", [8]),
            ]
        }
        return shapes
    }

    /// Tensors take turns among three shards, so a layer lies in all of them.
    private static func writeShards(_ path: String, _ shapes: [(name: String, shape: [Int])]) throws {
        var random = SplitMix64(state: 5)
        var map: [String: String] = [:]
        for shard in 0..<3 {
            let file = "model-0000\(shard + 1)-of-00003.safetensors"
            var header: [String: Any] = [:]
            var body: [UInt8] = []
            for (_, entry) in shapes.enumerated().filter({ $0.offset % 3 == shard }) {
                let isVector = entry.shape.count == 1
                let start = body.count
                for _ in 0..<entry.shape.reduce(1, *) {
                    let value = (isVector ? 1 : 0) + (isVector ? 0.3 : 0.2) * random.unit()
                    withUnsafeBytes(of: value.bitPattern.littleEndian) { body += $0 }
                }
                header[entry.name] = ["dtype": "F32", "shape": entry.shape, "data_offsets": [start, body.count]]
                map[entry.name] = file
            }
            let head = try JSONSerialization.data(withJSONObject: header, options: .sortedKeys)
            let length = withUnsafeBytes(of: UInt64(head.count).littleEndian) { Data($0) }
            try (length + head + Data(body)).write(to: URL(fileURLWithPath: "\(path)/\(file)"))
        }
        let index = try JSONSerialization.data(withJSONObject: ["weight_map": map], options: .sortedKeys)
        try index.write(to: URL(fileURLWithPath: path + "/model.safetensors.index.json"))
    }
}
