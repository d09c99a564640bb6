import CZeroMQ

/// A call of libzmq, or a key file, that failed.
package struct ZeroMQError: Error, CustomStringConvertible {
    package enum Code: String, Sendable {
        case badEndpoint = "bad-endpoint"
        case addressInUse = "address-in-use"
        case noCurve = "no-curve"
        case badKey = "bad-key"
        case keyFile = "key-file"
        case unreachable = "unreachable"
        case system = "system"
    }

    package var code: Code
    /// What was asked, what was found, what to do.
    package var message: String

    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// `what` was asked of libzmq and `errno` says why it was refused.
    static func last(_ what: String) -> ZeroMQError {
        let number = zmq_errno()
        let reason = String(cString: zmq_strerror(number))
        switch number {
        case EADDRINUSE:
            return ZeroMQError(.addressInUse, "\(what): the address is in use; choose another, or end the process that listens there")
        case EINVAL, ENODEV, EADDRNOTAVAIL, EPROTONOSUPPORT:
            return ZeroMQError(.badEndpoint, "\(what): \(reason); an endpoint looks like tcp://127.0.0.1:7300 and names an address of this box")
        case EHOSTUNREACH:
            return ZeroMQError(.unreachable, "\(what): the peer is not connected")
        default:
            return ZeroMQError(.system, "\(what): \(reason)")
        }
    }

    package var description: String { "\(message) [\(code.rawValue)]" }
}
