import Foundation

/// Which seed each thread runs, so that a trap in a machine, which ends the process, can be named: a signal handler may read plain memory and write
/// to a descriptor, and nothing else.
enum SeedsRunning {
    static let threadsMax = 64

    private struct Entry {
        var thread: pthread_t?
        var seed: UInt64
    }

    // Written by one thread each, before it runs the seed; read by the thread's own signal handler.
    nonisolated(unsafe) private static let entries: UnsafeMutablePointer<Entry> = {
        let entries = UnsafeMutablePointer<Entry>.allocate(capacity: threadsMax)
        entries.initialize(repeating: Entry(thread: nil, seed: 0), count: threadsMax)
        return entries
    }()

    static func noted<Result>(_ seed: UInt64, thread: Int, _ body: () -> Result) -> Result {
        entries[thread] = Entry(thread: pthread_self(), seed: seed)
        return body()
    }

    /// A trap names its seed on stderr before it ends the process.
    static func catchTraps() {
        _ = entries
        for number in [SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGABRT] {
            signal(number) { number in
                SeedsRunning.writeSeed()
                signal(number, SIG_DFL)
                raise(number)
            }
        }
    }

    private static func writeSeed() {
        for index in 0..<threadsMax {
            guard let thread = entries[index].thread, pthread_equal(thread, pthread_self()) != 0 else { continue }
            write("\nerror: a machine trapped; to see it: lab simulate --trace --seed ")
            write(entries[index].seed)
            write("\n")
        }
    }

    private static func write(_ text: StaticString) { _ = Foundation.write(STDERR_FILENO, text.utf8Start, text.utf8CodeUnitCount) }

    private static func write(_ number: UInt64) {
        if number >= 10 { write(number / 10) }
        var digit = UInt8(ascii: "0") + UInt8(number % 10)
        _ = Foundation.write(STDERR_FILENO, &digit, 1)
    }
}
