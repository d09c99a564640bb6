import Testing

@testable import ClusterCore

/// The formulas of `StageCost`, with numbers that can be followed by hand.
@Suite struct StageCostTests {
    /// Four layers of 900 bytes with 2,000 weights, a head of 1,800 bytes with 4,000.
    private static func model(kv: UInt64 = 0, queryWidth: Int = 0) -> ModelProfile {
        var model = ModelProfile(
            digest: ModelDigest(bytes: [UInt8](repeating: 1, count: 32))!, name: "m", layerBytes: [900, 900, 900, 900], embeddingBytes: 500,
            headBytes: 1_800, headIsTied: false, hidden: 16, vocabulary: 100, contextTokens: 4_096, kvBytesPerTokenPerLayer: kv, endTokens: [])
        model.arithmetic = ModelArithmetic(
            layers: [ModelArithmetic.Products](repeating: .init(int8Weights: 2_000), count: 4), head: .init(int8Weights: 4_000),
            queryWidth: queryWidth, workspaceBytes: 70, headWorkspaceBytes: 7)
        return model
    }

    /// 90 useful bytes a second, 1,000 8-bit operations, 75 useful float operations.
    private static let worker = Planner.Candidate(
        key: ToyCluster.key(0), memoryBytes: 1 << 30, readBytesPerSecond: 100, opsPerSecond: 1_000, floatOpsPerSecond: 100)

    private static func parts(_ model: ModelProfile, _ layers: Range<Int>, head: Bool, _ load: StepLoad) -> StageCost.Parts {
        StageCost(model: model, demand: PlanDemand()).seconds(worker, layers, hasHead: head, load)
    }

    private static func isClose(_ a: Double, _ b: Double) -> Bool { abs(a - b) <= 1e-9 * max(abs(a), abs(b)) }

    @Test func fewRowsReadAndManyRowsCompute() {
        let one = Self.parts(Self.model(), 0..<2, head: false, .decode(rows: 1, context: 0))
        #expect(Self.isClose(one.reading, 1_800 / 90) && one.arithmetic == 0)
        // 2 · 4,000 weights · 8 rows over 1,000 a second.
        let eight = Self.parts(Self.model(), 0..<2, head: false, .decode(rows: 8, context: 0))
        #expect(Self.isClose(eight.arithmetic, 64) && eight.reading == 0)
        #expect(Self.isClose(eight.overhead, 2 * StageCost.layerOverheadSeconds))
    }

    @Test func theHeadTakesTwoRowsForEachToken() {
        let layers = Self.parts(Self.model(), 2..<4, head: false, .decode(rows: 8, context: 0))
        let head = Self.parts(Self.model(), 2..<4, head: true, .decode(rows: 8, context: 0))
        #expect(Self.isClose(head.arithmetic - layers.arithmetic, 2.0 * 4_000 * 2 * 8 / 1_000))
        // Only where something is sampled.
        let chunk = Self.parts(Self.model(), 2..<4, head: true, .prefill(rows: 8, start: 0, samples: false))
        #expect(Self.isClose(chunk.arithmetic, layers.arithmetic))
        let last = Self.parts(Self.model(), 2..<4, head: true, .prefill(rows: 8, start: 0, samples: true))
        #expect(Self.isClose(last.reading, 1_800 / 90) && Self.isClose(last.arithmetic, layers.arithmetic))
    }

    @Test func floatMatricesHaveTheirOwnRateAndOneRow() {
        var model = Self.model()
        model.arithmetic.layers[0] = .init(floatWeights: 225, floatBytes: 900)
        model.arithmetic.head = .init(floatWeights: 450, floatBytes: 1_800)
        let load = StepLoad.decode(rows: 100, context: 0)
        let layer = Self.parts(model, 0..<1, head: false, load)
        #expect(Self.isClose(layer.arithmetic, 2 * 225.0 * 100 / 75))
        let both = Self.parts(model, 0..<1, head: true, load)
        #expect(Self.isClose(both.arithmetic - layer.arithmetic, 2 * 450.0 * 100 / 75))
    }

    @Test func attentionGrowsWithContext() {
        // 9 bytes a position: 0.1 s; 4 · 2 operations a position: 8 / 75 s.
        let decode = Self.parts(Self.model(kv: 9, queryWidth: 2), 0..<3, head: false, .decode(rows: 4, context: 1_000))
        #expect(Self.isClose(decode.attention, 3 * 4_000 * 8.0 / 75))
        let wide = Self.parts(Self.model(kv: 90, queryWidth: 2), 0..<3, head: false, .decode(rows: 4, context: 1_000))
        #expect(Self.isClose(wide.attention, 3 * 4_000.0))
        // A chunk reads what is before it once; its rows see 11, 12 and 13 positions.
        let load = StepLoad.prefill(rows: 3, start: 10, samples: false)
        #expect(load.positionsRead == 13 && load.positionsSeen == 36)
    }

    /// Layer 0 has 900 bytes, 600 of them in four experts of which a row uses one, with 2,000 weights that a row multiplies.
    @Test func expertsAreReadAsTheyAreChosen() {
        var model = Self.model()
        model.arithmetic.layers[0].expertBytes = 600
        model.arithmetic.unusedExperts = 0.75
        func part(_ rows: Int) -> StageCost.Parts { Self.parts(model, 0..<1, head: false, .decode(rows: rows, context: 0)) }
        #expect(Self.isClose(part(1).reading, (300 + 600 * 0.25) / 90))
        // Two rows choose 1 - 0.75² of them: 9.25 s of arithmetic would be less.
        #expect(Self.isClose(part(2).arithmetic, 8) || Self.isClose(part(2).reading, (300 + 600 * 0.4375) / 90))
        #expect(Self.isClose(part(100).arithmetic, 400))
        // In floats: of 900 bytes all are, and half of them experts'.
        model.arithmetic.layers[0] = .init(floatWeights: 1, floatBytes: 900)
        model.arithmetic.layers[0].expertBytes = 450
        model.arithmetic.layers[0].expertFloatBytes = 450
        #expect(Self.isClose(part(1).reading, (450 + 450 * 0.25) / 90))
    }

    @Test func windowsBoundAttention() {
        var model = Self.model(kv: 9, queryWidth: 2)
        model.arithmetic.windows = [0, 16, 16, 0]
        let load = StepLoad.decode(rows: 2, context: 100)
        let whole = Self.parts(model, 0..<1, head: false, load).attention
        #expect(Self.isClose(whole, 2 * 100 * 8 / 75.0))
        #expect(Self.isClose(Self.parts(model, 1..<2, head: false, load).attention, whole * 0.16))
        #expect(Self.isClose(Self.parts(model, 0..<4, head: false, load).attention, whole * 2.32))
        #expect(Self.isClose(Self.parts(model, 1..<2, head: false, .decode(rows: 2, context: 5)).attention, whole * 0.05))
    }

    @Test func aStepsLoadIsThatOfItsSegments() {
        let step = Step(
            epoch: Epoch(1), number: StepNumber(1),
            segments: [
                Segment(sequence: SequenceID(1), start: 10, tokens: [1, 2, 3], newBlocks: [], samples: false),
                Segment(sequence: SequenceID(2), start: 99, tokens: [1], newBlocks: [], samples: true),
            ])
        #expect(StepLoad(step) == StepLoad(rows: 4, sampledRows: 1, positionsSeen: 136, positionsRead: 113))
    }

    @Test func correctionsMultiplyAndAreBounded() {
        var slow = Self.worker
        slow.correction = 3
        let cost = StageCost(model: Self.model(), demand: PlanDemand())
        #expect(Self.isClose(cost.decodeSeconds(slow, 0..<4, hasHead: true), 3 * cost.decodeSeconds(Self.worker, 0..<4, hasHead: true)))
        for (given, taken) in [(Double.nan, 1), (.infinity, 1), (-1, SpeedCorrection.least), (1e9, SpeedCorrection.most), (2, 2)] {
            let candidate = Planner.Candidate(key: ToyCluster.key(0), memoryBytes: 1, readBytesPerSecond: 1, correction: given)
            #expect(candidate.correction == taken)
        }
    }

    @Test func memoryIsWeightsAndRoomToWork() {
        let cost = StageCost(model: Self.model(kv: 3), demand: PlanDemand())
        #expect(cost.fixedBytes(0..<2, hasHead: false) == 1_800 + 500 + 70)
        #expect(cost.fixedBytes(2..<4, hasHead: true) == 1_800 + 1_800 + 70 + 7)
        #expect(cost.kvBytes(blocks: 2, layers: 3) == 2 * 32 * 3 * 3)
    }

    @Test func bytesAreReadByPeople() {
        #expect("\(ByteCount(228))" == "228 bytes" && "\(ByteCount(3 << 20))" == "3.00 MiB")
        #expect("\(ByteCount(49 << 28))" == "12.25 GiB" && "\(ByteCount(.max))" == "17179869183.99 GiB")
    }

    // MARK: - Corrections

    /// Windows of four steps of a tenth of a second each.
    private static func note(_ correction: inout SpeedCorrection, windows: Int, times ratio: Double, at now: Instant) {
        for _ in 0..<4 * windows { correction.note(measuredSeconds: 0.1, predictedSeconds: 0.1 / ratio, at: now) }
    }

    @Test func correctionsAreMediansOverWindows() {
        var correction = SpeedCorrection()
        let now = Instant(nanoseconds: 0)
        for _ in 0..<SpeedCorrection.windowsMin {
            #expect(correction.factor(at: now, isComputing: true) == 1)
            Self.note(&correction, windows: 1, times: 2, at: now)
        }
        #expect(Self.isClose(correction.factor(at: now, isComputing: true), 2))
        // A pause of the machine is one window of many.
        correction.note(measuredSeconds: 1e9, predictedSeconds: 0.01, at: now)
        #expect(Self.isClose(correction.factor(at: now, isComputing: true), 2))
        // What was is forgotten after as many windows.
        Self.note(&correction, windows: SpeedCorrection.windowsMax, times: 0.5, at: now)
        #expect(Self.isClose(correction.factor(at: now, isComputing: true), 0.5))
        Self.note(&correction, windows: SpeedCorrection.windowsMax, times: 1e30, at: now)
        #expect(correction.factor(at: now, isComputing: true) == SpeedCorrection.most)
    }

    /// Half a processor, given out in periods of 100 ms: of ten steps of 10 ms each, one stands still for 100 ms.
    @Test func aQuotaIsSeenThoughMostStepsAreFast() {
        var correction = SpeedCorrection()
        let now = Instant(nanoseconds: 0)
        for step in 0..<400 { correction.note(measuredSeconds: step % 10 == 9 ? 0.11 : 0.01, predictedSeconds: 0.01, at: now) }
        #expect(abs(correction.factor(at: now, isComputing: true) - 2) < 0.5)
    }

    @Test func correctionsFadeWithoutAStage() {
        var correction = SpeedCorrection()
        let start = Instant(nanoseconds: 5_000_000)
        Self.note(&correction, windows: SpeedCorrection.windowsMin, times: 3, at: start)
        let half = start.advanced(milliseconds: SpeedCorrection.fadeMs / 2)
        #expect(Self.isClose(correction.factor(at: half, isComputing: true), 3) && Self.isClose(correction.factor(at: half, isComputing: false), 2))
        #expect(correction.factor(at: half.advanced(milliseconds: SpeedCorrection.fadeMs), isComputing: false) == 1)
        correction.rest(at: half)
        #expect(Self.isClose(correction.factor(at: half, isComputing: false), 3))
    }
}
