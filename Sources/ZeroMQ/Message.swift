import CZeroMQ
import Glibc

/// A received message: its parts in libzmq's own memory, freed with this object. Stays on the thread that received it.
package final class Message {
    private var parts: [UnsafeMutablePointer<zmq_msg_t>] = []
    package private(set) var isOversized = false
    private(set) var hasMore = false

    package var count: Int { parts.count }

    deinit {
        for part in parts {
            zmq_msg_close(part)
            part.deallocate()
        }
    }

    /// The bytes of one part, valid during the call.
    package func withBytes<Result, Failure: Error>(
        of index: Int, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(start: zmq_msg_data(parts[index]), count: zmq_msg_size(parts[index])))
    }

    package func bytes(of index: Int) -> [UInt8] { withBytes(of: index) { Array($0) } }

    /// The public key (Z85 text) that the sender proved, as the access list named it; `nil` on sockets without one.
    package var provedKey: String? {
        guard let last = parts.last, let name = zmq_msg_gets(last, "User-Id") else { return nil }
        return String(cString: name)
    }

    /// False when nothing has come.
    func receivePart(from socket: UnsafeMutableRawPointer, keep: Bool) throws(ZeroMQError) -> Bool {
        let part = UnsafeMutablePointer<zmq_msg_t>.allocate(capacity: 1)
        zmq_msg_init(part)
        while zmq_msg_recv(part, socket, ZMQ_DONTWAIT) == -1 {
            if zmq_errno() == EINTR { continue }
            let isEmpty = zmq_errno() == EAGAIN
            zmq_msg_close(part)
            part.deallocate()
            if isEmpty { return false }
            throw .last("receiving")
        }
        hasMore = zmq_msg_more(part) == 1
        if keep {
            parts.append(part)
        } else {
            isOversized = true
            zmq_msg_close(part)
            part.deallocate()
        }
        return true
    }
}

/// One part of a message to send.
package enum OutgoingPart {
    case bytes([UInt8])
    /// Memory that `owner` keeps; libzmq reads it without a copy and lets `owner` go, on a thread of its own, when it is done.
    case memory(UnsafeRawBufferPointer, owner: AnyObject & Sendable)

    /// False with `errno` set when it cannot be sent now.
    func send(to socket: UnsafeMutableRawPointer, flags: Int32) -> Bool {
        switch self {
        case .bytes(let bytes):
            while zmq_send(socket, bytes, bytes.count, flags) == -1 {
                if zmq_errno() != EINTR { return false }
            }
            return true
        case .memory(let memory, let owner):
            let retained = Unmanaged.passRetained(owner as AnyObject).toOpaque()
            var message = zmq_msg_t()
            let release: @convention(c) (UnsafeMutableRawPointer?, UnsafeMutableRawPointer?) -> Void = { _, owner in
                Unmanaged<AnyObject>.fromOpaque(owner!).release()
            }
            guard zmq_msg_init_data(&message, UnsafeMutableRawPointer(mutating: memory.baseAddress), memory.count, release, retained) == 0 else {
                Unmanaged<AnyObject>.fromOpaque(retained).release()
                return false
            }
            while zmq_msg_send(&message, socket, flags) == -1 {
                if zmq_errno() == EINTR { continue }
                let number = zmq_errno()
                zmq_msg_close(&message)
                errno = number
                return false
            }
            return true
        }
    }
}
