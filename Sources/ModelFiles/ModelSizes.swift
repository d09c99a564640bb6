/// What a model weighs, as the planner needs it: bytes of weights by part of the model, as they lie in the file.
package struct ModelSizes: Sendable, Equatable {
    /// Elements of all tensors.
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
    private let outputNorm: Int

    /// `file` must have passed `ModelTensors.check` for `model`, as it has when `model` came from it.
    package init(file: GGUFFile, model: ModelConfiguration) {
        func bytes(_ name: String) -> Int { file.tensor(name)?.byteCount ?? 0 }
        parameters = file.tensors.reduce(0) { $0 + $1.elementCount }
        layers = (0..<model.layers).map { index in
            ModelTensors.wanted(layer: index, model).reduce(0) { $0 + bytes($1.name) }
        }
        embedding = bytes(ModelTensors.embedding)
        outputNorm = bytes(ModelTensors.outputNorm)
        tied = model.tiedHead
        head = outputNorm + bytes(model.tiedHead ? ModelTensors.embedding : ModelTensors.head)
        everywhere = bytes(ModelTensors.ropeDivisors)
    }

    /// Bytes of the weights that a stage with these layers holds. The first stage embeds and the last has the head; one
    /// that is both holds a tied matrix once.
    package func stage(layers range: Range<Int>) -> Int {
        let isFirst = range.lowerBound == 0
        let isLast = range.upperBound == layers.count
        var total = everywhere + layers[range].reduce(0, +)
        if isFirst { total += embedding }
        if isLast { total += isFirst && tied ? outputNorm : head }
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
