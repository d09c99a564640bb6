import Foundation
import ModelFiles
import Testing

@testable import Engine

/// Against transformers in float64, whose results `ops/golden/make-engine.py` wrote.
@Suite struct GoldenTests {
    struct Golden {
        let file: GGUFFile
        let tokens: [Int32]
        let logits: [Double]

        init(_ name: String) throws {
            let folder = Bundle.module.resourceURL!.appendingPathComponent("Fixtures")
            file = try GGUFFile(path: folder.appendingPathComponent(name + ".gguf").path)
            let bytes = [UInt8](try Data(contentsOf: folder.appendingPathComponent(name + ".golden")))
            let count = Int(bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 0, as: Int32.self) })
            tokens = bytes.withUnsafeBytes { raw in (0..<count).map { raw.loadUnaligned(fromByteOffset: 4 + 4 * $0, as: Int32.self) } }
            let start = 4 + 4 * count
            logits = bytes.withUnsafeBytes { raw in
                stride(from: start, to: bytes.count, by: 8).map { raw.loadUnaligned(fromByteOffset: $0, as: Double.self) }
            }
        }
    }

    /// Largest difference of a row over its largest logit; the worst row.
    private func error(_ found: [Float], _ golden: [Double], vocabulary: Int) -> Double {
        stride(from: 0, to: golden.count, by: vocabulary).map { start in
            let row = start..<(start + vocabulary)
            let difference = row.map { abs(Double(found[$0]) - golden[$0]) }.max()!
            return difference / row.map { abs(golden[$0]) }.max()!
        }.max()!
    }

    @Test(arguments: ["llama", "llama-linear", "llama3", "qwen2", "granite"]) func logitsAreThoseOfTheFloatReference(name: String) throws {
        let golden = try Golden(name)
        for set in InstructionSet.supported {
            var options = LocalGenerator.Options()
            options.kvType = .f32
            options.instructionSet = set
            let generator = try LocalGenerator(file: golden.file, options: options)
            var found: [Float] = []
            try generator.logits(tokens: golden.tokens) { _, row in found += row }
            try #require(found.count == golden.logits.count)
            let error = error(found, golden.logits, vocabulary: generator.model.vocabulary)
            #expect(error <= 1e-5, "\(set.rawValue): \(error)")
        }
    }

    /// The measure must see a mistake as small as another RoPE base.
    @Test func aWrongSwitchIsFarOutside() throws {
        let golden = try Golden("llama")
        var metadata = golden.file.metadata
        metadata.set("llama.rope.freq_base", .float32(600))
        var writer = GGUFWriter(metadata: metadata)
        for tensor in golden.file.tensors { writer.add(tensor.name, shape: tensor.shape, floats: tensor.dequantized()) }
        var found: [Float] = []
        let generator = try LocalGenerator(file: GGUFFile(parts: [try writer.bytes()]))
        try generator.logits(tokens: golden.tokens) { _, row in found += row }
        #expect(error(found, golden.logits, vocabulary: generator.model.vocabulary) > 1e-3)
    }
}
