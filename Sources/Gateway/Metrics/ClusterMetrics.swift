import ClusterCore

/// A cluster's numbers as Prometheus text, from the coordinator's status: what vLLM counts under vLLM's names with our prefix, then what only a
/// pipeline has.
package enum ClusterMetrics {
    /// What the coordinator's `/metrics` says.
    package static func text(_ report: StatusReport) -> [UInt8] {
        var text = PrometheusText()
        let labels = labels(report)
        text.gauge("staffel_serving", "1 while the pipeline answers.", [], report.health.isServing ? 1 : 0)
        text.gauge("staffel_num_requests_running", "Sequences that hold KV blocks.", labels, report.sequencesRunning)
        text.gauge("staffel_num_requests_waiting", "Sequences that wait for KV blocks.", labels, report.requestsWaiting)
        text.counter("staffel_prompt_tokens_total", "Prompt tokens of all requests.", labels, report.promptTokens)
        text.counter("staffel_generation_tokens_total", "Tokens generated for all requests.", labels, report.tokensGenerated)
        text.family("staffel_requests_total", "counter", "Requests by how they ended.")
        for (outcome, count) in [("finished", report.requestsFinished), ("failed", report.requestsFailed), ("cancelled", report.requestsCancelled)] {
            text.sample("staffel_requests_total", labels + [("outcome", outcome)], count)
        }
        write(report, into: &text)
        if let process = ProcessUsage.current() { text.process(process) }
        return text.bytes
    }

    /// What a gateway's `/metrics` says of the cluster beside its own requests.
    static func write(_ report: StatusReport, into text: inout PrometheusText) {
        let labels = labels(report)
        writeMemory(report, labels, &text)
        writeMembers(report, &text)
        writeSteps(report, labels, &text)
        writeStages(report, &text)
    }

    private static func labels(_ report: StatusReport) -> PrometheusText.Labels { [("model_name", report.modelName), ("engine", "0")] }

    private static func writeMemory(_ report: StatusReport, _ labels: PrometheusText.Labels, _ text: inout PrometheusText) {
        let total = max(1, report.kvBlocksTotal)
        text.gauge("staffel_kv_cache_usage_perc", "KV blocks in use, as a share of all: 1 is full.", labels, Double(report.kvBlocksUsed) / Double(total))
        text.family("staffel_kv_blocks", "gauge", "KV blocks by state: used, cached (idle but their content is known), free.")
        let free = report.kvBlocksTotal - report.kvBlocksUsed - report.kvBlocksCached
        for (state, count) in [("used", report.kvBlocksUsed), ("cached", report.kvBlocksCached), ("free", max(0, free))] {
            text.sample("staffel_kv_blocks", labels + [("state", state)], count)
        }
        text.gauge("staffel_kv_blocks_shared", "KV blocks that several sequences hold.", labels, report.kvBlocksShared)
        text.counter("staffel_prefix_cache_queries_total", "Positions of admitted sequences that were looked up.", labels, report.prefillPositions)
        text.counter("staffel_prefix_cache_hits_total", "Positions of those that were there already.", labels, report.prefillPositionsShared)
        text.counter("staffel_num_preemptions_total", "Sequences that gave up their KV blocks.", labels, report.preemptions)
    }

    private static func writeMembers(_ report: StatusReport, _ text: inout PrometheusText) {
        text.gauge("staffel_epoch", "The deployment's epoch.", [], report.epoch.value)
        text.gauge("staffel_workers", "Workers that the coordinator knows.", [], report.workers.count)
        text.gauge("staffel_gateways", "Gateways that the coordinator knows.", [], report.gateways)
        text.family("staffel_worker_loaded_share", "gauge", "How much of a worker's slice is in memory, while it loads.")
        for worker in report.workers {
            if let share = worker.loadedShare { text.sample("staffel_worker_loaded_share", [("worker", worker.name), ("peer", "\(worker.key)")], share) }
        }
        text.counter("staffel_recoveries_total", "Epochs that ended while they served.", [], report.recoveries)
        text.counter("staffel_recovery_seconds_total", "Time in which nothing served, after the first time something did.", [], seconds(report.recoveryNanoseconds))
        text.gauge("staffel_last_recovery_seconds", "The last of these pauses.", [], seconds(report.lastRecoveryNanoseconds))
        let handovers = report.handovers
        text.counter("staffel_handovers_total", "Plans that layers were handed over to while streams ran.", [], handovers.done)
        text.counter("staffel_handovers_rolled_back_total", "Hand-overs that were given up; the old plan went on.", [], handovers.rolledBack)
        text.counter("staffel_handover_kv_bytes_total", "Keys and values that were sent from worker to worker.", [], handovers.bytesMoved)
        text.gauge(
            "staffel_last_handover_pause_seconds", "How long steps were held for the last hand-over.", [], seconds(handovers.lastPauseNanoseconds))
        text.gauge(
            "staffel_longest_handover_pause_seconds", "The longest time for which steps were held for a hand-over.", [],
            seconds(handovers.longestPauseNanoseconds))
        text.counter(
            "staffel_recomputed_positions_total", "Positions computed a second time, because their keys and values were lost or given up.", [],
            handovers.positionsRecomputed)
        text.family("staffel_faults_total", "counter", "What went wrong with workers and their links, by how it was noticed.")
        for (kind, count) in report.faults.byKind { text.sample("staffel_faults_total", [("kind", kind)], count) }
        let rebuilds = report.rebuilds
        text.counter("staffel_recoveries_kept_total", "Recoveries in which streams kept some of their keys and values.", [], rebuilds.recoveries)
        text.counter(
            "staffel_rebuilt_layer_positions_total", "Positions times layers that such recoveries computed again, inputs included.", [],
            rebuilds.layerPositionsRebuilt)
        text.counter(
            "staffel_full_layer_positions_total", "Positions times layers that they would have computed again if nothing had been kept.", [],
            rebuilds.layerPositionsAll)
        text.counter(
            "staffel_rebuilt_from_inputs_positions_total", "Positions that were rebuilt from rows that a stage had kept.", [],
            rebuilds.positionsFromInputs)
        text.counter("staffel_frames_dropped_total", "Frames that were refused.", [], report.framesDropped)
    }

    private static func writeSteps(_ report: StatusReport, _ labels: PrometheusText.Labels, _ text: inout PrometheusText) {
        let pipeline = report.pipeline
        text.gauge("staffel_steps_in_flight", "Steps on their way through the stages.", labels, report.stepsInFlight)
        let rows = pipeline.stepsByRows
        text.histogram(
            "staffel_iteration_tokens_total", "Rows of a step.", labels, counts: rows + [0], bounds: rows.indices.map { Double(1 << $0) },
            sum: Double(pipeline.rowsTotal))
        text.histogram(
            "staffel_step_overhead_seconds", "A step's round trip less its computing and less its waiting behind other steps.", labels,
            counts: pipeline.stepsByOverhead, bounds: pipeline.stepsByOverhead.indices.dropLast().map { Double(1 << $0) / 1e6 },
            sum: seconds(pipeline.overheadNanosecondsTotal))
        writeGuesses(report, labels, &text)
        text.counter("staffel_wire_seconds_total", "Time that steps spent between machines, all hops.", labels, seconds(pipeline.wireNanosecondsTotal))
    }

    private static func writeGuesses(_ report: StatusReport, _ labels: PrometheusText.Labels, _ text: inout PrometheusText) {
        let sources = [("prompt-lookup", report.draftsLookedUp), ("draft-model", report.draftsModelled)]
        text.family("staffel_spec_decode_num_draft_tokens_total", "counter", "Tokens that were guessed, by where the guesses came from.")
        for (source, counts) in sources { text.sample("staffel_spec_decode_num_draft_tokens_total", labels + [("source", source)], counts.proposed) }
        text.family("staffel_spec_decode_num_accepted_tokens_total", "counter", "Those of them that were right.")
        for (source, counts) in sources { text.sample("staffel_spec_decode_num_accepted_tokens_total", labels + [("source", source)], counts.accepted) }
    }

    /// Stage by stage. Counters begin anew with each epoch, as they do with a restart.
    private static func writeStages(_ report: StatusReport, _ text: inout PrometheusText) {
        let stages = report.pipeline.stages.enumerated().map { index, stage in
            let name = report.workers.first { $0.key == stage.worker }?.name ?? "\(stage.worker)"
            return (labels: [("stage", "\(index)"), ("worker", name), ("peer", "\(stage.worker)")], report: stage)
        }
        func family(_ name: String, _ kind: String, _ help: String, _ value: (StageReport) -> Double) {
            text.family(name, kind, help)
            for stage in stages { text.sample(name, stage.labels, value(stage.report)) }
        }
        family("staffel_stage_layers", "gauge", "Layers of the stage.") { Double($0.layers.count) }
        family("staffel_stage_steps_total", "counter", "Steps computed.") { Double($0.total.steps) }
        family("staffel_stage_compute_seconds_total", "counter", "Time in which the stage computed.") { seconds($0.total.computeNanoseconds) }
        family("staffel_stage_idle_seconds_total", "counter", "Time in which it had nothing to compute, counted with the step that ended it.") {
            seconds($0.total.idleNanoseconds)
        }
        family("staffel_stage_queue_seconds_total", "counter", "Time that steps waited there to be computed.") { seconds($0.total.queueNanoseconds) }
        family("staffel_stage_hand_over_seconds_total", "counter", "Time from computing's end until steps were handed to the socket.") {
            seconds($0.total.handOverNanoseconds)
        }
        family("staffel_stage_sent_bytes_total", "counter", "Bytes of rows sent to the next stage.") { Double($0.total.sentBytes) }
        family("staffel_stage_read_bytes_total", "counter", "Weights, keys and values that its steps had to read, each once a step.") {
            Double($0.total.readBytes)
        }
        family("staffel_stage_achieved_read_bytes_per_second", "gauge", "Those bytes in the last seconds over the time in which the stage computed.") {
            $0.window.readBytesPerSecond
        }
        family("staffel_stage_read_bytes_per_second", "gauge", "Read bandwidth that its worker measured at start.") { stage in
            report.workers.first { $0.key == stage.worker }?.capabilities.readBytesPerSecond ?? 0
        }
        family("staffel_stage_streamed_bytes_total", "counter", "Weights that came from disk for its steps.") { Double($0.total.streamedBytes) }
        family("staffel_stage_stream_wait_seconds_total", "counter", "Of its computing, the time in which it waited for the disk.") {
            seconds($0.total.streamWaitNanoseconds)
        }
        family("staffel_stage_disk_bytes_per_second", "gauge", "Bandwidth of its worker's disk, measured at start where weights are streamed.") { stage in
            report.workers.first { $0.key == stage.worker }?.capabilities.diskBytesPerSecond ?? 0
        }
        let bound = report.diskBound
        text.gauge("staffel_disk_bytes_per_step", "Weights that a step streams from disk in all stages.", [], bound?.bytesPerStep ?? 0)
        text.gauge("staffel_disk_bound_seconds", "What the disks need for the bytes of a step: no step comes sooner.", [], bound?.boundSeconds ?? 0)
        text.gauge("staffel_disk_step_seconds", "What a step takes in all stages where weights are streamed.", [], bound?.stepSeconds ?? 0)
        family("staffel_stage_busy_share", "gauge", "Share of the last seconds in which the stage computed.") { $0.window.busyShare }
        family("staffel_stage_idle_share", "gauge", "Share of the last seconds in which it had nothing to compute.") { $0.window.idleShare }
    }

    private static func seconds(_ nanoseconds: UInt64) -> Double { Double(nanoseconds) / 1e9 }
}
