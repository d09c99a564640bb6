extension ModelConfiguration {
    /// What the configuration of a GGUF file takes from its tensors, because the metadata does not say it.
    package struct TensorFacts: Sendable {
        /// Rows of the embedding.
        package var vocabulary: Int?
        /// `output.weight` is there.
        package var head = false
        package var qkvBias = false
        package var outputBias = false
        package var headBias = false
        /// `rope_freqs.weight`
        package var ropeDivisors: [Float]?
        /// `rope_factors_short.weight`
        package var ropeShort: [Float]?
        /// `rope_factors_long.weight`
        package var ropeLong: [Float]?

        package init() {}

        /// Reads the vectors among them. Throws `wrongTensor` where they are no vectors of floats.
        init(_ source: any TensorSource) throws(ModelFileError) {
            let layer = ModelTensors.layer(0)
            vocabulary = source.tensor(ModelTensors.embedding)?.rows
            head = source.tensor(ModelTensors.head) != nil
            qkvBias = source.tensor(layer.queryBias) != nil || source.tensor(layer.qkvBias) != nil
            outputBias = source.tensor(layer.attentionOutputBias) != nil
            headBias = source.tensor(ModelTensors.headBias) != nil
            ropeDivisors = try TensorFacts.vector(ModelTensors.ropeDivisors, source)
            ropeShort = try TensorFacts.vector(ModelTensors.ropeShort, source)
            ropeLong = try TensorFacts.vector(ModelTensors.ropeLong, source)
        }

        /// Frequencies of the largest head that a configuration may have.
        private static let pairsMax = 1 << 13

        private static func vector(_ name: String, _ source: any TensorSource) throws(ModelFileError) -> [Float]? {
            guard let tensor = source.tensor(name) else { return nil }
            guard tensor.type.isFloat, tensor.elementCount <= pairsMax else {
                throw ModelFileError(
                    .wrongTensor,
                    "The tensor '\(name)' is \(tensor.shape) of \(tensor.type.name); divisors of frequencies are a vector of floats. Convert the model again.")
            }
            let divisors = tensor.dequantized()
            if let index = divisors.firstIndex(where: { !($0.isFinite && $0 > 0) }) {
                throw ModelFileError(
                    .wrongTensor,
                    "Element \(index) of the tensor '\(name)' is \(divisors[index]), by which no frequency can be divided. The file is damaged; fetch it again.")
            }
            return divisors
        }
    }
}
