import CZeroMQ
import Glibc
import Synchronization
import Testing

@testable import ZeroMQ

@Suite struct MessageTests {
    @Test func bigPayloadIsSentWithoutCopyAndReleasedOnce() throws {
        let keys = try CurveKeyPair.generate()
        var server = try Server(.pull, admitting: [keys.publicKey])
        let client = try server.client(keys, .push)
        let byteCount = 4 << 20
        let released = Released()
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 64)
        for index in stride(from: 0, to: byteCount, by: 4096) { buffer[index] = UInt8(truncatingIfNeeded: index >> 12) }
        var message = Message(copying: [42])
        message.append(
            Frame(adopting: buffer) { bytes in
                bytes.deallocate()
                released.count.add(1, ordering: .relaxed)
            })
        try send(message, client, &server)
        let received = try server.receive()
        let arrived = try #require(received)
        #expect(arrived.parts.map(\.count) == [1, byteCount])
        let intact = arrived.parts[1].withUnsafeBytes { bytes in
            stride(from: 0, to: byteCount, by: 4096).allSatisfy { bytes[$0] == UInt8(truncatingIfNeeded: $0 >> 12) }
        }
        #expect(intact)
        // The I/O thread lets go when the last byte is in the kernel.
        for _ in 0..<200 where released.count.load(ordering: .relaxed) == 0 { usleep(10_000) }
        #expect(released.count.load(ordering: .relaxed) == 1)
    }

    @Test func unsentFramesReleaseOnceToo() {
        let released = Released()
        for sizes in [0, 1, 100] {
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: sizes, alignment: 8)
            var message = Message()
            message.append(
                Frame(adopting: buffer) { bytes in
                    bytes.deallocate()
                    released.count.add(1, ordering: .relaxed)
                })
            let frame = message.removeFirst()
            let count = frame.byteCount
            #expect(count == sizes)
        }
        #expect(released.count.load(ordering: .relaxed) == 3)
    }

    @Test func fullQueueSaysFalseAndKeepsTheMessage() throws {
        let context = try Context()
        var options = SocketOptions()
        options.sendHighWaterMark = 2
        options.receiveHighWaterMark = 2
        let pull = try Socket(context, .pull, options)
        try pull.bind("inproc://full")
        let push = try Socket(context, .push, options)
        try push.connect("inproc://full")
        var sent = 0
        while sent < 100 {
            var message = Message(copying: [1])
            message.append(copying: [2])
            guard try push.send(&message) else {
                let left = message.count
                #expect(left == 2)
                break
            }
            sent += 1
        }
        #expect(sent == 4)
        for _ in 0..<sent {
            let message = Received(try pull.receive())
            #expect(message?.parts == [[1], [2]])
        }
        let nothing = Received(try pull.receive())
        #expect(nothing?.parts == nil)
    }

    @Test func nobodyConnectedSaysFalse() throws {
        let socket = try Socket(Context(), .push)
        let sent = try trySend([[1]], socket)
        #expect(!sent)
    }

    @Test func routerSaysWhenThePeerIsGone() throws {
        let server = try Server()
        var message = Message(copying: [0, 1, 2, 3, 4])
        message.append(copying: [1])
        var code: ZeroMQError.Code?
        do throws(ZeroMQError) { _ = try server.socket.send(&message) } catch { code = error.code }
        #expect(code == .peerUnreachable)
        let left = message.count
        #expect(left == 2)
    }

    /// CURVE adds bytes on the wire; the limit is one of our bytes all the same.
    @Test func partOfTheLimitArrivesAndOneByteMoreNever() throws {
        let keys = try CurveKeyPair.generate()
        let limit = 100_000
        var server = try Server(.pull, admitting: [keys.publicKey]) { $0.maxPartBytes = limit }
        let client = try server.client(keys, .push)
        try send([[UInt8](repeating: 1, count: limit)], client, &server)
        let whole = try server.receive()
        #expect(whole?.parts.map(\.count) == [limit])
        try send([[UInt8](repeating: 2, count: limit + 1)], client, &server)
        try send([[3]], client, &server)
        // The connection was cut and made anew; the small message may or may not have survived, the large one never.
        while let message = try server.receive(within: AccessTests.quietMs) { #expect(message.parts[0].count == 1) }
        try send([[4]], client, &server)
        var last: [UInt8] = []
        while let message = try server.receive(within: AccessTests.quietMs) { last = message.parts[0] }
        #expect(last == [4])
    }

    @Test func tooManyPartsOrBytesAreDroppedAndTheNextMessageArrives() throws {
        let context = try Context()
        var options = SocketOptions()
        options.maxPartBytes = 10
        options.maxMessageBytes = 15
        let pull = try Socket(context, .pull, options)
        try pull.bind("inproc://parts")
        let push = try Socket(context, .push)
        try push.connect("inproc://parts")
        for sizes in [[1, 1, 1], [11], [10, 10], [10, 5]] {
            var message = Message()
            for size in sizes { message.append(copying: [UInt8](repeating: 0, count: size)) }
            let sent = try push.send(&message)
            #expect(sent)
        }
        for _ in 0..<3 {
            let error = zeroMQError { _ = try pull.receive(maxParts: 2) }
            #expect(error?.code == .messageTooLarge)
        }
        let kept = Received(try pull.receive(maxParts: 2))
        #expect(kept?.parts.map(\.count) == [10, 5])
    }

    @Test func payloadIsReadableFromAnotherThread() async throws {
        let payload = Payload(Frame(copying: [5, 6, 7]))
        let sum = await Task.detached { payload.withBytes { $0.reduce(0) { $0 + Int($1) } } }.value
        #expect(sum == 18)
        #expect(payload.byteCount == 3)
        var frame = Frame(byteCount: 2)
        frame.withMutableBytes { $0.copyBytes(from: [8, 9]) }
        let (bytes, key) = (frame.bytes, frame.authenticatedKey)
        #expect(bytes == [8, 9])
        #expect(key == nil)
    }
}

final class Released: Sendable {
    let count = Atomic<Int>(0)
}
