import ClusterCore
import Hummingbird

extension GatewayResponder {
    /// `POST /v1/chat/completions` and `POST /v1/completions`.
    func generate(_ call: Call, of client: Client) async throws(APIError) -> Response {
        let body = try await bytes(of: call)
        let (fields, model) = try read(body)
        let identity = try StreamIdentity(call, streams: try fields.bool("stream"))
        let job =
            call.route == .chat
            ? try GenerationJob(chat: fields, model: model, limits: limits, randomSeed: identity.seed, now: identity.templateClock)
            : try GenerationJob(completion: fields, model: model, limits: limits, randomSeed: identity.seed)
        let eventID = try identity.eventID(for: job, body: body, model: model, run: call.id)
        let priority = try client.priority(asked: job.options.priority)
        try rates.take(tokens: job.promptTokens, of: client)
        let meter = RequestMeter(metrics: metrics, began: call.began) { [rates] in rates.charge(tokens: $0, to: client) }
        do throws(Failure) {
            let generation = try Generation(
                job, of: client, priority: priority, model: model, id: call.id, identity: identity, link: link,
                connection: call.connection, limits: limits, meter: meter)
            let position = StreamPosition(eventID, after: identity.last)
            var response = job.options.streams ? try await stream(generation, position, call) : .json(try await generation.wholeAnswer())
            if !call.isNamedByHeader, let name = job.options.requestName { response.headers[HeaderName.requestID] = name }
            return response
        } catch {
            if error.code == .queueFull || error.code == .rateLimited {
                metrics.rejected()
                rates.giveBack(tokens: job.promptTokens, to: client)
            }
            throw APIError(error, limits: limits)
        }
    }

    private func stream(_ generation: Generation, _ position: StreamPosition, _ call: Call) async throws(Failure) -> Response {
        if position.isResumed { metrics.streamResumed() }
        let first = try await EventStream.firstEvent(of: generation, limits: limits)
        let events = EventStream(generation: generation, limits: limits, connection: call.connection, position: position, first: first)
        let (metrics, began, label) = (metrics, call.began, call.route.label)
        let headers: HTTPFields = [
            .contentType: "text/event-stream; charset=utf-8", .cacheControl: "no-cache", HeaderName.proxyBuffering: "no",
        ]
        return Response(
            status: .ok, headers: headers,
            body: ResponseBody { writer in
                defer { metrics.completed(handler: label, seconds: (ContinuousClock.now - began).inSeconds) }
                try await events.write(to: &writer)
            })
    }
}
