import ClusterCore
import Foundation
import ModelFiles

/// The same model in other types over the same hosts: what fits, how fast it is predicted to be, and which to take.
struct PlanTypes {
    /// From the most bits to the fewest.
    private static let tried: [QuantisationMix] = [.q8_0, .q6_K, .q5_K_M, .q4_K_M, .q3_K_M, .q2_K]

    private struct Row {
        var name: String
        var bitsPerWeight: Double
        var bytes: UInt64
        /// Nil where no plan fits.
        var report: PlanReport?
        var missing: String?
    }

    private var rows: [Row] = []
    private let wish: PlanWish

    init(_ file: any ModelSource, asItIs: ModelProfile, _ kvType: KVType, _ wish: PlanWish) throws {
        self.wish = wish
        let bits = Self.bitsPerWeight(file)
        rows = [Self.row("as it is", bits, asItIs, wish)]
        for mix in Self.tried {
            let outline = try GGUFFile.outline(of: file, as: ConversionRecipe(.mix(mix)))
            let fewer = Self.bitsPerWeight(outline)
            // More bits than the file has would only be larger.
            guard fewer < bits * 0.97 else { continue }
            rows.append(Self.row(mix.name, fewer, try PlanCommand.profile(outline, kvType), wish))
        }
    }

    private static func bitsPerWeight(_ file: any ModelSource) -> Double {
        let elements = file.tensors.reduce(0) { $0 + $1.elementCount }
        return 8 * Double(file.tensors.reduce(0) { $0 + $1.byteCount }) / Double(max(1, elements))
    }

    private static func row(_ name: String, _ bits: Double, _ model: ModelProfile, _ wish: PlanWish) -> Row {
        var row = Row(
            name: name, bitsPerWeight: bits,
            bytes: model.layerBytes.reduce(model.embeddingBytes, +) + (model.headIsTied ? 0 : model.headBytes))
        switch PlanReport.made(model: model, wish) {
        case .success(let report): row.report = report
        case .failure(let failure): row.missing = failure.description
        }
        return row
    }

    /// The most bits with which all wanted streams have room for their context; else the most that fit at all. Nil when none does.
    private var recommended: Row? {
        rows.first { ($0.report?.concurrency ?? 0) >= (wish.streams ?? 1) } ?? rows.first { $0.report != nil }
    }

    private var reason: String {
        guard let recommended else { return "no type fits: add hosts or memory, or lower the context" }
        let streams = wish.streams ?? 1
        let enough = (recommended.report?.concurrency ?? 0) >= streams
        let pipelines = recommended.report.map { $0.pipelines } ?? 1
        let replicas = pipelines > 1 ? "\(pipelines) pipelines" : "one pipeline"
        return "take it \(recommended.name == "as it is" ? "as it is" : "as " + recommended.name), in \(replicas): the most bits "
            + (enough ? "with which \(streams) stream\(streams == 1 ? "" : "s") of \(wish.contextTokens) tokens fit" : "that fit at all")
    }

    var text: String {
        var lines = [Self.line("TYPE", "BITS", "WEIGHTS", "1 STREAM", "ALL STREAMS", "FIRST TOKEN", "STREAMS THAT FIT")]
        for row in rows {
            let weights = "\(ByteCount(row.bytes))", bits = String(format: "%.2f", row.bitsPerWeight)
            guard let report = row.report else {
                lines.append(Self.line(row.name, bits, weights, "does not fit", "", "", "0"))
                continue
            }
            lines.append(
                Self.line(
                    row.name, bits, weights, String(format: "%.2f tok/s", report.rates.one), String(format: "%.2f tok/s", report.rates.many),
                    String(format: "%.2f s", report.firstTokenSeconds), "\(report.concurrency)"))
        }
        return (lines + ["recommended: " + reason]).joined(separator: "\n")
    }

    private static func line(_ cells: String...) -> String {
        let widths = [10, 7, 12, 15, 15, 13, 8]
        let row = zip(cells, widths).map { $0.count >= $1 ? $0 + " " : $0 + String(repeating: " ", count: $1 - $0.count) }.joined()
        return String(row.reversed().drop { $0 == " " }.reversed())
    }

    /// Members of the answer beside those of the plan.
    func json(beside object: [String: Any]) throws -> String {
        var object = object
        object["types"] = rows.map { row -> [String: Any] in
            var told: [String: Any] = ["type": row.name, "bits_per_weight": row.bitsPerWeight, "weight_bytes": row.bytes, "fits": row.report != nil]
            if let report = row.report {
                told["tokens_per_second_one_stream"] = report.rates.one
                told["tokens_per_second"] = report.rates.many
                told["first_token_seconds"] = report.firstTokenSeconds
                told["concurrency"] = report.concurrency
                told["replicas"] = report.pipelines
            }
            if let missing = row.missing { told["missing"] = missing }
            return told
        }
        object["recommended"] = recommended.map { $0.name as Any } ?? NSNull()
        return String(decoding: try JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys]), as: UTF8.self)
    }
}
