import ArgumentParser
import ClusterCore

/// Where guesses of next tokens come from; the same flags for `staffel coordinator` and `staffel up`.
struct SpeculationOptions: ParsableArguments {
    @Option(
        help: "Guess next tokens, so that one step brings several; tokens stay the same. prompt-lookup: from the text so far; off. (default: off)")
    var speculation: String?

    /// `nil`: nothing is said.
    func mode(_ settings: Settings) throws -> Speculation.Mode? {
        switch settings.string("speculation", flag: speculation) {
        case nil: nil
        case "off": .off
        case "prompt-lookup": .promptLookup
        case let other?: throw ValidationError("speculation is '\(other)': give off or prompt-lookup")
        }
    }

    /// What `staffel up` hands to its coordinator.
    var forwardedFlags: [String] { speculation.map { ["--speculation", $0] } ?? [] }
}
