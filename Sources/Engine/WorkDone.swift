import Synchronization

/// Counts what a compute thread has done, for another thread that wants to know whether it gets on: pieces of a layer, not steps, since a step of
/// a large model may rightly take long. The thread that computes adds, any other reads; only that the number grows means anything.
package final class WorkDone: Sendable {
    private let pieces = Atomic<UInt64>(0)

    package init() {}

    package var count: UInt64 { pieces.load(ordering: .relaxed) }

    package func note() { pieces.wrappingAdd(1, ordering: .relaxed) }
}
