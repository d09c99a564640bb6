import ClusterCore
import Dispatch
import Foundation
import Logging
import Synchronization

/// The file of `--trace`: a thread of its own makes text of what the coordinator's thread notes, and writes it.
///
/// The coordinator's thread only puts values into a bounded queue; when the disk can't keep up, events are left out and counted, and when the
/// file has its full size, nothing more is written. The log says both.
package final class TraceFile: Sendable {
    package static let bytesMaxDefault: UInt64 = 256 << 20
    /// Events that wait for the writer: some seconds of the fastest pipeline.
    static let eventsWaitingMax = 65_536
    static let flushMs = 100
    /// What the last write may take.
    static let endMs = 2_000

    private enum Event: Sendable {
        case pipeline(TraceEvent)
        case turn(TraceTurn)
    }

    private struct Queue {
        var events: [Event] = []
        var lost: UInt64 = 0
        var isOpen = true
    }

    private let queue = Mutex(Queue())
    private let ending = DispatchSemaphore(value: 0)
    private let ended = DispatchSemaphore(value: 0)

    /// Makes the file, or empties it. Throws `NodeError` with code `traceFile` when that can't be done.
    package init(path: String, bytesMax: UInt64 = bytesMaxDefault, logger: Logger) throws(NodeError) {
        let descriptor = try Self.openFile(path)
        let thread = Thread { [self] in
            NodeThread.nameCurrent("trace")
            var writer = TraceWriter(descriptor: descriptor, bytesMax: bytesMax, path: path, logger: logger)
            write(&writer)
            ended.signal()
        }
        thread.stackSize = 512 << 10
        thread.start()
    }

    /// Makes the file and closes it again, for whoever has another process write it. Throws as `init` does.
    package static func check(path: String) throws(NodeError) { close(try openFile(path)) }

    private static func openFile(_ path: String) throws(NodeError) -> Int32 {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else {
            let reason = String(cString: strerror(errno))
            throw NodeError(.traceFile, "--trace \(path): the file can't be written: \(reason); name a file in a folder that this process may write to")
        }
        return descriptor
    }

    func note(_ event: TraceEvent) { put(.pipeline(event)) }
    func note(turn: TraceTurn) { put(.turn(turn)) }

    /// Writes what waits and closes the array. Nothing is taken afterwards.
    package func end() {
        queue.withLock { $0.isOpen = false }
        ending.signal()
        _ = ended.wait(timeout: .now() + .milliseconds(Self.endMs))
    }

    private func put(_ event: Event) {
        queue.withLock { queue in
            guard queue.isOpen else { return }
            if queue.events.count < Self.eventsWaitingMax { queue.events.append(event) } else { queue.lost += 1 }
        }
    }

    private func write(_ writer: inout TraceWriter) {
        var isLast = false
        while !isLast {
            isLast = ending.wait(timeout: .now() + .milliseconds(Self.flushMs)) == .success
            let (events, lost) = queue.withLock { queue in
                defer { (queue.events, queue.lost) = ([], 0) }
                return (queue.events, queue.lost)
            }
            for event in events {
                switch event {
                case .pipeline(let event): writer.append { $0.write(event, into: &$1) }
                case .turn(let turn): writer.append { $0.write(turn: turn, into: &$1) }
                }
            }
            if !writer.flush(lost: lost) { queue.withLock { $0.isOpen = false } }
        }
        writer.close()
    }
}

/// The writing thread's state.
private struct TraceWriter {
    /// Text is handed to the system in pieces of about this size.
    static let chunkBytes = 1 << 18

    private var descriptor: Int32
    private let bytesMax: UInt64
    private let path: String
    private let logger: Logger
    private var trace = ChromeTrace()
    private var chunk = ChromeTrace.opening
    private var bytesWritten: UInt64 = 0
    private var isOver = false
    private var isLossTold = false

    init(descriptor: Int32, bytesMax: UInt64, path: String, logger: Logger) {
        self.descriptor = descriptor
        self.bytesMax = bytesMax
        self.path = path
        self.logger = logger
    }

    mutating func append(_ write: (inout ChromeTrace, inout [UInt8]) -> Void) {
        guard !isOver else { return }
        let before = chunk.count
        write(&trace, &chunk)
        if bytesWritten + UInt64(chunk.count + ChromeTrace.closing.count) > bytesMax {
            chunk.removeSubrange(before...)
            isOver = true
            logger.warning("the trace has its full size; nothing more is written", metadata: ["file": "\(path)", "bytes_max": "\(bytesMax)"])
        } else if chunk.count >= Self.chunkBytes {
            writeChunk()
        }
    }

    /// False when nothing more will be written.
    mutating func flush(lost: UInt64) -> Bool {
        writeChunk()
        if lost > 0, !isLossTold {
            isLossTold = true
            logger.warning("the disk can't keep up with the trace; events are left out", metadata: ["file": "\(path)", "lost": "\(lost)"])
        }
        return !isOver
    }

    mutating func close() {
        if descriptor >= 0 { chunk += ChromeTrace.closing }
        writeChunk()
        if descriptor >= 0 { Glibc.close(descriptor) }
        descriptor = -1
    }

    private mutating func writeChunk() {
        defer { chunk.removeAll(keepingCapacity: true) }
        var rest = chunk[...]
        while descriptor >= 0, !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if count >= 0 {
                rest = rest.dropFirst(count)
                bytesWritten += UInt64(count)
            } else if errno != EINTR {
                logger.error("the trace can't be written any further", metadata: ["file": "\(path)", "error": "\(String(cString: strerror(errno)))"])
                Glibc.close(descriptor)
                descriptor = -1
                isOver = true
            }
        }
    }
}
