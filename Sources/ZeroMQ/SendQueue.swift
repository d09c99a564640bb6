/// Messages that wait until a socket's peer is connected or has room: a socket never keeps them itself (`ZMQ_IMMEDIATE`).
package struct SendQueue {
    private let capacity: Int
    private var waiting: [[OutgoingPart]] = []

    /// At most `capacity` messages wait.
    package init(capacity: Int) { self.capacity = capacity }

    package var isEmpty: Bool { waiting.isEmpty }

    /// Sends now if it can, in order behind what waits. False, with the message dropped, when `capacity` messages wait already.
    package mutating func send(_ parts: [OutgoingPart], over socket: borrowing Socket) throws(ZeroMQError) -> Bool {
        try flush(over: socket)
        if waiting.isEmpty, try socket.send(parts) { return true }
        guard waiting.count < capacity else { return false }
        waiting.append(parts)
        return true
    }

    /// Sends what waits, as far as the socket takes it.
    package mutating func flush(over socket: borrowing Socket) throws(ZeroMQError) {
        var sent = 0
        while sent < waiting.count, try socket.send(waiting[sent]) { sent += 1 }
        waiting.removeFirst(sent)
    }

    package mutating func removeAll() { waiting = [] }
}
