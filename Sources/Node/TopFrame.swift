import ClusterCore

/// One picture of `staffel top`: a status in, lines out, never more or wider than the terminal.
package enum TopFrame {
    /// Smaller terminals are taken for one of this size.
    package static let columnsMin = 20
    package static let rowsMin = 4

    /// - Parameters:
    ///   - time: of day, for the upper right corner.
    ///   - note: what is wrong with the connection, if anything; takes the last line.
    package static func lines(_ report: StatusReport, time: String, note: String?, columns: Int, rows: Int) -> [String] {
        let (columns, rows) = (max(columns, columnsMin), max(rows, rowsMin))
        var lines = [heading(report, time, columns)] + StatusText.summary(report) + [""] + stages(report, columns)
        let others = report.workers.filter { worker in !report.pipeline.stages.contains { $0.worker == worker.key } }
        if !others.isEmpty { lines += [""] + others.map { "      \(StatusText.pad($0.name, 12)) \(StatusText.pad(StatusText.layers($0.layers), 8)) \(load($0))" } }
        if lines.count > rows - 1 {
            let hidden = lines.count - (rows - 2)
            lines = Array(lines.prefix(rows - 2)) + ["… \(hidden) more lines: make the terminal higher"]
        }
        lines += [note ?? "q quits"]
        return lines.map { fitted($0, columns) }
    }

    /// Before the first status.
    package static func waiting(_ note: String, columns: Int) -> [String] { ["staffel top", fitted(note, max(columns, columnsMin))] }

    private static func heading(_ report: StatusReport, _ time: String, _ columns: Int) -> String {
        let window = report.pipeline.windowNanoseconds / 1_000_000_000
        let left = "staffel top" + (window > 0 ? ", means of the last \(window) s" : "")
        return left + String(repeating: " ", count: max(1, columns - left.count - time.count)) + time
    }

    /// The stages' table, each with a bar of how busy it is where there is room.
    private static func stages(_ report: StatusReport, _ columns: Int) -> [String] {
        let table = StatusText.stageTable(report)
        let width = columns - (table.map(\.count).max() ?? 0) - 3
        guard width >= 8 else { return table }
        return zip(table, [nil] + report.pipeline.stages.map { Optional($0.window.busyShare) }).map { line, share in
            share.map { StatusText.pad(line, table.map(\.count).max() ?? 0) + " " + bar($0, width) } ?? line
        } + (report.pipeline.stages.isEmpty ? Array(table.dropFirst()) : [])
    }

    private static func load(_ worker: WorkerStatus) -> String {
        guard let share = worker.loadedShare else { return worker.state }
        return "\(bar(share, 20)) \(StatusText.state(worker))"
    }

    static func bar(_ share: Double, _ width: Int) -> String {
        let full = share > 0 ? Int((min(share, 1) * Double(width)).rounded()) : 0
        return "[" + String(repeating: "|", count: full) + String(repeating: " ", count: width - full) + "]"
    }

    /// What is not printable must not reach a terminal, whoever named a worker so.
    private static func fitted(_ line: String, _ columns: Int) -> String {
        let clean = String(line.map { $0.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x7F } ? "?" : $0 })
        return clean.count <= columns ? clean : String(clean.prefix(columns - 1)) + "…"
    }
}
