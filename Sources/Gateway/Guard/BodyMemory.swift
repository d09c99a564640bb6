import Synchronization

/// What all requests' bodies together may take while they are read: one body's limit times the number of connections would be more memory than
/// there is.
///
/// The first `freeBytes` of each body are free, so that those who send long ones slowly don't keep short ones out.
final class BodyMemory: Sendable {
    private let freeBytes: Int
    private let sharedBytesMax: Int
    private let taken = Mutex(0)

    init(freeBytes: Int, sharedBytesMax: Int) {
        self.freeBytes = freeBytes
        self.sharedBytesMax = sharedBytesMax
    }

    /// Bytes beyond the free ones, of all bodies.
    var sharedBytes: Int { taken.withLock { $0 } }

    /// One body's part, given back at its end.
    struct Share: ~Copyable {
        private let memory: BodyMemory
        private var bytes = 0

        fileprivate init(_ memory: BodyMemory) { self.memory = memory }

        /// False when there is no room; nothing is taken then.
        mutating func grow(to total: Int) -> Bool {
            let wanted = max(0, total - memory.freeBytes)
            guard wanted > bytes else { return true }
            let more = wanted - bytes
            let max = memory.sharedBytesMax
            let isTaken = memory.taken.withLock { taken in
                guard taken + more <= max else { return false }
                taken += more
                return true
            }
            if isTaken { bytes = wanted }
            return isTaken
        }

        deinit {
            let bytes = bytes
            memory.taken.withLock { $0 -= bytes }
        }
    }

    func share() -> Share { Share(self) }
}
