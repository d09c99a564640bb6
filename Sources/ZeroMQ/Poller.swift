import CZeroMQ
import Glibc

/// Waits for sockets and file descriptors together, never without a deadline.
///
/// Watching does not keep a socket alive: call `removeAll` and watch again after closing one. Cheap enough to do before each wait.
package struct Poller: ~Copyable {
    package struct Interest: OptionSet, Sendable {
        package let rawValue: Int16
        package init(rawValue: Int16) { self.rawValue = rawValue }

        package static let readable = Interest(rawValue: Int16(ZMQ_POLLIN))
        package static let writable = Interest(rawValue: Int16(ZMQ_POLLOUT))
    }

    /// Names what `watch` added, until `removeAll`.
    package struct Entry: Hashable, Sendable {
        fileprivate let index: Int
    }

    private var items: [zmq_pollitem_t] = []

    package init() {}

    package mutating func watch(_ socket: borrowing Socket, _ interest: Interest = .readable) -> Entry {
        append(zmq_pollitem_t(socket: socket.handle, fd: 0, events: interest.rawValue, revents: 0))
    }

    package mutating func watch(descriptor: Int32, _ interest: Interest = .readable) -> Entry {
        append(zmq_pollitem_t(socket: nil, fd: descriptor, events: interest.rawValue, revents: 0))
    }

    package mutating func watch<Element>(_ mailbox: Mailbox<Element>) -> Entry { watch(descriptor: mailbox.descriptor) }

    /// Changes what is waited for, for example writability only while something waits to be sent.
    package mutating func change(_ entry: Entry, to interest: Interest) { items[entry.index].events = interest.rawValue }

    package mutating func removeAll() { items.removeAll(keepingCapacity: true) }

    /// Waits until something is ready or `milliseconds` have passed; answers how many entries are ready.
    /// A signal does not shorten the wait.
    package mutating func wait(milliseconds: Int) throws(ZeroMQError) -> Int {
        precondition(milliseconds >= 0, "no wait without a deadline")
        let deadline = Self.nowMs() + milliseconds
        while true {
            let left = max(0, deadline - Self.nowMs())
            let ready = items.withUnsafeMutableBufferPointer { zmq_poll($0.baseAddress, Int32($0.count), left) }
            if ready >= 0 { return Int(ready) }
            guard zmq_errno() == EINTR else { throw ZeroMQError.last("waiting for \(items.count) sockets and descriptors") }
        }
    }

    /// What the last `wait` found for `entry`. A hint: a CURVE connection that has just been admitted makes its socket readable once with
    /// nothing to receive.
    package borrowing func ready(_ entry: Entry) -> Interest { Interest(rawValue: items[entry.index].revents) }
    package borrowing func isReadable(_ entry: Entry) -> Bool { ready(entry).contains(.readable) }
    package borrowing func isWritable(_ entry: Entry) -> Bool { ready(entry).contains(.writable) }

    private mutating func append(_ item: zmq_pollitem_t) -> Entry {
        items.append(item)
        return Entry(index: items.count - 1)
    }

    private static func nowMs() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
    }
}

@available(*, unavailable)
extension Poller: Sendable {}
