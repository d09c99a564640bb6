import CKernels

/// A tensor format that Staffel reads; the raw value is the number that GGUF files carry.
package enum TensorType: Int32, Sendable, CaseIterable, Hashable {
    case f32 = 0
    case f16 = 1
    case q4_0 = 2
    case q4_1 = 3
    case q5_0 = 6
    case q5_1 = 7
    case q8_0 = 8
    case q2_K = 10
    case q3_K = 11
    case q4_K = 12
    case q5_K = 13
    case q6_K = 14
    case iq4_NL = 20
    case iq4_XS = 23
    case bf16 = 30

    /// Elements in one block; the columns of a tensor are a multiple of it.
    package var blockSize: Int { Int(format.block_elements) }

    /// Bytes of one block in the file.
    package var blockBytes: Int { Int(format.block_bytes) }

    /// As people write it: "Q4_K".
    package var name: String { String(cString: format.name) }

    /// Whether each element stands alone (F32, F16, BF16).
    package var isFloat: Bool { blockSize == 1 }

    /// Bytes of a row of `columns` elements; `columns` must be whole blocks.
    package func rowBytes(columns: Int) -> Int {
        precondition(columns % blockSize == 0, "a row of \(name) must be whole blocks")
        return columns / blockSize * blockBytes
    }

    private var format: sk_tensor_format {
        guard let found = sk_tensor_format_find(rawValue) else {
            preconditionFailure("CKernels lacks the tensor format \(rawValue)")
        }
        return found.pointee
    }

    /// Names of the formats that exist in GGUF files but are not read here, for error messages.
    static let unreadNames: [Int32: String] = [
        4: "Q4_2 (withdrawn)", 5: "Q4_3 (withdrawn)", 9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS",
        19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M",
        31: "Q4_0_4_4 (withdrawn)", 32: "Q4_0_4_8 (withdrawn)", 33: "Q4_0_8_8 (withdrawn)", 34: "TQ1_0", 35: "TQ2_0",
        39: "MXFP4",
    ]
}
