import CKernels
import Engine
import ModelFiles

/// What one pass through a model costs: the bytes that it must read and the operations that it must do, each counted once.
struct ModelWork {
    /// Packed bytes of what every step reads: all layers, norms and the head; of an embedding that is not the head only single rows
    /// are read, which do not count.
    let weightBytes: Int
    /// Weights of the layers by the arithmetic that their type takes.
    private let layerWeights: (int8: Int, float: Int)
    private let headWeights: (int8: Int, float: Int)
    private let kvBytesPerPosition: Int

    init(file: GGUFFile, model: ModelConfiguration, kvType: KVType) {
        var bytes = 0
        var layers = (int8: 0, float: 0)
        var head = (int8: 0, float: 0)
        let headName = model.tiedHead ? ModelTensors.embedding : ModelTensors.head
        for tensor in file.tensors where tensor.name != ModelTensors.embedding || model.tiedHead {
            bytes += tensor.byteCount
            guard tensor.shape.count > 1 else { continue }
            if tensor.name == headName {
                Self.add(tensor, to: &head)
            } else {
                Self.add(tensor, to: &layers)
            }
        }
        weightBytes = bytes
        layerWeights = layers
        headWeights = head
        kvBytesPerPosition = Stage.kvBlockBytes(model: model, layers: model.layers, kvType: kvType) / Int(SK_KV_BLOCK)
    }

    private static func add(_ tensor: Tensor, to count: inout (int8: Int, float: Int)) {
        if tensor.type.isFloat { count.float += tensor.elementCount } else { count.int8 += tensor.elementCount }
    }

    /// Bytes that a decode step of so many sequences reads, each of which is at `position`.
    func bytesRead(sequences: Int, position: Int) -> Double {
        Double(weightBytes) + Double(sequences) * Double(position + 1) * Double(kvBytesPerPosition)
    }

    /// Seconds that the products of a prompt of so many rows would take at the peak rates; one row of them goes through the head.
    /// Attention does not count, so that a share is of the products' peak and a long prompt lowers it.
    func idealSeconds(rows: Int, peak: (ComputeProbe.Peak) -> Double) -> Double {
        let int8 = Double(layerWeights.int8) * Double(rows) + Double(headWeights.int8)
        let float = Double(layerWeights.float) * Double(rows) + Double(headWeights.float)
        return (int8 > 0 ? 2 * int8 / peak(.int8) : 0) + (float > 0 ? 2 * float / peak(.float32) : 0)
    }
}
