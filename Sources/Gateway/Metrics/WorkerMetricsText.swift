import ClusterCore

/// One worker's numbers as Prometheus text.
package enum WorkerMetricsText {
    package static func text(_ report: WorkerReport) -> [UInt8] {
        var text = PrometheusText()
        let labels = [("worker", report.name)]
        let metrics = report.metrics
        func seconds(_ nanoseconds: UInt64) -> Double { Double(nanoseconds) / 1e9 }
        text.gauge("staffel_worker_joined", "1 while the coordinator answers.", labels, report.isJoined ? 1 : 0)
        text.gauge("staffel_worker_serving", "1 while its stage takes steps.", labels, report.isServing ? 1 : 0)
        text.gauge("staffel_worker_epoch", "The epoch of its stage; 0 for none.", labels, report.assignment?.epoch.value ?? 0)
        text.gauge("staffel_worker_layers", "Layers of its stage.", labels, report.assignment?.layers.count ?? 0)
        text.gauge("staffel_worker_kv_blocks", "KV blocks of its stage.", labels, report.assignment?.kvBlocks ?? 0)
        text.gauge("staffel_worker_steps_queued", "Steps that wait for the stage thread.", labels, report.stepsQueued)
        text.counter("staffel_worker_steps_total", "Steps computed.", labels, metrics.steps)
        text.counter("staffel_worker_rows_total", "Rows of those steps.", labels, metrics.rows)
        text.counter("staffel_worker_compute_seconds_total", "Time in which the stage computed.", labels, seconds(metrics.computeNanoseconds))
        text.counter(
            "staffel_worker_idle_seconds_total", "Time in which it had nothing to compute, counted with the step that ended it.", labels,
            seconds(metrics.idleNanoseconds))
        text.counter("staffel_worker_queue_seconds_total", "Time that steps waited to be computed.", labels, seconds(metrics.queueNanoseconds))
        text.counter(
            "staffel_worker_hand_over_seconds_total", "Time from computing's end until steps were handed to the socket.", labels,
            seconds(metrics.handOverNanoseconds))
        text.counter(
            "staffel_worker_follow_ups_total", "Steps that it sent to the first stage by itself, because a stream runs alone.", labels, metrics.followUps)
        text.counter(
            "staffel_worker_foretold_total", "Steps of such a stream that it told the first stage of before their token was drawn.", labels,
            metrics.foretold)
        text.counter("staffel_worker_foretold_right_total", "Those that turned out so.", labels, metrics.foretoldRight)
        text.counter(
            "staffel_worker_layers_begun_total", "Layers that it had computed when a foretold step came.", labels, metrics.layersBegun)
        text.counter(
            "staffel_worker_steps_early_total", "Steps of the coordinator that overtook such a one, and waited for it.", labels, metrics.stepsEarly)
        text.counter(
            "staffel_worker_rehearsals_total", "Steps that it sent itself while it waited for the next one, to have their way in the caches.", labels,
            report.rehearsals)
        text.counter("staffel_worker_reconnects_total", "New connections because the coordinator was silent.", labels, metrics.reconnects)
        text.counter("staffel_worker_frames_dropped_total", "Frames that were refused.", labels, metrics.dropped.total)
        text.gauge("staffel_worker_threads", "Compute threads.", labels, report.capabilities.threads)
        text.gauge("staffel_worker_memory_bytes", "Memory for weights and KV.", labels, report.capabilities.memoryBytes)
        text.gauge("staffel_worker_read_bytes_per_second", "Read bandwidth measured at start.", labels, report.capabilities.readBytesPerSecond)
        text.counter(
            "staffel_worker_weight_read_bytes_total", "Weights, keys and values that its steps had to read, each once a step.", labels,
            metrics.readBytes)
        text.gauge(
            "staffel_worker_achieved_read_bytes_per_second", "Those bytes over the time in which the stage computed, since its start.", labels,
            metrics.readBytesPerSecond)
        text.gauge(
            "staffel_worker_weights_memory_bytes", "What weights may take of the memory, where the rest is streamed from disk; else 0.", labels,
            report.capabilities.weightsMemoryBytes)
        text.gauge(
            "staffel_worker_disk_bytes_per_second", "Bandwidth of the disk that weights are streamed from, measured at start.", labels,
            report.capabilities.diskBytesPerSecond)
        text.counter("staffel_worker_streamed_bytes_total", "Weights that came from disk for steps.", labels, metrics.streamedBytes)
        text.counter(
            "staffel_worker_stream_wait_seconds_total", "Time in which steps waited for the disk.", labels, seconds(metrics.streamWaitNanoseconds))
        text.counter(
            "staffel_worker_stream_read_seconds_total", "Time in which some of them were being read: those bytes over it is what the disk gave.", labels,
            seconds(metrics.streamReadNanoseconds))
        let weights = report.weights
        text.counter("staffel_worker_weights_fetched_bytes_total", "Bytes of weights that came from others and were right.", labels, weights.fetched.bytes)
        text.counter(
            "staffel_worker_weights_corrupt_bytes_total", "Bytes that came and were not what the manifest says.", labels, weights.fetched.corruptBytes)
        text.counter(
            "staffel_worker_weights_wasted_bytes_total", "Bytes that came when nobody waited for them any more.", labels, weights.fetched.wastedBytes)
        text.counter(
            "staffel_worker_weights_sources_banned_total", "Sources that are not asked again because of wrong bytes.", labels, weights.fetched.banned)
        text.counter("staffel_worker_weights_timeouts_total", "Sources that did not answer in time.", labels, weights.fetched.timeouts)
        text.counter("staffel_worker_weights_served_bytes_total", "Bytes of weights that were handed on to others.", labels, weights.servedBytes)
        text.counter(
            "staffel_worker_weights_requests_refused_total", "Requests for weights that were not answered with any.", labels, weights.refused)
        if let process = ProcessUsage.current() { text.process(process) }
        return text.bytes
    }
}
