import ClusterCore
import Crypto

/// What an event's `id:` says: all that another gateway, which never saw the stream, needs to make the rest of it when the client sends the same
/// request again with the header `Last-Event-ID`.
///
/// Tokens depend on the request alone, so no token is in here: the stream is made again, and what was delivered is left out. Nothing in here is
/// secret or trusted: whoever writes an id of his own gets what he could have asked for without it.
///
/// As text `s1.` and, in base64url, these bytes: a byte of flags; the answer's id; the run's id where it is another one; `created` as a varint; the
/// seed; four bytes of the model's digest; eight of the request's; the number of choices and the events that each was sent, as varints; four
/// bytes of the SHA-256 of all that, so that a damaged id is told from a strange one.
struct EventID: Hashable {
    /// Shown by all chunks.
    var answer: RequestID
    /// Under which the cluster runs it; other than `answer` after a reconnect. Choices of a second prompt count on from it.
    var run: RequestID
    /// Seconds since 1970, of the stream's beginning: what templates and answers show.
    var created: Int
    /// What a request without one was drawn with.
    var seed: UInt64
    /// The first bytes of the model's digest.
    var model: UInt32
    /// The first bytes of the digest of body, prompt and route: `RequestDigest`.
    var request: UInt64
    /// By choice: how many events it was sent, this one included.
    var delivered: [Int]
    /// The chunk behind all choices was sent.
    var hasUsage = false

    static let prefix = "s1."
    /// Of the text: as many choices as there may be, each with the most events.
    static let bytesMax = 1_024
    /// No choice has more: its tokens, an echo, a role and an end.
    static let eventsMax = Limits.contextTokensMax + 3

    private enum Flag {
        static let otherRun: UInt8 = 1
        static let usage: UInt8 = 2
        static let known: UInt8 = otherRun | usage
    }

    private static let checkBytes = 4

    // MARK: Text

    var text: String {
        var bytes: [UInt8] = [(run == answer ? 0 : Flag.otherRun) | (hasUsage ? Flag.usage : 0)]
        bytes.reserveCapacity(64 + 2 * delivered.count)
        for id in run == answer ? [answer] : [answer, run] {
            bytes.append(bigEndian: id.high)
            bytes.append(bigEndian: id.low)
        }
        bytes.append(varint: UInt64(created))
        bytes.append(bigEndian: seed)
        bytes.append(bigEndian: model)
        bytes.append(bigEndian: request)
        bytes.append(varint: UInt64(delivered.count))
        for count in delivered { bytes.append(varint: UInt64(count)) }
        return Self.prefix + Base64URL.text(bytes + Self.check(bytes))
    }

    /// - Throws: `invalid_last_event_id` for whatever `text` did not make.
    init(_ text: String) throws(APIError) {
        guard text.utf8.count <= Self.bytesMax, text.hasPrefix(Self.prefix) else { throw .foreignEventID }
        guard let bytes = Base64URL.bytes(text.dropFirst(Self.prefix.count)), bytes.count > Self.checkBytes,
            Self.check(bytes.dropLast(Self.checkBytes)).elementsEqual(bytes.suffix(Self.checkBytes))
        else { throw .foreignEventID }
        var reader = Reader(rest: bytes.dropLast(Self.checkBytes))
        guard let id = Self.read(&reader), reader.rest.isEmpty else { throw .foreignEventID }
        self = id
    }

    private static func read(_ reader: inout Reader) -> EventID? {
        guard let flags: UInt8 = reader.bigEndian(), flags & ~Flag.known == 0, let answer = reader.requestID() else { return nil }
        var run = answer
        if flags & Flag.otherRun != 0 {
            guard let other = reader.requestID() else { return nil }
            run = other
        }
        guard let created = reader.varint(atMost: 1 << 40), let seed: UInt64 = reader.bigEndian(), let model: UInt32 = reader.bigEndian(),
            let request: UInt64 = reader.bigEndian(), let choices = reader.varint(atMost: UInt64(Limits.choicesMax)), choices > 0
        else { return nil }
        var delivered: [Int] = []
        for _ in 0..<choices {
            guard let count = reader.varint(atMost: UInt64(eventsMax)) else { return nil }
            delivered.append(Int(count))
        }
        return EventID(
            answer: answer, run: run, created: Int(created), seed: seed, model: model, request: request, delivered: delivered,
            hasUsage: flags & Flag.usage != 0)
    }

    private static func check(_ bytes: some Sequence<UInt8>) -> ArraySlice<UInt8> { Array(SHA256.hash(data: Array(bytes))).prefix(checkBytes) }

    init(
        answer: RequestID, run: RequestID, created: Int, seed: UInt64, model: UInt32, request: UInt64, delivered: [Int], hasUsage: Bool = false
    ) {
        self.answer = answer
        self.run = run
        self.created = created
        self.seed = seed
        self.model = model
        self.request = request
        self.delivered = delivered
        self.hasUsage = hasUsage
    }

    private struct Reader {
        var rest: ArraySlice<UInt8>

        mutating func bigEndian<Number: FixedWidthInteger>() -> Number? {
            let count = Number.bitWidth / 8
            guard rest.count >= count else { return nil }
            defer { rest = rest.dropFirst(count) }
            return rest.prefix(count).reduce(0) { $0 << (Number.bitWidth > 8 ? 8 : 0) | Number($1) }
        }

        mutating func requestID() -> RequestID? {
            guard let high: UInt64 = bigEndian(), let low: UInt64 = bigEndian() else { return nil }
            return RequestID(high: high, low: low)
        }

        mutating func varint(atMost most: UInt64) -> UInt64? {
            var value: UInt64 = 0
            for shift in stride(from: UInt64(0), to: 63, by: 7) {
                guard let byte = rest.popFirst() else { return nil }
                value |= UInt64(byte & 127) << shift
                if byte < 128 { return value <= most ? value : nil }
            }
            return nil
        }
    }
}

extension [UInt8] {
    fileprivate mutating func append(bigEndian number: some FixedWidthInteger) {
        Swift.withUnsafeBytes(of: number.bigEndian) { append(contentsOf: $0) }
    }

    /// Seven bits a byte, the lowest first; the top bit says that more follow.
    fileprivate mutating func append(varint number: UInt64) {
        var rest = number
        while rest > 127 {
            append(UInt8(rest & 127) | 128)
            rest >>= 7
        }
        append(UInt8(rest))
    }
}
