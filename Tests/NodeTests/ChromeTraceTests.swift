import ClusterCore
import Foundation
import Logging
import Testing

@testable import Node

@Suite struct ChromeTraceTests {
    private static let stages = [TraceEvent.Stage(worker: #"a "quoted" \ name"#, layers: 0..<3), TraceEvent.Stage(worker: "b", layers: 3..<6)]
    private static let ms: UInt64 = 1_000_000

    private static func step(_ number: UInt64, sentMs: UInt64, returnedMs: UInt64, timings: [StageTiming], decodeRows: Int = 4) -> TraceEvent {
        .step(
            StepTrace(
                epoch: Epoch(7), number: StepNumber(number), rows: 4, decodeRows: decodeRows,
                timeline: StepTimeline(
                    sentAt: Instant(nanoseconds: sentMs * ms), returnedAt: Instant(nanoseconds: returnedMs * ms), timings: timings)))
    }

    /// Two steps in flight: the second waits 4 ms in the first stage.
    private static let events: [TraceEvent] = [
        .epoch(Epoch(7), stages),
        step(1, sentMs: 100, returnedMs: 113, timings: [
            StageTiming(queueNanoseconds: 0, computeNanoseconds: 5 * ms, idleNanoseconds: 50 * ms),
            StageTiming(queueNanoseconds: 0, computeNanoseconds: 5 * ms, idleNanoseconds: 50 * ms),
        ]),
        step(2, sentMs: 101, returnedMs: 118, timings: [
            StageTiming(queueNanoseconds: 4 * ms, computeNanoseconds: 5 * ms),
            StageTiming(queueNanoseconds: 0, computeNanoseconds: 5 * ms),
        ], decodeRows: 0),
        step(3, sentMs: 113, returnedMs: 125, timings: [
            StageTiming(queueNanoseconds: 0, computeNanoseconds: 4 * ms), StageTiming(queueNanoseconds: 0, computeNanoseconds: 5 * ms),
        ], decodeRows: 2),
    ]

    private static func bytes(_ events: [TraceEvent]) -> [UInt8] {
        var trace = ChromeTrace()
        var bytes = ChromeTrace.opening
        trace.write(turn: TraceTurn(from: Instant(nanoseconds: 99 * ms), to: Instant(nanoseconds: 100 * ms), stepsSent: 2), into: &bytes)
        for event in events { trace.write(event, into: &bytes) }
        return bytes
    }

    private static func parsed(_ bytes: [UInt8]) throws -> [[String: Any]] {
        try #require(try JSONSerialization.jsonObject(with: Data(bytes)) as? [[String: Any]])
    }

    private static func lane(_ events: [[String: Any]], named prefix: String) throws -> Int {
        let names = events.filter { $0["name"] as? String == "thread_name" }
        let found = names.first { (($0["args"] as? [String: Any])?["name"] as? String)?.hasPrefix(prefix) == true }
        return try #require(found?["tid"] as? Int, "no lane \(prefix)")
    }

    private static func spans(_ events: [[String: Any]], on lane: Int) throws -> [(name: String, from: Double, to: Double, args: [String: Any])] {
        try events.filter { $0["ph"] as? String == "X" && $0["tid"] as? Int == lane }.map { event in
            let from = try #require(event["ts"] as? Double)
            return (event["name"] as? String ?? "", from, from + (try #require(event["dur"] as? Double)), event["args"] as? [String: Any] ?? [:])
        }
    }

    @Test func itIsJSONWithALaneForEachStage() throws {
        let events = try Self.parsed(Self.bytes(Self.events) + ChromeTrace.closing)
        let first = try Self.spans(events, on: Self.lane(events, named: #"stage 0: a "quoted" \ name, layers 0-2"#))
        #expect(first.map(\.name) == ["decode 1", "prefill 2", "mixed 3"])
        // The first event, the coordinator's turn, is the origin; of step 1's 3 ms of wire each of three hops gets one.
        #expect(first.map(\.from) == [2_000, 7_000, 15_000] && first.map(\.to) == [7_000, 12_000, 19_000])
        #expect(first[1].args["queue_us"] as? Double == 4_000 && first[1].args["rows"] as? Int == 4 && first[1].args["epoch"] as? Int == 7)
        let second = try Self.spans(events, on: Self.lane(events, named: "stage 1"))
        #expect(second.map(\.from) == [8_000, 13_000, 20_000])
        let hops = try Self.spans(events, on: Self.lane(events, named: "wire 1"))
        #expect(hops.map(\.from) == [7_000, 12_000, 19_000] && hops.map(\.to) == [8_000, 13_000, 20_000])
        #expect(try Self.spans(events, on: Self.lane(events, named: "coordinator")).map(\.to) == [1_000])
    }

    /// Steps in flight at the same time stand on lanes of their own, and a lane is used again.
    @Test func noTwoSpansOfALaneOverlap() throws {
        let events = try Self.parsed(Self.bytes(Self.events) + ChromeTrace.closing)
        #expect(try Self.spans(events, on: Self.lane(events, named: "steps in flight 1")).map(\.name) == ["decode 1", "mixed 3"])
        #expect(try Self.spans(events, on: Self.lane(events, named: "steps in flight 2")).map(\.name) == ["prefill 2"])
        let lanes = Set(events.compactMap { $0["tid"] as? Int })
        for lane in lanes {
            var until = 0.0
            for span in try Self.spans(events, on: lane) {
                #expect(span.from >= until, "\(span.name) on lane \(lane)")
                until = span.to
            }
        }
    }

    /// Wherever a file is cut off, adding the end of an array behind its last whole event makes it JSON: what readers of the format do.
    @Test func whatIsThereCanBeReadWhenTheEndIsMissing() throws {
        let whole = Self.bytes(Self.events)
        for count in stride(from: ChromeTrace.opening.count + 1, through: whole.count, by: 37) {
            let text = String(decoding: whole.prefix(count), as: UTF8.self)
            let end = text.range(of: "}},\n", options: .backwards)?.lowerBound ?? text.startIndex
            let events = end == text.startIndex ? "[" : text[..<end] + "}}"
            #expect(throws: Never.self) { try Self.parsed(Array(String(events + "]").utf8)) }
        }
    }

    @Test func timingsOfAnotherPlanGiveOnlyTheStep() throws {
        let odd = Self.step(9, sentMs: 300, returnedMs: 301, timings: [StageTiming(queueNanoseconds: 0, computeNanoseconds: 1)])
        let events = try Self.parsed(Self.bytes([Self.events[0], odd]) + ChromeTrace.closing)
        let spans = events.filter { $0["ph"] as? String == "X" }
        #expect(spans.count == 2, "the turn and the step")
    }

    // MARK: - The file

    private static let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    @Test func theFileHoldsWhatWasNoted() throws {
        let folder = try TemporaryFolder()
        let file = try TraceFile(path: folder.file("trace.json"), logger: Self.silent)
        for event in Self.events { file.note(event) }
        file.end()
        file.note(Self.events[0])
        let events = try Self.parsed(Array(Data(contentsOf: URL(fileURLWithPath: folder.file("trace.json")))))
        let spans = events.filter { $0["ph"] as? String == "X" }
        #expect(spans.count == 18, "three steps, each with two stages and three hops")
    }

    @Test func theFileKeepsWithinItsSize() throws {
        let folder = try TemporaryFolder()
        let file = try TraceFile(path: folder.file("trace.json"), bytesMax: 5_000, logger: Self.silent)
        for _ in 0..<1_000 { for event in Self.events { file.note(event) } }
        file.end()
        let bytes = try Array(Data(contentsOf: URL(fileURLWithPath: folder.file("trace.json"))))
        #expect((3_000...5_000).contains(bytes.count))
        #expect(try Self.parsed(bytes).count > 10)
    }

    @Test func aFileThatCantBeWrittenIsAnErrorOfTheStart() throws {
        let folder = try TemporaryFolder()
        for path in [folder.file("no/such/folder/trace.json"), folder.path] {
            let error = try #require(throws: NodeError.self) { _ = try TraceFile(path: path, logger: Self.silent) }
            #expect(error.code == .traceFile && error.message.contains("--trace \(path)"))
            #expect(throws: NodeError.self) { try TraceFile.check(path: path) }
        }
    }
}
