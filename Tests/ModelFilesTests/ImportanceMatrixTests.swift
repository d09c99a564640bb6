import ModelFiles
import Testing

/// Importance matrices: both forms of the file, and what quantising makes of them.
@Suite struct ImportanceMatrixTests {
    private func sums(_ file: GGUFFile) -> ImportanceSums {
        var random = SeededRandom(seed: 4)
        var sums = ImportanceSums()
        for tensor in file.tensors where tensor.shape.count > 1 && tensor.name.hasPrefix("blk.") {
            var entry = ImportanceSums.Entry(columns: tensor.columns)
            // A few inputs count a thousand times as much as the others.
            entry.sums = (0..<tensor.columns).map { _ in Float.random(in: 0...1, using: &random) < 0.2 ? 4_000 : 4 }
            entry.counts = [4]
            sums.entries[tensor.name] = entry
        }
        return sums
    }

    @Test func writtenSumsAreReadAsMeans() throws {
        let folder = try TemporaryFolder()
        let sums = try sums(TinyModel().file())
        try sums.write(to: folder.file("i.gguf"), dataset: "prose.txt", chunks: 3, chunkTokens: 512)
        let read = try ImportanceMatrix(path: folder.file("i.gguf"))
        #expect(read.datasets == ["prose.txt"] && read.chunkCount == 3)
        #expect(read.values.count == sums.entries.count)
        for (name, entry) in sums.entries { #expect(read.values[name] == entry.sums.map { Float($0) / 4 }) }
    }

    @Test func fusedProjectionsTakeTheInputsOfTheirParts() {
        let matrix = ImportanceMatrix(values: ["blk.1.attn_q.weight": [1, 2], "blk.1.ffn_up.weight": [3]])
        #expect(matrix.inputs(of: "blk.1.attn_qkv.weight") == [1, 2] && matrix.inputs(of: "blk.2.attn_qkv.weight") == nil)
        #expect(matrix.inputs(of: "blk.1.ffn_up.weight") == [3] && matrix.inputs(of: "blk.1.attn_k.weight") == nil)
    }

    @Test func anExpertThatNobodyAskedCountsEvenly() throws {
        let folder = try TemporaryFolder()
        var sums = ImportanceSums()
        var entry = ImportanceSums.Entry(columns: 2, matrices: 2)
        entry.sums = [6, 8, 0, 0]
        entry.counts = [2, 0]
        sums.entries["blk.0.ffn_down_exps.weight"] = entry
        try sums.write(to: folder.file("i.gguf"), dataset: "t", chunks: 1, chunkTokens: 8)
        #expect(try ImportanceMatrix(path: folder.file("i.gguf")).values["blk.0.ffn_down_exps.weight"] == [3, 4, 1, 1])
    }

    private func legacy(_ entries: [(String, Int32, [Float])], tail: [UInt8] = []) -> [UInt8] {
        var bytes = little(Int32(entries.count))
        for (name, calls, values) in entries {
            bytes += little(Int32(name.utf8.count)) + Array(name.utf8) + little(calls) + little(Int32(values.count))
            for value in values { bytes += little(value.bitPattern) }
        }
        return bytes + tail
    }

    private func little(_ number: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: number.littleEndian, Array.init) }

    @Test func theOlderForm() throws {
        let folder = try TemporaryFolder()
        let entries: [(String, Int32, [Float])] = [("blk.0.attn_q.weight", 4, [4, 8, 12]), ("blk.0.ffn_down.weight", 1, [1, 2])]
        try folder.write(legacy(entries), to: "plain.dat")
        let plain = try ImportanceMatrix(path: folder.file("plain.dat"))
        #expect(plain.values == ["blk.0.attn_q.weight": [1, 2, 3], "blk.0.ffn_down.weight": [1, 2]])
        try folder.write(legacy(entries, tail: little(Int32(7)) + little(Int32(4)) + Array("wiki".utf8)), to: "named.dat")
        let named = try ImportanceMatrix(path: folder.file("named.dat"))
        #expect(named.chunkCount == 7 && named.datasets == ["wiki"])
    }

    @Test func whatIsNoImportanceMatrixIsAnError() throws {
        let folder = try TemporaryFolder()
        let entry: [(String, Int32, [Float])] = [("blk.0.attn_q.weight", 4, [4, 8, 12])]
        var files: [String: [UInt8]] = ["empty": [], "count": little(Int32(-1)), "text": Array("hello, this is no matrix".utf8)]
        files["cut"] = Array(legacy(entry).dropLast(3))
        files["negative"] = legacy([("a", 1, [1, -1])])
        files["nan"] = legacy([("a", 1, [.nan])])
        files["model"] = try TinyModel().bytes()
        for (name, bytes) in files {
            try folder.write(bytes, to: name)
            #expect(throws: ModelFileError.self, "\(name)") { try ImportanceMatrix(path: folder.file(name)) }
        }
        // Damage anywhere gives an error or other numbers, never a trap.
        let whole = legacy(entry, tail: little(Int32(7)) + little(Int32(4)) + Array("wiki".utf8))
        for index in whole.indices {
            for bit in 0..<8 {
                var damaged = whole
                damaged[index] ^= 1 << bit
                try folder.write(damaged, to: "damaged")
                _ = try? ImportanceMatrix(path: folder.file("damaged"))
            }
        }
    }

    /// The weighted error must fall, and where nothing is weighed nothing may change.
    @Test(arguments: [TensorType.q4_0, .q4_1, .q5_0, .q5_1, .iq4_NL])
    func weighedErrorsAreSmaller(type: TensorType) throws {
        let folder = try TemporaryFolder()
        let file = try GGUFFile(parts: [ModelConversion.bytes(of: TinyModel(tied: false).file(), as: .f32)])
        try sums(file).write(to: folder.file("i.gguf"), dataset: "t", chunks: 1, chunkTokens: 4)
        let importance = try ImportanceMatrix(path: folder.file("i.gguf"))
        let recipe = ConversionRecipe(.all(type))
        let plain = try GGUFFile(parts: [ModelConversion.bytes(of: file, as: recipe)])
        let weighed = try GGUFFile(parts: [ModelConversion.bytes(of: file, as: recipe, importance: importance, threads: 3)])
        #expect(try weighed.metadata.string("quantize.imatrix.dataset") == "t")
        #expect(try weighed.metadata.int("quantize.imatrix.entries_count") == importance.values.count)
        var errors = (plain: 0.0, weighed: 0.0)
        for (index, tensor) in file.tensors.enumerated() where tensor.shape.count > 1 {
            guard let weights = importance.values[tensor.name] else {
                #expect(Array(plain.tensors[index].bytes) == Array(weighed.tensors[index].bytes))
                continue
            }
            let exact = tensor.dequantized()
            errors.plain += error(exact, plain.tensors[index].dequantized(), weights)
            errors.weighed += error(exact, weighed.tensors[index].dequantized(), weights)
        }
        #expect(errors.weighed < 0.9 * errors.plain)
    }

    private func error(_ exact: [Float], _ found: [Float], _ weights: [Float]) -> Double {
        exact.indices.reduce(0) { sum, index in
            let difference = Double(exact[index] - found[index])
            return sum + Double(weights[index % weights.count]) * difference * difference
        }
    }

    @Test func anotherModelsMatrixIsRefused() throws {
        let file = try TinyModel().file()
        for values in [["blk.0.attn_q.weight": [Float](repeating: 1, count: 31)], ["other.weight": [1]]] {
            let error = #expect(throws: ModelFileError.self) {
                _ = try ModelConversion.bytes(of: file, as: .f32, importance: ImportanceMatrix(values: values))
            }
            #expect(error?.code == .wrongTensor)
        }
    }

    @Test func aModelIsNotWrittenOverItself() throws {
        let folder = try TemporaryFolder()
        let bytes = try TinyModel().bytes()
        try folder.write(bytes, to: "model.gguf")
        let file = try GGUFFile(path: folder.file("model.gguf"))
        let error = #expect(throws: ModelFileError.self) { try ModelConversion.convert(file, to: .f32, path: folder.path + "/./model.gguf") }
        #expect(error?.code == .contradiction)
        #expect(folder.names == ["model.gguf"])
    }
}
