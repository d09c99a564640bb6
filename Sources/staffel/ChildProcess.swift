import Foundation
import Synchronization

/// One role of `staffel up` as a process of its own: started again when it dies, ended in order when `up` ends.
///
/// The child's stdin is a pipe that nobody writes to: when this process is gone, however it went, the child reads the end of it and ends too.
final class ChildProcess: Sendable {
    /// A child that dies more often than this within `restartWindowSeconds` is broken; so is the cluster then.
    static let restartsMax = 5
    static let restartWindowSeconds = 60.0
    static let restartDelayMs = 250
    /// After SIGTERM; then SIGKILL.
    static let endTimeoutMs = 1_500

    let name: String
    private let arguments: [String]
    private let state: Mutex<State>

    private struct State {
        var process: Process?
        var starts: [Date] = []
        var ending = false
    }

    /// Which child ended, and whether it is past starting again.
    enum End: Sendable {
        case restarting(name: String, status: Int32)
        case broken(name: String, status: Int32)
    }

    init(name: String, arguments: [String]) {
        self.name = name
        self.arguments = arguments
        state = Mutex(State())
    }

    var processID: Int32? { state.withLock { $0.process.flatMap { $0.isRunning ? $0.processIdentifier : nil } } }

    /// Starts the child; `onEnd` is told, on any thread, when it dies without having been asked to.
    func start(onEnd: @escaping @Sendable (End) -> Void) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = arguments
        process.standardInput = Pipe()
        process.terminationHandler = { [weak self] ended in
            self?.ended(status: ended.terminationStatus, onEnd: onEnd)
        }
        try state.withLock { state in
            guard !state.ending else { return }
            try process.run()
            state.process = process
            state.starts.append(.now)
        }
    }

    private func ended(status: Int32, onEnd: @escaping @Sendable (End) -> Void) {
        let (ending, broken) = state.withLock { state in
            state.starts.removeAll { $0.timeIntervalSinceNow < -Self.restartWindowSeconds }
            return (state.ending, state.starts.count > Self.restartsMax)
        }
        if ending { return }
        if broken { return onEnd(.broken(name: name, status: status)) }
        onEnd(.restarting(name: name, status: status))
        DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(Self.restartDelayMs)) { [self] in
            do { try start(onEnd: onEnd) } catch { onEnd(.broken(name: name, status: status)) }
        }
    }

    /// Asks the child to end.
    func terminate() {
        state.withLock { state in
            state.ending = true
            if let process = state.process, process.isRunning { process.terminate() }
        }
    }

    /// Waits for the child's end; past `endTimeoutMs` it is killed.
    func waitUntilEnded() {
        guard let process = state.withLock({ $0.process }) else { return }
        let deadline = Date.now.addingTimeInterval(Double(Self.endTimeoutMs) / 1000)
        while process.isRunning, Date.now < deadline { usleep(5_000) }
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        process.waitUntilExit()
    }
}
