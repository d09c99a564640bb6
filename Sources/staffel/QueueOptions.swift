import ArgumentParser
import ClusterCore

/// How much runs, how much waits, and how keys share it; the same flags for `staffel coordinator` and `staffel up`.
struct QueueOptions: ParsableArguments {
    @Option(help: "Sequences that run at once, in each pipeline. (default: \(Limits.sequencesRunningMax))")
    var maxNumSeqs: Int?

    @Option(help: "Sequences that wait beside these; more are answered 429. (default: \(Limits.requestsWaitingMax))")
    var maxQueuedRequests: Int?

    @Option(help: "Rows of a step, prompts' and running sequences' together. (default: \(Limits.stepRowsMax))")
    var maxNumBatchedTokens: Int?

    @Option(
        help: """
            How many times longer than alone the steps of a key with few streams may take beside others' streams; a higher one brings more tokens \
            in all. (default: 4)
            """)
    var keyStretch: Int?

    func apply(to configuration: inout CoordinatorConfiguration, _ settings: Settings) throws {
        if let count = try settings.integer("max-num-seqs", flag: maxNumSeqs, in: 1...Limits.sequencesRunningMax) {
            configuration.sequencesRunningMax = count
        }
        if let count = try settings.integer("max-queued-requests", flag: maxQueuedRequests, in: 0...Limits.requestsWaitingMax) {
            configuration.requestsWaitingMax = count
        }
        if let count = try settings.integer("max-num-batched-tokens", flag: maxNumBatchedTokens, in: 1...Limits.stepRowsMax) {
            configuration.stepRowsMax = count
            configuration.prefillRowsPerStep = min(configuration.prefillRowsPerStep, count)
        }
        if let stretch = try settings.integer("key-stretch", flag: keyStretch, in: 1...1_000) { configuration.tenantStretchMax = Double(stretch) }
    }

    /// What `staffel up` hands to its coordinator.
    var forwardedFlags: [String] {
        let flags = [
            ("--max-num-seqs", maxNumSeqs), ("--max-queued-requests", maxQueuedRequests), ("--max-num-batched-tokens", maxNumBatchedTokens),
            ("--key-stretch", keyStretch),
        ]
        return flags.flatMap { name, value in value.map { [name, "\($0)"] } ?? [] }
    }
}
