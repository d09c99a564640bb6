/// Which format each tensor of a converted model gets.
///
/// Vectors (norms, biases, RoPE divisors) and a mixture's router, which decides which experts run at all, always become F32.
/// A matrix whose columns are no whole blocks of its format gets the nearest format with smaller blocks.
package struct ConversionRecipe: Sendable, Equatable {
    /// What most matrices become.
    package enum Preset: Sendable, Hashable {
        /// One format for all; but see `ConversionRecipe.headType`.
        case all(TensorType)
        /// By the rules of a known mix.
        case mix(QuantisationMix)

        package static let q4_K_M = Preset.mix(.q4_K_M)
        package static let q5_K_M = Preset.mix(.q5_K_M)

        /// The format of a matrix that nothing is said about.
        package var type: TensorType {
            switch self {
            case .all(let type): type
            case .mix(let mix): mix.type
            }
        }

        /// As it is written in commands: "q4_k", "q4_k_m".
        package var name: String {
            switch self {
            case .all(let type): type.name.lowercased()
            case .mix(let mix): mix.name
            }
        }

        /// Every format by its own name, and the mixes whose names are no format's.
        package static let known: [Preset] = {
            let formats = TensorType.allCases.map { Preset.all($0) }
            let names = Set(formats.map(\.name))
            return formats + QuantisationMix.allCases.map { .mix($0) }.filter { !names.contains($0.name) }
        }()

        /// What people mean by a name: the mix, where there is one of that name, else a float format. Nil for neither.
        package static func usual(named name: String) -> Preset? {
            QuantisationMix(named: name).map { .mix($0) }
                ?? TensorType.allCases.first { $0.isFloat && $0.name.lowercased() == name.lowercased() }.map { .all($0) }
        }

        /// Every name that `usual` knows but short forms.
        package static let usualNames =
            QuantisationMix.allCases.map(\.name) + TensorType.allCases.filter(\.isFloat).map { $0.name.lowercased() }

        /// The value of `general.file_type`, by which other programs call the mix.
        var fileType: UInt32 {
            switch self {
            case .mix(let mix): mix.fileType
            case .all(let type): Preset.fileTypes[type]!
            }
        }

        /// Of formats in which all matrices are the same; the K formats' "small" mixes come nearest to that.
        private static let fileTypes: [TensorType: UInt32] = [
            .f32: 0, .f16: 1, .bf16: 32, .q4_0: 2, .q4_1: 3, .q5_0: 8, .q5_1: 9, .q8_0: 7, .q2_K: 10, .q3_K: 11, .q4_K: 14, .q5_K: 16, .q6_K: 18,
            .iq4_NL: 25, .iq4_XS: 30,
        ]
    }

    package var preset: Preset
    /// The format of the token embedding where it shall differ.
    package var tokenEmbedding: TensorType?
    /// The format of the output head where it shall differ. A tied embedding is a head too.
    package var output: TensorType?

    package init(_ preset: Preset, tokenEmbedding: TensorType? = nil, output: TensorType? = nil) {
        self.preset = preset
        self.tokenEmbedding = tokenEmbedding
        self.output = output
    }

    package static let f32 = ConversionRecipe(.all(.f32))
    package static let f16 = ConversionRecipe(.all(.f16))
    package static let bf16 = ConversionRecipe(.all(.bf16))

    /// What `tensor` of `file` becomes. `hasImportance`: whether an importance matrix will be at hand; some mixes then choose otherwise.
    package func type(of tensor: Tensor, in file: any ModelSource, hasImportance: Bool = false) -> TensorType {
        guard tensor.shape.count > 1, !tensor.name.hasSuffix("ffn_gate_inp.weight") else { return .f32 }
        return ConversionRecipe.fitting(wanted(tensor.name, in: file, hasImportance), columns: tensor.columns)
    }

    /// The format that stands in for `type` where a row is no whole number of its blocks: as many bits or the next more,
    /// in blocks of 32; F16 where not even those fit.
    package static func fitting(_ type: TensorType, columns: Int) -> TensorType {
        if columns % type.blockSize == 0 { return type }
        let smaller: TensorType =
            switch type {
            case .q2_K, .q3_K, .iq4_XS: .iq4_NL
            case .q4_K: .q5_0
            case .q5_K: .q5_1
            case .q6_K: .q8_0
            default: .f16
            }
        return columns % smaller.blockSize == 0 ? smaller : .f16
    }

    private func wanted(_ name: String, in file: any ModelSource, _ hasImportance: Bool) -> TensorType {
        let tied = file.tensor(ModelTensors.head) == nil
        if name == ModelTensors.embedding { return tokenEmbedding ?? (tied ? output ?? headType : preset.type) }
        if name == ModelTensors.head { return output ?? headType }
        switch preset {
        case .all(let type): return type
        case .mix(let mix): return mix.type(of: name, in: QuantisationMix.Outline(file, hasImportance: hasImportance))
        }
    }

    /// Every logit comes from the head, so it gets six bits at least.
    private var headType: TensorType {
        preset.type.isFloat || preset.type == .q8_0 ? preset.type : .q6_K
    }
}
