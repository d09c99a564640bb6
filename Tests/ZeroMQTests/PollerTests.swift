import Testing

@testable import ZeroMQ

@Suite struct PollerTests {
    private func take(_ socket: borrowing Socket) throws -> Bool {
        guard let message = try socket.receive() else { return false }
        return message.count == 1
    }

    private func lookInParts(_ poller: inout Poller) throws -> Int {
        _ = try poller.askSockets()
        let found = try poller.sleep(nanoseconds: 0)
        return try poller.take(found ?? 0)
    }

    /// Sends and receives in any order, which also take libzmq's notices away, and after each of them what waits is found, and nothing else.
    @Test(arguments: [1, 2, 3] as [UInt64])
    func findsWhatWaitsWhateverWasCalled(seed: UInt64) throws {
        let context = try Context()
        let left = try Socket(context, .pair)
        try left.bind("inproc://poller-\(seed)")
        let right = try Socket(context, .pair)
        try right.connect("inproc://poller-\(seed)")
        var waiting = (left: 0, right: 0)
        var state = seed
        var poller = Poller()
        for _ in 0..<2_000 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            switch (state >> 33) % 5 {
            case 0:
                let sent = try left.send(Message(copying: [1]))
                waiting.right += sent ? 1 : 0
            case 1:
                let sent = try right.send(Message(copying: [2]))
                waiting.left += sent ? 1 : 0
            case 2:
                let came = try take(left)
                #expect(came == (waiting.left > 0), "seed \(seed)")
                waiting.left -= came ? 1 : 0
            case 3:
                let came = try take(right)
                #expect(came == (waiting.right > 0), "seed \(seed)")
                waiting.right -= came ? 1 : 0
            default:
                // Many messages each way keep libzmq from ever being asked about an empty queue; now and then all are taken.
                while try take(left) { waiting.left -= 1 }
                while try take(right) { waiting.right -= 1 }
            }
            // Whoever lends its sockets while it sleeps asks so, and waits in parts.
            if (state >> 40) % 2 == 0 {
                let isUnnoticed = try left.hasUnnoticedMessages()
                poller.removeAll()
                _ = poller.watch(left)
                let isNoticed = try poller.sleep(nanoseconds: 0) == 1
                #expect(!isUnnoticed || waiting.left > 0, "seed \(seed)")
                #expect(isUnnoticed || isNoticed || waiting.left == 0, "seed \(seed)")
            }
            poller.removeAll()
            let (first, second) = (poller.watch(left), poller.watch(right))
            let ready = try (state >> 41) % 2 == 0 ? poller.wait(milliseconds: 0) : lookInParts(&poller)
            let (leftIs, rightIs) = (poller.isReadable(first), poller.isReadable(second))
            #expect(leftIs == (waiting.left > 0) && rightIs == (waiting.right > 0), "seed \(seed)")
            #expect(ready == (waiting.left > 0 ? 1 : 0) + (waiting.right > 0 ? 1 : 0), "seed \(seed)")
        }
    }

    /// What nobody has called since it was asked shows by its descriptor alone.
    @Test func asksAgainForAnotherInterest() throws {
        let context = try Context()
        let left = try Socket(context, .pair)
        try left.bind("inproc://interest")
        let right = try Socket(context, .pair)
        try right.connect("inproc://interest")
        var poller = Poller()
        let entry = poller.watch(left)
        do {
            let ready = try poller.wait(milliseconds: 0)
            #expect(ready == 0)
        }
        poller.change(entry, to: [.readable, .writable])
        do {
            let ready = try poller.wait(milliseconds: 0)
            let (isReadable, isWritable) = (poller.isReadable(entry), poller.isWritable(entry))
            #expect(ready == 1 && !isReadable && isWritable)
        }
        poller.change(entry, to: .readable)
        let sent = try right.send(Message(copying: [1]))
        #expect(sent)
        let ready = try poller.wait(milliseconds: Server.patienceMs)
        #expect(ready == 1)
    }
}
