// Which instruction sets this processor has, and the table of each.

#include "kernels.h"
#include "require.h"

#include <stdlib.h>
#include <string.h>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

static const char *const names[] = {
    [SK_ISA_PORTABLE] = "portable", [SK_ISA_AVX2] = "avx2", [SK_ISA_AVX512] = "avx512", [SK_ISA_NEON] = "neon"};
enum { ISA_COUNT = sizeof names / sizeof names[0] };

const char *sk_isa_name(sk_isa isa) {
    SK_REQUIRE((int)isa >= 0 && (int)isa < ISA_COUNT, "no such instruction set");
    return names[isa];
}

#if defined(__aarch64__)
static bool has_dot_products(void) {
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#elif defined(__ARM_FEATURE_DOTPROD)
    return true;  // everything that this build may run on has them
#else
    return false;
#endif
}
#endif

// The compiler's check asks the operating system too (XGETBV), so registers that are not saved count as missing.
bool sk_isa_is_supported(sk_isa isa) {
    switch (isa) {
        case SK_ISA_PORTABLE: return true;
#if defined(__x86_64__)
        case SK_ISA_AVX2:
            return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
        case SK_ISA_AVX512:
            return sk_isa_is_supported(SK_ISA_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#elif defined(__aarch64__)
        case SK_ISA_NEON: return has_dot_products();
#endif
        default: return false;
    }
}

sk_isa sk_isa_best(void) {
    for (int isa = ISA_COUNT - 1; isa > 0; isa--)
        if (sk_isa_is_supported((sk_isa)isa)) return (sk_isa)isa;
    return SK_ISA_PORTABLE;
}

sk_isa_error sk_isa_from_environment(sk_isa *isa) {
    const char *asked = getenv("STAFFEL_ISA");
    if (asked == NULL || asked[0] == 0) {
        *isa = sk_isa_best();
        return SK_ISA_OK;
    }
    for (int i = 0; i < ISA_COUNT; i++) {
        if (strcmp(asked, names[i]) != 0) continue;
        if (!sk_isa_is_supported((sk_isa)i)) return SK_ISA_UNSUPPORTED;
        *isa = (sk_isa)i;
        return SK_ISA_OK;
    }
    return SK_ISA_UNKNOWN;
}

const sk_kernels *sk_kernels_for(sk_isa isa) {
    if (!sk_isa_is_supported(isa)) return NULL;
    switch (isa) {
#if defined(__x86_64__)
        case SK_ISA_AVX2: return &sk_kernels_avx2;
        case SK_ISA_AVX512: return &sk_kernels_avx512;
        default: return sk_isa_is_supported(SK_ISA_AVX2) ? &sk_kernels_portable_fma : &sk_kernels_portable;
#elif defined(__aarch64__)
        case SK_ISA_NEON: return &sk_kernels_neon;
        default: return &sk_kernels_portable;
#else
        default: return &sk_kernels_portable;
#endif
    }
}

const sk_kernels *sk_kernels_plain(void) { return &sk_kernels_portable; }

sk_isa sk_kernels_isa(const sk_kernels *k) { return k->isa; }
