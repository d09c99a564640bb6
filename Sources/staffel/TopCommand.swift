import ArgumentParser
import ClusterCore
import Foundation
import Node

/// `staffel top`: a running coordinator's status, again and again.
struct TopCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top", abstract: "Watch a cluster: stages, steps, KV memory and tokens, refreshed until q or Ctrl-C.",
        discussion: "In a terminal it takes the screen and gives it back at the end. Into a pipe or a file it prints frames, one after the other.")

    static let intervalMsDefault = 1_000
    /// How often the keyboard and the terminal's size are looked at.
    static let tickMs = 50

    @Option(help: "The coordinator's state folder. (default: ~/.local/state/staffel/coordinator)")
    var state: String?

    @Option(help: "Milliseconds between two frames. (default: 1000)")
    var intervalMs: Int?

    @Option(help: "End after so many frames. (default: never)")
    var count: Int?

    @OptionGroup var common: CommonOptions

    func run() async throws {
        let settings = try await common.settings()
        let interval = UInt64(try settings.integer("interval-ms", flag: intervalMs, in: 100...3_600_000) ?? Self.intervalMsDefault)
        let frames = try settings.integer("count", flag: count, in: 1...Int(Int32.max)) ?? .max
        let directory = try StateDirectory(existing: settings.string("state", flag: state) ?? StatePath.standard("coordinator"))
        var console = try CoordinatorConsole(state: directory)
        let interrupted = SignalWait()
        let screen = Screen()
        defer { screen.restore() }

        var last: StatusReport?
        for number in 1...frames {
            let asked = ContinuousClock.now
            let answer = try console.status(timeoutMs: last == nil ? CoordinatorExchange.timeoutMs : max(interval, 1_000))
            if answer == nil, last == nil { throw CoordinatorExchange.silence(console.endpoint) }
            last = answer ?? last
            let note = answer == nil ? "the coordinator is silent; this is what it said last" : nil
            guard let last else { return }
            screen.show(Self.frame(last, note, screen))
            if number == frames { return }
            // A terminal that changes its size gets the same status in the new one.
            var shownSize = screen.size
            while asked.duration(to: .now) < .milliseconds(interval) {
                if interrupted.happened || screen.isGone || screen.isQuitPressed() { return }
                if screen.isTerminal, shownSize != screen.size {
                    shownSize = screen.size
                    screen.show(Self.frame(last, note, screen))
                }
                try await Task.sleep(for: .milliseconds(Self.tickMs))
            }
        }
    }

    private static func frame(_ report: StatusReport, _ note: String?, _ screen: Screen) -> [String] {
        let clock = Calendar.current.dateComponents([.hour, .minute, .second], from: .now)
        let time = String(format: "%02d:%02d:%02d", clock.hour ?? 0, clock.minute ?? 0, clock.second ?? 0)
        return TopFrame.lines(report, time: time, note: note, columns: screen.size.columns, rows: screen.size.rows)
    }
}
