/// What a person says of the processors that a pool's threads are pinned to.
package enum ProcessorChoice: Hashable, Sendable {
    /// Pinned where `ProcessorTopology.automaticPlacement` finds that sound.
    case automatic
    /// The system moves threads as it likes.
    case unpinned
    /// Thread i on the i-th of these.
    case listed([Int32])

    /// `auto`, `none`, or a list such as 0-3,8; nil for anything else, and for a list that names a processor twice.
    package init?(_ text: String) {
        switch text {
        case "auto": self = .automatic
        case "none": self = .unpinned
        default:
            guard let numbers = ProcessorTopology.list(text), Set(numbers).count == numbers.count else { return nil }
            self = .listed(numbers)
        }
    }

    /// What `init` takes.
    package var text: String {
        switch self {
        case .automatic: "auto"
        case .unpinned: "none"
        case .listed(let numbers): numbers.map(String.init).joined(separator: ",")
        }
    }

    /// How many processors are listed; nil where none are.
    package var count: Int? {
        guard case .listed(let numbers) = self else { return nil }
        return numbers.count
    }

    /// A processor for each thread, nil for none.
    package func processors(threads: Int, topology: ProcessorTopology) throws(EngineError) -> [Int32]? {
        switch self {
        case .automatic: return topology.automaticPlacement(threads: threads)
        case .unpinned: return nil
        case .listed(let numbers):
            guard numbers.count == threads else {
                throw EngineError(.threadsUnavailable, "\(numbers.count) processors (\(text)) were named for \(threads) threads; name one for each.")
            }
            if let missing = numbers.first(where: { number in !topology.processors.contains { $0.number == number } }) {
                let allowed = topology.processors.map { "\($0.number)" }.joined(separator: ",")
                throw EngineError(.threadsUnavailable, "Processor \(missing) was named, but this process may use only \(allowed). Name some of these.")
            }
            return numbers
        }
    }
}
