import ArgumentParser
import CKernels
import Engine
import Foundation
import ModelFiles

/// `lab bench kernels`: each tensor type's products beside what memory and arithmetic allow.
struct BenchKernels: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kernels", abstract: "Products of each tensor type beside the measured limits of the machine.",
        discussion: """
            One column is decoding: bytes of weights a second, beside the read bandwidth measured before and after each product. Many columns
            are prefill: operations a second, beside the peak of 8-bit dot products (of f32 fused multiply-adds for float types), measured
            likewise. t(c) is the time of c columns over that of one. All figures are medians over rounds; shares and t(c) are medians of
            ratios of one round. Only ratios compare machines or moments.

            --json prints {instructionSet, runs: [{threads, barrierSeconds, types: [{type, rows, columns, packedBytes, oneColumn: {bytesPerSecond,
            readBytesPerSecond, share}, manyColumns: {rows, columns, operationsPerSecond, peakOperationsPerSecond, share}, curve: [{columns,
            time}]}]}]}; each figure is {median, min, max} over its rounds.
            """)

    @Option(help: "Tensor types, separated by commas; without it, all that have kernels.") var types: String?
    @Option(help: "Numbers of threads to measure, separated by commas.") var threads = ThreadCounts([1, 2])
    @Option(help: "Rows of the matrix; without it 29568, or fewer where they pack into more than 256 MiB.") var rows: Int?
    @Option(help: "Columns of the matrix.") var columns = 8192
    @Option(help: "Columns of a prefill.") var pp = 512
    @Option(help: "Columns at which t(c) is measured, separated by commas.") var curve = "2,3,4,6,8,12,16,24,32"
    @Option(help: "Rounds of each measurement.") var rounds = 9
    @Option(help: "wall, or cpu on a machine that does other work beside.") var clock = Stopwatch.wall
    @Flag(help: "Print one JSON object.") var json = false

    func validate() throws {
        guard columns > 0, pp > 0, rounds > 0, rows ?? 1 > 0 else { throw ValidationError("--rows, --columns, --pp and --rounds are at least 1.") }
        guard rows ?? 1 <= 1 << 24, columns <= 1 << 24, pp <= 1 << 14 else { throw ValidationError("So large a product would not fit in memory.") }
        for type in try wantedTypes() where columns % type.blockSize != 0 {
            throw ValidationError("--columns is \(columns), which is no multiple of the \(type.blockSize) in a block of \(type.name).")
        }
        _ = try curveColumns()
    }

    func run() throws {
        let instructionSet = try InstructionSet.fromEnvironment()
        var report = Report(instructionSet: instructionSet.rawValue, runs: [])
        let types = try wantedTypes()
        for count in threads.counts {
            let pool = try ComputePool(threads: count)
            let bench = try KernelBench(pool: pool, instructionSet: instructionSet, rounds: rounds, clock: clock)
            var run = Run(threads: count, barrierSeconds: bench.barrierSeconds(), types: [])
            if !json { print(run.heading(instructionSet.rawValue, curve: try curveColumns(), pp: pp)) }
            for type in types {
                let result = try bench.measure(type, rows: rows, columns: columns, prefillColumns: pp, curve: try curveColumns())
                run.types.append(result)
                if !json { print(Self.line(result)) }
            }
            report.runs.append(run)
        }
        if json { print(try report.json()) }
    }

    private func wantedTypes() throws -> [TensorType] {
        let supported = TensorType.allCases.filter { sk_type_is_supported(UInt32($0.rawValue)) }
        guard let types else { return supported.filter { columns % $0.blockSize == 0 } }
        return try types.split(separator: ",").map { word in
            guard let type = supported.first(where: { $0.name.lowercased() == word.lowercased() }) else {
                throw ValidationError("There are no kernels for '\(word)'; there are for \(supported.map { $0.name.lowercased() }.joined(separator: ", ")).")
            }
            return type
        }
    }

    private func curveColumns() throws -> [Int] {
        try curve.split(separator: ",").map { word in
            guard let count = Int(word), (1...512).contains(count) else {
                throw ValidationError("--curve holds '\(word)'; it takes numbers from 1 to 512, separated by commas.")
            }
            return count
        }
    }

    // MARK: Report

    struct Run: Codable {
        var threads: Int
        var barrierSeconds: Spread
        var types: [KernelBench.Result]

        func heading(_ instructionSet: String, curve: [Int], pp: Int) -> String {
            let first = String(
                format: "%d thread%@, %@; a run of the pool without work takes %.2f µs", threads, threads == 1 ? "" : "s", instructionSet,
                barrierSeconds.median * 1e6)
            let times = curve.map { "t(\($0))".leftPadded(7) }.joined()
            return "\(first)\ntype     1 column   can read  share  \(String(pp).leftPadded(5)) columns       peak  share \(times)"
        }
    }

    private static func line(_ result: KernelBench.Result) -> String {
        let one = result.oneColumn
        let many = result.manyColumns
        return result.type.padding(toLength: 7, withPad: " ", startingAt: 0)
            + String(
                format: "%6.1f GB/s %5.1f GB/s  %3.0f %%  %7.1f Gop/s %6.1f Gop/s  %3.0f %% ", one.bytesPerSecond.median / 1e9,
                one.readBytesPerSecond.median / 1e9, 100 * one.share.median, many.operationsPerSecond.median / 1e9,
                many.peakOperationsPerSecond.median / 1e9, 100 * many.share.median)
            + result.curve.map { String(format: "%7.2f", $0.time.median) }.joined()
    }

    struct Report: Codable {
        var instructionSet: String
        var runs: [Run]

        func json() throws -> String {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            return String(decoding: try encoder.encode(self), as: UTF8.self)
        }
    }
}

extension String {
    fileprivate func leftPadded(_ width: Int) -> String { String(repeating: " ", count: max(0, width - count)) + self }
}
