import CKernels

/// Which kernels compute. All give the same bits; they differ in speed and in the processors that can run them.
package enum InstructionSet: String, Sendable, CaseIterable {
    case portable, avx2, avx512, neon

    /// Those this build has and this processor can run; `portable` is always among them.
    package static var supported: [InstructionSet] { allCases.filter { sk_isa_is_supported($0.isa) } }

    /// What the environment variable `STAFFEL_ISA` asks for, or the fastest supported one where it is unset or empty.
    package static func fromEnvironment() throws(EngineError) -> InstructionSet {
        var isa = SK_ISA_PORTABLE
        switch sk_isa_from_environment(&isa) {
        case SK_ISA_OK:
            return allCases.first { $0.isa == isa }!
        case SK_ISA_UNSUPPORTED:
            throw EngineError(
                .badInstructionSet,
                "STAFFEL_ISA asks for an instruction set that this processor lacks; it has \(names(supported)). Unset it or name one of these.")
        default:
            throw EngineError(
                .badInstructionSet, "STAFFEL_ISA names no known instruction set; known are \(names(allCases)). Unset it or name one of these.")
        }
    }

    var isa: sk_isa {
        switch self {
        case .portable: SK_ISA_PORTABLE
        case .avx2: SK_ISA_AVX2
        case .avx512: SK_ISA_AVX512
        case .neon: SK_ISA_NEON
        }
    }

    /// The kernels; `self` must be supported.
    var kernels: OpaquePointer {
        guard let kernels = sk_kernels_for(isa) else { preconditionFailure("no kernels for \(rawValue) on this processor") }
        return kernels
    }

    private static func names(_ sets: [InstructionSet]) -> String { sets.map(\.rawValue).joined(separator: ", ") }
}
