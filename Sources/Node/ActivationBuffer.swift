import Synchronization

/// Rows between two stages: bytes that one thread fills and another reads, handed over whole.
///
/// Sendable because ownership moves: the stage thread writes it before it is posted, and nobody writes it after.
package final class ActivationBuffer: @unchecked Sendable {
    /// What the kernels ask of rows.
    static let alignment = 64

    package let bytes: UnsafeMutableRawBufferPointer
    package private(set) var count: Int

    package init(byteCount: Int) {
        bytes = .allocate(byteCount: max(byteCount, 1), alignment: Self.alignment)
        count = byteCount
    }

    /// With room for more than it has at first.
    fileprivate init(byteCount: Int, capacity: Int) {
        bytes = .allocate(byteCount: max(capacity, 1), alignment: Self.alignment)
        count = byteCount
    }

    fileprivate func reuse(byteCount: Int) { count = byteCount }

    /// The rows alone, without what the memory has beyond them.
    package var rows: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(rebasing: bytes[..<count]) }

    deinit { bytes.deallocate() }
}

/// Buffers that a thread fills again and again: one that it gave away is used anew when everybody else, libzmq included, has let go of it.
struct ActivationBuffers {
    /// Steps given to the stage thread, on their way to the socket, and in libzmq's hands, with some to spare.
    static let keptMax = 6
    /// Prompts' rows may be more; their memory is made when it is needed and not kept.
    static let keptBytesMax = 2 << 20

    /// Smaller ones are made together.
    static let keptAtOnceBytesMax = 256 << 10

    private var kept: [ActivationBuffer] = []

    /// Of unspecified content.
    mutating func next(byteCount: Int) -> ActivationBuffer {
        guard byteCount <= Self.keptBytesMax else { return ActivationBuffer(byteCount: byteCount) }
        var tooSmall: Int?
        for index in kept.indices where isKnownUniquelyReferenced(&kept[index]) {
            guard kept[index].bytes.count >= byteCount else {
                tooSmall = index
                continue
            }
            // Others' reads came before they let go.
            atomicMemoryFence(ordering: .acquiring)
            kept[index].reuse(byteCount: byteCount)
            return kept[index]
        }
        // A power of two, so that batches that grow row by row don't ask for memory with each.
        let capacity = 1 << (Int.bitWidth - max(byteCount - 1, 1).leadingZeroBitCount)
        let made = ActivationBuffer(byteCount: byteCount, capacity: capacity)
        if let tooSmall {
            kept[tooSmall] = made
        } else if kept.count < Self.keptMax {
            kept.append(made)
            // All at once where they are small: else the step after one that left late would ask for memory.
            while kept.count < Self.keptMax, capacity <= Self.keptAtOnceBytesMax { kept.append(ActivationBuffer(byteCount: 0, capacity: capacity)) }
        }
        return made
    }
}
