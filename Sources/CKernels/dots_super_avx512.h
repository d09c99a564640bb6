// The integer sums of 256-column blocks for AVX-512 VNNI. Included by avx512.c after its target pragma.

#ifndef SK_DOTS_SUPER_AVX512_H
#define SK_DOTS_SUPER_AVX512_H

#include "lanes.h"
#include "packed_super.h"

enum { SUPER_COLUMNS = 8, SUPER_CODE_OFFSET = 128, SUPER_STARTS = 1 };

typedef ilanes super_sum;
SK_INLINE super_sum super_start(int32_t start) { return ilanes_splat(start); }
SK_INLINE int super_steps_max(sk_type type) { return (void)type, 8; }

SK_INLINE ulanes super_codes(ulanes w) {
    static const int8_t codes[16] = {SUPER_CODES};
    __m128i table = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)codes), _mm_set1_epi8((char)0x80));
    return (ulanes)_mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), (__m512i)w);
}

/// Four bytes, or two int16, for all rows.
SK_INLINE __m512i super_broadcast(const char *p) {
    int32_t word;
    memcpy(&word, p, sizeof word);
    return _mm512_set1_epi32(word);
}

/// VPDPBUSD takes unsigned weights from a register and signed activations as a broadcast from memory; it does not saturate.
SK_INLINE void super_step(sk_type type, const int C, ulanes w, const char *const *q, int at, super_sum *sum) {
    (void)type;
    SK_UNROLL for (int c = 0; c < C; c++) sum[c] = (ilanes)_mm512_dpbusd_epi32((__m512i)sum[c], (__m512i)w, super_broadcast(q[c] + at));
}

SK_INLINE void super_fold(sk_type type, const int C, const super_sum *sum, ilanes scale, ilanes *total) {
    (void)type;
    SK_UNROLL for (int c = 0; c < C; c++) total[c] += sum[c] * scale;
}

SK_INLINE void super_pair(const int C, ilanes pair, const char *const *minus_sum, int at, ilanes *correction) {
    SK_UNROLL for (int c = 0; c < C; c++)
        correction[c] = (ilanes)_mm512_dpwssd_epi32((__m512i)correction[c], (__m512i)pair, super_broadcast(minus_sum[c] + at));
}

#endif
