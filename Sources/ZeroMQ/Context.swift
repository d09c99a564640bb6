import CZeroMQ
import Synchronization

/// libzmq's I/O threads and in-process endpoints. Every socket keeps its context alive, so the context ends after the last of them.
///
/// Ending never hangs: sockets are closed by then, and their linger time is 0 unless asked for otherwise.
package final class Context: Sendable {
    package static let socketsMaxDefault = 1024

    /// libzmq allows any thread to use a context; only its sockets have one owner each.
    nonisolated(unsafe) let handle: UnsafeMutableRawPointer
    /// How many access lists listen here: 0 or 1, since libzmq has one well-known endpoint a context.
    let accessLists = Atomic<Int>(0)

    package init(ioThreads: Int = 1, socketsMax: Int = Context.socketsMaxDefault) throws(ZeroMQError) {
        precondition(ioThreads > 0 && socketsMax > 0)
        guard let handle = zmq_ctx_new() else { throw ZeroMQError.last("making a ZeroMQ context") }
        self.handle = handle
        guard zmq_has("curve") == 1 else {
            throw ZeroMQError(.optionRefused, "this libzmq was built without CURVE encryption; install one built with libsodium")
        }
        guard zmq_ctx_set(handle, ZMQ_IO_THREADS, Int32(clamping: ioThreads)) == 0,
            zmq_ctx_set(handle, ZMQ_MAX_SOCKETS, Int32(clamping: socketsMax)) == 0
        else { throw ZeroMQError.last("a ZeroMQ context with \(ioThreads) I/O threads and \(socketsMax) sockets") }
    }

    /// From now on every call on this context's sockets fails with `contextClosed`, calls in progress included. Closing the sockets is left to
    /// their owners.
    package func shutdown() { _ = zmq_ctx_shutdown(handle) }

    deinit {
        while zmq_ctx_term(handle) != 0 && zmq_errno() == EINTR {}
    }
}
