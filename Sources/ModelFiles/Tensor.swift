import CKernels

/// One tensor of a model file: where its bytes lie and what they mean. A value that keeps its file mapped.
package struct Tensor: Sendable {
    package let name: String
    package let type: TensorType
    /// GGUF order, whatever the file: `shape[0]` is the number of columns, whose elements lie side by side; 1 to 4 entries, none zero.
    package let shape: [Int]
    /// Which part of the model holds the bytes (0 for a file that is not split).
    package let part: Int
    /// Where the bytes begin in that part.
    package let fileOffset: Int
    let storage: FileBytes

    /// Elements of a row; a whole number of blocks.
    package var columns: Int { shape[0] }

    /// The product of all other dimensions.
    package var rows: Int { shape.dropFirst().reduce(1, *) }

    package var elementCount: Int { rows * columns }

    package var rowBytes: Int { type.rowBytes(columns: columns) }

    package var byteCount: Int { rows * rowBytes }

    /// The tensor's bytes in the file, row after row. Valid while this value, or the file it came from, is alive;
    /// hold one of the two for as long as the pointer is used.
    package var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: storage.bytes[fileOffset..<(fileOffset + byteCount)])
    }

    /// Copies some of the tensor's bytes into all of `buffer`; unlike `bytes` it leaves no page of the file in this process.
    package func read(_ range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer) throws(ModelFileError) {
        precondition(range.lowerBound >= 0 && range.upperBound <= byteCount && buffer.count == range.count, "bytes \(range) of '\(name)'")
        try storage.read(at: fileOffset + range.lowerBound, into: buffer)
    }

    /// Lets the system fetch bytes that `read` will ask for soon.
    package func willRead(_ range: Range<Int>) { storage.willRead(at: fileOffset + range.lowerBound, count: range.count) }

    /// All elements as 32-bit floats, row after row.
    package func dequantized() -> [Float] {
        [Float](unsafeUninitializedCapacity: elementCount) { buffer, count in
            dequantize(rows: 0..<rows, into: buffer)
            count = elementCount
        }
    }

    /// Some rows as 32-bit floats. `output` must hold exactly `rows.count * columns` elements.
    package func dequantize(rows wanted: Range<Int>, into output: UnsafeMutableBufferPointer<Float>) {
        precondition(wanted.lowerBound >= 0 && wanted.upperBound <= rows, "rows \(wanted) of a tensor with \(rows)")
        let elements = wanted.count * columns
        precondition(output.count >= elements, "\(output.count) floats of room for \(elements)")
        guard elements > 0 else { return }
        let source = UnsafeRawBufferPointer(rebasing: bytes[wanted.lowerBound * rowBytes..<wanted.upperBound * rowBytes])
        if type.isFloat, Int(bitPattern: source.baseAddress!) % type.blockBytes != 0 {
            // Safetensors promises no alignment.
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: source.count, alignment: 64)
            defer { copy.deallocate() }
            copy.copyMemory(from: source)
            widen(UnsafeRawBufferPointer(copy), elements, into: output)
        } else {
            widen(source, elements, into: output)
        }
        withExtendedLifetime(storage) {}
    }

    private func widen(_ source: UnsafeRawBufferPointer, _ elements: Int, into output: UnsafeMutableBufferPointer<Float>) {
        let status = sk_dequantize_row(type.rawValue, source.baseAddress!, output.baseAddress!, elements)
        precondition(status == 0, "CKernels cannot widen \(type.name)")
    }
}
