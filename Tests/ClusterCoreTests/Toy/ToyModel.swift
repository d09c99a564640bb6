@testable import ClusterCore

/// A model whose every layer mixes its input with the layer's own history, position by position: a skipped stage, a stale or shared block, a
/// repeated row or a lost step changes the next token.
struct ToyModel {
    var layerCount = 6
    var vocabulary = 211
    var contextTokens = 128
    var endTokens: [TokenID] = [0, 7]
    /// What a stage says that a step took: so much for each row, and so much besides.
    var rowNanoseconds = 1_000
    var stepNanoseconds = 0

    var profile: ModelProfile {
        ModelProfile(
            digest: ModelDigest(bytes: [UInt8](repeating: 5, count: 32))!, name: "toy", layerBytes: [UInt64](repeating: 1_000, count: layerCount),
            embeddingBytes: 300, headBytes: 300, headIsTied: true, hidden: 1, vocabulary: vocabulary, contextTokens: contextTokens,
            kvBytesPerTokenPerLayer: 1, endTokens: endTokens)
    }

    func embed(_ token: TokenID) -> UInt64 { mixed(UInt64(token), 1) }

    /// What a position leaves in a layer's memory.
    func memory(layer: Int, input: UInt64) -> UInt64 { mixed(input, UInt64(1_000 + layer)) }

    /// `history`: the layer's memories of positions 0...position.
    func output(layer: Int, position: Int, input: UInt64, history: some Sequence<UInt64>) -> UInt64 {
        history.reduce(mixed(input, UInt64(layer * 100_000 + position))) { mixed($0, $1) }
    }

    func sample(_ output: UInt64, position: Int, choice: UInt32, promptLength: Int, sampling: SamplingParameters, endTokens: [TokenID]) -> TokenID {
        var token = TokenID(mixed(output, sampling.seed &* 7 &+ UInt64(choice) &* 3 &+ UInt64(position)) % UInt64(vocabulary))
        let mayEnd = position - promptLength >= Int(sampling.minTokens)
        while !mayEnd && endTokens.contains(token) { token = (token + 1) % TokenID(vocabulary) }
        return token
    }

    /// The loop that all the machinery must equal.
    func generate(_ request: GenerationRequest, choice: UInt32) -> (tokens: [TokenID], finish: FinishReason) {
        var tokens = request.prompt
        var histories = [[UInt64]](repeating: [], count: layerCount)
        let ends = (endTokens + request.sampling.stopTokens)
        var position = 0
        while true {
            var value = embed(tokens[position])
            for layer in 0..<layerCount {
                histories[layer].append(memory(layer: layer, input: value))
                value = output(layer: layer, position: position, input: value, history: histories[layer])
            }
            position += 1
            guard position == tokens.count else { continue }
            let token = sample(
                value, position: position, choice: choice, promptLength: request.prompt.count, sampling: request.sampling, endTokens: ends)
            tokens.append(token)
            let made = tokens.count - request.prompt.count
            let isEnd = (!request.sampling.ignoreEndTokens && endTokens.contains(token)) || request.sampling.stopTokens.contains(token)
            if isEnd && made > Int(request.sampling.minTokens) { return (Array(tokens.dropFirst(request.prompt.count)), .stop) }
            if made == Int(request.sampling.maxTokens) || tokens.count == contextTokens {
                return (Array(tokens.dropFirst(request.prompt.count)), .length)
            }
        }
    }
}

/// What a stage thread has: layers and KV memory by block and slot, as a real one would, garbage where nothing was written.
struct ToyStage {
    private struct Sequence {
        var open: SequenceOpen
        var blocks: [BlockID] = []
    }

    let model: ToyModel
    let assignment: StageAssignment
    /// By layer of the stage, then block × 32 + slot.
    private(set) var memory: [[UInt64]]
    private var sequences: [SequenceID: Sequence] = [:]
    /// See `ToyCluster.Settings`.
    var layerNanoseconds: UInt64?

    init(model: ToyModel, assignment: StageAssignment, garbage: UInt64) {
        self.model = model
        self.assignment = assignment
        let slots = assignment.kvBlocks * Limits.positionsPerBlock
        memory = assignment.layers.map { layer in (0..<slots).map { mixed(garbage, UInt64(layer * slots + $0)) } }
    }

    /// What was prepared for this assignment: layers that `old` has stay as they are, the others came from other workers.
    init(model: ToyModel, adopting assignment: StageAssignment, prepared: [Int: [UInt64]], keeping old: ToyStage?) {
        self.model = model
        self.assignment = assignment
        let slots = assignment.kvBlocks * Limits.positionsPerBlock
        memory = assignment.layers.map { layer in prepared[layer] ?? Array(old!.memory[layer - old!.assignment.layers.lowerBound].prefix(slots)) }
    }

    /// Block by block, each layer by layer.
    func read(_ frame: KVFrame) -> [UInt64] {
        let size = Limits.positionsPerBlock
        return frame.blocks.flatMap { block in
            frame.layers.flatMap { memory[$0 - assignment.layers.lowerBound][Int(block.value) * size..<Int(block.value + 1) * size] }
        }
    }

    /// Rows' values in and out, in the segments' order.
    mutating func compute(_ step: Step, input: [UInt64]?) -> (outcome: StepOutcome, output: [UInt64]) {
        for id in step.closes { sequences[id] = nil }
        for copy in step.copies {
            let size = Limits.positionsPerBlock
            for index in memory.indices {
                for slot in 0..<size { memory[index][Int(copy.to.value) * size + slot] = memory[index][Int(copy.from.value) * size + slot] }
            }
        }
        for open in step.opens { sequences[open.sequence] = Sequence(open: open) }
        var output: [UInt64] = []
        var tokens: [SampledToken] = []
        var row = 0
        for segment in step.segments {
            sequences[segment.sequence]!.blocks += segment.newBlocks
            let sequence = sequences[segment.sequence]!
            for (offset, token) in segment.tokens.enumerated() {
                let value = input.map { $0[row] } ?? model.embed(token)
                output.append(compute(value, position: segment.start + offset, blocks: sequence.blocks))
                row += 1
            }
            guard assignment.isLast && segment.samples else { continue }
            for known in segment.tokens.count - segment.drafts...segment.tokens.count {
                let position = segment.start + known
                let token = model.sample(
                    output[output.count - segment.tokens.count + known - 1], position: position, choice: sequence.open.choice,
                    promptLength: sequence.open.promptLength, sampling: sequence.open.sampling, endTokens: sequence.open.endTokens)
                tokens.append(SampledToken(sequence: segment.sequence, position: position, emitted: EmittedToken(token: token)))
                guard known < segment.tokens.count, segment.tokens[known] == token else { break }
            }
        }
        return (StepOutcome(tokens: tokens, computeNanoseconds: nanoseconds(step)), output)
    }

    private func nanoseconds(_ step: Step) -> UInt64 {
        layerNanoseconds.map { $0 * UInt64(assignment.layers.count) } ?? UInt64(model.stepNanoseconds + model.rowNanoseconds * step.rowCount)
    }

    private mutating func compute(_ input: UInt64, position: Int, blocks: [BlockID]) -> UInt64 {
        var value = input
        for (index, layer) in assignment.layers.enumerated() {
            memory[index][slot(position, blocks)] = model.memory(layer: layer, input: value)
            let history = (0...position).map { memory[index][slot($0, blocks)] }
            value = model.output(layer: layer, position: position, input: value, history: history)
        }
        return value
    }

    private func slot(_ position: Int, _ blocks: [BlockID]) -> Int {
        Int(blocks[position / Limits.positionsPerBlock].value) * Limits.positionsPerBlock + position % Limits.positionsPerBlock
    }
}
