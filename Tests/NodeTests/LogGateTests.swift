import ClusterCore
import Testing

@testable import Node

@Suite struct LogGateTests {
    private func at(_ milliseconds: UInt64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }
    private func kind(_ peer: String, _ message: String = "a message") -> LogGate.Kind { LogGate.Kind(message: message, peer: peer) }

    @Test func whatIsSaidTooOftenIsCounted() {
        var gate = LogGate(linesMax: 2, intervalMs: 1_000)
        let passed = [0, 1, 2, 999, 1_000, 1_001, 1_002, 5_000].map { gate.pass(kind("a"), at: at($0)) }
        #expect(passed == [0, 0, nil, nil, 2, 0, nil, 1])
    }

    @Test func peersAndMessagesAreToldApart() {
        var gate = LogGate(linesMax: 1, intervalMs: 1_000)
        #expect(gate.pass(kind("a"), at: at(0)) == 0)
        #expect(gate.pass(kind("b"), at: at(0)) == 0)
        #expect(gate.pass(kind("a", "another"), at: at(0)) == 0)
        #expect(gate.pass(kind("a"), at: at(1)) == nil)
    }

    /// However many peers there are, what is remembered of them is bounded, and the newest are remembered.
    @Test func theOldestIsForgotten() {
        var gate = LogGate(linesMax: 1, intervalMs: 1_000_000)
        for peer in 0...LogGate.kindsMax { #expect(gate.pass(kind("\(peer)"), at: at(UInt64(peer))) == 0) }
        #expect(gate.pass(kind("1"), at: at(5_000)) == nil)
        #expect(gate.pass(kind("0"), at: at(5_000)) == 0)
    }

    @Test func onlyEntriesAboutPeersAreCounted() {
        var gate = LogGate(linesMax: 1, intervalMs: 1_000)
        let about = LogEntry(.warning, "refused a worker", [.init("peer", "a")])
        let without = LogEntry(.warning, "epoch ended", [.init("epoch", 3)])
        #expect((0..<3).map { _ in gate.pass(without, at: at(0)) } == [without, without, without])
        #expect((0..<3).map { _ in gate.pass(about, at: at(0)) } == [about, nil, nil])
        #expect(gate.pass(about, at: at(1_000)) == LogEntry(.warning, "refused a worker", [.init("peer", "a"), .init("left_out", 2)]))
    }
}
