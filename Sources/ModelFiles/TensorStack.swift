// Tensors that no file holds: several that are one, and small ones from memory. A model that is written has them.

extension Tensor {
    /// Matrices of one shape and type as one tensor, one behind the other: a model's experts.
    init(stacking pieces: [Tensor], name: String) {
        precondition(!pieces.isEmpty && pieces.allSatisfy { $0.type == pieces[0].type && $0.shape == pieces[0].shape }, "no stack of '\(name)'")
        let first = pieces[0]
        self.init(
            name: name, type: first.type, shape: first.shape + [pieces.count], part: first.part, fileOffset: first.fileOffset, storage: first.storage)
        stack = pieces
    }

    /// A vector of F32 in memory.
    init(name: String, floats: [Float]) {
        let bytes = floats.flatMap { float in withUnsafeBytes(of: float.bitPattern.littleEndian) { Array($0) } }
        self.init(name: name, type: .f32, shape: [floats.count], part: 0, fileOffset: 0, storage: FileBytes(copying: bytes, name: name))
    }

    /// Calls `body` with each piece that has some of `units`, of which each piece has `count`: its own ones, and which of all they are.
    private func eachPiece<Failure: Error>(
        of units: Range<Int>, count: Int, _ body: (_ piece: Tensor, _ own: Range<Int>, _ at: Range<Int>) throws(Failure) -> Void
    ) throws(Failure) {
        var start = units.lowerBound
        while start < units.upperBound {
            let (piece, inside) = start.quotientAndRemainder(dividingBy: count)
            let taken = min(count - inside, units.upperBound - start)
            try body(stack[piece], inside..<inside + taken, start - units.lowerBound..<start - units.lowerBound + taken)
            start += taken
        }
    }

    func readStack(_ range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer) throws(ModelFileError) {
        try eachPiece(of: range, count: stack[0].byteCount) { (piece, own, at) throws(ModelFileError) in
            try piece.read(own, into: UnsafeMutableRawBufferPointer(rebasing: buffer[at]))
        }
    }

    func dequantizeStack(rows: Range<Int>, into output: UnsafeMutableBufferPointer<Float>) {
        eachPiece(of: rows, count: stack[0].rows) { piece, own, at in
            piece.dequantize(rows: own, into: UnsafeMutableBufferPointer(rebasing: output[at.lowerBound * columns..<at.upperBound * columns]))
        }
    }
}
