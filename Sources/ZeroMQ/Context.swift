import CZeroMQ

/// libzmq's I/O threads and the sockets on them. One a process part; sockets keep it alive.
///
/// Sendable because libzmq's contexts are thread safe; sockets are not, and `Socket` says so.
package final class Context: @unchecked Sendable {
    package static let ioThreads: Int32 = 1
    package static let socketsMax: Int32 = 1023

    let handle: UnsafeMutableRawPointer

    /// Throws when libzmq was built without CURVE, which every socket here needs.
    package init() throws(ZeroMQError) {
        guard zmq_has("curve") == 1 else {
            throw ZeroMQError(.noCurve, "libzmq was built without CURVE: install the distribution's libzmq5, which has it")
        }
        guard let handle = zmq_ctx_new() else { throw .last("a ZeroMQ context") }
        self.handle = handle
        zmq_ctx_set(handle, ZMQ_IO_THREADS, Self.ioThreads)
        zmq_ctx_set(handle, ZMQ_MAX_SOCKETS, Self.socketsMax)
        // An interrupted poll would otherwise abort some calls of older versions.
        zmq_ctx_set(handle, ZMQ_BLOCKY, 0)
    }

    /// Every socket holds its context, so none is open here and this does not wait (linger is 0 on all).
    deinit {
        while zmq_ctx_term(handle) == -1, zmq_errno() == EINTR {}
    }
}
