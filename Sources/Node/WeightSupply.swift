import ClusterCore
import Foundation
import Logging
import ModelFiles
import Synchronization
import ZeroMQ

/// Where a worker's weights come from.
package enum WeightsFrom: String, Sendable, CaseIterable {
    /// From a model file on this box where there is one, else from others.
    case auto
    /// From others always: where the coordinator's path is slow here.
    case peers
    /// From a model file on this box or not at all.
    case file
}

/// Gives a worker the model file that a load needs: its own, or one that it fetches slice by slice from others. And hands on what it has.
///
/// Any thread may call `open`. One that fetches waits for another that does: a stage thread for its preparer, which gives up at its next tick.
final class WeightSupply: Sendable {
    private struct State {
        var slice: SliceFile?
        var banned: [ClusterCore.ModelDigest: [PeerKey]] = [:]
        /// Of fetches that ended, and of the one that runs.
        var counts = SliceFetchCounts()
        var running = SliceFetchCounts()
    }

    let holdings = WeightHoldings()
    private let from: WeightsFrom
    private let cache: SliceCache?
    private let keys: CurveKeyPair
    private let logger: Logger?
    private let offers: Mailbox<WeightsOffer>
    private let state = Mutex(State())
    /// Held while a slice is fetched.
    private let fetching = NSLock()
    /// Asks the coordinator; the answer comes through `offered`.
    private let query: @Sendable (ClusterCore.ModelDigest) -> Void

    /// `cache` nil: nothing can be fetched.
    init(
        from: WeightsFrom, cache: SliceCache?, keys: CurveKeyPair, logger: Logger?, query: @escaping @Sendable (ClusterCore.ModelDigest) -> Void
    ) throws {
        self.from = from
        self.cache = cache
        self.keys = keys
        self.logger = logger
        self.query = query
        offers = try Mailbox(capacity: 16)
    }

    /// What was fetched since the start.
    var counts: SliceFetchCounts {
        state.withLock { state in
            var counts = state.counts
            counts += state.running
            return counts
        }
    }

    /// An answer of the coordinator. When nobody fetches it lies here until somebody does, who throws it away.
    func offered(_ offer: WeightsOffer) { _ = offers.post(offer) }

    /// A file that has the model's headers and at least the weights of the assignment's slice. `tick` is called while it is fetched, with bytes done
    /// and in all; what it throws ends the fetch.
    func open(
        _ assignment: StageAssignment, path: String?, tick: (_ bytesDone: Int, _ bytesTotal: Int) throws -> Void
    ) throws -> any ModelSource {
        var reason: (any Error)?
        if from != .peers {
            do {
                let file = try ModelLocator.open(digest: assignment.modelDigest, paths: [path, assignment.modelPath])
                holdings.hold(file)
                return file
            } catch { reason = error }
        }
        guard from != .file, let cache else {
            throw reason ?? NodeError(.weightsUnusable, "weights are to be fetched from others, but nothing may be kept here: raise --slices-limit")
        }
        logger?.info("no model file here is used; fetching the slice from others", metadata: ["reason": "\(reason.map { "\($0)" } ?? "as asked")"])
        let slice = try fetch(assignment, cache, tick: tick)
        let file = try ModelOpener.open(path: slice.path)
        guard ModelFiles.ModelDigest(file).bytes == assignment.modelDigest.bytes else {
            throw NodeError(.weightsUnusable, "the coordinator's manifest is of another model than its plan: start it anew")
        }
        return file
    }

    private func fetch(_ assignment: StageAssignment, _ cache: SliceCache, tick: (Int, Int) throws -> Void) throws -> SliceFile {
        fetching.lock()
        defer { fetching.unlock() }
        let started = MonotonicClock.now
        let order = SliceFetcher.Order(
            model: assignment.modelDigest, layers: assignment.layers, isFirst: assignment.isFirst, isLast: assignment.isLast,
            banned: state.withLock { $0.banned[assignment.modelDigest] ?? [] })
        var fetcher = try SliceFetcher(
            order, cache: cache, own: keys, offers: offers, logger: logger, query: { [query] in query(assignment.modelDigest) },
            open: { [self] manifest in try open(manifest, in: cache) }, told: { [self] counts in state.withLock { $0.running = counts } })
        // Also of a fetch that failed.
        defer {
            let (counts, banned) = (fetcher.counts, fetcher.banned)
            state.withLock { state in
                state.counts += counts
                state.running = SliceFetchCounts()
                state.banned[assignment.modelDigest] = banned
            }
        }
        let slice = try fetcher.run(tick: tick)
        let counts = fetcher.counts
        logger?.notice(
            "fetched weights",
            metadata: [
                "bytes": "\(counts.bytes)", "chunks": "\(counts.chunks)", "ms": "\(MonotonicClock.now.milliseconds(since: started))",
                "corrupt_chunks": "\(counts.corruptChunks)", "banned": "\(counts.banned)", "wasted_bytes": "\(counts.wastedBytes)",
            ])
        return slice
    }

    /// The same object for the same manifest: its lock is for all of this process.
    private func open(_ manifest: EncodedManifest, in cache: SliceCache) throws -> SliceFile {
        if let known = state.withLock({ $0.slice }), known.manifest.digest == manifest.digest { return known }
        let slice = try SliceFile(folder: cache.folder(of: manifest.digest), manifest: manifest)
        state.withLock { $0.slice = slice }
        holdings.hold(slice)
        return slice
    }
}
