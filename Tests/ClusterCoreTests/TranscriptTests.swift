import Foundation
import Testing

@testable import ClusterCore

/// Event lines and the effects they must have, as text files that a reviewer reads as a diff. `STAFFEL_RECORD_TRANSCRIPTS=1` writes them anew.
///
///     # a comment
///     > TIME PARTY WORDS        an event: time in ms, who speaks, what it says
///       WORDS                   an effect
@Suite struct TranscriptTests {
    static let names = [
        "serve-one", "worker-dies", "cancel", "cancel-choice", "no-capacity", "refusals", "restart", "restart-held", "gateway-lost", "hung-stage",
        "lost-frames", "shutdown", "old-slice", "forgotten-slice", "stood-still",
    ]

    @Test(arguments: names) func coordinator(name: String) throws {
        let source = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Transcripts/coordinator-\(name).txt")
        let records = ProcessInfo.processInfo.environment["STAFFEL_RECORD_TRANSCRIPTS"] == "1"
        let folder = Bundle.module.resourceURL!.appending(path: "Transcripts")
        let expected = try String(contentsOf: records ? source : folder.appending(path: "coordinator-\(name).txt"), encoding: .utf8)
        var player = CoordinatorPlayer()
        let played = try player.play(expected)
        if records { try played.write(to: source, atomically: true, encoding: .utf8) } else { #expect(played == expected) }
    }
}

private struct CoordinatorPlayer {
    struct BadLine: Error, CustomStringConvertible {
        var description: String
    }

    private var coordinator: Coordinator
    private var now = Instant(nanoseconds: 0)

    init() {
        var model = ToyModel().profile
        model.kvBytesPerTokenPerLayer = 1
        var configuration = CoordinatorConfiguration(session: 1, model: model, modelPath: "/m", expectedWorkers: 2, contextTokens: 64)
        configuration.replicas = .exactly(1)
        // Times that are easy to read.
        configuration.heartbeatIntervalMs = 1_200
        configuration.heartbeatTimeoutMs = 3_000
        configuration.linkDeadlineFloorMs = configuration.stepDeadlineFloorMs
        configuration.kvBlocksMax = 4
        configuration.prefillRowsPerStep = 4
        configuration.recoveryWaitMs = 8_000
        coordinator = Coordinator(configuration: configuration, at: Instant(nanoseconds: 0))
    }

    mutating func play(_ text: String) throws -> String {
        var lines: [String] = []
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.hasPrefix("  ") { continue }
            lines.append(String(line))
            guard line.hasPrefix("> ") else { continue }
            var words = line.dropFirst(2).split(separator: " ").map(String.init)
            guard let milliseconds = UInt64(words.removeFirst()) else { throw BadLine(description: "no time: \(line)") }
            now = Instant(nanoseconds: milliseconds * 1_000_000)
            guard let event = event(words) else { throw BadLine(description: "not understood: \(line)") }
            var effects: [Coordinator.Effect] = []
            coordinator.handle(event, at: now, into: &effects)
            lines += effects.compactMap(Self.words).map { "  " + $0 }
        }
        return lines.joined(separator: "\n")
    }

    // MARK: - Events

    private func event(_ words: [String]) -> Coordinator.Event? {
        switch words[0] {
        case "deadline": return .deadline
        case "shutdown": return .shutdown
        case "malformed": return .malformedFrame(from: nil)
        default: break
        }
        guard let peer = Self.key(words[0]), words.count >= 2 else { return nil }
        if words[1] == "disconnected" { return .disconnected(peer) }
        if words[1] == "enrols" {
            return .enrolRequested(EnrolRequest(version: .current, role: .worker, key: peer, name: words[0]), overToken: Self.key("w99")!)
        }
        let role: PeerRole = words[0].hasPrefix("w") ? .worker : .gateway
        return message(Array(words.dropFirst()), name: words[0], role: role).map { .received($0, from: peer, role: role) }
    }

    private func message(_ words: [String], name: String, role: PeerRole) -> ToCoordinator? {
        func number(_ label: String, else missing: UInt64) -> UInt64 {
            words.firstIndex(of: label).flatMap { UInt64(words[$0 + 1]) } ?? missing
        }
        func list(_ label: String) -> [TokenID] {
            words.firstIndex(of: label).map { words[$0 + 1].split(separator: ",").compactMap { TokenID($0) } } ?? []
        }
        let version = ProtocolVersion(major: UInt32(number("version", else: UInt64(ProtocolVersion.current.major))), minor: 0)
        let epoch = Epoch(number("epoch", else: coordinator.deployment.epoch.value))
        switch words[0] {
        case "hello" where role == .worker:
            let holding = words.contains("holds") ? HeldSlice(epoch: Epoch(number("holds", else: 0)), modelDigest: ToyModel().profile.digest, layers: Int(number("from", else: 0))..<Int(number("to", else: 3))) : nil
            return .workerHello(
                WorkerHello(
                    version: version, session: number("session", else: 1), name: name,
                    capabilities: WorkerCapabilities(
                        memoryBytes: number("memory", else: 7_000), threads: 1, isa: "portable", readBytesPerSecond: 1_000, opsPerSecond: 1_000),
                    dataEndpoint: "tcp://\(name):1", holding: holding, lastEpoch: holding?.epoch ?? Epoch(0)))
        case "hello": return .gatewayHello(GatewayHello(version: version, session: number("session", else: 1), name: name))
        case "heartbeat": return .heartbeat(Heartbeat(epoch: epoch, lastStep: StepNumber(number("step", else: 0)), stepsQueued: 0))
        case "loaded": return .loaded(epoch)
        case "progress": return .loadProgress(LoadProgress(epoch: epoch, bytesDone: number("bytes", else: 1), bytesTotal: 9))
        case "loadFailed": return .loadFailed(epoch, Failure(.loadFailed, "the file is not there"))
        case "stepFailed":
            let code: FailureCode = words.contains("lost") ? .frameLost : .internalError
            return .stepFailed(epoch, StepNumber(number("step", else: 1)), Failure(code, "step \(number("step", else: 1)) is the trouble"))
        case "leaving": return .leaving
        case "result":
            let tokens = list("tokens")
            let sampled = list("sampled")
            let positions = list("at")
            let entries = zip(zip(sampled, positions), tokens).map {
                SampledToken(sequence: SequenceID(UInt64($0.0.0)), position: Int($0.0.1), emitted: EmittedToken(token: $0.1))
            }
            let poisoned = list("poisoned").map { PoisonedSequence(sequence: SequenceID(UInt64($0)), layers: 1..<2) }
            return .stepResult(
                StepResult(epoch: epoch, number: StepNumber(number("step", else: 1)), tokens: entries, poisoned: poisoned, timings: []))
        case "submit":
            var sampling = SamplingParameters()
            sampling.maxTokens = Int32(number("max", else: 4))
            let resumed = list("resumed")
            return .submit(
                GenerationRequest(
                    id: RequestID(high: 0, low: number("request", else: 1)), prompt: list("prompt"), sampling: sampling,
                    choices: Int(number("choices", else: 1)), resumed: resumed.isEmpty ? [] : [resumed],
                    continues: words.contains("continues") ? RequestID(high: 0, low: number("continues", else: 0)) : nil))
        case "cancel": return .cancel(RequestID(high: 0, low: number("request", else: 1)))
        case "cancelChoice": return .cancelChoice(RequestID(high: 0, low: number("request", else: 1)), UInt32(number("choice", else: 0)))
        default: return nil
        }
    }

    private static func key(_ name: String) -> PeerKey? {
        guard let number = UInt8(name.dropFirst()), "wg".contains(name.prefix(1)) else { return nil }
        return PeerKey(bytes: [name.hasPrefix("w") ? 1 : 2, number] + [UInt8](repeating: 0, count: 30))
    }

    private static func name(_ key: PeerKey) -> String { (key.bytes[0] == 1 ? "w" : "g") + String(key.bytes[1]) }

    // MARK: - Effects

    private static func words(_ effect: Coordinator.Effect) -> String? {
        switch effect {
        case .send(let message, let peer): return "to \(name(peer)): " + words(message)
        case .admit(let peer, let role, let name): return "admit \(Self.name(peer)) as \(role) named \(name)"
        case .consumeToken(let token): return "consume token \(name(token))"
        case .log(let entry):
            let reason = entry.fields.first { $0.key == "reason" || $0.key == "cause" }.map { ": " + $0.value } ?? ""
            return entry.level == .debug ? nil : "log \(entry.level) \(entry.message)\(reason)"
        case .draft(let wish): return "draft \(wish.count) tokens behind \(wish.tokens) of \(wish.sequence.value)"
        case .admitFetchers(let keys): return "admit fetchers \(keys.map(name))"
        case .hashWeights: return "hash weights"
        case .trace: return "trace"
        case .ended: return "ended"
        }
    }

    private static func words(_ message: FromCoordinator) -> String {
        switch message {
        case .enrolled: "enrolled"
        case .refused(let failure): "refused \(failure.code): \(failure.message)"
        case .workerWelcome: "welcome"
        case .gatewayWelcome(let welcome): "welcome, \(welcome.health.state): \(welcome.health.detail)"
        case .heartbeatReply: "heartbeat"
        case .assign(let stage):
            "assign epoch \(stage.epoch.value) stage \(stage.stage) of \(stage.stageCount) layers \(stage.layers) blocks \(stage.kvBlocks)"
                + (stage.upstream.map { " from \(name($0))" } ?? "") + (stage.downstream.map { " to \(name($0.key)) at \($0.endpoint)" } ?? "")
        case .release(let epoch): "release epoch \(epoch.value)"
        case .step(let step): words(step)
        case .health(let health): "health \(health.state): \(health.detail)"
        case .tokens(let batch): "tokens \(batch.request.low).\(batch.choice) from \(batch.firstIndex): \(batch.tokens.map(\.token))"
        case .finished(let id, let choice, let count, let reason): "finished \(id.low).\(choice) with \(count) tokens: \(reason)"
        case .failed(let id, let failure): "failed \(id.low) \(failure.code): \(failure.message)"
        case .status: "status"
        case .closing: "closing"
        case .handover(let order): "hand over \(order)"
        case .drainStatus(let status): "drain \(status.state): \(status.detail)"
        case .weightsOffer(let offer): "weights from \(offer.sources.map { name($0.key) }), manifest \(offer.manifest == nil ? "not yet" : "known")"
        case .loadAhead(let assignment): "load ahead \(assignment.layers)"
        case .weightsFetchers(let keys): "fetchers \(keys.map(name))"
        }
    }

    private static func words(_ step: Step) -> String {
        let opens = step.opens.map { " opens \($0.sequence.value)\($0.tokens)" + ($0.cached > 0 ? " cached \($0.cached)" : "") }.joined()
        let closes = step.closes.map { " closes \($0.value)" }.joined()
        let copies = step.copies.map { " copies \($0.from.value) to \($0.to.value)" }.joined()
        let rows = step.segments.map { segment in
            " rows \(segment.sequence.value)@\(segment.start)\(segment.tokens)" + (segment.newBlocks.isEmpty ? "" : " blocks \(segment.newBlocks.map(\.value))")
                + (segment.samples ? " sampled" : "")
        }
        return "step \(step.epoch.value).\(step.number.value)" + closes + copies + opens + rows.joined()
    }
}
