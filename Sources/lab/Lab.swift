import ArgumentParser

/// The developers' tool: measures, and lays the engine's inside open for comparison with others.
@main struct Lab: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lab",
        abstract: "Measure Staffel, and lay open what it computes.",
        subcommands: [Bench.self, Logits.self, Tokenize.self, Convert.self])
}

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure speed beside what the machine allows.", subcommands: [BenchModel.self, BenchTokenizer.self])
}
