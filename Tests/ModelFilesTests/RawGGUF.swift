/// Builds GGUF bytes field by field, so that each field can be wrong: what `GGUFWriter` refuses to write.
struct RawGGUF {
    struct TensorInfo {
        var name = "t"
        var dimensions: [UInt64] = [4]
        /// What the file claims, where that differs from the number of `dimensions`.
        var dimensionCount: UInt32?
        var type: UInt32 = 0
        var offset: UInt64 = 0
    }

    var magic = Array("GGUF".utf8)
    var version: UInt32 = 3
    var tensorCount: UInt64?
    var metadataCount: UInt64?
    /// Encoded pairs.
    var pairs: [[UInt8]] = []
    var tensors: [TensorInfo] = []
    var alignment = 32
    /// What follows the header, after padding.
    var data: [UInt8] = []

    var bytes: [UInt8] {
        var bytes = magic
        bytes += RawGGUF.number(version)
        bytes += RawGGUF.number(tensorCount ?? UInt64(tensors.count))
        bytes += RawGGUF.number(metadataCount ?? UInt64(pairs.count))
        for pair in pairs { bytes += pair }
        for tensor in tensors {
            bytes += RawGGUF.text(tensor.name)
            bytes += RawGGUF.number(tensor.dimensionCount ?? UInt32(tensor.dimensions.count))
            for dimension in tensor.dimensions { bytes += RawGGUF.number(dimension) }
            bytes += RawGGUF.number(tensor.type)
            bytes += RawGGUF.number(tensor.offset)
        }
        bytes += [UInt8](repeating: 0, count: (alignment - bytes.count % alignment) % alignment)
        return bytes + data
    }

    static func number(_ number: some FixedWidthInteger) -> [UInt8] {
        withUnsafeBytes(of: number.littleEndian, Array.init)
    }

    static func text(_ text: String) -> [UInt8] { number(UInt64(text.utf8.count)) + text.utf8 }

    static func pair(_ key: String, type: UInt32, _ value: [UInt8]) -> [UInt8] {
        text(key) + number(type) + value
    }

    static func array(type: UInt32, count: UInt64, _ elements: [UInt8]) -> [UInt8] {
        number(type) + number(count) + elements
    }
}
