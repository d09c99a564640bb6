import CKernels
import ModelFiles

/// The memory that a forward pass works in, made once for the largest batch. Pages that no batch reaches cost nothing.
final class Workspace {
    let rowsMax: Int
    /// Logit rows that are computed at once.
    let headRows: Int

    let hidden: UnsafeMutablePointer<Float>  // [rowsMax, hidden]: the residual stream
    let qkv: UnsafeMutablePointer<Float>  // [rowsMax, queryWidth + 2 kvWidth]
    let attended: UnsafeMutablePointer<Float>  // [rowsMax, queryWidth]
    let gateUp: UnsafeMutablePointer<Float>  // [rowsMax, 2 feedForward]; experts have theirs in the scratch
    let delta: UnsafeMutablePointer<Float>  // [rowsMax, hidden]: what a half layer adds
    let cosines: UnsafeMutablePointer<Float>  // [rowsMax, rope.dimensions / 2]: of each row's position
    let sines: UnsafeMutablePointer<Float>  // as `cosines`
    let rowNumbers: UnsafeMutablePointer<Int32>  // 0, 1, 2, …: the row of the two tables that each row takes
    let spans: UnsafeMutablePointer<sk_span>  // [rowsMax]
    let promptLengths: UnsafeMutablePointer<Int>  // [rowsMax], by span: of its sequence
    let healthy: UnsafeMutablePointer<Bool>  // [rowsMax], by segment: whether all its rows are finite
    let wishedRows: UnsafeMutablePointer<Int32>  // [headRows]: the rows whose logits are computed
    let headInput: UnsafeMutablePointer<Float>  // [2 headRows, hidden]: rows, then what quantising leaves of each
    let logits: UnsafeMutablePointer<Float>  // [2 headRows, vocabulary], likewise

    private let memory: AlignedMemory
    private var scratch: AlignedMemory

    /// Bytes of logits that are kept at once, as far as whole rows allow.
    private static let logitBytes = 64 << 20
    private static let headRowsMax = 64

    /// What `init` will ask for, but for alignment, and twice the largest activations as scratch: for plans. `head` is what the last stage needs
    /// in addition.
    static func byteCount(model: ModelConfiguration, rowsMax: Int) -> (stage: Int, head: Int) {
        let inner = model.experts == nil ? 2 * model.feedForward : 0
        let widths = 2 * model.hidden + 2 * (model.queryWidth + model.kvWidth) + inner + model.rope.dimensions
        let scratch = model.experts.map { experts in
            4 * (experts.count + 2 * model.hidden) + experts.used * (10 * model.feedForward + 6 * model.hidden)
        } ?? 2 * max(model.hidden, model.feedForward)
        return (
            rowsMax * (4 * widths + scratch),
            headRows(model: model, rowsMax: rowsMax) * 2 * 4 * (model.hidden + model.vocabulary)
        )
    }

    private static func headRows(model: ModelConfiguration, rowsMax: Int) -> Int {
        max(1, min(headRowsMax, rowsMax, logitBytes / (8 * model.vocabulary)))
    }

    init(model: ModelConfiguration, hasHead: Bool, rowsMax: Int) throws(EngineError) {
        self.rowsMax = rowsMax
        headRows = hasHead ? Self.headRows(model: model, rowsMax: rowsMax) : 0

        var bytes = 0
        func place(_ size: Int) -> Int {
            defer { bytes += AlignedMemory.aligned(size) }
            return bytes
        }
        let float = MemoryLayout<Float>.stride
        let sizes = (
            hidden: rowsMax * model.hidden, qkv: rowsMax * (model.queryWidth + 2 * model.kvWidth), attended: rowsMax * model.queryWidth,
            gateUp: model.experts == nil ? rowsMax * 2 * model.feedForward : 0, angles: rowsMax * model.rope.dimensions / 2,
            headInput: 2 * headRows * model.hidden, logits: 2 * headRows * model.vocabulary
        )
        let hiddenAt = place(sizes.hidden * float)
        let qkvAt = place(sizes.qkv * float)
        let attendedAt = place(sizes.attended * float)
        let gateUpAt = place(sizes.gateUp * float)
        let deltaAt = place(sizes.hidden * float)
        let cosinesAt = place(sizes.angles * float)
        let sinesAt = place(sizes.angles * float)
        let rowNumbersAt = place(rowsMax * MemoryLayout<Int32>.stride)
        let spansAt = place(rowsMax * MemoryLayout<sk_span>.stride)
        let promptLengthsAt = place(rowsMax * MemoryLayout<Int>.stride)
        let healthyAt = place(rowsMax)
        let wishedRowsAt = place(headRows * MemoryLayout<Int32>.stride)
        let headInputAt = place(sizes.headInput * float)
        let logitsAt = place(sizes.logits * float)

        let memory = try AlignedMemory(byteCount: bytes, for: "the working memory of \(rowsMax) rows")
        self.memory = memory
        hidden = memory.bound(to: Float.self, at: hiddenAt, count: sizes.hidden)
        qkv = memory.bound(to: Float.self, at: qkvAt, count: sizes.qkv)
        attended = memory.bound(to: Float.self, at: attendedAt, count: sizes.attended)
        gateUp = memory.bound(to: Float.self, at: gateUpAt, count: sizes.gateUp)
        delta = memory.bound(to: Float.self, at: deltaAt, count: sizes.hidden)
        cosines = memory.bound(to: Float.self, at: cosinesAt, count: sizes.angles)
        sines = memory.bound(to: Float.self, at: sinesAt, count: sizes.angles)
        rowNumbers = memory.bound(to: Int32.self, at: rowNumbersAt, count: rowsMax)
        spans = memory.bound(to: sk_span.self, at: spansAt, count: rowsMax)
        promptLengths = memory.bound(to: Int.self, at: promptLengthsAt, count: rowsMax)
        healthy = memory.bound(to: Bool.self, at: healthyAt, count: rowsMax)
        wishedRows = memory.bound(to: Int32.self, at: wishedRowsAt, count: headRows)
        headInput = memory.bound(to: Float.self, at: headInputAt, count: sizes.headInput)
        logits = memory.bound(to: Float.self, at: logitsAt, count: sizes.logits)
        scratch = try AlignedMemory(byteCount: 0, for: "scratch")
        for row in 0..<rowsMax { rowNumbers[row] = Int32(row) }
    }

    /// Memory for what a projection or attention keeps while it runs; grows by doubling and is kept.
    func scratch(bytes: Int) throws(EngineError) -> UnsafeMutableRawPointer {
        if bytes > scratch.byteCount {
            scratch = try AlignedMemory(byteCount: max(bytes, 2 * scratch.byteCount), for: "scratch")
        }
        return scratch.base
    }
}
