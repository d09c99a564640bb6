import Foundation
import Synchronization
import Testing

@testable import ZeroMQ

@Suite struct MailboxTests {
    @Test func keepsOrderAndSaysFull() throws {
        let mailbox = try Mailbox<Int>(capacity: 3)
        #expect([1, 2, 3, 4].map { mailbox.post($0) } == [true, true, true, false])
        #expect(mailbox.drain() == [1, 2, 3])
        #expect(mailbox.drain() == [])
        #expect(mailbox.post(5))
        #expect(mailbox.drain(waitingMilliseconds: 0) == [5])
        #expect(mailbox.drain(waitingMilliseconds: 1) == [])
    }

    @Test func wakesThePoller() throws {
        let mailbox = try Mailbox<Int>(capacity: 2)
        var poller = Poller()
        let entry = poller.watch(mailbox)
        do {
            let ready = try poller.wait(milliseconds: 0)
            #expect(ready == 0)
        }
        #expect(mailbox.post(1))
        do {
            let ready = try poller.wait(milliseconds: Server.patienceMs)
            #expect(ready == 1)
        }
        let readable = poller.isReadable(entry)
        #expect(readable)
        #expect(mailbox.drain() == [1])
        do {
            let ready = try poller.wait(milliseconds: 0)
            #expect(ready == 0)
        }
        let readableAfter = poller.isReadable(entry)
        #expect(!readableAfter)
    }

    /// A lost element must fail the test, not hang it.
    private static let patience = Duration.seconds(60)

    /// Every element arrives once, each producer's in order, and the consumer is woken for the last one. All are threads: tasks would wait for
    /// the tests that compute on the pool's few threads, and their patience with them.
    @Test func manyProducers() throws {
        let producers = 8
        let each = 5_000
        let mailbox = try Mailbox<(producer: Int, index: Int)>(capacity: 64)
        let giveUp = ContinuousClock.now + Self.patience
        let ended = DispatchGroup()
        for producer in 0..<producers {
            ended.enter()
            Thread.detachNewThread {
                for index in 0..<each { while !mailbox.post((producer, index)), ContinuousClock.now < giveUp { sched_yield() } }
                ended.leave()
            }
        }
        var received = [[Int]](repeating: [], count: producers)
        var left = producers * each
        while left > 0 && ContinuousClock.now < giveUp {
            let elements = mailbox.drain(waitingMilliseconds: 100)
            for element in elements { received[element.producer].append(element.index) }
            left -= elements.count
        }
        ended.wait()
        for producer in 0..<producers { #expect(received[producer] == Array(0..<each)) }
    }
}
