import Foundation
import ModelFiles
import Testing

@testable import Engine

/// Every family against transformers in float64, from the folder that transformers saved and from the GGUF file of the same weights. Both were
/// made by `ops/parity`; see `ops/golden/make-families.py` for what each case is about.
@Suite struct FamilyTests {
    static let folder = Bundle.module.resourceURL!.appendingPathComponent("Fixtures/families")

    static let names = [
        "granite", "granitemoe", "internlm2", "llama", "llama-biased", "llama-linear", "llama3", "mistral", "mixtral", "phi3-longrope", "phi3-window",
        "qwen2", "qwen2-window", "qwen2-yarn",
    ]

    /// What transformers computed.
    struct Golden {
        let tokens: [Int32]
        /// How many of them were computed at once; nil: it makes no difference.
        let prompt: Int?
        let logits: [Double]

        init(_ name: String) throws {
            let bytes = [UInt8](try Data(contentsOf: FamilyTests.folder.appendingPathComponent(name + ".golden")))
            let numbers = bytes.withUnsafeBytes { raw in (0..<2).map { raw.loadUnaligned(fromByteOffset: 4 * $0, as: Int32.self) } }
            let count = Int(numbers[0])
            prompt = numbers[1] == 0 ? nil : Int(numbers[1])
            tokens = bytes.withUnsafeBytes { raw in (0..<count).map { raw.loadUnaligned(fromByteOffset: 8 + 4 * $0, as: Int32.self) } }
            logits = bytes.withUnsafeBytes { raw in
                stride(from: 8 + 4 * count, to: bytes.count, by: 8).map { raw.loadUnaligned(fromByteOffset: $0, as: Double.self) }
            }
        }

        /// Largest difference of a row over its largest logit; the worst row.
        func error(_ found: [Float]) -> Double {
            let vocabulary = logits.count / tokens.count
            return stride(from: 0, to: logits.count, by: vocabulary).map { start in
                let row = start..<(start + vocabulary)
                return row.map { abs(Double(found[$0]) - logits[$0]) }.max()! / row.map { abs(logits[$0]) }.max()!
            }.max()!
        }
    }

    static func gguf(_ name: String) throws -> any ModelSource { try GGUFFile(path: folder.appendingPathComponent(name + ".gguf").path) }
    static func hugging(_ name: String) throws -> any ModelSource { try ModelOpener.open(path: folder.appendingPathComponent(name).path) }

    private func logits(
        _ source: any ModelSource, _ golden: Golden, prompt: Int? = nil, chunk: Int = 512, threads: Int = 1, set: InstructionSet? = nil
    ) throws -> [Float] {
        var options = LocalGenerator.Options()
        options.kvType = .f32
        options.chunkRows = chunk
        options.threads = threads
        options.instructionSet = set
        var found: [Float] = []
        let generator = try LocalGenerator(file: source, options: options)
        try generator.logits(tokens: golden.tokens, promptLength: golden.prompt ?? prompt) { _, row in found += row }
        return found
    }

    @Test(arguments: names) func logitsAreThoseOfTheFloatReference(name: String) throws {
        let golden = try Golden(name)
        for set in InstructionSet.supported {
            let found = try logits(Self.gguf(name), golden, set: set)
            try #require(found.count == golden.logits.count)
            #expect(golden.error(found) <= 1e-5, "\(set.rawValue): \(golden.error(found))")
        }
    }

    /// At once, in chunks that no window and no block fits, token by token, with one thread and three: the same bits, from either kind of file.
    @Test(arguments: names) func foldersAndFilesGiveTheSameBits(name: String) throws {
        let golden = try Golden(name)
        let (file, folder) = (try Self.gguf(name), try Self.hugging(name))
        let whole = try logits(file, golden).map(\.bitPattern)
        #expect(try logits(folder, golden).map(\.bitPattern) == whole)
        #expect(try logits(folder, golden, chunk: 7, threads: 3).map(\.bitPattern) == whole)
        #expect(try logits(file, golden, prompt: 9, threads: 2).map(\.bitPattern) == whole)
    }

    @Test(arguments: names) func foldersAndFilesHaveOneConfiguration(name: String) throws {
        var file = try ModelConfiguration(source: Self.gguf(name))
        let folder = try ModelConfiguration(source: Self.hugging(name))
        file.name = folder.name
        #expect(file == folder)
    }

    /// A sequence whose prompt fits the original context, and that grows beyond it.
    @Test func longropeSwitchesWhileASequenceGrows() throws {
        let golden = try Golden("phi3-longrope-growing")
        #expect(golden.prompt == 20)
        let found = try logits(Self.gguf("phi3-longrope"), golden)
        #expect(golden.error(found) <= 1e-5, "\(golden.error(found))")
        #expect(try logits(Self.hugging("phi3-longrope"), golden, chunk: 3, threads: 2).map(\.bitPattern) == found.map(\.bitPattern))
        // Told to be one long prompt, the same tokens are turned otherwise from the first one on.
        let long = try Golden("phi3-longrope")
        #expect(long.tokens == golden.tokens)
        #expect(long.error(found) > 1e-3)
    }

    /// The measure must see what each switch does: the same weights with one of them off.
    @Test(arguments: [
        ("mistral", "llama.attention.sliding_window", MetadataValue.uint32(22)), ("phi3-window", "phi3.attention.sliding_window", .uint32(18)),
        ("qwen2-window", "qwen2.attention.sliding_window_pattern", .array(.bool([true, true, true]))),
        ("mixtral", "llama.expert_used_count", .uint32(3)), ("granitemoe", "granitemoe.expert_used_count", .uint32(2)),
        ("granitemoe", "granitemoe.residual_scale", .float32(0.23)), ("qwen2-yarn", "qwen2.rope.scaling.factor", .float32(3.9)),
        ("qwen2-yarn", "qwen2.rope.scaling.attn_factor", .float32(1.001)), ("phi3-longrope", "phi3.rope.scaling.attn_factor", .float32(1.001)),
        ("phi3-longrope", "phi3.rope.scaling.original_context_length", .uint32(64)), ("llama", "llama.rope.freq_base", .float32(4.9e6)),
        ("llama-linear", "llama.rope.scaling.factor", .float32(2.51)), ("qwen2", "qwen2.attention.layer_norm_rms_epsilon", .float32(1e-3)),
        ("granite", "granite.attention.scale", .float32(0.079)), ("granite", "granite.embedding_scale", .float32(12.1)),
        ("granite", "granite.logit_scale", .float32(6.01)), ("internlm2", "internlm2.rope.freq_base", .float32(9e5)),
    ] as [(String, String, MetadataValue)]) func aWrongSwitchIsFarOutside(name: String, key: String, value: MetadataValue) throws {
        let golden = try Golden(name)
        let file = try Self.gguf(name)
        var metadata = file.metadata
        metadata.set(key, value)
        var writer = GGUFWriter(metadata: metadata)
        for tensor in file.tensors { writer.add(tensor.name, shape: tensor.shape, floats: tensor.dequantized()) }
        let wrong = golden.error(try logits(GGUFFile(parts: [try writer.bytes()]), golden))
        #expect(wrong > 1e-4, "\(wrong)")
    }
}
