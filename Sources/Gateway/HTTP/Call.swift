import ClusterCore
import Hummingbird

/// Hummingbird has a type of this name too.
typealias RequestID = ClusterCore.RequestID

/// One HTTP request with what the gateway knows of it from the start.
struct Call {
    let request: Request
    let connection: Connection?
    let route: Route
    let method: String
    /// Without the query.
    let path: String
    let id: RequestID
    /// What `x-request-id` answers: the client's own name for the request, or the id.
    let name: String
    let isNamedByHeader: Bool
    let began: ContinuousClock.Instant

    init(_ request: Request, connection: Connection?) {
        self.request = request
        self.connection = connection
        began = .now
        method = request.method.rawValue
        path = request.uri.path
        route = Route(path: path)
        var random = SystemRandomNumberGenerator()
        id = RequestID(high: random.next(), low: random.next())
        let given = request.headers[HeaderName.requestID].flatMap { RequestName.isUsable($0) ? $0 : nil }
        isNamedByHeader = given != nil
        name = given ?? id.description
    }
}

enum Route: Hashable {
    case health, ping, version, metrics
    case models
    case model(String)
    case chat, completion
    case tokenize, detokenize
    case unknown

    init(path: String) {
        switch path {
        case "/health", "/v1/health": self = .health
        case "/ping": self = .ping
        case "/version": self = .version
        case "/metrics": self = .metrics
        case "/v1/models": self = .models
        case "/v1/chat/completions": self = .chat
        case "/v1/completions": self = .completion
        case "/tokenize": self = .tokenize
        case "/detokenize": self = .detokenize
        default:
            // Names of models may hold slashes, escaped or not.
            let prefix = "/v1/models/"
            let isModel = path.hasPrefix(prefix) && path.utf8.count > prefix.utf8.count
            self = isModel ? .model(Route.unescaped(path.dropFirst(prefix.count))) : .unknown
        }
    }

    var method: String {
        switch self {
        case .health, .ping, .version, .metrics, .models, .model, .unknown: "GET"
        case .chat, .completion, .tokenize, .detokenize: "POST"
        }
    }

    /// What monitoring asks for needs no key.
    var needsKey: Bool {
        switch self {
        case .health, .ping, .version, .metrics: false
        case .models, .model, .chat, .completion, .tokenize, .detokenize, .unknown: true
        }
    }

    /// A name for metrics and logs that no client can choose.
    var label: String {
        switch self {
        case .health: "/health"
        case .ping: "/ping"
        case .version: "/version"
        case .metrics: "/metrics"
        case .models: "/v1/models"
        case .model: "/v1/models/{model}"
        case .chat: "/v1/chat/completions"
        case .completion: "/v1/completions"
        case .tokenize: "/tokenize"
        case .detokenize: "/detokenize"
        case .unknown: "none"
        }
    }

    /// Percent escapes that don't stand for UTF-8 stay as they are.
    private static func unescaped(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = rest.prefix(2).compactMap { Character(Unicode.Scalar($0)).hexDigitValue }
            if byte == UInt8(ascii: "%"), digits.count == 2 {
                bytes.append(UInt8(digits[0] << 4 | digits[1]))
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return String(validating: bytes, as: UTF8.self) ?? String(text)
    }
}
