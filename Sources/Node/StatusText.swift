import ClusterCore
import Foundation

/// A cluster's status as lines for people, at most 80 columns wide where names are short. `staffel status` and `staffel top` share them.
package enum StatusText {
    /// Everything that `staffel status` prints.
    package static func lines(_ report: StatusReport) -> [String] {
        summary(report) + replicaLines(report) + [""] + stageTable(report) + [""] + workerTable(report)
    }

    // MARK: - The cluster

    /// Where there are several: each with its stages in the order of their layers, and its load.
    package static func replicaLines(_ report: StatusReport) -> [String] {
        guard report.replicas.count > 1 else { return [] }
        return report.replicas.map { replica in
            let stages = report.workers.filter { $0.replica == replica.index }.sorted { $0.layers.lowerBound < $1.layers.lowerBound }
            return line(
                "replica \(replica.index)", "\(replica.isServing ? "serving" : "loading"), epoch \(replica.epoch.value), "
                    + stages.map { "\($0.name) \($0.layers.lowerBound)-\($0.layers.upperBound - 1)" }.joined(separator: " > ")
                    + "; \(replica.sequencesRunning) run, \(replica.prefillRowsPending) prompt rows to do")
        }
    }

    package static func summary(_ report: StatusReport) -> [String] {
        let pipeline = report.pipeline
        let gateways = report.gateways == 1 ? "1 gateway" : "\(report.gateways) gateways"
        return [
            "\(report.modelName): \(report.health.state), \(report.health.detail)  (epoch \(report.epoch.value), \(gateways))",
            line(
                "requests", "waiting \(report.requestsWaiting), running \(report.sequencesRunning), finished \(report.requestsFinished)"
                    + ", failed \(report.requestsFailed), cancelled \(report.requestsCancelled)"),
            line(
                "tokens/s", "prompt \(number(pipeline.promptTokensPerSecond)), generated \(number(pipeline.tokensPerSecond))"
                    + "; in all \(report.promptTokens) and \(report.tokensGenerated)"),
            line(
                "steps", "\(number(pipeline.stepsPerSecond))/s of \(number(pipeline.rowsPerStep)) rows, \(report.stepsInFlight) in flight"
                    + ", \(report.stepsDone) done"),
            line("rows", rowClasses(pipeline.stepsByRows)),
            line(
                "step time", "\(milliseconds(pipeline.roundTripMilliseconds)), wire \(milliseconds(pipeline.wireMilliseconds))"
                    + ", overhead p50 \(nanoseconds(pipeline.overheadMedianNanoseconds)), p95 \(nanoseconds(pipeline.overhead95Nanoseconds))"),
            line(
                "KV blocks", "\(report.kvBlocksUsed) of \(report.kvBlocksTotal) used (\(percent(report.kvBlocksUsed, of: report.kvBlocksTotal)))"
                    + ", \(report.kvBlocksShared) shared, \(report.kvBlocksCached) idle but known"),
            line(
                "prefix", "\(report.prefillPositionsShared) of \(report.prefillPositions) positions were there"
                    + " (\(percent(report.prefillPositionsShared, of: report.prefillPositions)))"),
            line("guesses", "\(guesses(report.draftsLookedUp)) looked up; \(guesses(report.draftsModelled)) of the draft model"),
            line(
                "trouble", "recoveries \(report.recoveries)"
                    + (report.lastRecoveryNanoseconds > 0 ? " (last pause \(nanoseconds(report.lastRecoveryNanoseconds)))" : "")
                    + ", frames dropped \(report.framesDropped)"),
        ] + disk(report) + handovers(report) + shares(report)
    }

    /// Only where weights are streamed: what the disks allow, beside what is reached.
    private static func disk(_ report: StatusReport) -> [String] {
        guard let bound = report.diskBound else { return [] }
        return [
            line(
                "disk", String(format: "%.2f GB a step, which disks read in %.2f s; a step takes %.2f s", bound.bytesPerStep / 1e9, bound.boundSeconds, bound.stepSeconds)
                    + " (\(percent(bound.reachedShare)) of the bound)")
        ]
    }

    /// Only where there were any.
    private static func handovers(_ report: StatusReport) -> [String] {
        let counts = report.handovers
        guard counts.done + counts.rolledBack > 0 else { return [] }
        return [
            line(
                "hand-overs", "\(counts.done), given up \(counts.rolledBack), \(ByteCount(counts.bytesMoved)) of keys and values moved"
                    + (counts.done > 0 ? ", longest pause \(nanoseconds(counts.longestPauseNanoseconds))" : ""))
        ]
    }

    private static func guesses(_ counts: DraftCounts) -> String {
        "\(counts.accepted) of \(counts.proposed) right (\(percent(Int(clamping: counts.accepted), of: Int(clamping: counts.proposed))))"
    }

    /// What a request would wait, and who has how much open where requests come from holders of keys.
    private static func shares(_ report: StatusReport) -> [String] {
        let wait = line(
            "wait", String(format: "%.1f s for a request that comes now", Double(report.expectedWaitMs) / 1000)
                + ", preemptions \(report.preemptions) (\(report.displacements) for another key)")
        guard report.tenants.contains(where: { $0.tenant != .shared }) else { return [wait] }
        return [wait] + report.tenants.map { tenant in
            let name = tenant.tenant == .shared ? "without a key   " : "\(tenant.tenant)"
            return line("key", "\(name)  weight \(tenant.weight), waiting \(tenant.waiting), running \(tenant.running)")
        }
    }

    private static func line(_ name: String, _ text: String) -> String { pad(name, 11) + text }

    /// How many steps had so many rows: "1: 60 %, 3-4: 40 %".
    private static func rowClasses(_ counts: [UInt64]) -> String {
        let total = counts.reduce(0, +)
        let parts = counts.enumerated().compactMap { index, count -> String? in
            guard count > 0 else { return nil }
            let (low, high) = (index == 0 ? 1 : (1 << (index - 1)) + 1, 1 << index)
            return "\(low == high ? "\(high)" : "\(low)-\(high)"): \(percent(count, of: total))"
        }
        return parts.isEmpty ? "-" : parts.joined(separator: ", ")
    }

    // MARK: - Stages

    /// Times are means of a step in the last seconds. `wire` is the hop into the stage, for which every hop counts the same (`StepTimeline`).
    package static func stageTable(_ report: StatusReport) -> [String] {
        let head = row([("STAGE", -5), ("WORKER", 12), ("LAYERS", 8), ("COMPUTE", -9), ("BUSY", -5), ("IDLE", -5), ("QUEUE", -9), ("HANDOVER", -9), ("WIRE", -9)])
        guard !report.pipeline.stages.isEmpty else { return [head, "    -  nothing serves"] }
        return [head] + report.pipeline.stages.enumerated().map { index, stage in
            let name = report.workers.first { $0.key == stage.worker }?.name ?? "\(stage.worker)"
            let sums = stage.window
            return row([
                ("\(index)", -5), (name, 12), (layers(stage.layers), 8), (milliseconds(sums.computeMilliseconds), -9),
                (percent(sums.busyShare), -5), (percent(sums.idleShare), -5), (milliseconds(sums.queueMilliseconds), -9),
                (milliseconds(sums.handOverMilliseconds), -9), (milliseconds(report.pipeline.wireMillisecondsPerHop), -9),
            ])
        }
    }

    // MARK: - Workers

    package static func workerTable(_ report: StatusReport) -> [String] {
        let head = row([
            ("WORKER", 10), ("NAME", 12), ("LAYERS", 8), ("STATE", 12), ("READ", -17), ("COMPUTE", -10), ("MEMORY", -9), ("THREADS", -7), ("ISA", 8),
        ])
        return [head] + report.workers.map { worker in
            row([
                ("\(worker.key)", 10), (worker.name, 12), (layers(worker.layers), 8), (state(worker), 12),
                (bandwidth(of: worker, report), -17),
                (String(format: "%.0f Gop/s", worker.capabilities.opsPerSecond / 1e9), -10),
                (String(format: "%.1f GiB", Double(worker.capabilities.memoryBytes) / 0x1p30), -9), ("\(worker.capabilities.threads)", -7),
                (worker.capabilities.isa, 8),
            ])
        }
    }

    /// What the memory gives, behind what the stage's weights, keys and values took of it while it computed in the last seconds.
    private static func bandwidth(of worker: WorkerStatus, _ report: StatusReport) -> String {
        let measured = String(format: "%.1f GB/s", worker.capabilities.readBytesPerSecond / 1e9)
        guard let sums = report.pipeline.stages.first(where: { $0.worker == worker.key })?.window, sums.readBytes > 0 else { return measured }
        return String(format: "%.1f of ", sums.readBytesPerSecond / 1e9) + measured
    }

    /// What it does, with how much of its slice is there while it loads.
    package static func state(_ worker: WorkerStatus) -> String {
        if !worker.held.isEmpty { return "\(worker.state), has \(layers(worker.held))" }
        guard worker.state == "loading", let share = worker.loadedShare else { return worker.state }
        return "loading \(Int(share * 100)) %"
    }

    // MARK: - Words

    static func layers(_ layers: Range<Int>) -> String { layers.isEmpty ? "-" : "\(layers.lowerBound)-\(layers.upperBound - 1)" }

    /// Cells one blank apart; a negative width means to the right.
    private static func row(_ cells: [(text: String, width: Int)]) -> String {
        var line = cells.map { pad($0.text, $0.width) }.joined(separator: " ")
        while line.last == " " { line.removeLast() }
        return line
    }

    static func pad(_ text: String, _ width: Int) -> String {
        let blanks = String(repeating: " ", count: max(0, abs(width) - text.count))
        return width < 0 ? blanks + text : text + blanks
    }

    static func number(_ value: Double) -> String { String(format: value < 100 ? "%.1f" : "%.0f", value) }

    static func milliseconds(_ value: Double) -> String { String(format: value < 10 ? "%.2f ms" : value < 1_000 ? "%.1f ms" : "%.0f ms", value) }

    static func nanoseconds(_ value: UInt64) -> String {
        value >= 1_000_000_000 ? String(format: "%.1f s", Double(value) / 1e9) : milliseconds(Double(value) / 1e6)
    }

    static func percent(_ share: Double) -> String { "\(Int((share * 100).rounded())) %" }

    static func percent(_ part: some BinaryInteger, of whole: some BinaryInteger) -> String {
        whole == 0 ? "0 %" : percent(Double(part) / Double(whole))
    }
}
