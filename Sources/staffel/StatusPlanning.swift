import ClusterCore
import Foundation

/// The part of `staffel status` that holds the plan against what is measured.
enum StatusPlanning {
    static func lines(_ report: StatusReport) -> [String] {
        guard let planning = report.planning else { return [] }
        let isMeasured = planning.measuredTokensPerSecond > 0
        var lines = [
            "",
            String(format: "steps of %.1f rows%@", planning.rows, isMeasured ? "" : " (none was measured yet)"),
            row("STAGE", "NAME", "PREDICTED", "MEASURED", "RATIO", "COUNTED WITH"),
        ]
        for (index, stage) in planning.stages.enumerated() {
            let name = report.workers.first { $0.key == stage.worker }?.name ?? "\(stage.worker)"
            lines.append(
                row(
                    "\(index)", name, milliseconds(stage.predictedSeconds), isMeasured ? milliseconds(stage.measuredSeconds) : "-",
                    isMeasured ? ratio(stage.measuredSeconds, stage.predictedSeconds) : "-", String(format: "%.2f", stage.correction)))
        }
        lines.append(
            row(
                "all", "tokens/s", String(format: "%.1f", planning.predictedTokensPerSecond),
                isMeasured ? String(format: "%.1f", planning.measuredTokensPerSecond) : "-",
                isMeasured ? ratio(planning.measuredTokensPerSecond, planning.predictedTokensPerSecond) : "-", ""))
        lines.append("bottleneck: \(planning.bottleneck)")
        if !planning.betterCut.isEmpty { lines.append("a better cut is known: \(planning.betterCut)") }
        return lines
    }

    /// Null while no plan serves.
    static func json(_ report: StatusReport) -> Any {
        guard let planning = report.planning else { return NSNull() }
        return [
            "rows": planning.rows, "predicted_tokens_per_second": planning.predictedTokensPerSecond,
            "measured_tokens_per_second": planning.measuredTokensPerSecond, "bottleneck": planning.bottleneck, "better_cut": planning.betterCut,
            "stages": planning.stages.map { stage in
                [
                    "worker": "\(stage.worker)", "correction": stage.correction, "predicted_seconds": stage.predictedSeconds,
                    "measured_seconds": stage.measuredSeconds,
                ] as [String: Any]
            },
        ] as [String: Any]
    }

    private static func milliseconds(_ seconds: Double) -> String { String(format: "%.2f ms", seconds * 1e3) }

    private static func ratio(_ measured: Double, _ predicted: Double) -> String {
        predicted > 0 ? String(format: "%.2f", measured / predicted) : "-"
    }

    private static func row(_ cells: String...) -> String {
        let widths = [7, 20, 13, 13, 8, 13]
        let row = zip(cells, widths).map { $0.count >= $1 ? $0 + " " : $0 + String(repeating: " ", count: $1 - $0.count) }.joined()
        return String(row.reversed().drop { $0 == " " }.reversed())
    }
}
