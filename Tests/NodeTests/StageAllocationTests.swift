#if canImport(AllocationCounter)
    import AllocationCounter
    import ClusterCore
    import Dispatch
    import Engine
    import Synchronization
    import Testing
    import ZeroMQ

    @testable import Node

    /// What the stage thread asks of the heap for a step that decodes, from one report to the next: taking the command, translating it, computing,
    /// sampling, and posting the report where the socket thread finds it.
    @Suite(.serialized) struct StageAllocationTests {
        private static let patience = DispatchTimeInterval.seconds(60)
        private static let steps = 50
        /// Steps in which buffers get their size.
        private static let warmUp = 8

        private func frame(_ number: UInt64, start: Int, tokens: [TokenID], blocks: [BlockID], isOpening: Bool) -> StepFrame {
            let opening = SequenceOpen(
                sequence: SequenceID(1), choice: 0, tokens: tokens, promptLength: tokens.count, sampling: SamplingParameters(), endTokens: [],
                topLogprobs: nil)
            return StepFrame(
                step: Step(
                    epoch: Epoch(1), number: StepNumber(number), opens: isOpening ? [opening] : [],
                    segments: [Segment(sequence: SequenceID(1), start: start, tokens: tokens, newBlocks: blocks, samples: true)]))
        }

        /// Allocations of the stage thread between the reports of each two decode steps.
        private func allocations(stage: Int, of count: Int, layers: Range<Int>, tiny: TinyModel) throws -> [Int64] {
            let reports = try Mailbox<StageThread.Report>(capacity: 16)
            let (counts, arrived) = (Counts(), DispatchSemaphore(value: 0))
            let configuration = StageThreadConfiguration(threads: 1, instructionSet: .portable, modelPath: nil)
            let thread = StageThread(configuration: configuration) { report in
                counts.note(allocations_of_this_thread())
                _ = reports.post(report)
                arrived.signal()
            }
            var drained: [StageThread.Report] = []
            func next() throws -> StageThread.Report {
                while true {
                    try #require(arrived.wait(timeout: .now() + Self.patience) == .success)
                    reports.drain(into: &drained)
                    // One look may have taken what two reports announced.
                    guard let last = drained.last else { continue }
                    if case .loadProgressed = last { continue }
                    return last
                }
            }
            #expect(thread.post(.load(tiny.assignment(epoch: 1, stage: stage, of: count, layers: layers))))
            guard case .loaded = try next() else { throw Unexpected() }
            // The prompt's length leaves room, in tables that double, for all that follows.
            let prompt = (0..<70).map { TokenID($0 % TinyModel.vocabulary) }
            for step in 0..<Self.steps {
                let start = step == 0 ? 0 : prompt.count + step - 1
                let blocks = step == 0 ? [BlockID(0), BlockID(1), BlockID(2), BlockID(3), BlockID(4)] : []
                let tokens = step == 0 ? prompt : [TokenID(step % TinyModel.vocabulary)]
                let input = stage == 0 ? nil : ActivationBuffer(byteCount: tokens.count * 64 * 4)
                input?.rows.initializeMemory(as: UInt8.self, repeating: 0)
                if step == Self.warmUp { counts.clear() }
                let frame = self.frame(UInt64(step + 1), start: start, tokens: tokens, blocks: blocks, isOpening: step == 0)
                #expect(thread.post(.compute(frame, input: input)))
                guard case .computed = try next() else { throw Unexpected() }
            }
            #expect(thread.end(timeoutMs: 60_000))
            return counts.differences
        }

        /// As in the engine's tests: optimised, nothing at all; unoptimised code boxes, the same number in most steps. Tokens whose hashes collide,
        /// by this process's seed, box 14 times more for each of those that meet.
        @Test(arguments: [0..<4, 0..<2, 2..<4])
        func aDecodeStepAllocatesNothing(layers: Range<Int>) throws {
            let folder = try TemporaryFolder()
            let tiny = try TinyModel(folder)
            let count = layers.count == TinyModel.layers ? 1 : 2
            let counts = try allocations(stage: layers.lowerBound == 0 ? 0 : 1, of: count, layers: layers, tiny: tiny)
            try #require(counts.count >= 40)
            #if DEBUG
                let usual = counts.sorted()[counts.count / 2]
                #expect(counts.allSatisfy { abs($0 - usual) <= 64 } && counts.count { $0 != usual } <= counts.count / 2, "\(counts)")
            #else
                #expect(counts.allSatisfy { $0 == 0 }, "\(counts)")
            #endif
        }
    }

    /// Written on the stage thread without asking for memory.
    private final class Counts: Sendable {
        private let values = Mutex<[Int64]>([])

        init() { values.withLock { $0.reserveCapacity(256) } }

        func note(_ value: Int64) { values.withLock { $0.append(value) } }
        func clear() { values.withLock { $0.removeAll(keepingCapacity: true) } }
        var differences: [Int64] { values.withLock { values in zip(values, values.dropFirst()).map { $1 - $0 } } }
    }
#endif
