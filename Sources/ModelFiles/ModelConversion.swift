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

    /// Elements of a piece, or one row where that is more; bounds the memory that a conversion needs.
    private static let pieceElements = 1 << 21
    package static let threadsMax = 1024

    /// Writes `file` to `path` as one GGUF file. A tensor that has its format already is copied. Rows are shared out
    /// among `threads`; the bytes do not depend on their number.
    ///
    /// Throws where a file cannot be written, and `invalidValue` where a weight cannot be held by its format.
    package static func convert(
        _ file: GGUFFile, to recipe: ConversionRecipe, path: String, threads: Int = 1, progress: @escaping (Progress) -> Void = { _ in }
    ) throws(ModelFileError) {
        try writer(file, recipe, ConversionCrew(threads: threads), progress).write(to: path)
    }

    /// The same in memory, for small models.
    package static func bytes(of file: GGUFFile, as recipe: ConversionRecipe, threads: Int = 1) throws(ModelFileError) -> [UInt8] {
        try writer(file, recipe, ConversionCrew(threads: threads)) { _ in }.bytes()
    }

    private static func writer(
        _ file: GGUFFile, _ recipe: ConversionRecipe, _ crew: ConversionCrew, _ report: @escaping (Progress) -> Void
    ) -> GGUFWriter {
        var writer = GGUFWriter(metadata: metadata(file, recipe))
        let elements = file.tensors.reduce(0) { $0 + $1.elementCount }
        var before = 0
        for (index, tensor) in file.tensors.enumerated() {
            let type = recipe.type(of: tensor, in: file)
            let start = Progress(
                tensor: tensor.name, type: type, tensorsDone: index, tensors: file.tensors.count, elementsDone: before, elements: elements)
            before += tensor.elementCount
            writer.add(tensor.name, type: type, shape: tensor.shape) { (sink) throws(ModelFileError) in
                try write(tensor, as: type, crew, into: &sink) { rows in
                    var progress = start
                    progress.elementsDone += rows * tensor.columns
                    if rows == tensor.rows { progress.tensorsDone += 1 }
                    report(progress)
                }
            }
        }
        return writer
    }

    private static func metadata(_ file: GGUFFile, _ recipe: ConversionRecipe) -> Metadata {
        var metadata = file.metadata
        // What described the parts of a split file, and how the old weights came to be.
        for key in metadata.keys where key.hasPrefix("split.") || key.hasPrefix("quantize.") { metadata.remove(key) }
        metadata.set("general.file_type", .uint32(recipe.preset.fileType))
        metadata.remove("general.quantization_version")
        if !recipe.preset.type.isFloat { metadata.set("general.quantization_version", .uint32(2)) }
        return metadata
    }

    private static func write(
        _ tensor: Tensor, as type: TensorType, _ crew: ConversionCrew, into sink: inout ByteSink, report: (_ rowsDone: Int) -> Void
    ) throws(ModelFileError) {
        let rowsAtATime = max(1, pieceElements / tensor.columns)
        var piece = [UInt8](repeating: 0, count: min(rowsAtATime, tensor.rows) * type.rowBytes(columns: tensor.columns))
        for start in stride(from: 0, to: tensor.rows, by: rowsAtATime) {
            let rows = start..<min(start + rowsAtATime, tensor.rows)
            if tensor.type == type {
                try sink.write(tensor.bytes[(rows.lowerBound * tensor.rowBytes)..<(rows.upperBound * tensor.rowBytes)])
            } else {
                try crew.convert(tensor, rows: rows, to: type, into: &piece)
                try sink.write(piece[..<(rows.count * type.rowBytes(columns: tensor.columns))])
            }
            report(rows.upperBound)
        }
    }
}
