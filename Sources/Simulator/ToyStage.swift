import ClusterCore

/// What a stage thread holds: layers, KV memory by block and slot, garbage where nothing was written; sequences and the blocks that the steps
/// gave them. It checks what the real one checks, and more: whatever does not fit is a finding.
struct ToyStage {
    private struct Sequence {
        var open: SequenceOpen
        var blocks: [Int] = []
        var length: Int
        var drafts = 0
    }

    let model: ToyModel
    let assignment: StageAssignment
    private let slots: Int
    /// Layer × slots + block × 32 + slot in the block.
    private var memory: [UInt64]
    /// Only ever asked by id.
    private var sequences: [SequenceID: Sequence] = [:]
    /// By block: how many sequences hold it.
    private var holders: [Int]
    /// Of the rows that came with a rebuilding step.
    private var inputsTaken = 0

    /// Rows that were handed on, by the layer behind them, then by block and slot.
    private var stores: [Int: [UInt64]]

    private static let size = Limits.positionsPerBlock

    /// What a stage leaves when its epoch ends.
    struct Remains {
        var layers: Range<Int>
        var blocks: Int
        /// By layer.
        var memory: [Int: [UInt64]]
        var stores: [Int: [UInt64]]
    }

    var remains: Remains {
        Remains(
            layers: assignment.layers, blocks: assignment.kvBlocks,
            memory: Dictionary(uniqueKeysWithValues: assignment.layers.map { ($0, Array(values(of: $0))) }), stores: stores)
    }

    /// - Parameter remains: of layers that it names and the assignment has, keys and values stay.
    init(model: ToyModel, assignment: StageAssignment, garbage: UInt64, keeping remains: Remains? = nil) {
        self.model = model
        self.assignment = assignment
        let slots = assignment.kvBlocks * Self.size
        self.slots = slots
        memory = assignment.layers.flatMap { layer in
            (remains?.memory[layer]).map { Array($0.prefix(slots)) } ?? [UInt64](repeating: garbage, count: slots)
        }
        holders = [Int](repeating: 0, count: assignment.kvBlocks)
        let (first, end) = (assignment.layers.lowerBound, assignment.layers.upperBound)
        stores = (remains?.stores ?? [:]).filter { first < $0.key && $0.key <= end }
        Self.fit(&stores[end, default: []], assignment, garbage)
    }

    /// Garbage where nothing is.
    private static func fit(_ store: inout [UInt64], _ assignment: StageAssignment, _ garbage: UInt64) {
        let count = assignment.inputBlocks * size
        store = Array(store.prefix(count)) + [UInt64](repeating: garbage ^ 1, count: max(0, count - store.count))
    }

    /// What was prepared for this assignment: layers that `old` has stay as they are, the others came from other workers.
    init(model: ToyModel, adopting assignment: StageAssignment, prepared: [Int: [UInt64]], keeping old: ToyStage?) {
        self.model = model
        self.assignment = assignment
        let slots = assignment.kvBlocks * Self.size
        self.slots = slots
        memory = assignment.layers.flatMap { layer in prepared[layer] ?? Array(old!.values(of: layer).prefix(slots)) }
        holders = [Int](repeating: 0, count: assignment.kvBlocks)
        let end = assignment.layers.upperBound
        stores = [end: old?.stores[end] ?? []]
        Self.fit(&stores[end]!, assignment, 0x5A5A)
    }

    private func values(of layer: Int) -> ArraySlice<UInt64> {
        let base = (layer - assignment.layers.lowerBound) * slots
        return memory[base..<base + slots]
    }

    /// Block by block, each layer by layer; `nil` where some of it is not here.
    func read(_ frame: KVFrame) -> [UInt64]? {
        let isHere = assignment.layers.lowerBound <= frame.layers.lowerBound && frame.layers.upperBound <= assignment.layers.upperBound
        guard isHere, frame.blocks.allSatisfy({ Int($0.value) < assignment.kvBlocks }) else { return nil }
        return frame.blocks.flatMap { block in
            frame.layers.flatMap { layer in
                let first = (layer - assignment.layers.lowerBound) * slots + Int(block.value) * Self.size
                return memory[first..<first + Self.size]
            }
        }
    }

    struct Result {
        var outcome: StepOutcome
        /// A value for each row, in the segments' order.
        var rows: [UInt64]
        /// What the coordinator had no right to ask.
        var findings: [String] = []
    }

    /// - Parameter input: a value for each row; `nil` on the first stage.
    mutating func compute(_ frame: StepFrame, input: [UInt64]?) -> Result {
        let step = frame.step
        var result = Result(outcome: StepOutcome(computeNanoseconds: 0), rows: [])
        let wanted = step.rebuild.map { $0.reaches(assignment.layers.lowerBound) } ?? true ? step.rowCount : 0
        if let input, input.count != wanted { result.findings.append("\(input.count) rows came with a step of \(step.rowCount)") }
        guard result.findings.isEmpty else { return result }
        inputsTaken = 0
        close(step, &result)
        copy(step, &result)
        for open in step.opens where sequences.updateValue(Sequence(open: open, length: open.cached), forKey: open.sequence) != nil {
            result.findings.append("a sequence is opened twice")
        }
        if let rebuild = step.rebuild {
            for segment in step.segments { self.rebuild(rebuild, segment, input: input, &result) }
            return result
        }
        for segment in step.segments {
            compute(segment, input: input, known: frame.poisoned.contains { $0.sequence == segment.sequence }, &result)
        }
        return result
    }

    private mutating func close(_ step: Step, _ result: inout Result) {
        for id in step.closes {
            guard let sequence = sequences.removeValue(forKey: id) else {
                result.findings.append("a sequence is closed that is not open")
                continue
            }
            for block in sequence.blocks { holders[block] -= 1 }
        }
    }

    private mutating func copy(_ step: Step, _ result: inout Result) {
        for copy in step.copies {
            let (from, to) = (Int(copy.from.value), Int(copy.to.value))
            if holders[to] != 0 { result.findings.append("block \(to) is overwritten by a copy while it is in use") }
            for boundary in stores.keys {
                for slot in 0..<Self.size where max(from, to) < stores[boundary]!.count / Self.size {
                    stores[boundary]![to * Self.size + slot] = stores[boundary]![from * Self.size + slot]
                }
            }
            for layer in assignment.layers.indices {
                let base = (layer - assignment.layers.lowerBound) * slots
                for slot in 0..<Self.size { memory[base + to * Self.size + slot] = memory[base + from * Self.size + slot] }
            }
        }
    }

    private mutating func compute(_ segment: Segment, input: [UInt64]?, known isPoisoned: Bool, _ result: inout Result) {
        guard var sequence = sequences[segment.sequence] else { return result.findings.append("a step has rows of a sequence that is not open") }
        take(segment, into: &sequence, &result)
        sequences[segment.sequence] = sequence
        guard result.findings.isEmpty else { return }
        let first = result.rows.count
        for (offset, token) in segment.tokens.enumerated() {
            let row = input.map { $0[first + offset] } ?? model.embed(token)
            let output = compute(row, position: segment.start + offset, blocks: sequence.blocks)
            result.rows.append(output)
            keep(output, position: segment.start + offset, sequence.blocks)
        }
        // Where a guess went wrong nobody cares what came of it.
        let certain = result.rows[first..<result.rows.count - segment.drafts]
        if isPoisoned { return }
        if certain.contains(ToyModel.poison) {
            result.outcome.poisoned.append(PoisonedSequence(sequence: segment.sequence, layers: assignment.layers))
        } else if assignment.isLast && segment.samples {
            sample(segment, sequence.open, rows: result.rows[first...], &result)
        }
    }

    private mutating func take(_ segment: Segment, into sequence: inout Sequence, _ result: inout Result) {
        if !(sequence.length - sequence.drafts...sequence.length).contains(segment.start) {
            result.findings.append("rows from position \(segment.start) do not continue a sequence of \(sequence.length) positions")
        }
        for block in segment.newBlocks.map({ Int($0.value) }) {
            guard block < holders.count else { return result.findings.append("a block outside the memory is given") }
            // Shared is what others computed before, and that only as a whole.
            let isPast = (sequence.blocks.count + 1) * Self.size <= sequence.open.cached
            if !isPast && holders[block] != 0 { result.findings.append("block \(block) is given to a second sequence") }
            sequence.blocks.append(block)
            holders[block] += 1
        }
        sequence.length = segment.start + segment.tokens.count
        sequence.drafts = segment.drafts
        guard sequence.length <= sequence.blocks.count * Self.size else { return result.findings.append("rows have no block") }
        for index in segment.start / Self.size...(sequence.length - 1) / Self.size where holders[sequence.blocks[index]] != 1 {
            result.findings.append("rows are written into block \(sequence.blocks[index]), which \(holders[sequence.blocks[index]]) sequences hold")
        }
    }

    // MARK: - Rebuilding

    /// As `compute`, in some layers, and with inputs that may be here.
    private mutating func rebuild(_ rebuild: Rebuild, _ segment: Segment, input: [UInt64]?, _ result: inout Result) {
        guard var sequence = sequences[segment.sequence] else { return result.findings.append("a step rebuilds rows of a sequence that is not open") }
        if segment.samples || segment.drafts > 0 { return result.findings.append("a step draws from rows that it rebuilds") }
        take(segment, into: &sequence, &result)
        sequences[segment.sequence] = sequence
        guard result.findings.isEmpty else { return }
        let layers = assignment.layers
        let hasInputs = rebuild.hasInputs && layers.contains(rebuild.layers.lowerBound - 1)
        guard hasInputs || rebuild.reaches(layers.lowerBound) else { return }
        for (offset, token) in segment.tokens.enumerated() {
            let position = segment.start + offset
            var row = model.embed(token)
            if hasInputs {
                let place = sequence.blocks[position / Self.size] * Self.size + position % Self.size
                guard let store = stores[rebuild.layers.lowerBound], place < store.count else {
                    return result.findings.append("inputs are asked for that were not kept")
                }
                row = store[place]
            } else if let input {
                row = input[inputsTaken]
                inputsTaken += 1
            }
            let computed = rebuild.computed.clamped(to: layers)
            let output = compute(row, position: position, blocks: sequence.blocks, in: computed)
            guard rebuild.computed.contains(layers.upperBound) else { continue }
            result.rows.append(output)
            keep(output, position: position, sequence.blocks)
        }
    }

    private mutating func keep(_ row: UInt64, position: Int, _ blocks: [Int]) {
        let block = blocks[position / Self.size]
        guard block < assignment.inputBlocks else { return }
        stores[assignment.layers.upperBound]![block * Self.size + position % Self.size] = row
    }

    private mutating func compute(_ input: UInt64, position: Int, blocks: [Int], in layers: Range<Int>? = nil) -> UInt64 {
        var value = input
        let (last, slot) = (position / Self.size, position % Self.size)
        for layer in layers ?? assignment.layers {
            let base = (layer - assignment.layers.lowerBound) * slots
            memory[base + blocks[last] * Self.size + slot] = model.memory(layer: layer, input: value)
            var attention: UInt64 = 0
            var isPoisoned = false
            memory.withUnsafeBufferPointer { memory in
                for index in 0...last {
                    let start = base + blocks[index] * Self.size
                    for slot in 0...(index == last ? slot : Self.size - 1) {
                        let remembered = memory[start + slot]
                        attention &+= ToyModel.term(remembered, at: index * Self.size + slot)
                        if remembered == ToyModel.poison { isPoisoned = true }
                    }
                }
            }
            value = model.output(layer: layer, position: position, input: value, attention: attention, isPoisoned: isPoisoned)
        }
        return value
    }

    private func sample(_ segment: Segment, _ open: SequenceOpen, rows: ArraySlice<UInt64>, _ result: inout Result) {
        for known in segment.tokens.count - segment.drafts...segment.tokens.count {
            let position = segment.start + known
            let row = rows[rows.startIndex + known - 1]
            // A right guess whose row is none: the sequence goes on plainly from here, and meets the same again.
            if row == ToyModel.poison { return }
            let token = model.sample(
                row, position: position, choice: open.choice, promptLength: open.promptLength, sampling: open.sampling, endTokens: open.endTokens)
            result.outcome.tokens.append(SampledToken(sequence: segment.sequence, position: position, emitted: EmittedToken(token: token)))
            guard known < segment.tokens.count, segment.tokens[known] == token else { return }
        }
    }
}
