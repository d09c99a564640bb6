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
    /// Which rows of the file these are; nil for those from `fileOffset` on, in order.
    var order: RowOrder?
    /// Where these are several tensors, one behind the other; empty for one of its own.
    var stack: [Tensor] = []

    /// Elements of a row; a whole number of blocks.
    package var columns: Int { shape[0] }

    /// The product of all other dimensions.
    package var rows: Int { shape.dropFirst().reduce(1, *) }

    package var elementCount: Int { rows * columns }

    package var rowBytes: Int { type.rowBytes(columns: columns) }

    package var byteCount: Int { rows * rowBytes }

    /// The tensor's bytes in the file, row after row; not to be asked of a view whose rows lie elsewhere (`isInOrder`). Valid while this
    /// value, or the file it came from, is alive; hold one of the two for as long as the pointer is used.
    package var bytes: UnsafeRawBufferPointer {
        precondition(isInOrder, "the rows of '\(name)' do not lie one after the other")
        return UnsafeRawBufferPointer(rebasing: storage.bytes[fileOffset..<(fileOffset + byteCount)])
    }

    /// Copies some of the tensor's bytes into all of `buffer`; unlike `bytes` it leaves no page of the file in this process.
    package func read(_ range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer) throws(ModelFileError) {
        precondition(range.lowerBound >= 0 && range.upperBound <= byteCount && buffer.count == range.count, "bytes \(range) of '\(name)'")
        guard stack.isEmpty else { return try readStack(range, into: buffer) }
        try eachRun(of: range) { (at, source) throws(ModelFileError) in
            try storage.read(at: source.lowerBound, into: UnsafeMutableRawBufferPointer(rebasing: buffer[at..<at + source.count]))
        }
    }

    /// Calls `body` with each run of the file's bytes that makes up `range` of the tensor's, in order, and where in the range it belongs.
    private func eachRun<Failure: Error>(of range: Range<Int>, _ body: (_ at: Int, _ source: Range<Int>) throws(Failure) -> Void) throws(Failure) {
        guard let order else { return try body(0, fileOffset + range.lowerBound..<fileOffset + range.upperBound) }
        var done = 0
        while done < range.count {
            let (unit, inside) = (range.lowerBound + done).quotientAndRemainder(dividingBy: orderedBytes)
            let count = min(order.run(at: unit) * orderedBytes - inside, range.count - done)
            let start = fileOffset + order.source(of: unit) * orderedBytes + inside
            try body(done, start..<start + count)
            done += count
        }
    }

    /// Lets the system fetch bytes that `read` will ask for soon.
    package func willRead(_ range: Range<Int>) {
        guard stack.isEmpty else { return }
        guard let order else { return storage.willRead(at: fileOffset + range.lowerBound, count: range.count) }
        guard !range.isEmpty else { return }
        // Rows that are asked for together lie near each other, with few others between them.
        let sources = (range.lowerBound / orderedBytes...(range.upperBound - 1) / orderedBytes).map(order.source)
        let (low, high) = (sources.min()!, sources.max()!)
        guard high - low < 4 * sources.count else { return }
        storage.willRead(at: fileOffset + low * orderedBytes, count: (high - low + 1) * orderedBytes)
    }

    /// Bytes of what an order counts: rows, of a vector elements.
    private var orderedBytes: Int { shape.count > 1 ? rowBytes : type.blockBytes }

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
        guard stack.isEmpty else { return dequantizeStack(rows: wanted, into: output) }
        let byteCount = wanted.count * rowBytes
        let isAligned = !type.isFloat || (Int(bitPattern: storage.bytes.baseAddress!) + fileOffset) % type.blockBytes == 0
        if order == nil, isAligned {
            widen(UnsafeRawBufferPointer(rebasing: bytes[wanted.lowerBound * rowBytes..<wanted.upperBound * rowBytes]), elements, into: output)
        } else {
            // Safetensors promises no alignment, and a view no order.
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 64)
            defer { copy.deallocate() }
            eachRun(of: wanted.lowerBound * rowBytes..<wanted.upperBound * rowBytes) { at, source in
                copy.baseAddress!.advanced(by: at).copyMemory(from: storage.bytes.baseAddress! + source.lowerBound, byteCount: source.count)
            }
            widen(UnsafeRawBufferPointer(copy), elements, into: output)
        }
        withExtendedLifetime(storage) {}
    }

    private func widen(_ source: UnsafeRawBufferPointer, _ elements: Int, into output: UnsafeMutableBufferPointer<Float>) {
        let status = sk_dequantize_row(type.rawValue, source.baseAddress!, output.baseAddress!, elements)
        precondition(status == 0, "CKernels cannot widen \(type.name)")
    }
}
