/// Messages that wait until a socket's peer is connected or has room: a socket keeps none for a peer that is not there (`ZMQ_IMMEDIATE`).
package struct SendQueue: ~Copyable {
    /// An array can't hold what can't be copied; a box can.
    private final class Box {
        var message: Message
        init(_ message: consuming Message) { self.message = message }
    }

    private let capacity: Int
    private var waiting: [Box] = []

    /// At most `capacity` messages wait.
    package init(capacity: Int) { self.capacity = capacity }

    package var isEmpty: Bool { waiting.isEmpty }

    /// What a `Poller` should wait for on the socket.
    package var interest: Poller.Interest { waiting.isEmpty ? .readable : [.readable, .writable] }

    /// Sends now if it can, in order behind what waits. False, with the message dropped, when `capacity` messages wait already.
    package mutating func send(_ message: consuming Message, over socket: borrowing Socket) throws(ZeroMQError) -> Bool {
        try flush(over: socket)
        var message = message
        if waiting.isEmpty, try socket.send(&message) { return true }
        guard waiting.count < capacity else { return false }
        waiting.append(Box(message))
        return true
    }

    /// Sends what waits, as far as the socket takes it.
    package mutating func flush(over socket: borrowing Socket) throws(ZeroMQError) {
        // Asked first, because for an array to remove nothing takes microseconds.
        if waiting.isEmpty { return }
        var sent = 0
        while sent < waiting.count, try socket.send(&waiting[sent].message) { sent += 1 }
        waiting.removeFirst(sent)
    }
}
