import CZeroMQ
import Testing

@testable import ZeroMQ

/// A CURVE server with its access list, on one thread with its clients: nothing here needs another thread.
struct Server: ~Copyable {
    static let domain = "test"
    static let patienceMs = 60_000

    let context: Context
    let keys: CurveKeyPair
    var access: AccessList
    let socket: Socket
    let endpoint: String

    init(_ kind: Socket.Kind = .router, admitting: [CurvePublicKey] = [], _ change: (inout SocketOptions) -> Void = { _ in }) throws {
        // Values with a `deinit` may only be half made in local variables.
        let context = try Context()
        let keys = try CurveKeyPair.generate()
        var access = try AccessList(context, domain: Self.domain)
        for key in admitting { access.admit(key) }
        var options = SocketOptions(.curveServer(keys, domain: Self.domain))
        change(&options)
        let socket = try Socket(context, kind, options)
        endpoint = try socket.bind("tcp://127.0.0.1:*")
        self.context = context
        self.keys = keys
        self.access = access
        self.socket = socket
    }

    func client(_ keys: CurveKeyPair, _ kind: Socket.Kind = .dealer, _ change: (inout SocketOptions) -> Void = { _ in }) throws -> Socket {
        var options = SocketOptions(.curveClient(keys, server: self.keys.publicKey))
        options.reconnectIntervalMs = 20
        options.reconnectIntervalMaxMs = 40
        change(&options)
        let socket = try Socket(context, kind, options)
        try socket.connect(endpoint)
        return socket
    }

    /// Answers access questions until a message comes, or `nil` after `milliseconds`.
    mutating func receive(within milliseconds: Int = Server.patienceMs) throws -> Received? {
        // A new CURVE connection makes the socket readable once without a message, so readiness is a hint.
        for _ in 0..<max(1, milliseconds / 10) {
            if let message = Received(try socket.receive()) { return message }
            try serve(within: 10)
        }
        return Received(try socket.receive())
    }

    /// Answers access questions until something can be received or `milliseconds` have passed.
    mutating func serve(within milliseconds: Int = Server.patienceMs) throws {
        for _ in 0..<max(1, milliseconds / 10) {
            var poller = Poller()
            let questions = poller.watch(access.socket)
            let messages = poller.watch(socket)
            _ = try poller.wait(milliseconds: 10)
            if poller.isReadable(questions) { try access.answerPending() }
            if poller.isReadable(messages) { return }
        }
    }

    /// Over which the next message comes.
    mutating func nextConnection() throws -> PeerConnection? {
        for _ in 0..<(Self.patienceMs / 10) {
            if let message = try socket.receive() { return message.connection }
            try serve(within: 10)
        }
        return nil
    }

    mutating func serveUntilDenied(_ denials: UInt64) throws {
        for _ in 0..<(Self.patienceMs / 10) where access.denials < denials {
            try serve(within: 10)
        }
    }
}

func send(_ message: consuming Message, _ socket: borrowing Socket, _ server: inout Server) throws {
    var message = message
    for _ in 0..<(Server.patienceMs / 10) {
        if try socket.send(&message) { return }
        try server.serve(within: 10)
    }
    Issue.record("the connection never stood")
}

/// A message as a copyable value: the testing macros take no move-only ones.
struct Received {
    var parts: [[UInt8]]
    var key: CurvePublicKey?

    init?(_ message: consuming Message?) {
        guard let message else { return nil }
        key = message.authenticatedKey
        parts = (0..<message.count).map { message.bytes(of: $0) }
    }
}

/// One receive that waits; for sockets beside a server.
func receive(_ socket: borrowing Socket, within milliseconds: Int = Server.patienceMs) throws -> Received? {
    var poller = Poller()
    _ = poller.watch(socket)
    _ = try poller.wait(milliseconds: milliseconds)
    return Received(try socket.receive())
}

func trySend(_ parts: [[UInt8]], _ socket: borrowing Socket) throws -> Bool {
    var message = Message()
    for part in parts { message.append(copying: part) }
    return try socket.send(&message)
}

/// Sends, waiting for the connection to stand.
func send(_ parts: [[UInt8]], _ socket: borrowing Socket, _ server: inout Server) throws {
    var message = Message()
    for part in parts { message.append(copying: part) }
    try send(message, socket, &server)
}

func zeroMQError(_ body: () throws -> Void) -> ZeroMQError? {
    do {
        try body()
        return nil
    } catch { return error as? ZeroMQError }
}
