import ArgumentParser
import ClusterCore
import Foundation
import Node

/// `staffel status`: what a running coordinator says of its cluster.
struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "status", abstract: "Show what a cluster is doing.")

    @Option(help: "The coordinator's state folder. (default: ~/.local/state/staffel/coordinator)")
    var state: String?

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var common: CommonOptions

    func run() async throws {
        let settings = try await common.settings()
        let directory = try StateDirectory(existing: settings.string("state", flag: state) ?? StatePath.standard("coordinator"))
        let report = try CoordinatorExchange.status(state: directory)
        print(json ? try Self.json(report) : Self.text(report))
    }

    private static func text(_ report: StatusReport) -> String {
        var lines = [
            "\(report.modelName): \(report.health.state), \(report.health.detail)",
            "epoch \(report.epoch.value)  gateways \(report.gateways)  requests waiting \(report.requestsWaiting)  sequences running \(report.sequencesRunning)",
            "KV blocks \(report.kvBlocksUsed) of \(report.kvBlocksTotal), \(report.kvBlocksCached) more hold known beginnings  steps in flight \(report.stepsInFlight), done \(report.stepsDone)"
                + "  tokens generated \(report.tokensGenerated)  frames dropped \(report.framesDropped)",
        ]
        if report.replicas.count > 1 { lines += report.replicas.map { text($0, workers: report.workers) } }
        lines += [
            "",
            row("WORKER", "NAME", "LAYERS", "STATE", "BUSY", "READ", "COMPUTE", "MEMORY", "THREADS", "ISA"),
        ]
        for worker in report.workers {
            let layers = worker.layers.isEmpty ? "-" : "\(worker.layers.lowerBound)-\(worker.layers.upperBound - 1)"
            lines.append(
                row(
                    "\(worker.key)", worker.name, layers, worker.state, "\(Int((worker.computeShare * 100).rounded())) %",
                    String(format: "%.1f GB/s", worker.capabilities.readBytesPerSecond / 1e9),
                    String(format: "%.0f Gop/s", worker.capabilities.opsPerSecond / 1e9),
                    String(format: "%.1f GiB", Double(worker.capabilities.memoryBytes) / 0x1p30), "\(worker.capabilities.threads)",
                    worker.capabilities.isa))
        }
        return lines.joined(separator: "\n")
    }

    /// A replica's stages in the order of their layers, and its load.
    private static func text(_ replica: ReplicaStatus, workers: [WorkerStatus]) -> String {
        let stages = workers.filter { $0.replica == replica.index }.sorted { $0.layers.lowerBound < $1.layers.lowerBound }
        return "replica \(replica.index): \(replica.isServing ? "serving" : "loading"), epoch \(replica.epoch.value), "
            + stages.map { "\($0.name) \($0.layers.lowerBound)-\($0.layers.upperBound - 1)" }.joined(separator: " > ")
            + "  sequences \(replica.sequencesRunning)  prompt rows to do \(replica.prefillRowsPending)"
            + "  KV blocks \(replica.kvBlocksUsed) of \(replica.kvBlocksTotal)  steps in flight \(replica.stepsInFlight)"
    }

    private static func row(_ cells: String...) -> String {
        let widths = [10, 20, 9, 12, 7, 11, 12, 11, 8, 8]
        return zip(cells, widths).map { $0.count >= $1 ? $0 + " " : $0 + String(repeating: " ", count: $1 - $0.count) }.joined()
    }

    private static func json(_ report: StatusReport) throws -> String {
        let workers: [[String: Any]] = report.workers.map { worker in
            [
                "key": "\(worker.key)", "name": worker.name, "replica": worker.replica ?? -1, "layers": [worker.layers.lowerBound, worker.layers.upperBound],
                "state": worker.state, "compute_share": worker.computeShare, "last_step": worker.lastStep.value,
                "read_bytes_per_second": worker.capabilities.readBytesPerSecond, "ops_per_second": worker.capabilities.opsPerSecond,
                "memory_bytes": worker.capabilities.memoryBytes, "threads": worker.capabilities.threads, "isa": worker.capabilities.isa,
            ]
        }
        let object: [String: Any] = [
            "model": report.modelName, "state": "\(report.health.state)", "detail": report.health.detail, "epoch": report.epoch.value,
            "gateways": report.gateways, "requests_waiting": report.requestsWaiting, "sequences_running": report.sequencesRunning,
            "kv_blocks_used": report.kvBlocksUsed, "kv_blocks_total": report.kvBlocksTotal,
            "kv_blocks_cached": report.kvBlocksCached, "prefill_positions": report.prefillPositions,
            "prefill_positions_shared": report.prefillPositionsShared, "steps_in_flight": report.stepsInFlight,
            "steps_done": report.stepsDone, "tokens_generated": report.tokensGenerated, "frames_dropped": report.framesDropped,
            "workers": workers, "replicas": report.replicas.map { json($0) },
        ]
        return String(decoding: try JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys]), as: UTF8.self)
    }

    private static func json(_ replica: ReplicaStatus) -> [String: Any] {
        [
            "index": replica.index, "epoch": replica.epoch.value, "serving": replica.isServing, "sequences_running": replica.sequencesRunning,
            "sequences_waiting": replica.sequencesWaiting, "prefill_rows_pending": replica.prefillRowsPending,
            "kv_blocks_used": replica.kvBlocksUsed, "kv_blocks_total": replica.kvBlocksTotal, "steps_in_flight": replica.stepsInFlight,
        ]
    }
}
