import ClusterCore
import Engine
import Testing
import Wire
import ZeroMQ

@testable import Node

/// How often `eventually` asks before it gives up: for a minute at least. It counts its tries and not the time, because a task of a busy test run
/// may come to its next try minutes later.
private let triesMax = 3_000

/// Asks every 20 ms until there is an answer; throws when there is none after `triesMax` tries.
func eventually<Answer>(_ what: String, _ ask: () throws -> Answer?) async throws -> Answer {
    for _ in 0..<triesMax {
        if let answer = try ask() { return answer }
        try await Task.sleep(for: .milliseconds(20))
    }
    throw WaitedInVain(what: what)
}

private struct WaitedInVain: Error {
    let what: String
}

/// Asks a coordinator for its status until `isSo` holds for one that serves.
func serving(_ state: StateDirectory, _ isSo: (StatusReport) -> Bool = { _ in true }) async throws -> StatusReport {
    try await eventually("for a pipeline that serves") {
        let report = try CoordinatorExchange.status(state: state)
        return report.health.state == .serving && isSo(report) ? report : nil
    }
}

/// A port that a socket of ours had a moment ago.
func freePort() throws -> Int {
    let context = try Context()
    let access = try AccessList(context, domain: "port")
    defer { withExtendedLifetime(access) {} }
    let socket = try Socket(context, .pull, SocketOptions(.curveServer(CurveKeyPair.generate(), domain: "port")))
    return try #require(try Int(socket.bind("tcp://127.0.0.1:0").split(separator: ":").last!))
}
