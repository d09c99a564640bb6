// Kernels for x86-64 with AVX2, FMA and F16C.

#if defined(__x86_64__)

#include <immintrin.h>

#define SK_HAS_F16C 1
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

#include "lanes.h"
#include "packed_block.h"

enum { INT8_COLUMNS = 4, INT8_STRIP = 4 };

SK_INLINE __m256i broadcast_four(const int8_t *q) {
    int32_t four;
    memcpy(&four, q, sizeof four);
    return _mm256_set1_epi32(four);
}

/// 8 rows of vector v: the elements 4v + t, low halves of bytes for v < 4, high ones from there on. Nothing but the four bits.
SK_INLINE __m256i nibbles(const uint8_t *quants, int v, int half) {
    __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)(quants + 64 * (v & 3) + 32 * half));
    return _mm256_and_si256(v < 4 ? both : _mm256_srli_epi16(both, 4), _mm256_set1_epi8(15));
}

SK_INLINE __m256i unsigned_weights(sk_type type, const uint8_t *quants, int v, int half) {
    __m256i w = nibbles(quants, v, half);
    if (!packed_fifth_bits(type)) return w;
    __m256i fifth = _mm256_loadu_si256((const __m256i *)(const void *)(quants - 64 + 32 * half));
    fifth = v < 4 ? _mm256_slli_epi16(fifth, 4 - v) : _mm256_srli_epi16(fifth, v - 4);
    return _mm256_or_si256(w, _mm256_and_si256(fifth, _mm256_set1_epi8(16)));
}

/// 4- and 5-bit weights: VPMADDUBSW's pairs are at most 31 * 127 * 2 = 7,874 (15 * 127 * 2 = 3,810 with 4 bits), and four of them (eight)
/// 31,496 (30,480): 16 bits hold that, and nothing saturates.
SK_INLINE void dots_of_nibbles(sk_type type, const int C, const uint8_t *quants, const int8_t *const *q, int half, __m256i *sums) {
    const __m256i ones = _mm256_set1_epi16(1);
    const int whole = packed_fifth_bits(type) ? 4 : 8;
    SK_UNROLL for (int c = 0; c < C; c++) sums[c] = _mm256_setzero_si256();
    SK_UNROLL for (int first = 0; first < 8; first += whole) {
        __m256i pairs[C];
        SK_UNROLL for (int c = 0; c < C; c++) pairs[c] = _mm256_setzero_si256();
        SK_UNROLL for (int v = first; v < first + whole; v++) {
            __m256i w = unsigned_weights(type, quants, v, half);
            SK_UNROLL for (int c = 0; c < C; c++)
                pairs[c] = _mm256_add_epi16(pairs[c], _mm256_maddubs_epi16(w, broadcast_four(q[c] + 4 * v)));
        }
        SK_UNROLL for (int c = 0; c < C; c++) sums[c] = _mm256_add_epi32(sums[c], _mm256_madd_epi16(pairs[c], ones));
    }
}

SK_INLINE __m256i signed_weights(sk_type type, const uint8_t *quants, int v, int half) {
    if (type == SK_TYPE_IQ4_NL) {
        __m128i table = _mm_loadu_si128((const __m128i *)(const void *)packed_iq4_values);
        return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles(quants, v, half));
    }
    __m256i w = _mm256_loadu_si256((const __m256i *)(const void *)(quants + 64 * v + 32 * half));
    return _mm256_xor_si256(w, _mm256_set1_epi8((char)0x80));
}

/// 8-bit weights: unsigned weight times activation would saturate VPMADDUBSW (255 * 127 * 2). With the weight's sign moved to the
/// activation, which is never -128, a pair's sum is at most 128 * 127 * 2 = 32,512 and exact, weights of -128 included.
/// So the sum here is of the signed weights, and what the sums start from is not needed: see `int8_dots`.
SK_INLINE void dots_of_bytes(sk_type type, const int C, const uint8_t *quants, const int8_t *const *q, int half, __m256i *sums) {
    const __m256i ones = _mm256_set1_epi16(1);
    SK_UNROLL for (int c = 0; c < C; c++) sums[c] = _mm256_setzero_si256();
    SK_UNROLL for (int v = 0; v < 8; v++) {
        __m256i w = signed_weights(type, quants, v, half), magnitude = _mm256_abs_epi8(w);
        SK_UNROLL for (int c = 0; c < C; c++) {
            __m256i signed_activation = _mm256_sign_epi8(broadcast_four(q[c] + 4 * v), w);
            __m256i pairs = _mm256_maddubs_epi16(magnitude, signed_activation);
            sums[c] = _mm256_add_epi32(sums[c], _mm256_madd_epi16(pairs, ones));
        }
    }
}

SK_INLINE void int8_dots(sk_type type, const int C, const uint8_t *quants, const int8_t *const *q, ilanes *dots) {
    const bool bytes = type == SK_TYPE_Q8_0 || type == SK_TYPE_IQ4_NL;
    __m256i low[C], high[C];
    if (bytes) {
        dots_of_bytes(type, C, quants, q, 0, low);
        dots_of_bytes(type, C, quants, q, 1, high);
    } else {
        dots_of_nibbles(type, C, quants, q, 0, low);
        dots_of_nibbles(type, C, quants, q, 1, high);
    }
    SK_UNROLL for (int c = 0; c < C; c++) {
        typedef int32_t eight __attribute__((vector_size(32)));
        ilanes sums = __builtin_shufflevector((eight)low[c], (eight)high[c], 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        dots[c] = bytes ? sums : dots[c] + sums;
    }
}

#include "dots_super_avx2.h"
#include "kernel_table.h"

#pragma clang attribute pop

const sk_kernels sk_kernels_avx2 = SK_KERNEL_TABLE(SK_ISA_AVX2);

#endif
