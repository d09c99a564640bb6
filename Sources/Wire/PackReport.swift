import CWire
import ClusterCore

// What a status says of steps and stages.

extension PackArena {
    /// The fields of a status that protocol 2.0 did not begin with.
    func observed(_ value: StatusReport, _ m: inout Staffel__V1__StatusReport) {
        m.pipeline = pipelineReport(value.pipeline)
        (m.has_kv_blocks_shared, m.kv_blocks_shared) = (1, UInt32(value.kvBlocksShared))
        (m.has_prompt_tokens, m.prompt_tokens) = (1, value.promptTokens)
        (m.has_requests_finished, m.requests_finished) = (1, value.requestsFinished)
        (m.has_requests_cancelled, m.requests_cancelled) = (1, value.requestsCancelled)
        (m.has_requests_failed, m.requests_failed) = (1, value.requestsFailed)
        (m.has_recoveries, m.recoveries) = (1, value.recoveries)
        (m.has_recovery_nanoseconds, m.recovery_nanoseconds) = (1, value.recoveryNanoseconds)
        (m.has_last_recovery_nanoseconds, m.last_recovery_nanoseconds) = (1, value.lastRecoveryNanoseconds)
        if value.rebuilds != RebuildCounts() { m.rebuilds = rebuildCounts(value.rebuilds) }
        if value.faults != FaultCounts() { m.faults = faultCounts(value.faults) }
        if value.handovers != HandoverCounts() { m.handovers = handoverCounts(value.handovers) }
    }

    private func pipelineReport(_ value: PipelineReport) -> UnsafeMutablePointer<Staffel__V1__PipelineReport> {
        make(staffel__v1__pipeline_report__init) { m in
            (m.has_window_nanoseconds, m.window_nanoseconds) = (1, value.windowNanoseconds)
            (m.has_steps, m.steps) = (1, value.steps)
            (m.has_rows, m.rows) = (1, value.rows)
            (m.has_prefill_rows, m.prefill_rows) = (1, value.prefillRows)
            (m.has_tokens, m.tokens) = (1, value.tokens)
            (m.has_round_trip_nanoseconds, m.round_trip_nanoseconds) = (1, value.roundTripNanoseconds)
            (m.has_wire_nanoseconds, m.wire_nanoseconds) = (1, value.wireNanoseconds)
            (m.has_overhead_median_nanoseconds, m.overhead_median_nanoseconds) = (1, value.overheadMedianNanoseconds)
            (m.has_overhead_95_nanoseconds, m.overhead_95_nanoseconds) = (1, value.overhead95Nanoseconds)
            (m.has_overhead_nanoseconds_total, m.overhead_nanoseconds_total) = (1, value.overheadNanosecondsTotal)
            (m.has_wire_nanoseconds_total, m.wire_nanoseconds_total) = (1, value.wireNanosecondsTotal)
            (m.has_rows_total, m.rows_total) = (1, value.rowsTotal)
            (m.n_stages, m.stages) = (value.stages.count, table(value.stages, stageReport))
            (m.n_steps_by_rows, m.steps_by_rows) = (value.stepsByRows.count, copy(value.stepsByRows))
            (m.n_steps_by_overhead, m.steps_by_overhead) = (value.stepsByOverhead.count, copy(value.stepsByOverhead))
        }
    }

    private func stageReport(_ value: StageReport) -> UnsafeMutablePointer<Staffel__V1__StageReport> {
        make(staffel__v1__stage_report__init) { m in
            (m.has_worker, m.worker) = (1, data(value.worker.bytes))
            m.layers = layerRange(value.layers)
            m.window = stageSums(value.window)
            m.total = stageSums(value.total)
        }
    }

    private func stageSums(_ value: StageSums) -> UnsafeMutablePointer<Staffel__V1__StageSums> {
        make(staffel__v1__stage_sums__init) { m in
            (m.has_steps, m.steps) = (1, value.steps)
            (m.has_compute_nanoseconds, m.compute_nanoseconds) = (1, value.computeNanoseconds)
            (m.has_idle_nanoseconds, m.idle_nanoseconds) = (1, value.idleNanoseconds)
            (m.has_queue_nanoseconds, m.queue_nanoseconds) = (1, value.queueNanoseconds)
            (m.has_hand_over_nanoseconds, m.hand_over_nanoseconds) = (1, value.handOverNanoseconds)
            (m.has_sent_bytes, m.sent_bytes) = (1, value.sentBytes)
            if value.readBytes > 0 { (m.has_read_bytes, m.read_bytes) = (1, value.readBytes) }
            if value.streamedBytes > 0 { (m.has_streamed_bytes, m.streamed_bytes) = (1, value.streamedBytes) }
            if value.streamWaitNanoseconds > 0 { (m.has_stream_wait_nanoseconds, m.stream_wait_nanoseconds) = (1, value.streamWaitNanoseconds) }
        }
    }
}
