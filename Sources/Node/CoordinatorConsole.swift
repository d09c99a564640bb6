import ClusterCore
import Foundation
import ZeroMQ

/// The operator's lasting connection to a coordinator, for whoever asks again and again. It finds a restarted coordinator by itself.
package struct CoordinatorConsole: ~Copyable {
    private static let pollMs = 20

    private let context: Context
    package let endpoint: String
    private var link: CoordinatorSocket

    /// With the console key that lies in the coordinator's state directory. Throws `NodeError`, code `coordinatorSilent`, for any other folder.
    package init(state: StateDirectory) throws {
        guard let enrolment = try Enrolment.read(from: state), FileManager.default.fileExists(atPath: state.file("console.key")) else {
            throw NodeError(.coordinatorSilent, "\(state.path) is no coordinator's state directory: name the one that 'staffel coordinator' was given with --state")
        }
        let own = try CurveKeyFile(path: state.file("console.key")).load()
        let context = try Context()
        let link = try CoordinatorSocket(context: context, enrolment: enrolment, own: own)
        self.context = context
        self.link = link
        endpoint = enrolment.endpoint
    }

    /// The cluster's status; `nil` when no answer came in time.
    package mutating func status(timeoutMs: UInt64 = CoordinatorExchange.timeoutMs) throws -> StatusReport? {
        try ask(.statusQuery, timeoutMs: timeoutMs) { if case .status(let report) = $0 { report } else { nil } }
    }

    /// Asks for a worker's draining, or how far it is; `nil` when no answer came in time.
    package mutating func drain(_ request: DrainRequest, timeoutMs: UInt64 = CoordinatorExchange.timeoutMs) throws -> DrainStatus? {
        try ask(.drain(request), timeoutMs: timeoutMs) { if case .drainStatus(let status) = $0 { status } else { nil } }
    }

    private mutating func ask<Answer>(
        _ question: ToCoordinator, timeoutMs: UInt64, _ accept: (FromCoordinator) -> Answer?
    ) throws -> Answer? {
        // An answer that comes after its question was given up is as good as the next one.
        _ = try link.send(question)
        let deadline = MonotonicClock.now.advanced(milliseconds: timeoutMs)
        while MonotonicClock.now < deadline {
            var poller = Poller()
            let (messages, _) = link.watched(by: &poller)
            _ = try poller.wait(milliseconds: Self.pollMs)
            if try link.isRefused() {
                throw NodeError(.enrolmentFailed, "the coordinator at \(endpoint) doesn't admit the key in its own folder: it was started with another --state")
            }
            try link.flush()
            var newest: Answer?
            while poller.isReadable(messages), let received = try link.receiveAnswer(from: endpoint) {
                if let answer = received.flatMap(accept) { newest = answer }
            }
            if let newest { return newest }
        }
        return nil
    }
}
