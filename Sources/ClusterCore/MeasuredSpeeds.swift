import OrderedCollections

/// How workers' steps compare with what was predicted of them, by worker, beyond plans and replicas; and what lies between the stages.
package struct MeasuredSpeeds: Sendable {
    private var corrections: OrderedDictionary<PeerKey, SpeedCorrection> = [:]
    private var rowCosts: OrderedDictionary<PeerKey, RowCosts> = [:]
    private var disks: OrderedDictionary<PeerKey, DiskRecord> = [:]
    private var sessions: OrderedDictionary<PeerKey, UInt64> = [:]
    /// Of one hop, from the end of a stage's computing to the start of the next one's; `nil` before it was measured.
    package private(set) var hopSeconds: Double?

    /// A new measurement of a hop counts for a sixty-fourth: they vary by much.
    private static let hopWeight = 1.0 / 64

    package init() {}

    /// A new process measured its machine anew, and knows better than what was measured of the one before.
    mutating func met(_ worker: PeerKey, session: UInt64) {
        guard sessions.updateValue(session, forKey: worker) != session else { return }
        corrections[worker] = nil
        rowCosts[worker] = nil
        disks[worker] = nil
    }

    /// - Parameter predictedSeconds: by the formulas alone.
    mutating func note(_ worker: PeerKey, rows: Int, measuredSeconds: Double, predictedSeconds: Double, at now: Instant) {
        let costs = rowCosts[worker] ?? RowCosts()
        let correction = corrections[worker, default: SpeedCorrection()]
        if correction.isKnown {
            rowCosts[worker, default: RowCosts()].note(
                rows: rows, measured: measuredSeconds, predicted: predictedSeconds, level: correction.factor(at: now, isComputing: true))
        }
        corrections[worker, default: SpeedCorrection()].note(
            measuredSeconds: measuredSeconds, predictedSeconds: predictedSeconds * costs.factor(rows: rows), at: now)
    }

    /// So many bytes were streamed for a step, in so much time of reading.
    mutating func note(_ worker: PeerKey, streamed bytes: UInt64, nanoseconds: UInt64) {
        let wasKnown = diskRate(of: worker) != nil
        disks[worker, default: DiskRecord()].note(bytes: bytes, nanoseconds: nanoseconds)
        // What was measured against the other rate would count its error once more.
        if !wasKnown, diskRate(of: worker) != nil { (corrections[worker], rowCosts[worker]) = (nil, nil) }
    }

    /// Bytes a second that its disk gave to steps; `nil` before that was measured.
    package func diskRate(of worker: PeerKey) -> Double? { disks[worker]?.bytesPerSecond }

    /// All hops of a step together took so long.
    mutating func note(hops: Int, seconds: Double) {
        let one = seconds / Double(max(1, hops))
        hopSeconds = hopSeconds.map { $0 + Self.hopWeight * (one - $0) } ?? one
    }

    /// It has no stage from now on.
    mutating func rest(_ worker: PeerKey, at now: Instant) { corrections[worker]?.rest(at: now) }

    /// What its predicted times are multiplied by.
    package func correction(of worker: PeerKey, isComputing: Bool, at now: Instant) -> Double {
        corrections[worker]?.factor(at: now, isComputing: isComputing) ?? 1
    }

    /// And by this, for a step's number of rows.
    package func rowCosts(of worker: PeerKey) -> RowCosts { rowCosts[worker] ?? RowCosts() }
}
