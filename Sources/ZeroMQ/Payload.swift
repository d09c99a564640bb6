/// A received part that several owners may read: activation bytes on their way from the socket thread to the stage thread, through a mailbox.
package final class Payload: Sendable {
    private let frame: Frame

    package init(_ frame: consuming Frame) { self.frame = frame }

    package var byteCount: Int { frame.byteCount }

    /// The bytes are valid inside `body` only, and never change.
    package func withBytes<Result, Failure: Error>(_ body: (UnsafeRawBufferPointer) throws(Failure) -> Result) throws(Failure) -> Result {
        try frame.withBytes(body)
    }
}
