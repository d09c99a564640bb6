import ClusterCore

/// Writes what happens in a pipeline as events of the Chrome trace format, which chrome://tracing and Perfetto show as lanes.
///
/// Lanes: the coordinator's turns; the steps in flight, as many lanes as were needed at once; the stages; the hops between them. All times are
/// microseconds of the coordinator's clock since the first event, put together as `StepTimeline` says: durations are measured, a
/// stage's place in time is off by at most the step's `wire_us`. Where that would make two steps overlap in a stage, which computes one at a
/// time, the later one is drawn behind the earlier one.
///
/// It is an array whose end may be missing: events are separated by ",\n" and a reader of this format takes what is there.
struct ChromeTrace {
    /// The array's beginning and end.
    static let opening = Array("[\n".utf8)
    static let closing = Array("\n]\n".utf8)

    private static let process = 1
    private static let coordinatorLane = 1
    private static let stepLane = 100
    private static let stageLane = 1_000
    private static let wireLane = 2_000

    private var origin: UInt64?
    private var isFirst = true
    private var stages: [TraceEvent.Stage] = []
    /// Until when each lane is taken.
    private var stepEnds: [UInt64] = []
    private var stageEnds: [UInt64] = []
    private var wireEnds: [UInt64] = []

    mutating func write(_ event: TraceEvent, into bytes: inout [UInt8]) {
        switch event {
        case .epoch(let epoch, let stages): begin(epoch, stages, &bytes)
        case .step(let step): write(step, &bytes)
        }
    }

    /// What the coordinator's thread did at one event: take a result, form and send steps.
    mutating func write(turn: TraceTurn, into bytes: inout [UInt8]) {
        if isFirst { begin(&bytes) }
        complete("turn", Self.coordinatorLane, turn.from.nanoseconds, turn.to.nanoseconds, #""steps_sent":\#(turn.stepsSent)"#, &bytes)
    }

    // MARK: - Lanes

    private mutating func begin(_ bytes: inout [UInt8]) {
        metadata("process_name", lane: nil, #""name":"staffel""#, &bytes)
        name(Self.coordinatorLane, "coordinator", &bytes)
    }

    private mutating func begin(_ epoch: Epoch, _ stages: [TraceEvent.Stage], _ bytes: inout [UInt8]) {
        if isFirst { begin(&bytes) }
        self.stages = stages
        stageEnds = [UInt64](repeating: 0, count: stages.count)
        wireEnds = [UInt64](repeating: 0, count: stages.count + 1)
        for (index, stage) in stages.enumerated() {
            name(Self.stageLane + index, "stage \(index): \(stage.worker), layers \(stage.layers.lowerBound)-\(stage.layers.upperBound - 1)", &bytes)
        }
        for hop in 0...stages.count {
            let from = hop == 0 ? "coordinator" : stages[hop - 1].worker
            let to = hop == stages.count ? "coordinator" : stages[hop].worker
            name(Self.wireLane + hop, "wire \(hop): \(from) to \(to)", &bytes)
        }
    }

    private mutating func name(_ lane: Int, _ name: String, _ bytes: inout [UInt8]) {
        metadata("thread_name", lane: lane, #""name":"\#(Self.escaped(name))""#, &bytes)
        metadata("thread_sort_index", lane: lane, #""sort_index":\#(lane)"#, &bytes)
    }

    // MARK: - Steps

    private mutating func write(_ step: StepTrace, _ bytes: inout [UInt8]) {
        let line = step.timeline
        let label = "\(step.kind) \(step.number.value)"
        let facts = #""epoch":\#(step.epoch.value),"step":\#(step.number.value),"rows":\#(step.rows),"decode_rows":\#(step.decodeRows),"kind":"\#(step.kind)""#
        let costs = #","wire_us":\#(Self.micros(line.wireNanoseconds)),"overhead_us":\#(Self.micros(line.overheadNanoseconds))"#
        complete(label, laneForStep(line, &bytes), line.sentAt.nanoseconds, line.returnedAt.nanoseconds, facts + costs, &bytes)
        guard line.stages.count == stages.count else { return }
        var left = line.sentAt
        for (index, stage) in line.stages.enumerated() {
            hop(index, label, left, stage.arrivedAt, facts, &bytes)
            let started = max(stage.begunAt.nanoseconds, stageEnds[index])
            let ended = started + stage.endedAt.nanoseconds(since: stage.begunAt)
            let begun = stage.startedAt.nanoseconds(since: stage.begunAt)
            let waits = (begun > 0 ? #","begun_us":\#(Self.micros(begun))"# : "")
                + #","queue_us":\#(Self.micros(stage.startedAt.nanoseconds(since: stage.arrivedAt)))"#
                + #","hand_over_us":\#(Self.micros(stage.handedOverAt.nanoseconds(since: stage.endedAt)))"#
            complete(label, Self.stageLane + index, started, ended, facts + waits, &bytes)
            stageEnds[index] = ended
            left = stage.handedOverAt
        }
        hop(line.stages.count, label, left, line.returnedAt, facts, &bytes)
    }

    /// The first lane on which no other step is at that time; steps come in the order in which they were sent.
    private mutating func laneForStep(_ line: StepTimeline, _ bytes: inout [UInt8]) -> Int {
        let lane = stepEnds.firstIndex { $0 <= line.sentAt.nanoseconds } ?? stepEnds.count
        if lane == stepEnds.count {
            stepEnds.append(0)
            name(Self.stepLane + lane, "steps in flight \(lane + 1)", &bytes)
        }
        stepEnds[lane] = line.returnedAt.nanoseconds
        return Self.stepLane + lane
    }

    private mutating func hop(_ index: Int, _ label: String, _ from: Instant, _ to: Instant, _ facts: String, _ bytes: inout [UInt8]) {
        let begin = max(from.nanoseconds, wireEnds[index])
        guard begin < to.nanoseconds else { return }
        complete(label, Self.wireLane + index, begin, to.nanoseconds, facts, &bytes)
        wireEnds[index] = to.nanoseconds
    }

    // MARK: - JSON

    private mutating func complete(_ name: String, _ lane: Int, _ from: UInt64, _ to: UInt64, _ facts: String, _ bytes: inout [UInt8]) {
        let origin = origin ?? from
        self.origin = origin
        let begin = from > origin ? from - origin : 0
        event(
            #"{"name":"\#(name)","ph":"X","pid":\#(Self.process),"tid":\#(lane),"ts":\#(Self.micros(begin)),"dur":\#(Self.micros(to > from ? to - from : 0)),"args":{\#(facts)}}"#,
            &bytes)
    }

    private mutating func metadata(_ name: String, lane: Int?, _ facts: String, _ bytes: inout [UInt8]) {
        event(#"{"name":"\#(name)","ph":"M","pid":\#(Self.process)\#(lane.map { #","tid":\#($0)"# } ?? ""),"args":{\#(facts)}}"#, &bytes)
    }

    private mutating func event(_ text: String, _ bytes: inout [UInt8]) {
        if !isFirst { bytes += [UInt8(ascii: ","), UInt8(ascii: "\n")] }
        isFirst = false
        bytes += text.utf8
    }

    /// Nanoseconds as microseconds with three digits.
    private static func micros(_ nanoseconds: UInt64) -> String {
        let rest = String(nanoseconds % 1_000)
        return "\(nanoseconds / 1_000).\(String(repeating: "0", count: 3 - rest.count))\(rest)"
    }

    private static func escaped(_ text: String) -> String {
        var escaped = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": escaped += "\\\(scalar)"
            case _ where scalar.value < 0x20: escaped += "?"
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }
}

/// One turn of the coordinator's thread that sent steps.
struct TraceTurn: Hashable, Sendable {
    var from: Instant
    var to: Instant
    var stepsSent: Int
}
