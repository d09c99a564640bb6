import Synchronization

/// Questions of the async side to a thread that owns a machine. Each is answered once: by the thread, or with `nil` when there are too many or
/// the thread has ended.
final class Inquiries<Answer: Sendable>: Sendable {
    static var waitingMax: Int { 16 }

    private struct State {
        var isOpen = true
        var waiting: [CheckedContinuation<Answer?, Never>] = []
    }

    private let state = Mutex(State())

    /// - Parameter wake: makes the thread call `answer` soon; false when it can't be told.
    func ask(wake: () -> Bool) async -> Answer? {
        await withCheckedContinuation { continuation in
            // Waking under the lock: a question that was refused must not be answered too.
            let isAsked = state.withLock { state in
                guard state.isOpen, state.waiting.count < Self.waitingMax, wake() else { return false }
                state.waiting.append(continuation)
                return true
            }
            if !isAsked { continuation.resume(returning: nil) }
        }
    }

    func answer(_ make: () -> Answer) {
        let waiting = state.withLock { state in
            defer { state.waiting = [] }
            return state.waiting
        }
        guard !waiting.isEmpty else { return }
        let answer = make()
        for continuation in waiting { continuation.resume(returning: answer) }
    }

    /// The thread ends.
    func close() {
        let waiting = state.withLock { state in
            defer { state.waiting = [] }
            state.isOpen = false
            return state.waiting
        }
        for continuation in waiting { continuation.resume(returning: nil) }
    }
}
