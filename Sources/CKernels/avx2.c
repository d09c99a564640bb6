// Kernels for x86-64 with AVX2, FMA and F16C.

#if defined(__x86_64__)

#include <immintrin.h>

#define SK_HAS_F16C 1
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

#include "lanes.h"
#include "packed_block.h"

enum { INT8_GROUPS = 1 };

SK_INLINE __m256i broadcast_four(const int8_t *q) {
    int32_t four;
    memcpy(&four, q, sizeof four);
    return _mm256_set1_epi32(four);
}

/// 4-bit weights: a pair's sum is at most 15 * 127 * 2 = 3,810 and a block adds eight of them, 30,480: 16 bits hold it, and
/// VPMADDUBSW never saturates.
SK_INLINE void dots_of_nibbles(const int C, const uint8_t *quants, const int8_t *const *q, int half, __m256i *sums) {
    const __m256i low_half = _mm256_set1_epi8(15);
    __m256i pairs[C];
    SK_UNROLL for (int c = 0; c < C; c++) pairs[c] = _mm256_setzero_si256();
    SK_UNROLL for (int j = 0; j < 4; j++) {
        __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)(quants + 64 * j + 32 * half));
        __m256i low = _mm256_and_si256(both, low_half);
        __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), low_half);
        SK_UNROLL for (int c = 0; c < C; c++) {
            pairs[c] = _mm256_add_epi16(pairs[c], _mm256_maddubs_epi16(low, broadcast_four(q[c] + 4 * j)));
            pairs[c] = _mm256_add_epi16(pairs[c], _mm256_maddubs_epi16(high, broadcast_four(q[c] + 16 + 4 * j)));
        }
    }
    SK_UNROLL for (int c = 0; c < C; c++) sums[c] = _mm256_madd_epi16(pairs[c], _mm256_set1_epi16(1));
}

/// 8-bit weights: unsigned weight times activation would saturate VPMADDUBSW (255 * 127 * 2). With the weight's sign moved to the
/// activation, which is never -128, a pair's sum is at most 128 * 127 * 2 = 32,512 and exact, weights of -128 included.
/// So the sum here is of the signed weights, and what `minus_sum` was shifted for is not needed: see `int8_dots`.
SK_INLINE void dots_of_bytes(const int C, const uint8_t *quants, const int8_t *const *q, int half, __m256i *sums) {
    const __m256i ones = _mm256_set1_epi16(1);
    SK_UNROLL for (int c = 0; c < C; c++) sums[c] = _mm256_setzero_si256();
    SK_UNROLL for (int j = 0; j < 8; j++) {
        __m256i w = _mm256_loadu_si256((const __m256i *)(const void *)(quants + 64 * j + 32 * half));
        w = _mm256_xor_si256(w, _mm256_set1_epi8((char)0x80));
        __m256i magnitude = _mm256_abs_epi8(w);
        SK_UNROLL for (int c = 0; c < C; c++) {
            __m256i signed_activation = _mm256_sign_epi8(broadcast_four(q[c] + 4 * j), w);
            __m256i pairs = _mm256_maddubs_epi16(magnitude, signed_activation);
            sums[c] = _mm256_add_epi32(sums[c], _mm256_madd_epi16(pairs, ones));
        }
    }
}

SK_INLINE void int8_dots(sk_type type, const int C, const uint8_t *quants, const int8_t *const *q, ilanes *dots) {
    __m256i low[C], high[C];
    if (type == SK_TYPE_Q8_0) {
        dots_of_bytes(C, quants, q, 0, low);
        dots_of_bytes(C, quants, q, 1, high);
    } else {
        dots_of_nibbles(C, quants, q, 0, low);
        dots_of_nibbles(C, quants, q, 1, high);
    }
    SK_UNROLL for (int c = 0; c < C; c++) {
        typedef int32_t eight __attribute__((vector_size(32)));
        ilanes sums = __builtin_shufflevector((eight)low[c], (eight)high[c], 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        dots[c] = type == SK_TYPE_Q8_0 ? sums : dots[c] + sums;
    }
}

#include "dots_super_avx2.h"
#include "kernel_table.h"

#pragma clang attribute pop

const sk_kernels sk_kernels_avx2 = SK_KERNEL_TABLE(SK_ISA_AVX2);

#endif
