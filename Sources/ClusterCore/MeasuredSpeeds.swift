import OrderedCollections

/// How workers' steps compare with what was predicted of them, by worker, beyond plans and replicas.
package struct MeasuredSpeeds: Sendable {
    private var corrections: OrderedDictionary<PeerKey, SpeedCorrection> = [:]
    private var sessions: OrderedDictionary<PeerKey, UInt64> = [:]

    package init() {}

    /// A new process measured its machine anew, and knows better than what was measured of the one before.
    mutating func met(_ worker: PeerKey, session: UInt64) {
        if sessions.updateValue(session, forKey: worker) != session { corrections[worker] = nil }
    }

    mutating func note(_ worker: PeerKey, measuredSeconds: Double, predictedSeconds: Double, at now: Instant) {
        corrections[worker, default: SpeedCorrection()].note(measuredSeconds: measuredSeconds, predictedSeconds: predictedSeconds, at: now)
    }

    /// It has no stage from now on.
    mutating func rest(_ worker: PeerKey, at now: Instant) { corrections[worker]?.rest(at: now) }

    /// What its predicted times are multiplied by.
    package func correction(of worker: PeerKey, isComputing: Bool, at now: Instant) -> Double {
        corrections[worker]?.factor(at: now, isComputing: isComputing) ?? 1
    }
}
