// The integer sums of 256-column blocks in plain C: 16 rows side by side, four elements in each 32-bit lane.

#ifndef SK_DOTS_SUPER_PORTABLE_H
#define SK_DOTS_SUPER_PORTABLE_H

#include "lanes.h"
#include "packed_super.h"

enum { SUPER_COLUMNS = 4, SUPER_CODE_OFFSET = 128, SUPER_STARTS = 1 };

typedef ilanes super_sum;
SK_INLINE super_sum super_start(int32_t start) { return ilanes_splat(start); }
SK_INLINE int super_steps_max(sk_type type) { return (void)type, 8; }

SK_INLINE ulanes super_codes(ulanes w) {
    static const int8_t codes[16] = {SUPER_CODES};
    uint8_t bytes[64];
    memcpy(bytes, &w, sizeof bytes);
    for (int i = 0; i < 64; i++) bytes[i] = (uint8_t)(codes[bytes[i]] + SUPER_CODE_OFFSET);
    memcpy(&w, bytes, sizeof bytes);
    return w;
}

SK_INLINE void super_step(sk_type type, const int C, ulanes w, const char *const *q, int at, super_sum *sum) {
    (void)type;
    for (int t = 0; t < 4; t++) {
        ilanes byte = (ilanes)(w >> (8 * t) & 0xff);
        for (int c = 0; c < C; c++) sum[c] += byte * (int32_t)(int8_t)q[c][at + t];
    }
}

SK_INLINE void super_fold(sk_type type, const int C, const super_sum *sum, ilanes scale, ilanes *total) {
    (void)type;
    for (int c = 0; c < C; c++) total[c] += sum[c] * scale;
}

SK_INLINE void super_pair(const int C, ilanes pair, const char *const *minus_sum, int at, ilanes *correction) {
    ilanes even = pair << 16 >> 16, odd = pair >> 16;
    for (int c = 0; c < C; c++) {
        int16_t two[2];
        memcpy(two, minus_sum[c] + at, sizeof two);
        correction[c] += even * (int32_t)two[0] + odd * (int32_t)two[1];
    }
}

#endif
