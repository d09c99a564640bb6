import Engine
import Foundation
import ModelFiles
import Testing

/// Importance of experts' matrices and of fused ones: against sums computed here, and under the names that each file has.
@Suite struct ExpertImportanceTests {
    private func importance(_ source: any ModelSource, _ tokens: [Int32], threads: Int = 1, chunkRows: Int = 512) throws -> ImportanceSums {
        var options = LocalGenerator.Options()
        options.threads = threads
        options.chunkRows = chunkRows
        let generator = try LocalGenerator(file: source, options: options)
        let inputs = try MatrixInputs(model: generator.model, source: source)
        try generator.compute(tokens: tokens, watch: inputs)
        return inputs.importance()
    }

    /// Attention gives nothing, so that the first layer's experts are given the normed embeddings.
    private func model(_ architecture: ModelConfiguration.Architecture, _ type: TensorType = .f32) throws -> TinyModel {
        var options = TinyModel.Options()
        options.seed = 12
        options.layers = 2
        options.architecture = architecture
        options.experts = .init(count: 7, used: 2, router: architecture == .llama ? .softmaxOfAll : .softmaxOfChosen)
        options.edit = { name, floats in
            if name == "blk.0.attn_output.weight" { floats = floats.map { _ in 0 } }
        }
        return try TinyModel(type, options)
    }

    /// Of the first layer's gates (and ups) and downs, in double.
    private func expected(_ tiny: TinyModel, _ tokens: [Int32]) throws -> (gates: ImportanceSums.Entry, downs: ImportanceSums.Entry) {
        let (hidden, inner) = (tiny.configuration.hidden, tiny.configuration.feedForward)
        func floats(_ name: String) throws -> [Double] { try #require(tiny.file.tensor(name)).dequantized().map(Double.init) }
        let embedding = try floats("token_embd.weight"), norm = try floats("blk.0.ffn_norm.weight"), router = try floats("blk.0.ffn_gate_inp.weight")
        let gate = try floats("blk.0.ffn_gate_exps.weight"), up = try floats("blk.0.ffn_up_exps.weight")
        var gates = ImportanceSums.Entry(columns: hidden, matrices: 7), downs = ImportanceSums.Entry(columns: inner, matrices: 7)
        func product(_ matrix: [Double], _ row: Int, _ x: [Double]) -> Double { (0..<hidden).reduce(0) { $0 + matrix[row * hidden + $1] * x[$1] } }
        for token in tokens {
            let row = embedding[(Int(token) * hidden)..<((Int(token) + 1) * hidden)]
            let scale = 1 / (row.reduce(0) { $0 + $1 * $1 } / Double(hidden) + Double(tiny.configuration.normEpsilon)).squareRoot()
            let x = zip(row, norm).map { $0 * scale * $1 }
            for expert in (0..<7).sorted(by: { product(router, $0, x) > product(router, $1, x) }).prefix(2) {
                gates.counts[expert] += 1
                downs.counts[expert] += 1
                for column in 0..<hidden { gates.sums[expert * hidden + column] += x[column] * x[column] }
                for column in 0..<inner {
                    let g = product(gate, expert * inner + column, x)
                    downs.sums[expert * inner + column] += pow(g / (1 + exp(-g)) * product(up, expert * inner + column, x), 2)
                }
            }
        }
        return (gates, downs)
    }

    private func isClose(_ found: ImportanceSums.Entry?, _ expected: ImportanceSums.Entry) throws -> Bool {
        let found = try #require(found)
        let largest = expected.sums.max()!
        return found.counts == expected.counts && zip(found.sums, expected.sums).allSatisfy { abs($0 - $1) <= 1e-4 * $1 + 1e-6 * largest }
    }

    @Test(arguments: [ModelConfiguration.Architecture.llama, .granitemoe]) func expertsSeeTheRowsThatChoseThem(
        architecture: ModelConfiguration.Architecture
    ) throws {
        let tiny = try model(architecture)
        let tokens = tiny.tokens(45, seed: 2)
        let sums = try importance(tiny.file, tokens)
        let (gates, downs) = try expected(tiny, tokens)
        #expect(gates.counts.reduce(0, +) == 90 && Set(gates.counts).count > 2)
        #expect(try isClose(sums.entries["blk.0.ffn_gate_exps.weight"], gates))
        #expect(try isClose(sums.entries["blk.0.ffn_up_exps.weight"], gates))
        #expect(try isClose(sums.entries["blk.0.ffn_down_exps.weight"], downs))
        #expect(sums.entries["blk.1.ffn_down_exps.weight"]?.counts.reduce(0, +) == 90)
        #expect(sums.entries["blk.0.ffn_gate_inp.weight"] == nil)
        #expect(sums.experts == 14)
        for (threads, rows) in [(3, 512), (1, 1), (2, 7)] {
            let others = try importance(tiny.file, tokens, threads: threads, chunkRows: rows)
            for (name, entry) in sums.entries { #expect(others.entries[name]?.sums == entry.sums && others.entries[name]?.counts == entry.counts) }
        }
    }

    /// Files of older converters have a tensor for each expert; the sums are those of a stack.
    @Test func expertsOneByOne() throws {
        let tiny = try model(.llama)
        var writer = GGUFWriter(metadata: tiny.file.metadata)
        for tensor in tiny.file.tensors {
            guard tensor.name.hasSuffix("_exps.weight") else {
                writer.add(tensor.name, shape: tensor.shape, floats: tensor.dequantized())
                continue
            }
            let all = tensor.dequantized(), size = tensor.shape[0] * tensor.shape[1]
            for expert in 0..<7 {
                let name = tensor.name.replacingOccurrences(of: "_exps.", with: ".\(expert).")
                writer.add(name, shape: Array(tensor.shape.prefix(2)), floats: Array(all[expert * size..<(expert + 1) * size]))
            }
        }
        let single = try GGUFFile(parts: [try writer.bytes()])
        let tokens = tiny.tokens(30, seed: 5)
        let sums = try importance(tiny.file, tokens), others = try importance(single, tokens)
        #expect(others.entries.keys.sorted() == sums.entries.keys.sorted() && others.experts == 14)
        for (name, entry) in sums.entries { #expect(others.entries[name]?.sums == entry.sums && others.entries[name]?.counts == entry.counts) }
        // And weighed by it they become what they become as a stack.
        let folder = try TemporaryFolder()
        try sums.write(to: folder.file("i.gguf"), dataset: "t", chunks: 1, chunkTokens: 30)
        let matrix = try ImportanceMatrix(path: folder.file("i.gguf"))
        let recipe = ConversionRecipe(.all(.q4_0))
        let stacked = try GGUFFile(parts: [ModelConversion.bytes(of: tiny.file, as: recipe, importance: matrix)])
        let parted = try GGUFFile(parts: [ModelConversion.bytes(of: single, as: recipe, importance: matrix)])
        for kind in ["gate", "up", "down"] {
            let whole = try #require(stacked.tensor("blk.1.ffn_\(kind)_exps.weight"))
            let parts = try (0..<7).map { Array(try #require(parted.tensor("blk.1.ffn_\(kind).\($0).weight")).bytes) }
            #expect(parts.flatMap { $0 } == Array(whole.bytes))
        }
    }

    /// Two tokens choose four experts at most: the others are weighed evenly, which is as if nothing were known of them.
    @Test func expertsThatNobodyChoseAreQuantisedAsWithoutImportance() throws {
        let folder = try TemporaryFolder()
        let tiny = try model(.llama)
        let sums = try importance(tiny.file, tiny.tokens(2, seed: 9))
        #expect(sums.idleExperts >= 2 * 3)
        try sums.write(to: folder.file("i.gguf"), dataset: "t", chunks: 1, chunkTokens: 2)
        let matrix = try ImportanceMatrix(path: folder.file("i.gguf"))
        // IQ4_NL's rule without weights is that of equal weights.
        let recipe = ConversionRecipe(.all(.iq4_NL))
        let plain = try GGUFFile(parts: [ModelConversion.bytes(of: tiny.file, as: recipe)])
        let weighed = try GGUFFile(parts: [ModelConversion.bytes(of: tiny.file, as: recipe, importance: matrix, threads: 2)])
        for kind in ["gate", "up", "down"] {
            let name = "blk.0.ffn_\(kind)_exps.weight"
            let (one, other) = (try #require(plain.tensor(name)), try #require(weighed.tensor(name)))
            let size = one.byteCount / 7
            for (expert, count) in try #require(sums.entries[name]).counts.enumerated() {
                let range = expert * size..<(expert + 1) * size
                let isSame = Array(one.bytes[range]) == Array(other.bytes[range])
                #expect(isSame == (count == 0), "\(name), expert \(expert), chosen by \(count)")
            }
        }
    }

    /// Every family, from a file and from a folder: each matrix of the layers that may be quantised has sums of its shape, under its own name,
    /// and where both have a matrix the sums are equal.
    @Test(arguments: FamilyTests.names) func everyMatrixOfALayerIsWeighed(name: String) throws {
        let tokens = try FamilyTests.Golden(name).tokens
        let sources = [try FamilyTests.gguf(name), try FamilyTests.hugging(name)]
        var found: [ImportanceSums] = []
        for source in sources {
            let sums = try importance(source, tokens)
            let wanted = ((source as? HFModel)?.roles ?? source.tensors).filter { $0.shape.count > 1 && QuantisationMix.isLayerMatrix($0.name) }
            #expect(Set(sums.entries.keys) == Set(wanted.map { ImportanceMatrix.stack(ofExpert: $0.name)?.name ?? $0.name }))
            let experts = try ModelConfiguration(source: source).experts?.count ?? 1
            for tensor in wanted {
                let isExpert = ImportanceMatrix.stack(ofExpert: tensor.name) != nil || tensor.shape.count > 2
                let entry = try #require(sums.entries[ImportanceMatrix.stack(ofExpert: tensor.name)?.name ?? tensor.name])
                #expect(entry.columns == tensor.columns && entry.counts.count == (isExpert ? experts : 1), "\(tensor.name)")
                #expect(entry.sums.count == entry.counts.count * tensor.columns, "\(tensor.name)")
            }
            found.append(sums)
        }
        for (name, entry) in found[0].entries {
            if let other = found[1].entries[name] { #expect(other.sums == entry.sums && other.counts == entry.counts, "\(name)") }
        }
    }
}
