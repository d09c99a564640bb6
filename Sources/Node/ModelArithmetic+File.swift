import ClusterCore
import Engine
import ModelFiles

extension ModelArithmetic {
    /// From the shapes and types of a model's tensors; reads none of them.
    init(file: any ModelSource, model: ModelConfiguration) {
        func products(_ wanted: [ModelTensors.Wanted]) -> Products {
            wanted.reduce(into: Products()) { sum, wanted in
                // Norms and biases are not multiplied.
                guard !wanted.isVector else { return }
                for tensor in ModelTensors.tensors(wanted, in: file) { sum.add(tensor, of: wanted.experts == nil ? nil : model.experts) }
            }
        }
        let workspace = Stage.workspaceBytes(model: model, rowsMax: Limits.stepRowsMax)
        self.init(
            layers: (0..<model.layers).map { products(ModelTensors.wanted(layer: $0, model)) },
            head: products([model.tiedHead ? ModelTensors.wantedEmbedding(model) : ModelTensors.wantedHead(model)]),
            queryWidth: model.queryWidth, workspaceBytes: UInt64(workspace.stage), headWorkspaceBytes: UInt64(workspace.head))
        unusedExperts = model.experts.map { 1 - Double($0.used) / Double($0.count) } ?? 0
        windows = model.windows
    }
}

extension ModelArithmetic.Products {
    /// `experts`: nil for a matrix that all rows are multiplied with, else the tensor is one of them.
    fileprivate mutating func add(_ tensor: Tensor, of experts: ModelConfiguration.Experts?) {
        let bytes = UInt64(tensor.byteCount)
        // Over all experts of a layer these shares add up to the used ones.
        let weights = experts.map { UInt64(tensor.elementCount * $0.used / $0.count) } ?? UInt64(tensor.elementCount)
        if tensor.type.isFloat {
            floatWeights += weights
            floatBytes += bytes
        } else {
            int8Weights += weights
        }
        guard experts != nil else { return }
        expertBytes += bytes
        if tensor.type.isFloat { expertFloatBytes += bytes }
    }
}
