import Foundation
import Synchronization

/// Lines of the log on their way out, by a thread of their own.
///
/// A disk that is busy, or a pipe that nobody empties, holds up whoever writes to it, for seconds if it comes to that; and the threads that have the
/// most to say are those that must tell others all the time that they live. So nobody waits for the log: past `linesMax` lines that wait, further
/// ones are left out, and the first one after them says how many.
package final class LogLines: Sendable {
    /// Of this process, which has one stderr.
    package static let standardError = LogLines(descriptor: STDERR_FILENO)
    /// At a few hundred bytes each, about a megabyte.
    package static let linesMax = 4_096

    private struct State {
        var waiting: [String] = []
        var leftOut = 0
        var isWriting = false
        var hasThread = false
    }

    private let descriptor: Int32
    private let state = Mutex(State())
    private let wake = DispatchSemaphore(value: 0)

    package init(descriptor: Int32) { self.descriptor = descriptor }

    /// The line has its end already. Never waits.
    package func write(_ line: String) {
        let (isTaken, needsThread) = state.withLock { state in
            guard state.waiting.count < Self.linesMax else {
                state.leftOut += 1
                return (false, false)
            }
            if state.leftOut > 0 { state.waiting.append("\(state.leftOut) lines of the log were left out: they came faster than they could be written\n") }
            state.leftOut = 0
            state.waiting.append(line)
            defer { state.hasThread = true }
            return (true, !state.hasThread)
        }
        if needsThread { start() }
        if isTaken { wake.signal() }
    }

    /// Waits until all lines are written, but no longer than that.
    package func flush(withinMs milliseconds: Int) {
        for _ in 0..<milliseconds where state.withLock({ !$0.waiting.isEmpty || $0.isWriting }) { usleep(1_000) }
    }

    private func start() {
        let thread = Thread { [self] in
            NodeThread.nameCurrent("log")
            while true {
                wake.wait()
                let lines = state.withLock { state in
                    defer { state.waiting = [] }
                    state.isWriting = !state.waiting.isEmpty
                    return state.waiting
                }
                // One write a line, so that lines of several processes don't mix.
                for line in lines { put(line) }
                state.withLock { $0.isWriting = false }
            }
        }
        thread.stackSize = 256 << 10
        thread.start()
    }

    private func put(_ line: String) {
        var line = line
        line.withUTF8 { bytes in
            var rest = UnsafeRawBufferPointer(bytes)
            while !rest.isEmpty {
                let count = systemWrite(descriptor, rest.baseAddress!, rest.count)
                if count < 0, errno == EINTR { continue }
                // There is nobody to tell.
                guard count > 0 else { return }
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            }
        }
    }
}

/// The C call, whose name a method here hides.
private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int { write(descriptor, bytes, count) }
