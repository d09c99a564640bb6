import ClusterCore
import Crypto
import Hummingbird
import Prompt

/// What makes a stream the one it is, from its first gateway to the last: where it began, or where its client says that it stands.
struct StreamIdentity {
    /// Of the answer, the same on all chunks whichever gateway makes them.
    let answer: RequestID
    let created: Int
    /// For a request that names none.
    let seed: UInt64
    /// The id that came with `Last-Event-ID`; `nil` for a new stream.
    let last: EventID?
    /// Whether events carry ids: clients that know what to do with them say so (`Accept: text/event-stream`), as every `EventSource` does. Others
    /// read streams line by line, and an `id:` ends their reading (vLLM's load test) or makes comments fatal (the `openai` package).
    let showsIDs: Bool

    /// - Parameter streams: whether the body asks for a stream; nothing else can be gone on with.
    /// - Throws: `invalid_last_event_id`.
    init(_ call: Call, streams: Bool) throws(APIError) {
        let given = streams ? call.request.headers[HeaderName.lastEventID] : nil
        last = if let given, !given.isEmpty { try EventID(given) } else { nil }
        answer = last?.answer ?? call.id
        created = last?.created ?? WallClock.secondsSinceEpoch
        seed = last?.seed ?? UInt64.random(in: 0...UInt64.max)
        let accepted = call.request.headers[.accept]?.lowercased() ?? ""
        showsIDs = last != nil || accepted.contains("text/event-stream")
    }

    /// The time that templates see: the stream's beginning, so that a date in the prompt stays what it was.
    var templateClock: TemplateClock { WallClock.templateClock(at: created) }

    /// What the events' ids begin with; `nil` where they have none.
    /// - Parameter body: as it came.
    /// - Throws: when the stream that the client wants to go on with was another request's, or another model's.
    func eventID(for job: GenerationJob, body: [UInt8], model: ServedModel, run: RequestID) throws(APIError) -> EventID? {
        guard showsIDs else { return nil }
        let mark = EventID(
            answer: answer, run: run, created: created, seed: seed,
            model: model.welcome.modelDigest.bytes.prefix(4).reduce(0) { $0 << 8 | UInt32($1) },
            request: Self.digest(of: job, body: body, model: model), delivered: Array(repeating: 0, count: job.choiceCount))
        guard let last else { return mark }
        guard last.model == mark.model else { throw .eventIDOfAnotherModel(served: model.name) }
        guard last.request == mark.request else { throw .eventIDOfAnotherRequest }
        guard last.delivered.count == mark.delivered.count else { throw .foreignEventID }
        return mark
    }

    /// Of the body as it came, because every member of it may change the answer; of the prompts' tokens, because another release may render a
    /// template otherwise; and of what else shows in the answer.
    private static func digest(of job: GenerationJob, body: [UInt8], model: ServedModel) -> UInt64 {
        var hasher = SHA256()
        hasher.update(data: Array("\(job.kind) \(model.name) \(body.count) \(job.prompts.count)\n".utf8))
        hasher.update(data: body)
        for prompt in job.prompts {
            hasher.update(data: Array("\n\(prompt.tokens.count)\n".utf8))
            prompt.tokens.withUnsafeBytes { hasher.update(bufferPointer: $0) }
        }
        return hasher.finalize().prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }
}

extension APIError {
    static let foreignEventID = invalid(
        HeaderName.lastEventID.canonicalName,
        "'Last-Event-ID' is not the id of an event of this API, or it was cut or changed. Send the id of the last event that came, as it came, "
            + "or leave it out to begin anew.", code: "invalid_last_event_id")

    static let eventIDOfAnotherRequest = invalid(
        HeaderName.lastEventID.canonicalName,
        "'Last-Event-ID' belongs to another request than this one. A stream goes on when its request is sent again with the same body, byte for "
            + "byte, to the same path. Leave the header out to begin anew.", code: "last_event_id_request_mismatch")

    static func eventIDOfAnotherModel(served: String) -> APIError {
        invalid(
            HeaderName.lastEventID.canonicalName,
            "'Last-Event-ID' belongs to a stream of another model than the one that is served now as '\(served)'. Leave the header out to begin anew.",
            code: "last_event_id_model_mismatch")
    }
}
