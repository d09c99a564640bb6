/// Sequences that wait to run, in order of precedence. A preempted sequence comes back to its old place, ahead of all that came later.
package struct WaitingLine: Hashable, Sendable {
    private struct Place: Hashable, Sendable {
        var precedence: GeneratedSequence.Precedence
        var id: SequenceID
    }

    /// Last goes first, so that taking the first is cheap.
    private var places: [Place] = []

    package init() {}

    package var count: Int { places.count }
    package var first: SequenceID? { places.last?.id }
    /// Who goes first comes first.
    package var inOrder: [SequenceID] { places.reversed().map(\.id) }

    package mutating func insert(_ id: SequenceID, _ precedence: GeneratedSequence.Precedence) {
        let index = self.index(of: precedence)
        precondition(index == places.count || places[index].precedence != precedence, "a sequence waits once")
        places.insert(Place(precedence: precedence, id: id), at: index)
    }

    /// Whether it was there.
    @discardableResult
    package mutating func remove(_ precedence: GeneratedSequence.Precedence) -> Bool {
        let index = self.index(of: precedence)
        guard index < places.count, places[index].precedence == precedence else { return false }
        places.remove(at: index)
        return true
    }

    /// The first index whose place does not go after `precedence`.
    private func index(of precedence: GeneratedSequence.Precedence) -> Int {
        var (low, high) = (0, places.count)
        while low < high {
            let middle = (low + high) / 2
            if precedence < places[middle].precedence { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
