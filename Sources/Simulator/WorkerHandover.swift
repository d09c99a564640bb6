import ClusterCore

// A worker's part in a hand-over: what its stage thread copies between two steps, and the thread that prepares a slice beside it.
extension Cluster {
    func performHandover(_ effect: Worker.Effect, _ party: Int, _ process: WorkerProcess) {
        switch effect {
        case .prepare(let assignment): post(.prepare(assignment), party, process)
        case .dropPrepared: post(.dropPrepared, party, process)
        case .readBlocks(let frame): post(.read(frame), party, process)
        case .writeBlocks(let frame, let payload, let peer): post(.write(frame, take(payload, process), from: peer), party, process)
        case .adopt(let assignment): post(.adopt(assignment), party, process)
        case .admitPeers(let keys): process.peers = keys
        case .transfer(let frame, let payload, let peer): transfer(frame, payload.map { take($0, process) }, to: peer, party, process)
        case .closeTransfers:
            for transfer in process.transfers { close(links[transfer.link]) }
            process.transfers.removeAll()
        default: preconditionFailure("only hand-overs are performed here")
        }
    }

    private func transfer(_ frame: TransferFrame, _ values: [UInt64]?, to peer: StagePeer, _ party: Int, _ process: WorkerProcess) {
        let known = process.transfers.first { $0.peer == peer }?.link
        let link = known ?? openRows(from: party, to: peer)
        if known == nil { process.transfers.append((peer, link)) }
        send(.transfer(frame, values), over: link)
        if values != nil { loseSomeBlocks(over: link) }
    }

    /// A hand-over is short and rare beside all else: a connection that breaks at any time hardly ever loses one frame of several. So a few break
    /// soon after a frame was sent.
    private func loseSomeBlocks(over link: Int) {
        guard blockLossesLeft > 0, !isSettling, numbers.oneIn(3) else { return }
        // Not before a connection stands that is made for the frame.
        let greeting = links[link].state == .connected ? 0 : 2 * scenario.delayNanoseconds
        agenda.add(.ends(.transferLink(link)), at: after(greeting + UInt64(numbers.below(Int(2 * scenario.delayNanoseconds)))))
    }

    func breakTransfer(_ index: Int) {
        guard blockLossesLeft > 0, !isSettling, links[index].state == .connected, !links[index].link.isEmpty else { return }
        blockLossesLeft -= 1
        note("fault: \(Fault.blocksTailLost.rawValue)")
        coverage.count(.blocksTailLost)
        breakRows(index)
    }

    // MARK: - The stage thread

    /// About what a step takes for as many rows.
    func copyNanoseconds(_ frame: KVFrame) -> UInt64 { 1_000 + 100 * UInt64(frame.blocks.count * frame.layers.count) }

    func finishReading(_ frame: KVFrame, _ party: Int, _ process: WorkerProcess) {
        process.running = nil
        guard let values = process.stage?.read(frame) else { return failHandover(frame.epoch, "blocks were asked for that are not here", party) }
        tell(worker: party, .blocksRead(frame, payload: keep(values, process), bytes: 8 * values.count))
    }

    func finishWriting(_ frame: KVFrame, _ values: [UInt64], from peer: PeerKey, _ party: Int, _ process: WorkerProcess) {
        process.running = nil
        guard process.prepared?.epoch == frame.epoch else { return failHandover(frame.epoch, "no slice was prepared", party) }
        let size = Limits.positionsPerBlock
        var next = 0
        for block in frame.blocks {
            for layer in frame.layers {
                // Of a plan that is over: the real one refuses it, so that no hand-over to this worker can succeed.
                guard process.prepared!.memory[layer] != nil else { return fail("\(name(party)) is sent layer \(layer), which it takes for its own") }
                let first = Int(block.value) * size
                process.prepared!.memory[layer]!.replaceSubrange(first..<first + size, with: values[next..<next + size])
                next += size
            }
        }
        tell(worker: party, .blocksWritten(frame, from: peer))
    }

    func finishAdopting(_ assignment: StageAssignment, _ party: Int, _ process: WorkerProcess) {
        process.running = nil
        guard let prepared = process.prepared, prepared.epoch == assignment.epoch else {
            return failHandover(assignment.epoch, "no slice was prepared", party)
        }
        let kept = process.stage?.assignment.layers ?? 0..<0
        guard assignment.layers.allSatisfy({ prepared.memory[$0] != nil || kept.contains($0) }) else {
            return failHandover(assignment.epoch, "keys and values of a layer are missing", party)
        }
        process.stage = ToyStage(model: scenario.model, adopting: assignment, prepared: prepared.memory, keeping: process.stage)
        process.held = assignment.layers
        (process.content, process.loadedEpoch) = (assignment.epoch, assignment.epoch)
        process.prepared = nil
        note("\(name(party)) has layers \(assignment.layers) for epoch \(assignment.epoch.value)")
        tell(worker: party, .switched(assignment.epoch))
    }

    private func failHandover(_ epoch: Epoch, _ reason: String, _ party: Int) {
        tell(worker: party, .handoverFailed(epoch, Failure(.internalError, reason)))
    }

    // MARK: - The preparing thread

    func prepare(_ assignment: StageAssignment, _ party: Int, _ process: WorkerProcess) {
        process.prepared = nil
        process.preparing = assignment
        process.preparedChunks = 0
        planPreparing(party, process, after: loadNanoseconds(party))
    }

    func dropPrepared(_ process: WorkerProcess) {
        process.prepared = nil
        process.preparing = nil
    }

    private func planPreparing(_ party: Int, _ process: WorkerProcess, after nanoseconds: UInt64) {
        process.preparerJob += 1
        agenda.add(.preparer(worker: party, incarnation: hosts[party].incarnation, job: process.preparerJob), at: after(nanoseconds))
    }

    func goOnPreparing(_ party: Int, _ incarnation: Int, _ job: Int) {
        guard hosts[party].incarnation == incarnation, let process = workers[party - 1], process.preparerJob == job else { return }
        guard let assignment = process.preparing else { return }
        guard hosts[party].frozenUntil <= now else {
            return agenda.add(.preparer(worker: party, incarnation: incarnation, job: job), at: hosts[party].frozenUntil)
        }
        mix(UInt64(party) + 128)
        switch hosts[party].loading {
        case .works: break
        case .fails:
            process.preparing = nil
            if process.isAhead { return tell(worker: party, .loadedAhead(0..<0)) }
            return tell(worker: party, .handoverFailed(assignment.epoch, Failure(.loadFailed, "No room is left for the weights.")))
        case .stalls: return planPreparing(party, process, after: 200_000_000)
        }
        process.preparedChunks += 1
        let done = UInt64(process.preparedChunks)
        if !process.isAhead {
            tell(worker: party, .loadProgressed(assignment.epoch, bytesDone: done, bytesTotal: UInt64(Self.loadChunks)))
        }
        guard workers[party - 1] === process, process.preparing == assignment, process.preparerJob == job else { return }
        if process.preparedChunks < Self.loadChunks { return planPreparing(party, process, after: loadNanoseconds(party)) }
        finishPreparing(assignment, party, process)
    }

    private func finishPreparing(_ assignment: StageAssignment, _ party: Int, _ process: WorkerProcess) {
        process.preparing = nil
        if process.isAhead {
            guard process.stage == nil, process.running == nil else { return }
            process.held = assignment.layers
            process.wasAhead = true
            coverage.count(.loadedAhead)
            return tell(worker: party, .loadedAhead(assignment.layers))
        }
        let kept = process.stage?.assignment.layers ?? 0..<0
        let garbage = numbers.next()
        var memory: [Int: [UInt64]] = [:]
        for layer in assignment.layers where !kept.contains(layer) {
            memory[layer] = [UInt64](repeating: garbage, count: assignment.kvBlocks * Limits.positionsPerBlock)
        }
        process.prepared = (assignment.epoch, memory)
        tell(worker: party, .prepared(assignment.epoch))
    }
}
