// Kernels for x86-64 with AVX-512 F, BW, DQ, VL and VNNI.

#if defined(__x86_64__)

#include <immintrin.h>

#define SK_HAS_AVX512 1
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), apply_to = function)

#include "lanes.h"
#include "packed_block.h"

enum { INT8_GROUPS = 4 };

SK_INLINE __m512i broadcast_four(const int8_t *q) {
    int32_t four;
    memcpy(&four, q, sizeof four);
    return _mm512_set1_epi32(four);
}

/// VPDPBUSD takes unsigned weights from a register and signed activations as a broadcast from memory; it does not saturate.
SK_INLINE void int8_dots(sk_type type, const int C, const uint8_t *quants, const int8_t *const *q, ilanes *dots) {
    const __m512i low_half = _mm512_set1_epi8(15);
    SK_UNROLL for (int j = 0; j < (type == SK_TYPE_Q8_0 ? 8 : 4); j++) {
        __m512i w = _mm512_loadu_si512(quants + 64 * j);
        if (type == SK_TYPE_Q8_0) {
            SK_UNROLL for (int c = 0; c < C; c++)
                dots[c] = (ilanes)_mm512_dpbusd_epi32((__m512i)dots[c], w, broadcast_four(q[c] + 4 * j));
        } else {
            __m512i low = _mm512_and_si512(w, low_half), high = _mm512_and_si512(_mm512_srli_epi16(w, 4), low_half);
            SK_UNROLL for (int c = 0; c < C; c++)
                dots[c] = (ilanes)_mm512_dpbusd_epi32((__m512i)dots[c], low, broadcast_four(q[c] + 4 * j));
            SK_UNROLL for (int c = 0; c < C; c++)
                dots[c] = (ilanes)_mm512_dpbusd_epi32((__m512i)dots[c], high, broadcast_four(q[c] + 16 + 4 * j));
        }
    }
}

#include "dots_super_avx512.h"
#include "kernel_table.h"

#pragma clang attribute pop

const sk_kernels sk_kernels_avx512 = SK_KERNEL_TABLE(SK_ISA_AVX512);

#endif
