import ArgumentParser
import Foundation

/// The developers' tool: measures, and lays the engine's inside open for comparison with others.
@main struct Lab: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lab",
        abstract: "Measure Staffel, and lay open what it computes.",
        subcommands: [Bench.self, Synth.self, Logits.self, Tokenize.self, Convert.self, Quantise.self, Simulate.self])

    /// As the library's, but wrong usage ends with 2, as all of Staffel's commands do, not with 64.
    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch {
            let code = exitCode(for: error).rawValue
            let message = fullMessage(for: error)
            let output = code == 0 ? FileHandle.standardOutput : FileHandle.standardError
            if !message.isEmpty { output.write(Data((message + "\n").utf8)) }
            Foundation.exit(code >= 64 ? 2 : code)
        }
    }
}

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure speed beside what the machine allows.",
        subcommands: [
            BenchKernels.self, BenchExperts.self, BenchAttention.self, BenchRows.self, BenchBarrier.self, BenchStep.self, BenchModel.self,
            BenchTokenizer.self, BenchHop.self,
        ])
}
