import Testing

@testable import ClusterCore

/// What is left can't hold the model: requests wait, and go on or end, all of them.
@Suite struct CapacityTests {
    private static let waitMs: UInt64 = 8_000

    /// Two workers of which none has room for the whole model.
    private static func cluster(seed: UInt64) -> ToyCluster {
        var settings = ToyCluster.Settings()
        settings.workers = 2
        settings.workerMemory = 4_500
        settings.configure = { $0.recoveryWaitMs = Self.waitMs }
        return ToyCluster(seed: seed, settings: settings)
    }

    private func loseAWorker(_ cluster: inout ToyCluster) {
        cluster.run(milliseconds: 100) { $0.isServing }
        for _ in 0..<8 { cluster.submit(cluster.inventRequest()) }
        cluster.run(microseconds: 500)
        cluster.killWorker(cluster.stages[Int(cluster.seed) % 2])
        cluster.run(milliseconds: 4_000)
        // These come when nobody could compute them.
        for _ in 0..<3 { cluster.submit(cluster.inventRequest()) }
        cluster.run(milliseconds: 100)
        #expect(!cluster.isServing && cluster.coordinator.health.state == .waitingForWorkers && cluster.coordinator.health.detail.contains("missing"))
        #expect(cluster.order.contains { !cluster.streams[$0]!.isOver }, "seed \(cluster.seed)")
        #expect(cluster.order.allSatisfy { cluster.streams[$0]!.failure == nil }, "seed \(cluster.seed): nobody is given up yet")
    }

    @Test(arguments: 0..<6) func aWorkerThatComesInTimeTakesThemOn(seed: UInt64) {
        var cluster = Self.cluster(seed: seed)
        loseAWorker(&cluster)
        if seed % 2 == 0, let dead = (0..<2).first(where: { !cluster.isUp($0) }) { cluster.startWorker(dead) } else { _ = cluster.addWorker() }
        cluster.run(milliseconds: 60_000) { cluster in cluster.order.allSatisfy { cluster.streams[$0]!.isOver } }
        #expect(cluster.unexpected == [], "seed \(seed)")
        for id in cluster.order {
            let stream = cluster.streams[id]!
            #expect(stream.failure == nil, "seed \(seed)")
            for choice in 0..<stream.request.choices {
                let wanted = cluster.settings.model.generate(stream.request, choice: UInt32(choice))
                #expect(stream.tokens[choice] == wanted.tokens && stream.finishes[choice] == wanted.finish, "seed \(seed)")
            }
        }
    }

    /// All end at the limit, counted from the loss or from when they came, each once; what they had got is right; and the next ones are served again.
    @Test(arguments: 10..<16) func withoutOneTheyEndWithATypedError(seed: UInt64) {
        var cluster = Self.cluster(seed: seed)
        cluster.run(milliseconds: 100) { $0.isServing }
        let began = cluster.now
        loseAWorker(&cluster)
        cluster.run(milliseconds: 60_000) { cluster in cluster.order.allSatisfy { cluster.streams[$0]!.isOver } }
        let took = cluster.now.milliseconds(since: began)
        #expect((Self.waitMs..<4_000 + Self.waitMs + 1_000).contains(took), "seed \(seed): \(took) ms")
        let failures = cluster.order.compactMap { cluster.streams[$0]!.failure }
        #expect(failures.count >= 3 && failures.allSatisfy { $0.code == .noCapacity && $0.message.contains("within \(Self.waitMs) ms") }, "seed \(seed)")
        for id in cluster.order {
            let stream = cluster.streams[id]!
            for choice in 0..<stream.request.choices {
                let wanted = cluster.settings.model.generate(stream.request, choice: UInt32(choice)).tokens
                #expect(stream.tokens[choice] == Array(wanted.prefix(stream.tokens[choice].count)), "seed \(seed)")
            }
        }
        _ = cluster.addWorker()
        cluster.run(milliseconds: 60_000) { $0.isServing }
        let next = cluster.inventRequest()
        cluster.submit(next)
        cluster.run(milliseconds: 60_000) { $0.streams[next.id]!.isOver }
        #expect(cluster.streams[next.id]!.failure == nil && cluster.unexpected == [], "seed \(seed)")
        #expect(cluster.coordinator.requests.isEmpty && cluster.coordinator.scheduler.openCount == 0)
    }
}
