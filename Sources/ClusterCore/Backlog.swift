/// The common line of several replicas: sequences that none of them has taken yet.
package struct Backlog: Sendable {
    private var line = WaitingLine()
    /// Only ever asked by id.
    private var sequences: [SequenceID: GeneratedSequence] = [:]

    package var count: Int { sequences.count }
    /// Who is placed next.
    package var first: GeneratedSequence? { line.first.flatMap { sequences[$0] } }
    package subscript(id: SequenceID) -> GeneratedSequence? { sequences[id] }

    package mutating func add(_ sequence: GeneratedSequence) {
        precondition(sequences.updateValue(sequence, forKey: sequence.id) == nil, "a sequence waits once")
        line.insert(sequence.id, sequence.precedence)
    }

    /// Whether it was there.
    @discardableResult
    package mutating func remove(_ id: SequenceID) -> Bool {
        guard let sequence = sequences.removeValue(forKey: id) else { return false }
        line.remove(sequence.precedence)
        return true
    }
}
