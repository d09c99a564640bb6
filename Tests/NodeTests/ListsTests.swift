import ClusterCore
import Foundation
import Testing
import Wire
import ZeroMQ

@testable import Node

/// What a state folder holds beside keys: peers, tokens, the enrolment.
@Suite struct ListsTests {
    private let folder: TemporaryFolder
    private let state: StateDirectory

    init() throws {
        folder = try TemporaryFolder()
        state = try folder.state()
    }

    private func key(_ byte: UInt8) -> PeerKey { PeerKey(bytes: [UInt8](repeating: byte, count: PeerKey.byteCount))! }
    private func digits(_ byte: UInt8) -> String { Hex.encode(key(byte).bytes) }

    // MARK: Peers

    @Test func peersAreKept() throws {
        var peers = try PeerStore(directory: state)
        #expect(peers.entries.isEmpty)
        try peers.admit(.init(key: key(1), role: .worker, name: "box 1"))
        try peers.admit(.init(key: key(2), role: .gateway, name: ""))
        try peers.admit(.init(key: key(3), role: .console, name: "K\u{F6}ln\nworker \(digits(9)) intruder"))
        try peers.admit(.init(key: key(1), role: .worker, name: "box one"))

        let again = try PeerStore(directory: state)
        #expect(again.entries.map(\.key) == [key(2), key(3), key(1)])
        #expect(again.entries.map(\.role) == [.gateway, .console, .worker])
        #expect(again.entries.last?.name == "box one")
        #expect(again.role(of: key(2)) == .gateway)
        #expect(again.role(of: key(9)) == nil, "a name can't make a line of its own")
    }

    @Test(arguments: [
        "worker", "worker \(String(repeating: "01", count: 32))", "chief \(String(repeating: "01", count: 32)) a",
        "worker \(String(repeating: "01", count: 31)) a", "worker \(String(repeating: "0g", count: 32)) a", " ",
    ])
    func aDamagedPeerLineIsNamed(line: String) throws {
        try state.write("peers", "worker \(digits(1)) good\n\(line)\n")
        let error = try #require(throws: NodeError.self) { _ = try PeerStore(directory: state) }
        #expect(error.code == .stateDirectory)
        #expect(error.message.contains("\(state.file("peers")) line 2"))
    }

    // MARK: Tokens

    @Test func tokensAreKeptUntilRemoved() throws {
        let store = try TokenStore(directory: state)
        let tokens = [
            TokenStore.Token(key: key(1), expires: 1_900_000_000, name: "for box 1"), .init(key: key(2), expires: -5, name: "old\nexpires 9"),
        ]
        for token in tokens { try store.add(token) }
        let found = try TokenStore(directory: state).all()
        #expect(found.map(\.key) == [key(1), key(2)])
        #expect(found.map(\.expires) == [1_900_000_000, -5])
        #expect(found.map(\.name) == ["for box 1", "oldexpires 9"])
        store.remove(key(1))
        store.remove(key(7))
        #expect(store.all().map(\.key) == [key(2)])
        #expect(mode(state.file("tokens")) == 0o700)
    }

    @Test func whatIsNoTokenAdmitsNobody() throws {
        let store = try TokenStore(directory: state)
        let tokens = try StateDirectory(path: state.file("tokens"))
        try tokens.write(digits(1), "")
        try tokens.write(digits(2), "expires soon\nname\n")
        try tokens.write(digits(3), "expire 5\n")
        try tokens.write("abc", "expires 1900000000\n\n")
        try tokens.write("README", "expires 1900000000\n\n")
        try folder.write([0xFF, 0xFF], to: "tokens/\(digits(4))")
        try FileManager.default.createDirectory(atPath: tokens.file(digits(5)), withIntermediateDirectories: true)
        try tokens.write(digits(6), "expires 1900000000")
        #expect(store.all() == [TokenStore.Token(key: key(6), expires: 1_900_000_000, name: "")])
    }

    // MARK: Enrolment

    @Test func theEnrolmentIsKept() throws {
        #expect(try Enrolment.read(from: state) == nil)
        let enrolment = Enrolment(endpoint: "tcp://[fe80::1%eth0]:7300", coordinatorKey: key(8))
        try enrolment.write(to: state)
        #expect(try Enrolment.read(from: state) == enrolment)
    }

    @Test(arguments: [
        "", "tcp://a:1", "tcp://a:1 00", "tcp://a:1 \(String(repeating: "0", count: 64)) more", "tcp://a:1 \(String(repeating: "x", count: 64))",
    ])
    func aDamagedEnrolmentIsNamed(text: String) throws {
        try state.write("coordinator", text)
        let error = try #require(throws: NodeError.self) { _ = try Enrolment.read(from: state) }
        #expect(error.code == .stateDirectory)
        #expect(error.message.contains(state.file("coordinator")))
    }

    // MARK: Local cluster

    @Test func aLocalClusterKnowsItsMembers() throws {
        let local = try LocalCluster(directory: folder.path, workers: 3, endpoint: "tcp://127.0.0.1:7301")
        let coordinator = try CurveKeyFile(path: local.coordinator + "/coordinator.key").load()
        let peers = try PeerStore(directory: StateDirectory(path: local.coordinator))
        #expect(peers.entries.count == 4)
        #expect(local.workers.count == 3)
        for (path, role) in local.workers.map({ ($0, PeerRole.worker) }) + [(local.gateway, .gateway)] {
            let own = try CurveKeyFile(path: path + "/node.key").load()
            #expect(peers.role(of: PeerKey(own.publicKey)) == role)
            #expect(mode(path) == 0o700)
            #expect(
                try Enrolment.read(from: StateDirectory(path: path))
                    == Enrolment(endpoint: local.endpoint, coordinatorKey: PeerKey(coordinator.publicKey)))
        }
        #expect(Set(peers.entries.map(\.key)).count == 4)
        let again = try LocalCluster(directory: folder.path, workers: 3, endpoint: "tcp://127.0.0.1:7302")
        let known = try PeerStore(directory: StateDirectory(path: again.coordinator)).entries
        #expect(known.map(\.key) == peers.entries.map(\.key), "keys outlive a restart")
    }
}
