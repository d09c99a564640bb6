/// How much each input of each matrix matters: the mean square of what a text brought there. A quantiser that weighs its errors by it keeps
/// what the model uses.
///
/// Written as GGUF (`general.type` = "imatrix"): for each matrix two F32 tensors, NAME.in_sum2 of [columns, matrices] with the sums of
/// squares and NAME.counts of [1, matrices] with the number of rows that were added. Read in that form, and in the older one that other
/// programs call .dat: a count, then for each matrix its name, a number of calls, a number of values and the values times the calls.
package struct ImportanceMatrix: Sendable {
    /// Of one tensor: mean squares, columns of the first matrix, then of the second, … An expert that no row reached has ones.
    package private(set) var values: [String: [Float]] = [:]
    /// Names of the texts it was made from.
    package private(set) var datasets: [String] = []
    /// Pieces of text that were evaluated.
    package private(set) var chunkCount = 0

    static let sumSuffix = ".in_sum2"
    static let countSuffix = ".counts"

    package init(values: [String: [Float]] = [:]) { self.values = values }

    /// Reads either form.
    package init(path: String) throws(ModelFileError) {
        let file = try FileBytes(mapping: path)
        if file.bytes.count >= 4, file.bytes.prefix(4).elementsEqual("GGUF".utf8) {
            try self.init(file: GGUFFile(path: path), path: path)
        } else {
            try self.init(legacy: file)
        }
        guard !values.isEmpty else {
            throw ModelFileError(.invalidValue, "The importance matrix '\(path)' holds no matrix. Make it anew with 'staffel imatrix'.")
        }
        for (name, numbers) in values.sorted(by: { $0.key < $1.key }) {
            guard let wrong = numbers.first(where: { !($0 >= 0 && $0.isFinite) }) else { continue }
            throw ModelFileError(
                .invalidValue, "The importance matrix '\(path)' holds \(wrong) for '\(name)', which is no mean square. Make it anew with 'staffel imatrix'.")
        }
    }

    // MARK: GGUF

    private init(file: GGUFFile, path: String) throws(ModelFileError) {
        datasets = try file.metadata.strings("imatrix.datasets") ?? []
        chunkCount = try file.metadata.int("imatrix.chunk_count") ?? 0
        for sums in file.tensors where sums.name.hasSuffix(Self.sumSuffix) {
            let name = String(sums.name.dropLast(Self.sumSuffix.count))
            guard let counts = file.tensor(name + Self.countSuffix), sums.type == .f32, counts.type == .f32, counts.elementCount == sums.rows else {
                throw ModelFileError(
                    .wrongTensor,
                    "The importance matrix '\(path)' lacks '\(name)\(Self.countSuffix)' in F32 with \(sums.rows) numbers. The file is damaged or no importance matrix; make it anew with 'staffel imatrix'."
                )
            }
            var means = sums.dequantized()
            for (matrix, count) in counts.dequantized().enumerated() {
                for column in 0..<sums.columns {
                    let index = matrix * sums.columns + column
                    means[index] = count > 0 ? means[index] / count : 1
                }
            }
            values[name] = means
        }
    }

    // MARK: The older form

    private init(legacy file: FileBytes) throws(ModelFileError) {
        var reader = ByteReader(bytes: file.bytes, name: file.name)
        func wrong(_ what: String) -> ModelFileError {
            ModelFileError(
                .invalidValue,
                "'\(file.name)' is no importance matrix: \(what). Give a file that 'staffel imatrix' wrote, or one in GGUF or .dat form from elsewhere.")
        }
        let count = Int(try reader.integer("the number of matrices", as: Int32.self))
        guard (1...ModelFileLimits.tensorsMax).contains(count) else { throw wrong("it begins with neither 'GGUF' nor a number of matrices") }
        for _ in 0..<count {
            let length = Int(try reader.integer("the length of a name", as: Int32.self))
            guard (1...ModelFileLimits.tensorNameBytesMax).contains(length), length <= reader.remaining else {
                throw wrong("a name has \(length) bytes")
            }
            let name = String(decoding: reader.numbers(UInt8.self, count: length), as: UTF8.self)
            let calls = Int(try reader.integer("the calls of '\(name)'", as: Int32.self))
            let size = Int(try reader.integer("the size of '\(name)'", as: Int32.self))
            guard calls >= 0, size > 0, size <= reader.remaining / 4 else { throw wrong("'\(name)' has \(size) values of \(calls) calls") }
            let scale = Float(max(1, calls))
            values[name] = reader.numbers(Float.self, count: size).map { $0 / scale }
        }
        guard reader.remaining >= 8 else { return }
        chunkCount = max(0, Int(try reader.integer("the number of chunks", as: Int32.self)))
        let length = Int(try reader.integer("the length of the text's name", as: Int32.self))
        guard length > 0, length <= reader.remaining else { return }
        datasets = [String(decoding: reader.numbers(UInt8.self, count: length), as: UTF8.self)]
    }

    // MARK: Use

    /// Whether it says anything of a tensor: under its own name, of one expert's matrix under that of all experts stacked, of fused ones under that
    /// of the first.
    package func covers(_ tensor: Tensor) -> Bool {
        inputs(of: tensor.name) != nil || Self.stack(ofExpert: tensor.name).map { values[$0.name] != nil } ?? false
    }

    /// What is said of a tensor's inputs: queries, keys and values that are one tensor take what queries alone do.
    package func inputs(of name: String) -> [Float]? {
        let fused = ".attn_qkv.weight"
        return values[name] ?? (name.hasSuffix(fused) ? values[name.dropLast(fused.count) + ".attn_q.weight"] : nil)
    }

    /// The weights of a tensor's matrices, or nil where there are none for it. Throws when their number fits no tensor of this shape.
    func weights(for tensor: Tensor) throws(ModelFileError) -> [Float]? {
        let matrices = tensor.shape.count > 2 ? tensor.shape[2] : 1
        if let found = inputs(of: tensor.name) {
            guard found.count == tensor.columns * matrices else { throw Self.misfit(found.count, tensor, matrices) }
            return found
        }
        guard let (name, expert) = Self.stack(ofExpert: tensor.name), let found = values[name] else { return nil }
        guard matrices == 1, found.count % tensor.columns == 0, expert < found.count / tensor.columns else {
            throw Self.misfit(found.count, tensor, matrices)
        }
        return Array(found[expert * tensor.columns..<(expert + 1) * tensor.columns])
    }

    /// Older files keep experts one by one: "blk.0.ffn_up.3.weight" is number 3 of "blk.0.ffn_up_exps.weight". Nil for other names.
    package static func stack(ofExpert name: String) -> (name: String, expert: Int)? {
        let words = name.split(separator: ".", omittingEmptySubsequences: false)
        guard words.count == 5, words[2].hasPrefix("ffn_"), words[4] == "weight", let expert = Int(words[3]), expert >= 0 else { return nil }
        return ("\(words[0]).\(words[1]).\(words[2])_exps.weight", expert)
    }

    private static func misfit(_ count: Int, _ tensor: Tensor, _ matrices: Int) -> ModelFileError {
        ModelFileError(
            .wrongTensor,
            "The importance matrix has \(count) numbers for '\(tensor.name)', whose \(matrices) matrices have \(tensor.columns) columns. It was made from another model; make one with 'staffel imatrix' from this one."
        )
    }
}

/// Sums of squares as they grow, in the order in which rows are added, and the file made of them.
package struct ImportanceSums: Sendable {
    /// Of one tensor.
    package struct Entry: Sendable {
        package var columns: Int
        /// [matrices][columns]
        package var sums: [Double]
        /// Rows added, by matrix.
        package var counts: [Int]

        package init(columns: Int, matrices: Int = 1) {
            self.columns = columns
            sums = [Double](repeating: 0, count: columns * matrices)
            counts = [Int](repeating: 0, count: matrices)
        }
    }

    package var entries: [String: Entry] = [:]

    package init() {}

    /// Experts of all layers; 0 for a model without.
    package var experts: Int { rowsByExpert.count }
    /// Those that no row chose.
    package var idleExperts: Int { rowsByExpert.count(where: { $0 == 0 }) }

    private var rowsByExpert: [Int] { entries.filter { $0.key.hasSuffix(".ffn_down_exps.weight") }.flatMap(\.value.counts) }

    /// Writes the GGUF form at `path`: tensors in the order of their names, so that equal sums are equal bytes.
    ///
    /// - Parameters:
    ///   - dataset: what the text is called.
    ///   - chunks: pieces of `chunkTokens` tokens that were evaluated.
    package func write(to path: String, dataset: String, chunks: Int, chunkTokens: Int) throws(ModelFileError) {
        try writer(dataset: dataset, chunks: chunks, chunkTokens: chunkTokens).write(to: path)
    }

    /// The same in memory.
    package func bytes(dataset: String, chunks: Int, chunkTokens: Int) throws(ModelFileError) -> [UInt8] {
        try writer(dataset: dataset, chunks: chunks, chunkTokens: chunkTokens).bytes()
    }

    private func writer(dataset: String, chunks: Int, chunkTokens: Int) -> GGUFWriter {
        var metadata = Metadata()
        metadata.set("general.type", .string("imatrix"))
        metadata.set("imatrix.datasets", .array(.string(StringArray([dataset]))))
        metadata.set("imatrix.chunk_count", .uint32(UInt32(chunks)))
        metadata.set("imatrix.chunk_size", .uint32(UInt32(chunkTokens)))
        var writer = GGUFWriter(metadata: metadata)
        for (name, entry) in entries.sorted(by: { $0.key < $1.key }) {
            let matrices = entry.counts.count
            writer.add(name + ImportanceMatrix.sumSuffix, shape: [entry.columns, matrices], floats: entry.sums.map(Float.init))
            writer.add(name + ImportanceMatrix.countSuffix, shape: [1, matrices], floats: entry.counts.map(Float.init))
        }
        return writer
    }
}
