import CZeroMQ
import Glibc
import Testing

@testable import ZeroMQ

@Suite struct AccessTests {
    /// Long enough for a handshake over loopback many times over; only for what must not happen.
    static let quietMs = 300

    @Test func admittedKeyArrivesWithItsName() throws {
        let keys = try CurveKeyPair.generate()
        var server = try Server(admitting: [keys.publicKey])
        let client = try server.client(keys)
        try send([[1, 2, 3]], client, &server)
        let received = try server.receive()
        let message = try #require(received)
        #expect(message.parts.count == 2)
        #expect(message.parts[1] == [1, 2, 3])
        #expect(message.key == keys.publicKey)
        let refused = server.access.denials
        #expect(refused == 0)
        // And back, by the routing id.
        let sent = try trySend([message.parts[0], [9]], server.socket)
        #expect(sent)
        let answer = try receive(client)
        #expect(answer?.parts == [[9]])
    }

    @Test func unknownKeyIsRefusedAndCounted() throws {
        var server = try Server(admitting: [CurveKeyPair.generate().publicKey])
        let stranger = try server.client(.generate())
        try server.serveUntilDenied(1)
        let refused = server.access.denials
        #expect(refused >= 1)
        let sent = try trySend([[1]], stranger)
        #expect(!sent)
        let message = try server.receive(within: Self.quietMs)
        #expect(message?.parts == nil)
    }

    @Test func wrongServerKeyNeverConnects() throws {
        let keys = try CurveKeyPair.generate()
        var server = try Server(admitting: [keys.publicKey])
        let client = try Socket(server.context, .dealer, SocketOptions(.curveClient(keys, server: CurveKeyPair.generate().publicKey)))
        try client.connect(server.endpoint)
        let message = try server.receive(within: Self.quietMs)
        #expect(message?.parts == nil)
        let sent = try trySend([[1]], client)
        #expect(!sent)
    }

    /// A plain libzmq client, which our own `Socket` refuses to be.
    @Test func clientWithoutCurveIsRefused() throws {
        var server = try Server()
        let plain = try #require(zmq_socket(server.context.handle, ZMQ_DEALER))
        defer { zmq_close(plain) }
        var zero: Int32 = 0
        zmq_setsockopt(plain, ZMQ_LINGER, &zero, MemoryLayout<Int32>.size)
        let connected = zmq_connect(plain, server.endpoint)
        #expect(connected == 0)
        // Where the refusal came first, libzmq has no connection left to queue it for.
        let sent = zmq_send(plain, "x", 1, ZMQ_DONTWAIT)
        #expect(sent == 1 || zmq_errno() == EAGAIN)
        let message = try server.receive(within: Self.quietMs)
        #expect(message?.parts == nil)
    }

    @Test func admitAndRevokeActOnNewConnections() throws {
        let keys = try CurveKeyPair.generate()
        var server = try Server()
        // libzmq gives a socket up whose key was refused: it takes a new one to try again.
        let refused = try server.client(keys)
        try server.serveUntilDenied(1)
        _ = consume refused
        server.access.admit(keys.publicKey)
        let client = try server.client(keys)
        try send([[1]], client, &server)
        let first = try server.receive()
        #expect(first?.key == keys.publicKey)

        server.access.revoke(keys.publicKey)
        let denials = server.access.denials
        let second = try server.client(keys)
        try server.serveUntilDenied(denials + 1)
        let denialsAfter = server.access.denials
        #expect(denialsAfter > denials)
        let sent = try trySend([[2]], second)
        #expect(!sent)
        // The connection that stands is its owner's affair.
        try send([[3]], client, &server)
        let third = try server.receive()
        #expect(third?.parts.last == [3])
    }

    /// Libzmq asks for a key once a connection. To shut somebody out, the connection has to end.
    @Test func aConnectionThatIsCutMustProveItsKeyAgain() throws {
        let (keys, others) = (try CurveKeyPair.generate(), try CurveKeyPair.generate())
        var server = try Server(admitting: [keys.publicKey, others.publicKey])
        let client = try server.client(keys)
        let other = try server.client(others)
        try send([[1]], client, &server)
        let first = try server.nextConnection()
        let connection = try #require(first)
        try send([[2]], other, &server)
        let second = try server.nextConnection()
        let bystander = try #require(second)
        #expect(connection != bystander)

        server.access.revoke(keys.publicKey)
        let denials = server.access.denials
        #expect(connection.cut())
        try server.serveUntilDenied(denials + 1)
        let denialsAfter = server.access.denials
        #expect(denialsAfter > denials)
        let isSent = try trySend([[3]], client)
        #expect(!isSent)
        // The number may be another's by now: nobody is cut twice.
        #expect(!connection.cut())
        try send([[4]], other, &server)
        let fourth = try server.receive()
        #expect(fourth?.parts.last == [4] && fourth?.key == others.publicKey)
    }

    @Test func onlyTCPConnectionsCanBeCut() throws {
        let context = try Context()
        let a = try Socket(context, .pair)
        let b = try Socket(context, .pair)
        try a.bind("inproc://pair")
        try b.connect("inproc://pair")
        let isSent = try trySend([[1]], a)
        #expect(isSent)
        guard let message = try b.receive() else {
            Issue.record("nothing came")
            return
        }
        let connection = message.connection
        #expect(connection == nil)
    }

    @Test func otherDomainIsRefused() throws {
        let keys = try CurveKeyPair.generate()
        var server = try Server(admitting: [keys.publicKey])
        let other = try Socket(server.context, .router, SocketOptions(.curveServer(server.keys, domain: "other")))
        let endpoint = try other.bind("tcp://127.0.0.1:*")
        let client = try Socket(server.context, .dealer, SocketOptions(.curveClient(keys, server: server.keys.publicKey)))
        try client.connect(endpoint)
        try server.serveUntilDenied(1)
        let refused = server.access.denials
        #expect(refused >= 1)
    }

    @Test func noServerWithoutAccessList() throws {
        let context = try Context()
        let socket = try Socket(context, .router, SocketOptions(.curveServer(.generate(), domain: "test")))
        let error = zeroMQError { try socket.bind("tcp://127.0.0.1:*") }
        #expect(error?.code == .accessListMissing)
    }

    @Test func secondAccessListIsRefused() throws {
        let context = try Context()
        let first = try AccessList(context, domain: "a")
        let error = zeroMQError { _ = try AccessList(context, domain: "b") }
        #expect(error?.code == .addressInUse)
        _ = first.domain
    }

    /// Anything inside the process can reach the handler's endpoint; nothing that comes may end or confuse it.
    @Test func malformedQuestionsAreDropped() throws {
        var server = try Server()
        let asker = try Socket(server.context, .dealer)
        try asker.connect(AccessList.endpoint)
        let version = Array("1.0".utf8)
        let key = [UInt8](repeating: 7, count: 32)
        let questions: [[[UInt8]]] = [
            [[1]], [[], version], [[], [50], [1], [], [], [], [], key], [[9], version, [1], [], [], [], Array("CURVE".utf8), key],
            Array(repeating: [], count: Message.partsMax - 1),
            [[], version] + Array(repeating: [0xFF], count: Message.partsMax - 2),
        ]
        for question in questions {
            let sent = try trySend(question, asker)
            #expect(sent)
        }
        // Well-formed, but not CURVE, or with a short key: answered with 400.
        for (mechanism, credentials) in [("PLAIN", key), ("CURVE", [1, 2]), ("NULL", [])] {
            let sent = try trySend([[], version, [7], Array("test".utf8), [], [], Array(mechanism.utf8), credentials], asker)
            #expect(sent)
        }
        for _ in 0..<20 { try server.serve(within: 10) }
        var statuses: [String] = []
        while let answer = Received(try asker.receive()) { statuses.append(String(decoding: answer.parts[3], as: UTF8.self)) }
        let malformed = server.access.malformed
        #expect(malformed >= 4)
        #expect(statuses.count >= 3)
        #expect(statuses.allSatisfy { $0 == "400" })
    }
}
