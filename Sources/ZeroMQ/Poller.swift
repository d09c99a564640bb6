import CZeroMQ

/// Waits until one of several sockets or descriptors can be read, or a socket written. Never without a limit.
package struct Poller {
    /// The longest wait; a caller that has nothing to do before asks again.
    package static let waitMsMax = 1_000

    private var items: [zmq_pollitem_t] = []

    package init() {}

    /// Returns the index to ask `isReadable` with. `writing`: wake also when a message could be sent, for a socket with a backlog.
    @discardableResult
    package mutating func add(_ socket: borrowing Socket, writing: Bool = false) -> Int {
        let events = Int16(ZMQ_POLLIN) | (writing ? Int16(ZMQ_POLLOUT) : 0)
        items.append(zmq_pollitem_t(socket: socket.handle, fd: 0, events: events, revents: 0))
        return items.count - 1
    }

    @discardableResult
    package mutating func add(descriptor: Int32) -> Int {
        items.append(zmq_pollitem_t(socket: nil, fd: descriptor, events: Int16(ZMQ_POLLIN), revents: 0))
        return items.count - 1
    }

    /// Waits at most so long, and at most `waitMsMax`.
    package mutating func wait(milliseconds: Int) throws(ZeroMQError) {
        let limit = max(0, min(milliseconds, Self.waitMsMax))
        if zmq_poll(&items, Int32(items.count), limit) == -1 {
            for index in items.indices { items[index].revents = 0 }
            if zmq_errno() != EINTR { throw .last("zmq_poll") }
        }
    }

    package func isReadable(_ index: Int) -> Bool { items[index].revents & Int16(ZMQ_POLLIN) != 0 }
}
