import ClusterCore
import Foundation
import Wire
import ZeroMQ

/// One question to a coordinator and its answer, outside any running role: enrolling, and what the operator asks.
package enum CoordinatorExchange {
    package static let timeoutMs: UInt64 = 10_000
    private static let pollMs = 20

    /// Admits `own` to the coordinator that the join line names, by its one-time token, and keeps the enrolment in `state`.
    package static func enrol(_ line: JoinLine, own: CurveKeyPair, role: PeerRole, name: String, state: StateDirectory) throws {
        let request = EnrolRequest(version: .current, role: role, key: PeerKey(own.publicKey), name: name)
        let token = try CurveKeyPair(secretKey: CurveSecretKey(bytes: line.tokenSecret))
        let enrolment = Enrolment(endpoint: line.endpoint, coordinatorKey: line.serverKey)
        let answer: Result<Void, Failure> = try ask(.enrol(request), enrolment: enrolment, own: token) { message in
            switch message {
            case .enrolled: .success(())
            case .refused(let failure): .failure(failure)
            default: nil
            }
        }
        if case .failure(let failure) = answer {
            throw NodeError(.enrolmentFailed, "the coordinator at \(line.endpoint) refuses this \(role): \(failure.message)")
        }
        try enrolment.write(to: state)
    }

    /// Asks a coordinator for its status, with the console key that lies in its state directory.
    package static func status(state: StateDirectory) throws -> StatusReport {
        var console = try CoordinatorConsole(state: state)
        guard let report = try console.status() else { throw silence(console.endpoint) }
        return report
    }

    private static func ask<Answer>(
        _ question: ToCoordinator, enrolment: Enrolment, own: CurveKeyPair, accept: (FromCoordinator) -> Answer?
    ) throws -> Answer {
        let context = try Context()
        var link = try CoordinatorSocket(context: context, enrolment: enrolment, own: own)
        _ = try link.send(question)
        let deadline = MonotonicClock.now.advanced(milliseconds: timeoutMs)
        while MonotonicClock.now < deadline {
            var poller = Poller()
            let (messages, _) = link.watched(by: &poller)
            _ = try poller.wait(milliseconds: pollMs)
            if try link.isRefused() {
                throw NodeError(
                    .enrolmentFailed,
                    "the coordinator at \(enrolment.endpoint) doesn't admit this key: the token was used or has expired; make a new one with 'staffel token create'")
            }
            try link.flush()
            while poller.isReadable(messages), let received = try link.receiveAnswer(from: enrolment.endpoint) {
                if let answer = received.flatMap(accept) { return answer }
            }
        }
        throw silence(enrolment.endpoint)
    }

    package static func silence(_ endpoint: String) -> NodeError {
        NodeError(.coordinatorSilent, "the coordinator at \(endpoint) didn't answer within \(timeoutMs / 1000) s: is it running, and reachable from here?")
    }
}
