import ClusterCore
import Foundation
import Logging
import ModelFiles
import Synchronization

/// Makes the manifest of a coordinator's model when it is wanted, on threads of the lowest priority, and keeps it for the next start.
final class ModelHashing: Sendable {
    private static let niceness: Int32 = 19
    private static let threadsMax = 16
    private static let logIntervalMs: UInt64 = 5_000

    private let path: String
    private let fallback: String
    private let holdings: WeightHoldings
    private let logger: Logger
    private let isBegun = Mutex(false)

    /// `fallback`: the folder for the manifest where that of the model is read-only. The model is in `holdings` from now on.
    init(path: String, fallback: String, holdings: WeightHoldings, logger: Logger) throws {
        self.path = path
        self.fallback = fallback
        self.holdings = holdings
        self.logger = logger
        holdings.hold(try ModelOpener.open(path: path))
    }

    /// Once; whoever calls again is not heard. `tell` is called on another thread, the last time with the manifest.
    func begin(tell: @escaping @Sendable (HashedWeights) -> Void) {
        let isFirst = isBegun.withLock { isBegun in
            defer { isBegun = true }
            return !isBegun
        }
        guard isFirst else { return }
        let thread = Thread { [self] in
            NodeThread.nameCurrent("hashing")
            _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, Self.niceness)
            do { try run(tell) } catch {
                logger.error("the model file can't be hashed, so no worker can fetch it", metadata: ["reason": "\(error)"])
                isBegun.withLock { $0 = false }
            }
        }
        thread.stackSize = 2 << 20
        thread.start()
    }

    private func run(_ tell: (HashedWeights) -> Void) throws {
        let file = try ModelOpener.open(path: path)
        let total = UInt64(file.fileBytes)
        let kept = ManifestFile(of: file, fallback: fallback)
        let manifest = try kept.read() ?? make(file, kept, tell)
        holdings.hold(file, manifest: manifest)
        tell(HashedWeights(manifest: manifest.digest, hashedBytes: total, totalBytes: total))
    }

    private func make(_ file: any ModelSource, _ kept: ManifestFile, _ tell: (HashedWeights) -> Void) throws -> EncodedManifest {
        let started = MonotonicClock.now
        var logged = started
        let threads = min(Self.threadsMax, ProcessInfo.processInfo.activeProcessorCount)
        let hashes = try WeightHasher(file, chunkBytes: WeightManifest.chunkBytes).hashes(threads: threads) { done, total in
            tell(HashedWeights(hashedBytes: UInt64(done), totalBytes: UInt64(total)))
            if MonotonicClock.now.milliseconds(since: logged) >= Self.logIntervalMs {
                logged = MonotonicClock.now
                logger.info("hashing the model file", metadata: ["done_mib": "\(done >> 20)", "of_mib": "\(total >> 20)"])
            }
        }
        let manifest = EncodedManifest(try WeightManifest(file, hashes: hashes))
        guard manifest.bytes.count <= Limits.manifestBytesMax else {
            throw NodeError(.weightsUnusable, "its manifest has \(manifest.bytes.count) bytes, at most \(Limits.manifestBytesMax) can be sent")
        }
        logger.notice(
            "hashed the model file",
            metadata: [
                "mib": "\(file.fileBytes >> 20)", "ms": "\(MonotonicClock.now.milliseconds(since: started))", "threads": "\(threads)",
                "manifest": "\(manifest.digest.description.prefix(12))",
            ])
        // A file that was changed while it was hashed has a manifest of nothing.
        guard try ModelOpener.open(path: path).stamps == file.stamps else {
            throw NodeError(.weightsUnusable, "\(path) was changed while it was hashed: start the coordinator anew")
        }
        if !kept.write(manifest) { logger.warning("the model's hashes can't be kept; they are made anew after the next start") }
        return manifest
    }
}
