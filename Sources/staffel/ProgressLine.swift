import Foundation

/// How far a long command is and how long it will take, on stderr: one line that changes on a terminal, else a line for each tenth.
final class ProgressLine {
    /// A terminal's line is written again after so long at the earliest.
    private static let refreshSeconds = 0.1
    /// What is done so soon is not worth a line in a log.
    private static let silentSeconds = 5.0

    private let what: String
    private let start = ContinuousClock.now
    private let isTerminal = isatty(STDERR_FILENO) == 1
    private var shownAt = -Double.infinity
    private var tenthsShown = 0

    /// - Parameter what: what is being done, such as "quantizing".
    init(_ what: String) { self.what = what }

    /// Since `init`.
    var seconds: Double { (ContinuousClock.now - start) / .seconds(1) }

    /// - Parameter detail: what is in work now.
    func report(done: Int, of total: Int, _ detail: String = "") {
        let now = seconds, share = Double(done) / Double(max(1, total))
        if isTerminal {
            guard now - shownAt >= Self.refreshSeconds || done == total else { return }
            write("\r" + text(share, now) + (detail.isEmpty ? "" : "  " + detail) + "\u{1B}[K")
        } else {
            let tenths = Int(share * 10)
            guard tenths > tenthsShown, now >= Self.silentSeconds else { return }
            tenthsShown = tenths
            write(text(share, now) + "\n")
        }
        shownAt = now
    }

    /// Takes the line away.
    func end() { if isTerminal { write("\r\u{1B}[K") } }

    private func text(_ share: Double, _ now: Double) -> String {
        let left = share > 0 ? Self.clock(now * (1 - share) / share) : "?"
        return String(format: "%@ %5.1f %%, %@ left", what, 100 * share, left)
    }

    /// "7 s", "12:05", "3:07:10".
    static func clock(_ seconds: Double) -> String {
        let whole = Int(max(0, min(seconds, 1e7)).rounded())
        if whole < 60 { return "\(whole) s" }
        let (hours, minutes) = (whole / 3600, whole / 60 % 60)
        return hours > 0 ? String(format: "%d:%02d:%02d", hours, minutes, whole % 60) : String(format: "%d:%02d", minutes, whole % 60)
    }

    private func write(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }
}
