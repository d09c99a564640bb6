import ArgumentParser
import Foundation

/// What a second is. On a machine that does nothing else both clocks tell the same; where other processes take turns with the
/// measured one, only processor time tells what the code takes.
enum Stopwatch: String, ExpressibleByArgument, CaseIterable {
    case wall
    /// Processor time of the process, over the threads that work: idle ones of the pool spin, and so count, only briefly.
    case cpu

    func seconds(threads: Int, _ body: () throws -> Void) rethrows -> Double {
        let clock = self == .wall ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID
        let start = Self.now(clock)
        try body()
        return (Self.now(clock) - start) / (self == .wall ? 1 : Double(threads))
    }

    private static func now(_ clock: clockid_t) -> Double {
        var time = timespec()
        clock_gettime(clock, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
}
