import CKernels
import ModelFiles

/// The projections of a stage, each bound once to its weights and to the memory that it reads and writes, so that a step
/// only names them.
///
/// Borrows: `weights` and `work` must live as long. Immutable after `init`.
final class StageProjections {
    struct Layer {
        let qkv: UnsafePointer<sk_projection>  // work.qkv = Wqkv n(h) + bias
        let attentionOutput: UnsafePointer<sk_projection>  // h += residualScale · (Wo attended + bias)
        let feedForward: FeedForward
    }

    enum FeedForward {
        /// work.gateUp = silu(Wgate n(h)) ⊙ Wup n(h), then h += residualScale · Wdown of that
        case dense(gateUp: UnsafePointer<sk_projection>, down: UnsafePointer<sk_projection>)
        /// h += residualScale · what the chosen experts give
        case experts(UnsafePointer<sk_experts>)
    }

    /// By layer, and by the place in memory that it lies in where it is streamed.
    let layers: [[Layer]]
    /// work.logits = Whead work.headInput, whose rows are normed already; nil on stages without the head.
    let head: UnsafePointer<sk_projection>?
    /// The same in two parts, one after the other; `nil` where the head is too small for two.
    let headParts: HeadParts?

    struct HeadParts {
        /// Logits 0..<`split`.
        let first: UnsafePointer<sk_projection>
        let rest: UnsafePointer<sk_projection>
        let split: Int
    }

    /// Of the logits. Vocabularies begin with what is frequent: of a small model's greedy tokens 98 % lie in the first half, of drawn ones 94 %.
    private static let firstPercent = 50

    private let storage: Storage

    init(weights: StageWeights, work: Workspace) {
        let storage = Storage(weights)
        self.storage = storage
        let model = weights.model
        layers = weights.layerPlaces.map { places in places.map { Self.layer($0, model: model, work: work, storage: storage) } }
        head = weights.head.map { head in
            storage.keep(storage.projection(head.output, of: work.headInput, width: model.hidden, into: work.logits))
        }
        headParts = weights.head.flatMap { Self.headParts($0.output, model: model, work: work, storage: storage) }
    }

    private static func headParts(_ output: Projection, model: ModelConfiguration, work: Workspace, storage: Storage) -> HeadParts? {
        let split = model.vocabulary * firstPercent / 100 / Int(SK_ROW_GROUP) * Int(SK_ROW_GROUP)
        guard output.matrices.count == 1, split > 0, split < model.vocabulary else { return nil }
        var (first, rest) = (output.matrices[0], output.matrices[0])
        first.rows = Int32(split)
        rest.rows -= Int32(split)
        rest.packed += sk_packed_offset(rest.type, Int32(split), rest.columns)
        func part(_ matrix: sk_matrix, at column: Int) -> UnsafePointer<sk_projection> {
            var whole = storage.projection(output, of: work.headInput, width: model.hidden, into: work.logits + column)
            whole.matrices = storage.keep([matrix])
            return storage.keep(whole)
        }
        return HeadParts(first: part(first, at: 0), rest: part(rest, at: split), split: split)
    }

    private static func layer(_ layer: LayerWeights, model: ModelConfiguration, work: Workspace, storage: Storage) -> Layer {
        var qkv = storage.projection(layer.qkv, of: work.hidden, width: model.hidden, into: work.qkv)
        qkv.norm = storage.norm(layer.attentionNorm, model)
        qkv.bias = layer.qkvBias

        var output = storage.projection(layer.attentionOutput, of: work.attended, width: model.queryWidth, into: work.delta)
        output.bias = layer.attentionOutputBias
        output.residual = work.hidden
        output.ldr = model.hidden
        output.residual_scale = model.residualScale
        return Layer(
            qkv: storage.keep(qkv), attentionOutput: storage.keep(output),
            feedForward: feedForward(layer, model: model, work: work, storage: storage))
    }

    private static func feedForward(_ layer: LayerWeights, model: ModelConfiguration, work: Workspace, storage: Storage) -> FeedForward {
        let norm = storage.norm(layer.feedForwardNorm, model)
        switch layer.feedForward {
        case .dense(let inner, let outer):
            var gateUp = storage.projection(inner, of: work.hidden, width: model.hidden, into: work.gateUp)
            gateUp.norm = norm
            gateUp.gated = true
            gateUp.function = SK_FUNCTION_SILU

            var down = storage.projection(outer, of: work.gateUp, width: inner.width, into: work.delta)
            down.residual = work.hidden
            down.ldr = model.hidden
            down.residual_scale = model.residualScale
            return .dense(gateUp: storage.keep(gateUp), down: storage.keep(down))
        case .experts(let weights):
            let experts = model.experts!
            let router = sk_router(
                kind: experts.router == .softmaxOfAll ? SK_ROUTER_SOFTMAX_TOP : SK_ROUTER_TOP_SOFTMAX, experts: Int32(experts.count),
                used: Int32(experts.used), renormalise: true)
            return .experts(
                storage.keep(
                    sk_experts(
                        router: router, router_matrix: weights.router, gates: storage.keep(weights.gates), ups: storage.keep(weights.ups),
                        downs: storage.keep(weights.downs), function: SK_FUNCTION_SILU, x: work.hidden, ldx: model.hidden,
                        columns: Int32(model.hidden), norm: norm, residual: work.hidden, ldr: model.hidden, residual_scale: model.residualScale)))
        }
    }

    /// Bytes that any of them needs for so many rows on so many threads.
    func workspaceBytes(rows: Int, threads: Int) -> Int {
        var bytes = 0
        for index in 0..<storage.projectionCount {
            bytes = max(bytes, sk_project_workspace_bytes(storage.projections + index, Int32(rows), Int32(threads)))
        }
        for index in 0..<storage.expertsCount {
            bytes = max(bytes, sk_experts_workspace_bytes(storage.experts + index, Int32(rows)))
        }
        return bytes
    }

    /// Structures at addresses that stay.
    private final class Storage {
        let projections: UnsafeMutablePointer<sk_projection>
        private(set) var projectionCount = 0
        private let norms: UnsafeMutablePointer<sk_norm>
        private var normCount = 0
        private let matrices: UnsafeMutablePointer<sk_matrix>
        private var matrixCount = 0
        let experts: UnsafeMutablePointer<sk_experts>
        private(set) var expertsCount = 0

        init(_ weights: StageWeights) {
            let layers = weights.layerPlaces.reduce(0) { $0 + $1.count }
            // The head whole and in two parts.
            let count = 4 * layers + 3
            let ofExperts = layers * 3 * (weights.model.experts?.count ?? 0)
            projections = .allocate(capacity: count)
            norms = .allocate(capacity: count)
            matrices = .allocate(capacity: (count + 2) * Int(SK_PROJECTION_MATRICES_MAX) + ofExperts)
            experts = .allocate(capacity: layers)
        }

        deinit {
            projections.deallocate()
            norms.deallocate()
            matrices.deallocate()
            experts.deallocate()
        }

        /// out = projection · x; x: f32[rows, width], its first `projection.columns` used.
        func projection(
            _ projection: Projection, of x: UnsafeMutablePointer<Float>, width: Int, into out: UnsafeMutablePointer<Float>
        ) -> sk_projection {
            sk_projection(
                x: x, ldx: width, columns: Int32(projection.columns), norm: nil, count: Int32(projection.matrices.count),
                matrices: keep(projection.matrices),
                out: out, ldo: projection.width, bias: nil, gated: false, function: SK_FUNCTION_SILU, residual: nil, ldr: 0, residual_scale: 1)
        }

        func norm(_ weight: UnsafePointer<Float>, _ model: ModelConfiguration) -> UnsafePointer<sk_norm> {
            (norms + normCount).initialize(to: sk_norm(kind: SK_NORM_RMS, epsilon: model.normEpsilon, weight: weight, bias: nil))
            normCount += 1
            return UnsafePointer(norms + normCount - 1)
        }

        func keep(_ some: [sk_matrix]) -> UnsafePointer<sk_matrix> {
            let first = matrices + matrixCount
            for matrix in some {
                (matrices + matrixCount).initialize(to: matrix)
                matrixCount += 1
            }
            return UnsafePointer(first)
        }

        func keep(_ layer: sk_experts) -> UnsafePointer<sk_experts> {
            (experts + expertsCount).initialize(to: layer)
            expertsCount += 1
            return UnsafePointer(experts + expertsCount - 1)
        }

        func keep(_ projection: sk_projection) -> UnsafePointer<sk_projection> {
            (projections + projectionCount).initialize(to: projection)
            projectionCount += 1
            return UnsafePointer(projections + projectionCount - 1)
        }
    }
}
