import ClusterCore
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import Prompt

/// What a request brings along from its connection.
struct GatewayRequestContext: InitializableFromSource {
    let channel: any Channel
    init(source: ApplicationRequestContextSource) { channel = source.channel }
}

/// Finds the route of a request, guards it, and makes an answer of whatever happens: no request ends without one.
struct GatewayResponder: HTTPResponder {
    typealias Context = GatewayRequestContext

    let configuration: GatewayConfiguration
    let keys: KeyRing?
    let rates = RateLimits()
    let bodies: BodyMemory
    let link: ClusterLink
    let metrics: GatewayMetrics
    let connections: Connections
    let logger: Logger
    let startedAt: Int

    init(
        configuration: GatewayConfiguration, keys: KeyRing?, link: ClusterLink, metrics: GatewayMetrics, connections: Connections,
        logger: Logger
    ) {
        self.configuration = configuration
        self.keys = keys
        bodies = BodyMemory(freeBytes: configuration.limits.bodyFreeBytes, sharedBytesMax: configuration.limits.bodiesBytesMax)
        self.link = link
        self.metrics = metrics
        self.connections = connections
        self.logger = logger
        startedAt = WallClock.secondsSinceEpoch
    }

    var limits: GatewayLimits { configuration.limits }

    func respond(to request: Request, context: GatewayRequestContext) async throws -> Response {
        let call = Call(request, connection: connections.connection(of: context.channel))
        var response: Response
        var failure: APIError?
        var client = Client.anybody
        do throws(APIError) {
            client = try self.client(of: call)
            if call.route.method == "POST" { try rates.take(requestOf: client) }
            response = try await answer(call, to: client)
        } catch {
            failure = error
            if error.code == "rate_limit_exceeded" { metrics.rateLimited() }
            response = Response(error, shape: call.route == .health ? .health : .openAI)
        }
        for (name, value) in rates.headers(of: client) { response.headers[name] = value }
        // A name that came in the body stands there already.
        if response.headers[HeaderName.requestID] == nil { response.headers[HeaderName.requestID] = call.name }
        metrics.answered(handler: call.route.label, method: call.method, status: response.status.code)
        if response.body.contentLength != nil {
            metrics.completed(handler: call.route.label, seconds: (ContinuousClock.now - call.began).inSeconds)
        }
        log(call, response, failure)
        return call.method == "HEAD" ? response.createHeadResponse() : response
    }

    // MARK: Routes

    private func client(of call: Call) throws(APIError) -> Client {
        guard let keys, call.route.needsKey else { return .anybody }
        guard let client = keys.client(authorization: call.request.headers[.authorization]) else { throw .unauthorized }
        return client
    }

    private func answer(_ call: Call, to client: Client) async throws(APIError) -> Response {
        if case .unknown = call.route { throw .unknownRoute(call.method, call.path) }
        let allowed = call.route.method
        guard call.method == allowed || (allowed == "GET" && call.method == "HEAD") else {
            throw .wrongMethod(call.method, call.path, allowed: allowed)
        }
        switch call.route {
        case .health: return try health()
        case .ping: return Response(status: .ok)
        case .version: return .json { $0.object { $0.member("version", configuration.version) } }
        case .metrics: return await metricsText()
        case .models: return try models()
        case .model(let name): return try model(named: name)
        case .chat, .completion: return try await generate(call, of: client)
        case .tokenize: return try await tokenize(call)
        case .detokenize: return try await detokenize(call)
        case .unknown: throw .unknownRoute(call.method, call.path)
        }
    }

    private func health() throws(APIError) -> Response {
        guard link.answersRequests else {
            throw APIError(status: 503, type: "unavailable_error", code: "not_ready", message: link.health.detail)
        }
        return .json { $0.object { $0.member("status", "ok") } }
    }

    private func metricsText() async -> Response {
        let text = metrics.text(
            model: link.model?.name ?? "", connections: connections.count, choicesOpen: link.choicesOpen,
            isServing: link.health.isServing, cluster: await link.status(), process: .current())
        return .metrics(text)
    }

    private func models() throws(APIError) -> Response {
        let model = try servedModel()
        return .json { writer in
            writer.object { list in
                list.member("object", "list")
                list.member("data") { data in
                    data.array(model.names) { writer, name in writeModel(&writer, model, name) }
                }
            }
        }
    }

    private func model(named name: String) throws(APIError) -> Response {
        let model = try servedModel()
        guard model.isNamed(name) else { throw .unknownModel(name, served: model.name) }
        return .json { writeModel(&$0, model, name) }
    }

    private func writeModel(_ writer: inout JSONWriter, _ model: ServedModel, _ name: String) {
        writer.object {
            $0.member("id", name)
            $0.member("object", "model")
            $0.member("created", startedAt)
            $0.member("owned_by", "staffel")
            $0.member("root", model.welcome.modelName)
            $0.nullMember("parent")
            $0.member("max_model_len", model.contextTokens)
            $0.member("permission") { $0.array { _ in } }
            $0.member("meta") { meta in
                meta.object {
                    $0.member("n_vocab", model.tokenizer.vocabularySize)
                    $0.member("n_ctx_train", model.contextTokens)
                    $0.member("n_params") { $0.int(model.welcome.parameterCount) }
                    $0.member("size") { $0.int(model.welcome.modelBytes) }
                }
            }
            $0.member("origin") { $0.origin(of: model.prompting) }
        }
    }

    // MARK: What routes share

    func servedModel() throws(APIError) -> ServedModel {
        guard let model = link.model else {
            throw APIError(
                status: 503, type: "unavailable_error", code: "not_ready", message: link.health.detail, retryAfterSeconds: limits.retryAfterSeconds)
        }
        return model
    }

    /// The request's body as a JSON object with a bounded number of members, and the model that it names.
    func body(of call: Call) async throws(APIError) -> (Fields, ServedModel) { try read(await bytes(of: call)) }

    func read(_ bytes: [UInt8]) throws(APIError) -> (Fields, ServedModel) {
        let model = try servedModel()
        guard String(validating: bytes, as: UTF8.self) != nil else {
            throw .invalid(nil, "The request's body is not UTF-8 text. Send JSON in UTF-8.", code: "invalid_utf8")
        }
        let value: TemplateValue
        do {
            value = try TemplateValue(json: bytes, depthMax: limits.jsonDepthMax)
        } catch {
            throw .invalid(nil, "The request's body is not usable JSON: \(error.message)", code: "invalid_json")
        }
        guard case .object(let object) = value else {
            throw .invalid(nil, "The request's body must be a JSON object, but is \(value.kindForPeople).", code: "invalid_type")
        }
        guard object.entries.count <= limits.fieldsMax else {
            throw .invalid(
                nil, "The request has \(object.entries.count) members, but at most \(limits.fieldsMax) are taken.", code: "too_many_members")
        }
        let fields = Fields(object)
        if let name = try fields.string("model"), !name.isEmpty, !model.isNamed(name) { throw .unknownModel(name, served: model.name) }
        return (fields, model)
    }

    func bytes(of call: Call) async throws(APIError) -> [UInt8] {
        if let length = call.request.headers[.contentLength].flatMap({ Int($0) }), length > limits.bodyBytesMax {
            throw .bodyTooLarge(limit: limits.bodyBytesMax)
        }
        var bytes: [UInt8] = []
        // What is read is held by this request until its JSON is parsed; the share ends a little before, with this function.
        var share = bodies.share()
        do {
            for try await buffer in call.request.body {
                let total = bytes.count + buffer.readableBytes
                guard total <= limits.bodyBytesMax else { throw APIError.bodyTooLarge(limit: limits.bodyBytesMax) }
                guard share.grow(to: total) else { throw APIError.bodiesTooLarge }
                bytes += buffer.readableBytesView
            }
            return bytes
        } catch let error as APIError {
            throw error
        } catch {
            throw .invalid(nil, "The request's body ended early or was damaged: \(error).", code: "invalid_body")
        }
    }

    private func log(_ call: Call, _ response: Response, _ failure: APIError?) {
        var metadata: Logger.Metadata = [
            "request": "\(call.name)", "method": "\(call.method)", "route": "\(call.route.label)", "status": "\(response.status.code)"
        ]
        if let failure { metadata["error"] = "\(failure.code): \(failure.message)" }
        logger.log(level: response.status.code >= 500 && call.route != .health ? .warning : .debug, "request answered", metadata: metadata)
    }
}
