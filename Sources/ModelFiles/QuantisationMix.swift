/// Which block format each matrix of a quantised model gets, under the names that people know: "Q4_K_M" is mostly Q4_K, with more bits
/// where a model is most sensitive to losing them.
///
/// The rules follow what llama.cpp's quantiser is known to choose, so that a file of a name is as large and as good as people expect:
/// matrices of values (attn_v) and the ways down of the feed-forward (ffn_down) matter most, the more so in the first and the last eighth of
/// the layers, and matrices that several heads or experts share cost little. What of this reaches a matrix whose columns are no multiple of
/// 256 is decided by `ConversionRecipe.fitting`.
package enum QuantisationMix: String, Sendable, Hashable, CaseIterable {
    case q4_0, q4_1, q5_0, q5_1, q8_0
    case q2_K, q3_K_S, q3_K_M, q3_K_L, q4_K_S, q4_K_M, q5_K_S, q5_K_M, q6_K
    case iq4_NL, iq4_XS

    /// In lower case, as it is written in commands: "q4_k_m".
    package var name: String { rawValue.lowercased() }

    /// In either case; "q3_k", "q4_k" and "q5_k" are the medium mixes. Nil for what is none.
    package init?(named name: String) {
        let name = name.lowercased()
        let full = ["q3_k": "q3_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m"][name] ?? name
        guard let found = QuantisationMix.allCases.first(where: { $0.name == full }) else { return nil }
        self = found
    }

    /// What a matrix becomes that no rule is about.
    package var type: TensorType {
        switch self {
        case .q4_0: .q4_0
        case .q4_1: .q4_1
        case .q5_0: .q5_0
        case .q5_1: .q5_1
        case .q8_0: .q8_0
        case .q2_K: .q2_K
        case .q3_K_S, .q3_K_M, .q3_K_L: .q3_K
        case .q4_K_S, .q4_K_M: .q4_K
        case .q5_K_S, .q5_K_M: .q5_K
        case .q6_K: .q6_K
        case .iq4_NL: .iq4_NL
        case .iq4_XS: .iq4_XS
        }
    }

    /// The value of `general.file_type`.
    var fileType: UInt32 {
        switch self {
        case .q4_0: 2
        case .q4_1: 3
        case .q8_0: 7
        case .q5_0: 8
        case .q5_1: 9
        case .q2_K: 10
        case .q3_K_S: 11
        case .q3_K_M: 12
        case .q3_K_L: 13
        case .q4_K_S: 14
        case .q4_K_M: 15
        case .q5_K_S: 16
        case .q5_K_M: 17
        case .q6_K: 18
        case .iq4_NL: 25
        case .iq4_XS: 30
        }
    }

    /// What the rules look at beside a tensor's name.
    struct Outline {
        var layers: Int
        /// Query heads for each head of keys and values.
        var sharing: Int
        /// 0 for a model without.
        var experts: Int
        var hasImportance: Bool

        init(_ file: any ModelSource, hasImportance: Bool) {
            let architecture = ((try? file.metadata.string("general.architecture")) ?? nil) ?? ""
            func count(_ key: String) -> Int? { (try? file.metadata.int("\(architecture).\(key)")) ?? nil }
            layers = count("block_count") ?? 1 + (file.tensors.compactMap { QuantisationMix.layer(of: $0.name) }.max() ?? 0)
            let heads = count("attention.head_count") ?? 1
            sharing = heads / max(1, count("attention.head_count_kv") ?? heads)
            experts = count("expert_count") ?? 0
            self.hasImportance = hasImportance
        }

        /// The first and the last eighth of the layers, and each third one between them.
        func deservesMore(_ layer: Int) -> Bool {
            layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
        }
    }

    /// What the matrix `name` becomes; not the embedding and the head, which `ConversionRecipe` decides.
    func type(of name: String, in model: Outline) -> TensorType {
        guard let layer = QuantisationMix.layer(of: name) else { return type }
        if name.hasSuffix("attn_v.weight") { return valueType(layer, model) }
        if name.hasSuffix("attn_k.weight") { return model.experts == 8 ? .q8_0 : type }
        if name.hasSuffix("attn_qkv.weight") { return fusedType }
        if name.hasSuffix("attn_output.weight") { return outputType(model) }
        if name.contains("ffn_down") { return downType(layer, model) }
        return type
    }

    // MARK: Rules by kind of matrix

    private func valueType(_ layer: Int, _ model: Outline) -> TensorType {
        // Eight experts share one small matrix.
        if model.experts == 8 { return .q8_0 }
        var chosen = type
        switch self {
        case .q2_K: chosen = model.sharing >= 4 ? .q4_K : .q3_K
        case .q3_K_M: chosen = layer < 2 ? .q5_K : .q4_K
        case .q3_K_L: chosen = .q5_K
        case .q4_K_S where layer < 4: chosen = .q5_K
        case .q4_K_M, .q5_K_M: if model.deservesMore(layer) { chosen = .q6_K }
        case .iq4_NL, .iq4_XS: if model.sharing >= 4 { chosen = .q5_K }
        default: break
        }
        // Models of the 70B class: eight query heads share each head of values, so more bits cost next to nothing.
        if model.layers == 80, model.sharing >= 8, chosen == .q3_K || chosen == .q4_K { chosen = .q5_K }
        return chosen
    }

    private func downType(_ layer: Int, _ model: Outline) -> TensorType {
        let isEarly = layer < model.layers / 8
        switch self {
        case .q2_K: return .q3_K
        case .q3_K_M: return layer < model.layers / 16 ? .q5_K : .q4_K
        case .q3_K_L: return .q5_K
        case .q4_K_M, .q5_K_M: return model.deservesMore(layer) ? .q6_K : type
        case .q4_K_S: return isEarly ? .q5_K : type
        case .iq4_NL, .iq4_XS: return isEarly && !model.hasImportance ? .q5_K : type
        case .q4_0: return isEarly && model.hasImportance ? .q4_1 : type
        case .q5_0: return isEarly && model.hasImportance ? .q5_1 : type
        default: return type
        }
    }

    private func outputType(_ model: Outline) -> TensorType {
        if model.experts == 8 {
            switch self {
            case .q2_K, .q3_K_S, .q3_K_M, .iq4_NL, .iq4_XS, .q4_K_S, .q4_K_M: return .q5_K
            default: return type
            }
        }
        switch self {
        case .q2_K: return .q3_K
        case .q3_K_M: return .q4_K
        case .q3_K_L: return .q5_K
        default: return type
        }
    }

    private var fusedType: TensorType {
        switch self {
        case .q3_K_M, .q3_K_L: .q4_K
        case .q4_K_M: .q5_K
        case .q5_K_M: .q6_K
        default: type
        }
    }

    /// Whether a tensor is a matrix of a layer whose inputs an importance matrix weighs; a mixture's router is not quantised.
    package static func isLayerMatrix(_ name: String) -> Bool {
        layer(of: name) != nil && name.hasSuffix(".weight") && !name.hasSuffix("ffn_gate_inp.weight")
    }

    /// The number in "blk.12.ffn_down.weight".
    static func layer(of name: String) -> Int? {
        let words = name.split(separator: ".", maxSplits: 2)
        return words.count > 2 && words[0] == "blk" ? Int(words[1]) : nil
    }
}
