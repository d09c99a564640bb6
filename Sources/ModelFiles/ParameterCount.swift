extension ModelConfiguration {
    /// Weights of the model, counted from the configuration alone: every element of every matrix, norm and bias, a tied head once. What RoPE
    /// divides by is no weight.
    package var parameterCount: Int {
        let tail = hidden + (tiedHead ? 0 : vocabulary * hidden) + (headBias ? vocabulary : 0)
        return vocabulary * hidden + layers * parametersPerLayer(experts: experts?.count ?? 1) + tail
    }

    /// Of these, the ones that a single token's pass multiplies: of the experts only those that are used.
    package var activeParameterCount: Int {
        let unused = experts.map { layers * ($0.count - $0.used) * feedForwardParameters } ?? 0
        return parameterCount - unused
    }

    private var feedForwardParameters: Int { 3 * hidden * feedForward }

    private func parametersPerLayer(experts count: Int) -> Int {
        let projections = hidden * (queryWidth + 2 * kvWidth) + queryWidth * hidden
        let biases = (qkvBias ? queryWidth + 2 * kvWidth : 0) + (outputBias ? hidden : 0)
        let router = experts.map { hidden * $0.count } ?? 0
        return 2 * hidden + projections + biases + router + count * feedForwardParameters
    }
}
