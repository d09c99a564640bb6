import CKernels

/// Looks tokens up in an embedding that stays on the disk: reads the chunk or two in which a token's row lies.
///
/// `@unchecked Sendable` because only the thread that runs the stage uses it, as it does with all of a stage's working memory.
final class EmbeddingRows: @unchecked Sendable {
    private let source: StreamedFile
    private let place: WeightLayout.MatrixPlace
    private let memory: AlignedMemory
    private let window: UnsafeMutableRawPointer
    /// Chunks that are in the window.
    private var held = 0..<0

    /// - Parameter window: `windowBytes(place)` bytes of `memory`, from a page on.
    init(_ source: StreamedFile, _ place: WeightLayout.MatrixPlace, window: UnsafeMutableRawPointer, of memory: AlignedMemory) {
        self.source = source
        self.place = place
        self.window = window
        self.memory = memory
    }

    /// Memory for the chunks that rows which are packed together may lie in.
    static func windowBytes(_ place: WeightLayout.MatrixPlace) -> Int {
        let group = place.offset(ofRow: Int(SK_ROW_GROUP)) - place.offset
        let chunks = (group + PackedTable.chunkBytes - 1) / PackedTable.chunkBytes + 1
        return min(chunks * PackedTable.chunkBytes, WeightResidency.pages(place.offset + place.packedBytes))
    }

    /// out: f32[columns]. Throws `weightsLost`.
    func look(up token: Int32, to out: UnsafeMutablePointer<Float>) throws(EngineError) {
        let group = Int(SK_ROW_GROUP)
        let first = Int(token) / group * group
        precondition((0..<place.rows).contains(Int(token)), "a token of the vocabulary")
        let bytes = place.offset(ofRow: first)..<(first + group >= place.rows ? place.offset + place.packedBytes : place.offset(ofRow: first + group))
        let chunks = bytes.lowerBound / PackedTable.chunkBytes..<(bytes.upperBound - 1) / PackedTable.chunkBytes + 1
        if held.lowerBound > chunks.lowerBound || held.upperBound < chunks.upperBound {
            held = 0..<0
            try source.read(chunks, to: window)
            held = chunks
        }
        let packed = window + (bytes.lowerBound - held.lowerBound * PackedTable.chunkBytes)
        var rows = sk_matrix(type: place.type, rows: Int32(min(group, place.rows - first)), columns: Int32(place.columns), packed: packed)
        sk_packed_row_to_f32(&rows, token - Int32(first), out)
    }
}
