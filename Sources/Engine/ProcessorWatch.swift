import CKernels

/// Keeps a processor from halting while work for it is expected any moment. It gives way to every other thread at once, and sleeps when nothing
/// is expected.
///
/// Sendable because the C below takes calls from any thread.
package final class ProcessorWatch: @unchecked Sendable {
    private let watch: OpaquePointer

    /// Starts the thread, pinned to `processor`; `nil` for a processor: wherever the system puts it. `nil` where the system gives no thread:
    /// everything works without.
    package init?(processor: Int32?) {
        guard let watch = sk_watch_create(processor ?? -1) else { return nil }
        self.watch = watch
    }

    /// From now on for so long at most. Costs nothing but where the watch has fallen asleep: then as much as waking a thread.
    package func keep(nanoseconds: UInt64) { sk_watch_keep(watch, Int64(clamping: nanoseconds)) }

    /// What was awaited has come.
    package func rest() { sk_watch_rest(watch) }

    /// How often it began anew after a sleep.
    package var turns: UInt64 { sk_watch_turns(watch) }

    package var isAsleep: Bool { sk_watch_is_asleep(watch) }

    deinit { sk_watch_destroy(watch) }
}
