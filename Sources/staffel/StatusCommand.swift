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
            "guesses looked up \(report.draftsLookedUp.proposed), right \(report.draftsLookedUp.accepted)",
            "",
            row("WORKER", "NAME", "LAYERS", "STATE", "BUSY", "READ", "COMPUTE", "MEMORY", "THREADS", "ISA"),
        ]
        lines.insert(contentsOf: tenantLines(report), at: 3)
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

    /// Who has how much open, where requests come from holders of keys.
    private static func tenantLines(_ report: StatusReport) -> [String] {
        let wait = String(format: "%.1f", Double(report.expectedWaitMs) / 1000)
        let line = "expected wait \(wait) s  preemptions \(report.preemptions), \(report.displacements) of them for another key's first request"
        guard report.tenants.contains(where: { $0.tenant != .shared }) else { return [line] }
        return [line] + report.tenants.map { tenant in
            let name = tenant.tenant == .shared ? "without a key   " : "\(tenant.tenant)"
            return "  key \(name)  weight \(tenant.weight)  waiting \(tenant.waiting)  running \(tenant.running)"
        }
    }

    private static func row(_ cells: String...) -> String {
        let widths = [10, 20, 9, 12, 7, 11, 12, 11, 8, 8]
        return zip(cells, widths).map { $0.count >= $1 ? $0 + " " : $0 + String(repeating: " ", count: $1 - $0.count) }.joined()
    }

    private static func json(_ report: StatusReport) throws -> String {
        let workers: [[String: Any]] = report.workers.map { worker in
            [
                "key": "\(worker.key)", "name": worker.name, "layers": [worker.layers.lowerBound, worker.layers.upperBound],
                "state": worker.state, "compute_share": worker.computeShare, "last_step": worker.lastStep.value,
                "read_bytes_per_second": worker.capabilities.readBytesPerSecond, "ops_per_second": worker.capabilities.opsPerSecond,
                "memory_bytes": worker.capabilities.memoryBytes, "threads": worker.capabilities.threads, "isa": worker.capabilities.isa,
            ]
        }
        let tenants: [[String: Any]] = report.tenants.map {
            ["tenant": "\($0.tenant)", "weight": $0.weight, "waiting": $0.waiting, "running": $0.running]
        }
        let object: [String: Any] = [
            "model": report.modelName, "state": "\(report.health.state)", "detail": report.health.detail, "epoch": report.epoch.value,
            "gateways": report.gateways, "requests_waiting": report.requestsWaiting, "sequences_running": report.sequencesRunning,
            "kv_blocks_used": report.kvBlocksUsed, "kv_blocks_total": report.kvBlocksTotal,
            "kv_blocks_cached": report.kvBlocksCached, "prefill_positions": report.prefillPositions,
            "prefill_positions_shared": report.prefillPositionsShared, "steps_in_flight": report.stepsInFlight,
            "steps_done": report.stepsDone, "tokens_generated": report.tokensGenerated, "frames_dropped": report.framesDropped,
            "expected_wait_ms": report.expectedWaitMs, "preemptions": report.preemptions, "displacements": report.displacements,
            "drafts_looked_up": ["proposed": report.draftsLookedUp.proposed, "accepted": report.draftsLookedUp.accepted],
            "tenants": tenants, "workers": workers,
        ]
        return String(decoding: try JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys]), as: UTF8.self)
    }
}
