import ClusterCore
import Engine
import ModelFiles

extension ModelArithmetic {
    /// From the shapes and types of a file's tensors; reads none of them.
    init(file: GGUFFile, model: ModelConfiguration) {
        func products(_ tensors: [Tensor]) -> Products {
            tensors.reduce(into: Products()) { sum, tensor in
                // Norms and biases are not multiplied.
                guard tensor.shape.count > 1 else { return }
                if tensor.type.isFloat {
                    sum.floatWeights += UInt64(tensor.elementCount)
                    sum.floatBytes += UInt64(tensor.byteCount)
                } else {
                    sum.int8Weights += UInt64(tensor.elementCount)
                }
            }
        }
        let head = file.tensor(model.tiedHead ? ModelTensors.embedding : ModelTensors.head)
        let workspace = Stage.workspaceBytes(model: model, rowsMax: Limits.stepRowsMax)
        self.init(
            layers: (0..<model.layers).map { index in
                products(ModelTensors.wanted(layer: index, model).compactMap { file.tensor($0.name) })
            },
            head: products(head.map { [$0] } ?? []), queryWidth: model.queryWidth, workspaceBytes: UInt64(workspace.stage),
            headWorkspaceBytes: UInt64(workspace.head))
    }
}
