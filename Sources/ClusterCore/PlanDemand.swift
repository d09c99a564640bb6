/// What a deployment is meant for: the steps for which stage times are compared, and what lies between the stages.
///
/// A cut that is even for one row is not even for eight: with few rows a stage takes as long as reading its weights, with many as long as its
/// arithmetic, and the head's input has two rows for each token.
package struct PlanDemand: Hashable, Sendable {
    /// Rows of a decode step: streams at once divided by steps in flight.
    package var decodeRows = 8
    /// Positions that a row sees on average.
    package var contextMean = 1_024
    /// Rows of a prefill chunk.
    package var prefillRows = 256
    package var boundary = BoundaryType.f32
    /// One hop: rows × hidden × bytes of a value over this, and the latency. Sending overlaps computing, so only the first limits throughput.
    package var linkBytesPerSecond = 1.25e9
    package var linkLatencySeconds = 150e-6

    package static let decodeRowsMax = Limits.stepRowsMax
    /// Without more than this in front of it, a step could not be told from noise.
    package static let linkBytesPerSecondMin = 1e3

    package init() {}

    /// Seconds that a link is busy with so many rows.
    package func wireSeconds(rows: Int, hidden: Int) -> Double {
        Double(rows * hidden * boundary.bytesPerValue) / max(linkBytesPerSecond, Self.linkBytesPerSecondMin)
    }
}

/// What one step asks of a stage: the rows of a `Step`, or of one that is only imagined.
package struct StepLoad: Hashable, Sendable {
    package var rows: Int
    /// Rows whose logits are computed.
    package var sampledRows: Int
    /// Sum over rows of the positions that each sees, itself included.
    package var positionsSeen: Double
    /// Sum over sequences of the positions whose keys and values are read.
    package var positionsRead: Double

    package static let none = StepLoad(rows: 0, sampledRows: 0, positionsSeen: 0, positionsRead: 0)

    package init(rows: Int, sampledRows: Int, positionsSeen: Double, positionsRead: Double) {
        self.rows = rows
        self.sampledRows = sampledRows
        self.positionsSeen = positionsSeen
        self.positionsRead = positionsRead
    }

    /// Every row is another sequence's next token.
    package static func decode(rows: Int, context: Int) -> StepLoad {
        let positions = Double(rows) * Double(context)
        return StepLoad(rows: rows, sampledRows: rows, positionsSeen: positions, positionsRead: positions)
    }

    /// Positions `start..<start + rows` of one prompt; `samples`: they are its last.
    package static func prefill(rows: Int, start: Int, samples: Bool) -> StepLoad {
        StepLoad(rows: 0, sampledRows: 0, positionsSeen: 0, positionsRead: 0).adding(rows: rows, start: start, sampled: samples ? 1 : 0)
    }

    package init(_ step: Step) {
        self = step.segments.reduce(.none) { $0.adding(rows: $1.tokens.count, start: $1.start, sampled: $1.samples ? 1 + $1.drafts : 0) }
    }

    private func adding(rows: Int, start: Int, sampled: Int) -> StepLoad {
        let count = Double(rows)
        return StepLoad(
            rows: self.rows + rows, sampledRows: sampledRows + sampled,
            positionsSeen: positionsSeen + count * (Double(start) + (count + 1) / 2), positionsRead: positionsRead + Double(start) + count)
    }
}
