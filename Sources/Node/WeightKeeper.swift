import Engine
import Foundation
import Logging
import Synchronization

/// Writes what a stage packed into the cache for the next start, on a thread of its own, while the stage serves already.
///
/// It holds the weights, so whoever wants their memory back cancels it first. What goes wrong is a warning: the worker
/// runs as well without a cache.
final class WeightKeeper: Sendable {
    /// How long `cancel` waits for the two megabytes that are being written; a disk that takes longer keeps the memory a
    /// while more.
    static let cancelMsMax = 2_000
    /// The lowest priority: the stage's threads want the processors.
    private static let niceness: Int32 = 19

    private let isCancelled = Mutex(false)
    private let ended = DispatchSemaphore(value: 0)

    /// Starts the thread.
    init(_ weights: StageWeights, logger: Logger?) {
        let thread = Thread { [self] in
            NodeThread.nameCurrent("keeper")
            // Linux takes 0 for the calling thread, not its process.
            _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, Self.niceness)
            keep(weights, logger)
            ended.signal()
        }
        thread.stackSize = 2 << 20
        thread.start()
    }

    private func keep(_ weights: StageWeights, _ logger: Logger?) {
        let started = MonotonicClock.now
        do {
            let bytes = try weights.keep { isCancelled.withLock { $0 } }
            let seconds = Double(MonotonicClock.now.milliseconds(since: started)) / 1000
            logger?.info(
                "kept packed weights for the next start",
                metadata: ["mib": "\(bytes >> 20)", "of_mib": "\(weights.unkeptBytes >> 20)", "seconds": "\(seconds)"])
        } catch {
            logger?.warning("packed weights were not kept; the next start packs them again", metadata: ["reason": "\(error)"])
        }
    }

    /// Ends the writing; what was not whole is removed.
    func cancel() {
        isCancelled.withLock { $0 = true }
        if ended.wait(timeout: .now() + .milliseconds(Self.cancelMsMax)) == .success { ended.signal() }
    }
}
