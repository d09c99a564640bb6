// The integer sums of 256-column blocks for AVX2. Included by avx2.c after its target pragma.

#ifndef SK_DOTS_SUPER_AVX2_H
#define SK_DOTS_SUPER_AVX2_H

#include "lanes.h"
#include "packed_super.h"

enum { SUPER_COLUMNS = 4, SUPER_CODE_OFFSET = 0, SUPER_STARTS = 0 };

/// Rows 0 ... 7 and 8 ... 15: sums of pairs in 16 bits, or for IQ4_XS sums in 32.
typedef struct super_sum {
    __m256i half[2];
} super_sum;

SK_INLINE super_sum super_start(int32_t start) { return (super_sum){{_mm256_set1_epi32(start), _mm256_set1_epi32(start)}}; }

/// A step adds to each 16-bit sum a pair of products, at most 254 times the largest weight: 7 * 254 * 4 = 7,112 (Q3_K),
/// 15 * 254 * 8 = 30,480 (Q4_K), 31 * 254 * 4 = 31,496 (Q5_K), 63 * 254 * 2 = 32,004 (Q6_K). No VPMADDUBSW saturates, no sum wraps.
SK_INLINE int super_steps_max(sk_type type) { return type == SK_TYPE_Q5_K ? 4 : type == SK_TYPE_Q6_K ? 2 : 8; }

/// Four bytes, or two int16, for eight rows.
SK_INLINE __m256i super_broadcast(const char *p) {
    int32_t word;
    memcpy(&word, p, sizeof word);
    return _mm256_set1_epi32(word);
}

SK_INLINE __m256i ulanes_half(ulanes w, int half) {
    typedef uint32_t eight __attribute__((vector_size(32)));
    eight low = __builtin_shufflevector(w, w, 0, 1, 2, 3, 4, 5, 6, 7), high = __builtin_shufflevector(w, w, 8, 9, 10, 11, 12, 13, 14, 15);
    return (__m256i)(half == 0 ? low : high);
}

SK_INLINE ilanes ilanes_of_halves(__m256i low, __m256i high) {
    typedef int32_t eight __attribute__((vector_size(32)));
    return __builtin_shufflevector((eight)low, (eight)high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

SK_INLINE ulanes super_codes(ulanes w) {
    static const int8_t codes[16] = {SUPER_CODES};
    __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)codes));
    return (ulanes)ilanes_of_halves(_mm256_shuffle_epi8(table, ulanes_half(w, 0)), _mm256_shuffle_epi8(table, ulanes_half(w, 1)));
}

/// IQ4_XS: with the weight's sign moved to the activation a pair's sum is at most 127 * 127 * 2 = 32,258, so exact.
SK_INLINE void super_step(sk_type type, const int C, ulanes w, const char *const *q, int at, super_sum *sum) {
    const __m256i ones = _mm256_set1_epi16(1);
    SK_UNROLL for (int c = 0; c < C; c++) {
        __m256i a = super_broadcast(q[c] + at);
        SK_UNROLL for (int h = 0; h < 2; h++) {
            __m256i weights = ulanes_half(w, h);
            if (type == SK_TYPE_IQ4_XS) {
                __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(a, weights));
                sum[c].half[h] = _mm256_add_epi32(sum[c].half[h], _mm256_madd_epi16(pairs, ones));
            } else {
                sum[c].half[h] = _mm256_add_epi16(sum[c].half[h], _mm256_maddubs_epi16(weights, a));
            }
        }
    }
}

/// VPMADDWD multiplies both 16-bit halves of a row's lane by the scale and adds them.
SK_INLINE void super_fold(sk_type type, const int C, const super_sum *sum, ilanes scale, ilanes *total) {
    ulanes twice = (ulanes)((scale & 0xffff) | scale << 16);
    SK_UNROLL for (int c = 0; c < C; c++) {
        __m256i low = sum[c].half[0], high = sum[c].half[1];
        if (type == SK_TYPE_IQ4_XS) total[c] += ilanes_of_halves(low, high) * scale;
        else total[c] += ilanes_of_halves(_mm256_madd_epi16(low, ulanes_half(twice, 0)), _mm256_madd_epi16(high, ulanes_half(twice, 1)));
    }
}

SK_INLINE void super_pair(const int C, ilanes pair, const char *const *minus_sum, int at, ilanes *correction) {
    __m256i low = ulanes_half((ulanes)pair, 0), high = ulanes_half((ulanes)pair, 1);
    SK_UNROLL for (int c = 0; c < C; c++) {
        __m256i sums = super_broadcast(minus_sum[c] + at);
        correction[c] += ilanes_of_halves(_mm256_madd_epi16(low, sums), _mm256_madd_epi16(high, sums));
    }
}

#endif
