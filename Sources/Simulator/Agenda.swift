/// What will happen, in order of time; of the same time, in the order in which it was planned.
struct Agenda {
    /// Nanoseconds since the simulation's beginning.
    typealias Time = UInt64

    enum Occurrence {
        /// The first message of a link has come.
        case arrival(link: Int)
        /// A machine's deadline.
        case timer(party: Int, incarnation: Int)
        /// A stage thread goes on.
        case stage(worker: Int, incarnation: Int, job: Int)
        /// The same of the thread that prepares a slice beside it.
        case preparer(worker: Int, incarnation: Int, job: Int)
        /// A process tries to reach the coordinator.
        case connect(party: Int, attempt: Int)
        /// The coordinator's transport notices that a connection is gone.
        case closed(party: Int, generation: Int)
        /// A stage tries to reach the next one.
        case handshake(link: Int)
        case start(party: Int)
        case fault
        case request
        case ends(Trouble)
    }

    /// What passes by itself.
    enum Trouble {
        case slowWorker(Int)
        case brokenLoading(Int)
        case hungStage(Int, incarnation: Int)
        case slowLink(Int)
        case revocation(party: Int)
        case drift(party: Int)
        case draining(party: Int)
        case client(Int)
        /// A link over which keys and values are on their way.
        case transferLink(Int)
        /// The next of several workers that die one after another.
        case doomed(Int)
    }

    private struct Entry {
        var time: Time
        var number: UInt64
        var occurrence: Occurrence
    }

    private var heap: [Entry] = []
    private var planned: UInt64 = 0

    mutating func add(_ occurrence: Occurrence, at time: Time) {
        planned += 1
        heap.append(Entry(time: time, number: planned, occurrence: occurrence))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard isBefore(child, parent) else { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    var nextTime: Time? { heap.first?.time }

    mutating func removeFirst() -> (time: Time, occurrence: Occurrence) {
        precondition(!heap.isEmpty, "something is planned")
        heap.swapAt(0, heap.count - 1)
        let first = heap.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && isBefore(child, least) { least = child }
            guard least != parent else { break }
            heap.swapAt(parent, least)
            parent = least
        }
        return (first.time, first.occurrence)
    }

    private func isBefore(_ a: Int, _ b: Int) -> Bool { (heap[a].time, heap[a].number) < (heap[b].time, heap[b].number) }
}
