import ArgumentParser
import Foundation
import ModelFiles

/// `lab synth`: a valid model file of any size, full of random weights.
struct Synth: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write a model of a known shape with random weights.",
        discussion: """
            The file is written as a stream and loads in any engine that reads GGUF. Its logits are finite and its text means nothing. The
            same seed gives the same bytes. Where a row is no whole blocks of 256, a type with blocks of 32 takes the place of a K type, as
            quantisers do it.
            """)

    @Option(help: "One of \(SyntheticShape.all.map(\.name).joined(separator: ", ")).") var shape: String
    @Option(help: "One of \(SyntheticRecipe.names.joined(separator: ", ")).") var type: String
    @Option(help: "Layers; without it, the real model's.") var layers: Int?
    @Option(help: "Tokens, at least \(SyntheticModel.vocabularyMin); without it, the real model's.") var vocabulary: Int?
    @Option(help: "Decides every weight.") var seed: UInt64 = 1
    @Option(help: "Threads that make weights.") var threads = ProcessInfo.processInfo.activeProcessorCount
    @Flag(help: "Holes in place of weights: for 'staffel plan', which reads the header only.") var hollow = false
    @Flag(help: "Every second megabyte of a tensor is zeros, and a hole in the file: it takes half of its size of the disk.") var halfHollow = false
    @Argument(help: "The GGUF file to write.") var output: String

    func validate() throws {
        guard SyntheticShape.named(shape) != nil else { throw ValidationError("There is no shape '\(shape)'; see --help for those there are.") }
        guard SyntheticRecipe(name: type) != nil else { throw ValidationError("There is no type '\(type)'; see --help for those there are.") }
        guard (1...1024).contains(threads) else { throw ValidationError("--threads is 1 to 1024.") }
    }

    func run() throws {
        var model = try SyntheticModel(
            shape: SyntheticShape.named(shape)!, recipe: SyntheticRecipe(name: type)!, layers: layers, vocabulary: vocabulary, seed: seed)
        model.isHalfHollow = halfHollow
        if hollow {
            try model.writeHollow(to: output)
            return print("\(output): \(model.configuration.name), \(type), a header and holes")
        }
        let start = ContinuousClock().now
        let meter = ProgressMeter(total: model.byteCount)
        try model.write(to: output, threads: threads) { done, _ in meter.show(done) }
        let seconds = (ContinuousClock().now - start) / .seconds(1)
        meter.finish()
        print(
            String(
                format: "%@: %@, %@, %.2f GB in %.1f s (%.2f GB/s)", output, model.configuration.name, type, Double(model.byteCount) / 1e9, seconds,
                Double(model.byteCount) / 1e9 / seconds))
    }
}

/// Per cent on one line of a terminal; nothing elsewhere, where nobody waits.
private final class ProgressMeter {
    private let total: Int
    private let isShown = isatty(STDERR_FILENO) == 1
    private var shown = -1

    init(total: Int) { self.total = total }

    func show(_ done: Int) {
        let percent = total == 0 ? 100 : done * 100 / total
        guard isShown, percent != shown else { return }
        shown = percent
        FileHandle.standardError.write(Data("\r\u{1B}[K\(percent) % of \(total / 1_000_000) MB".utf8))
    }

    func finish() { if isShown { FileHandle.standardError.write(Data("\r\u{1B}[K".utf8)) } }
}
