import CKernels
import ModelFiles

/// Adds up the squares of what is given to each matrix of the layers, column by column: what an importance matrix is made of.
///
/// Rows are added in their order, each column by itself, so the sums do not depend on threads or instruction sets. Matrices that take the
/// same input have the same sums. Not `Sendable`: who runs the stage owns it.
package final class MatrixInputs {
    /// Squares of one input, and the matrices that take it.
    private struct Input {
        var names: [String]
        var squares: [Double]
        var rows = 0
    }

    private let model: ModelConfiguration
    private var inputs: [Input] = []
    private var indices: [[String]: Int] = [:]
    /// Which input a projection of the bound stage has.
    private var places: [UnsafePointer<sk_projection>: Int] = [:]
    private var normed: [Float] = []

    package init(model: ModelConfiguration) {
        self.model = model
    }

    /// What has been seen, by tensor.
    package func importance() -> ImportanceSums {
        var sums = ImportanceSums()
        for input in inputs {
            for name in input.names {
                var entry = ImportanceSums.Entry(columns: input.squares.count)
                entry.sums = input.squares
                entry.counts = [input.rows]
                sums.entries[name] = entry
            }
        }
        return sums
    }

    /// From now on the projections of this stage are seen; sums go on.
    func bind(to projections: StageProjections, layers: Range<Int>) {
        places.removeAll()
        for (layer, bound) in zip(layers, projections.layers) {
            let names = ModelTensors.layer(layer)
            for bound in bound { bind(to: bound, names) }
        }
    }

    private func bind(to bound: StageProjections.Layer, _ names: ModelTensors.LayerTensors) {
        place(bound.qkv, [names.query, names.key, names.value])
        place(bound.attentionOutput, [names.attentionOutput])
        // What experts are given is not seen: each sees rows of its own, inside one kernel.
        if case .dense(let gateUp, let down) = bound.feedForward {
            place(gateUp, [names.gate, names.up])
            place(down, [names.down])
        }
    }

    private func place(_ projection: UnsafePointer<sk_projection>, _ names: [String]) {
        if indices[names] == nil {
            indices[names] = inputs.count
            inputs.append(Input(names: names, squares: [Double](repeating: 0, count: Int(projection.pointee.columns))))
        }
        places[projection] = indices[names]
    }

    func see(_ projection: UnsafePointer<sk_projection>, rows: Int, kernels: OpaquePointer) {
        guard let index = places[projection] else { return }
        let columns = Int(projection.pointee.columns)
        if normed.count < columns { normed = [Float](repeating: 0, count: columns) }
        inputs[index].rows += rows
        for row in 0..<rows {
            let x = projection.pointee.x + row * projection.pointee.ldx
            normed.withUnsafeMutableBufferPointer { normed in
                var input = UnsafePointer(x)
                if let norm = projection.pointee.norm {
                    sk_normalise(kernels, nil, norm, x, projection.pointee.ldx, 1, Int32(columns), normed.baseAddress!, columns)
                    input = UnsafePointer(normed.baseAddress!)
                }
                inputs[index].squares.withUnsafeMutableBufferPointer { squares in
                    for column in 0..<columns { squares[column] += Double(input[column]) * Double(input[column]) }
                }
            }
        }
    }
}
