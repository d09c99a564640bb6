// Kernels for x86-64 with AVX-512 F, BW, DQ, VL and VNNI.

#if defined(__x86_64__)

#include <immintrin.h>

#define SK_HAS_AVX512 1
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), apply_to = function)

#include "lanes.h"
#include "packed_block.h"

enum { INT8_COLUMNS = 16, INT8_STRIP = 2 };

SK_INLINE __m512i broadcast_four(const int8_t *q) {
    int32_t four;
    memcpy(&four, q, sizeof four);
    return _mm512_set1_epi32(four);
}

/// The 64 shifted weights 8-bit lanes hold: vector j for elements 4j + t, vector 4 + j for elements 16 + 4j + t.
SK_INLINE __m512i int8_weights(sk_type type, const uint8_t *quants, int vector) {
    if (!packed_nibbles(type)) return _mm512_loadu_si512(quants + 64 * vector);
    const int j = vector & 3, high = vector >> 2;
    __m512i w = _mm512_loadu_si512(quants + 64 * j);
    if (high) w = _mm512_srli_epi16(w, 4);
    w = _mm512_and_si512(w, _mm512_set1_epi8(15));
    if (packed_fifth_bits(type)) {
        __m512i fifth = _mm512_loadu_si512(quants - 64);
        fifth = high ? _mm512_srli_epi16(fifth, (unsigned)j) : _mm512_slli_epi16(fifth, (unsigned)(4 - j));
        w = _mm512_or_si512(w, _mm512_and_si512(fifth, _mm512_set1_epi8(16)));
    }
    if (type == SK_TYPE_IQ4_NL) {
        __m128i table = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)packed_iq4_values), _mm_set1_epi8((char)0x80));
        w = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), w);
    }
    return w;
}

/// VPDPBUSD takes unsigned weights from a register and signed activations as a broadcast from memory; it does not saturate.
/// A tile calls this for one strip of columns after another: the weights are taken apart once, the compiler sees that they are the same.
SK_INLINE void int8_dots(sk_type type, const int C, const uint8_t *quants, const int8_t *const *q, ilanes *dots) {
    SK_UNROLL for (int v = 0; v < 8; v++) {
        __m512i w = int8_weights(type, quants, v);
        SK_UNROLL for (int c = 0; c < C; c++) dots[c] = (ilanes)_mm512_dpbusd_epi32((__m512i)dots[c], w, broadcast_four(q[c] + 4 * v));
    }
}

#include "dots_super_avx512.h"
#include "kernel_table.h"

#pragma clang attribute pop

const sk_kernels sk_kernels_avx512 = SK_KERNEL_TABLE(SK_ISA_AVX512);

#endif
