import ClusterCore

/// What a seed stands for: the cluster's shape, its settings, its network, its load and what will go wrong. Each seed has its own mix of faults,
/// because one that has all of them rarely lets any show its effect.
struct Scenario: Sendable {
    var model: ToyModel
    var workers: Int
    var gateways: Int
    /// By worker.
    var memoryBytes: [UInt64]
    var readBytesPerSecond: [Double]
    /// What a worker takes times longer than it should, by worker.
    var slowness: [UInt64]
    var configuration: CoordinatorConfiguration
    var coordinatorWaitMs: UInt64
    var resubmitAfterMs: UInt64

    /// A message's way takes so long, and up to twice as much.
    var delayNanoseconds: UInt64
    var stepNanoseconds: UInt64
    var rowNanoseconds: UInt64
    var loadNanoseconds: UInt64

    var faults: [Fault]
    /// So often a connection breaks over which keys and values are handed over.
    var blockLosses = 0
    var faultCount: Int
    /// Between two faults, at most.
    var faultGapNanoseconds: UInt64
    /// Whether a fault that would meet no work waits for some.
    var startsWork: Bool
    var requestCount: Int
    var requestGapNanoseconds: UInt64
    var tenants: Int
    var choicesMax: Int
    /// Whether every worker is there again in the end; else one may stay away where the others suffice.
    var allReturn: Bool

    static let workersMax = 8
    static let gatewaysMax = 2

    init(seed: UInt64, allowing allowed: [Fault]) {
        var numbers = SeededNumbers(seed: mixed(seed, 0x5CE7))
        let isGuessing = numbers.oneIn(3)
        let vocabulary = isGuessing ? numbers.among(3...8) : numbers.among(20...300)
        model = ToyModel(
            layerCount: numbers.among(2...8), vocabulary: vocabulary, contextTokens: numbers.pick([64, 96, 128, 160]),
            endTokens: isGuessing || numbers.oneIn(2) ? [0] : [0, 7], poisonOneIn: numbers.oneIn(8) ? 4_000 : 0)
        // So many that a frame has room for a block of one layer or two.
        var others = SeededNumbers(seed: mixed(seed, 0x4B56))
        if others.oneIn(3) {
            model.kvBytesPerPosition = UInt64(Limits.kvFrameBytes / Limits.positionsPerBlock / others.among(1...2))
            // Of a single frame nothing but the whole can be lost, which is missed by its sender alone.
            if allowed.contains(.blocksTailLost), others.oneIn(2) { blockLosses = others.among(1...4) }
        }
        workers = numbers.oneIn(3) ? numbers.among(1...Self.workersMax) : numbers.among(2...4)
        gateways = numbers.oneIn(3) ? Self.gatewaysMax : 1
        slowness = (0..<workers).map { _ in numbers.oneIn(8) ? UInt64(numbers.among(2...10)) : 1 }
        let isUneven = numbers.oneIn(4)
        readBytesPerSecond = (0..<workers).map { _ in isUneven ? Double(numbers.among(1...8)) * 1e9 : 4e9 }
        configuration = Self.configuration(model, workers: workers, isGuessing: isGuessing, &numbers)
        // The model takes all of them, or all but one, or any alone would do.
        let suffice = min(model.layerCount, numbers.oneIn(4) ? workers : numbers.oneIn(3) ? max(1, workers - 1) : 1)
        let isAmple = suffice == 1 || blockLosses > 0
        let memory = isAmple ? 1 << 30 : Self.bytes(of: model, layers: (model.layerCount + suffice - 1) / suffice, configuration)
        memoryBytes = [UInt64](repeating: memory, count: workers)
        coordinatorWaitMs = numbers.oneIn(4) ? 8_000 : Limits.recoveryWaitMs
        resubmitAfterMs = numbers.oneIn(2) ? 15_000 : UInt64(numbers.among(2_000...8_000))

        delayNanoseconds = numbers.octaves(10_000...8_000_000)
        stepNanoseconds = numbers.octaves(20_000...4_000_000)
        rowNanoseconds = numbers.oneIn(2) ? 0 : stepNanoseconds / UInt64(numbers.among(2...200))
        loadNanoseconds = numbers.octaves(100_000...(blockLosses > 0 ? 10_000_000 : 2_000_000_000))

        let possible = allowed.filter { $0.weight > 0 && !numbers.oneIn(3) }
        faults = possible.flatMap { [Fault](repeating: $0, count: $0.weight) }
        let moving = allowed.filter(Self.moving.contains)
        if blockLosses > 0, !moving.isEmpty { faults = moving }
        faultCount = faults.isEmpty || numbers.oneIn(20) ? 0 : numbers.among(1...12)
        faultGapNanoseconds = numbers.octaves(1_000_000...4_000_000_000)
        requestCount = numbers.among(4...24)
        // So that requests come as long as faults do, more or less.
        let span = faultGapNanoseconds / 2 * UInt64(max(1, faultCount))
        requestGapNanoseconds = min(max(100_000, 3 * span / UInt64(requestCount)), 2_000_000_000)
        startsWork = !numbers.oneIn(4) || blockLosses > 0
        tenants = numbers.oneIn(2) ? 1 : numbers.among(2...4)
        choicesMax = numbers.oneIn(3) ? 3 : 1
        allReturn = suffice == min(workers, model.layerCount) || numbers.oneIn(2)
        if others.oneIn(8), workers > 1 { learnsSpeeds(&others) }
    }

    /// Steps that take as long as workers say, but for some of them by a factor, and long enough that this is found out.
    private mutating func learnsSpeeds(_ numbers: inout SeededNumbers) {
        stepNanoseconds = numbers.octaves(4_000_000...16_000_000)
        rowNanoseconds = 0
        let layerSeconds = Double(stepNanoseconds) * 1e-9 / Double(model.layerCount)
        let truth = Double(ToyModel.layerBytes) / layerSeconds
        readBytesPerSecond = readBytesPerSecond.map { _ in truth * (numbers.oneIn(2) ? Double(numbers.among(2...4)) : 1) }
        configuration.replan = numbers.oneIn(3) ? .always : .whenIdle
        configuration.recutCheckMs = 50
        configuration.recutSustainMs = UInt64(numbers.among(50...1_000))
        requestCount = numbers.among(16...48)
    }

    /// What makes layers go from worker to worker: where keys and values are to be lost on their way, all else would only hide it.
    private static let moving: [Fault] = [.workerDrained, .workerLeaves]

    /// What so many layers take beside the embedding and the head, with KV memory for one context and a little more.
    private static func bytes(of model: ToyModel, layers: Int, _ configuration: CoordinatorConfiguration) -> UInt64 {
        let blocks = (configuration.contextTokens + Limits.positionsPerBlock - 1) / Limits.positionsPerBlock + 2
        let kvBytes = UInt64(blocks * Limits.positionsPerBlock) * model.kvBytesPerPosition
        let bytes = UInt64(layers) * (ToyModel.layerBytes + kvBytes) + 2 * ToyModel.embeddingBytes
        // A small share is kept for rows that are handed on.
        return bytes + bytes / 31 + 32
    }

    private static func configuration(
        _ model: ToyModel, workers: Int, isGuessing: Bool, _ numbers: inout SeededNumbers
    ) -> CoordinatorConfiguration {
        let expected = numbers.oneIn(3) ? numbers.among(1...workers) : workers
        var configuration = CoordinatorConfiguration(session: 0, model: model.profile, modelPath: "/models/toy", expectedWorkers: expected)
        configuration.kvBlocksMax = numbers.oneIn(3) ? 64 : numbers.among(2...16)
        configuration.stepsInFlightPerStage = numbers.among(1...2)
        configuration.sequencesRunningMax = numbers.oneIn(4) ? numbers.among(1...4) : 64
        configuration.prefillRowsPerStep = numbers.pick([4, 16, 40, 256])
        configuration.stepRowsMax = numbers.pick([16, 64, Limits.stepRowsMax])
        configuration.prefillRowsPerStep = min(configuration.prefillRowsPerStep, configuration.stepRowsMax)
        configuration.sharesPrefixes = !numbers.oneIn(5)
        configuration.prefixCachePercent = numbers.pick([0, 25, 100])
        configuration.speculation = isGuessing ? .promptLookup : numbers.oneIn(2) ? .off : .promptLookup
        configuration.requestsWaitingMax = numbers.oneIn(12) ? 4 : Limits.requestsWaitingMax
        configuration.recoveryWaitMs = numbers.oneIn(4) ? UInt64(numbers.among(2_000...20_000)) : Limits.recoveryWaitMs
        configuration.stepDeadlineFloorMs = numbers.oneIn(2) ? Limits.stepDeadlineFloorMs : UInt64(numbers.among(200...3_000))
        configuration.stepDeadlineUnmeasuredMs = numbers.oneIn(2) ? 60_000 : 5_000
        configuration.loadProgressTimeoutMs = numbers.oneIn(4) ? Limits.loadProgressTimeoutMs : 6_000
        configuration.replicas = .exactly(1)
        if workers >= 2, numbers.oneIn(4) { configuration.replicas = workers <= 5 && numbers.oneIn(3) ? .automatic : .exactly(2) }
        configuration.replan = numbers.pick([.never, .whenIdle, .always])
        configuration.recutSustainMs = UInt64(numbers.among(500...10_000))
        configuration.recutCheckMs = 500
        configuration.boundaryCacheBytes = numbers.pick([0, 512, 1_024, CoordinatorConfiguration.boundaryCacheBytesDefault])
        return configuration
    }
}
