import ClusterCore

/// Keeps a peer that says the same wrong thing with every frame from filling the disk: of one message about one peer so many lines pass in
/// an interval, the rest is counted, and the count stands in the next line that passes.
struct LogGate {
    struct Kind: Hashable {
        var message: String
        var peer: String
    }

    /// Peers and messages that are told apart; past it the one whose interval began first is forgotten, with its count.
    static let kindsMax = 1_024

    private struct Count {
        var since: Instant
        var passed = 0
        var leftOut: UInt64 = 0
    }

    private let linesMax: Int
    private let intervalMs: UInt64
    private var counts: [Kind: Count] = [:]

    init(linesMax: Int, intervalMs: UInt64) {
        self.linesMax = linesMax
        self.intervalMs = intervalMs
    }

    /// `nil`: not this one. Else how many were left out since the last one that passed.
    mutating func pass(_ kind: Kind, at now: Instant) -> UInt64? {
        if counts[kind] == nil, counts.count >= Self.kindsMax, let oldest = counts.min(by: { $0.value.since < $1.value.since })?.key {
            counts[oldest] = nil
        }
        var count = counts[kind] ?? Count(since: now)
        if count.since.advanced(milliseconds: intervalMs) <= now { (count.since, count.passed) = (now, 0) }
        defer { counts[kind] = count }
        guard count.passed < linesMax else {
            count.leftOut += 1
            return nil
        }
        defer { (count.passed, count.leftOut) = (count.passed + 1, 0) }
        return count.leftOut
    }

    /// The machine's entry as it may be written; one that names no peer always may.
    mutating func pass(_ entry: LogEntry, at now: Instant) -> LogEntry? {
        guard let peer = entry.fields.first(where: { $0.key == "peer" })?.value else { return entry }
        guard let leftOut = pass(Kind(message: entry.message, peer: peer), at: now) else { return nil }
        var entry = entry
        if leftOut > 0 { entry.fields.append(.init("left_out", leftOut)) }
        return entry
    }
}
