/// What a trace of the pipeline is made of.
package enum TraceEvent: Hashable, Sendable {
    package struct Stage: Hashable, Sendable {
        /// The worker's name.
        package var worker: String
        package var layers: Range<Int>

        package init(worker: String, layers: Range<Int>) {
            self.worker = worker
            self.layers = layers
        }
    }

    /// An epoch serves with these stages; the steps that follow are its.
    case epoch(Epoch, [Stage])
    /// A step came back.
    case step(StepTrace)
}

/// One step, when it is over.
package struct StepTrace: Hashable, Sendable {
    package var epoch: Epoch
    package var number: StepNumber
    package var rows: Int
    package var decodeRows: Int
    package var timeline: StepTimeline

    package init(epoch: Epoch, number: StepNumber, rows: Int, decodeRows: Int, timeline: StepTimeline) {
        self.epoch = epoch
        self.number = number
        self.rows = rows
        self.decodeRows = decodeRows
        self.timeline = timeline
    }

    /// `decode`, `prefill` or `mixed`.
    package var kind: String { decodeRows == rows ? "decode" : decodeRows == 0 ? "prefill" : "mixed" }
}
