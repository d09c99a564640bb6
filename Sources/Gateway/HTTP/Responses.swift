import Hummingbird

/// Hummingbird shows the names of headers only by way of the headers' type.
enum HeaderName {
    typealias Name = HTTPFields.Element.Name

    static let lastEventID = Name("last-event-id")!
    static let requestID = Name("x-request-id")!
    static let retryAfter = Name("retry-after")!
    static let limitRequests = Name("x-ratelimit-limit-requests")!
    static let limitTokens = Name("x-ratelimit-limit-tokens")!
    static let remainingRequests = Name("x-ratelimit-remaining-requests")!
    static let remainingTokens = Name("x-ratelimit-remaining-tokens")!
    static let resetRequests = Name("x-ratelimit-reset-requests")!
    static let resetTokens = Name("x-ratelimit-reset-tokens")!
    static let shouldRetry = Name("x-should-retry")!
    static let proxyBuffering = Name("x-accel-buffering")!
}

extension Response {
    static func json(capacity: Int = 512, _ write: (inout JSONWriter) -> Void) -> Response {
        json(JSONWriter.text(capacity: capacity, write))
    }

    static func json(_ bytes: [UInt8], status: HTTPResponse.Status = .ok) -> Response {
        Response(status: status, headers: [.contentType: "application/json"], body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
    }

    enum ErrorShape {
        case openAI
        /// llama-server's, whose users look for the number of the status.
        case health
    }

    init(_ error: APIError, shape: ErrorShape = .openAI) {
        let text = JSONWriter.text { writer in
            switch shape {
            case .openAI: error.write(to: &writer)
            case .health:
                writer.object { outer in
                    outer.member("error") { inner in
                        inner.object {
                            $0.member("code", error.status)
                            $0.member("message", error.message)
                            $0.member("type", error.type)
                        }
                    }
                }
            }
        }
        self = .json(text, status: HTTPResponse.Status(code: error.status))
        if let seconds = error.retryAfterSeconds { headers[HeaderName.retryAfter] = String(seconds) }
        if let shouldRetry = error.shouldRetry { headers[HeaderName.shouldRetry] = shouldRetry ? "true" : "false" }
    }
}
