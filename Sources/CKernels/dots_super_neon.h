// The integer sums of 256-column blocks for NEON with dot products. Included by neon.c after its target pragma and `dot_four`.

#ifndef SK_DOTS_SUPER_NEON_H
#define SK_DOTS_SUPER_NEON_H

#include "lanes.h"
#include "packed_super.h"

enum { SUPER_COLUMNS = 4, SUPER_CODE_OFFSET = 0, SUPER_STARTS = 1 };

/// Rows 0 ... 3, 4 ... 7, 8 ... 11 and 12 ... 15.
typedef struct super_sum {
    int32x4_t rows[4];
} super_sum;

SK_INLINE super_sum super_start(int32_t start) {
    const int32x4_t four = vdupq_n_s32(start);
    return (super_sum){{four, four, four, four}};
}

SK_INLINE int super_steps_max(sk_type type) { return (void)type, 8; }

SK_INLINE ulanes super_codes(ulanes w) {
    static const int8_t codes[16] = {SUPER_CODES};
    const int8x16_t table = vld1q_s8(codes);
    uint8x16_t index[4];
    int8x16_t value[4];
    memcpy(index, &w, sizeof index);
    SK_UNROLL for (int r = 0; r < 4; r++) value[r] = vqtbl1q_s8(table, index[r]);
    memcpy(&w, value, sizeof w);
    return w;
}

/// Stored weights are below 64, so as good signed as unsigned; IQ4_XS's are signed. Each column's four activations are an element of a
/// load of sixteen, or one word splat by LD1R, as the compiler sees fit.
SK_INLINE void super_step(sk_type type, const int C, ulanes w, const char *const *q, int at, super_sum *sum) {
    (void)type;
    int8x16_t weights[4];
    memcpy(weights, &w, sizeof weights);
    SK_UNROLL for (int c = 0; c < C; c++) {
        const int8x16_t sixteen = vld1q_s8((const int8_t *)q[c] + (at & ~15));
        SK_UNROLL for (int r = 0; r < 4; r++) sum[c].rows[r] = dot_four(sum[c].rows[r], weights[r], sixteen, at / 4 % 4);
    }
}

SK_INLINE void super_fold(sk_type type, const int C, const super_sum *sum, ilanes scale, ilanes *total) {
    (void)type;
    SK_UNROLL for (int c = 0; c < C; c++) {
        ilanes whole;
        memcpy(&whole, &sum[c], sizeof whole);
        total[c] += whole * scale;
    }
}

/// The even and the odd 16 bits of four rows each, times one of eight sums of activations: SMLAL by element.
SK_INLINE void super_pair(const int C, ilanes pair, const char *const *minus_sum, int at, ilanes *correction) {
    int16x8_t twos[4];
    memcpy(twos, &pair, sizeof twos);
    SK_UNROLL for (int c = 0; c < C; c++) {
        int16x8_t eight;
        memcpy(&eight, minus_sum[c] + (at & ~15), sizeof eight);
        const int16x4_t first = vdup_n_s16(eight[at % 16 / 2]), second = vdup_n_s16(eight[at % 16 / 2 + 1]);
        int32x4_t rows[4];
        memcpy(rows, &correction[c], sizeof rows);
        SK_UNROLL for (int r = 0; r < 4; r++) {
            rows[r] = vmlal_s16(rows[r], vmovn_s32(vreinterpretq_s32_s16(twos[r])), first);
            rows[r] = vmlal_s16(rows[r], vshrn_n_s32(vreinterpretq_s32_s16(twos[r]), 16), second);
        }
        memcpy(&correction[c], rows, sizeof rows);
    }
}

#endif
