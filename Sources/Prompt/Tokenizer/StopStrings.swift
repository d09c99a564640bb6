/// Ends a stream of text at the first of several strings, whichever way the text is cut into pieces.
///
/// Text that may turn out to be the start of a stop string is held back. The stop string that is complete first ends the
/// text; of several that end at the same place the longest counts.
///
/// States: running, stopped, finished. Appending after a stop gives nothing; appending after `finish` is a wrong call.
package struct StopStrings: Sendable {
    /// More than any API allows (OpenAI: 4), few enough that each byte of text can be held against all of them.
    package static let countMax = 64
    /// Bytes of one stop string, which is also the most text that is ever held back.
    package static let stringBytesMax = 4096

    /// One stop string and how much of it the text so far ends with (Knuth, Morris and Pratt's automaton).
    private struct Candidate: Sendable {
        let bytes: [UInt8]
        /// By matched length - 1: the longest shorter match at that place.
        let fallback: [Int]
        var matched = 0

        init(_ bytes: [UInt8]) {
            self.bytes = bytes
            var fallback = [Int](repeating: 0, count: bytes.count)
            var length = 0
            for index in bytes.indices.dropFirst() {
                while length > 0, bytes[index] != bytes[length] { length = fallback[length - 1] }
                if bytes[index] == bytes[length] { length += 1 }
                fallback[index] = length
            }
            self.fallback = fallback
        }

        /// Whether the string is complete with this byte.
        mutating func advance(_ byte: UInt8) -> Bool {
            while matched > 0, bytes[matched] != byte { matched = fallback[matched - 1] }
            if bytes[matched] == byte { matched += 1 }
            return matched == bytes.count
        }
    }

    private var candidates: [Candidate]
    private let includeStop: Bool
    private var held: [UInt8] = []
    private var isFinished = false
    /// The string that ended the text, once one has.
    package private(set) var stoppedBy: String?

    /// - Parameters:
    ///   - strings: up to `countMax`, none empty, none over `stringBytesMax`; none at all is allowed and never stops.
    ///   - includeStop: whether the stop string itself is part of the text.
    package init(_ strings: [String], includeStop: Bool = false) throws(PromptError) {
        guard strings.count <= Self.countMax else {
            throw PromptError(
                .invalidStopStrings, "The request has \(strings.count) stop strings; at most \(Self.countMax) are possible. Send fewer.")
        }
        for string in strings {
            guard !string.utf8.isEmpty else {
                throw PromptError(.invalidStopStrings, "The request has an empty stop string, which would end every text at once. Leave it out.")
            }
            guard string.utf8.count <= Self.stringBytesMax else {
                throw PromptError(
                    .invalidStopStrings,
                    "The request has a stop string of \(string.utf8.count) bytes; at most \(Self.stringBytesMax) are possible. Send a shorter one.")
            }
        }
        candidates = strings.map { Candidate(Array($0.utf8)) }
        self.includeStop = includeStop
    }

    package var isStopped: Bool { stoppedBy != nil }

    /// The text that can go out now. Look at `isStopped` after each call.
    package mutating func append(_ text: String) -> String {
        precondition(!isFinished, "finished stop strings take no text")
        guard !candidates.isEmpty else { return text }
        guard !isStopped else { return "" }
        for byte in text.utf8 {
            held.append(byte)
            if let stop = advance(byte) { return stopped(by: stop) }
        }
        // Every held candidate starts at the start of a character, so a cut before the longest is none within one.
        let keep = candidates.reduce(0) { max($0, $1.matched) }
        let text = String(decoding: held.dropLast(keep), as: UTF8.self)
        held.removeFirst(held.count - keep)
        return text
    }

    /// What was held back, now that no more text comes; nothing after a stop.
    package mutating func finish() -> String {
        precondition(!isFinished, "stop strings are finished once")
        isFinished = true
        defer { held = [] }
        return String(decoding: held, as: UTF8.self)
    }

    private mutating func advance(_ byte: UInt8) -> [UInt8]? {
        var longest: [UInt8]?
        for index in candidates.indices where candidates[index].advance(byte) {
            if candidates[index].bytes.count > longest?.count ?? 0 { longest = candidates[index].bytes }
        }
        return longest
    }

    private mutating func stopped(by stop: [UInt8]) -> String {
        stoppedBy = String(decoding: stop, as: UTF8.self)
        defer { held = [] }
        return String(decoding: includeStop ? held[...] : held.dropLast(stop.count), as: UTF8.self)
    }
}
