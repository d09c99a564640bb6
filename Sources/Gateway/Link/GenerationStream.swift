import ClusterCore

/// The events of one HTTP request's generation, on their way from the link's thread to the request's handler: bounded.
final class GenerationStream: Sendable {
    enum Event: Sendable {
        /// `prompt` counts the prompts of the HTTP request.
        case cluster(prompt: Int, StreamEvent)
        /// Time has passed: look at what is due.
        case tick
        /// The client is gone; nobody reads what would be written.
        case clientLeft
    }

    /// To be iterated by one task at a time.
    let events: AsyncStream<Event>
    private let continuation: AsyncStream<Event>.Continuation
    /// Called once, on the link's thread, when the reader is too slow.
    private let onOverflow: @Sendable () -> Void

    init(eventsBufferedMax: Int, onOverflow: @escaping @Sendable () -> Void) {
        (events, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(eventsBufferedMax))
        self.onOverflow = onOverflow
    }

    /// False when the event found no room or no reader: the request is to be cancelled.
    func deliver(_ event: StreamEvent, prompt: Int) -> Bool {
        switch continuation.yield(.cluster(prompt: prompt, event)) {
        case .enqueued: return true
        case .dropped:
            continuation.finish()
            onOverflow()
            return false
        case .terminated: return false
        @unknown default: return false
        }
    }

    /// Wakes the reader; of no use, and dropped, where it has enough to do.
    func tick() { continuation.yield(.tick) }

    /// The reader finds `clientLeft` behind what is buffered, or the end where the buffer is full: both end it.
    func clientLeft() {
        continuation.yield(.clientLeft)
        continuation.finish()
    }

    /// Nothing is delivered any more.
    func end() { continuation.finish() }
}
