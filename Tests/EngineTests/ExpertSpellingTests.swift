import Engine
import Foundation
import ModelFiles
import Testing

/// Newer versions of transformers keep experts stacked, under names of their own. A folder that was saved so has the same weights, so it must give
/// the same bits as one that was saved in the published form.
@Suite struct ExpertSpellingTests {
    private func logits(_ source: any ModelSource, _ tokens: [Int32]) throws -> [UInt32] {
        var found: [UInt32] = []
        try LocalGenerator(file: source).logits(tokens: tokens) { _, row in found += row.map(\.bitPattern) }
        return found
    }

    /// Tensors of a folder by their names; `shape` with the columns last, as safetensors has it.
    private struct Entry {
        var name: String
        var shape: [Int]
        var floats: [Float]

        init(_ name: String, _ shape: [Int], _ floats: [Float]) { (self.name, self.shape, self.floats) = (name, shape, floats) }
    }

    private func entries(_ folder: String) throws -> [Entry] {
        try HFFolder(path: folder).tensors.map { Entry($0.name, $0.shape.reversed(), $0.dequantized()) }
    }

    private func opened(_ folder: String, _ entries: [Entry]) throws -> any ModelSource {
        let to = try TemporaryFolder()
        var members: [String] = [], data = Data()
        for entry in entries {
            let bytes = entry.floats.withUnsafeBytes { Data($0) }
            members.append(#""\#(entry.name)":{"dtype":"F32","shape":\#(entry.shape),"data_offsets":[\#(data.count),\#(data.count + bytes.count)]}"#)
            data += bytes
        }
        let header = Data("{\(members.joined(separator: ","))}".utf8)
        let length = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Data($0) }
        try (length + header + data).write(to: URL(fileURLWithPath: to.file("model.safetensors")))
        try FileManager.default.copyItem(atPath: folder + "/config.json", toPath: to.file("config.json"))
        // Mapped, so the files may go.
        return try ModelOpener.open(path: to.path)
    }

    @Test func mixtral() throws {
        let folder = FamilyTests.folder.appendingPathComponent("mixtral").path
        let old = try entries(folder)
        var new = old.filter { !$0.name.contains("block_sparse_moe") }
        for layer in 0..<2 {
            let moe = "model.layers.\(layer).block_sparse_moe."
            func entry(_ name: String) throws -> Entry { try #require(old.first { $0.name == moe + name }) }
            let gate = try entry("gate.weight")
            let to = "model.layers.\(layer).mlp."
            new.append(Entry(to + "gate.weight", gate.shape, gate.floats))
            var inner: [Float] = [], down: [Float] = []
            for expert in 0..<5 {
                inner += try entry("experts.\(expert).w1.weight").floats + entry("experts.\(expert).w3.weight").floats
                down += try entry("experts.\(expert).w2.weight").floats
            }
            let one = try entry("experts.0.w1.weight").shape
            new.append(Entry(to + "experts.gate_up_proj", [5, 2 * one[0], one[1]], inner))
            new.append(Entry(to + "experts.down_proj", [5, one[1], one[0]], down))
        }
        let tokens = try FamilyTests.Golden("mixtral").tokens
        #expect(try logits(opened(folder, new), tokens) == logits(FamilyTests.hugging("mixtral"), tokens))
    }

    @Test func granite() throws {
        let folder = FamilyTests.folder.appendingPathComponent("granitemoe").path
        let names = ["input_linear.weight": "experts.gate_up_proj", "output_linear.weight": "experts.down_proj", "router.layer.weight": "router.weight"]
        let new = try entries(folder).map { entry in
            var entry = entry
            for (old, name) in names { entry.name = entry.name.replacingOccurrences(of: "block_sparse_moe." + old, with: "block_sparse_moe." + name) }
            return entry
        }
        #expect(new.contains { $0.name.hasSuffix("experts.down_proj") })
        let tokens = try FamilyTests.Golden("granitemoe").tokens
        #expect(try logits(opened(folder, new), tokens) == logits(FamilyTests.hugging("granitemoe"), tokens))
    }
}
