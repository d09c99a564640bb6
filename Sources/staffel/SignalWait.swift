import Dispatch
import Foundation
import Synchronization

/// SIGINT and SIGTERM as a state that can be asked for and waited on. Whoever waits sleeps until something happens.
final class SignalWait: Sendable {
    private struct State {
        var hasHappened = false
        /// Somebody wants the waiting one to look around.
        var isWoken = false
        /// Who waits, and the number of the wait: an alarm of an earlier one is void.
        var waiting: CheckedContinuation<Void, Never>?
        var wait = 0
    }

    private let state = Mutex(State())
    private nonisolated(unsafe) let sources: [any DispatchSourceSignal]

    init() {
        let numbers = [SIGINT, SIGTERM]
        for number in numbers { signal(number, SIG_IGN) }
        sources = numbers.map { DispatchSource.makeSignalSource(signal: $0, queue: .global()) }
        for source in sources {
            source.setEventHandler { [weak self] in
                self?.state.withLock { $0.hasHappened = true }
                self?.wake()
            }
            source.resume()
        }
    }

    deinit { for source in sources { source.cancel() } }

    var happened: Bool { state.withLock { $0.hasHappened } }

    /// Ends the present wait, or else the next one at once. May be called from any thread.
    func wake() {
        let waiting = state.withLock { state in
            defer { state.waiting = nil }
            state.isWoken = state.waiting == nil
            return state.waiting
        }
        waiting?.resume()
    }

    /// Sleeps so long, or without a limit, or less when a signal comes or somebody wakes it. One at a time.
    func wait(milliseconds: Int? = nil) async {
        await withCheckedContinuation { continuation in
            let number: Int? = state.withLock { state in
                guard !state.hasHappened, !state.isWoken else {
                    state.isWoken = false
                    return nil
                }
                precondition(state.waiting == nil, "one waits at a time")
                state.waiting = continuation
                state.wait += 1
                return state.wait
            }
            guard let number else { return continuation.resume() }
            guard let milliseconds else { return }
            DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(milliseconds)) { [weak self] in self?.expire(number) }
        }
    }

    private func expire(_ number: Int) {
        let waiting = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard state.wait == number else { return nil }
            defer { state.waiting = nil }
            return state.waiting
        }
        waiting?.resume()
    }
}
