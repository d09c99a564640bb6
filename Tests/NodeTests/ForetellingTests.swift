import ClusterCore
import Dispatch
import Engine
import Synchronization
import Testing
import ZeroMQ

@testable import Node

/// When the last stage foretells tokens, and what a stage thread makes of a step that is foretold it.
@Suite struct ForetellingTests {
    private func step(_ number: UInt64, followUps: Int, sequence: UInt64 = 1, tokens: [TokenID] = [5]) -> Step {
        var step = Step(
            epoch: Epoch(1), number: StepNumber(number),
            segments: [Segment(sequence: SequenceID(sequence), start: 3, tokens: tokens, newBlocks: [], samples: true)])
        step.followUps = followUps
        return step
    }

    @Test func onlyOfALoneStream() {
        var foretelling = Foretelling()
        #expect(foretelling.isWorthwhile(step(1, followUps: 2)))
        #expect(!foretelling.isWorthwhile(step(1, followUps: 0)))
        #expect(!foretelling.isWorthwhile(step(1, followUps: 2, tokens: [1, 2])))
        var two = step(1, followUps: 2)
        two.segments.append(two.segments[0])
        #expect(!foretelling.isWorthwhile(two))
        // The last that the stages add.
        foretelling.note(step(1, followUps: 1), foretold: 4, drawn: 4)
        #expect(foretelling.isWorthwhile(step(2, followUps: 0)))
        foretelling.note(step(2, followUps: 0), foretold: 4, drawn: 4)
        #expect(!foretelling.isWorthwhile(step(3, followUps: 0)))
    }

    /// Tokens that can't be foretold are not, until it is tried again; another sequence begins anew.
    @Test func whoIsOftenWrongPauses() {
        var foretelling = Foretelling()
        var told = 0
        for number in UInt64(1)...1_000 {
            let isTold = foretelling.isWorthwhile(step(number, followUps: 2))
            told += isTold ? 1 : 0
            foretelling.note(step(number, followUps: 2), foretold: isTold ? 4 : nil, drawn: 5)
        }
        #expect((20...60).contains(told), "\(told)")
        // In a pause: a token more is not foretold, but another sequence's is.
        while foretelling.isWorthwhile(step(1_001, followUps: 2)) { foretelling.note(step(1_001, followUps: 2), foretold: 4, drawn: 5) }
        foretelling.note(step(1_002, followUps: 2), foretold: nil, drawn: 5)
        #expect(!foretelling.isWorthwhile(step(1_003, followUps: 2)))
        foretelling.note(step(1_004, followUps: 2, sequence: 2), foretold: nil, drawn: 5)
        #expect(foretelling.isWorthwhile(step(1_005, followUps: 2, sequence: 2)))
        var mostly = Foretelling()
        for number in UInt64(1)...1_000 {
            #expect(mostly.isWorthwhile(step(number, followUps: 2)), "one of five is wrong, step \(number)")
            mostly.note(step(number, followUps: 2), foretold: 4, drawn: number % 5 == 0 ? 5 : 4)
        }
    }

    /// A thread that draws by itself, once as ever and once with each next step begun while it is idle, rightly or wrongly.
    @Test func whatIsBegunWhileIdleIsTheStep() throws {
        let folder = try TemporaryFolder()
        let tiny = try TinyModel(folder)
        let plain = try generate(tiny) { _ in nil }
        #expect(plain.begun.allSatisfy { $0 == 0 } && plain.tokens.count == 40)
        let begun = try generate(tiny) { made in (made % 3 != 0, made % 6) }
        #expect(begun.tokens == plain.tokens)
        #expect(begun.begun == (0..<40).map { $0 % 3 != 0 ? min($0 % 6, TinyModel.layers) : 0 })
    }

    private static let prompt = (0..<20).map { TokenID($0 * 7 % TinyModel.vocabulary) }

    private static func frame(_ made: Int, after token: TokenID?) -> StepFrame {
        let open = SequenceOpen(
            sequence: SequenceID(1), choice: 0, tokens: prompt, promptLength: prompt.count, sampling: SamplingParameters(), endTokens: [],
            topLogprobs: nil)
        let segment = Segment(
            sequence: SequenceID(1), start: token == nil ? 0 : prompt.count + made - 1, tokens: token.map { [$0] } ?? prompt,
            newBlocks: token == nil ? [BlockID(0), BlockID(1)] : [], samples: true)
        return StepFrame(
            step: Step(epoch: Epoch(1), number: StepNumber(UInt64(made + 1)), opens: token == nil ? [open] : [], segments: [segment]))
    }

    /// - Parameter early: whether a stage that has made so many tokens begins with the step after them, and how far it gets.
    private func generate(
        _ tiny: TinyModel, early: @escaping @Sendable (_ made: Int) -> (isRight: Bool, layers: Int)?
    ) throws -> (tokens: [TokenID], begun: [Int]) {
        let reports = try Mailbox<StageThread.Report>(capacity: 16)
        let made = Mutex<[TokenID]>([])
        let (idle, arrived) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        let calls = StageThread.Calls(
            whenIdle: { _, holder in
                let tokens = made.withLock { $0 }
                if let last = tokens.last, let (isRight, layers) = early(tokens.count) {
                    holder.begin(Self.frame(tokens.count, after: isRight ? last : (last + 1) % TokenID(TinyModel.vocabulary)))
                    for _ in 0..<layers { _ = holder.goOn() }
                }
                idle.signal()
            },
            report: { report in
                if case .computed(_, _, let outcome, _) = report { made.withLock { $0 += outcome.tokens.map(\.emitted.token) } }
                _ = reports.post(report)
                arrived.signal()
            })
        let thread = StageThread(configuration: StageThreadConfiguration(threads: 1, instructionSet: .portable, modelPath: nil), calls: calls)
        defer { #expect(thread.end(timeoutMs: 60_000)) }
        func answer(to command: StageThread.Command) throws -> StageThread.Report {
            try #require(idle.wait(timeout: .now() + 60) == .success)
            #expect(thread.post(command))
            while true {
                try #require(arrived.wait(timeout: .now() + 60) == .success)
                var drained: [StageThread.Report] = []
                reports.drain(into: &drained)
                guard let last = drained.last else { continue }
                if case .loadProgressed = last { continue }
                return last
            }
        }
        guard case .loaded = try answer(to: .load(tiny.assignment(epoch: 1))) else { throw Unexpected() }
        var begun: [Int] = []
        for step in 0..<40 {
            let frame = Self.frame(step, after: made.withLock { $0.last })
            guard case .computed(_, _, let outcome, _) = try answer(to: .compute(frame, input: nil)) else { throw Unexpected() }
            begun.append(outcome.layersBegun)
            #expect((outcome.layersBegun > 0) == (outcome.begunNanoseconds > 0) && outcome.begunNanoseconds <= outcome.computeNanoseconds)
        }
        return (made.withLock { $0 }, begun)
    }

    private struct Unexpected: Error {}
}
