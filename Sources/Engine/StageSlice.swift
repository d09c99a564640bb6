import ModelFiles

/// Which part of a model a stage holds.
package struct StageSlice: Hashable, Sendable {
    /// Never empty.
    package var layers: Range<Int>
    /// The first stage looks tokens up; the others take the rows of the stage before.
    package var hasEmbedding: Bool
    /// The last stage turns rows into logits and draws tokens; the others hand their rows on.
    package var hasHead: Bool

    package init(layers: Range<Int>, hasEmbedding: Bool, hasHead: Bool) {
        self.layers = layers
        self.hasEmbedding = hasEmbedding
        self.hasHead = hasHead
    }

    package static func whole(_ model: ModelConfiguration) -> StageSlice {
        StageSlice(layers: 0..<model.layers, hasEmbedding: true, hasHead: true)
    }

    /// Throws `badSlice` unless this is a part that a stage of `model` can be: the embedding goes with the first layer
    /// and the head with the last, because a cut lies only between two layers.
    func check(_ model: ModelConfiguration) throws(EngineError) {
        guard !layers.isEmpty, layers.lowerBound >= 0, layers.upperBound <= model.layers else {
            throw EngineError(.badSlice, "Layers \(layers.lowerBound)..<\(layers.upperBound) were asked of a model with \(model.layers) layers.")
        }
        guard hasEmbedding == (layers.lowerBound == 0), hasHead == (layers.upperBound == model.layers) else {
            throw EngineError(
                .badSlice,
                "The embedding belongs to the stage of layer 0 and the head to that of layer \(model.layers - 1), but layers \(layers.lowerBound)..<\(layers.upperBound) were asked for \(hasEmbedding ? "with" : "without") embedding and \(hasHead ? "with" : "without") head."
            )
        }
    }
}

/// What passes from layer to layer, and so from stage to stage: part of the deployment, because it changes the bits.
package enum BoundaryType: String, Sendable, CaseIterable {
    case f32
    /// The hidden state is rounded to bf16 after every layer, whether or not a cut lies there.
    case bf16

    package var bytes: Int { self == .f32 ? 4 : 2 }
}

/// How keys and values are kept: part of the deployment, because it changes the bits.
package enum KVType: String, Sendable, CaseIterable {
    case f32, f16
    /// 8 bits in blocks of 32 dimensions with a scale each: 8.5 bits a value.
    case q8 = "q8_0"

    /// The names for a person who chose another one.
    package static let names = "f16, f32 or q8_0"
}
