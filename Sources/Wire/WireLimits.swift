import ClusterCore

/// Bounds that only the wire has; the rest stand in `ClusterCore.Limits`.
enum WireLimits {
    /// Half of what 64 bits hold, so that arithmetic on counters from a peer never overflows.
    static let counterMax: UInt64 = 1 << 62
    /// A pebibyte: sums over all workers stay far from overflow.
    static let bytesMax: UInt64 = 1 << 50
    /// Twelve days: sums over steps stay far from overflow.
    static let nanosecondsMax: UInt64 = 1 << 50
    static let threadsMax = 4096
    static let kvBlocksMax = 1 << 30
    /// Every sequence that a stage can know of, twice over: closed ones and those that took their place.
    static let stepClosesMax = 2 * (Limits.sequencesRunningMax + Limits.stepSegmentsMax)
    /// The model's own end tokens and the request's.
    static let endTokensMax = 2 * Limits.stopTokensMax
    static let segmentBlocksMax = Limits.contextTokensMax / Limits.positionsPerBlock
    /// Of one round of a hand-over: two million blocks are 64 million positions, and their list is half of a control frame.
    static let kvOrderBlocksMax = 2 << 20
    static let handoverRoundMax = 1 << 16
    /// Of a histogram in a status.
    static let histogramClassesMax = 64
    static let requestsMax = Limits.requestsOpenMax * Limits.gatewaysMax
}
