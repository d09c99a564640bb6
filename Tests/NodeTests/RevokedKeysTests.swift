import ClusterCore
import Testing

@testable import Node

@Suite struct RevokedKeysTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func key(_ byte: UInt8) -> PeerKey { PeerKey(bytes: [UInt8](repeating: byte, count: 32))! }

    @Test func whatWasRevokedStaysSo() throws {
        let state = try folder.state()
        let revoked = try RevokedKeys(directory: state)
        #expect(revoked.all().isEmpty && revoked.note(of: key(1)).isEmpty)
        try revoked.add(key(2), note: "worker\nbox 2")
        try revoked.add(key(1), note: "gateway g")
        try revoked.add(key(1), note: "gateway g")
        #expect(try RevokedKeys(directory: state).all() == [key(1), key(2)])
        #expect(revoked.note(of: key(2)) == "workerbox 2", "one line each")
        try folder.write([1], to: "revoked/not-a-key")
        #expect(revoked.all().count == 2)
    }

    @Test func aTokenDoesNotChangeWhoSomebodyIs() throws {
        var peers = try PeerStore(directory: folder.state())
        try peers.admit(.init(key: key(1), role: .worker, name: "w"))
        try peers.admit(.init(key: key(2), role: .console, name: "console"))
        #expect(peers.refusal(of: key(1), as: .worker) == nil, "the same again is no harm: an answer may have been lost")
        #expect(peers.refusal(of: key(1), as: .gateway)?.contains("admitted as worker") == true)
        #expect(peers.refusal(of: key(2), as: .worker)?.contains("admitted as console") == true)
        #expect(peers.refusal(of: key(3), as: .gateway) == nil)
        try peers.remove(key(1))
        try peers.remove(key(1))
        #expect(peers.refusal(of: key(1), as: .gateway) == nil)
        #expect(try PeerStore(directory: folder.state()).entries.map(\.key) == [key(2)])
    }

    /// A list that can be written can be read again at the next start.
    @Test func theListHasAnEnd() throws {
        let longest = String(repeating: "n", count: Limits.nameBytesMax)
        let lines = (0..<PeerStore.entriesMax).map { number in
            let digits = String(number, radix: 16)
            return "gateway \(String(repeating: "0", count: 64 - digits.count) + digits) \(longest)\n"
        }
        let state = try folder.state()
        try state.write("peers", lines.joined())
        let peers = try PeerStore(directory: state)
        #expect(peers.entries.count == PeerStore.entriesMax)
        #expect(peers.refusal(of: key(9), as: .worker)?.contains("the most there may be") == true)
        #expect(peers.refusal(of: peers.entries[0].key, as: .gateway) == nil)
    }
}
