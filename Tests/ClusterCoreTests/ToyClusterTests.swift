import Testing

@testable import ClusterCore

/// Coordinator, workers and gateway together: every token equals the plain loop's, whatever happens on the way.
@Suite struct ToyClusterTests {
    /// Each stream ended once, with the plain loop's tokens, or with a failure that the test allows.
    private func check(_ cluster: ToyCluster, allowing codes: Set<FailureCode> = [], sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(cluster.unexpected == [], "seed \(cluster.seed)", sourceLocation: sourceLocation)
        for id in cluster.order {
            let stream = cluster.streams[id]!
            for choice in 0..<stream.request.choices {
                let wanted = cluster.settings.model.generate(stream.request, choice: UInt32(choice))
                let got = stream.tokens[choice]
                #expect(got == Array(wanted.tokens.prefix(got.count)), "seed \(cluster.seed) request \(id)", sourceLocation: sourceLocation)
                if let finish = stream.finishes[choice] {
                    #expect(
                        got.count == wanted.tokens.count && finish == wanted.finish, "seed \(cluster.seed) request \(id)",
                        sourceLocation: sourceLocation)
                }
            }
            if let failure = stream.failure {
                #expect(codes.contains(failure.code), "seed \(cluster.seed): \(failure.message)", sourceLocation: sourceLocation)
            } else {
                #expect(stream.isOver || stream.isCancelled, "seed \(cluster.seed) request \(id) never ended", sourceLocation: sourceLocation)
            }
        }
    }

    /// Nothing is left of anything.
    private func checkRest(_ cluster: ToyCluster, sourceLocation: SourceLocation = #_sourceLocation) {
        let status = cluster.coordinator.status(at: cluster.now)
        let left = [
            "requests": cluster.coordinator.requests.count, "sequences": cluster.coordinator.scheduler.openCount, "blocks": status.kvBlocksUsed,
            "steps": status.stepsInFlight, "payloads": cluster.payloadsHeld, "streams": cluster.gateway.openCount
        ].filter { $0.value != 0 }
        #expect(left == [:], "seed \(cluster.seed)", sourceLocation: sourceLocation)
    }

    /// So few tokens that texts repeat themselves by chance, and rows that cost little: guesses are taken, and right now and then.
    private static func guessing(_ seed: UInt64) -> ToyCluster.Settings {
        var settings = ToyCluster.Settings()
        settings.model.vocabulary = 3 + Int(seed % 6)
        settings.model.endTokens = [0]
        settings.model.rowNanoseconds = seed % 3 == 0 ? 10 : 0
        settings.model.stepNanoseconds = 1_000
        settings.workers = 1 + Int(seed % 4)
        return settings
    }

    @Test func guessesChangeNoToken() {
        for hasModel in [false, true] {
            var sum = DraftCounts()
            for seed in UInt64(300)..<320 {
                let counts = guessing(seed: seed, hasModel: hasModel)
                sum.proposed += counts.proposed
                sum.accepted += counts.accepted
            }
            #expect(sum.accepted > 20 && sum.proposed > sum.accepted, "guesses are taken, right and wrong: \(sum)")
        }
    }

    /// With guesses from the text, or with those of a draft model only.
    private func guessing(seed: UInt64, hasModel: Bool) -> DraftCounts {
        var settings = Self.guessing(seed)
        settings.configure = { configuration in
            configuration.hasDraftModel = hasModel
            if hasModel { configuration.speculation = .off }
        }
        settings.kvBlocks = 8 + Int(seed % 9)
        settings.stepsInFlightPerStage = 1 + Int(seed % 2)
        var cluster = ToyCluster(seed: seed, settings: settings)
        cluster.run(milliseconds: 5)
        for round in 0..<40 {
            cluster.submit(cluster.inventRequest())
            if cluster.numbers.oneIn(8) { cancelSome(&cluster) }
            if round % 8 == 7 { breakSomething(&cluster) }
            // Mostly so long that few are open at once: a full batch carries no guesses.
            cluster.run(microseconds: UInt64.random(in: 0...20_000, using: &cluster.numbers))
        }
        for index in 0..<cluster.workerCount where !cluster.isUp(index) || cluster.isHung(index) {
            cluster.killWorker(index)
            cluster.startWorker(index)
        }
        cluster.run(milliseconds: 900_000, until: Self.allOver)
        // A coordinator that was restarted meanwhile has counted nothing.
        for _ in 0..<10 { cluster.submit(cluster.inventRequest()) }
        cluster.run(milliseconds: 900_000, until: Self.allOver)
        check(cluster)
        cluster.run(milliseconds: 30_000)
        checkRest(cluster)
        let status = cluster.coordinator.status(at: cluster.now)
        #expect((hasModel ? status.draftsLookedUp : status.draftsModelled) == DraftCounts())
        return hasModel ? status.draftsModelled : status.draftsLookedUp
    }

    private static func allOver(_ cluster: ToyCluster) -> Bool {
        cluster.order.allSatisfy { cluster.streams[$0]!.isOver || cluster.streams[$0]!.isCancelled }
    }

    @Test(arguments: 1...4) func tokensEqualThePlainLoop(workers: Int) {
        var settings = ToyCluster.Settings()
        settings.workers = workers
        var cluster = ToyCluster(seed: UInt64(workers), settings: settings)
        for _ in 0..<40 { cluster.submit(cluster.inventRequest()) }
        cluster.run(milliseconds: 60_000, until: Self.allOver)
        check(cluster)
        cluster.run(milliseconds: 1_000)
        checkRest(cluster)
        #expect(cluster.stages.count == workers)
        #expect(cluster.coordinator.metrics.requestsFinished == 40)
        #expect(cluster.coordinator.metrics.dropped.total == 0)
    }

    @Test(arguments: 0..<8) func clientsComeAndGoWithFewBlocks(seed: UInt64) {
        var settings = ToyCluster.Settings()
        settings.workers = 1 + Int(seed % 4)
        settings.kvBlocks = 4 + Int(seed % 4)
        settings.stepsInFlightPerStage = 1 + Int(seed % 2)
        var cluster = ToyCluster(seed: seed, settings: settings)
        for _ in 0..<60 {
            cluster.submit(cluster.inventRequest())
            cluster.run(milliseconds: UInt64.random(in: 0...2, using: &cluster.numbers))
            if cluster.numbers.oneIn(3) { cancelSome(&cluster) }
        }
        cluster.run(milliseconds: 120_000, until: Self.allOver)
        check(cluster)
        cluster.run(milliseconds: 1_000)
        checkRest(cluster)
        #expect(cluster.coordinator.metrics.preemptions > 0, "seed \(seed) should be short of blocks")
    }

    private func cancelSome(_ cluster: inout ToyCluster) {
        let open = cluster.order.filter { !cluster.streams[$0]!.isOver && !cluster.streams[$0]!.isCancelled }
        if let victim = open.randomElement(using: &cluster.numbers) { cluster.cancel(victim) }
    }

    @Test(arguments: 100..<120) func streamsOutliveFaults(seed: UInt64) {
        var settings = ToyCluster.Settings()
        settings.workers = 2 + Int(seed % 3)
        settings.kvBlocks = 8 + Int(seed % 9)
        var cluster = ToyCluster(seed: seed, settings: settings)
        cluster.run(milliseconds: 5)
        for _ in 0..<60 {
            for _ in 0..<Int.random(in: 0...2, using: &cluster.numbers) { cluster.submit(cluster.inventRequest()) }
            if cluster.numbers.oneIn(4) { cancelSome(&cluster) }
            breakSomething(&cluster)
            // Mostly so short that the next fault meets work, at times long enough for the silence to be noticed.
            let isLong = cluster.numbers.oneIn(6)
            cluster.run(microseconds: UInt64.random(in: 0...(isLong ? 5_000_000 : 3_000), using: &cluster.numbers))
        }
        for index in 0..<cluster.workerCount where !cluster.isUp(index) || cluster.isHung(index) {
            cluster.killWorker(index)
            cluster.startWorker(index)
        }
        cluster.run(milliseconds: 900_000, until: Self.allOver)
        check(cluster)
        cluster.run(milliseconds: 30_000)
        checkRest(cluster)
        #expect(cluster.isServing, "seed \(seed)")
    }

    private func breakSomething(_ cluster: inout ToyCluster) {
        let index = Int.random(in: 0..<cluster.workerCount, using: &cluster.numbers)
        switch Int.random(in: 0..<12, using: &cluster.numbers) {
        case 0, 1: if cluster.isUp(index) { cluster.killWorker(index) } else { cluster.startWorker(index) }
        case 2, 3, 4: if !cluster.isUp(index) { cluster.startWorker(index) }
        case 5, 6: cluster.loseConnection()
        case 7: cluster.restartCoordinator()
        case 8:
            if cluster.isUp(index) { cluster.hangWorker(index) }
        case 9:
            if cluster.isUp(index) {
                cluster.killWorker(index)
                cluster.startWorker(index)
            }
        default: break
        }
    }
}
