import CWire
import ClusterCore

// What a status says of steps and stages. The status's own counts and the whole report may be missing: then the coordinator is of an earlier
// release.

extension Unpack {
    static func observed(_ m: Staffel__V1__StatusReport, _ f: Fields, _ report: inout StatusReport) throws(WireError) {
        if let pipeline = m.pipeline { report.pipeline = try pipelineReport(pipeline) }
        if let drafts = m.drafts_modelled { report.draftsModelled = try draftCounts(drafts) }
        if m.has_kv_blocks_shared != 0 {
            report.kvBlocksShared = try f.integer(m.has_kv_blocks_shared, m.kv_blocks_shared, "kv_blocks_shared", 0...report.kvBlocksTotal)
        }
        report.promptTokens = try f.counterOrZero(m.has_prompt_tokens, m.prompt_tokens, "prompt_tokens")
        report.requestsFinished = try f.counterOrZero(m.has_requests_finished, m.requests_finished, "requests_finished")
        report.requestsCancelled = try f.counterOrZero(m.has_requests_cancelled, m.requests_cancelled, "requests_cancelled")
        report.requestsFailed = try f.counterOrZero(m.has_requests_failed, m.requests_failed, "requests_failed")
        report.recoveries = try f.counterOrZero(m.has_recoveries, m.recoveries, "recoveries")
        report.recoveryNanoseconds = try f.counterOrZero(m.has_recovery_nanoseconds, m.recovery_nanoseconds, "recovery_nanoseconds")
        report.lastRecoveryNanoseconds = try f.counterOrZero(
            m.has_last_recovery_nanoseconds, m.last_recovery_nanoseconds, "last_recovery_nanoseconds")
        if let rebuilds = m.rebuilds { report.rebuilds = try rebuildCounts(rebuilds) }
        if let faults = m.faults { report.faults = try faultCounts(faults) }
        if let handovers = m.handovers { report.handovers = try handoverCounts(handovers) }
    }

    private static func pipelineReport(_ p: UnsafePointer<Staffel__V1__PipelineReport>) throws(WireError) -> PipelineReport {
        let f = Fields("PipelineReport")
        let m = p.pointee
        var report = PipelineReport()
        report.windowNanoseconds = try f.counter(m.has_window_nanoseconds, m.window_nanoseconds, "window_nanoseconds")
        report.steps = try f.counter(m.has_steps, m.steps, "steps")
        report.rows = try f.counter(m.has_rows, m.rows, "rows")
        report.prefillRows = try f.counter(m.has_prefill_rows, m.prefill_rows, "prefill_rows")
        report.tokens = try f.counter(m.has_tokens, m.tokens, "tokens")
        report.roundTripNanoseconds = try f.counter(m.has_round_trip_nanoseconds, m.round_trip_nanoseconds, "round_trip_nanoseconds")
        report.wireNanoseconds = try f.counter(m.has_wire_nanoseconds, m.wire_nanoseconds, "wire_nanoseconds")
        report.overheadMedianNanoseconds = try f.counter(
            m.has_overhead_median_nanoseconds, m.overhead_median_nanoseconds, "overhead_median_nanoseconds")
        report.overhead95Nanoseconds = try f.counter(m.has_overhead_95_nanoseconds, m.overhead_95_nanoseconds, "overhead_95_nanoseconds")
        report.overheadNanosecondsTotal = try f.counter(m.has_overhead_nanoseconds_total, m.overhead_nanoseconds_total, "overhead_nanoseconds_total")
        report.wireNanosecondsTotal = try f.counter(m.has_wire_nanoseconds_total, m.wire_nanoseconds_total, "wire_nanoseconds_total")
        report.rowsTotal = try f.counter(m.has_rows_total, m.rows_total, "rows_total")
        report.stages = try f.list(m.n_stages, m.stages, "stages", atMost: Limits.stagesMax, stageReport)
        report.stepsByRows = try counts(m.n_steps_by_rows, m.steps_by_rows, "steps_by_rows", f)
        report.stepsByOverhead = try counts(m.n_steps_by_overhead, m.steps_by_overhead, "steps_by_overhead", f)
        return report
    }

    private static func counts(
        _ count: Int, _ values: UnsafeMutablePointer<UInt64>?, _ field: StaticString, _ f: Fields
    ) throws(WireError) -> [UInt64] {
        try f.require(count <= WireLimits.histogramClassesMax, field, "has \(count) classes, allowed are \(WireLimits.histogramClassesMax)")
        var counts: [UInt64] = []
        for value in UnsafeBufferPointer(start: values, count: count) { counts.append(try f.counter(1, value, field)) }
        return counts
    }

    private static func stageReport(_ p: UnsafePointer<Staffel__V1__StageReport>) throws(WireError) -> StageReport {
        let f = Fields("StageReport")
        let m = p.pointee
        return StageReport(
            worker: try f.key(m.has_worker, m.worker, "worker"), layers: try f.layers(m.layers, "layers"),
            window: try stageSums(f.submessage(m.window, "window")), total: try stageSums(f.submessage(m.total, "total")))
    }

    private static func stageSums(_ p: UnsafePointer<Staffel__V1__StageSums>) throws(WireError) -> StageSums {
        let f = Fields("StageSums")
        let m = p.pointee
        var sums = StageSums()
        sums.steps = try f.counter(m.has_steps, m.steps, "steps")
        sums.computeNanoseconds = try f.counter(m.has_compute_nanoseconds, m.compute_nanoseconds, "compute_nanoseconds")
        sums.idleNanoseconds = try f.counter(m.has_idle_nanoseconds, m.idle_nanoseconds, "idle_nanoseconds")
        sums.queueNanoseconds = try f.counter(m.has_queue_nanoseconds, m.queue_nanoseconds, "queue_nanoseconds")
        sums.handOverNanoseconds = try f.counter(m.has_hand_over_nanoseconds, m.hand_over_nanoseconds, "hand_over_nanoseconds")
        sums.sentBytes = try f.counter(m.has_sent_bytes, m.sent_bytes, "sent_bytes")
        sums.readBytes = try f.counterOrZero(m.has_read_bytes, m.read_bytes, "read_bytes")
        sums.streamedBytes = try f.counterOrZero(m.has_streamed_bytes, m.streamed_bytes, "streamed_bytes")
        sums.streamWaitNanoseconds = try f.counterOrZero(m.has_stream_wait_nanoseconds, m.stream_wait_nanoseconds, "stream_wait_nanoseconds")
        return sums
    }
}
