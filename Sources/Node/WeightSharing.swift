import ClusterCore
import Logging
import ZeroMQ

/// A worker's part in the giving and taking of weights: what it fetches for itself, and the server of what it has.
final class WeightSharing: Sendable {
    let supply: WeightSupply
    private let server: WeightServer?

    /// `query` asks the coordinator where weights are.
    init(_ settings: WorkerSettings, logger: Logger, query: @escaping @Sendable (ModelDigest) -> Void) throws {
        let supply = try WeightSupply(from: settings.weightsFrom, cache: settings.slices, keys: settings.keys, logger: logger, query: query)
        self.supply = supply
        server = try settings.weightServer.map {
            try WeightServer(keys: settings.keys, settings: $0, holdings: supply.holdings, logger: logger)
        }
    }

    /// Where others fetch; `nil` for nowhere.
    var endpoint: String? { server?.endpoint }

    func admit(_ keys: [PeerKey]) { server?.admit(keys) }
    func end() { server?.end() }

    /// The machine's report with what it does not know.
    func completed(_ report: WorkerReport) -> WorkerReport {
        var report = report
        let served = server?.counts ?? WeightServer.Counts()
        report.weights = WeightTransfer(fetched: supply.counts, servedChunks: served.chunks, servedBytes: served.bytes, refused: served.refused)
        return report
    }
}
