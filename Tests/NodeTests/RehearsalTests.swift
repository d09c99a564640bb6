import ClusterCore
import Testing
import Wire
import ZeroMQ

@testable import Node

/// A stage that sends itself what came last: over the sockets that it has anyway, with its own key.
@Suite struct RehearsalTests {
    private static let frame = StepFrame(
        step: Step(
            epoch: Epoch(1), number: StepNumber(1),
            segments: [Segment(sequence: SequenceID(1), start: 3, tokens: [1], newBlocks: [], samples: true)]))

    private static func machine() -> Worker {
        let capabilities = WorkerCapabilities(memoryBytes: 1, threads: 1, isa: "", readBytesPerSecond: 1, opsPerSecond: 1)
        return Worker(configuration: WorkerConfiguration(session: 1, name: "w", capabilities: capabilities, dataEndpoint: "tcp://w:1"))
    }

    /// Rows or none, and what is longer than a row of any model is not sent: then it is the one before.
    @Test(arguments: [(0, 0), (2_304, 2_304), (Rehearsal.rowsBytesMax + 1, 16)])
    func itGetsBackWhatItHadLast(_ bytes: Int, _ back: Int) async throws {
        let context = try Context()
        var access = try AccessList(context, domain: "stage")
        let own = try CurveKeyPair.generate()
        access.admit(own.publicKey)
        let data = try Socket(context, .pull, SocketOptions(.curveServer(own, domain: "stage")))
        let endpoint = try data.bind("tcp://0.0.0.0:0")
        var rehearsal = Rehearsal(key: PeerKey(own.publicKey))
        rehearsal.send(to: endpoint, context, own)
        let early = try data.receive(maxParts: 2)
        let isSilent = early == nil
        #expect(isSilent, "nothing to rehearse yet")
        if bytes > Rehearsal.rowsBytesMax { rehearsal.computes(Self.frame, rowsBytes: 16) }
        rehearsal.computes(Self.frame, rowsBytes: bytes)
        // Lost until the connection stands.
        let received: Message = try await {
            for _ in 0..<3_000 {
                rehearsal.send(to: endpoint, context, own)
                try access.answerPending()
                if let message = try data.receive(maxParts: 2) { return message }
                try await Task.sleep(for: .milliseconds(2))
            }
            throw CancellationError()
        }()
        let parts = received.count
        #expect(parts == (back > 0 ? 2 : 1))
        let frame = try received.withBytes(of: 0, WireCodec.decodeStepFrame)
        #expect(frame == Self.frame)
        if back > 0 {
            let rows = received.bytes(of: 1)
            #expect(rows == [UInt8](repeating: 0, count: back))
        }
        let sender = try #require(received.authenticatedKey.map(PeerKey.init))
        let now = Instant(nanoseconds: 1)
        let isOwn = rehearsal.receives(received, from: sender, at: now, by: Self.machine())
        #expect(isOwn)
        let count = rehearsal.count
        #expect(count == 1)
        // The same bytes from somebody else are a step.
        let stranger = try PeerKey(CurveKeyPair.generate().publicKey)
        let isStrangers = rehearsal.receives(received, from: stranger, at: now, by: Self.machine())
        #expect(!isStrangers)
        let after = rehearsal.count
        #expect(after == 1)
    }

    /// Where nobody listens, or no socket can be made, there is no rehearsal and no harm.
    @Test(arguments: ["tcp://127.0.0.1:1", "no endpoint"]) func nothingDependsOnIt(_ endpoint: String) throws {
        let context = try Context()
        let own = try CurveKeyPair.generate()
        var rehearsal = Rehearsal(key: PeerKey(own.publicKey))
        rehearsal.computes(Self.frame, rowsBytes: 16)
        for _ in 0..<3 { rehearsal.send(to: endpoint, context, own) }
    }
}
