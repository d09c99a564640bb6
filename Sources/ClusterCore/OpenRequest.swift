/// A request between its submission and its one end. Keeps what it emitted, for a gateway that lost some on the way.
package struct OpenRequest: Hashable, Sendable {
    package struct Choice: Hashable, Sendable {
        /// `nil` once finished.
        package var sequence: SequenceID?
        /// Tokens that came with the submission; the gateway has them.
        package var resumedCount: Int
        package var emitted: [EmittedToken] = []
        package var finish: FinishReason?

        package var tokenCount: Int { resumedCount + emitted.count }
    }

    package let id: RequestID
    /// `nil` once it is lost: then the request stands in `Coordinator.abandoned`.
    package var gateway: PeerKey?
    package let submittedAt: Instant
    /// As it was submitted: what it has to be like for another to go on with its tokens.
    package let request: GenerationRequest
    /// Another goes on with its tokens: once its gateway is known to be gone, nobody comes for them any more.
    var isContinued = false
    package var choices: [Choice]

    package var isFinished: Bool { choices.allSatisfy { $0.finish != nil } }
}

extension GenerationRequest {
    /// Why this request cannot be run on `model`, or `nil`. `Wire` bounds sizes; here is what depends on the model, and what a careless
    /// gateway could get wrong.
    package func fault(model: ModelProfile, contextTokens: Int) -> Failure? {
        guard !prompt.isEmpty else { return Failure(.invalidRequest, "the prompt has no tokens; send at least one") }
        guard prompt.count < contextTokens else {
            return Failure(
                .contextExceeded,
                "the prompt has \(prompt.count) tokens and the context holds \(contextTokens), answer included; shorten the prompt")
        }
        let inVocabulary = { (token: TokenID) in 0 <= token && Int(token) < model.vocabulary }
        guard prompt.allSatisfy(inVocabulary), resumed.allSatisfy({ $0.allSatisfy(inVocabulary) }) else {
            return Failure(.invalidRequest, "a token is outside the vocabulary of \(model.vocabulary)")
        }
        guard (1...Limits.choicesMax).contains(choices) else {
            return Failure(.invalidRequest, "\(choices) choices were asked for; 1 to \(Limits.choicesMax) are possible")
        }
        guard (1...Limits.tenantWeightMax).contains(weight) else {
            return Failure(.invalidRequest, "the tenant's weight is \(weight); it must be in 1...\(Limits.tenantWeightMax)")
        }
        if let topLogprobs, !(0...Limits.topLogprobsMax).contains(topLogprobs) {
            return Failure(.invalidRequest, "\(topLogprobs) log-probabilities a token were asked for; at most \(Limits.topLogprobsMax) are possible")
        }
        guard resumed.isEmpty || resumed.count == choices else {
            return Failure(.invalidRequest, "tokens of \(resumed.count) choices came with a request for \(choices)")
        }
        guard resumed.allSatisfy({ $0.count <= Int(clamping: sampling.maxTokens) && prompt.count + $0.count <= contextTokens }) else {
            return Failure(.invalidRequest, "more tokens are said to be generated than the request allows")
        }
        return sampling.fault(vocabulary: model.vocabulary)
    }
}

extension SamplingParameters {
    /// The first parameter that is out of its range, or `nil`. NaN is out of every range.
    package func fault(vocabulary: Int) -> Failure? {
        func outside(_ name: String, _ value: some CustomStringConvertible, _ range: String) -> Failure {
            Failure(.invalidRequest, "\(name) is \(value); it must be \(range)")
        }
        guard (0...100).contains(temperature) else { return outside("temperature", temperature, "in 0...100") }
        guard topK >= 0 else { return outside("top_k", topK, "0 (all) or more") }
        guard topP > 0, topP <= 1 else { return outside("top_p", topP, "above 0 and at most 1") }
        guard (0...1).contains(minP) else { return outside("min_p", minP, "in 0...1") }
        guard repetitionPenalty > 0, repetitionPenalty <= 10 else {
            return outside("repetition_penalty", repetitionPenalty, "above 0 and at most 10")
        }
        guard (-2...2).contains(presencePenalty) else { return outside("presence_penalty", presencePenalty, "in -2...2") }
        guard (-2...2).contains(frequencyPenalty) else { return outside("frequency_penalty", frequencyPenalty, "in -2...2") }
        guard maxTokens >= 1 else { return outside("max_tokens", maxTokens, "at least 1") }
        guard minTokens >= 0, minTokens <= maxTokens else { return outside("min_tokens", minTokens, "in 0...max_tokens") }
        guard logitBias.count <= Limits.logitBiasMax, stopTokens.count <= Limits.stopTokensMax else {
            return outside("logit_bias or stop tokens", "too long", "at most \(Limits.logitBiasMax) and \(Limits.stopTokensMax) entries")
        }
        var last: TokenID = -1
        for entry in logitBias {
            guard last < entry.token, Int(entry.token) < vocabulary, (-100...100).contains(entry.bias) else {
                return outside("logit_bias", "\(entry.token): \(entry.bias)", "ascending tokens of the vocabulary, each in -100...100")
            }
            last = entry.token
        }
        guard stopTokens.allSatisfy({ 0 <= $0 && Int($0) < vocabulary }) else {
            return outside("stop_token_ids", "outside the vocabulary", "tokens of the model")
        }
        return nil
    }
}
