import ClusterCore
import Synchronization

/// What the gateway counts, under the names that vLLM's users know with the prefix `staffel_`.
final class GatewayMetrics: Sendable {
    /// How a request's generation ended; vLLM's words.
    enum Ending: String, CaseIterable, Sendable { case stop, length, abort, error }

    /// Why the gateway closed a connection of its own accord.
    enum Closing: String, CaseIterable, Sendable {
        case slowHead = "slow_head"
        case slowBody = "slow_body"
        case slowReader = "slow_reader"
        case evicted
    }

    private struct HTTPKey: Hashable, Comparable {
        var handler: String
        var method: String
        var status: Int

        static func < (a: Self, b: Self) -> Bool { (a.handler, a.method, a.status) < (b.handler, b.method, b.status) }
    }

    private struct State {
        var waiting = 0
        var running = 0
        var promptTokens: UInt64 = 0
        var generatedTokens: UInt64 = 0
        var endings: [Ending: UInt64] = [:]
        var clientsGone: UInt64 = 0
        var slowReaders: UInt64 = 0
        var streamsResumed: UInt64 = 0
        var rejected: UInt64 = 0
        var rateLimited: UInt64 = 0
        var closings: [Closing: UInt64] = [:]
        var requestPromptTokens = Histogram(Buckets.tokens)
        var requestGeneratedTokens = Histogram(Buckets.tokens)
        var requestMaxTokens = Histogram(Buckets.tokens)
        var requestChoices = Histogram(Buckets.choices)
        var firstTokenSeconds = Histogram(Buckets.firstTokenSeconds)
        var interTokenSeconds = Histogram(Buckets.tokenSeconds)
        var perTokenSeconds = Histogram(Buckets.tokenSeconds)
        var requestSeconds = Histogram(Buckets.requestSeconds)
        var decodeSeconds = Histogram(Buckets.requestSeconds)
        var http: [HTTPKey: UInt64] = [:]
        var httpSeconds: [String: Histogram] = [:]
    }

    private let state = Mutex(State())

    // MARK: HTTP

    /// - Parameter handler: the route, never the path a client made up: labels must stay few.
    func answered(handler: String, method: String, status: Int) {
        state.withLock { $0.http[HTTPKey(handler: handler, method: method, status: status), default: 0] += 1 }
    }

    func completed(handler: String, seconds: Double) {
        state.withLock { $0.httpSeconds[handler, default: Histogram(Buckets.httpSeconds)].observe(seconds) }
    }

    // MARK: Generation

    func rateLimited() { state.withLock { $0.rateLimited += 1 } }
    func closed(_ closing: Closing) { state.withLock { $0.closings[closing, default: 0] += 1 } }
    func rejected() { state.withLock { $0.rejected += 1 } }
    func clientGone() { state.withLock { $0.clientsGone += 1 } }
    func streamResumed() { state.withLock { $0.streamsResumed += 1 } }
    func slowReader() { state.withLock { $0.slowReaders += 1 } }

    func submitted(_ job: GenerationJob) {
        state.withLock { state in
            state.waiting += 1
            state.promptTokens += UInt64(job.promptTokens)
            state.requestPromptTokens.observe(Double(job.promptTokens))
            state.requestChoices.observe(Double(job.options.choices))
            state.requestMaxTokens.observe(Double(job.answerTokens.max() ?? 0))
        }
    }

    func firstToken(seconds: Double) {
        state.withLock { state in
            state.waiting -= 1
            state.running += 1
            state.firstTokenSeconds.observe(seconds)
        }
    }

    func tokens(_ count: Int) { state.withLock { $0.generatedTokens += UInt64(count) } }

    func interToken(seconds: Double) { state.withLock { $0.interTokenSeconds.observe(seconds) } }

    func ended(_ ending: Ending, tokens: Int, seconds: Double, decodeSeconds: Double?) {
        state.withLock { state in
            state.endings[ending, default: 0] += 1
            if let decodeSeconds {
                state.running -= 1
                state.decodeSeconds.observe(decodeSeconds)
                if tokens > 1 { state.perTokenSeconds.observe(decodeSeconds / Double(tokens - 1)) }
            } else {
                state.waiting -= 1
            }
            state.requestGeneratedTokens.observe(Double(tokens))
            state.requestSeconds.observe(seconds)
        }
    }

    // MARK: Text

    /// - Parameter cluster: what the coordinator said of the cluster; `nil` where it did not answer.
    func text(
        model: String, connections: Int, choicesOpen: Int, isServing: Bool, cluster: StatusReport? = nil, process: ProcessUsage?
    ) -> [UInt8] {
        let state = state.withLock { $0 }
        var text = PrometheusText()
        let labels = [("model_name", model), ("engine", "0")]
        text.gauge("staffel_num_requests_running", "Requests whose first token is out.", labels, state.running)
        text.gauge("staffel_num_requests_waiting", "Requests that wait for their first token.", labels, state.waiting)
        text.gauge("staffel_num_choices_open", "Choices that this gateway has with the cluster.", labels, choicesOpen)
        text.gauge("staffel_connections_open", "Connections of clients.", [], connections)
        text.gauge("staffel_serving", "1 while the pipeline answers.", [], isServing ? 1 : 0)
        text.counter("staffel_prompt_tokens_total", "Prompt tokens of all requests.", labels, state.promptTokens)
        text.counter("staffel_generation_tokens_total", "Tokens generated for all requests.", labels, state.generatedTokens)
        text.family("staffel_request_success_total", "counter", "Requests by how they ended.")
        for ending in Ending.allCases {
            text.sample("staffel_request_success_total", labels + [("finished_reason", ending.rawValue)], state.endings[ending] ?? 0)
        }
        text.counter("staffel_requests_rejected_total", "Requests that found the gateway or the cluster full.", labels, state.rejected)
        text.counter("staffel_clients_gone_total", "Requests whose client left before the end.", labels, state.clientsGone)
        text.counter("staffel_slow_readers_total", "Streams that were ended because their client did not read.", labels, state.slowReaders)
        text.counter("staffel_streams_resumed_total", "Streams that clients went on with after a lost connection.", labels, state.streamsResumed)
        text.counter("staffel_requests_rate_limited_total", "Requests beyond what their API key may have in a minute.", labels, state.rateLimited)
        text.family("staffel_connections_closed_total", "counter", "Connections that the gateway closed of its own accord.")
        for closing in Closing.allCases {
            text.sample("staffel_connections_closed_total", [("reason", closing.rawValue)], state.closings[closing] ?? 0)
        }
        writeHistograms(state, labels, &text)
        writeHTTP(state, &text)
        if let cluster { ClusterMetrics.write(cluster, into: &text) }
        if let process { text.process(process) }
        return text.bytes
    }

    private func writeHistograms(_ state: State, _ labels: PrometheusText.Labels, _ text: inout PrometheusText) {
        text.histogram("staffel_request_prompt_tokens", "Prompt tokens of a request.", labels, state.requestPromptTokens)
        text.histogram("staffel_request_generation_tokens", "Tokens generated for a request.", labels, state.requestGeneratedTokens)
        text.histogram("staffel_request_params_n", "The parameter n.", labels, state.requestChoices)
        text.histogram("staffel_request_params_max_tokens", "Tokens that a request may generate for one choice.", labels, state.requestMaxTokens)
        text.histogram("staffel_time_to_first_token_seconds", "From a request's arrival to its first token.", labels, state.firstTokenSeconds)
        text.histogram("staffel_inter_token_latency_seconds", "Between two tokens of a choice.", labels, state.interTokenSeconds)
        text.histogram("staffel_request_time_per_output_token_seconds", "A request's mean time for a token after the first.", labels, state.perTokenSeconds)
        text.histogram("staffel_e2e_request_latency_seconds", "From a request's arrival to its end.", labels, state.requestSeconds)
        text.histogram("staffel_request_decode_time_seconds", "From a request's first token to its end.", labels, state.decodeSeconds)
    }

    private func writeHTTP(_ state: State, _ text: inout PrometheusText) {
        text.family("http_requests_total", "counter", "HTTP requests by route, method and status.")
        for (key, count) in state.http.sorted(by: { $0.key < $1.key }) {
            let labels = [("handler", key.handler), ("method", key.method), ("status", String(key.status))]
            text.sample("http_requests_total", labels, count)
        }
        text.family("http_request_duration_seconds", "histogram", "From an HTTP request's arrival to the end of its answer.")
        for (handler, histogram) in state.httpSeconds.sorted(by: { $0.key < $1.key }) {
            text.histogram("http_request_duration_seconds", [("handler", handler)], histogram)
        }
    }
}
