import ArgumentParser
import Foundation
import Simulator
import Synchronization

/// `lab simulate`: whole clusters in one thread, with everything going wrong that a seed says.
struct Simulate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run whole clusters under faults, each from a seed.",
        discussion: """
            A seed makes up a cluster of 1 to 8 workers and 1 or 2 gateways, its load, its network and its faults. Coordinator, workers and
            gateways are the real machines; their effects are performed in one thread with a toy model whose tokens show every lost, stale or
            repeated step. Wrong tokens, lost blocks, double owners, streams that never end and leftovers fail the seed. The same seed is the
            same run.

            --trace prints a seed's run, a line for each message, decision and fault. What fails prints how to run it again.

            --json prints {seeds, failed: [{seed, violation}], events, seconds, eventsPerSecond, simulatedSeconds, requests, digest, faults: {…},
            branches: {…}}.
            """)

    @Option(help: "The one seed to run.") var seed: UInt64?
    @Option(help: "The seeds to run, as 0...9999.") var seeds: SeedRange?
    @Option(help: "Go on with later seeds until so many seconds are over.") var seconds: Double?
    @Option(help: "Seeds that run at the same time, each in one thread.") var threads = ProcessInfo.processInfo.activeProcessorCount
    @Option(help: "Only these faults, separated by commas: \(FaultNames.all).") var only: FaultNames?
    @Option(help: "Not these faults, separated by commas.") var without: FaultNames?
    @Flag(inversion: .prefixedNo, help: "Fail when a fault or a branch of recovery was never seen. (default: from 10,000 seeds of all faults on)")
    var complete: Bool?
    @Flag(help: "Print what happens. For one seed.") var trace = false
    @Flag(help: "Print one JSON object.") var json = false

    static let seedsForCompleteness: UInt64 = 10_000

    func validate() throws {
        guard (seed == nil) != (seeds == nil) else { throw ValidationError("Give --seed N or --seeds A...B.") }
        guard !trace || seed != nil && !json else { throw ValidationError("--trace goes with --seed, and not with --json.") }
        guard (1...SeedsRunning.threadsMax).contains(threads) else { throw ValidationError("--threads is in 1...\(SeedsRunning.threadsMax).") }
        guard seconds.map({ $0 > 0 && $0.isFinite }) ?? true else { throw ValidationError("--seconds is above 0.") }
    }

    private var faults: [Fault] { (only?.faults ?? Fault.allCases).filter { !(without?.faults.contains($0) ?? false) } }

    func run() throws {
        SeedsRunning.catchTraps()
        if trace, let seed {
            let outcome = SeedsRunning.noted(seed, thread: 0) { Simulation.run(seed: seed, allowing: faults) { print($0) } }
            if outcome.violation != nil { throw ExitCode.failure }
            return
        }
        let report = simulateAll()
        if json { try report.printJSON() } else { report.show() }
        let range = seed.map { $0...$0 } ?? seeds!.range
        let mustBeComplete = complete ?? (range.count >= Self.seedsForCompleteness && faults.count == Fault.allCases.count)
        if mustBeComplete, !report.neverSeen.isEmpty {
            FileHandle.standardError.write(Data("error: never seen: \(report.neverSeen.joined(separator: "; "))\n".utf8))
            throw ExitCode.failure
        }
        if !report.failed.isEmpty { throw ExitCode.failure }
    }

    private func simulateAll() -> SimulationReport {
        let range = seed.map { $0...$0 } ?? seeds!.range
        let work = SimulationWork(first: range.lowerBound, last: seconds == nil ? range.lowerBound + UInt64(range.count - 1) : .max)
        let deadline = seconds.map { Date.now.addingTimeInterval($0) }
        let faults = faults
        // Progress is for people: nobody reads it in a file.
        let isWatched = isatty(STDERR_FILENO) == 1
        let started = Date.now
        DispatchQueue.concurrentPerform(iterations: seconds == nil ? min(threads, range.count) : threads) { thread in
            while let seed = work.next(), deadline.map({ Date.now < $0 }) ?? true {
                let outcome = SeedsRunning.noted(seed, thread: thread) { Simulation.run(seed: seed, allowing: faults) }
                if let line = work.add(outcome, showsProgress: isWatched, since: started) { FileHandle.standardError.write(Data(line.utf8)) }
            }
        }
        if isWatched { FileHandle.standardError.write(Data("\r\u{1B}[K".utf8)) }
        return work.report(seconds: Date.now.timeIntervalSince(started))
    }
}

/// `0...9999`.
struct SeedRange: ExpressibleByArgument {
    let range: ClosedRange<UInt64>

    init?(argument: String) {
        let parts = argument.components(separatedBy: "...")
        guard parts.count == 2, let first = UInt64(parts[0]), let last = UInt64(parts[1]) else { return nil }
        guard first <= last, last - first < UInt64(Int32.max) else { return nil }
        range = first...last
    }
}

struct FaultNames: ExpressibleByArgument {
    let faults: [Fault]

    static var all: String { Fault.allCases.map(\.rawValue).joined(separator: ", ") }

    init?(argument: String) {
        let names = argument.split(separator: ",")
        faults = names.compactMap { Fault(rawValue: String($0)) }
        guard !names.isEmpty, faults.count == names.count else { return nil }
    }
}

/// Gives out seeds and gathers what came of them, for several threads.
private final class SimulationWork: Sendable {
    private struct State {
        var next: UInt64
        var isExhausted = false
        var report = SimulationReport()
        var lastProgress = Date.distantPast
    }

    private let state: Mutex<State>
    private let first: UInt64
    private let last: UInt64

    init(first: UInt64, last: UInt64) {
        self.first = first
        self.last = last
        state = Mutex(State(next: first))
    }

    func next() -> UInt64? {
        state.withLock { state in
            guard !state.isExhausted else { return nil }
            defer { if state.next == last { state.isExhausted = true } else { state.next += 1 } }
            return state.next
        }
    }

    /// A line of progress now and then.
    func add(_ outcome: Simulation.Outcome, showsProgress: Bool, since started: Date) -> String? {
        state.withLock { state in
            state.report.add(outcome)
            if let violation = outcome.violation {
                return "\r\u{1B}[Kseed \(outcome.seed) failed: \(violation)\n  to see it: lab simulate --seed \(outcome.seed) --trace\n"
            }
            guard showsProgress, Date.now.timeIntervalSince(state.lastProgress) > 0.5 else { return nil }
            state.lastProgress = .now
            let report = state.report
            let rate = Double(report.events) / max(0.001, Date.now.timeIntervalSince(started))
            return "\r\u{1B}[K\(report.seeds) seeds\(last == .max ? "" : " of \(last - first + 1)"), \(report.failed.count) failed, \(Int(rate)) events/s"
        }
    }

    func report(seconds: Double) -> SimulationReport {
        state.withLock { state in
            state.report.seconds = seconds
            return state.report
        }
    }
}
