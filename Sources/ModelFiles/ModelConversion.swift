import CKernels

/// Rewrites a model in other formats, as a stream: a piece of a tensor's rows is widened, quantised and written before
/// the next is looked at.
package enum ModelConversion {
    /// Where a conversion stands; reported after each piece.
    package struct Progress: Sendable {
        /// The tensor in work, and what it becomes.
        package var tensor: String
        package var type: TensorType
        package var tensorsDone: Int
        package var tensors: Int
        /// Elements written of the whole model, and all of them.
        package var elementsDone: Int
        package var elements: Int
    }

    /// Elements of a piece, or one row where that is more. A conversion holds one piece in its new format and, for each thread, one row
    /// of the old format and one of floats: about 16 MiB and the rows, whatever the model's size.
    private static let pieceElements = 1 << 21
    package static let threadsMax = 1024

    /// Writes `file` to `path` as one GGUF file. A tensor that has its format already is copied. Rows are shared out
    /// among `threads`; the bytes do not depend on their number.
    ///
    /// - Parameter importance: weighs the errors of those matrices that it names. F32, F16 and BF16 do not look at it.
    /// - Throws: where a file cannot be read or written, `invalidValue` where a weight cannot be held by its format, `wrongTensor` where
    ///   the importance is of another model, `contradiction` where `path` is one of the model's own files.
    package static func convert(
        _ file: any ModelSource, to recipe: ConversionRecipe, importance: ImportanceMatrix? = nil, path: String, threads: Int = 1,
        progress: @escaping (Progress) -> Void = { _ in }
    ) throws(ModelFileError) {
        guard !file.paths.contains(where: { ByteSink.isSameFile($0, path) }) else {
            throw ModelFileError(.contradiction, "'\(path)' is the model that is to be converted. Give the new file another name.")
        }
        let writer = try writer(file, recipe, importance, ConversionCrew(threads: threads), progress)
        try ByteSink.checkRoom(for: writer.dataBytes, at: path)
        try writer.write(to: path)
    }

    /// The same in memory, for small models.
    package static func bytes(
        of file: any ModelSource, as recipe: ConversionRecipe, importance: ImportanceMatrix? = nil, threads: Int = 1
    ) throws(ModelFileError) -> [UInt8] {
        try writer(file, recipe, importance, ConversionCrew(threads: threads)) { _ in }.bytes()
    }

    private static func writer(
        _ file: any ModelSource, _ recipe: ConversionRecipe, _ importance: ImportanceMatrix?, _ crew: ConversionCrew,
        _ report: @escaping (Progress) -> Void
    ) throws(ModelFileError) -> GGUFWriter {
        let weights = try weights(of: file, importance)
        var writer = GGUFWriter(metadata: metadata(file, recipe, importance, weighted: weights.count))
        let elements = file.tensors.reduce(0) { $0 + $1.elementCount }
        var before = 0
        for (index, tensor) in file.tensors.enumerated() {
            let type = recipe.type(of: tensor, in: file, hasImportance: importance != nil)
            let start = Progress(
                tensor: tensor.name, type: type, tensorsDone: index, tensors: file.tensors.count, elementsDone: before, elements: elements)
            before += tensor.elementCount
            writer.add(tensor.name, type: type, shape: tensor.shape) { (sink) throws(ModelFileError) in
                try write(tensor, as: type, weights: weights[tensor.name], crew, into: &sink) { rows in
                    var progress = start
                    progress.elementsDone += rows * tensor.columns
                    if rows == tensor.rows { progress.tensorsDone += 1 }
                    report(progress)
                }
            }
        }
        return writer
    }

    /// Checked before anything is written.
    private static func weights(of file: any ModelSource, _ importance: ImportanceMatrix?) throws(ModelFileError) -> [String: [Float]] {
        guard let importance else { return [:] }
        var weights: [String: [Float]] = [:]
        for tensor in file.tensors where tensor.shape.count > 1 { weights[tensor.name] = try importance.weights(for: tensor) }
        guard !weights.isEmpty else {
            throw ModelFileError(
                .wrongTensor, "The importance matrix names none of the model's matrices. It was made from another model; make one with 'staffel imatrix' from this one.")
        }
        return weights
    }

    /// What a converted model says of itself.
    static func metadata(
        _ file: any ModelSource, _ recipe: ConversionRecipe, _ importance: ImportanceMatrix?, weighted: Int
    ) -> Metadata {
        var metadata = file.metadata
        // What described the parts of a split file, and how the old weights came to be.
        for key in metadata.keys where key.hasPrefix("split.") || key.hasPrefix("quantize.") { metadata.remove(key) }
        metadata.set("general.file_type", .uint32(recipe.preset.fileType))
        metadata.remove("general.quantization_version")
        if !recipe.preset.type.isFloat { metadata.set("general.quantization_version", .uint32(2)) }
        // So that the digest of what is made tells from which model, whatever else the two headers have in common.
        metadata.set("quantize.source.digest", .string(ModelDigest(file).hexadecimal))
        if let importance {
            // Keys that other programs write and show.
            if let dataset = importance.datasets.first { metadata.set("quantize.imatrix.dataset", .string(dataset)) }
            metadata.set("quantize.imatrix.entries_count", .uint32(UInt32(weighted)))
            metadata.set("quantize.imatrix.chunks_count", .uint32(UInt32(clamping: importance.chunkCount)))
        }
        return metadata
    }

    private static func write(
        _ tensor: Tensor, as type: TensorType, weights: [Float]?, _ crew: ConversionCrew, into sink: inout ByteSink,
        report: (_ rowsDone: Int) -> Void
    ) throws(ModelFileError) {
        let rowsAtATime = max(1, pieceElements / tensor.columns), rowBytes = type.rowBytes(columns: tensor.columns)
        var piece = [UInt8](repeating: 0, count: min(rowsAtATime, tensor.rows) * rowBytes)
        for start in stride(from: 0, to: tensor.rows, by: rowsAtATime) {
            let rows = start..<min(start + rowsAtATime, tensor.rows)
            let bytes = rows.count * rowBytes
            if tensor.type == type {
                try copy(tensor, (rows.lowerBound * rowBytes)..<(rows.upperBound * rowBytes), into: &piece)
            } else {
                try crew.convert(tensor, rows: rows, to: type, weights: weights, into: &piece)
            }
            try sink.write(piece[..<bytes])
            report(rows.upperBound)
        }
    }

    private static func copy(_ tensor: Tensor, _ range: Range<Int>, into piece: inout [UInt8]) throws(ModelFileError) {
        let failure: ModelFileError? = piece.withUnsafeMutableBytes { buffer in
            do throws(ModelFileError) {
                try tensor.read(range, into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<range.count]))
                return nil
            } catch {
                return error
            }
        }
        if let failure { throw failure }
    }
}
