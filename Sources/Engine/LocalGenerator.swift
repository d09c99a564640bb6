import ModelFiles

/// The whole model in one process: tokens in, tokens out. The reference that the cluster must equal.
///
/// Not `Sendable`: the thread that makes it takes part in its computing.
package final class LocalGenerator {
    package struct Options: Sendable {
        /// The calling thread included.
        package var threads = 1
        package var kvType = KVType.f16
        package var boundary = BoundaryType.f32
        /// Positions that a sequence may have, if fewer than the model was made for.
        package var contextLength: Int?
        /// Rows of a prefill batch.
        package var chunkRows = 512
        /// nil: what `InstructionSet.fromEnvironment` says.
        package var instructionSet: InstructionSet?
        /// Where packed weights are looked for before they are packed; nothing is written there.
        package var cache: PackedCache?
        /// Weights that would take more bytes are streamed from `cache`, which then gets what it lacks.
        package var weightsMemory: Int?
        package init() {}
    }

    package enum Finish: String, Sendable {
        /// An end or stop token was drawn; it is the last of the tokens.
        case stop
        /// `maxTokens` were drawn, or the context is full.
        case length
        /// `onToken` said so.
        case ended
    }

    package struct Choice: Sendable {
        package var tokens: [SampledToken] = []
        package var finish = Finish.length
    }

    package let model: ModelConfiguration
    package let contextLength: Int
    package let instructionSet: InstructionSet
    package let weightBytes: Int
    private let options: Options
    private let pool: ComputePool
    private let weights: StageWeights

    /// Loads the model; `progress` as in `StageWeights`. The file is not needed afterwards.
    package init(
        file: any ModelSource, options: Options = Options(), progress: (_ bytesDone: Int, _ bytesTotal: Int) throws -> Void = { _, _ in }
    ) throws {
        model = try ModelConfiguration(source: file)
        contextLength = min(model.contextLength, options.contextLength ?? model.contextLength)
        instructionSet = try options.instructionSet ?? InstructionSet.fromEnvironment()
        self.options = options
        pool = try ComputePool(threads: options.threads)
        weights = try StageWeights(
            file: file, model: model, slice: .whole(model), pool: pool, cache: options.cache, memoryMax: options.weightsMemory,
            progress: progress)
        weightBytes = weights.byteCount
    }

    /// Continues `prompt` `choices` times, all side by side. `onToken` hears of each token as it is drawn; false ends that choice.
    package func generate(
        prompt: [Int32], choices: Int = 1, maxTokens: Int, sampling: SamplingSettings, endTokens: [Int32] = [],
        stopTokens: [Int32] = [], ignoresEndTokens: Bool = false, topLogprobs: Int? = nil,
        onToken: (_ choice: Int, _ token: SampledToken) throws -> Bool = { _, _ in true }
    ) throws -> [Choice] {
        let limit = min(maxTokens, contextLength - prompt.count)
        guard limit > 0 else {
            throw EngineError(
                .contextExceeded,
                "The prompt has \(prompt.count) tokens and \(maxTokens) more are wanted; the context holds \(contextLength), and at least one must be left.")
        }
        let forbidding = Array(Set(endTokens + stopTokens)).sorted()
        let ending = Set(stopTokens + (ignoresEndTokens ? [] : endTokens))
        var running = (0..<choices).map { Running(number: $0, waiting: prompt) }
        var done = Array(repeating: Choice(), count: choices)
        let stage = try stage(positions: prompt.count + limit, sequences: choices)
        var blocks = BlockCounter()
        var opens = running.map { one in
            SequenceOpening(
                sequence: UInt64(one.number), tokens: prompt, promptLength: prompt.count, sampling: sampling, choice: UInt32(one.number),
                endTokens: forbidding, topLogprobs: topLogprobs)
        }

        while !running.isEmpty {
            let result = try stage.run(StageBatch(opens: opens, segments: nextSegments(&running, &blocks)))
            opens = []
            try throwIfPoisoned(result)
            for sample in result.samples {
                let number = Int(sample.sequence)
                done[number].tokens.append(sample.token)
                let wanted = try onToken(number, sample.token)
                var finish: Finish?
                if ending.contains(sample.token.token) {
                    finish = .stop
                } else if !wanted {
                    finish = .ended
                } else if done[number].tokens.count == limit {
                    finish = .length
                }
                let index = running.firstIndex { $0.number == number }!
                if let finish {
                    done[number].finish = finish
                    running.remove(at: index)
                } else {
                    running[index].waiting = [sample.token.token]
                }
            }
        }
        return done
    }

    /// The logits after each token of `tokens` from position `wanted` on, in order: f32[vocabulary], valid during the call. `promptLength`: how many
    /// of them are a prompt, which is computed in chunks, while the others come one by one; nil: all.
    package func logits(
        tokens: [Int32], promptLength: Int? = nil, from wanted: Int = 0, _ body: (_ row: Int, _ logits: UnsafeBufferPointer<Float>) -> Void
    ) throws {
        guard !tokens.isEmpty, tokens.count <= contextLength else {
            throw EngineError(.contextExceeded, "Logits of \(tokens.count) tokens were asked for; 1 to \(contextLength) fit into the context.")
        }
        let prompt = promptLength ?? tokens.count
        let stage = try stage(positions: tokens.count, sequences: 1)
        var running = [Running(number: 0, waiting: Array(tokens[..<prompt]))]
        var blocks = BlockCounter()
        var opens = [SequenceOpening(sequence: 0, tokens: running[0].waiting, promptLength: prompt)]
        while running[0].position < tokens.count {
            let first = running[0].position
            if first >= prompt { running[0].waiting = [tokens[first]] }
            let batch = StageBatch(opens: opens, segments: nextSegments(&running, &blocks))
            try stage.logits(batch, from: min(max(0, wanted - first), batch.rowCount)) { row, logits in body(first + row, logits) }
            opens = []
        }
    }

    /// Takes `tokens` through the layers and has `watch` see what each matrix is given.
    package func compute(tokens: [Int32], watch: MatrixInputs) throws {
        guard !tokens.isEmpty, tokens.count <= contextLength else {
            throw EngineError(.contextExceeded, "\(tokens.count) tokens were to be computed; 1 to \(contextLength) fit into the context.")
        }
        let stage = try stage(positions: tokens.count, sequences: 1)
        stage.watch(watch)
        var running = [Running(number: 0, waiting: tokens)]
        var blocks = BlockCounter()
        var opens = [SequenceOpening(sequence: 0, tokens: tokens, promptLength: tokens.count)]
        while running[0].position < tokens.count {
            let segments = nextSegments(&running, &blocks).map { segment in
                var segment = segment
                segment.samples = false
                return segment
            }
            try throwIfPoisoned(stage.run(StageBatch(opens: opens, segments: segments)))
            opens = []
        }
    }

    // MARK: Batches

    private struct Running {
        let number: Int
        /// Tokens that are known but not computed.
        var waiting: [Int32]
        var position = 0
        var blocks = 0
    }

    private struct BlockCounter {
        private var next: Int32 = 0
        mutating func take(_ count: Int) -> [Int32] {
            defer { next += Int32(count) }
            return Array(next..<(next + Int32(count)))
        }
    }

    /// As many waiting tokens as a batch takes, earlier choices first.
    private func nextSegments(_ running: inout [Running], _ blocks: inout BlockCounter) -> [BatchSegment] {
        var room = max(1, options.chunkRows)
        var segments: [BatchSegment] = []
        for index in running.indices where room > 0 && !running[index].waiting.isEmpty {
            let tokens = Array(running[index].waiting.prefix(room))
            let end = running[index].position + tokens.count
            let needed = (end + KVMemory.positionsPerBlock - 1) / KVMemory.positionsPerBlock
            segments.append(
                BatchSegment(
                    sequence: UInt64(running[index].number), start: running[index].position, tokens: tokens,
                    newBlocks: blocks.take(needed - running[index].blocks), samples: tokens.count == running[index].waiting.count))
            running[index].waiting.removeFirst(tokens.count)
            running[index].position = end
            running[index].blocks = needed
            room -= tokens.count
        }
        return segments
    }

    private func stage(positions: Int, sequences: Int) throws -> Stage {
        let blocks = (positions + KVMemory.positionsPerBlock - 1) / KVMemory.positionsPerBlock * sequences
        return try Stage(
            weights: weights, kvBlocks: blocks, kvType: options.kvType, boundary: options.boundary, rowsMax: max(1, options.chunkRows),
            pool: pool, instructionSet: instructionSet)
    }

    private func throwIfPoisoned(_ result: StageResult) throws {
        guard let first = result.poisoned.first else { return }
        throw EngineError(
            .notFinite,
            "Layers \(first.layers.lowerBound)..<\(first.layers.upperBound) gave a NaN or an infinity for choice \(first.sequence), so no token can be drawn. The model file may be damaged, or its values may not fit the KV type."
        )
    }
}
