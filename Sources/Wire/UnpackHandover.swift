import CWire
import ClusterCore

// Layers that move between workers, and workers that leave, out of protobuf-c's structs.

extension Unpack {
    static func handoverOrder(_ p: UnsafePointer<Staffel__V1__HandoverOrder>) throws(WireError) -> HandoverOrder {
        let f = Fields("HandoverOrder")
        let m = p.pointee
        switch m.kind_case {
        case STAFFEL__V1__HANDOVER_ORDER__KIND_PREPARE: return try prepareOrder(f.submessage(m.prepare, "prepare"))
        case STAFFEL__V1__HANDOVER_ORDER__KIND_SEND: return .send(try kvOrder(f.submessage(m.send, "send")))
        case STAFFEL__V1__HANDOVER_ORDER__KIND_ADOPT: return .adopt(try epochNote(f.submessage(m.adopt, "adopt")))
        case STAFFEL__V1__HANDOVER_ORDER__KIND_ABANDON: return .abandon(try epochNote(f.submessage(m.abandon, "abandon")))
        default: throw f.invalid("kind", "is missing or unknown")
        }
    }

    private static func prepareOrder(_ p: UnsafePointer<Staffel__V1__PrepareOrder>) throws(WireError) -> HandoverOrder {
        let f = Fields("PrepareOrder")
        let m = p.pointee
        let sources = try f.list(m.n_sources, m.sources, "sources", atMost: Limits.stagesMax) { (peer) throws(WireError) in
            try stagePeer(UnsafePointer(peer))
        }
        try f.requireDistinct(sources.map(\.key), "sources")
        return .prepare(try stageAssignment(f.submessage(m.assignment, "assignment")), sources: sources)
    }

    private static func kvOrder(_ p: UnsafePointer<Staffel__V1__KvOrder>) throws(WireError) -> KVOrder {
        let f = Fields("KvOrder")
        let m = p.pointee
        let blocks = try self.blocks(m.n_blocks, m.blocks, f, atMost: WireLimits.kvOrderBlocksMax)
        try f.requireAscending(blocks, "blocks")
        let targets = try f.list(m.n_targets, m.targets, "targets", atMost: Limits.stagesMax) { (target) throws(WireError) in
            let f = Fields("KvTarget")
            return KVTarget(peer: try stagePeer(f.submessage(target.pointee.peer, "peer")), layers: try f.layers(target.pointee.layers, "layers"))
        }
        try f.require(!targets.isEmpty, "targets", "are missing")
        return KVOrder(
            epoch: try f.epoch(m.has_epoch, m.epoch), round: try f.integer(m.has_round, m.round, "round", 1...WireLimits.handoverRoundMax),
            blocks: blocks, targets: targets,
            blockBytes: try f.integer(m.has_block_bytes, m.block_bytes, "block_bytes", 1...Limits.kvBlockBytesMax))
    }

    private static func blocks(
        _ count: Int, _ values: UnsafeMutablePointer<UInt32>?, _ f: Fields, atMost max: Int
    ) throws(WireError) -> [BlockID] {
        try f.require((1...max).contains(count), "blocks", "has \(count) entries, allowed are 1...\(max)")
        let blocks = UnsafeBufferPointer(start: values, count: count).map { BlockID($0) }
        try f.require(blocks.allSatisfy { $0.value < WireLimits.kvBlocksMax }, "blocks", "names a block beyond \(WireLimits.kvBlocksMax)")
        return blocks
    }

    static func handoverReport(_ p: UnsafePointer<Staffel__V1__HandoverReport>) throws(WireError) -> HandoverReport {
        let f = Fields("HandoverReport")
        let m = p.pointee
        let epoch = try f.epoch(m.has_epoch, m.epoch)
        switch try f.present(m.has_state, m.state, "state") {
        case STAFFEL__V1__HANDOVER_STATE__HANDOVER_STATE_PREPARED: return .prepared(epoch)
        case STAFFEL__V1__HANDOVER_STATE__HANDOVER_STATE_PROGRESS:
            return .progress(epoch, bytesSent: try f.counter(m.has_bytes_sent, m.bytes_sent, "bytes_sent", atMost: WireLimits.bytesMax))
        case STAFFEL__V1__HANDOVER_STATE__HANDOVER_STATE_SENT:
            return .sent(
                epoch, round: try f.integer(m.has_round, m.round, "round", 1...WireLimits.handoverRoundMax),
                bytesSent: try f.counter(m.has_bytes_sent, m.bytes_sent, "bytes_sent", atMost: WireLimits.bytesMax))
        case STAFFEL__V1__HANDOVER_STATE__HANDOVER_STATE_SWITCHED: return .switched(epoch)
        case STAFFEL__V1__HANDOVER_STATE__HANDOVER_STATE_FAILED: return .failed(epoch, try failure(m.failure, f, "failure"))
        default: throw f.invalid("state", "is \(m.state.rawValue), which this release does not know")
        }
    }

    static func transferFrame(_ p: UnsafePointer<Staffel__V1__TransferFrame>) throws(WireError) -> TransferFrame {
        let f = Fields("TransferFrame")
        let m = p.pointee
        switch m.kind_case {
        case STAFFEL__V1__TRANSFER_FRAME__KIND_BLOCKS: return .blocks(try kvFrame(f.submessage(m.blocks, "blocks")))
        case STAFFEL__V1__TRANSFER_FRAME__KIND_RECEIPT:
            let receipt = try f.submessage(m.receipt, "receipt").pointee
            let f = Fields("KvReceipt")
            return .receipt(
                KVReceipt(epoch: try f.epoch(receipt.has_epoch, receipt.epoch), number: try f.counter(receipt.has_number, receipt.number, "number")))
        default: throw f.invalid("kind", "is missing or unknown")
        }
    }

    private static func kvFrame(_ p: UnsafePointer<Staffel__V1__KvFrame>) throws(WireError) -> KVFrame {
        let f = Fields("KvFrame")
        let m = p.pointee
        let blocks = try self.blocks(m.n_blocks, m.blocks, f, atMost: Limits.kvFrameBlocksMax)
        try f.requireDistinct(blocks, "blocks")
        return KVFrame(
            epoch: try f.epoch(m.has_epoch, m.epoch), number: try f.counter(m.has_number, m.number, "number"),
            layers: try f.layers(m.layers, "layers"), blocks: blocks)
    }

    static func drainRequest(_ p: UnsafePointer<Staffel__V1__DrainRequest>) throws(WireError) -> DrainRequest {
        let f = Fields("DrainRequest")
        let m = p.pointee
        return DrainRequest(worker: try f.name(m.has_worker, m.worker, "worker"), isUndone: try f.present(m.has_undo, m.undo, "undo") != 0)
    }

    static func drainStatus(_ p: UnsafePointer<Staffel__V1__DrainStatus>) throws(WireError) -> DrainStatus {
        let f = Fields("DrainStatus")
        let m = p.pointee
        guard let state = DrainStatus.State(rawValue: UInt8(clamping: try f.present(m.has_state, m.state, "state").rawValue)) else {
            throw f.invalid("state", "is \(m.state.rawValue), which this release does not know")
        }
        return DrainStatus(state, try f.sentence(m.has_detail, m.detail, "detail"))
    }

    static func rebuildCounts(_ p: UnsafePointer<Staffel__V1__RebuildCounts>) throws(WireError) -> RebuildCounts {
        let f = Fields("RebuildCounts")
        let m = p.pointee
        var counts = RebuildCounts()
        counts.recoveries = try f.counter(m.has_recoveries, m.recoveries, "recoveries")
        counts.layerPositionsKept = try f.counter(m.has_layer_positions_kept, m.layer_positions_kept, "layer_positions_kept")
        counts.layerPositionsAll = try f.counter(m.has_layer_positions_all, m.layer_positions_all, "layer_positions_all")
        counts.layerPositionsRebuilt = try f.counter(m.has_layer_positions_rebuilt, m.layer_positions_rebuilt, "layer_positions_rebuilt")
        counts.positionsFromInputs = try f.counter(m.has_positions_from_inputs, m.positions_from_inputs, "positions_from_inputs")
        return counts
    }

    static func faultCounts(_ p: UnsafePointer<Staffel__V1__FaultCounts>) throws(WireError) -> FaultCounts {
        let f = Fields("FaultCounts")
        let m = p.pointee
        var counts = FaultCounts()
        counts.connectionsEnded = try f.counter(m.has_connections_ended, m.connections_ended, "connections_ended")
        counts.workersSilent = try f.counter(m.has_workers_silent, m.workers_silent, "workers_silent")
        counts.stagesStuck = try f.counter(m.has_stages_stuck, m.stages_stuck, "stages_stuck")
        counts.stagesSlow = try f.counter(m.has_stages_slow, m.stages_slow, "stages_slow")
        counts.stageLinksLost = try f.counter(m.has_stage_links_lost, m.stage_links_lost, "stage_links_lost")
        counts.stepsNotDelivered = try f.counter(m.has_steps_not_delivered, m.steps_not_delivered, "steps_not_delivered")
        counts.resultsLost = try f.counter(m.has_results_lost, m.results_lost, "results_lost")
        return counts
    }

    static func handoverCounts(_ p: UnsafePointer<Staffel__V1__HandoverCounts>) throws(WireError) -> HandoverCounts {
        let f = Fields("HandoverCounts")
        let m = p.pointee
        var counts = HandoverCounts()
        counts.done = try f.counter(m.has_done, m.done, "done")
        counts.rolledBack = try f.counter(m.has_rolled_back, m.rolled_back, "rolled_back")
        counts.bytesMoved = try f.counter(m.has_bytes_moved, m.bytes_moved, "bytes_moved")
        counts.lastPauseNanoseconds = try f.counter(m.has_last_pause_nanoseconds, m.last_pause_nanoseconds, "last_pause_nanoseconds")
        counts.longestPauseNanoseconds = try f.counter(
            m.has_longest_pause_nanoseconds, m.longest_pause_nanoseconds, "longest_pause_nanoseconds")
        counts.positionsRecomputed = try f.counter(m.has_positions_recomputed, m.positions_recomputed, "positions_recomputed")
        return counts
    }
}
