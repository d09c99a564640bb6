/// What a worker's disk gave while steps streamed weights from it: bytes over the time in which some of them were being read.
///
/// What a worker measures at its start is a guess beside this: of another hour, with nobody else at the disk, and of what some cache may have held.
/// Where several processes read from one disk, each finds its share of it; the time that a step waits for is made of these shares.
package struct DiskRecord: Hashable, Sendable {
    /// Of reading; less says nothing.
    package static let knownSeconds = 0.5
    /// Once there was so much reading, what was before counts for half.
    package static let memorySeconds = 20.0

    private var bytes = 0.0
    private var seconds = 0.0

    package init() {}

    package mutating func note(bytes count: UInt64, nanoseconds: UInt64) {
        guard count > 0, nanoseconds > 0 else { return }
        bytes += Double(count)
        seconds += Double(nanoseconds) * 1e-9
        if seconds >= Self.memorySeconds { (bytes, seconds) = (bytes / 2, seconds / 2) }
    }

    /// `nil` while too little was read.
    package var bytesPerSecond: Double? { seconds >= Self.knownSeconds ? bytes / seconds : nil }
}
