/// Why something a peer sent was dropped. Each is counted; the first of a kind is logged.
package enum DropCause: String, Hashable, Sendable, CaseIterable, Comparable {
    case malformed = "malformed_frame"
    case wrongRole = "wrong_role"
    case unknownPeer = "unknown_peer"
    case wrongState = "wrong_state"
    case oldEpoch = "old_epoch"
    case unknownStep = "unknown_step"
    case unknownRequest = "unknown_request"
    case unknownChoice = "unknown_choice"
    case wrongUpstream = "wrong_upstream"
    case queueFull = "queue_full"
    case invalid = "invalid_content"

    package static func < (a: DropCause, b: DropCause) -> Bool { a.rawValue < b.rawValue }
}

/// Counts of what was dropped, by cause.
package struct DropCounts: Hashable, Sendable {
    private var counts = [UInt64](repeating: 0, count: DropCause.allCases.count)

    package init() {}

    package subscript(cause: DropCause) -> UInt64 { counts[Self.index(cause)] }
    package var total: UInt64 { counts.reduce(0, +) }

    /// A log entry for the first of its cause, `nil` afterwards: a peer cannot flood the log.
    package mutating func count(_ cause: DropCause, from peer: PeerKey? = nil) -> LogEntry? {
        counts[Self.index(cause)] += 1
        guard counts[Self.index(cause)] == 1 else { return nil }
        return LogEntry(
            .warning, "dropped a frame; further ones of this cause are only counted",
            [.init("cause", cause.rawValue), .init("peer", peer?.description ?? "unknown")])
    }

    private static func index(_ cause: DropCause) -> Int {
        guard let index = DropCause.allCases.firstIndex(of: cause) else { preconditionFailure("all cases are listed") }
        return index
    }
}
