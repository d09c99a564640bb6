import Dispatch
import Foundation

/// SIGTERM and SIGINT, each time they come: the first asks a worker to hand over and end, the second to end at once.
final class LeaveSignals: Sendable {
    private nonisolated(unsafe) let sources: [any DispatchSourceSignal]

    init(_ body: @escaping @Sendable () -> Void) {
        let numbers = [SIGTERM, SIGINT]
        for number in numbers { signal(number, SIG_IGN) }
        sources = numbers.map { DispatchSource.makeSignalSource(signal: $0, queue: .global()) }
        for source in sources {
            source.setEventHandler(handler: body)
            source.resume()
        }
    }

    deinit { for source in sources { source.cancel() } }
}
