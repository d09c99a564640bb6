import ClusterCore
import Engine
import Foundation
import ModelFiles
import Synchronization

/// Brings the slice of a stage to come into memory while the stage thread serves: on a thread of its own, with threads of lower priority.
///
/// Made before the stage thread has its pool, as `WeightKeeper` is and for the same reason.
final class SlicePreparer: Sendable {
    struct Job: Sendable {
        var assignment: StageAssignment
        /// What the stage thread has in memory, of the same model.
        var held: StageWeights.Units?
        /// The memory that the stage thread's weights take until these take their place.
        var heldBytes = 0
        /// Layers whose keys and values stay where they are.
        var kept: Range<Int>
        /// For a stage that may come: nobody waits for it.
        var isAhead = false
    }

    /// A slice beside the one that serves.
    struct Slice: Sendable {
        var assignment: StageAssignment
        var weights: StageWeights
        /// By layer: those that the stage thread does not have already.
        var keysAndValues: [Int: KVLayer]
        var isAhead = false
    }

    /// The stage's threads want the processors, and this is in less of a hurry: about a tenth of them where both want all.
    private static let niceness: Int32 = 10

    private struct State {
        var job: Job?
        var slice: Slice?
        /// The epoch that is being prepared, or was last.
        var epoch: Epoch?
        /// What nobody needs any more: giving large memory back takes time that the stage thread does not have.
        var rubbish: [AnyObject & Sendable] = []
        var isEnding = false
    }

    private let state = Mutex(State())
    private let wake = DispatchSemaphore(value: 0)

    /// `report` is called on the preparer's thread and must not block.
    init(configuration: StageThreadConfiguration, report: @escaping @Sendable (StageThread.Report) -> Void) {
        let thread = Thread { [self] in
            NodeThread.nameCurrent("preparer")
            // Linux takes 0 for the calling thread, not its process.
            _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, Self.niceness)
            while waitForWork() { work(configuration, report) }
        }
        thread.stackSize = 8 << 20
        thread.start()
    }

    /// Begins; what was prepared before is forgotten.
    func prepare(_ job: Job) {
        state.withLock { state in
            if let slice = state.slice { state.rubbish.append(slice.weights) }
            state.job = job
            state.epoch = job.assignment.epoch
            state.slice = nil
        }
        wake.signal()
    }

    /// Ends what is under way, at its next report of progress, and forgets what was prepared.
    func drop() {
        state.withLock { state in
            if let slice = state.slice { state.rubbish.append(slice.weights) }
            (state.job, state.slice, state.epoch) = (nil, nil, nil)
        }
        wake.signal()
    }

    /// The slice of this epoch, once it is ready.
    func take(_ epoch: Epoch) -> Slice? {
        state.withLock { state in
            guard let slice = state.slice, !slice.isAhead, slice.assignment.epoch == epoch else { return nil }
            state.slice = nil
            return slice
        }
    }

    /// The slice that was loaded ahead, once it is ready.
    func takeAhead() -> Slice? {
        state.withLock { state in
            guard let slice = state.slice, slice.isAhead else { return nil }
            state.slice = nil
            return slice
        }
    }

    /// Lets go of something large on this thread.
    func dispose(_ rubbish: (AnyObject & Sendable)?) {
        guard let rubbish else { return }
        state.withLock { $0.rubbish.append(rubbish) }
        wake.signal()
    }

    func end() {
        state.withLock { state in
            (state.job, state.slice, state.epoch, state.isEnding) = (nil, nil, nil, true)
        }
        wake.signal()
    }

    private func waitForWork() -> Bool {
        wake.wait()
        return state.withLock { !$0.isEnding }
    }

    private func work(_ configuration: StageThreadConfiguration, _ report: @Sendable (StageThread.Report) -> Void) {
        let (job, rubbish) = state.withLock { state in
            defer { (state.job, state.rubbish) = (nil, []) }
            return (state.job, state.rubbish)
        }
        // Freed here and not under the lock.
        withExtendedLifetime(rubbish) {}
        guard let job else { return }
        let epoch = job.assignment.epoch
        do {
            let slice = try prepare(job, configuration, report)
            let isWanted = state.withLock { state in
                guard state.epoch == epoch else { return false }
                state.slice = slice
                return true
            }
            if isWanted { report(job.isAhead ? .loadedAhead(job.assignment.layers) : .prepared(epoch)) }
        } catch is Dropped {
            return
        } catch {
            if job.isAhead {
                configuration.logger?.warning("a stage could not be loaded ahead", metadata: ["reason": "\(error)"])
                return report(.loadedAhead(0..<0))
            }
            report(.handoverFailed(epoch, Failure(.loadFailed, "\(error)")))
        }
    }

    private struct Dropped: Error {}

    private func prepare(
        _ job: Job, _ configuration: StageThreadConfiguration, _ report: @Sendable (StageThread.Report) -> Void
    ) throws -> Slice {
        let assignment = job.assignment
        var reported = MonotonicClock.now
        func progressed(_ done: Int, _ total: Int) throws {
            if state.withLock({ $0.epoch != assignment.epoch }) { throw Dropped() }
            let now = MonotonicClock.now
            guard !job.isAhead, now.milliseconds(since: reported) >= StageThread.progressIntervalMs else { return }
            reported = now
            report(.loadProgressed(assignment.epoch, bytesDone: UInt64(done), bytesTotal: UInt64(total)))
        }
        // Bytes that are fetched count as progress like those that are packed then.
        var fetched = 0
        let file = try configuration.open(assignment) { done, total in
            fetched = done
            try progressed(done, total)
        }
        let model = try ModelConfiguration(source: file)
        // Lives only as long as the loading; the stage thread's own pool goes on computing.
        let pool = try ComputePool(threads: configuration.threads, processors: configuration.processors)
        let weights = try StageWeights(
            file: file, model: model, slice: StageSlice(assignment), pool: pool, cache: configuration.cache, sharing: job.held,
            memoryMax: configuration.weightsMemory, besideBytes: job.heldBytes, begin: job.isAhead ? .filled : .later
        ) { done, total in try progressed(fetched + done, fetched + total) }
        var keysAndValues: [Int: KVLayer] = [:]
        for layer in assignment.layers where !job.kept.contains(layer) {
            keysAndValues[layer] = try KVLayer(model: model, blocks: assignment.kvBlocks, type: Engine.KVType(assignment.kvType))
        }
        return Slice(assignment: assignment, weights: weights, keysAndValues: keysAndValues, isAhead: job.isAhead)
    }
}
