import ClusterCore

/// Foretells the next step of a stream that runs alone: such a stream asks each stage for one short step after the other, and between two of
/// them the stage thread waits for nothing but the other stages.
///
/// Several streams keep a pipeline's stages busy, and what comes rarely is not worth a processor's time; for both nothing is foretold.
struct StepExpectation {
    /// A pause longer than this is no pause of a stream that anybody would want watched.
    static let pauseMaxNanoseconds: UInt64 = 10_000_000
    /// A step is expected within so many times the last pause.
    static let pausesMax: UInt64 = 2

    private var endedAt: Instant?
    private var pauseNanoseconds: UInt64?

    init() {}

    /// A step was taken up.
    mutating func began(at now: Instant) {
        pauseNanoseconds = endedAt.map { now.nanoseconds(since: $0) }
        endedAt = nil
    }

    /// It is done, and nothing else waits. For how many nanoseconds from now the next one should be watched for; `nil`: it should not.
    mutating func ended(_ step: Step, at now: Instant) -> UInt64? {
        guard step.segments.count == 1, step.segments[0].samples else {
            endedAt = nil
            return nil
        }
        endedAt = now
        guard let pauseNanoseconds, pauseNanoseconds <= Self.pauseMaxNanoseconds else { return nil }
        return min(Self.pausesMax * pauseNanoseconds, Self.pauseMaxNanoseconds)
    }
}
