import Engine
import Foundation
import Glibc
import Synchronization
import ZeroMQ

/// Two threads that send each other messages over sockets like those between stages.
final class HopBench: Sendable {
    private static let domain = "hop"
    /// Of each side, until the other is there, and for each message.
    private static let patienceMs = 30_000
    /// As a stage's header beside the row.
    private static let headerBytes = 96
    private static let staysAwakeNanoseconds: UInt64 = 20_000_000
    private static let matrixColumns = 4_096

    private struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    private struct Meeting {
        var endpoints: [String?] = [nil, nil]
        /// Side 0 has what it waited for.
        var isOver = false
        var results: [Result<[Double], any Error>?] = [nil, nil]
    }

    private let processors: [Int32]
    private let rowBytes: Int
    private let hops: Int
    private let matrixBytes: Int
    private let keys: CurveKeyPair
    private let meeting = Mutex(Meeting())

    init(processors: [Int32], rowBytes: Int, hops: Int, matrixBytes: Int) throws {
        (self.processors, self.rowBytes, self.hops, self.matrixBytes) = (processors, rowBytes, hops, matrixBytes)
        keys = try CurveKeyPair.generate()
    }

    /// Seconds one way, both ways together: of messages that are answered at once, and of those before which their sender computed.
    func run() throws -> (atOnce: [Double], computing: [Double]) {
        let ended = DispatchSemaphore(value: 0)
        for index in 0..<2 {
            let thread = Thread { [self] in
                let result = Result { try side(index) }
                meeting.withLock { $0.results[index] = result }
                ended.signal()
            }
            thread.stackSize = 2 << 20
            thread.start()
        }
        for _ in 0..<2 { ended.wait() }
        let both = try meeting.withLock { $0.results }.map { try $0!.get() }
        return (both.flatMap { $0[..<hops] }, both.flatMap { $0[hops...] })
    }

    /// Seconds that each message took until it was here, the first `hops` of them sent at once.
    private func side(_ index: Int) throws -> [Double] {
        // Pins this thread, and so whatever it starts: libzmq's own threads.
        let pool = try ComputePool(threads: 1, processors: [processors[index]])
        let watch = ProcessorWatch(processor: processors[index])
        let instructionSet = try InstructionSet.fromEnvironment()
        let rows = max(64, matrixBytes / (Self.matrixColumns * 18 / 32) / 64 * 64)
        let product = BenchProduct(
            PackedMatrix(type: .q4_0, rows: rows, columns: Self.matrixColumns), batchMax: 1, deviation: 1, pool: pool, instructionSet: instructionSet)
        let context = try Context()
        var link = try Link(context, keys)
        meeting.withLock { $0.endpoints[index] = link.endpoint }
        try link.connect(to: otherEndpoint(than: index))

        var seconds: [Double] = []
        let row = [UInt8](repeating: 0, count: rowBytes)
        if index == 0 { try link.send(row) }
        while seconds.count < 2 * hops {
            watch?.keep(nanoseconds: Self.staysAwakeNanoseconds)
            let sentAt = try link.receive()
            seconds.append(Double(Link.now - sentAt) * 1e-9)
            watch?.rest()
            if index == 0, seconds.count == 2 * hops { break }
            // Each side gets `hops` messages that were sent at once: side 0 computes first, before its message after those.
            if seconds.count >= hops + index { product.run(columns: 1) }
            try link.send(row)
        }
        // The last message is side 1's, and would be lost with its socket.
        if index == 0 { meeting.withLock { $0.isOver = true } } else { try wait("the last message did not arrive") { $0.isOver ? () : nil } }
        return seconds
    }

    private func otherEndpoint(than index: Int) throws -> String { try wait("the other side did not begin") { $0.endpoints[1 - index] } }

    private func wait<Value: Sendable>(_ complaint: String, _ look: @Sendable (Meeting) -> Value?) throws -> Value {
        for _ in 0..<Self.patienceMs {
            let (value, hasFailed) = meeting.withLock { state in
                (look(state), state.results.contains { if case .failure = $0 { true } else { false } })
            }
            if let value { return value }
            if hasFailed { break }
            usleep(1_000)
        }
        throw Failure(description: complaint)
    }

    /// One side's sockets.
    private struct Link: ~Copyable {
        let endpoint: String
        private var access: AccessList
        private let data: Socket
        private let next: Socket
        private var poller = Poller()

        init(_ context: Context, _ keys: CurveKeyPair) throws {
            var access = try AccessList(context, domain: HopBench.domain)
            access.admit(keys.publicKey)
            let data = try Socket(context, .pull, SocketOptions(.curveServer(keys, domain: HopBench.domain)))
            let next = try Socket(context, .push, SocketOptions(.curveClient(keys, server: keys.publicKey)))
            endpoint = try data.bind("tcp://127.0.0.1:0")
            self.access = access
            self.data = data
            self.next = next
        }

        func connect(to endpoint: String) throws { try next.connect(endpoint) }

        /// Of the clock that all processors share.
        static var now: UInt64 { DispatchTime.now().uptimeNanoseconds }

        /// With the time in front.
        mutating func send(_ row: [UInt8]) throws {
            for _ in 0..<HopBench.patienceMs / 10 {
                var first = Frame(byteCount: HopBench.headerBytes)
                first.withMutableBytes { bytes in
                    bytes.initializeMemory(as: UInt8.self, repeating: 0)
                    bytes.storeBytes(of: Self.now, as: UInt64.self)
                }
                var message = Message()
                message.append(first)
                message.append(copying: row)
                if try next.send(&message) {
                    // As stages do (`WorkerLoop.letItLeave`).
                    sched_yield()
                    return
                }
                // Not connected yet; the other side may wait for our word.
                usleep(10_000)
                try access.answerPending()
            }
            throw Failure(description: "the other side can't be reached over loopback")
        }

        /// When the message that comes next was sent.
        mutating func receive() throws -> UInt64 {
            for _ in 0..<HopBench.patienceMs / 100 {
                if let message = try data.receive(maxParts: 2) {
                    return message.withBytes(of: 0) { $0.loadUnaligned(as: UInt64.self) }
                }
                poller.removeAll()
                let (handshakes, _) = (poller.watch(access.socket), poller.watch(data))
                _ = try poller.wait(milliseconds: 100)
                if poller.isReadable(handshakes) { try access.answerPending() }
            }
            throw Failure(description: "no message came from the other side")
        }
    }
}
