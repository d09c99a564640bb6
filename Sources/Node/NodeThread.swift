import Foundation
import Synchronization

/// One of our own threads, started and waited for. Its body owns what may not leave it (sockets, machines).
final class NodeThread: Sendable {
    private struct State {
        var isReady = false
        var result: Result<Void, any Error>?
        var waiters: [CheckedContinuation<Void, any Error>] = []
    }

    private let state = Mutex(State())
    private let ready = DispatchSemaphore(value: 0)

    /// Starts `body` and returns when it calls its argument (what it needs is there); throws what it throws before that.
    init(name: String, body: @escaping @Sendable (_ started: () -> Void) throws -> Void) throws {
        let thread = Thread { [self] in
            Self.nameCurrent(name)
            let result = Result {
                try body { [self] in
                    state.withLock { $0.isReady = true }
                    ready.signal()
                }
            }
            finish(result)
        }
        thread.stackSize = 2 << 20
        thread.start()
        ready.wait()
        try state.withLock { $0.isReady ? .success(()) : $0.result ?? .success(()) }.get()
    }

    /// Names the calling thread for `top -H` and debuggers; 15 bytes are kept.
    ///
    /// Foundation's `name` is lost when it is set before the start and now and then after it; glibc's call is hidden from Swift.
    static func nameCurrent(_ name: String) {
        try? Data(name.utf8).write(to: URL(fileURLWithPath: "/proc/thread-self/comm"))
    }

    private func finish(_ result: Result<Void, any Error>) {
        let (waiters, wasReady) = state.withLock { state in
            state.result = result
            defer { state.waiters = [] }
            return (state.waiters, state.isReady)
        }
        if !wasReady { ready.signal() }
        for waiter in waiters { waiter.resume(with: result) }
    }

    func waitUntilEnded() async throws {
        try await withCheckedThrowingContinuation { continuation in
            let result = state.withLock { state in
                if state.result == nil { state.waiters.append(continuation) }
                return state.result
            }
            if let result { continuation.resume(with: result) }
        }
    }
}
