import ClusterCore
import Engine
import Foundation
import Logging
import ModelFiles
import Synchronization
import Testing
import ZeroMQ

@testable import Node
@testable import Wire

/// Processes of different releases, over real sockets: another minor takes part as far as it knows, another major is told why it does not.
@Suite struct VersionsTests {
    private static let otherMajor = ProtocolVersion.current.major + 1

    private let folder: TemporaryFolder
    private let tiny: TinyModel
    private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    init() throws {
        folder = try TemporaryFolder()
        tiny = try TinyModel(folder)
    }

    private func coordinator(_ state: String, listen: String, workers: Int) throws -> CoordinatorNode {
        let model = try ServedModel(path: tiny.path, name: "tiny", endTokens: [3, 1], kvType: .f16)
        let settings = CoordinatorSettings(
            state: try StateDirectory(path: state), listen: listen, advertise: nil,
            configuration: CoordinatorConfiguration(session: 1, model: model.profile, modelPath: tiny.path, expectedWorkers: workers))
        return try CoordinatorNode(settings: settings, model: model, logger: logger)
    }

    private func worker(_ state: String, name: String, version: ProtocolVersion = .current) throws -> WorkerNode {
        let directory = try StateDirectory(path: state)
        var settings = WorkerSettings(
            enrolment: try #require(try Enrolment.read(from: directory)), keys: try CurveKeyFile(path: directory.file("node.key")).load(),
            session: 2, name: name,
            capabilities: WorkerCapabilities(
                memoryBytes: 1 << 28, threads: 1, isa: "portable", readBytesPerSecond: 1e9, opsPerSecond: 1e9, machine: 1),
            dataListen: "tcp://127.0.0.1:0", dataAdvertise: nil,
            stage: StageThreadConfiguration(threads: 1, instructionSet: .portable, modelPath: nil))
        settings.version = version
        return try WorkerNode(settings: settings, logger: logger)
    }

    private func serving(_ state: StateDirectory, workers: Int) async throws -> StatusReport {
        try await NodeTests.serving(state) { $0.workers.count { !$0.layers.isEmpty } == workers }
    }

    /// The first release has no hand-overs: it serves, nobody asks it to hand its layers over, and who asks for that is told why not. One of a
    /// later release than ours is taken for one that knows what we know.
    @Test(arguments: [0, ProtocolVersion.current.minor + 50]) func anotherMinorServes(minor: UInt32) async throws {
        let local = try LocalCluster(directory: folder.path, workers: 2, endpoint: "tcp://127.0.0.1:\(try freePort())")
        let state = try StateDirectory(path: local.coordinator)
        let node = try coordinator(local.coordinator, listen: local.endpoint, workers: 2)
        let version = ProtocolVersion(major: ProtocolVersion.current.major, minor: minor)
        let workers = [try worker(local.workers[0], name: "other", version: version), try worker(local.workers[1], name: "ours")]
        let report = try await serving(state, workers: 2)
        #expect(report.workers.count == 2 && report.framesDropped == 0)
        var console = try CoordinatorConsole(state: state)
        let answer = try #require(try console.drain(DrainRequest(worker: "other")))
        if minor == 0 {
            #expect(answer.state == .refused)
            let after = try CoordinatorExchange.status(state: state)
            #expect(after.epoch == report.epoch && after.health.state == .serving)
        } else {
            #expect(answer.state == .moving)
            _ = try await serving(state, workers: 1)
        }
        node.shutdown()
        try await node.waitUntilEnded()
        for worker in workers {
            worker.shutdown()
            try await worker.waitUntilEnded()
        }
    }

    /// A frame of another major, from a key that is admitted.
    @Test func aPeerOfAnotherMajorIsToldWhy() async throws {
        let local = try LocalCluster(directory: folder.path, workers: 1, endpoint: "tcp://127.0.0.1:\(try freePort())")
        let node = try coordinator(local.coordinator, listen: local.endpoint, workers: 1)
        let directory = try StateDirectory(path: local.workers[0])
        let enrolment = try #require(try Enrolment.read(from: directory))
        let keys = try CurveKeyFile(path: directory.file("node.key")).load()
        let context = try Context()
        let socket = try Socket(context, .dealer, SocketOptions(.curveClient(keys, server: enrolment.coordinatorKey.curve)))
        try socket.connect(enrolment.endpoint)
        var question = Message(copying: FrameHeader.bytes(.toCoordinator, major: Self.otherMajor) + [0x6A, 0])
        _ = try await eventually("for a connection") { try socket.send(&question) ? true : nil }
        let answer = try await eventually("for an answer") { try socket.receive()?.withBytes(of: 0, WireCodec.decodeFromCoordinator) }
        guard case .refused(let failure) = answer else { return #expect(Bool(false), "\(answer)") }
        #expect(failure.code == .versionMismatch)
        #expect(failure.message.contains("protocol \(Self.otherMajor)") && failure.message.contains("same release"))
        node.shutdown()
        try await node.waitUntilEnded()
    }

    /// A coordinator of another major answers with frames that nobody here can read: the worker ends with that, and so does whoever enrols or asks.
    @Test func aCoordinatorOfAnotherMajorIsNamed() async throws {
        let local = try LocalCluster(directory: folder.path, workers: 1, endpoint: "tcp://127.0.0.1:\(try freePort())")
        let state = try StateDirectory(path: local.coordinator)
        let keys = try CurveKeyFile(path: state.file("coordinator.key")).load()
        try Enrolment(endpoint: local.endpoint, coordinatorKey: PeerKey(keys.publicKey)).write(to: state)
        let consoleKeys = try CurveKeyFile(path: state.file("console.key")).createIfMissing()
        let workerKeys = try CurveKeyFile(path: StateDirectory(path: local.workers[0]).file("node.key")).load()
        let token = try CurveKeyPair.generate()
        let stranger = Stranger(
            keys: keys, endpoint: local.endpoint, admitting: [consoleKeys.publicKey, workerKeys.publicKey, token.publicKey], major: Self.otherMajor)
        stranger.start()
        defer { stranger.end() }
        let ended = await #expect(throws: NodeError.self) { try await worker(local.workers[0], name: "worker").waitUntilEnded() }
        #expect(ended?.message.contains("protocol \(Self.otherMajor)") == true, "\(String(describing: ended))")
        let asked = #expect(throws: NodeError.self) { try CoordinatorExchange.status(state: state) }
        #expect(asked?.message.contains("protocol \(Self.otherMajor)") == true)
        let line = try JoinLine(endpoint: local.endpoint, serverKey: PeerKey(keys.publicKey), tokenSecret: token.secretKey.bytes)
        let refused = #expect(throws: NodeError.self) {
            try CoordinatorExchange.enrol(line, own: try CurveKeyPair.generate(), role: .worker, name: "new", state: try StateDirectory(path: folder.file("new")))
        }
        #expect(refused?.code == .enrolmentFailed && refused?.message.contains("protocol \(Self.otherMajor)") == true)
    }
}

/// Answers every frame with one of another major, on a thread of its own, until it is told to end.
private final class Stranger: Sendable {
    private let keys: CurveKeyPair
    private let endpoint: String
    private let admitting: [CurvePublicKey]
    private let major: UInt32
    private let isEnding = Mutex(false)

    init(keys: CurveKeyPair, endpoint: String, admitting: [CurvePublicKey], major: UInt32) {
        self.keys = keys
        self.endpoint = endpoint
        self.admitting = admitting
        self.major = major
    }

    func start() {
        Thread.detachNewThread { [self] in
            do { try run() } catch { Issue.record("the other coordinator ended: \(error)") }
        }
    }

    func end() { isEnding.withLock { $0 = true } }

    private func run() throws {
        let context = try Context()
        var access = try AccessList(context, domain: "stranger")
        for key in admitting { access.admit(key) }
        let socket = try Socket(context, .router, SocketOptions(.curveServer(keys, domain: "stranger")))
        _ = try socket.bind(endpoint)
        while !isEnding.withLock({ $0 }) {
            var poller = Poller()
            let questions = poller.watch(access.socket)
            _ = poller.watch(socket)
            _ = try poller.wait(milliseconds: 20)
            if poller.isReadable(questions) { try access.answerPending() }
            while let message = try socket.receive() {
                var answer = Message(copying: message.bytes(of: 0))
                answer.append(copying: FrameHeader.bytes(.fromCoordinator, major: major) + [0x6A, 0])
                // Who has asked may be gone.
                _ = try? socket.send(&answer)
            }
        }
    }
}
