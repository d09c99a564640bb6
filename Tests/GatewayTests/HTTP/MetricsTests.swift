import ClusterCore
import Foundation
import Logging
import Testing

@testable import Gateway

/// A report with every number different from zero.
private func fullReport(workerName: String = "w\"1\\\n") -> StatusReport {
    let key = PeerKey(bytes: [UInt8](repeating: 7, count: 32))!
    var report = StatusReport(
        modelName: "tiny", health: ClusterHealth(state: .serving, detail: ""), epoch: Epoch(3),
        workers: [
            WorkerStatus(
                key: key, name: workerName,
                capabilities: WorkerCapabilities(memoryBytes: 1, threads: 1, isa: "avx2", readBytesPerSecond: 1, opsPerSecond: 1),
                layers: 0..<4, state: "serving", computeShare: 0.5, lastStep: StepNumber(3))
        ], gateways: 1, requestsWaiting: 2, sequencesRunning: 8, kvBlocksUsed: 120, kvBlocksTotal: 480, kvBlocksCached: 40, stepsInFlight: 2,
        stepsDone: 12, tokensGenerated: 678, prefillPositions: 4_000, prefillPositionsShared: 1_000, framesDropped: 5)
    report.workers[0].loadedShare = 0.25
    report.pipeline.stepsByRows = [10, 0, 90]
    report.pipeline.rowsTotal = 370
    report.pipeline.stepsByOverhead = [1, 2, 0, 4]
    report.pipeline.overheadNanosecondsTotal = 1_500_000_000
    report.pipeline.wireNanosecondsTotal = 250_000_000
    var sums = StageSums()
    (sums.steps, sums.computeNanoseconds, sums.idleNanoseconds, sums.sentBytes) = (100, 3_000_000_000, 1_000_000_000, 2_304)
    report.pipeline.stages = [StageReport(worker: key, layers: 0..<4, window: sums, total: sums)]
    (report.recoveries, report.lastRecoveryNanoseconds, report.preemptions, report.promptTokens) = (1, 3_200_000_000, 6, 99)
    return report
}

/// What every reader of the format relies on: each sample belongs to the family announced before it, each family is announced once, and its
/// samples stand together.
private func expectSound(_ text: String, _ location: SourceLocation = #_sourceLocation) {
    var families: [String: String] = [:]
    var current = ""
    for line in text.split(separator: "\n") {
        let words = line.split(separator: " ", maxSplits: 3).map(String.init)
        if line.hasPrefix("# HELP") {
            #expect(families[words[2]] == nil, "\(words[2]) is announced twice", sourceLocation: location)
            current = words[2]
            families[current] = ""
        } else if line.hasPrefix("# TYPE") {
            #expect(words[2] == current && ["gauge", "counter", "histogram"].contains(words[3]), "\(line)", sourceLocation: location)
            families[current] = words[3]
        } else {
            let name = String(line.prefix { $0 != "{" && $0 != " " })
            let isPart = families[current] == "histogram" && ["_bucket", "_sum", "_count"].contains { name == current + $0 }
            #expect(isPart || name == current, "\(line) stands below \(current)", sourceLocation: location)
            #expect(Double(line.split(separator: " ").last!) != nil, "\(line)", sourceLocation: location)
        }
    }
    #expect(text.hasSuffix("\n"), sourceLocation: location)
}

extension OverHTTP {
    @Suite struct MetricsTests {
        @Test func aCoordinatorsTextHasTheStages() {
            let text = String(decoding: ClusterMetrics.text(fullReport()), as: UTF8.self)
            expectSound(text)
            for line in [
                #"staffel_kv_cache_usage_perc{model_name="tiny",engine="0"} 0.25"#, #"staffel_kv_blocks{model_name="tiny",engine="0",state="free"} 320"#,
                #"staffel_prefix_cache_hits_total{model_name="tiny",engine="0"} 1000"#, "staffel_epoch 3", "staffel_recoveries_total 1",
                "staffel_last_recovery_seconds 3.2", #"staffel_num_preemptions_total{model_name="tiny",engine="0"} 6"#,
                #"staffel_iteration_tokens_total_bucket{model_name="tiny",engine="0",le="4.0"} 100"#,
                #"staffel_iteration_tokens_total_bucket{model_name="tiny",engine="0",le="+Inf"} 100"#,
                #"staffel_iteration_tokens_total_sum{model_name="tiny",engine="0"} 370.0"#,
                #"staffel_step_overhead_seconds_bucket{model_name="tiny",engine="0",le="4e-06"} 3"#,
                #"staffel_step_overhead_seconds_bucket{model_name="tiny",engine="0",le="+Inf"} 7"#,
                #"staffel_step_overhead_seconds_sum{model_name="tiny",engine="0"} 1.5"#,
            ] {
                #expect(text.contains(line + "\n"), "\(line) is missing in:\n\(text)")
            }
            #expect(text.contains(#"staffel_stage_busy_share{stage="0",worker="w\"1\\\n",peer=""#) && text.contains("} 0.75\n"))
            #expect(text.contains("staffel_stage_sent_bytes_total{"))
        }

        /// Before the first plan nothing is known, and that is no reason to say something unsound.
        @Test func anEmptyReportIsSoundToo() {
            var report = fullReport()
            report.pipeline = PipelineReport()
            report.workers = []
            (report.kvBlocksTotal, report.kvBlocksUsed, report.kvBlocksCached) = (0, 0, 0)
            expectSound(String(decoding: ClusterMetrics.text(report), as: UTF8.self))
        }

        @Test func aWorkersTextIsSound() {
            var report = WorkerReport(
                name: "w", capabilities: fullReport().workers[0].capabilities, isJoined: true, assignment: nil, isServing: false, stepsQueued: 0,
                metrics: WorkerMetrics())
            report.rehearsals = 3
            let text = String(decoding: WorkerMetricsText.text(report), as: UTF8.self)
            expectSound(text)
            #expect(text.contains(#"staffel_worker_joined{worker="w"} 1"#) && text.contains(#"staffel_worker_rehearsals_total{worker="w"} 3"#))
        }

        @Test func theGatewayTellsOfTheClusterToo() async throws {
            let cluster = ScriptedCluster { _ in [] }
            try await withGateway(cluster) { port, _ in
                let alone = try await exchange(port, "GET", "/metrics").body
                #expect(!alone.contains("staffel_stage_"), "a coordinator that doesn't answer costs a moment and no scrape")
                expectSound(alone)
                cluster.answerStatus(fullReport())
                let both = try await exchange(port, "GET", "/metrics").body
                expectSound(both)
                #expect(both.contains("staffel_stage_busy_share{") && both.contains("staffel_connections_open 1\n"))
            }
        }

        @Test func aRoleServesItsMetricsAndNothingElse() async throws {
            let (ports, listening) = AsyncStream.makeStream(of: Int.self)
            let asked = Asked()
            let server = MetricsServer(
                host: "127.0.0.1", port: 0, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, onListening: { listening.yield($0) },
                text: { await asked.next() })
            let running = Task { try await server.run() }
            var iterator = ports.makeAsyncIterator()
            let port = try #require(await iterator.next())
            let first = try await exchange(port, "GET", "/metrics")
            #expect(first.status == 200 && first.body == "a 1\n" && first.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8")
            #expect(try await exchange(port, "GET", "/metrics").status == 503, "nobody answered the question")
            #expect(try await exchange(port, "GET", "/").status == 404)
            #expect(try await exchange(port, "POST", "/metrics").status == 405)

            let second = MetricsServer(host: "127.0.0.1", port: port, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }) { nil }
            let taken = try await #require(throws: GatewayError.self) { try await second.run() }
            #expect(taken.code == .listen && taken.message.contains("\(port)"))
            running.cancel()
            _ = await running.result
        }
    }
}

/// Answers once.
private actor Asked {
    private var answers = [Array("a 1\n".utf8)]
    func next() -> [UInt8]? { answers.popLast() }
}
