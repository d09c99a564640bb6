import Glibc
import Testing

@testable import ZeroMQ

/// Counting the process's descriptors needs quiet: the suite runs alone inside, and `settle` waits for others' sockets to go.
@Suite(.serialized) struct SocketTests {
    @Test func bindAnswersWithTheChosenPort() throws {
        let server = try Server()
        let chosen = server.endpoint
        #expect(chosen.hasPrefix("tcp://127.0.0.1:"))
        #expect(Int(chosen.split(separator: ":").last!) ?? 0 > 0)
        let second = try Socket(server.context, .router, SocketOptions(.curveServer(server.keys, domain: "test")))
        do {
            let error = zeroMQError { try second.bind(server.endpoint) }
            #expect(error?.code == .addressInUse)
        }
        try server.socket.unbind(server.endpoint)
        // The listener closes in the background.
        var again = ""
        for _ in 0..<200 where again.isEmpty {
            usleep(10_000)
            again = (try? second.bind(server.endpoint)) ?? ""
        }
        let endpoint = server.endpoint
        #expect(again == endpoint)
    }

    @Test func badEndpointsAreErrors() throws {
        let context = try Context()
        let access = try AccessList(context, domain: "test")
        let socket = try Socket(context, .router, SocketOptions(.curveServer(.generate(), domain: access.domain)))
        for endpoint in ["", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "tcp://127.0.0.1:65536", "tcp://127.0.0.1:-1", "tcp://127.0.0.1:1x", "http://127.0.0.1:1", "tcp://192.0.2.1:*"] {
            let error = zeroMQError { try socket.bind(endpoint) }
            #expect(error?.code == .addressUnusable, "\(endpoint): \(String(describing: error))")
        }
        do {
            let error = zeroMQError { try socket.disconnect("tcp://127.0.0.1:1") }
            #expect(error?.code == .addressUnusable)
        }
    }

    @Test func noTcpWithoutKeys() throws {
        let context = try Context()
        let socket = try Socket(context, .router)
        do {
            let error = zeroMQError { try socket.bind("tcp://127.0.0.1:*") }
            #expect(error?.code == .addressUnusable)
        }
        do {
            let error = zeroMQError { try socket.connect("tcp://127.0.0.1:1") }
            #expect(error?.code == .addressUnusable)
        }
    }

    @Test func socketLimitIsAnError() throws {
        let context = try Context(socketsMax: 1)
        let first = try Socket(context, .push)
        do {
            let error = zeroMQError { _ = try Socket(context, .push) }
            #expect(error?.code == .tooManySockets)
        }
        _ = first.kind
    }

    @Test func shutdownEndsEveryCall() throws {
        let context = try Context()
        let socket = try Socket(context, .pull)
        context.shutdown()
        do {
            let error = zeroMQError { _ = try socket.receive() }
            #expect(error?.code == .contextClosed)
        }
        do {
            let error = zeroMQError { _ = try Socket(context, .pull) }
            #expect(error?.code == .contextClosed)
        }
        var poller = Poller()
        _ = poller.watch(socket)
        // Ends at once, by error or with the socket marked ready: both let the owner see `contextClosed`.
        _ = try? poller.wait(milliseconds: Server.patienceMs)
    }

    /// linger 0: messages that nobody will ever fetch don't keep the process.
    @Test func contextEndsWithUnsentMessages() throws {
        weak var ended: Context?
        do {
            let keys = try CurveKeyPair.generate()
            let server = try Server(admitting: [keys.publicKey])
            ended = server.context
            let client = try server.client(keys) { $0.immediate = false }
            for index in 0..<100 {
                let sent = try trySend([[UInt8(index)]], client)
                #expect(sent)
            }
        }
        #expect(ended == nil)
    }

    @Test func fiveHundredSocketsLeaveNoDescriptor() throws {
        let keys = try CurveKeyPair.generate()
        let server = try Server(admitting: [keys.publicKey])
        let pool = try Context()
        func openAndClose() throws {
            let bound = try Socket(server.context, .router, SocketOptions(.curveServer(server.keys, domain: Server.domain)))
            let endpoint = try bound.bind("tcp://127.0.0.1:*")
            let connected = try Socket(pool, .dealer, SocketOptions(.curveClient(keys, server: server.keys.publicKey)))
            try connected.connect(endpoint)
            _ = try Mailbox<Int>(capacity: 1)
        }
        try openAndClose()
        let before = Self.settledDescriptors()
        for _ in 0..<500 { try openAndClose() }
        // Other suites run beside this one; what 500 cycles leak is far more than they hold open.
        let after = Self.settledDescriptors()
        #expect(after - before < 250, "\(before) descriptors before, \(after) after")
    }

    /// The reaper closes in the background: the lowest count in a while.
    private static func settledDescriptors() -> Int {
        (0..<100).map { _ in
            usleep(5_000)
            return descriptors()
        }.min()!
    }

    private static func descriptors() -> Int {
        guard let folder = opendir("/proc/self/fd") else { return 0 }
        defer { closedir(folder) }
        var count = 0
        while readdir(folder) != nil { count += 1 }
        return count
    }
}
