import CKernels
import ModelFiles

/// Adds up the squares of what is given to each matrix of the layers, column by column: what an importance matrix is made of.
///
/// Rows are added in their order, each column by itself, so the sums do not depend on threads or instruction sets. Matrices that take the
/// same input have the same sums; those that a file keeps as one tensor have them once. Each expert has sums of its own, of the rows that
/// chose it, and all of a layer stand together as in a stacked tensor. Not `Sendable`: who runs the stage owns it.
package final class MatrixInputs {
    /// Squares of the inputs of one matrix, or of as many as there are experts.
    private struct Input {
        /// Tensors whose matrices take it.
        var tensors: [String]
        var columns: Int
        /// [matrices][columns]
        var squares: [Double]
        /// Rows seen, by matrix.
        var rows: [Int]

        /// `row`: f32[columns]
        mutating func add(_ row: UnsafePointer<Float>, matrix: Int) {
            rows[matrix] += 1
            let (first, count) = (matrix * columns, columns)
            squares.withUnsafeMutableBufferPointer { squares in
                for column in 0..<count { squares[first + column] += Double(row[column]) * Double(row[column]) }
            }
        }
    }

    /// Places in `inputs`.
    private struct ExpertPlaces {
        var gates: Int
        var downs: Int
    }

    private var inputs: [Input] = []
    /// By layer, and of each the tensors that take its four inputs.
    private let layers: [[[String]]]
    private var indices: [[String]: Int] = [:]
    /// Which input a projection of the bound stage has.
    private var places: [UnsafePointer<sk_projection>: Int] = [:]
    private var expertPlaces: [UnsafePointer<sk_experts>: ExpertPlaces] = [:]
    private var normed: [Float] = []

    /// - Parameter source: has the tensors under whose names the sums will stand, fused as they are there. Throws where it lacks one.
    package init(model: ModelConfiguration, source: any TensorSource) throws(ModelFileError) {
        var layers: [[[String]]] = []
        for layer in 0..<model.layers { layers.append(try Self.inputs(of: ModelTensors.WantedLayer(layer, model), in: source)) }
        self.layers = layers
    }

    /// The tensors that take each of a layer's four inputs: of attention, of its output, of the feed-forward, of its way down.
    private static func inputs(of layer: ModelTensors.WantedLayer, in source: any TensorSource) throws(ModelFileError) -> [[String]] {
        func names(_ wanted: [ModelTensors.Wanted]) throws(ModelFileError) -> [String] {
            var found: [String] = []
            for one in wanted {
                let sources = try one.experts == nil ? ModelTensors.find(one, in: source).sources : [one.name]
                found += sources.filter { !found.contains($0) }
            }
            return found
        }
        let (inner, down) =
            switch layer.feedForward {
            case .dense(let gate, let up, let down): ([gate, up], down)
            case .experts(_, let gates, let ups, let downs): ([gates, ups], downs)
            }
        return [try names([layer.query, layer.key, layer.value]), try names([layer.attentionOutput]), try names(inner), try names([down])]
    }

    /// What has been seen, by tensor.
    package func importance() -> ImportanceSums {
        var sums = ImportanceSums()
        for input in inputs {
            for name in input.tensors {
                var entry = ImportanceSums.Entry(columns: input.columns, matrices: input.rows.count)
                entry.sums = input.squares
                entry.counts = input.rows
                sums.entries[name] = entry
            }
        }
        return sums
    }

    // MARK: Binding

    /// From now on the projections and experts of this stage are seen; sums go on.
    func bind(to projections: StageProjections, layers: Range<Int>) {
        places.removeAll()
        expertPlaces.removeAll()
        for (layer, bound) in zip(layers, projections.layers) {
            for bound in bound { bind(to: bound, self.layers[layer]) }
        }
    }

    private func bind(to bound: StageProjections.Layer, _ tensors: [[String]]) {
        func place(_ projection: UnsafePointer<sk_projection>, _ tensors: [String]) {
            places[projection] = input(tensors, columns: projection.pointee.columns)
        }
        place(bound.qkv, tensors[0])
        place(bound.attentionOutput, tensors[1])
        switch bound.feedForward {
        case .dense(let gateUp, let down):
            place(gateUp, tensors[2])
            place(down, tensors[3])
        case .experts(let experts):
            let (columns, width, count) = (experts.pointee.columns, experts.pointee.downs[0].columns, experts.pointee.router.experts)
            expertPlaces[experts] = ExpertPlaces(
                gates: input(tensors[2], columns: columns, matrices: count), downs: input(tensors[3], columns: width, matrices: count))
        }
    }

    private func input(_ tensors: [String], columns: Int32, matrices: Int32 = 1) -> Int {
        if let index = indices[tensors] { return index }
        let (columns, matrices) = (Int(columns), Int(matrices))
        inputs.append(
            Input(
                tensors: tensors, columns: columns, squares: [Double](repeating: 0, count: matrices * columns),
                rows: [Int](repeating: 0, count: matrices)))
        indices[tensors] = inputs.count - 1
        return inputs.count - 1
    }

    // MARK: Seeing

    /// Before the projection is computed, since that may overwrite its input.
    func see(_ projection: UnsafePointer<sk_projection>, rows: Int, kernels: OpaquePointer) {
        guard let index = places[projection] else { return }
        let columns = Int(projection.pointee.columns)
        if normed.count < columns { normed = [Float](repeating: 0, count: columns) }
        for row in 0..<rows {
            let x = projection.pointee.x + row * projection.pointee.ldx
            normed.withUnsafeMutableBufferPointer { normed in
                var input = UnsafePointer(x)
                if let norm = projection.pointee.norm {
                    sk_normalise(kernels, nil, norm, x, projection.pointee.ldx, 1, Int32(columns), normed.baseAddress!, columns)
                    input = UnsafePointer(normed.baseAddress!)
                }
                inputs[index].add(input, matrix: 0)
            }
        }
    }

    /// After the experts were computed: who chose whom stands in their workspace.
    func see(_ experts: UnsafePointer<sk_experts>, rows: Int, workspace: UnsafeMutableRawPointer) {
        guard let places = expertPlaces[experts], rows > 0 else { return }
        let seen = sk_experts_see(experts, Int32(rows), workspace)
        let columns = Int(experts.pointee.columns)
        for expert in 0..<Int(experts.pointee.router.experts) {
            for slot in Int(seen.first[expert])..<Int(seen.first[expert + 1]) {
                inputs[places.gates].add(seen.rows + Int(seen.row_of_slot[slot]) * columns, matrix: expert)
                inputs[places.downs].add(seen.slots + slot * seen.lds, matrix: expert)
            }
        }
    }
}
