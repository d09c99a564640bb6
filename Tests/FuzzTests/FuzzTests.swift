import Foundation
import Testing

/// Every reader of bytes from outside, with thousands of damaged inputs: an error or a sound value, never a trap, a hang or a huge reservation.
///
/// `STAFFEL_SEED` chooses other inputs, `STAFFEL_FUZZ_SECONDS` how long all targets together run (`ops/fuzz`). An input that ends the process is
/// written beside the target's corpus, from where each later run reads it first.
@Suite(.serialized) struct FuzzTests {
    @Test func toCoordinator() async { await run("to-coordinator") }
    @Test func fromCoordinator() async { await run("from-coordinator") }
    @Test func stepFrame() async { await run("step-frame") }
    @Test func transferFrame() async { await run("transfer-frame") }
    @Test func followUp() async { await run("follow-up") }
    @Test func foretold() async { await run("foretold") }
    @Test func weightsRequest() async { await run("weights-request") }
    @Test func weightsReply() async { await run("weights-reply") }
    @Test func weightManifest() async { await run("weight-manifest") }
    @Test func joinLine() async { await run("join-line") }
    @Test func chatRequest() async { await run("chat-request") }
    @Test func completionRequest() async { await run("completion-request") }
    @Test func apiKeys() async { await run("api-keys") }
    @Test func modelHeader() async { await run("model-header") }
    @Test func gguf() async { await run("gguf") }
    @Test func safetensors() async { await run("safetensors") }
    @Test func safetensorsIndex() async { await run("safetensors-index") }
    @Test func configJSON() async { await run("config-json") }
    @Test func tokenizerJSON() async { await run("tokenizer-json") }
    @Test func tokenizerModel() async { await run("tokenizer-model") }

    /// Keeps what the seeds look like today, for the days when the protocol has moved on: `ops/fuzz seeds`.
    @Test(.enabled(if: ProcessInfo.processInfo.environment["STAFFEL_FUZZ_WRITE_SEEDS"] != nil)) func writeSeeds() throws {
        for target in FuzzTarget.all {
            let seeds = try target.seeds().filter { $0.count <= 4 << 10 }
            for (number, seed) in seeds.enumerated() where number < 16 || number % 8 == 0 {
                let path = "\(FuzzTarget.corpus(of: target.name))/seed-\(number).bin"
                try Data(seed).write(to: URL(fileURLWithPath: path))
            }
        }
    }

    /// Each target has its line above, and each line its target.
    @Test func nothingIsLeftOut() {
        #expect(
            Set(FuzzTarget.all.map(\.name)) == [
                "to-coordinator", "from-coordinator", "step-frame", "transfer-frame", "follow-up", "foretold", "weights-request", "weights-reply",
                "weight-manifest", "join-line", "chat-request", "completion-request", "api-keys", "model-header", "gguf", "safetensors", "safetensors-index", "config-json",
                "tokenizer-json", "tokenizer-model",
            ])
        for target in FuzzTarget.all { #expect(!target.corpusFiles().isEmpty, "\(target.name) has no corpus") }
    }

    private func run(_ name: String) async {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardOutputContent, \.standardErrorContent]
        ) { [name = name as String] in
            try FuzzRun(name).run()
        }
        for line in String(decoding: result?.standardOutputContent ?? [], as: UTF8.self).split(separator: "\n") where line.hasPrefix(name) {
            return print(line)
        }
        guard let input = LastInput.read(path: FuzzRun.lastInput(of: name)) else { return }
        let path = "\(FuzzTarget.corpus(of: name))/crash-\(UInt64.random(in: 0 ... .max)).bin"
        try? Data(input).write(to: URL(fileURLWithPath: path))
        let words = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        Issue.record("seed \(FuzzRun.seed): an input of \(input.count) bytes ended the run; it is now \(path). The process said: \(words.suffix(1500))")
    }
}
