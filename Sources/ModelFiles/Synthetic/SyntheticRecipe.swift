/// Which type each tensor of a synthetic model gets.
package enum SyntheticRecipe: Sendable, Hashable {
    /// Every matrix, embedding and head included, in one type.
    case uniform(TensorType)
    /// The mixture that most people download: Q4_K, with Q6_K for the head, and for values and the feed-forward's output in about
    /// half of the layers.
    case q4_K_M

    /// Names for the command line: a type's, in small letters, or "q4_k_m".
    package static let names: [String] = TensorType.allCases.map { $0.name.lowercased() } + ["q4_k_m"]

    package init?(name: String) {
        if name == "q4_k_m" {
            self = .q4_K_M
        } else if let type = TensorType.allCases.first(where: { $0.name.lowercased() == name }) {
            self = .uniform(type)
        } else {
            return nil
        }
    }

    /// The type of the tensor, which is a matrix of `model`.
    func type(of tensor: ModelTensors.Wanted, layer: Int?, in model: ModelConfiguration) -> TensorType {
        // What decides which experts run is never quantised.
        if let layer, tensor.name == ModelTensors.layer(layer).router { return .f32 }
        let wanted =
            switch self {
            case .uniform(let type): type
            case .q4_K_M: Self.mixed(tensor.name, layer: layer, model)
            }
        return Self.fitting(wanted, columns: tensor.shape[0])
    }

    private static func mixed(_ name: String, layer: Int?, _ model: ModelConfiguration) -> TensorType {
        guard let layer else {
            let isHead = name == (model.tiedHead ? ModelTensors.embedding : ModelTensors.head)
            return isHead ? .q6_K : .q4_K
        }
        let names = ModelTensors.layer(layer)
        guard [names.value, names.down, names.expertDowns].contains(name) else { return .q4_K }
        if takesMoreBits(layer, of: model.layers) { return .q6_K }
        // With many queries to a key the values are few, and so cheap to keep better; done for models of this depth only.
        return name == names.value && model.layers == 80 ? .q5_K : .q4_K
    }

    /// The first and the last eighth of the layers, and each third between them.
    private static func takesMoreBits(_ layer: Int, of layers: Int) -> Bool {
        layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
    }

    /// Where the columns are no whole blocks of 256: the type of about as many bits with blocks of 32, as quantisers choose it.
    private static func fitting(_ type: TensorType, columns: Int) -> TensorType {
        guard columns % type.blockSize != 0 else { return type }
        return switch type {
        case .q2_K, .q3_K, .iq4_XS: .iq4_NL
        case .q4_K: .q5_0
        case .q5_K: .q5_1
        case .q6_K: .q8_0
        default: type
        }
    }

    /// The value of `general.file_type`, by which other engines name the mixture.
    var fileType: UInt32 {
        switch self {
        case .q4_K_M: 15
        case .uniform(let type):
            switch type {
            case .f32: 0
            case .f16: 1
            case .q4_0: 2
            case .q4_1: 3
            case .q8_0: 7
            case .q5_0: 8
            case .q5_1: 9
            case .q2_K: 10
            case .q3_K: 11
            case .q4_K: 14
            case .q5_K: 16
            case .q6_K: 18
            case .iq4_NL: 25
            case .iq4_XS: 30
            case .bf16: 32
            }
        }
    }
}
