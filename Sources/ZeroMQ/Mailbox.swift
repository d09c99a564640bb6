import CZeroMQ
import Glibc
import Synchronization

/// A bounded queue into one thread: any thread posts, one thread drains, and an eventfd wakes its poll.
///
/// The descriptor is readable whenever elements may wait. It closes with the mailbox, so whoever polls it holds the mailbox.
package final class Mailbox<Element: Sendable>: Sendable {
    package let capacity: Int
    /// For `Poller`; nobody else reads or writes it.
    package let descriptor: Int32
    private let queue: Mutex<[Element]>

    package init(capacity: Int) throws(ZeroMQError) {
        precondition(capacity > 0)
        let descriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard descriptor >= 0 else { throw ZeroMQError(errorNumber: errno, "making an eventfd") }
        self.capacity = capacity
        self.descriptor = descriptor
        queue = Mutex([])
    }

    /// Puts `element` at the end; `false`, and nothing posted, when `capacity` elements wait already.
    package func post(_ element: Element) -> Bool {
        let countBefore = queue.withLock { queue in
            let count = queue.count
            if count < capacity { queue.append(element) }
            return count
        }
        // Only the first element has to wake anybody; a wake-up between another's append and its wake-up finds both.
        if countBefore == 0 { _ = eventfd_write(descriptor, 1) }
        return countBefore < capacity
    }

    /// Ends the consumer's wait as a post would.
    package func wake() { _ = eventfd_write(descriptor, 1) }

    /// Takes everything that waits, oldest first. Only the consuming thread calls this.
    package func drain() -> [Element] {
        var taken: [Element] = []
        drain(into: &taken)
        return taken
    }

    /// `drain` for a thread that does so often: what was in `taken` goes, and its memory holds what comes next, so that neither side
    /// allocates once both have held as much as ever waits.
    package func drain(into taken: inout [Element]) {
        // Asked first, because for any element at all to remove nothing takes microseconds.
        if !taken.isEmpty { taken.removeAll(keepingCapacity: true) }
        // The descriptor is cleared before the queue is taken: a post in between then wakes once too often, never once too seldom.
        var posts: eventfd_t = 0
        _ = eventfd_read(descriptor, &posts)
        queue.withLock { queue in
            swap(&queue, &taken)
        }
    }

    /// `drain` for a thread that has nothing else to wait for; empty when `milliseconds` pass without a post.
    package func drain(waitingMilliseconds milliseconds: Int) -> [Element] {
        precondition(milliseconds >= 0, "no wait without a deadline")
        let waiting = drain()
        if !waiting.isEmpty { return waiting }
        var item = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        // Ending early for a signal is as good as a deadline: the caller's loop comes round again.
        _ = poll(&item, 1, Int32(clamping: milliseconds))
        return drain()
    }

    deinit { close(descriptor) }
}
