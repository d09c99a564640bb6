import Foundation
import ModelFiles
import Testing

@testable import Engine

/// GGUF files made of the folders of all families: the tensors, shapes and switches that a converter of another project wrote, and the folder's
/// own logits to the bit.
@Suite struct FolderConversionTests {
    private static func converted(_ name: String, _ recipe: ConversionRecipe) throws -> GGUFFile {
        let model = try #require(FamilyTests.hugging(name) as? HFModel)
        return try GGUFFile(parts: [ModelConversion.bytes(of: FolderAsGGUF(model, vocabulary: Metadata()), as: recipe)])
    }

    private func logits(_ source: any ModelSource, _ tokens: [Int32], prompt: Int?) throws -> [UInt32] {
        var options = LocalGenerator.Options()
        options.kvType = .f32
        var found: [UInt32] = []
        try LocalGenerator(file: source, options: options).logits(tokens: tokens, promptLength: prompt) { _, row in found += row.map(\.bitPattern) }
        return found
    }

    @Test(arguments: FamilyTests.names) func asTheUsualConverterWritesThem(name: String) throws {
        let (made, theirs) = (try Self.converted(name, .f32), try FamilyTests.gguf(name))
        #expect(Set(made.tensors.map(\.name)) == Set(theirs.tensors.map(\.name)))
        for tensor in theirs.tensors {
            let mine = try #require(made.tensor(tensor.name))
            #expect(mine.shape == tensor.shape, "\(tensor.name)")
            // Llama 3's divisors come from a formula, whose last bit is the library's.
            if tensor.name == ModelTensors.ropeDivisors {
                #expect(zip(mine.dequantized(), tensor.dequantized()).allSatisfy { abs($0 - $1) <= abs($1) * 0x1p-22 })
            } else {
                #expect(mine.dequantized().map(\.bitPattern) == tensor.dequantized().map(\.bitPattern), "\(tensor.name)")
            }
        }
        var (mine, other) = (try ModelConfiguration(file: made), try ModelConfiguration(source: theirs))
        (mine.name, other.name) = ("", "")
        (mine.rope.scaling, other.rope.scaling) = (.none, .none)
        #expect(mine == other)
        #expect(try made.metadata.string("quantize.source.digest") == ModelDigest(FamilyTests.hugging(name)).hexadecimal)
    }

    @Test(arguments: FamilyTests.names) func theFolderAndItsFileGiveTheSameBits(name: String) throws {
        let golden = try FamilyTests.Golden(name)
        let tokens = Array(golden.tokens.prefix(60))
        let prompt = golden.prompt.map { min($0, tokens.count) }
        #expect(try logits(Self.converted(name, .f32), tokens, prompt: prompt) == logits(FamilyTests.hugging(name), tokens, prompt: prompt))
    }

    /// Pieces of stacked experts and of heads in another order, in blocks, by any number of threads.
    @Test(arguments: ["mixtral", "granitemoe", "phi3-window", "internlm2"]) func threadsChangeNothing(name: String) throws {
        let model = try #require(FamilyTests.hugging(name) as? HFModel)
        let source = try FolderAsGGUF(model, vocabulary: Metadata())
        let one = try ModelConversion.bytes(of: source, as: ConversionRecipe(.all(.f16)))
        #expect(try ModelConversion.bytes(of: source, as: ConversionRecipe(.all(.f16)), threads: 3) == one)
    }

    /// A plan needs no weights: shapes and types of a folder are those of the file that would be made of it, and of its config.json alone.
    @Test(arguments: FamilyTests.names) func outlinesOfConfigurations(name: String) throws {
        let whole = try Self.converted(name, .f32)
        let path = FamilyTests.folder.appendingPathComponent(name).path
        let outline = try GGUFFile.outline(configAt: path + "/config.json")
        if name != "llama-biased" {
            let names = whole.tensors.map { $0.name.replacing("attn_qkv", with: "attn_q") } + Self.parts(whole)
            #expect(Set(outline.tensors.map(\.name)) == Set(names))
        }
        let (a, b) = (try ModelConfiguration(file: outline), try ModelConfiguration(file: whole))
        #expect(a.layers == b.layers && a.experts == b.experts && a.windows == b.windows)
        #expect(a.parameterCount + (b.headBias ? b.vocabulary : 0) == b.parameterCount)
        let model = try #require(FamilyTests.hugging(name) as? HFModel)
        #expect(throws: Never.self) { try GGUFFile.outline(of: FolderAsGGUF(model, vocabulary: Metadata()), as: .bf16) }
    }

    /// What a fused tensor holds beside the first part.
    private static func parts(_ file: GGUFFile) -> [String] {
        file.tensors.filter { $0.name.hasSuffix("attn_qkv.weight") }.flatMap { tensor in
            ["attn_k", "attn_v", "ffn_gate"].map { tensor.name.replacing("attn_qkv", with: $0) }
        }
    }
}
