import CZeroMQ

/// What went wrong at a socket, a context, a key or a key file. `message` says what was asked, what was found and what to do.
package struct ZeroMQError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Stable names: they appear in logs and tests.
    package enum Code: String, Hashable, Sendable {
        case addressInUse = "zeromq.address-in-use"
        case addressUnusable = "zeromq.address-unusable"
        case contextClosed = "zeromq.context-closed"
        case peerUnreachable = "zeromq.peer-unreachable"
        case tooManySockets = "zeromq.too-many-sockets"
        case outOfMemory = "zeromq.out-of-memory"
        case optionRefused = "zeromq.option-refused"
        case messageTooLarge = "zeromq.message-too-large"
        case wrongState = "zeromq.wrong-state"
        case accessListMissing = "zeromq.access-list-missing"
        case keyInvalid = "zeromq.key-invalid"
        case keyFileUnusable = "zeromq.key-file-unusable"
        case systemCallFailed = "zeromq.system-call-failed"
    }

    package var code: Code
    package var message: String
    /// The `errno` behind it; `nil` when no call failed.
    package var cause: Int32?

    package init(_ code: Code, _ message: String, cause: Int32? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    package var description: String { "\(code.rawValue): \(message)" }

    /// The error of the libzmq call that has just failed on this thread. `asked` is the beginning of the sentence.
    static func last(_ asked: String) -> ZeroMQError { ZeroMQError(errorNumber: zmq_errno(), asked) }

    init(errorNumber: Int32, _ asked: String) {
        let found = String(cString: zmq_strerror(errorNumber))
        let (code, advice) = Self.advice[errorNumber] ?? (.systemCallFailed, "report this with the lines of the log before it")
        self.init(code, "\(asked): \(found); \(advice)", cause: errorNumber)
    }

    private static let advice: [Int32: (Code, String)] = [
        EADDRINUSE: (.addressInUse, "end the process that listens there or choose another port"),
        EADDRNOTAVAIL: (.addressUnusable, "use an address of this machine"),
        ENODEV: (.addressUnusable, "use an address or interface of this machine"),
        EINVAL: (.addressUnusable, "check the address or value; addresses look like tcp://host:port"),
        EPROTONOSUPPORT: (.addressUnusable, "addresses begin with tcp:// or inproc://"),
        ENOENT: (.addressUnusable, "nothing is bound or connected there"),
        ETERM: (.contextClosed, "the process is closing its sockets"),
        EHOSTUNREACH: (.peerUnreachable, "the peer has gone or never said hello"),
        EMFILE: (.tooManySockets, "raise the limit of open files (ulimit -n) or the context's socket limit"),
        ENOMEM: (.outOfMemory, "free memory on this machine"),
        EFSM: (.wrongState, "receive before sending on a reply socket"),
        EACCES: (.addressUnusable, "ports below 1024 need the right to bind them"),
    ]
}
