import ClusterCore
import Engine
import Foundation
import Testing

@testable import Node

/// A stage thread whose weights may take less memory than they are.
@Suite struct StageStreamingTests {
    private let folder: TemporaryFolder
    private let tiny: TinyModel
    private let cache: PackedCache
    /// For the tied head and two of four layers.
    private static let memory = 288_000

    init() throws {
        folder = try TemporaryFolder()
        tiny = try TinyModel(folder)
        var limits = PackedCache.Limits()
        limits.freeBytesMin = 0
        cache = PackedCache(folder: folder.file("packed"), limits: limits)
    }

    private func frame(_ number: UInt64, epoch: UInt64, _ tokens: [TokenID], start: Int, opens: Bool = false) -> StepFrame {
        let opening = SequenceOpen(
            sequence: SequenceID(1), choice: 0, tokens: tokens, promptLength: tokens.count, sampling: SamplingParameters(), endTokens: [],
            topLogprobs: nil)
        let segment = Segment(
            sequence: SequenceID(1), start: start, tokens: tokens, newBlocks: opens ? [BlockID(3), BlockID(0)] : [], samples: true)
        return StepFrame(
            step: Step(epoch: Epoch(epoch), number: StepNumber(number), opens: opens ? [opening] : [], segments: [segment]))
    }

    private func load(_ stage: Worked, epoch: UInt64) throws {
        stage.post(.load(tiny.assignment(epoch: epoch)))
        guard case .loaded(Epoch(epoch), _) = try stage.nextButProgress() else { throw Unexpected() }
    }

    /// Tokens of steps 1, 2, …, `count`; ends before the one that fails.
    private func generate(_ stage: Worked, epoch: UInt64, count: Int, afterFirst: () throws -> Void = {}) throws -> (
        tokens: [TokenID], streamed: [UInt64], failure: Failure?
    ) {
        let prompt: [TokenID] = (0..<37).map { $0 * 13 % 97 }
        var drawn: [TokenID] = []
        var streamed: [UInt64] = []
        while drawn.count < count {
            let isFirst = drawn.isEmpty
            let step = frame(
                UInt64(drawn.count + 1), epoch: epoch, isFirst ? prompt : [drawn.last!], start: isFirst ? 0 : prompt.count + drawn.count - 1,
                opens: isFirst)
            stage.post(.compute(step, input: nil))
            switch try stage.nextButProgress() {
            case .computed(_, _, let outcome, _):
                drawn += outcome.tokens.map(\.emitted.token)
                streamed.append(outcome.streamedBytes)
            case .failed(_, _, let failure): return (drawn, streamed, failure)
            default: throw Unexpected()
            }
            if isFirst { try afterFirst() }
        }
        return (drawn, streamed, nil)
    }

    private func reference(_ count: Int) throws -> [TokenID] {
        let stage = Worked()
        try load(stage, epoch: 1)
        let tokens = try generate(stage, epoch: 1, count: count).tokens
        #expect(stage.end())
        return tokens
    }

    @Test func stepsStreamAndDrawTheSame() throws {
        let stage = Worked(cache: cache, weightsMemory: Self.memory)
        try load(stage, epoch: 1)
        let found = try generate(stage, epoch: 1, count: 12)
        #expect(try found.tokens == reference(12))
        #expect(found.streamed.reduce(0, +) > 12 * 400_000, "four layers of 123 KB a step")
        // The next epoch's stage goes on with the weights that are there.
        try load(stage, epoch: 2)
        #expect(try generate(stage, epoch: 2, count: 12).tokens == found.tokens)
        #expect(stage.end())
    }

    /// A file is damaged while it is streamed: the step fails and says why, nothing wrong is drawn, and the next load is sound.
    @Test func aDamagedFileFailsTheStepAndIsPackedAnew() throws {
        let expected = try reference(12)
        let stage = Worked(cache: cache, weightsMemory: Self.memory)
        try load(stage, epoch: 1)
        let found = try generate(stage, epoch: 1, count: 12) {
            let paths = FileManager.default.enumerator(atPath: cache.folder)?.compactMap { $0 as? String } ?? []
            let path = cache.folder + "/" + (try #require(paths.first { $0.hasSuffix("/layer-2.packed") }))
            #expect(chmod(path, 0o600) == 0)
            let handle = try #require(FileHandle(forUpdatingAtPath: path))
            try handle.seek(toOffset: 5_000)
            try handle.write(contentsOf: [0x55, 0xAA, 0x55])
            try handle.close()
        }
        #expect(found.failure?.message.contains("layer-2") == true)
        #expect(found.tokens.count < 12 && found.tokens == Array(expected.prefix(found.tokens.count)))
        try load(stage, epoch: 2)
        #expect(try generate(stage, epoch: 2, count: 12).tokens == expected)
        #expect(stage.end())
    }

    @Test func tooLittleMemoryIsALoadFailure() throws {
        let stage = Worked(cache: cache, weightsMemory: 100_000)
        stage.post(.load(tiny.assignment(epoch: 1)))
        guard case .loadFailed(Epoch(1), let failure) = try stage.nextButProgress() else { throw Unexpected() }
        #expect(failure.message.contains("--weights-memory"))
        #expect(stage.end())
    }
}
