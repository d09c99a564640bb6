// Layers that were lost are computed again for positions that were computed before.

extension Stage {
    /// Bytes of rows that come with a batch of `rows` rows, and that go on from here.
    package func boundaryBytes(rows: Int, rebuild: BatchRebuild?) -> (input: Int, output: Int) {
        let bytes = rows * boundaryRowBytes
        let layers = weights.slice.layers
        let comes = !weights.slice.hasEmbedding && (rebuild?.computed.contains(layers.lowerBound) ?? true)
        let goes = !weights.slice.hasHead && (rebuild?.computed.contains(layers.upperBound) ?? true)
        return (comes ? bytes : 0, goes ? bytes : 0)
    }

    /// Of this stage's layers those that are wanted, from rows that came, that were kept, or from tokens. Where none is, its sequences go on and
    /// nothing else happens.
    func rebuild(
        _ rebuild: BatchRebuild, _ batch: StageBatch, input: UnsafeRawBufferPointer, output: UnsafeMutableRawBufferPointer
    ) throws(EngineError) {
        let rows = batch.rowCount
        let bytes = boundaryBytes(rows: rows, rebuild: rebuild)
        try check("input", bytes: input.count, wanted: bytes.input)
        try check("output", bytes: output.count, wanted: bytes.output)
        try table.apply(batch)
        makeCopies(batch)
        let layers = weights.slice.layers
        let hasInputs = rebuild.hasInputs && layers.contains(rebuild.layers.lowerBound - 1)
        let wanted = rebuild.computed.clamped(to: layers)
        guard rows > 0, hasInputs || !wanted.isEmpty else { return }
        placeSpans(batch)
        if hasInputs {
            try takeKept(batch, behind: rebuild.layers.lowerBound)
        } else if weights.slice.hasEmbedding {
            try embed(batch)
        } else {
            pass.take(input, rows: rows)
        }
        if !wanted.isEmpty {
            let first = layers.lowerBound
            try pass.layers(rows: rows, spans: batch.segments.count, wanted.lowerBound - first..<wanted.upperBound - first)
        }
        if bytes.output > 0 {
            pass.give(output, rows: rows)
            keep(UnsafeRawBufferPointer(output), of: batch)
        }
    }

    private func takeKept(_ batch: StageBatch, behind boundary: Int) throws(EngineError) {
        guard let store = stores.first(where: { $0.boundary == boundary }) else {
            throw EngineError(.badBatch, "The rows before layer \(boundary) are asked for, which this stage did not keep.")
        }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: batch.rowCount * boundaryRowBytes, alignment: 64)
        defer { buffer.deallocate() }
        var first = 0
        for segment in batch.segments {
            let rows = UnsafeMutableRawBufferPointer(
                rebasing: buffer[first * boundaryRowBytes..<(first + segment.tokens.count) * boundaryRowBytes])
            guard store.read(rows, from: segment.start, blocks: table[segment.sequence].blocks) else {
                throw EngineError(.badBatch, "Rows of sequence \(segment.sequence) are asked for that this stage did not keep.")
            }
            first += segment.tokens.count
        }
        pass.take(UnsafeRawBufferPointer(buffer), rows: batch.rowCount)
    }

    /// Rows that go on, for the day on which the stage after this one is lost.
    func keep(_ rows: UnsafeRawBufferPointer, of batch: StageBatch) {
        guard let store = stores.first(where: { $0.boundary == weights.slice.layers.upperBound }) else { return }
        var first = 0
        for segment in batch.segments {
            let end = first + segment.tokens.count
            store.keep(
                UnsafeRawBufferPointer(rebasing: rows[first * boundaryRowBytes..<end * boundaryRowBytes]), from: segment.start,
                blocks: table[segment.sequence].blocks)
            first = end
        }
    }
}
