// The dot products of one block in plain C: 16 rows side by side, four elements in each 32-bit lane.

#ifndef SK_INT8_DOTS_PORTABLE_H
#define SK_INT8_DOTS_PORTABLE_H

#include "lanes.h"
#include "packed_block.h"

enum { INT8_COLUMNS = 4, INT8_STRIP = 4 };

/// Element t of each lane's four, in the low or high half of byte t: the shifted weight.
SK_INLINE ilanes nibble_weights(sk_type type, ulanes four, ulanes fifth, int j, int t, int half) {
    ulanes q = (four >> (8 * t + 4 * half)) & 15;
    if (packed_fifth_bits(type)) q |= ((fifth >> (8 * t + 4 * half + j)) & 1) << 4;
    if (type == SK_TYPE_IQ4_NL)
        for (int r = 0; r < LANES; r++) q[r] = (uint32_t)(packed_iq4_values[q[r]] + 128);
    return (ilanes)q;
}

SK_INLINE void int8_dots(sk_type type, const int C, const uint8_t *quants, const int8_t *const *q, ilanes *dots) {
    ulanes four, fifth = ulanes_splat(0);
    if (packed_fifth_bits(type)) memcpy(&fifth, quants - 64, sizeof fifth);
    for (int j = 0; j < (packed_nibbles(type) ? 4 : 8); j++) {
        memcpy(&four, quants + 64 * j, sizeof four);
        for (int t = 0; t < 4; t++) {
            if (!packed_nibbles(type)) {
                ilanes byte = (ilanes)((four >> (8 * t)) & 0xff);
                for (int c = 0; c < C; c++) dots[c] += byte * (int32_t)q[c][4 * j + t];
                continue;
            }
            ilanes low = nibble_weights(type, four, fifth, j, t, 0), high = nibble_weights(type, four, fifth, j, t, 1);
            for (int c = 0; c < C; c++) dots[c] += low * (int32_t)q[c][4 * j + t] + high * (int32_t)q[c][16 + 4 * j + t];
        }
    }
}

#endif
