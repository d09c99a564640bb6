import ArgumentParser

/// Whether the sampling defaults of the model's makers are taken: vLLM's flag of the same name.
struct GenerationConfigOptions: ParsableArguments {
    @Option(
        help: "Where sampling defaults come from: auto is the model (its generation_config.json), vllm or none are neutral ones. (default: auto)")
    var generationConfig: String?

    func usesModelDefaults(_ settings: Settings) throws -> Bool {
        switch settings.string("generation-config", flag: generationConfig) {
        case nil, "auto": return true
        case "vllm", "none": return false
        case let other?: throw ValidationError("--generation-config is '\(other)': give auto, vllm or none")
        }
    }

    var forwardedFlags: [String] { generationConfig.map { ["--generation-config", $0] } ?? [] }
}
