/// What a model weighs, as the planner needs it: bytes of weights by part of the model, as they lie in the file.
package struct ModelSizes: Sendable, Equatable {
    /// `ModelConfiguration.parameterCount`
    package var parameters: Int
    /// Bytes of each layer's tensors.
    package var layers: [Int]
    /// Bytes of the embedding matrix, which the first stage holds.
    package var embedding: Int
    /// Bytes of what the last stage holds besides layers: the output norm and the head. A tied head is counted in full,
    /// because a last stage that is not also the first needs a copy of the embedding.
    package var head: Int
    /// Bytes of what every stage holds: the RoPE divisors.
    package var everywhere: Int
    private let tied: Bool
    /// Of the head, what a tied matrix does not spare.
    private let tail: Int

    /// `source` must have passed `ModelTensors.check` for `model`, as it has when `model` came from it.
    package init(source: any TensorSource, model: ModelConfiguration) {
        func bytes(_ wanted: ModelTensors.Wanted) -> Int { ModelTensors.tensors(wanted, in: source).reduce(0) { $0 + $1.byteCount } }
        parameters = model.parameterCount
        layers = (0..<model.layers).map { index in
            ModelTensors.wanted(layer: index, model).reduce(0) { $0 + bytes($1) }
        }
        embedding = bytes(ModelTensors.wantedEmbedding(model))
        tail = bytes(ModelTensors.wantedOutputNorm(model)) + (model.headBias ? bytes(ModelTensors.wantedHeadBias(model)) : 0)
        tied = model.tiedHead
        head = tail + (model.tiedHead ? embedding : bytes(ModelTensors.wantedHead(model)))
        everywhere = [ModelTensors.ropeDivisors, ModelTensors.ropeShort, ModelTensors.ropeLong].reduce(0) {
            $0 + (source.tensor($1)?.byteCount ?? 0)
        }
    }

    package init(file: GGUFFile, model: ModelConfiguration) { self.init(source: file, model: model) }

    /// Bytes of the weights that a stage with these layers holds. The first stage embeds and the last has the head; one
    /// that is both holds a tied matrix once.
    package func stage(layers range: Range<Int>) -> Int {
        let isFirst = range.lowerBound == 0
        let isLast = range.upperBound == layers.count
        var total = everywhere + layers[range].reduce(0, +)
        if isFirst { total += embedding }
        if isLast { total += isFirst && tied ? tail : head }
        return total
    }
}

extension ModelConfiguration {
    /// Bytes that one position's keys and values take in one layer, at `elementBytes` an element (2 for f16).
    package func kvBytesPerTokenAndLayer(elementBytes: Int) -> Int {
        2 * kvWidth * elementBytes
    }

    /// Bytes that one position's keys and values take in all layers.
    package func kvBytesPerToken(elementBytes: Int) -> Int {
        layers * kvBytesPerTokenAndLayer(elementBytes: elementBytes)
    }
}
