import ClusterCore
import Testing

@testable import Node

@Suite struct StatusTextTests {
    private static func key(_ number: UInt8) -> PeerKey { PeerKey(bytes: [number] + [UInt8](repeating: 0, count: 31))! }

    private static func worker(_ number: UInt8, layers: Range<Int>, state: String = "serving") -> WorkerStatus {
        WorkerStatus(
            key: key(number), name: "worker-\(number)",
            capabilities: WorkerCapabilities(memoryBytes: 48 << 30, threads: 16, isa: "avx512", readBytesPerSecond: 29.5e9, opsPerSecond: 460e9),
            layers: layers, state: state, computeShare: 0.5, lastStep: StepNumber(3))
    }

    private static func stage(_ number: UInt8, layers: Range<Int>, busyMs: UInt64) -> StageReport {
        var sums = StageSums()
        sums.steps = 100
        sums.computeNanoseconds = busyMs * 1_000_000
        sums.idleNanoseconds = (10_000 - busyMs) * 1_000_000
        sums.queueNanoseconds = 25_000_000
        sums.handOverNanoseconds = 4_000_000
        return StageReport(worker: key(number), layers: layers, window: sums, total: sums)
    }

    private static var report: StatusReport {
        var report = StatusReport(
            modelName: "SmolLM2 135M", health: ClusterHealth(state: .serving, detail: "serving on 2 stages"), epoch: Epoch(3),
            workers: [worker(1, layers: 0..<16), worker(2, layers: 16..<30)], gateways: 1, requestsWaiting: 2, sequencesRunning: 8,
            kvBlocksUsed: 120, kvBlocksTotal: 512, kvBlocksCached: 40, stepsInFlight: 2, stepsDone: 12_345, tokensGenerated: 67_890,
            prefillPositions: 4_000, prefillPositionsShared: 1_000, framesDropped: 0)
        report.pipeline.windowNanoseconds = 10_000_000_000
        (report.pipeline.steps, report.pipeline.rows, report.pipeline.tokens, report.pipeline.prefillRows) = (100, 400, 380, 20)
        (report.pipeline.roundTripNanoseconds, report.pipeline.wireNanoseconds) = (2_410_000_000, 12_000_000)
        (report.pipeline.overheadMedianNanoseconds, report.pipeline.overhead95Nanoseconds) = (310_000, 520_000)
        report.pipeline.stages = [stage(1, layers: 0..<16, busyMs: 9_500), stage(2, layers: 16..<30, busyMs: 7_000)]
        report.pipeline.stepsByRows = [10, 0, 90, 0]
        report.kvBlocksShared = 3
        (report.recoveries, report.lastRecoveryNanoseconds) = (1, 3_200_000_000)
        return report
    }

    @Test func statusSaysEverything() {
        let text = StatusText.lines(Self.report).joined(separator: "\n")
        for part in [
            "SmolLM2 135M: serving, serving on 2 stages  (epoch 3, 1 gateway)", "waiting 2, running 8", "prompt 2.0, generated 38.0",
            "10.0/s of 4.0 rows, 2 in flight, 12345 done", "1: 10 %, 3-4: 90 %", "24.1 ms, wire 0.12 ms, overhead p50 0.31 ms, p95 0.52 ms",
            "120 of 512 used (23 %), 3 shared, 40 idle but known", "1000 of 4000 positions were there (25 %)",
            "recoveries 1 (last pause 3.2 s)", "    0 worker-1     0-15       95.0 ms  95 %   5 %   0.25 ms   0.04 ms   0.04 ms",
            "    1 worker-2     16-29      70.0 ms  70 %  30 %", "29.5 GB/s", "460 Gop/s", "48.0 GiB",
        ] {
            #expect(text.contains(part), "\(part) is missing in:\n\(text)")
        }
        #expect(StatusText.lines(Self.report).prefix { $0 != "" }.allSatisfy { $0.count <= 80 })
        #expect(StatusText.stageTable(Self.report).allSatisfy { $0.count <= 80 })
    }

    @Test func loadingIsAPercentage() {
        var report = Self.report
        report.pipeline = PipelineReport()
        report.workers[0].state = "loading"
        #expect(StatusText.state(report.workers[0]) == "loading")
        report.workers[0].loadedShare = 0.437
        #expect(StatusText.state(report.workers[0]) == "loading 43 %")
        let text = StatusText.lines(report).joined(separator: "\n")
        #expect(text.contains("loading 43 %") && text.contains("nothing serves"))
        let frame = TopFrame.lines(report, time: "12:00:00", note: nil, columns: 80, rows: 24).joined(separator: "\n")
        #expect(frame.contains("[|||||||||           ] loading 43 %"))
    }

    @Test func aPictureFillsTheTerminalAndNoMore() {
        for (columns, rows) in [(80, 24), (200, 60), (40, 10), (20, 4), (1, 1), (79, 15)] {
            for report in [Self.report, many(40)] {
                let lines = TopFrame.lines(report, time: "12:00:00", note: nil, columns: columns, rows: rows)
                #expect(lines.count <= max(rows, TopFrame.rowsMin), "\(columns)×\(rows)")
                #expect(lines.allSatisfy { $0.count <= max(columns, TopFrame.columnsMin) }, "\(columns)×\(rows)")
                #expect(lines.last == "q quits")
            }
        }
        let usual = TopFrame.lines(Self.report, time: "12:00:00", note: nil, columns: 80, rows: 24)
        #expect(usual[0].hasPrefix("staffel top, means of the last 10 s") && usual[0].hasSuffix("12:00:00") && usual[0].count == 80)
        #expect(usual.contains { $0.contains("worker-2") } && !usual.contains { $0.hasPrefix("… ") })
        #expect(TopFrame.lines(many(40), time: "", note: nil, columns: 80, rows: 24).contains { $0.hasPrefix("… ") })
    }

    @Test func wideTerminalsShowBars() {
        let lines = TopFrame.lines(Self.report, time: "12:00:00", note: "silent", columns: 120, rows: 24)
        #expect(lines.contains { $0.contains("worker-1") && $0.hasSuffix("|| ]") || $0.hasSuffix("||  ]") || $0.hasSuffix("||]") })
        #expect(lines.last == "silent")
        #expect(TopFrame.bar(0, 4) == "[    ]" && TopFrame.bar(1, 4) == "[||||]" && TopFrame.bar(0.5, 4) == "[||  ]" && TopFrame.bar(.nan, 2) == "[  ]")
    }

    @Test func whoNamesAWorkerCantPaintTheTerminal() {
        var report = Self.report
        report.workers[0].name = "\u{1B}[2Jevil"
        let lines = TopFrame.lines(report, time: "", note: nil, columns: 80, rows: 24)
        #expect(lines.contains { $0.contains("?[2Jevil") } && lines.allSatisfy { !$0.contains("\u{1B}") })
    }

    private func many(_ count: Int) -> StatusReport {
        var report = Self.report
        report.workers = (1...count).map { Self.worker(UInt8($0), layers: $0..<$0 + 1) }
        report.pipeline.stages = (1...count).map { Self.stage(UInt8($0), layers: $0..<$0 + 1, busyMs: 5_000) }
        return report
    }
}
