import ClusterCore
import Engine
import Foundation
import Logging
import Synchronization
import ZeroMQ

/// A worker in the real world: a socket thread that feeds the pure `Worker` and a stage thread that computes.
package final class WorkerNode: Sendable {
    enum Input: Sendable {
        case shutdown
        case leave(withinMs: UInt64)
        case inquiry
        case report(StageThread.Report)
        case weightsWanted(ClusterCore.ModelDigest)
    }

    /// Reports and commands that wait for the socket thread; far more than the stage thread makes while one poll returns.
    private static let inputsMax = 256 + StageThread.commandsMax

    private let inputs: Mailbox<Input>
    private let inquiries = Inquiries<WorkerReport>()
    private let thread: NodeThread

    /// Listens for activations at once. Throws `NodeError` and `ZeroMQError`.
    package init(settings: WorkerSettings, logger: Logger) throws {
        let inputs = try Mailbox<Input>(capacity: Self.inputsMax)
        self.inputs = inputs
        thread = try NodeThread(name: "worker") { [inquiries] started in
            defer { inquiries.close() }
            // A question that is lost is asked again.
            let sharing = try WeightSharing(settings, logger: logger) { model in _ = inputs.post(.weightsWanted(model)) }
            defer { sharing.end() }
            var configuration = settings.stage
            configuration.supply = sharing.supply
            let turns = try WorkerTurns(inquiries)
            let calls = StageThread.Calls(whenIdle: turns.keepWatch, foretell: turns.foretell) { report in
                if turns.take(with: report) { return }
                turns.reportsWaiting.add(1, ordering: .relaxed)
                // The stage thread has at most a few reports open, so a full mailbox is a bug of ours, not load.
                precondition(inputs.post(.report(report)), "the worker's socket thread does not drain its mailbox")
            }
            let stage = StageThread(configuration: configuration, calls: calls)
            let loop = try WorkerLoop(settings: settings, logger: logger, stage: stage, sharing: sharing, inputs: inputs)
            try turns.run(loop, started: started)
        }
    }

    /// Returns when the worker has ended; throws what ended it.
    package func waitUntilEnded() async throws { try await thread.waitUntilEnded() }

    /// What this worker holds and did; `nil` when it has ended or too many ask at once. May be called from any thread.
    package func report() async -> WorkerReport? { await inquiries.ask { [inputs] in inputs.post(.inquiry) } }

    /// Has others take its layers over, for so long at most, and ends. Called again: ends at once. May be called from any thread.
    package func leave(withinMs milliseconds: UInt64) { _ = inputs.post(.leave(withinMs: milliseconds)) }

    /// Tells the coordinator and ends. May be called from any thread.
    package func shutdown() { _ = inputs.post(.shutdown) }
}

/// What a worker is started with.
package struct WorkerSettings: Sendable {
    package var enrolment: Enrolment
    package var keys: CurveKeyPair
    package var session: UInt64
    package var name: String
    package var capabilities: WorkerCapabilities
    /// Where the data socket listens, `tcp://127.0.0.1:0` for any free port.
    package var dataListen: String
    /// How the stage before this one reaches it; the listening endpoint when `nil`, which must then be one address and no wildcard.
    package var dataAdvertise: String?
    package var stage: StageThreadConfiguration
    package var weightsFrom = WeightsFrom.auto
    /// What it says that it speaks; another one in tests.
    package var version = ProtocolVersion.current
    /// Where fetched weights are kept; `nil`: none are fetched.
    package var slices: SliceCache?
    /// `nil`: weights are not handed on.
    package var weightServer: WeightServerSettings?

    package init(
        enrolment: Enrolment, keys: CurveKeyPair, session: UInt64, name: String, capabilities: WorkerCapabilities,
        dataListen: String, dataAdvertise: String?, stage: StageThreadConfiguration
    ) {
        self.enrolment = enrolment
        self.keys = keys
        self.session = session
        self.name = name
        self.capabilities = capabilities
        self.dataListen = dataListen
        self.dataAdvertise = dataAdvertise
        self.stage = stage
    }
}
