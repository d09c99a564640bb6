import CZeroMQ
import Glibc

/// Waits for sockets and file descriptors together, never without a deadline.
///
/// Watching does not keep a socket alive: call `removeAll` and watch again after closing one. Cheap enough to do before each wait.
///
/// zmq_poll asks every socket twice a wait, each time with two system calls. This asks only those on which a call was made since they were asked
/// last or whose descriptor says that something happened (`SocketReadiness`).
package struct Poller: ~Copyable {
    package struct Interest: OptionSet, Sendable {
        package let rawValue: Int16
        package init(rawValue: Int16) { self.rawValue = rawValue }

        package static let readable = Interest(rawValue: Int16(ZMQ_POLLIN))
        package static let writable = Interest(rawValue: Int16(ZMQ_POLLOUT))
        static let all: Interest = [.readable, .writable]
    }

    /// Names what `watch` added, until `removeAll`.
    package struct Entry: Hashable, Sendable {
        fileprivate let index: Int
    }

    private struct Watch {
        /// `nil`: a plain descriptor.
        var socket: UnsafeMutableRawPointer?
        var readiness: UnsafeMutablePointer<SocketReadiness>?
        var interest: Interest
        var found: Interest = []
    }

    private var watches: [Watch] = []
    /// Beside `watches`.
    private var descriptors: [pollfd] = []

    package init() {}

    package mutating func watch(_ socket: borrowing Socket, _ interest: Interest = .readable) -> Entry {
        append(Watch(socket: socket.handle, readiness: socket.readiness, interest: interest), socket.readiness.pointee.descriptor)
    }

    package mutating func watch(descriptor: Int32, _ interest: Interest = .readable) -> Entry {
        append(Watch(interest: interest), descriptor)
    }

    package mutating func watch<Element>(_ mailbox: Mailbox<Element>) -> Entry { watch(descriptor: mailbox.descriptor) }

    /// Changes what is waited for, for example writability only while something waits to be sent.
    package mutating func change(_ entry: Entry, to interest: Interest) {
        watches[entry.index].interest = interest
        if watches[entry.index].socket == nil { descriptors[entry.index].events = Self.pollEvents(interest) }
    }

    package mutating func removeAll() {
        watches.removeAll(keepingCapacity: true)
        descriptors.removeAll(keepingCapacity: true)
    }

    /// Waits until something is ready or `milliseconds` have passed; answers how many entries are ready.
    /// A signal does not shorten the wait.
    package mutating func wait(milliseconds: Int) throws(ZeroMQError) -> Int {
        precondition(milliseconds >= 0, "no wait without a deadline")
        return try wait(nanoseconds: Int64(milliseconds) * 1_000_000)
    }

    package mutating func wait(nanoseconds: Int64) throws(ZeroMQError) -> Int {
        precondition(nanoseconds >= 0, "no wait without a deadline")
        var deadline: Int64?
        while true {
            // What a socket has already shows in no descriptor: with such a socket this is a look and no wait.
            let left = try askSockets() ? 0 : Self.left(until: &deadline, nanoseconds)
            guard let found = try sleep(nanoseconds: left) else { continue }
            let ready = try take(found)
            if ready > 0 || left == 0 { return ready }
        }
    }

    // `wait` in three parts, for a thread that lends its sockets to another one while it sleeps. Between `askSockets` and `take` nobody else may
    // have called them; if somebody has, all begins again with `removeAll`.

    /// Waits for the descriptors alone, which touches no socket: how many have something; `nil` after a signal.
    package mutating func sleep(nanoseconds: Int64) throws(ZeroMQError) -> Int32? {
        let found = poll_nanoseconds(&descriptors, nfds_t(descriptors.count), nanoseconds)
        if found >= 0 { return found }
        guard errno == EINTR else { throw ZeroMQError(errorNumber: errno, "waiting for \(watches.count) sockets and descriptors") }
        return nil
    }

    /// What is left; the clock is read only when there is something to wait for.
    private static func left(until deadline: inout Int64?, _ nanoseconds: Int64) -> Int64 {
        if nanoseconds == 0 { return 0 }
        let now = Self.now()
        guard let end = deadline else {
            deadline = now + nanoseconds
            return nanoseconds
        }
        return max(0, end - now)
    }

    /// Asks the sockets that may have what is waited for. Whether one of them has.
    package mutating func askSockets() throws(ZeroMQError) -> Bool {
        var hasEvents = false
        for index in watches.indices where watches[index].socket != nil {
            watches[index].found = []
            if !watches[index].readiness!.pointee.absent.isSuperset(of: watches[index].interest), try ask(index) { hasEvents = true }
        }
        return hasEvents
    }

    private mutating func ask(_ index: Int) throws(ZeroMQError) -> Bool {
        let present = try SocketReadiness.ask(watches[index].socket!, watches[index].readiness!)
        watches[index].found = present.intersection(watches[index].interest)
        return !watches[index].found.isEmpty
    }

    /// After poll(2): how many entries are ready.
    package mutating func take(_ found: Int32) throws(ZeroMQError) -> Int {
        var ready = 0
        for index in watches.indices {
            let seen = found > 0 ? descriptors[index].revents : 0
            if watches[index].socket == nil {
                watches[index].found = Self.interest(seen)
            } else if seen != 0, watches[index].found.isEmpty {
                _ = try ask(index)
            }
            if !watches[index].found.isEmpty { ready += 1 }
        }
        return ready
    }

    /// What the last `wait` found for `entry`. A hint: a CURVE connection that has just been admitted makes its socket readable once with
    /// nothing to receive.
    package borrowing func ready(_ entry: Entry) -> Interest { watches[entry.index].found }
    package borrowing func isReadable(_ entry: Entry) -> Bool { ready(entry).contains(.readable) }
    package borrowing func isWritable(_ entry: Entry) -> Bool { ready(entry).contains(.writable) }

    private mutating func append(_ watch: Watch, _ descriptor: Int32) -> Entry {
        let events = watch.socket == nil ? Self.pollEvents(watch.interest) : Int16(POLLIN)
        watches.append(watch)
        descriptors.append(pollfd(fd: descriptor, events: events, revents: 0))
        return Entry(index: watches.count - 1)
    }

    private static func pollEvents(_ interest: Interest) -> Int16 {
        Int16((interest.contains(.readable) ? POLLIN : 0) | (interest.contains(.writable) ? POLLOUT : 0))
    }

    /// An error or a hang-up counts as readable: whoever reads learns of it.
    private static func interest(_ events: Int16) -> Interest {
        var interest: Interest = []
        if events & Int16(POLLIN | POLLERR | POLLHUP | POLLNVAL) != 0 { interest.insert(.readable) }
        if events & Int16(POLLOUT) != 0 { interest.insert(.writable) }
        return interest
    }

    private static func now() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}

@available(*, unavailable)
extension Poller: Sendable {}
