import CKernels
import Foundation
import Testing

@Suite(.serialized) struct IsaTests {
    /// The only tests that touch the environment; nothing else here reads it.
    private func withEnvironment(_ value: String?, _ check: (sk_isa_error, sk_isa?) -> Void) {
        let before = ProcessInfo.processInfo.environment["STAFFEL_ISA"]
        defer { if let before { setenv("STAFFEL_ISA", before, 1) } else { unsetenv("STAFFEL_ISA") } }
        if let value { setenv("STAFFEL_ISA", value, 1) } else { unsetenv("STAFFEL_ISA") }
        var isa = sk_isa(rawValue: 99)
        let error = sk_isa_from_environment(&isa)
        check(error, error == SK_ISA_OK ? isa : nil)
        if error != SK_ISA_OK { #expect(isa.rawValue == 99, "left alone on errors") }
    }

    @Test func theEnvironmentPinsOne() {
        for name in ["portable", "avx2", "avx512", "neon"] {
            withEnvironment(name) { error, isa in
                guard error == SK_ISA_OK, let isa else { #expect(error == SK_ISA_UNSUPPORTED); return }
                #expect(sk_isa_is_supported(isa) && String(cString: sk_isa_name(isa)) == name)
                #expect(sk_kernels_isa(sk_kernels_for(isa)) == isa)
            }
        }
    }

    @Test func unsetOrEmptyMeansTheBest() {
        for value in [nil, ""] { withEnvironment(value) { error, isa in #expect(error == SK_ISA_OK && isa == sk_isa_best()) } }
    }

    @Test func otherWordsAreErrors() {
        for value in ["AVX2", "sse", "avx512 ", "0"] { withEnvironment(value) { error, _ in #expect(error == SK_ISA_UNKNOWN) } }
    }

    @Test func portableIsAlwaysThere() {
        #expect(sk_isa_is_supported(SK_ISA_PORTABLE))
        #expect(!sk_isa_is_supported(sk_isa(rawValue: 57)))
        #expect(sk_kernels_for(sk_isa(rawValue: 57)) == nil)
    }

    @Test func typesWithoutKernelsAreNamed() {
        let supported = (UInt32(0)...64).filter { sk_type_is_supported($0) }
        #expect(supported == [0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23, 30])
    }
}
