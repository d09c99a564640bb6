/// What a gateway asks the cluster to generate: one prompt, one or more choices.
package struct GenerationRequest: Hashable, Sendable {
    package var id: RequestID
    /// Never empty, and shorter than the deployment's context. When the context is full before `sampling.maxTokens`, the choice ends with `length`.
    package var prompt: [TokenID]
    package var sampling: SamplingParameters
    /// How many continuations, 1...`Limits.choicesMax`.
    package var choices: Int
    /// `nil`: none. Otherwise the token's own log-probability and so many alternatives.
    package var topLogprobs: Int?
    /// Lower is admitted sooner, as in vLLM; 0 is usual. Orders requests of one tenant; what runs is not interrupted for it.
    package var priority: Int32
    package var tenant: Tenant
    /// The tenant's part of the cluster's time is in proportion to this, 1...`Limits.tenantWeightMax`.
    package var weight: Int
    /// Tokens that each choice already has; used when a gateway submits again after the coordinator's restart.
    /// Empty, or one array a choice.
    package var resumed: [[TokenID]]
    /// The same request under an earlier id, maybe of another gateway: where the coordinator still has it, its tokens are taken and not generated
    /// again. Never more than a help, since the tokens would be the same.
    package var continues: RequestID?

    package init(
        id: RequestID, prompt: [TokenID], sampling: SamplingParameters, choices: Int = 1, topLogprobs: Int? = nil,
        priority: Int32 = 0, tenant: Tenant = .shared, weight: Int = 1, resumed: [[TokenID]] = [], continues: RequestID? = nil
    ) {
        self.id = id
        self.prompt = prompt
        self.sampling = sampling
        self.choices = choices
        self.topLogprobs = topLogprobs
        self.priority = priority
        self.tenant = tenant
        self.weight = weight
        self.resumed = resumed
        self.continues = continues
    }
}

/// One generated token of one choice.
package struct EmittedToken: Hashable, Sendable {
    package var token: TokenID
    /// Natural-log probability under the model's own distribution, before penalties and temperature; `nil` unless asked for.
    package var logprob: Float?
    /// Most likely tokens, likeliest first; empty unless asked for.
    package var top: [TokenLogprob]

    package init(token: TokenID, logprob: Float? = nil, top: [TokenLogprob] = []) {
        self.token = token
        self.logprob = logprob
        self.top = top
    }
}

package struct TokenLogprob: Hashable, Sendable {
    package var token: TokenID
    package var logprob: Float

    package init(token: TokenID, logprob: Float) {
        self.token = token
        self.logprob = logprob
    }
}

/// Why a choice ended well.
package enum FinishReason: UInt8, Hashable, Sendable {
    /// An end token or a stop token was drawn; it is the last token emitted.
    case stop = 1
    /// `maxTokens` were generated, or the context is full.
    case length = 2
}

/// A fault that a person or a peer is told about. `message` says what was asked, what was found and what to do.
package struct Failure: Error, Hashable, Sendable {
    package var code: FailureCode
    package var message: String
    /// When to try again, where the fault is that there is too much to do: whole seconds, 1...`Limits.retryAfterSecondsMax`.
    package var retryAfterSeconds: Int?

    package init(_ code: FailureCode, _ message: String, retryAfterSeconds: Int? = nil) {
        self.code = code
        self.message = message
        self.retryAfterSeconds = retryAfterSeconds
    }
}

/// Stable numbers: they go over the wire. The gateway's table maps each to an HTTP status and an OpenAI error type.
package enum FailureCode: UInt32, Hashable, Sendable, CaseIterable {
    case invalidRequest = 1
    case contextExceeded = 2
    case queueFull = 3
    case noCapacity = 4
    case notReady = 5
    case numericFailure = 6
    case shuttingDown = 7
    case versionMismatch = 8
    case modelMismatch = 9
    case notAdmitted = 10
    case tokenInvalid = 11
    case loadFailed = 12
    case limitExceeded = 13
    case internalError = 14
    /// The coordinator does not know this peer (any more): say hello again.
    case helloExpected = 15
    /// A frame did not arrive: the one after it did. Nobody's fault but the network's.
    case frameLost = 16
    /// The key that a request was made with has as many open as it may.
    case rateLimited = 17
}
