import Synchronization

/// Rows between two stages: bytes that one thread fills and another reads, handed over whole.
///
/// Sendable because ownership moves: the stage thread writes it before it is posted, and nobody writes it after.
package final class ActivationBuffer: @unchecked Sendable {
    /// What the kernels ask of rows.
    static let alignment = 64

    package let bytes: UnsafeMutableRawBufferPointer

    package init(byteCount: Int) {
        bytes = .allocate(byteCount: max(byteCount, 1), alignment: Self.alignment)
        count = byteCount
    }

    package let count: Int

    /// The rows alone, without the byte that an empty buffer has.
    package var rows: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(rebasing: bytes[..<count]) }

    deinit { bytes.deallocate() }
}
