import Dispatch
import Foundation
import Synchronization

/// SIGINT and SIGTERM as a state that can be asked for and waited on.
final class SignalWait: Sendable {
    private let seen = Mutex(false)
    private nonisolated(unsafe) let sources: [any DispatchSourceSignal]

    init() {
        let numbers = [SIGINT, SIGTERM]
        for number in numbers { signal(number, SIG_IGN) }
        sources = numbers.map { DispatchSource.makeSignalSource(signal: $0, queue: .global()) }
        for source in sources {
            source.setEventHandler { [weak self] in self?.seen.withLock { $0 = true } }
            source.resume()
        }
    }

    deinit { for source in sources { source.cancel() } }

    var happened: Bool { seen.withLock { $0 } }

    /// Sleeps so long, or less when a signal comes.
    func wait(milliseconds: Int) async throws {
        for _ in 0..<max(1, milliseconds / 10) where !happened { try await Task.sleep(for: .milliseconds(10)) }
    }
}
