import Engine
import Foundation
import Logging
import Synchronization

/// Writes what a stage packed into the cache for the next start, on a thread of its own, while the stage serves already.
///
/// It holds the weights meanwhile, so whoever wants their memory back cancels it first. What goes wrong is a warning: the
/// worker runs as well without a cache.
///
/// Made before the stage thread has its pool: a thread inherits the processors of the one that makes it, and the pool pins
/// the stage thread to one.
final class WeightKeeper: Sendable {
    /// How long `cancel` waits for the two megabytes that are being written; a disk that takes longer keeps the memory a
    /// while more.
    static let cancelMsMax = 2_000
    /// The lowest priority: the stage's threads want the processors.
    private static let niceness: Int32 = 19

    private struct State {
        var waiting: StageWeights?
        var isBusy = false
        var isCancelled = false
        var isEnding = false
    }

    private let state = Mutex(State())
    private let wake = DispatchSemaphore(value: 0)
    private let idle = DispatchSemaphore(value: 0)
    private let logger: Logger?

    /// Starts the thread, which sleeps until `keep`.
    init(logger: Logger?) {
        self.logger = logger
        let thread = Thread { [self] in
            NodeThread.nameCurrent("keeper")
            // Linux takes 0 for the calling thread, not its process.
            _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, Self.niceness)
            run()
        }
        thread.stackSize = 2 << 20
        thread.start()
    }

    /// Begins to write what the cache lacks. Does nothing while it still writes something that was cancelled.
    func keep(_ weights: StageWeights) {
        let isTaken = state.withLock { state in
            guard !state.isBusy, !state.isEnding else { return false }
            state.waiting = weights
            state.isBusy = true
            state.isCancelled = false
            return true
        }
        guard isTaken else { return }
        // Ends that nobody waited for.
        while idle.wait(timeout: .now()) == .success {}
        wake.signal()
    }

    /// Ends the writing; what was not whole is removed.
    func cancel() {
        let isBusy = state.withLock { state in
            state.isCancelled = true
            return state.isBusy
        }
        if isBusy { _ = idle.wait(timeout: .now() + .milliseconds(Self.cancelMsMax)) }
    }

    /// As `cancel`; then the thread ends.
    func end() {
        state.withLock { $0.isEnding = true }
        cancel()
        wake.signal()
    }

    private func run() {
        while true {
            wake.wait()
            writeWaiting()
            let isEnding = state.withLock { state in
                state.isBusy = false
                return state.isEnding
            }
            idle.signal()
            if isEnding { return }
        }
    }

    private func writeWaiting() {
        let waiting = state.withLock { state in
            defer { state.waiting = nil }
            return state.waiting
        }
        guard let weights = waiting else { return }
        let started = MonotonicClock.now
        do {
            let bytes = try weights.keep { state.withLock { $0.isCancelled } }
            let seconds = Double(MonotonicClock.now.milliseconds(since: started)) / 1000
            logger?.info(
                "kept packed weights for the next start",
                metadata: ["mib": "\(bytes >> 20)", "of_mib": "\(weights.unkeptBytes >> 20)", "seconds": "\(seconds)"])
        } catch {
            logger?.warning("packed weights were not kept; the next start packs them again", metadata: ["reason": "\(error)"])
        }
    }
}
