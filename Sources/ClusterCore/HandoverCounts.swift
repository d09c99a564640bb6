/// What became of the hand-overs since the coordinator's start.
package struct HandoverCounts: Hashable, Sendable {
    package var done: UInt64 = 0
    /// Given up, with the old plan going on.
    package var rolledBack: UInt64 = 0
    /// Of keys and values, those of hand-overs that were given up included.
    package var bytesMoved: UInt64 = 0
    /// From the last step under the old plan's sending being held until the first one under the new could be sent.
    package var lastPauseNanoseconds: UInt64 = 0
    package var longestPauseNanoseconds: UInt64 = 0
    /// Positions that were computed a second time, because their keys and values were lost or given up.
    package var positionsRecomputed: UInt64 = 0

    package init() {}

    mutating func moved(bytes: UInt64) { bytesMoved = saturatingSum(bytesMoved, bytes) }

    mutating func finished(pauseNanoseconds: UInt64) {
        done += 1
        lastPauseNanoseconds = pauseNanoseconds
        longestPauseNanoseconds = max(longestPauseNanoseconds, pauseNanoseconds)
    }
}
