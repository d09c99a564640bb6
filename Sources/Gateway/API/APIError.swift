import ClusterCore

/// What a client is told when its request cannot be served, in the shape that OpenAI clients map to exceptions.
struct APIError: Error, Hashable, Sendable {
    /// HTTP status; when the stream has begun, only the JSON tells.
    var status: Int
    /// OpenAI's word for the kind.
    var type: String
    /// Stable; for programs.
    var code: String
    /// The member of the request at fault, such as `messages[2].content`.
    var param: String?
    /// What was asked, what was found, what to do.
    var message: String
    /// For the `Retry-After` header.
    var retryAfterSeconds: Int?
    /// Whether the same request may succeed later; `nil` leaves it to the client's own rule for the status.
    var shouldRetry: Bool?

    init(
        status: Int, type: String, code: String, param: String? = nil, message: String, retryAfterSeconds: Int? = nil,
        shouldRetry: Bool? = nil
    ) {
        self.status = status
        self.type = type
        self.code = code
        self.param = param
        self.message = message
        self.retryAfterSeconds = retryAfterSeconds
        self.shouldRetry = shouldRetry
    }

    /// `{"error":{"message","type","param","code"}}`.
    func write(to writer: inout JSONWriter) {
        writer.object { outer in
            outer.member("error") { error in
                error.object {
                    $0.member("message", message)
                    $0.member("type", type)
                    $0.member("param", orNull: param)
                    $0.member("code", code)
                }
            }
        }
    }
}

// MARK: The client's mistakes

extension APIError {
    static func invalid(_ param: String?, _ message: String, code: String = "invalid_value") -> APIError {
        APIError(status: 400, type: "invalid_request_error", code: code, param: param, message: message)
    }

    static func wrongType(_ param: String, wanted: String, found: String) -> APIError {
        invalid(param, "'\(param)' must be \(wanted), but is \(found).", code: "invalid_type")
    }

    static func missing(_ param: String, _ wanted: String) -> APIError {
        invalid(param, "'\(param)' is missing: give \(wanted).", code: "missing_required_parameter")
    }

    /// For what other servers do and this one does not yet: never ignored in silence where it would change the answer.
    static func unsupported(_ param: String, _ message: String) -> APIError {
        invalid(param, message + " Leave '\(param)' out.", code: "not_supported")
    }

    static func unknownModel(_ name: String, served: String) -> APIError {
        APIError(
            status: 404, type: "invalid_request_error", code: "model_not_found", param: "model",
            message: "There is no model '\(name)' here; '\(served)' is served.")
    }

    static func unknownRoute(_ method: String, _ path: String) -> APIError {
        APIError(
            status: 404, type: "invalid_request_error", code: "unknown_url",
            message: "There is no '\(method) \(path)' here. The API starts at /v1/models.")
    }

    static func wrongMethod(_ method: String, _ path: String, allowed: String) -> APIError {
        APIError(
            status: 405, type: "invalid_request_error", code: "method_not_allowed",
            message: "'\(path)' does not take \(method); use \(allowed).")
    }

    static func bodyTooLarge(limit: Int) -> APIError {
        APIError(
            status: 413, type: "invalid_request_error", code: "request_too_large",
            message: "The request's body is over the limit of \(limit) bytes. Send less text, or ask the operator for a higher limit.")
    }

    static let bodiesTooLarge = APIError(
        status: 503, type: "unavailable_error", code: "overloaded",
        message: "Too many long requests are being read at once. Try again soon.", retryAfterSeconds: 1)

    static let unauthorized = APIError(
        status: 401, type: "authentication_error", code: "invalid_api_key",
        message: "This server asks for an API key, and none or an unknown one was given. Send 'Authorization: Bearer KEY'.")

    static func contextExceeded(promptTokens: Int, maxTokens: Int?, contextTokens: Int, param: String) -> APIError {
        let asked = maxTokens.map { ", and \($0) more were asked for: \(promptTokens + $0) in all" } ?? ""
        let message =
            "The prompt has \(promptTokens) tokens\(asked), but the model's context is \(contextTokens) tokens. "
            + "Shorten the prompt or ask for fewer tokens."
        return invalid(param, message, code: "context_length_exceeded")
    }
}

// MARK: The cluster's failures

extension APIError {
    /// The one table from the cluster's failures to HTTP.
    init(_ failure: Failure, limits: GatewayLimits) {
        let (status, type, code): (Int, String, String) =
            switch failure.code {
            case .invalidRequest: (400, "invalid_request_error", "invalid_request")
            case .contextExceeded: (400, "invalid_request_error", "context_length_exceeded")
            case .limitExceeded: (400, "invalid_request_error", "limit_exceeded")
            case .queueFull: (429, "rate_limit_error", "queue_full")
            case .rateLimited: (429, "rate_limit_error", "rate_limit_exceeded")
            case .noCapacity: (503, "unavailable_error", "no_capacity")
            case .notReady: (503, "unavailable_error", "not_ready")
            case .shuttingDown: (503, "unavailable_error", "shutting_down")
            case .versionMismatch: (503, "unavailable_error", "version_mismatch")
            case .modelMismatch: (503, "unavailable_error", "model_mismatch")
            case .notAdmitted: (503, "unavailable_error", "not_admitted")
            case .tokenInvalid: (503, "unavailable_error", "token_invalid")
            case .helloExpected: (503, "unavailable_error", "not_ready")
            case .frameLost: (503, "unavailable_error", "frame_lost")
            case .loadFailed: (503, "unavailable_error", "load_failed")
            case .numericFailure: (500, "server_error", "numeric_failure")
            case .internalError: (500, "server_error", "internal_error")
            }
        self.init(status: status, type: type, code: code, message: failure.message)
        if status == 429 { retryAfterSeconds = failure.retryAfterSeconds ?? limits.retryAfterSeconds }
        // The same prompt and seed meet the same numbers again.
        if failure.code == .numericFailure { shouldRetry = false }
    }
}
