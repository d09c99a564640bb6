import CZeroMQ
import Glibc

/// The TCP connection that a message came over, for whoever has to cut it: libzmq's own sockets have no call for that.
///
/// A descriptor's number is used again once its connection has gone, so the socket's inode is kept beside it and looked at before anything is
/// done. Between that look and the cut another connection can take the number only if this one ended in the same microsecond; what would
/// happen then is that an honest peer connects anew.
package struct PeerConnection: Hashable, Sendable {
    fileprivate let descriptor: Int32
    private let inode: UInt64

    /// `nil` for messages that didn't come over TCP, and where the connection has gone already.
    init?(descriptor: Int32) {
        guard descriptor >= 0, let inode = Self.inode(ofSocket: descriptor) else { return nil }
        self.descriptor = descriptor
        self.inode = inode
    }

    /// Ends both directions: libzmq sees the end as if the peer had closed, and a peer that connects anew is asked for its key again.
    /// False when it has gone already.
    @discardableResult
    package func cut() -> Bool {
        guard Self.inode(ofSocket: descriptor) == inode else { return false }
        return shutdown(descriptor, Int32(SHUT_RDWR)) == 0
    }

    private static func inode(ofSocket descriptor: Int32) -> UInt64? {
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else { return nil }
        return UInt64(status.st_ino)
    }
}

extension Message {
    /// The connection that the message came over. A system call, in the time of which a small message is read otherwise.
    package var connection: PeerConnection? { descriptor.flatMap(PeerConnection.init) }

    /// Whether the message came over a connection of this one's number: over this one, unless it has gone and another took the number.
    package borrowing func seems(over connection: PeerConnection) -> Bool { descriptor == connection.descriptor }

    private var descriptor: Int32? {
        guard count > 0 else { return nil }
        let descriptor = zmq_msg_get(part(count - 1), ZMQ_SRCFD)
        return descriptor < 0 ? nil : descriptor
    }
}
