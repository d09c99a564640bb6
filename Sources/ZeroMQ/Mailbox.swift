import CZeroMQ
import Glibc
import Synchronization

/// A bounded queue into a socket thread: any thread posts, one thread drains, and a descriptor wakes that thread's poll.
package final class Mailbox<Element: Sendable>: Sendable {
    package let capacity: Int
    /// Readable while there is something to drain.
    package let descriptor: Int32
    private let elements: Mutex<[Element]>

    package init(capacity: Int) throws(ZeroMQError) {
        precondition(capacity > 0, "a mailbox has room")
        let descriptor = eventfd(0, Int32(EFD_NONBLOCK) | Int32(EFD_CLOEXEC))
        guard descriptor >= 0 else { throw .last("eventfd") }
        self.descriptor = descriptor
        self.capacity = capacity
        elements = Mutex([])
    }

    deinit { close(descriptor) }

    /// False, with nothing posted, when `capacity` elements wait.
    package func post(_ element: Element) -> Bool {
        let wasEmpty: Bool? = elements.withLock { elements in
            guard elements.count < capacity else { return nil }
            elements.append(element)
            return elements.count == 1
        }
        guard let wasEmpty else { return false }
        if wasEmpty { eventfd_write(descriptor, 1) }
        return true
    }

    /// Everything posted so far, oldest first.
    package func drain() -> [Element] {
        // The descriptor is cleared first: what is posted after it raises it again.
        var count: eventfd_t = 0
        eventfd_read(descriptor, &count)
        return elements.withLock { elements in
            defer { elements = [] }
            return elements
        }
    }
}
