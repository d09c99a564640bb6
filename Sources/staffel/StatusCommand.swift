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
        print(json ? try Self.json(report) : (StatusText.lines(report) + StatusPlanning.lines(report)).joined(separator: "\n"))
    }

    private static func json(_ report: StatusReport) throws -> String {
        let workers: [[String: Any]] = report.workers.map { worker in
            var entry: [String: Any] = [
                "key": "\(worker.key)", "name": worker.name, "replica": worker.replica ?? -1,
                "layers": [worker.layers.lowerBound, worker.layers.upperBound],
                "state": worker.state, "compute_share": worker.computeShare, "last_step": worker.lastStep.value,
                "read_bytes_per_second": worker.capabilities.readBytesPerSecond, "ops_per_second": worker.capabilities.opsPerSecond,
                "memory_bytes": worker.capabilities.memoryBytes, "threads": worker.capabilities.threads, "isa": worker.capabilities.isa,
            ]
            if worker.capabilities.weightsMemoryBytes > 0 {
                entry["weights_memory_bytes"] = worker.capabilities.weightsMemoryBytes
                entry["disk_bytes_per_second"] = worker.capabilities.diskBytesPerSecond
            }
            if !worker.held.isEmpty { entry["layers_ahead"] = [worker.held.lowerBound, worker.held.upperBound] }
            if let share = worker.loadedShare { entry["loaded_share"] = share }
            return entry
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
            "drafts_modelled": ["proposed": report.draftsModelled.proposed, "accepted": report.draftsModelled.accepted],
            "kv_blocks_shared": report.kvBlocksShared, "prompt_tokens": report.promptTokens, "requests_finished": report.requestsFinished,
            "requests_failed": report.requestsFailed, "requests_cancelled": report.requestsCancelled, "tenants": tenants,
            "handovers": handovers(report.handovers), "rebuilds": rebuilds(report.rebuilds),
            "faults": Dictionary(uniqueKeysWithValues: report.faults.byKind.map { ($0.kind, $0.count) }),
            "recoveries": report.recoveries, "recovery_seconds": seconds(report.recoveryNanoseconds),
            "last_recovery_seconds": seconds(report.lastRecoveryNanoseconds), "workers": workers, "replicas": report.replicas.map { json($0) },
            "pipeline": pipeline(report), "planning": StatusPlanning.json(report), "disk": disk(report),
        ]
        return String(decoding: try JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys]), as: UTF8.self)
    }

    /// Empty where nothing is streamed.
    private static func disk(_ report: StatusReport) -> [String: Any] {
        guard let bound = report.diskBound else { return [:] }
        return ["bytes_per_step": bound.bytesPerStep, "bound_seconds": bound.boundSeconds, "step_seconds": bound.stepSeconds]
    }

    private static func rebuilds(_ counts: RebuildCounts) -> [String: Any] {
        [
            "recoveries": counts.recoveries, "layer_positions_kept": counts.layerPositionsKept, "layer_positions_all": counts.layerPositionsAll,
            "layer_positions_rebuilt": counts.layerPositionsRebuilt, "positions_from_inputs": counts.positionsFromInputs,
        ]
    }

    private static func handovers(_ counts: HandoverCounts) -> [String: Any] {
        [
            "done": counts.done, "rolled_back": counts.rolledBack, "kv_bytes": counts.bytesMoved,
            "last_pause_seconds": seconds(counts.lastPauseNanoseconds), "longest_pause_seconds": seconds(counts.longestPauseNanoseconds),
            "positions_recomputed": counts.positionsRecomputed,
        ]
    }

    private static func pipeline(_ report: StatusReport) -> [String: Any] {
        let pipeline = report.pipeline
        let stages: [[String: Any]] = pipeline.stages.map { stage in
            [
                "worker": "\(stage.worker)", "name": report.workers.first { $0.key == stage.worker }?.name ?? "",
                "layers": [stage.layers.lowerBound, stage.layers.upperBound], "busy_share": stage.window.busyShare,
                "idle_share": stage.window.idleShare, "steps_queued": stage.window.stepsQueued, "window": sums(stage.window), "total": sums(stage.total),
            ]
        }
        return [
            "window_seconds": seconds(pipeline.windowNanoseconds), "steps": pipeline.steps, "rows": pipeline.rows, "prefill_rows": pipeline.prefillRows,
            "tokens": pipeline.tokens, "prompt_tokens_per_second": pipeline.promptTokensPerSecond,
            "tokens_per_second": pipeline.tokensPerSecond, "rows_per_step": pipeline.rowsPerStep,
            "step_seconds": pipeline.roundTripMilliseconds / 1e3, "wire_seconds": pipeline.wireMilliseconds / 1e3,
            "overhead_p50_seconds": seconds(pipeline.overheadMedianNanoseconds), "overhead_p95_seconds": seconds(pipeline.overhead95Nanoseconds),
            "steps_by_rows": pipeline.stepsByRows, "steps_by_overhead": pipeline.stepsByOverhead, "stages": stages,
        ]
    }

    /// Sums over the steps of a stage.
    private static func sums(_ sums: StageSums) -> [String: Any] {
        [
            "steps": sums.steps, "compute_seconds": seconds(sums.computeNanoseconds), "idle_seconds": seconds(sums.idleNanoseconds),
            "queue_seconds": seconds(sums.queueNanoseconds), "hand_over_seconds": seconds(sums.handOverNanoseconds), "sent_bytes": sums.sentBytes,
            "streamed_bytes": sums.streamedBytes, "stream_wait_seconds": seconds(sums.streamWaitNanoseconds), "read_bytes": sums.readBytes, "achieved_read_bytes_per_second": sums.readBytesPerSecond,
        ]
    }

    private static func seconds(_ nanoseconds: UInt64) -> Double { Double(nanoseconds) / 1e9 }

    private static func json(_ replica: ReplicaStatus) -> [String: Any] {
        [
            "index": replica.index, "epoch": replica.epoch.value, "serving": replica.isServing, "sequences_running": replica.sequencesRunning,
            "sequences_waiting": replica.sequencesWaiting, "prefill_rows_pending": replica.prefillRowsPending,
            "kv_blocks_used": replica.kvBlocksUsed, "kv_blocks_total": replica.kvBlocksTotal, "steps_in_flight": replica.stepsInFlight,
        ]
    }
}
