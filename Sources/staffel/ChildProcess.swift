import Dispatch
import Foundation
import Synchronization

/// One role of `staffel up` as a process of its own: started again when it dies, ended in order when `up` ends.
///
/// A child that gives up by itself before the cluster has ever served (its port is taken, its model no model) would do so again, so it is not
/// started again.
///
/// The child's stdin is a pipe that nobody writes to: when this process is gone, however it went, the child reads the end of it and ends too.
/// A thread of ours waits for each child, so its end is noticed at once and it never stays behind as a zombie.
final class ChildProcess: Sendable {
    /// A child that dies more often than this within `restartWindowSeconds` is broken; so is the cluster then.
    static let restartsMax = 5
    static let restartWindowSeconds = 60.0
    static let restartDelayMs: UInt32 = 250
    /// After SIGTERM; then SIGKILL.
    static let endTimeoutMs = 1_500

    /// A child that ended without having been asked to.
    enum End: Sendable {
        case restarting(name: String, status: String)
        /// It will not be started again.
        case broken(name: String, status: String)
    }

    private struct State {
        var processID: pid_t?
        /// Our end of its stdin.
        var stdin: Int32?
        var starts: [Date] = []
        var hasServed = false
        var isEnding = false
        var hasEnded = false
    }

    let name: String
    private let arguments: [String]
    private let state = Mutex(State())
    private let ended = DispatchSemaphore(value: 0)

    init(name: String, arguments: [String]) {
        self.name = name
        self.arguments = arguments
    }

    /// Starts the child, and again whenever it dies; `onEnd` is told on the waiting thread.
    func start(onEnd: @escaping @Sendable (End) -> Void) throws {
        try spawn()
        let thread = Thread { [self] in watch(onEnd) }
        thread.name = "watch \(name)"
        thread.stackSize = 256 << 10
        thread.start()
    }

    private func watch(_ onEnd: (End) -> Void) {
        while let processID = state.withLock({ $0.processID }) {
            let (status, gaveUp) = Self.wait(for: processID)
            let (isEnding, isBroken) = state.withLock { state in
                state.processID = nil
                if let stdin = state.stdin { close(stdin) }
                state.stdin = nil
                state.starts.removeAll { $0.timeIntervalSinceNow < -Self.restartWindowSeconds }
                return (state.isEnding, state.starts.count > Self.restartsMax || gaveUp && !state.hasServed)
            }
            if isEnding { break }
            if isBroken {
                onEnd(.broken(name: name, status: status))
                break
            }
            onEnd(.restarting(name: name, status: status))
            usleep(Self.restartDelayMs * 1000)
            do { try spawn() } catch {
                onEnd(.broken(name: name, status: "\(error)"))
                break
            }
        }
        state.withLock { $0.hasEnded = true }
        ended.signal()
    }

    /// `gaveUp`: it ended by itself and not by a signal.
    private static func wait(for processID: pid_t) -> (status: String, gaveUp: Bool) {
        var status: Int32 = 0
        while waitpid(processID, &status, 0) == -1 {
            if errno != EINTR { return ("unknown", false) }
        }
        return status & 0x7F == 0 ? ("status \(status >> 8 & 0xFF)", true) : ("signal \(status & 0x7F)", false)
    }

    private func spawn() throws {
        var pipe: [Int32] = [0, 0]
        // A pair of sockets rather than a pipe, because it can be made so that children started at the same time don't inherit it.
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &pipe) == 0 else {
            throw CommandFailure("no pipe for \(name): \(String(cString: strerror(errno)))")
        }
        defer { close(pipe[0]) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        // Our end of the pipe stays open as long as we live, and no child inherits another's.
        posix_spawn_file_actions_adddup2(&actions, pipe[0], STDIN_FILENO)

        var words = (["staffel"] + arguments).map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        try state.withLock { state in
            guard !state.isEnding else {
                close(pipe[1])
                return
            }
            var processID: pid_t = 0
            let failed = posix_spawn(&processID, "/proc/self/exe", &actions, nil, &words, environ)
            guard failed == 0 else {
                close(pipe[1])
                throw CommandFailure("\(name) can't be started: \(String(cString: strerror(failed)))")
            }
            state.processID = processID
            state.stdin = pipe[1]
            state.starts.append(.now)
        }
    }

    /// From now on the child is started again whatever it ended with: the cluster has worked with it.
    func markServing() { state.withLock { $0.hasServed = true } }

    /// Asks the child to end.
    func terminate() {
        state.withLock { state in
            state.isEnding = true
            if let processID = state.processID { kill(processID, SIGTERM) }
        }
    }

    /// Waits for the child's end; past `endTimeoutMs` it is killed.
    func waitUntilEnded() {
        guard state.withLock({ $0.processID != nil && !$0.hasEnded }) else { return }
        if ended.wait(timeout: .now() + .milliseconds(Self.endTimeoutMs)) == .success { return }
        state.withLock { state in
            if let processID = state.processID { kill(processID, SIGKILL) }
        }
        ended.wait()
    }
}
