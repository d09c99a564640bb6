import Foundation
import Testing

@testable import Engine

/// What is seen of a watch from outside: it begins when it is asked to, and ends by itself. Nothing is said of how long that takes.
@Suite(.serialized) struct ProcessorWatchTests {
    private static let second: UInt64 = 1_000_000_000

    /// The watch has the lowest priority: beside other tests it may wait long for its turn.
    private func wait(until isReached: () -> Bool) throws {
        let deadline = Date.now.addingTimeInterval(300)
        while !isReached() {
            try #require(Date.now < deadline)
            usleep(200)
        }
    }

    @Test func sleepsUntilItIsAskedAndAgainWhenItsTimeIsOver() throws {
        let watch = try #require(ProcessorWatch(processor: nil))
        try wait { watch.isAsleep }
        #expect(watch.turns == 0)
        for _ in 1...20 {
            let before = watch.turns
            try wait {
                // On a busy machine the thread may get to run only when its time is over.
                if watch.turns == before { watch.keep(nanoseconds: 1_000_000) }
                return watch.turns > before && watch.isAsleep
            }
        }
        let turns = watch.turns
        watch.keep(nanoseconds: 0)
        #expect(watch.turns == turns)
    }

    @Test func restsWhenWhatItAwaitedHasCome() throws {
        let watch = try #require(ProcessorWatch(processor: 0))
        // Longer than the test's patience: only `rest` ends it.
        watch.keep(nanoseconds: 600 * Self.second)
        try wait { watch.turns == 1 }
        #expect(!watch.isAsleep)
        watch.rest()
        try wait { watch.isAsleep }
        watch.keep(nanoseconds: 600 * Self.second)
        try wait { watch.turns == 2 }
    }

    @Test func endsInTheMiddleOfAWatch() throws {
        for _ in 0..<20 {
            let watch = try #require(ProcessorWatch(processor: nil))
            watch.keep(nanoseconds: 600 * Self.second)
        }
    }

    #if os(Linux)
        /// Whoever else wants the processor gets it: policy 5 is SCHED_IDLE; where that is refused, the niceness is 19.
        @Test func givesWayToEverybody() throws {
            let watch = try #require(ProcessorWatch(processor: nil))
            try wait { watch.isAsleep }
            let tasks = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")
            let watches = tasks.compactMap { try? String(contentsOfFile: "/proc/self/task/\($0)/stat", encoding: .utf8) }
                .filter { $0.contains("(watch)") }
            #expect(!watches.isEmpty)
            for line in watches {
                // After the name: the state is field 3, niceness 19, policy 41.
                let fields = line.split(separator: ")").last!.split(separator: " ")
                #expect(fields[38] == "5" || fields[16] == "19", "\(line)")
            }
        }
    #endif
}
