import ClusterCore
import Engine
import Foundation
import Logging
import ModelFiles
import Synchronization

/// The thread that owns a worker's weights and KV and does nothing else: it takes one command after the other and reports each.
///
/// Its pool's other threads belong to it; nothing here runs on Swift's cooperative threads. A step that decodes asks nothing of the heap here,
/// from taking the command to reporting it: what it needs was made with the steps before.
final class StageThread: Sendable {
    /// More than the machine ever has open: two steps, loads and unloads, blocks to read, blocks from every other stage to write, and the end.
    static let commandsMax = 32 + Limits.kvFramesOpenMax * (1 + Limits.stagesMax)
    /// Between two reports of a load's progress.
    static let progressIntervalMs: UInt64 = 200
    /// Between two lines of the log about it.
    static let progressLogIntervalMs: UInt64 = 5_000

    enum Command: Sendable {
        case load(StageAssignment)
        case unload
        /// `input` is `nil` on the first stage.
        case compute(StepFrame, input: ActivationBuffer?)
        case prepare(StageAssignment)
        case dropPrepared
        case loadAhead(StageAssignment)
        case read(KVFrame)
        case write(KVFrame, ActivationBuffer, from: PeerKey)
        case adopt(StageAssignment)
    }

    enum Report: Sendable {
        case loadProgressed(Epoch, bytesDone: UInt64, bytesTotal: UInt64)
        /// `kept`: layers that still have the keys and values that were wanted kept.
        case loaded(Epoch, kept: Range<Int>)
        case loadFailed(Epoch, Failure)
        /// `output` is `nil` on the last stage.
        case computed(Epoch, StepNumber, StepOutcome, output: ActivationBuffer?)
        case failed(Epoch, StepNumber, Failure)
        case prepared(Epoch)
        case handoverFailed(Epoch, Failure)
        case read(KVFrame, ActivationBuffer)
        case written(KVFrame, from: PeerKey)
        case switched(Epoch)
        /// Empty: it could not be.
        case loadedAhead(Range<Int>)
    }

    private struct Queue {
        var commands: [Command] = []
        var ending = false
    }

    private let queue = Mutex(Queue())
    private let wake = DispatchSemaphore(value: 0)
    private let ended = DispatchSemaphore(value: 0)
    private let work = WorkDone()
    private let stepExpectedUntil = Atomic<UInt64>(0)

    /// What it calls, all on itself.
    struct Calls: Sendable {
        /// It has no command; after that it sleeps until the next one or has it already.
        var whenIdle: @Sendable (StageThread, inout StageHolder) -> Void = { _, _ in }
        /// A token that it will probably draw at this position. Says whether that was of use.
        var foretell: (@Sendable (SequenceID, _ position: Int, TokenID) -> Bool)?
        /// Must not block.
        var report: @Sendable (Report) -> Void
    }

    convenience init(configuration: StageThreadConfiguration, report: @escaping @Sendable (Report) -> Void) {
        self.init(configuration: configuration, calls: Calls(report: report))
    }

    /// Starts the thread.
    init(configuration: StageThreadConfiguration, calls: Calls) {
        queue.withLock { $0.commands.reserveCapacity(Self.commandsMax) }
        let thread = Thread { [self] in
            NodeThread.nameCurrent("stage")
            var stage = StageHolder(configuration: configuration, work: work, isSuperseded: { [self] in isSuperseded }, calls: calls)
            while let command = next(calls, &stage) {
                stage.perform(command, report: calls.report)
                stepExpectedUntil.store(stage.stepExpectedUntil.nanoseconds, ordering: .relaxed)
                work.note()
            }
            stage.end()
            ended.signal()
        }
        thread.stackSize = 8 << 20
        thread.start()
    }

    /// Grows while the thread gets on with what it does. What the system fetches from disk for it counts too: on a machine that swaps, one piece of
    /// a layer may take long and yet go on.
    var workDone: UInt64 {
        var usage = rusage()
        getrusage(RUSAGE_SELF.rawValue, &usage)
        return work.count &+ UInt64(max(0, usage.ru_majflt))
    }

    /// False when `commandsMax` commands wait.
    func post(_ command: Command) -> Bool {
        guard enqueue(command) else { return false }
        wakeUp()
        return true
    }

    /// `post` but for one `wakeUp` that has to follow.
    func enqueue(_ command: Command) -> Bool {
        queue.withLock { queue in
            guard queue.commands.count < Self.commandsMax, !queue.ending else { return false }
            queue.commands.append(command)
            return true
        }
    }

    func wakeUp() { wake.signal() }

    /// Whether it goes on with something when it is done with what it does.
    var hasCommands: Bool { queue.withLock { !$0.commands.isEmpty } }

    /// Whether the processor is kept awake for a lone stream's next step.
    func expectsStep(at now: Instant) -> Bool { now.nanoseconds < stepExpectedUntil.load(ordering: .relaxed) }

    private var isIdle: Bool { queue.withLock { $0.commands.isEmpty && !$0.ending } }

    /// Ends the thread after its present command and waits for that, at most so long. False when it still runs.
    func end(timeoutMs: Int) -> Bool {
        queue.withLock { $0.ending = true }
        wake.signal()
        return ended.wait(timeout: .now() + .milliseconds(timeoutMs)) == .success
    }

    private func next(_ calls: Calls, _ stage: inout StageHolder) -> Command? {
        if isIdle { calls.whenIdle(self, &stage) }
        wake.wait()
        return queue.withLock { queue in
            queue.ending || queue.commands.isEmpty ? nil : queue.commands.removeFirst()
        }
    }

    /// Whether a load may stop, and a step be left out, because another load, an unload or the end waits behind it.
    private var isSuperseded: Bool {
        queue.withLock { queue in
            queue.ending
                || queue.commands.contains {
                    switch $0 {
                    case .load, .unload: true
                    case .compute, .prepare, .dropPrepared, .loadAhead, .read, .write, .adopt: false
                    }
                }
        }
    }
}

/// What a stage thread is told at start.
package struct StageThreadConfiguration: Sendable {
    package var threads: Int
    /// The processor of each, the stage thread's own first; nil: wherever the system puts them.
    package var processors: [Int32]?
    package var instructionSet: InstructionSet
    /// The worker's own copy of the model; tried before the path that the coordinator names.
    package var modelPath: String?
    /// Where packed weights are kept from one start to the next; `nil` for nowhere.
    package var cache: PackedCache?
    /// What weights may take of the memory: a slice that has more is streamed from the cache. `nil`: all of it is in memory.
    package var weightsMemory: Int?
    /// Whether a processor is kept from halting while a lone stream's next step is expected, and the stage rehearses that meanwhile (`Rehearsal`),
    /// unless a control group limits processor time.
    package var staysAwake: Bool
    /// Hears how loading goes; `nil` for silence.
    package var logger: Logger?
    /// Gives the model file, fetched from others where need be; `nil`: it must be on this box.
    var supply: WeightSupply?

    package init(
        threads: Int, processors: [Int32]? = nil, instructionSet: InstructionSet, modelPath: String?, cache: PackedCache? = nil,
        weightsMemory: Int? = nil, staysAwake: Bool = true, logger: Logger? = nil
    ) {
        self.threads = threads
        self.processors = processors
        self.instructionSet = instructionSet
        self.modelPath = modelPath
        self.cache = cache
        self.weightsMemory = weightsMemory
        self.staysAwake = staysAwake
        self.logger = logger
    }

    /// The model file for this assignment's slice. `tick`: as `WeightSupply.open` has it; only what is fetched brings it about.
    func open(_ assignment: StageAssignment, tick: (_ bytesDone: Int, _ bytesTotal: Int) throws -> Void) throws -> any ModelSource {
        try supply?.open(assignment, path: modelPath, tick: tick)
            ?? ModelLocator.open(digest: assignment.modelDigest, paths: [modelPath, assignment.modelPath])
    }
}

/// The slice that the stage thread holds, and its work on it.
struct StageHolder {
    let configuration: StageThreadConfiguration
    private let work: WorkDone
    let isSuperseded: () -> Bool
    private var pool: ComputePool?
    var weights: StageWeights?
    private let keeper: WeightKeeper?
    let preparer: SlicePreparer
    var digest: ClusterCore.ModelDigest?
    var stage: Stage? { didSet { stage?.foretell = tell } }
    /// What a stage before it left.
    var past = StagePast()
    var traffic: StageTraffic?
    /// What was prepared beside it and is being filled.
    var incoming: SlicePreparer.Slice?
    /// What the weights had streamed when the last step ended.
    var streamed = StreamTotals()
    private var watch: ProcessorWatch?
    /// So long the processor is kept awake for the next step; past: it is not.
    private(set) var stepExpectedUntil = Instant(nanoseconds: 0)
    private var expectation = StepExpectation()
    /// On the last stage, whether the first one makes use of it.
    var foretells = false
    private let tell: ((_ sequence: UInt64, _ position: Int, _ token: Int32) -> Bool)?
    private var foretelling = Foretelling()
    /// What was begun before it came took so long so far.
    private var begunNanoseconds: UInt64 = 0
    // Filled anew with each step.
    private var batch = StageBatch(segments: [])
    private var outputs = ActivationBuffers()
    private var outcomes = [[ClusterCore.SampledToken]](repeating: [], count: Self.outcomesKept)
    private var nextOutcome = 0
    /// An outcome's tokens are done with before so many steps come after it.
    private static let outcomesKept = 4

    init(
        configuration: StageThreadConfiguration, work: WorkDone, isSuperseded: @escaping () -> Bool, calls: StageThread.Calls
    ) {
        self.configuration = configuration
        self.work = work
        self.isSuperseded = isSuperseded
        keeper = configuration.cache == nil ? nil : WeightKeeper(logger: configuration.logger)
        preparer = SlicePreparer(configuration: configuration, report: calls.report)
        tell = calls.foretell.map { foretell in { foretell(SequenceID($0), $1, $2) } }
    }

    mutating func perform(_ command: StageThread.Command, report: (StageThread.Report) -> Void) {
        switch command {
        case .load(let assignment):
            do {
                let kept = try load(assignment, report: report)
                report(.loaded(assignment.epoch, kept: kept))
            } catch is Superseded {
                return
            } catch {
                unload()
                report(.loadFailed(assignment.epoch, Failure(.loadFailed, "\(error)")))
            }
        case .unload:
            unload()
        case .compute(let frame, let input):
            // Its epoch is over, and nobody waits for it.
            guard !isSuperseded() else { return }
            expectation.began(at: MonotonicClock.now)
            watch?.rest()
            do {
                let (outcome, output) = try compute(frame, input: input)
                report(.computed(frame.step.epoch, frame.step.number, outcome, output: output))
                let now = MonotonicClock.now
                if let window = expectation.ended(frame.step, at: now), let watch {
                    watch.keep(nanoseconds: window)
                    stepExpectedUntil = Instant(nanoseconds: now.nanoseconds &+ window)
                }
            } catch {
                // Their file is gone, and the next load packs them anew.
                if (error as? EngineError)?.code == .weightsLost { unload() }
                report(.failed(frame.step.epoch, frame.step.number, Failure(.internalError, "\(error)")))
            }
        case .prepare(let assignment): prepare(assignment)
        case .dropPrepared: dropPrepared()
        case .loadAhead(let assignment): loadAhead(assignment)
        case .read(let frame): attempt(frame.epoch, report) { .read(frame, try $0.read(frame)) }
        case .write(let frame, let bytes, let peer):
            attempt(frame.epoch, report) { holder in
                try holder.write(frame, from: bytes)
                return .written(frame, from: peer)
            }
        case .adopt(let assignment):
            attempt(assignment.epoch, report) { holder in
                try holder.adopt(assignment)
                return .switched(assignment.epoch)
            }
        }
    }

    private mutating func attempt(
        _ epoch: Epoch, _ report: (StageThread.Report) -> Void, _ body: (inout StageHolder) throws -> StageThread.Report
    ) {
        do { report(try body(&self)) } catch { report(.handoverFailed(epoch, Failure(.internalError, "\(error)"))) }
    }

    private struct Superseded: Error {}

    private mutating func unload() {
        past = StagePast()
        unloadWeights()
    }

    private mutating func unloadWeights() {
        stage = nil
        // It holds the weights too.
        keeper?.cancel()
        weights = nil
        digest = nil
        dropPrepared()
    }

    mutating func end() {
        unload()
        preparer.end()
        keeper?.end()
    }

    private mutating func load(_ assignment: StageAssignment, report: (StageThread.Report) -> Void) throws -> Range<Int> {
        let slice = StageSlice(assignment)
        past.setAside(stage, for: assignment)
        stage = nil
        takeAhead(assignment)
        dropPrepared()
        let pool = try ownPool()
        if weights?.slice != slice || digest != assignment.modelDigest {
            // Layers that stay here are not loaded again; the others go at once, for the new ones may need their room.
            // Where memory is bounded nothing is held: what was in memory comes from the cache.
            let held = digest == assignment.modelDigest && configuration.weightsMemory == nil ? weights?.part(slice) : nil
            unloadWeights()
            weights = try loadWeights(assignment, slice, pool, held, report)
            digest = assignment.modelDigest
        }
        try weights!.start(pool: pool)
        streamed = weights!.streamTotals
        let (made, kept) = try past.stage(assignment, weights!, pool, configuration.instructionSet)
        stage = made
        foretells = assignment.foretells
        traffic = StageTraffic(weights: weights!, kvType: Engine.KVType(assignment.kvType))
        return kept
    }

    /// Of the stage thread, made when it is first needed.
    mutating func ownPool() throws -> ComputePool {
        // Before the pool, which pins this thread: others start where this one may run.
        if watch == nil, configuration.staysAwake, !ProcessorQuota.isSet { watch = ProcessorWatch(processor: configuration.processors?.first) }
        if pool == nil {
            pool = try ComputePool(threads: configuration.threads, processors: configuration.processors)
            pool!.workDone = work
        }
        return pool!
    }

    /// Writes into the cache what came in without it.
    func keepNew(_ weights: StageWeights) { if weights.unkeptBytes > 0 { keeper?.keep(weights) } }

    private func loadWeights(
        _ assignment: StageAssignment, _ slice: StageSlice, _ pool: ComputePool, _ held: StageWeights.Units?,
        _ report: (StageThread.Report) -> Void
    ) throws -> StageWeights {
        let started = MonotonicClock.now
        var reported = started
        var logged = started
        func progressed(_ done: Int, _ total: Int) throws {
            if isSuperseded() { throw Superseded() }
            let now = MonotonicClock.now
            if now.milliseconds(since: reported) >= StageThread.progressIntervalMs {
                reported = now
                report(.loadProgressed(assignment.epoch, bytesDone: UInt64(done), bytesTotal: UInt64(total)))
            }
            if now.milliseconds(since: logged) >= StageThread.progressLogIntervalMs {
                logged = now
                configuration.logger?.info("loading", metadata: ["done_mib": "\(done >> 20)", "of_mib": "\(total >> 20)"])
            }
        }
        // Bytes that are fetched count as progress like those that are packed then.
        var fetched = 0
        let file = try configuration.open(assignment) { done, total in
            fetched = done
            try progressed(done, total)
        }
        let weights = try StageWeights(
            file: file, model: ModelConfiguration(source: file), slice: slice, pool: pool, cache: configuration.cache, sharing: held,
            memoryMax: configuration.weightsMemory
        ) { done, total in try progressed(fetched + done, fetched + total) }
        log(weights, milliseconds: MonotonicClock.now.milliseconds(since: started))
        keepNew(weights)
        return weights
    }

    private func log(_ weights: StageWeights, milliseconds: UInt64) {
        guard let logger = configuration.logger else { return }
        for (unit, refusal) in weights.origin.refused {
            logger.warning("kept weights were not used; packing them again", metadata: ["unit": "\(unit.name)", "reason": "\(refusal.rawValue)"])
        }
        let origin = weights.origin
        logger.info(
            "weights are ready",
            metadata: [
                "first_layer": "\(weights.slice.layers.lowerBound)", "layers": "\(weights.slice.layers.count)", "ms": "\(milliseconds)",
                "mib": "\(weights.byteCount >> 20)", "packed_mib": "\(origin.packedBytes >> 20)", "cached_mib": "\(origin.cachedBytes >> 20)",
                "mapped_mib": "\(origin.mappedBytes >> 20)", "huge_mib": "\(origin.hugePageBytes >> 20)",
                "streamed_mib_per_step": "\(weights.streamedBytesPerStep >> 20)",
            ])
    }

    // MARK: Foretold steps

    /// Begins with a step that will probably come, in `goOn`.
    mutating func begin(_ frame: StepFrame) {
        batch.fill(frame)
        let began = MonotonicClock.now
        guard stage?.begin(batch) == true else { return }
        watch?.rest()
        begunNanoseconds = MonotonicClock.now.nanoseconds(since: began)
    }

    /// Computes another layer of it. False: there is none to compute.
    mutating func goOn() -> Bool {
        guard let stage, stage.hasBegun else { return false }
        let began = MonotonicClock.now
        guard stage.goOn() else { return false }
        begunNanoseconds += MonotonicClock.now.nanoseconds(since: began)
        return true
    }

    private mutating func compute(_ frame: StepFrame, input: ActivationBuffer?) throws -> (StepOutcome, ActivationBuffer?) {
        guard let stage, let weights else {
            throw NodeError(.wrongStep, "a step came for a stage that holds no layers")
        }
        batch.fill(frame)
        batch.isForetold = foretells && foretelling.isWorthwhile(frame.step)
        past.began(frame.step.epoch)
        let rowsBytes = stage.boundaryBytes(rows: batch.rowCount, rebuild: batch.rebuild)
        if !weights.slice.hasEmbedding, input?.count != rowsBytes.input {
            throw NodeError(
                .wrongStep, "step \(frame.step.number.value) has \(batch.rowCount) rows, \(rowsBytes.input) bytes, but \(input?.count ?? 0) bytes came with it")
        }
        let output = weights.slice.hasHead ? nil : outputs.next(byteCount: rowsBytes.output)
        let started = MonotonicClock.now
        let result = try stage.run(
            batch, input: UnsafeRawBufferPointer(input?.rows ?? .init(start: nil, count: 0)), output: output?.rows ?? .init(start: nil, count: 0))
        let nanoseconds = MonotonicClock.now.nanoseconds(since: started)
        let begun = result.layersBegun > 0 ? begunNanoseconds : 0
        foretelling.note(frame.step, foretold: result.foretold, drawn: result.samples.first?.token.token)
        nextOutcome = (nextOutcome + 1) % Self.outcomesKept
        var outcome = StepOutcome(result, computeNanoseconds: begun + nanoseconds, startedAt: started, tokens: &outcomes[nextOutcome])
        outcome.begunNanoseconds = begun
        let totals = weights.streamTotals
        outcome.streamedBytes = totals.bytes - streamed.bytes
        outcome.streamWaitNanoseconds = totals.waitNanoseconds - streamed.waitNanoseconds
        outcome.streamReadNanoseconds = totals.readNanoseconds - streamed.readNanoseconds
        streamed = totals
        if batch.rebuild == nil { outcome.readBytes = UInt64(traffic?.bytes(batch) ?? 0) }
        return (outcome, output)
    }
}
