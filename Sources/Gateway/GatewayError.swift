/// Why a gateway could not start or go on. What a client is told is an `APIError`.
package struct GatewayError: Error, Sendable, CustomStringConvertible {
    package enum Code: String, Sendable {
        case configuration = "gateway_configuration"
        case apiKeys = "gateway_api_keys"
        case listen = "gateway_listen"
        case link = "gateway_link"
        case model = "gateway_model"
        case tls = "gateway_tls"
    }

    package let code: Code
    /// What was asked, what was found, what to do.
    package let message: String
    package let cause: (any Error)?

    package init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    package var description: String {
        cause.map { "\(code.rawValue): \(message) Cause: \($0)" } ?? "\(code.rawValue): \(message)"
    }
}
