import ArgumentParser
import ClusterCore
import Engine
import Foundation
import ModelFiles
import Node
import Prompt

/// `staffel generate`: one process, no cluster. The reference that a cluster's tokens must equal.
struct GenerateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "generate", abstract: "Continue a prompt in this process, without a cluster.")

    @Argument(help: "A GGUF file, a Hugging Face folder, or the name of a model in the local store.")
    var model: String

    @Option(help: "The text to continue; '-' reads it from stdin.")
    var prompt: String

    @Flag(help: "Send the text as a user's message through the model's chat template.")
    var chat = false

    @Option(help: "System message for --chat.")
    var system: String?

    @Option(help: "Stop after so many tokens.")
    var maxTokens = 128

    @Option(help: "0 always takes the likeliest token. In 0...100. (default: the model's, else 1)")
    var temperature: Float?

    @Option(help: "Draw among the k likeliest; 0: all. (default: the model's, else 0)")
    var topK: Int?

    @Option(help: "Draw among the likeliest that reach this probability together. In (0, 1]. (default: the model's, else 1)")
    var topP: Float?

    @Option(help: "Draw among those at least this share as likely as the likeliest. In 0...1. (default: the model's, else 0)")
    var minP: Float?

    @Option(help: "Makes seen tokens less likely. In (0, 10]; 1: off. (default: the model's, else 1)")
    var repetitionPenalty: Float?

    @Option(help: "Subtracted from the logit of each generated token. In -2...2.")
    var presencePenalty: Float = 0

    @Option(help: "Subtracted as often as the token was generated. In -2...2.")
    var frequencyPenalty: Float = 0

    @Option(help: "The same seed gives the same text. (default: a random one, told with --json)")
    var seed: UInt64?

    @Option(help: "How many continuations.")
    var n = 1

    @Option(help: "Don't end before so many tokens.")
    var minTokens = 0

    @Flag(help: "Go on after the model's end token.")
    var ignoreEos = false

    @Option(help: "Compute threads. (default: the machine's cores)")
    var threads: Int?

    @Option(help: "Rows of the prompt that are computed together. Changes speed, never tokens.")
    var chunkRows = 512

    @Option(help: "What passes between layers: f32 or bf16.")
    var boundary = "f32"

    @Option(help: "How keys and values are kept: f16, f32 or q8_0 (8 bits).")
    var kvType = "f16"

    @OptionGroup var weights: WeightsMemoryOption
    @OptionGroup var caching: CacheOptions
    @OptionGroup var generating: GenerationConfigOptions
    @OptionGroup var quantizing: QuantizeOption

    @Flag(help: "Print JSON with token ids when done, instead of text as it comes.")
    var json = false

    func run() async throws {
        let settings = try await Settings(configFile: nil)
        let path = try quantizing.path(for: ModelPath.resolve(model), settings, cache: caching.cache, threads: threads)
        let file = try ModelOpener.open(path: path)
        let prompting = try ModelPrompting(metadata: file.metadata)
        let tokenizer = prompting.tokenizer
        let tokens = try promptTokens(prompting)
        let sampling = try samplingSettings(generating.usesModelDefaults(settings) ? prompting.defaults : SamplingDefaults())
        var options = try options()
        // Uses what workers have kept and keeps nothing, unless it streams: a command that runs once should not fill a disk.
        options.cache = try caching.packedCache(settings)
        options.weightsMemory = try weights.bytes(settings)
        let generator = try LocalGenerator(file: file, options: options) { done, total in
            showProgress("\rloading \(done * 100 / max(1, total)) %")
        }
        showProgress("\r\u{1B}[K")

        var printer = StreamingDetokenizer(tokenizer: tokenizer, skipSpecialTokens: true, continuesText: true)
        let started = ContinuousClock.now
        var firstToken: Duration?
        let choices = try generator.generate(
            prompt: tokens, choices: n, maxTokens: maxTokens, sampling: sampling, endTokens: tokenizer.endTokens,
            ignoresEndTokens: ignoreEos
        ) { choice, token in
            firstToken = firstToken ?? (ContinuousClock.now - started)
            if !json, n == 1 { write(printer.append(token.token)) }
            return true
        }
        if json {
            print(
                try report(
                    choices, prompt: tokens, tokenizer: tokenizer, seed: sampling.seed, firstToken: firstToken, total: ContinuousClock.now - started))
        } else if n == 1 {
            write(printer.finish() + "\n")
        } else {
            for (index, choice) in choices.enumerated() {
                print("--- \(index)\n\(tokenizer.text(of: choice.tokens.map(\.token), skipSpecialTokens: true))")
            }
        }
    }

    /// On a terminal only, beside the text that goes to stdout.
    private func showProgress(_ text: String) {
        if !json, isatty(STDERR_FILENO) == 1 { FileHandle.standardError.write(Data(text.utf8)) }
    }

    private func write(_ text: String) {
        guard !text.isEmpty else { return }
        FileHandle.standardOutput.write(Data(text.utf8))
    }

    private func options() throws -> LocalGenerator.Options {
        var options = LocalGenerator.Options()
        options.threads = threads ?? ProcessInfo.processInfo.activeProcessorCount
        options.chunkRows = chunkRows
        guard let kvType = KVType(rawValue: kvType) else { throw ValidationError("--kv-type is '\(kvType)': give \(KVType.names)") }
        options.kvType = kvType
        options.boundary = Engine.BoundaryType(try CoordinatorCommand.boundary(boundary))
        options.instructionSet = try InstructionSet.fromEnvironment()
        guard (1...ComputePool.threadsMax).contains(options.threads) else {
            throw ValidationError("--threads is \(options.threads): give a number in 1...\(ComputePool.threadsMax)")
        }
        guard (1...Limits.stepRowsMax).contains(chunkRows) else {
            throw ValidationError("--chunk-rows is \(chunkRows): give a number in 1...\(Limits.stepRowsMax)")
        }
        return options
    }

    /// The gateway's and the machines' rules, so that what the cluster refuses is refused here.
    private func samplingSettings(_ defaults: SamplingDefaults) throws -> SamplingSettings {
        guard (1...Limits.choicesMax).contains(n) else { throw ValidationError("--n is \(n): give a number in 1...\(Limits.choicesMax)") }
        var parameters = SamplingParameters()
        parameters.temperature = temperature ?? Float(defaults.temperature ?? 1)
        // −1 says "all" in the makers' files.
        parameters.topK = Int32(clamping: topK ?? max(0, defaults.topK ?? 0))
        parameters.topP = topP ?? Float(defaults.topP ?? 1)
        parameters.minP = minP ?? Float(defaults.minP ?? 0)
        parameters.repetitionPenalty = repetitionPenalty ?? Float(defaults.repetitionPenalty ?? 1)
        parameters.presencePenalty = presencePenalty
        parameters.frequencyPenalty = frequencyPenalty
        parameters.seed = seed ?? UInt64.random(in: 0 ... .max)
        parameters.minTokens = Int32(clamping: minTokens)
        parameters.maxTokens = Int32(clamping: maxTokens)
        if let fault = parameters.fault(vocabulary: Limits.vocabularyMax) { throw ValidationError(fault.message) }
        return SamplingSettings(parameters)
    }

    private func promptTokens(_ prompting: ModelPrompting) throws -> [Int32] {
        let text = prompt == "-" ? String(decoding: FileHandle.standardInput.readDataToEndOfFile(), as: UTF8.self) : prompt
        guard chat else {
            let tokens = prompting.tokenizer.encode(text, addSpecial: true, parseSpecial: true)
            guard !tokens.isEmpty else { throw ValidationError("the prompt is empty: give at least one character") }
            return tokens
        }
        var messages: [TemplateValue] = []
        if let system { messages.append(.object(TemplateObject([("role", "system"), ("content", .string(system))]))) }
        messages.append(.object(TemplateObject([("role", "user"), ("content", .string(text))])))
        let rendered = try prompting.render(
            messages: .array(messages), tools: nil, addGenerationPrompt: true, extra: [],
            now: TemplateClock(secondsSinceEpoch: Int(Date.now.timeIntervalSince1970)))
        return prompting.encodeChat(rendered)
    }

    private func report(
        _ choices: [LocalGenerator.Choice], prompt: [Int32], tokenizer: Tokenizer, seed: UInt64, firstToken: Duration?, total: Duration
    ) throws -> String {
        let completed = choices.reduce(0) { $0 + $1.tokens.count }
        let object: [String: Any] = [
            "prompt_token_ids": prompt, "seed": seed,
            "choices": choices.enumerated().map { index, choice -> [String: Any] in
                let ids = choice.tokens.map(\.token)
                return [
                    "index": index, "token_ids": ids, "finish_reason": choice.finish.rawValue,
                    "text": tokenizer.text(of: ids, skipSpecialTokens: true)
                ]
            },
            "usage": ["prompt_tokens": prompt.count, "completion_tokens": completed, "total_tokens": prompt.count + completed],
            "timings": ["first_token_ms": (firstToken ?? total) / .milliseconds(1), "total_ms": total / .milliseconds(1)]
        ]
        return String(decoding: try JSONSerialization.data(withJSONObject: object, options: [.sortedKeys]), as: UTF8.self)
    }
}
