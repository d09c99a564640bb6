import ClusterCore
import Dispatch
import Engine
import ModelFiles
import Synchronization
import Testing

@testable import Node

@Suite struct StageThreadTests {
    private let folder: TemporaryFolder
    private let tiny: TinyModel

    init() throws {
        folder = try TemporaryFolder()
        tiny = try TinyModel(folder)
    }

    /// Sequence 1, opened with `prompt`, or going on with one token.
    private func frame(_ number: UInt64, _ tokens: [TokenID], start: Int, opening sampling: SamplingParameters? = nil) -> StepFrame {
        let opens = sampling.map {
            [
                SequenceOpen(
                    sequence: SequenceID(1), choice: 0, tokens: tokens, promptLength: tokens.count, sampling: $0, endTokens: [], topLogprobs: nil)
            ]
        }
        return StepFrame(
            step: Step(
                epoch: Epoch(1), number: StepNumber(number), opens: opens ?? [],
                segments: [
                    Segment(
                        sequence: SequenceID(1), start: start, tokens: tokens, newBlocks: opens == nil ? [] : [BlockID(3), BlockID(0)], samples: true)
                ]))
    }

    /// Tokens that a chain of stage threads draws, each handing its rows to the next.
    private func generate(prompt: [TokenID], count: Int, sampling: SamplingParameters, cuts: [Int]) throws -> [TokenID] {
        let edges = [0] + cuts + [TinyModel.layers]
        let stages = (0..<edges.count - 1).map { _ in Worked() }
        for (index, stage) in stages.enumerated() {
            stage.post(.load(tiny.assignment(epoch: 1, stage: index, of: stages.count, layers: edges[index]..<edges[index + 1])))
            guard case .loaded(Epoch(1), _) = try stage.nextButProgress() else { throw Unexpected() }
        }
        var drawn: [TokenID] = []
        while drawn.count < count {
            let isFirst = drawn.isEmpty
            let step = frame(
                UInt64(drawn.count + 1), isFirst ? prompt : [drawn.last!], start: isFirst ? 0 : prompt.count + drawn.count - 1,
                opening: isFirst ? sampling : nil)
            var rows: ActivationBuffer?
            for (index, stage) in stages.enumerated() {
                stage.post(.compute(step, input: rows))
                guard case .computed(Epoch(1), step.step.number, let outcome, let output) = try stage.nextButProgress() else { throw Unexpected() }
                rows = output
                guard index == stages.count - 1 else {
                    #expect(outcome.tokens.isEmpty && output?.count == step.step.rowCount * 64 * 4)
                    continue
                }
                #expect(output == nil && outcome.tokens.map(\.position) == [prompt.count + drawn.count])
                drawn += outcome.tokens.map(\.emitted.token)
            }
        }
        for stage in stages { #expect(stage.end()) }
        return drawn
    }

    @Test(arguments: [[], [2], [1, 2, 3]])
    func stagesDrawWhatOneProcessDraws(cuts: [Int]) throws {
        var sampling = SamplingParameters()
        sampling.temperature = 0.9
        sampling.seed = 5
        let prompt: [TokenID] = (0..<37).map { $0 * 13 % 97 }
        let reference = try LocalGenerator(file: tiny.file).generate(prompt: prompt, maxTokens: 20, sampling: SamplingSettings(sampling))[0]
        #expect(try generate(prompt: prompt, count: 20, sampling: sampling, cuts: cuts) == reference.tokens.map(\.token))
    }

    @Test func aModelThatIsNotThereIsALoadFailure() throws {
        let stage = Worked()
        var assignment = tiny.assignment(epoch: 4)
        assignment.modelDigest = ClusterCore.ModelDigest(bytes: [UInt8](repeating: 1, count: 32))!
        stage.post(.load(assignment))
        guard case .loadFailed(Epoch(4), let failure) = try stage.nextButProgress() else { throw Unexpected() }
        #expect(failure.code == .loadFailed && failure.message.contains(tiny.path))
        assignment = tiny.assignment(epoch: 5, stage: 0, of: 1, layers: 0..<9)
        stage.post(.load(assignment))
        guard case .loadFailed(Epoch(5), let layers) = try stage.nextButProgress() else { throw Unexpected() }
        #expect(layers.message.contains("9"))
        stage.post(.load(tiny.assignment(epoch: 6)))
        guard case .loaded(Epoch(6), _) = try stage.nextButProgress() else { throw Unexpected() }
        #expect(stage.end())
    }

    @Test func aStepThatCannotBeComputedIsReported() throws {
        let stage = Worked()
        func failure(_ number: UInt64) throws -> Failure {
            guard case .failed(Epoch(1), StepNumber(number), let failure) = try stage.nextButProgress() else { throw Unexpected() }
            #expect(failure.code == .internalError)
            return failure
        }
        stage.post(.compute(frame(1, [1], start: 0, opening: SamplingParameters()), input: nil))
        #expect(try failure(1).message.contains("no layers"))

        stage.post(.load(tiny.assignment(epoch: 1, stage: 1, of: 2, layers: 2..<4)))
        guard case .loaded = try stage.nextButProgress() else { throw Unexpected() }
        let step = frame(2, [1, 2], start: 0, opening: SamplingParameters())
        stage.post(.compute(step, input: nil))
        #expect(try failure(2).message.contains("512 bytes, but 0 bytes"))
        stage.post(.compute(step, input: ActivationBuffer(byteCount: 511)))
        #expect(try failure(2).message.contains("511 bytes"))
        stage.post(.compute(frame(3, [1], start: 9), input: ActivationBuffer(byteCount: 256)))
        _ = try failure(3)

        let rows = ActivationBuffer(byteCount: 512)
        rows.rows.initializeMemory(as: UInt8.self, repeating: 0)
        stage.post(.compute(step, input: rows))
        guard case .computed(_, StepNumber(2), let outcome, nil) = try stage.nextButProgress() else { throw Unexpected() }
        #expect(outcome.tokens.count == 1, "what failed left nothing behind")

        stage.post(.unload)
        stage.post(.compute(step, input: rows))
        #expect(try failure(2).message.contains("no layers"))
        #expect(stage.end())
    }

    /// While it computes it can be seen to get on: five runs a layer, and the head's.
    @Test func aStepCountsPieceByPiece() throws {
        let stage = Worked()
        stage.post(.load(tiny.assignment(epoch: 1)))
        guard case .loaded = try stage.nextButProgress() else { throw Unexpected() }
        let before = stage.thread.workDone
        stage.post(.compute(frame(1, [1, 2, 3], start: 0, opening: SamplingParameters()), input: nil))
        guard case .computed = try stage.nextButProgress() else { throw Unexpected() }
        #expect(stage.thread.workDone >= before + 5 * UInt64(TinyModel.layers) + 1)
        #expect(stage.end())
    }

    /// The second command is posted on the stage thread itself, while it reports, so it always waits when the load begins.
    @Test func aLoadGivesWayToTheNextOne() throws {
        let stage = Worked()
        let loads = [tiny.assignment(epoch: 2), tiny.assignment(epoch: 3, stage: 0, of: 2, layers: 0..<2)]
        stage.onFirstReport = { stage in for load in loads { stage.post(.load(load)) } }
        stage.post(.compute(frame(1, [1], start: 0), input: nil))
        guard case .failed = try stage.nextButProgress(), case .loaded(Epoch(3), _) = try stage.nextButProgress() else { throw Unexpected() }
        stage.post(.unload)
        stage.post(.load(tiny.assignment(epoch: 4)))
        guard case .loaded(Epoch(4), _) = try stage.nextButProgress() else { throw Unexpected() }
        #expect(stage.end())
    }

    @Test func commandsAreBoundedAndNoneIsTakenAfterTheEnd() throws {
        let gate = DispatchSemaphore(value: 0)
        let stage = Worked()
        stage.onFirstReport = { _ in gate.wait() }
        #expect(stage.thread.post(.compute(frame(0, [1], start: 0), input: nil)))
        // The thread has the first one and stands in its report; the others wait.
        _ = try stage.nextButProgress()
        for number in 1...StageThread.commandsMax { #expect(stage.thread.post(.compute(frame(UInt64(number), [1], start: 0), input: nil))) }
        #expect(!stage.thread.post(.unload))
        gate.signal()
        for number in 1...StageThread.commandsMax {
            guard case .failed(_, StepNumber(UInt64(number)), _) = try stage.nextButProgress() else { throw Unexpected() }
        }
        #expect(stage.end())
        #expect(!stage.thread.post(.unload))
    }
}

struct Unexpected: Error {}

/// A stage thread whose reports are taken one by one.
final class Worked: Sendable {
    private static let patience = DispatchTimeInterval.seconds(60)

    private let reports = Mutex<[StageThread.Report]>([])
    private let arrived = DispatchSemaphore(value: 0)
    private let first = Mutex<((Worked) -> Void)?>(nil)
    private let made = Mutex<StageThread?>(nil)

    init(cache: PackedCache? = nil, weightsMemory: Int? = nil) {
        let configuration = StageThreadConfiguration(
            threads: 2, instructionSet: .portable, modelPath: nil, cache: cache, weightsMemory: weightsMemory)
        let thread = StageThread(configuration: configuration) { [self] in take($0) }
        made.withLock { $0 = thread }
    }

    var thread: StageThread { made.withLock { $0! } }

    /// Called on the stage thread, once.
    var onFirstReport: (@Sendable (Worked) -> Void)? {
        get { nil }
        set { first.withLock { $0 = newValue } }
    }

    private func take(_ report: StageThread.Report) {
        reports.withLock { $0.append(report) }
        arrived.signal()
        let action = first.withLock { action in
            defer { action = nil }
            return action
        }
        action?(self)
    }

    func post(_ command: StageThread.Command) { #expect(thread.post(command)) }

    func nextButProgress() throws -> StageThread.Report {
        while true {
            guard arrived.wait(timeout: .now() + Self.patience) == .success else { throw Unexpected() }
            let report = reports.withLock { $0.removeFirst() }
            if case .loadProgressed = report { continue }
            return report
        }
    }

    func end() -> Bool { thread.end(timeoutMs: 60_000) }
}
