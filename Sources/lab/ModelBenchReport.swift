import Foundation

/// What `lab bench model` found, for people and as JSON; the command's help names the fields.
struct ModelBenchReport: Codable {
    var model: String
    var instructionSet: String
    var kv: String
    var loadSeconds: Double
    var packedBytes: Int
    var weightBytesPerToken: Int
    var runs: [Run]

    struct Run: Codable {
        var threads: Int
        var kvBytes: Int
        var probeBytes: Int
        var memory: ProcessMemory?
        var prefill: Prefill
        var decode: [Decode]
    }

    struct Prefill: Codable {
        var tokens: Int
        var tokensPerSecond: Spread
        var shareOfPeak: Spread

        init(_ runs: [ModelBench.Prefill]) {
            tokens = runs[0].tokens
            tokensPerSecond = Spread(runs.map(\.tokensPerSecond))
            shareOfPeak = Spread(runs.map(\.shareOfPeak))
        }
    }

    struct Decode: Codable {
        var sequences: Int
        var steps: Int
        var bytesPerStep: Double
        var tokensPerSecond: Spread
        var bytesPerSecond: Spread
        var readBytesPerSecond: Spread
        var shareOfBandwidth: Spread

        init(_ runs: [ModelBench.Decode]) {
            sequences = runs[0].sequences
            steps = runs[0].steps
            bytesPerStep = runs[0].bytesPerStep
            tokensPerSecond = Spread(runs.map(\.tokensPerSecond))
            bytesPerSecond = Spread(runs.map(\.bytesPerSecond))
            readBytesPerSecond = Spread(runs.map(\.readBytesPerSecond))
            shareOfBandwidth = Spread(runs.map(\.shareOfBandwidth))
        }
    }

    // MARK: Text

    var heading: String {
        String(
            format: "%@, %@, KV %@: %.1f MB packed, %.1f MB of them read for a token, loaded in %.2f s", model, instructionSet, kv,
            Double(packedBytes) / 1e6, Double(weightBytesPerToken) / 1e6, loadSeconds)
    }

    func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }
}

extension ModelBenchReport.Run {
    var lines: String {
        var lines = ["\(threads) thread\(threads == 1 ? "" : "s")"]
        lines.append(
            String(
                format: "  %-10@ %9.1f tokens/s  %3.0f %% of the arithmetic peak", "pp \(prefill.tokens)" as NSString,
                prefill.tokensPerSecond.median, 100 * prefill.shareOfPeak.median))
        for decode in decode {
            let name = decode.sequences == 1 ? "tg \(decode.steps)" : "batch \(decode.sequences)"
            lines.append(
                String(
                    format: "  %-10@ %9.1f tokens/s  %3.0f %% of the read bandwidth (%.1f of %.1f GB/s)", name as NSString,
                    decode.tokensPerSecond.median, 100 * decode.shareOfBandwidth.median, decode.bytesPerSecond.median / 1e9,
                    decode.readBytesPerSecond.median / 1e9))
        }
        if let memory {
            lines.append(
                String(
                    format: "  memory     %9.1f MB resident, %.1f MB at most, without the probe's", Double(memory.residentBytes - probeBytes) / 1e6,
                    Double(memory.peakBytes - probeBytes) / 1e6))
        }
        return lines.joined(separator: "\n")
    }
}
