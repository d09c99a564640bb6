/// Which KV blocks changed since they were last sent to their new owners.
///
/// A block counts as changed when a step that writes into it has come back, not when it is sent: blocks are read at a stage that may or may not have
/// computed the steps in flight by then. So what is read while a step is on its way is sent once more, and what is read when none is, is right.
struct BlockChanges: Hashable, Sendable {
    /// Steps from this one on are known.
    let firstStep: StepNumber
    /// By block.
    private var isChanged: [Bool]
    /// Of steps in flight, oldest first.
    private var coming: [(step: StepNumber, blocks: [BlockID])] = []

    init(firstStep: StepNumber, blocks: Int) {
        self.firstStep = firstStep
        isChanged = [Bool](repeating: true, count: blocks)
    }

    /// A step that writes into `blocks` is on its way.
    mutating func sent(_ step: StepNumber, writing blocks: [BlockID]) { coming.append((step, blocks)) }

    mutating func returned(_ step: StepNumber) {
        guard let first = coming.first, first.step == step else { return }
        for block in coming.removeFirst().blocks { isChanged[Int(block.value)] = true }
    }

    /// Those of `blocks` that changed; from now on they count as sent.
    mutating func take(of blocks: [BlockID]) -> [BlockID] {
        let changed = blocks.filter { isChanged[Int($0.value)] }
        for block in changed { isChanged[Int(block.value)] = false }
        return changed
    }

    func count(of blocks: [BlockID]) -> Int { blocks.count { isChanged[Int($0.value)] } }

    static func == (a: BlockChanges, b: BlockChanges) -> Bool {
        a.firstStep == b.firstStep && a.isChanged == b.isChanged && a.coming.elementsEqual(b.coming) { $0 == $1 }
    }

    func hash(into hasher: inout Hasher) {
        hasher.combine(firstStep)
        hasher.combine(isChanged)
    }
}
