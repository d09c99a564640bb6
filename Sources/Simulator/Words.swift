import ClusterCore

// Messages as a person reads them in a trace.

extension ToCoordinator {
    var words: String {
        switch self {
        case .enrol: "enrol"
        case .workerHello(let hello): "hello, last epoch \(hello.lastEpoch.value), holding \(hello.holding.map { "\($0.layers) of epoch \($0.epoch.value)" } ?? "nothing")"
        case .gatewayHello: "hello"
        case .heartbeat(let beat): "heartbeat, epoch \(beat.epoch.value) step \(beat.lastStep.value)"
        case .loadProgress(let progress): "epoch \(progress.epoch.value) loaded \(progress.bytesDone) of \(progress.bytesTotal)"
        case .loaded(let epoch, let kept): "loaded epoch \(epoch.value), kept \(kept)"
        case .loadFailed(let epoch, let failure): "could not load epoch \(epoch.value): \(failure.message)"
        case .stepResult(let result): "result of epoch \(result.epoch.value) step \(result.number.value), \(result.tokens.count) tokens"
        case .stepFailed(let epoch, let number, let failure): "epoch \(epoch.value) step \(number.value) failed: \(failure.message)"
        case .leaving: "leaving"
        case .submit(let request): "submit \(request.id.low % 1_000_000), resumed \(request.resumed.map(\.count))"
        case .cancel(let id): "cancel \(id.low % 1_000_000)"
        case .cancelChoice(let id, let choice): "cancel choice \(choice) of \(id.low % 1_000_000)"
        case .statusQuery: "status?"
        case .handoverReport(let report): report.words
        case .drain(let request): "\(request.isUndone ? "take back" : "drain") \(request.worker)"
        case .wishToLeave: "wants to leave"
        case .weightsQuery: "weights?"
        }
    }
}

extension FromCoordinator {
    var words: String {
        switch self {
        case .enrolled: "enrolled"
        case .refused(let failure): "refused: \(failure.message)"
        case .workerWelcome, .gatewayWelcome: "welcome"
        case .heartbeatReply: "heartbeat"
        case .assign(let assignment): "epoch \(assignment.epoch.value): stage \(assignment.stage) of \(assignment.stageCount), layers \(assignment.layers)"
        case .release(let epoch): "release, epoch \(epoch.value)"
        case .step(let step): step.words
        case .health(let health): "health \(health.state): \(health.detail)"
        case .tokens(let batch): "tokens of \(batch.request.low % 1_000_000)/\(batch.choice) from \(batch.firstIndex), \(batch.tokens.count)"
        case .finished(let id, let choice, let count, let reason): "finished \(id.low % 1_000_000)/\(choice) with \(reason) after \(count)"
        case .failed(let id, let failure): "failed \(id.low % 1_000_000): \(failure.message)"
        case .status: "status"
        case .closing: "closing"
        case .handover(let order): order.words
        case .drainStatus(let status): "\(status.state): \(status.detail)"
        case .weightsOffer: "weights"
        case .loadAhead(let assignment): "load ahead layers \(assignment.layers)"
        case .weightsFetchers(let keys): "\(keys.count) fetch weights"
        }
    }
}

extension HandoverOrder {
    var words: String {
        switch self {
        case .prepare(let assignment, _): "prepare epoch \(assignment.epoch.value): stage \(assignment.stage) of \(assignment.stageCount), layers \(assignment.layers)"
        case .send(let order): "hand over for epoch \(order.epoch.value), round \(order.round): blocks \(order.blocks.map(\.value)) to \(order.targets.map { "\($0.layers)" })"
        case .adopt(let epoch): "change over to epoch \(epoch.value)"
        case .abandon(let epoch): "abandon epoch \(epoch.value)"
        }
    }
}

extension HandoverReport {
    var words: String {
        switch self {
        case .prepared(let epoch): "prepared epoch \(epoch.value)"
        case .progress(let epoch, let bytes): "sent \(bytes) bytes for epoch \(epoch.value)"
        case .sent(let epoch, let round, let bytes): "sent round \(round) for epoch \(epoch.value), \(bytes) bytes so far"
        case .switched(let epoch): "changed over to epoch \(epoch.value)"
        case .failed(let epoch, let failure): "failed to hand over for epoch \(epoch.value): \(failure.message)"
        }
    }
}

extension TransferFrame {
    var words: String {
        switch self {
        case .blocks(let frame): "keys and values for epoch \(frame.epoch.value), frame \(frame.number), layers \(frame.layers), blocks \(frame.blocks.map(\.value))"
        case .receipt(let receipt): "receipt of frame \(receipt.number) for epoch \(receipt.epoch.value)"
        }
    }
}

extension StreamEvent {
    var words: String {
        switch self {
        case .tokens(let choice, let tokens): "choice \(choice): \(tokens.map(\.token))"
        case .finished(let choice, let reason): "choice \(choice) finished with \(reason)"
        case .failed(let failure): "failed, \(failure.code): \(failure.message)"
        case .paused(let why): "paused: \(why)"
        case .resumed: "resumed"
        }
    }
}

extension Scenario {
    var words: String {
        """
        scenario: \(workers) workers of \(memoryBytes[0]) bytes, \(configuration.expectedWorkers) expected, \(gateways) gateways, \
        \(model.layerCount) layers, context \(model.contextTokens), vocabulary \(model.vocabulary), at most \(configuration.kvBlocksMax) blocks, \
        replicas \(configuration.replicas), a message takes \(delayNanoseconds / 1_000) us, a step \(stepNanoseconds / 1_000) us, \
        a load \(loadNanoseconds / 1_000) us, \(requestCount) requests, \(faultCount) faults
        """
    }
}

extension Step {
    var words: String {
        let segments = segments.map { segment in
            "\(segment.sequence.value)@\(segment.start)+\(segment.tokens.count)" + (segment.drafts > 0 ? "(\(segment.drafts) guessed)" : "")
                + (segment.newBlocks.isEmpty ? "" : " blocks \(segment.newBlocks.map(\.value))")
        }
        return "epoch \(epoch.value) step \(number.value): " + segments.joined(separator: ", ")
            + (opens.isEmpty ? "" : "; opens \(opens.map { "\($0.sequence.value) cached \($0.cached)" })")
            + (closes.isEmpty ? "" : "; closes \(closes.map(\.value))")
            + (copies.isEmpty ? "" : "; copies \(copies.map { "\($0.from.value) to \($0.to.value)" })")
    }
}
