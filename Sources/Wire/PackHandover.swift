import CWire
import ClusterCore

// Layers that move between workers, and workers that leave, as protobuf-c's structs.

extension PackArena {
    func handoverOrder(_ value: HandoverOrder) -> UnsafeMutablePointer<Staffel__V1__HandoverOrder> {
        make(staffel__v1__handover_order__init) { m in
            switch value {
            case .prepare(let assignment, let sources):
                m.kind_case = STAFFEL__V1__HANDOVER_ORDER__KIND_PREPARE
                m.prepare = make(staffel__v1__prepare_order__init) { m in
                    m.assignment = stageAssignment(assignment)
                    (m.n_sources, m.sources) = (sources.count, table(sources, stagePeer))
                }
            case .send(let order): (m.kind_case, m.send) = (STAFFEL__V1__HANDOVER_ORDER__KIND_SEND, kvOrder(order))
            case .adopt(let epoch): (m.kind_case, m.adopt) = (STAFFEL__V1__HANDOVER_ORDER__KIND_ADOPT, epochNote(epoch))
            case .abandon(let epoch): (m.kind_case, m.abandon) = (STAFFEL__V1__HANDOVER_ORDER__KIND_ABANDON, epochNote(epoch))
            }
        }
    }

    private func kvOrder(_ value: KVOrder) -> UnsafeMutablePointer<Staffel__V1__KvOrder> {
        make(staffel__v1__kv_order__init) { m in
            (m.has_epoch, m.epoch) = (1, value.epoch.value)
            (m.has_round, m.round) = (1, UInt32(value.round))
            (m.n_blocks, m.blocks) = (value.blocks.count, copy(value.blocks.map(\.value)))
            (m.n_targets, m.targets) = (value.targets.count, table(value.targets, kvTarget))
            (m.has_block_bytes, m.block_bytes) = (1, UInt32(clamping: value.blockBytes))
        }
    }

    private func kvTarget(_ value: KVTarget) -> UnsafeMutablePointer<Staffel__V1__KvTarget> {
        make(staffel__v1__kv_target__init) { m in
            m.peer = stagePeer(value.peer)
            m.layers = layerRange(value.layers)
        }
    }

    func handoverReport(_ value: HandoverReport) -> UnsafeMutablePointer<Staffel__V1__HandoverReport> {
        make(staffel__v1__handover_report__init) { m in
            (m.has_epoch, m.epoch, m.has_state) = (1, value.epoch.value, 1)
            switch value {
            case .prepared: m.state = STAFFEL__V1__HANDOVER_STATE__HANDOVER_STATE_PREPARED
            case .progress(_, let bytes):
                m.state = STAFFEL__V1__HANDOVER_STATE__HANDOVER_STATE_PROGRESS
                (m.has_bytes_sent, m.bytes_sent) = (1, bytes)
            case .sent(_, let round, let bytes):
                m.state = STAFFEL__V1__HANDOVER_STATE__HANDOVER_STATE_SENT
                (m.has_round, m.round) = (1, UInt32(round))
                (m.has_bytes_sent, m.bytes_sent) = (1, bytes)
            case .switched: m.state = STAFFEL__V1__HANDOVER_STATE__HANDOVER_STATE_SWITCHED
            case .failed(_, let failure):
                m.state = STAFFEL__V1__HANDOVER_STATE__HANDOVER_STATE_FAILED
                m.failure = self.failure(failure)
            }
        }
    }

    func transferFrame(_ value: TransferFrame) -> UnsafeMutablePointer<Staffel__V1__TransferFrame> {
        make(staffel__v1__transfer_frame__init) { m in
            switch value {
            case .blocks(let frame):
                m.kind_case = STAFFEL__V1__TRANSFER_FRAME__KIND_BLOCKS
                m.blocks = make(staffel__v1__kv_frame__init) { m in
                    (m.has_epoch, m.epoch) = (1, frame.epoch.value)
                    (m.has_number, m.number) = (1, frame.number)
                    m.layers = layerRange(frame.layers)
                    (m.n_blocks, m.blocks) = (frame.blocks.count, copy(frame.blocks.map(\.value)))
                }
            case .receipt(let receipt):
                m.kind_case = STAFFEL__V1__TRANSFER_FRAME__KIND_RECEIPT
                m.receipt = make(staffel__v1__kv_receipt__init) { m in
                    (m.has_epoch, m.epoch) = (1, receipt.epoch.value)
                    (m.has_number, m.number) = (1, receipt.number)
                }
            }
        }
    }

    func drainRequest(_ value: DrainRequest) -> UnsafeMutablePointer<Staffel__V1__DrainRequest> {
        make(staffel__v1__drain_request__init) { m in
            (m.has_worker, m.worker) = (1, name(value.worker))
            (m.has_undo, m.undo) = (1, value.isUndone ? 1 : 0)
        }
    }

    func drainStatus(_ value: DrainStatus) -> UnsafeMutablePointer<Staffel__V1__DrainStatus> {
        make(staffel__v1__drain_status__init) { m in
            (m.has_state, m.state) = (1, Staffel__V1__DrainState(rawValue: .init(value.state.rawValue)))
            (m.has_detail, m.detail) = (1, sentence(value.detail))
        }
    }

    func rebuildCounts(_ value: RebuildCounts) -> UnsafeMutablePointer<Staffel__V1__RebuildCounts> {
        make(staffel__v1__rebuild_counts__init) { m in
            (m.has_recoveries, m.recoveries) = (1, value.recoveries)
            (m.has_layer_positions_kept, m.layer_positions_kept) = (1, value.layerPositionsKept)
            (m.has_layer_positions_all, m.layer_positions_all) = (1, value.layerPositionsAll)
            (m.has_layer_positions_rebuilt, m.layer_positions_rebuilt) = (1, value.layerPositionsRebuilt)
            (m.has_positions_from_inputs, m.positions_from_inputs) = (1, value.positionsFromInputs)
        }
    }

    func faultCounts(_ value: FaultCounts) -> UnsafeMutablePointer<Staffel__V1__FaultCounts> {
        make(staffel__v1__fault_counts__init) { m in
            (m.has_connections_ended, m.connections_ended) = (1, value.connectionsEnded)
            (m.has_workers_silent, m.workers_silent) = (1, value.workersSilent)
            (m.has_stages_stuck, m.stages_stuck) = (1, value.stagesStuck)
            (m.has_stages_slow, m.stages_slow) = (1, value.stagesSlow)
            (m.has_stage_links_lost, m.stage_links_lost) = (1, value.stageLinksLost)
            (m.has_steps_not_delivered, m.steps_not_delivered) = (1, value.stepsNotDelivered)
            (m.has_results_lost, m.results_lost) = (1, value.resultsLost)
        }
    }

    func handoverCounts(_ value: HandoverCounts) -> UnsafeMutablePointer<Staffel__V1__HandoverCounts> {
        make(staffel__v1__handover_counts__init) { m in
            (m.has_done, m.done) = (1, value.done)
            (m.has_rolled_back, m.rolled_back) = (1, value.rolledBack)
            (m.has_bytes_moved, m.bytes_moved) = (1, value.bytesMoved)
            (m.has_last_pause_nanoseconds, m.last_pause_nanoseconds) = (1, value.lastPauseNanoseconds)
            (m.has_longest_pause_nanoseconds, m.longest_pause_nanoseconds) = (1, value.longestPauseNanoseconds)
            (m.has_positions_recomputed, m.positions_recomputed) = (1, value.positionsRecomputed)
        }
    }
}
