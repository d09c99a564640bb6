// A worker's layers move while it serves.

extension Worker {
    mutating func received(_ order: HandoverOrder, _ now: Instant, _ effects: inout [Effect]) {
        switch order {
        case .prepare(let assignment, let sources): prepare(assignment, sources, &effects)
        case .send(let order): send(order, &effects)
        case .adopt(let epoch): adopt(epoch, &effects)
        case .abandon(let epoch):
            // Once it has changed over there is nothing to go back to; the coordinator will say what comes.
            guard handover?.epoch == epoch, handover?.state != .adopting else { return }
            endHandover(&effects)
            effects.append(.log(LogEntry(.notice, "a hand-over was given up", [.init("epoch", epoch.value)])))
        }
    }

    private mutating func prepare(_ assignment: StageAssignment, _ sources: [StagePeer], _ effects: inout [Effect]) {
        guard assignment.epoch > lastEpoch else { return drop(.oldEpoch, from: nil, &effects) }
        guard isSound(assignment) else { return drop(.invalid, from: nil, &effects) }
        if handover?.epoch == assignment.epoch { return drop(.wrongState, from: nil, &effects) }
        endHandover(&effects)
        handover = WorkerHandover(preparing: assignment, sources: sources)
        forgetAhead()
        effects.append(
            .log(
                LogEntry(
                    .notice, "preparing a stage",
                    [
                        .init("epoch", assignment.epoch.value), .init("stage", assignment.stage),
                        .init("layers", "\(assignment.layers.lowerBound)..<\(assignment.layers.upperBound)"),
                    ])))
        effects.append(.admitPeers(handover!.peers))
        effects.append(.prepare(assignment))
    }

    mutating func prepared(_ epoch: Epoch, _ effects: inout [Effect]) {
        guard handover?.epoch == epoch, handover?.state == .preparing else { return }
        handover!.state = .prepared
        effects.append(.send(.handoverReport(.prepared(epoch))))
    }

    /// A part of a hand-over can't be done: the stage that serves goes on.
    mutating func handoverFailed(_ epoch: Epoch, _ failure: Failure, _ effects: inout [Effect]) {
        guard let handover, handover.epoch == epoch else { return }
        effects.append(.log(LogEntry(.warning, "a part of a hand-over failed", [.init("reason", failure.message)])))
        effects.append(.send(.handoverReport(.failed(epoch, failure))))
        if handover.state == .adopting { stage?.state = .broken }
        endHandover(&effects)
    }

    // MARK: - Giving

    private mutating func send(_ order: KVOrder, _ effects: inout [Effect]) {
        guard let stage, stage.state == .serving, order.epoch > stage.assignment.epoch else { return drop(.wrongState, from: nil, &effects) }
        let isHeld = order.targets.allSatisfy { target in
            !target.layers.isEmpty && stage.assignment.layers.lowerBound <= target.layers.lowerBound
                && target.layers.upperBound <= stage.assignment.layers.upperBound
        }
        guard isHeld, !order.targets.isEmpty, !order.blocks.isEmpty, order.blocks.allSatisfy({ Int($0.value) < stage.assignment.kvBlocks }) else {
            return drop(.invalid, from: nil, &effects)
        }
        if handover == nil { handover = WorkerHandover(givingIn: order.epoch) }
        guard handover!.epoch == order.epoch, handover!.begin(order) else { return drop(.wrongState, from: nil, &effects) }
        effects.append(.admitPeers(handover!.peers))
        sendOn(&effects)
    }

    private mutating func sendOn(_ effects: inout [Effect]) {
        while let frame = handover?.next() { effects.append(.readBlocks(frame)) }
        guard let handover, handover.isRoundDone else { return }
        effects.append(.send(.handoverReport(.sent(handover.epoch, round: handover.round, bytesSent: handover.bytesSent))))
    }

    mutating func blocksRead(_ frame: KVFrame, _ payload: PayloadHandle, bytes: Int, _ effects: inout [Effect]) {
        guard handover?.epoch == frame.epoch, let peer = handover!.wasRead(frame, bytes: bytes) else { return effects.append(.discard(payload)) }
        effects.append(.transfer(.blocks(frame), payload: payload, to: peer))
    }

    // MARK: - From worker to worker

    mutating func transferred(_ frame: TransferFrame, _ payload: PayloadHandle?, from peer: PeerKey, _ effects: inout [Effect]) {
        switch (frame, payload) {
        case (.blocks(let frame), .some(let payload)): blocksCame(frame, payload, from: peer, &effects)
        case (.receipt(let receipt), nil):
            guard handover?.epoch == receipt.epoch, handover!.received(receipt, from: peer) else { return drop(.wrongState, from: peer, &effects) }
            if handover!.shouldTell() { effects.append(.send(.handoverReport(.progress(receipt.epoch, bytesSent: handover!.bytesSent)))) }
            sendOn(&effects)
        case (_, let payload):
            if let payload { effects.append(.discard(payload)) }
            drop(.invalid, from: peer, &effects)
        }
    }

    private mutating func blocksCame(_ frame: KVFrame, _ payload: PayloadHandle, from peer: PeerKey, _ effects: inout [Effect]) {
        let arrival = handover?.epoch == frame.epoch ? handover!.take(frame, from: peer) : .wrong(.oldEpoch)
        switch arrival {
        case .expected: effects.append(.writeBlocks(frame, payload: payload, from: peer))
        case .wrong(let cause):
            effects.append(.discard(payload))
            drop(cause, from: peer, &effects)
        case .gap:
            effects.append(.discard(payload))
            handoverFailed(frame.epoch, Failure(.frameLost, "keys and values were lost on their way"), &effects)
        }
    }

    mutating func blocksWritten(_ frame: KVFrame, from peer: PeerKey, _ effects: inout [Effect]) {
        guard let handover, handover.epoch == frame.epoch, let source = handover.sources.first(where: { $0.peer.key == peer }) else { return }
        effects.append(.transfer(.receipt(KVReceipt(epoch: frame.epoch, number: frame.number)), payload: nil, to: source.peer))
    }

    // MARK: - Changing over

    /// No step is under way anywhere when this comes; where one is after all, something went wrong that only a new epoch mends.
    private mutating func adopt(_ epoch: Epoch, _ effects: inout [Effect]) {
        guard let handover, handover.epoch == epoch, handover.state == .prepared, let next = handover.assignment else {
            return drop(.wrongState, from: nil, &effects)
        }
        let before = stage
        guard before.map({ $0.state == .serving && $0.queue.isEmpty && $0.computing.isEmpty }) ?? true else {
            return handoverFailed(epoch, Failure(.internalError, "a step is under way where none should be"), &effects)
        }
        self.handover!.state = .adopting
        lastEpoch = epoch
        stage = Stage(assignment: next, ledger: StageLedger(kvBlocks: next.kvBlocks))
        effects.append(.admitUpstream(next.upstream))
        // A connection that stands needs no new greeting.
        if before?.assignment.downstream != next.downstream || before == nil { effects.append(.connectDownstream(next.downstream)) }
        effects.append(.adopt(next))
    }

    mutating func switched(_ epoch: Epoch, _ now: Instant, _ effects: inout [Effect]) {
        guard let handover, handover.epoch == epoch, handover.state == .adopting, stage?.assignment.epoch == epoch else { return }
        stage!.state = .serving
        stage!.idleSince = now
        self.handover = nil
        effects.append(.closeTransfers)
        effects.append(.admitPeers([]))
        effects.append(.send(.handoverReport(.switched(epoch))))
        effects.append(.log(LogEntry(.notice, "serving a stage that was handed over", [.init("epoch", epoch.value)])))
    }

    /// Whatever becomes of the worker, nothing of a hand-over is left.
    mutating func endHandover(_ effects: inout [Effect]) {
        guard handover != nil else { return }
        handover = nil
        effects.append(.dropPrepared)
        effects.append(.closeTransfers)
        effects.append(.admitPeers([]))
    }

    // MARK: - Leaving

    /// Asks to be relieved of its layers; ends when they are gone, when nobody takes them, or after so long.
    mutating func wishToLeave(withinMs milliseconds: UInt64, _ now: Instant, _ effects: inout [Effect]) {
        guard leavingBy == nil else { return leave(&effects) }
        guard stage != nil || handover != nil, link.isJoined, milliseconds > 0, coordinatorMinor >= ProtocolVersion.handoverMinor else {
            return leave(&effects)
        }
        leavingBy = now.advanced(milliseconds: milliseconds)
        effects.append(.log(LogEntry(.notice, "handing layers over before the end", [.init("seconds", milliseconds / 1_000)])))
        effects.append(.send(.wishToLeave))
    }

    mutating func drainAnswered(_ status: DrainStatus, _ effects: inout [Effect]) {
        guard leavingBy != nil else { return drop(.wrongState, from: nil, &effects) }
        if status.state == .refused {
            effects.append(.log(LogEntry(.warning, "ending without a hand-over", [.init("reason", status.detail)])))
        }
        if status.state == .drained || status.state == .refused { leave(&effects) }
    }
}
