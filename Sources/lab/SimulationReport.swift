import Foundation
import Simulator

/// What came of many seeds.
struct SimulationReport {
    struct Failed: Codable {
        var seed: UInt64
        var violation: String
    }

    private(set) var seeds = 0
    private(set) var failed: [Failed] = []
    private(set) var events: UInt64 = 0
    private(set) var simulatedSeconds = 0.0
    private(set) var requests = 0
    private(set) var coverage = Coverage()
    /// Of all runs, in whatever order they were made.
    private(set) var digest: UInt64 = 0
    var seconds = 0.0

    mutating func add(_ outcome: Simulation.Outcome) {
        seeds += 1
        if let violation = outcome.violation { failed.append(Failed(seed: outcome.seed, violation: violation)) }
        events += outcome.events
        simulatedSeconds += Double(outcome.simulatedNanoseconds) / 1e9
        requests += outcome.requests
        coverage += outcome.coverage
        digest ^= outcome.digest
    }

    var eventsPerSecond: Double { seconds > 0 ? Double(events) / seconds : 0 }

    /// Faults that were never made and branches that were never taken.
    var neverSeen: [String] {
        Fault.allCases.filter { coverage[$0] == 0 }.map(\.rawValue) + Branch.allCases.filter { coverage[$0] == 0 }.map(\.rawValue)
    }

    func show() {
        if seeds > 1 {
            print("fault                                                                count")
            for fault in Fault.allCases { print(Self.row(fault.rawValue, coverage[fault])) }
            print("\nbranch                                                               count")
            for branch in Branch.allCases { print(Self.row(branch.rawValue, coverage[branch])) }
            print("")
        }
        print(
            String(
                format: "%d seeds, %d failed; %d requests, %llu events in %.1f s: %.0f events/s; %.0f s of the clusters' time; digest %016llx", seeds,
                failed.count, requests, events, seconds, eventsPerSecond, simulatedSeconds, digest))
        for failure in failed.sorted(by: { $0.seed < $1.seed }).prefix(20) {
            print("seed \(failure.seed): \(failure.violation)\n  to see it: lab simulate --seed \(failure.seed) --trace")
        }
    }

    private static func row(_ name: String, _ count: UInt64) -> String {
        name.padding(toLength: 64, withPad: " ", startingAt: 0) + String(format: "%10llu", count)
    }

    func printJSON() throws {
        struct Answer: Codable {
            var seeds: Int
            var failed: [Failed]
            var events: UInt64
            var seconds: Double
            var eventsPerSecond: Double
            var simulatedSeconds: Double
            var requests: Int
            var digest: String
            var faults: [String: UInt64]
            var branches: [String: UInt64]
        }
        let answer = Answer(
            seeds: seeds, failed: failed.sorted { $0.seed < $1.seed }, events: events, seconds: seconds, eventsPerSecond: eventsPerSecond,
            simulatedSeconds: simulatedSeconds, requests: requests, digest: String(format: "%016llx", digest),
            faults: Dictionary(uniqueKeysWithValues: Fault.allCases.map { ($0.rawValue, coverage[$0]) }),
            branches: Dictionary(uniqueKeysWithValues: Branch.allCases.map { ($0.rawValue, coverage[$0]) }))
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        print(String(decoding: try encoder.encode(answer), as: UTF8.self))
    }
}
