import ArgumentParser
import Foundation

/// `lab bench model --serve`: one loaded model that measures what lines on the standard input ask, so that another program can take
/// turns with it. An answer is one line of JSON; the input's end is the end.
struct ModelBenchServer {
    /// The most that may be asked, because memory was made for it.
    struct Limits {
        var pp: Int
        var tg: Int
        var sequences: Int
        var steps: Int
    }

    private struct Ready: Codable {
        var ready = true
        var threads: Int
        var packedBytes: Int
        var weightBytesPerToken: Int
        /// Room for keys and values of the largest measurement.
        var kvBytes: Int
        /// Part of the memory that belongs to the measurement.
        var probeBytes = MachineLimits.probeBytes
    }

    private struct Probe: Codable {
        var readBytesPerSecond: Double
    }

    private let bench: ModelBench
    private let limits: Limits

    init(_ bench: ModelBench, limits: Limits) {
        self.bench = bench
        self.limits = limits
    }

    func run() throws {
        try answer(
            Ready(
                threads: bench.pool.threads, packedBytes: bench.weights.byteCount, weightBytesPerToken: bench.work.weightBytes,
                kvBytes: bench.kvBytes))
        while let line = readLine() {
            let words = line.split(separator: " ")
            guard let name = words.first else { continue }
            try obey(String(name), words.dropFirst().map { Int($0) ?? 0 }, line: line)
        }
    }

    private func obey(_ name: String, _ numbers: [Int], line: String) throws {
        switch (name, numbers.count) {
        case ("pp", 1) where (1...limits.pp).contains(numbers[0]):
            try answer(bench.prefill(tokens: numbers[0]))
        case ("tg", 1) where (1...limits.tg).contains(numbers[0]):
            try answer(bench.decode(sequences: 1, steps: numbers[0]))
        case ("batch", 2) where (1...limits.sequences).contains(numbers[0]) && (1...limits.steps).contains(numbers[1]):
            try answer(bench.decode(sequences: numbers[0], steps: numbers[1]))
        case ("probe", 0):
            try answer(Probe(readBytesPerSecond: bench.limits.readBytesPerSecond()))
        case ("memory", 0):
            try answer(ProcessMemory.now())
        default:
            throw ValidationError(
                "'\(line)' is not 'pp N', 'tg N', 'batch S N', 'probe' or 'memory', or asks for more than --pp, --tg, --batch and --steps allow.")
        }
    }

    private func answer(_ value: some Encodable) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        FileHandle.standardOutput.write(try encoder.encode(value) + Data("\n".utf8))
    }
}
