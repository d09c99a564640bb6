import ClusterCore
import Hummingbird
import Synchronization

/// Server-sent events of one generation: one data line a chunk, comments while there is nothing to say, `[DONE]` at the end.
struct EventStream {
    let generation: Generation
    let limits: GatewayLimits
    let connection: Connection?
    let position: StreamPosition
    /// What the handler read while it waited whether the cluster would refuse.
    let first: GenerationStream.Event?

    /// Waits a moment for the cluster's first word, so that a refusal can still have a status of its own.
    /// - Throws: what the cluster refused the request with.
    static func firstEvent(of generation: Generation, limits: GatewayLimits) async throws(Failure) -> GenerationStream.Event? {
        let stream = generation.stream
        let alarm = Task {
            try await Task.sleep(for: .milliseconds(limits.firstAnswerWaitMs))
            stream.tick()
        }
        defer { alarm.cancel() }
        for await event in stream.events {
            if case .cluster(_, .failed(let failure)) = event {
                generation.end(.error)
                throw failure
            }
            return event
        }
        return nil
    }

    func write(to writer: inout any ResponseBodyWriter) async throws {
        defer { generation.end(.abort) }
        let pulse = Pulse()
        let ticker = makeTicker(pulse)
        defer { ticker.cancel() }
        var encoder = EventStreamEncoder(generation: generation, limits: limits, position: position)
        var opening = encoder.opening()
        if let first { opening += encoder.bytes(for: first) }
        try await send(opening, to: &writer, pulse)
        if !encoder.hasEnded {
            for await event in generation.stream.events {
                var bytes = encoder.bytes(for: event)
                if bytes.isEmpty, case .tick = event, pulse.silence >= .milliseconds(limits.keepAliveMs / 2) {
                    bytes = position.comment("keep-alive")
                }
                try await send(bytes, to: &writer, pulse)
                if encoder.hasEnded { break }
            }
        }
        try await writer.finish(nil)
    }

    private func send(_ bytes: [UInt8], to writer: inout any ResponseBodyWriter, _ pulse: Pulse) async throws {
        guard !bytes.isEmpty else { return }
        pulse.writeBegins()
        try await writer.write(ByteBuffer(bytes: bytes))
        pulse.writeEnds()
    }

    /// Wakes the writer twice in each keep-alive interval, and ends the connection of a client that takes nothing.
    private func makeTicker(_ pulse: Pulse) -> Task<Void, any Error> {
        let stall = Duration.milliseconds(limits.writeStallMs)
        let interval = Duration.milliseconds(max(1, min(limits.keepAliveMs / 2, limits.writeStallMs)))
        let stream = generation.stream
        let connection = connection
        return Task {
            while true {
                try await Task.sleep(for: interval)
                if pulse.writingFor > stall {
                    connection?.close()
                    return
                }
                stream.tick()
            }
        }
    }
}

/// When something was last written, and whether a write is under way.
private final class Pulse: Sendable {
    private struct State {
        var last = ContinuousClock.now
        var isWriting = false
    }

    private let state = Mutex(State())

    func writeBegins() { set(isWriting: true) }
    func writeEnds() { set(isWriting: false) }

    var silence: Duration { state.withLock { ContinuousClock.now - $0.last } }
    var writingFor: Duration { state.withLock { $0.isWriting ? ContinuousClock.now - $0.last : .zero } }

    private func set(isWriting: Bool) {
        state.withLock { $0 = State(last: ContinuousClock.now, isWriting: isWriting) }
    }
}

/// Events to bytes. The value knows which choices have spoken and when all is said.
struct EventStreamEncoder {
    private let generation: Generation
    private let limits: GatewayLimits
    private var progress: GenerationProgress
    private var hasSpoken: [Bool]
    private var position: StreamPosition
    private(set) var hasEnded = false

    init(generation: Generation, limits: GatewayLimits, position: StreamPosition) {
        self.generation = generation
        self.limits = limits
        self.position = position
        progress = GenerationProgress(model: generation.model, job: generation.job)
        hasSpoken = Array(repeating: false, count: generation.job.choiceCount)
    }

    private var answer: Answer { generation.answer }

    /// Echoed prompts, if any.
    mutating func opening() -> [UInt8] {
        let answer = answer
        var bytes: [UInt8] = []
        for choice in hasSpoken.indices {
            let echo = generation.job.prompts[progress.prompt(of: choice)].echo
            if !echo.isEmpty { bytes += position.event(of: choice) { answer.pieceChunk(choice: choice, Piece(text: echo)) } }
        }
        return bytes
    }

    /// A token is an event of its own, however many come at once: so a stream is the same events whenever and through whichever gateway it comes.
    mutating func bytes(for event: GenerationStream.Event) -> [UInt8] {
        guard !hasEnded else { return [] }
        var bytes: [UInt8] = []
        var last: GenerationProgress.Output?
        for single in event.singles {
            for output in progress.handle(single) {
                switch output {
                case .piece(let choice, let piece, let finish):
                    if position.isBehind(choice) { generation.skip(choice: choice, progress) } else { last = output }
                    bytes += pieceEvents(choice, piece, finish)
                case .remark(let text): bytes += position.comment(text)
                case .failed(let failure): return bytes + failed(failure)
                case .cancel, .cancelChoice: generation.note(output, progress)
                }
            }
        }
        // Tokens that came together have one time.
        if let last { generation.note(last, progress) }
        return progress.hasEnded ? bytes + ended() : bytes
    }

    /// A choice's role comes with its first token, not before: load testers take the first chunk for the first token.
    private mutating func pieceEvents(_ choice: Int, _ piece: Piece, _ finish: FinishReason?) -> [UInt8] {
        guard !piece.isEmpty || finish != nil else { return [] }
        let answer = answer
        var bytes: [UInt8] = []
        if generation.job.kind == .chat, !hasSpoken[choice] { bytes += position.event(of: choice) { answer.roleChunk(choice: choice) } }
        hasSpoken[choice] = true
        if !piece.isEmpty { bytes += position.event(of: choice) { answer.pieceChunk(choice: choice, piece) } }
        if let finish { bytes += position.event(of: choice) { answer.finishChunk(choice: choice, finish) } }
        return bytes
    }

    private mutating func failed(_ failure: Failure) -> [UInt8] {
        hasEnded = true
        generation.end(.error)
        return StreamPosition.data(JSONWriter.text { APIError(failure, limits: limits).write(to: &$0) }) + Self.done
    }

    private mutating func ended() -> [UInt8] {
        hasEnded = true
        let finishes = hasSpoken.indices.map { progress.finish(of: $0) }
        // The client left, and nobody reads an end.
        guard !finishes.contains(nil) else { return [] }
        generation.end(finishes.contains(.length) ? .length : .stop)
        let (answer, count) = (answer, progress.completionTokens)
        let usage = answer.includesUsage ? position.usageEvent { answer.usageChunk(completionTokens: count) } : []
        return usage + Self.done
    }

    private static let done = Array("data: [DONE]\n\n".utf8)
}

extension GenerationStream.Event {
    /// The same, a token at a time.
    fileprivate var singles: [GenerationStream.Event] {
        guard case .cluster(let prompt, .tokens(let choice, let tokens)) = self, tokens.count > 1 else { return [self] }
        return tokens.map { .cluster(prompt: prompt, .tokens(choice: choice, [$0])) }
    }
}
