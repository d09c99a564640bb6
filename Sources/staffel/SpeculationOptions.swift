import ArgumentParser
import ClusterCore
import Engine
import Node

/// Where guesses of next tokens come from; the same flags for `staffel coordinator` and `staffel up`.
struct SpeculationOptions: ParsableArguments {
    @Option(
        help: "Guess next tokens of a stream that runs alone, so that one step brings several; tokens stay the same. prompt-lookup: from the text so far; off. (default: prompt-lookup)")
    var speculation: String?

    @Option(help: "A small GGUF model with the same tokenizer that guesses for a stream that runs alone, on the coordinator's machine. (default: none)")
    var draftModel: String?

    @Option(help: "Threads of the draft model. (default: 1)")
    var draftThreads: Int?

    /// `nil`: nothing is said.
    func mode(_ settings: Settings) throws -> Speculation.Mode? {
        switch settings.string("speculation", flag: speculation) {
        case nil: nil
        case "off": .off
        case "prompt-lookup": .promptLookup
        case let other?: throw ValidationError("speculation is '\(other)': give off or prompt-lookup")
        }
    }

    /// The draft model for the model at `servedPath`; `nil`: none is named. Throws where their tokens differ.
    func draft(_ settings: Settings, servedPath: String, contextTokens: Int) throws -> DraftThread.Settings? {
        let threads = try settings.integer("draft-threads", flag: draftThreads, in: 1...ComputePool.threadsMax) ?? 1
        guard let named = settings.string("draft-model", flag: draftModel) else { return nil }
        let path = try ModelPath.resolve(named)
        try DraftModel.checkVocabulary(of: path, against: servedPath)
        return DraftThread.Settings(
            path: path, contextTokens: contextTokens, threads: threads, instructionSet: try InstructionSet.fromEnvironment())
    }

    /// What `staffel up` hands to its coordinator.
    var forwardedFlags: [String] {
        (speculation.map { ["--speculation", $0] } ?? []) + (draftModel.map { ["--draft-model", $0] } ?? [])
            + (draftThreads.map { ["--draft-threads", "\($0)"] } ?? [])
    }
}
