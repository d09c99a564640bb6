import ClusterCore
import Engine
import Foundation
import Logging
import ModelFiles
import Testing
import Wire
import ZeroMQ

@testable import Node

/// A coordinator and workers in this process, over real sockets on the loopback interface.
@Suite struct NodesTests {
    private let folder: TemporaryFolder
    private let tiny: TinyModel
    private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    init() throws {
        folder = try TemporaryFolder()
        tiny = try TinyModel(folder)
    }

    private func coordinator(
        _ state: String, listen: String = "tcp://127.0.0.1:0", advertise: String? = nil, workers: Int = 1
    ) throws -> CoordinatorNode {
        let model = try ServedModel(path: tiny.path, name: "tiny", endTokens: [3, 1], kvType: .f16)
        var settings = CoordinatorSettings(
            state: try StateDirectory(path: state), listen: listen, advertise: advertise,
            configuration: CoordinatorConfiguration(session: 1, model: model.profile, modelPath: tiny.path, expectedWorkers: workers))
        settings.weightServer = WeightServerSettings(listen: "tcp://127.0.0.1:0", advertise: nil)
        return try CoordinatorNode(settings: settings, model: model, logger: logger)
    }

    private func worker(_ state: StateDirectory, dataListen: String = "tcp://127.0.0.1:0", slices: SliceCache? = nil) throws -> WorkerNode {
        let enrolment = try #require(try Enrolment.read(from: state))
        var settings = WorkerSettings(
            enrolment: enrolment, keys: try CurveKeyFile(path: state.file("node.key")).load(), session: 2, name: "worker",
            capabilities: WorkerCapabilities(
                memoryBytes: 1 << 28, threads: 1, isa: "portable", readBytesPerSecond: 1e9, opsPerSecond: 1e9, machine: 1),
            dataListen: dataListen, dataAdvertise: nil,
            stage: StageThreadConfiguration(threads: 1, instructionSet: .portable, modelPath: nil))
        settings.weightServer = WeightServerSettings(listen: "tcp://127.0.0.1:0", advertise: nil)
        settings.slices = slices
        if slices != nil { settings.weightsFrom = .peers }
        return try WorkerNode(settings: settings, logger: logger)
    }

    private func joinLine(_ coordinator: StateDirectory) throws -> JoinLine {
        let enrolment = try #require(try Enrolment.read(from: coordinator))
        let pair = try CurveKeyPair.generate()
        let expires = Int64(Date.now.timeIntervalSince1970) + 600
        try TokenStore(directory: coordinator).add(.init(key: PeerKey(pair.publicKey), expires: expires, name: ""))
        return try JoinLine(endpoint: enrolment.endpoint, serverKey: enrolment.coordinatorKey, tokenSecret: pair.secretKey.bytes)
    }

    @Test func theServedModelSaysWhatPlansNeed() throws {
        let model = try ServedModel(path: tiny.path, name: nil, endTokens: [3, 1], kvType: .f32)
        #expect(model.profile.name == "Tiny" && model.profile.digest == tiny.digest && model.profile.endTokens == [1, 3])
        #expect(model.profile.layerBytes.count == TinyModel.layers && model.profile.headIsTied)
        #expect(model.profile.hidden == 64 && model.profile.vocabulary == TinyModel.vocabulary && model.profile.contextTokens == 512)
        #expect(model.profile.kvBytesPerTokenPerLayer == 2 * 2 * 16 * 4, "keys and values, two heads of 16, 4 bytes")
        #expect(try ServedModel(path: tiny.path, name: "n", endTokens: [], kvType: .f16).profile.kvBytesPerTokenPerLayer == 2 * 2 * 16 * 2)
        #expect(model.header == tiny.file.headerBytes && model.fileBytes == UInt64(tiny.file.fileBytes))
    }

    @Test func aTokenAdmitsOneWorkerAtOnceAndThatWorkerServes() async throws {
        let node = try coordinator(folder.file("coordinator"))
        let state = try StateDirectory(path: folder.file("coordinator"))
        let own = try StateDirectory(path: folder.file("worker"))
        let keys = try CurveKeyFile(path: own.file("node.key")).createIfMissing()
        let line = try joinLine(state)
        try CoordinatorExchange.enrol(line, own: keys, role: .worker, name: "worker", state: own)
        #expect(try Enrolment.read(from: own) == Enrolment.read(from: state))
        #expect(try PeerStore(directory: state).role(of: PeerKey(keys.publicKey)) == .worker)
        #expect(try TokenStore(directory: state).all() == [])

        let thief = try CurveKeyPair.generate()
        let refused = try #require(throws: NodeError.self) {
            try CoordinatorExchange.enrol(line, own: thief, role: .worker, name: "thief", state: own)
        }
        #expect(refused.code == .enrolmentFailed && refused.message.contains("token"))
        #expect(try PeerStore(directory: state).role(of: PeerKey(thief.publicKey)) == nil)

        #expect(try CoordinatorExchange.status(state: state).workers == [])
        let worker = try worker(own)
        let report = try await serving(state)
        #expect(report.modelName == "tiny" && report.workers.count == 1)
        #expect(report.workers.first?.key == PeerKey(keys.publicKey) && report.workers.first?.layers == 0..<TinyModel.layers)

        worker.shutdown()
        try await worker.waitUntilEnded()
        #expect(try CoordinatorExchange.status(state: state).workers == [])
        node.shutdown()
        try await node.waitUntilEnded()
    }

    /// One worker has the file and the other has none, not even the coordinator's: it fetches its slice, all of it and nothing else.
    @Test func aWorkerWithoutAFileFetchesItsSlice() async throws {
        let local = try LocalCluster(directory: folder.path, workers: 2, endpoint: "tcp://127.0.0.1:\(try freePort())")
        let node = try coordinator(local.coordinator, listen: local.endpoint, workers: 2)
        let giver = try worker(StateDirectory(path: local.workers[0]))
        let taker = try worker(StateDirectory(path: local.workers[1]), slices: SliceCache(folder: folder.file("slices"), freeBytesMin: 0))
        let report = try await serving(StateDirectory(path: local.coordinator))
        let told = try #require(await taker.report())
        let layers = try #require(told.assignment?.layers)
        let sizes = try ModelSizes(file: tiny.file, model: ModelConfiguration(file: tiny.file))
        #expect(told.weights.fetched.bytes == UInt64(sizes.stage(layers: layers) + tiny.file.extents[0].byteCount))
        #expect(told.weights.fetched.corruptBytes == 0 && told.weights.fetched.wastedBytes == 0 && report.workers.count == 2)
        #expect(await giver.report()?.weights.fetched.bytes == 0)
        node.shutdown()
        try await node.waitUntilEnded()
        for worker in [giver, taker] {
            worker.shutdown()
            try await worker.waitUntilEnded()
        }
    }

    /// A worker of two is revoked while both serve: its connection ends, its layers go to the other one, and it never comes back.
    @Test func aRevokedWorkerIsCutOffAtOnce() async throws {
        let local = try LocalCluster(directory: folder.path, workers: 2, endpoint: "tcp://127.0.0.1:\(try freePort())")
        let state = try StateDirectory(path: local.coordinator)
        let node = try coordinator(local.coordinator, listen: local.endpoint, workers: 2)
        let workers = try local.workers.map { try worker(StateDirectory(path: $0)) }
        let before = try await serving(state)
        #expect(before.workers.count { !$0.layers.isEmpty } == 2)
        let victim = PeerKey(try CurveKeyFile(path: StateDirectory(path: local.workers[0]).file("node.key")).load().publicKey)
        try RevokedKeys(directory: state).add(victim, note: "worker worker-1")

        let after = try await serving(state) { !$0.workers.contains { $0.key == victim } }
        #expect(after.workers.map(\.layers) == [0..<TinyModel.layers])
        #expect(after.epoch > before.epoch)
        #expect(try PeerStore(directory: state).role(of: victim) == nil)
        // A new token is no way back for a key that was revoked, nor for one that is known in another role.
        let own = try StateDirectory(path: local.workers[0])
        let keys = try CurveKeyFile(path: own.file("node.key")).load()
        let refused = try #require(throws: NodeError.self) {
            try CoordinatorExchange.enrol(try joinLine(state), own: keys, role: .worker, name: "worker", state: own)
        }
        #expect(refused.code == .enrolmentFailed && refused.message.contains("revoked"))
        let honest = try CurveKeyFile(path: StateDirectory(path: local.workers[1]).file("node.key")).load()
        let other = try #require(throws: NodeError.self) {
            try CoordinatorExchange.enrol(try joinLine(state), own: honest, role: .gateway, name: "gateway", state: own)
        }
        #expect(other.message.contains("admitted as worker already"))
        #expect(try PeerStore(directory: state).role(of: PeerKey(honest.publicKey)) == .worker)

        node.shutdown()
        try await node.waitUntilEnded()
        for worker in workers {
            worker.shutdown()
            try await worker.waitUntilEnded()
        }
        // It stays revoked over a restart.
        let again = try coordinator(local.coordinator, listen: local.endpoint, workers: 2)
        #expect(try PeerStore(directory: state).role(of: victim) == nil)
        again.shutdown()
        try await again.waitUntilEnded()
    }

    @Test func aLocalClusterNeedsNoToken() async throws {
        let local = try LocalCluster(directory: folder.path, workers: 2, endpoint: "tcp://127.0.0.1:\(try freePort())")
        let node = try coordinator(local.coordinator, listen: local.endpoint, workers: 2)
        let workers = try local.workers.map { try worker(StateDirectory(path: $0)) }
        let report = try await serving(StateDirectory(path: local.coordinator))
        let layers = report.workers.map(\.layers).sorted { $0.lowerBound < $1.lowerBound }
        #expect(layers.count == 2 && layers.allSatisfy { !$0.isEmpty })
        #expect(layers.flatMap { Array($0) } == Array(0..<TinyModel.layers), "each layer once")
        node.shutdown()
        try await node.waitUntilEnded()
        for worker in workers {
            worker.shutdown()
            try await worker.waitUntilEnded()
        }
    }

    /// The probe is a step like any other: it stands in the trace, and both roles tell of it.
    @Test func whatRunsCanBeAskedAndTraced() async throws {
        let local = try LocalCluster(directory: folder.path, workers: 2, endpoint: "tcp://127.0.0.1:\(try freePort())")
        let model = try ServedModel(path: tiny.path, name: "tiny", endTokens: [3, 1], kvType: .f16)
        var settings = CoordinatorSettings(
            state: try StateDirectory(path: local.coordinator), listen: local.endpoint, advertise: nil,
            configuration: CoordinatorConfiguration(session: 1, model: model.profile, modelPath: tiny.path, expectedWorkers: 2))
        settings.trace = try TraceFile(path: folder.file("trace.json"), logger: logger)
        let node = try CoordinatorNode(settings: settings, model: model, logger: logger)
        let workers = try local.workers.map { try worker(StateDirectory(path: $0)) }
        let report = try await serving(StateDirectory(path: local.coordinator))
        #expect(report.pipeline.stages.map(\.layers.count).reduce(0, +) == TinyModel.layers && report.pipeline.stages.count == 2)
        let own = try #require(await node.status())
        #expect(own.health == report.health && own.stepsDone == 1)
        let told = await [workers[0].report(), workers[1].report()].compactMap(\.self)
        #expect(told.count == 2 && told.allSatisfy { $0.isJoined && $0.isServing && $0.metrics.steps == 1 && $0.metrics.computeNanoseconds > 0 })
        node.shutdown()
        try await node.waitUntilEnded()
        for worker in workers {
            worker.shutdown()
            try await worker.waitUntilEnded()
        }
        #expect(await node.status() == nil)
        #expect(await workers[0].report() == nil)
        let data = try Data(contentsOf: URL(fileURLWithPath: folder.file("trace.json")))
        let events = try #require(try JSONSerialization.jsonObject(with: data) as? [[String: Any]])
        let spans = events.filter { $0["name"] as? String == "decode 1" }
        #expect(spans.count == 6, "the step, two stages, three hops")
    }

    @Test func statusNeedsACoordinatorsFolder() throws {
        let error = try #require(throws: NodeError.self) { _ = try CoordinatorExchange.status(state: StateDirectory(path: folder.file("empty"))) }
        #expect(error.code == .coordinatorSilent && error.message.contains(folder.file("empty")))
    }

    @Test func aWildcardIsNeverHandedOut() async throws {
        let error = try #require(throws: NodeError.self) { _ = try coordinator(folder.file("coordinator"), listen: "tcp://0.0.0.0:0") }
        #expect(error.code == .addressNeeded && error.message.contains("--advertise"))
        let state = try StateDirectory(path: folder.file("coordinator"))
        #expect(try Enrolment.read(from: state) == nil)

        let node = try coordinator(folder.file("coordinator"), listen: "tcp://0.0.0.0:0", advertise: "tcp://box-1:7300")
        #expect(try Enrolment.read(from: state)?.endpoint == "tcp://box-1:7300")
        node.shutdown()
        try await node.waitUntilEnded()

        let local = try LocalCluster(directory: folder.path, workers: 1, endpoint: "tcp://127.0.0.1:7300")
        let data = try #require(throws: NodeError.self) { _ = try worker(StateDirectory(path: local.workers[0]), dataListen: "tcp://0.0.0.0:0") }
        #expect(data.code == .addressNeeded && data.message.contains("--data-advertise"))
    }

    @Test func anAddressInUseIsAnErrorOfTheStart() async throws {
        let first = try coordinator(folder.file("one"))
        let taken = try #require(try Enrolment.read(from: StateDirectory(path: folder.file("one")))).endpoint
        let error = try #require(throws: ZeroMQError.self) { _ = try coordinator(folder.file("two"), listen: taken) }
        #expect(error.code == .addressInUse)
        first.shutdown()
        try await first.waitUntilEnded()
    }
}
