/// Rewrites a model with float weights: the same model with every block widened, for tests against float references and
/// for machines where memory is no matter.
package enum ModelConversion {
    /// What the matrices become. Vectors (norms, biases, RoPE divisors) always become F32.
    package enum Target: Sendable {
        case f32
        /// Rounded to nearest even; a weight beyond the largest half is an error.
        case f16
        /// Rounded to nearest even.
        case bf16

        var type: TensorType {
            switch self {
            case .f32: .f32
            case .f16: .f16
            case .bf16: .bf16
            }
        }

        /// The value of `general.file_type`.
        var fileType: UInt32 {
            switch self {
            case .f32: 0
            case .f16: 1
            case .bf16: 32
            }
        }
    }

    /// Elements widened at a time; bounds the memory that a conversion needs.
    private static let chunkElements = 1 << 20

    /// Writes `file` to `path` as one GGUF file with float weights.
    package static func convert(_ file: GGUFFile, to target: Target, path: String) throws(ModelFileError) {
        try writer(file, to: target).write(to: path)
    }

    /// The same in memory, for small models.
    package static func bytes(of file: GGUFFile, as target: Target) throws(ModelFileError) -> [UInt8] {
        try writer(file, to: target).bytes()
    }

    private static func writer(_ file: GGUFFile, to target: Target) -> GGUFWriter {
        var metadata = file.metadata
        for key in ["split.no", "split.count", "split.tensors.count", "general.quantization_version"] {
            metadata.remove(key)
        }
        metadata.set("general.file_type", .uint32(target.fileType))
        var writer = GGUFWriter(metadata: metadata)
        for tensor in file.tensors {
            let type = tensor.shape.count == 1 ? .f32 : target.type
            writer.add(tensor.name, type: type, shape: tensor.shape) { (sink) throws(ModelFileError) in
                try write(tensor, as: type, into: &sink)
            }
        }
        return writer
    }

    private static func write(
        _ tensor: Tensor, as type: TensorType, into sink: inout ByteSink
    ) throws(ModelFileError) {
        let rowsAtATime = max(1, chunkElements / tensor.columns)
        var floats = [Float](repeating: 0, count: min(rowsAtATime, tensor.rows) * tensor.columns)
        for start in stride(from: 0, to: tensor.rows, by: rowsAtATime) {
            let rows = start..<min(start + rowsAtATime, tensor.rows)
            floats.withUnsafeMutableBufferPointer { tensor.dequantize(rows: rows, into: $0) }
            try write(floats[..<(rows.count * tensor.columns)], of: tensor.name, as: type, into: &sink)
        }
    }

    private static func write(
        _ floats: ArraySlice<Float>, of name: String, as type: TensorType, into sink: inout ByteSink
    ) throws(ModelFileError) {
        switch type {
        case .f32:
            try sink.write(floats.withUnsafeBytes { [UInt8]($0) })
        case .f16:
            let halves = floats.map { Float16($0).bitPattern }
            for (float, half) in zip(floats, halves) where float.isFinite && half & 0x7C00 == 0x7C00 {
                throw ModelFileError(
                    .invalidValue,
                    "The tensor '\(name)' holds \(float), which no half-precision number can hold. Convert to F32 or BF16.")
            }
            try sink.write(halves.withUnsafeBytes { [UInt8]($0) })
        case .bf16:
            try sink.write(floats.map(bfloat16).withUnsafeBytes { [UInt8]($0) })
        default:
            preconditionFailure("a conversion to \(type.name)")
        }
    }

    /// The upper half of a float32, rounded to nearest even; a NaN stays one.
    private static func bfloat16(_ value: Float) -> UInt16 {
        let bits = value.bitPattern
        if value.isNaN { return UInt16(bits >> 16) | 0x40 }
        return UInt16((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
    }
}
