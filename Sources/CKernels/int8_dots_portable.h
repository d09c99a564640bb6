// The dot products of one block in plain C: 16 rows side by side, four elements in each 32-bit lane.

#ifndef SK_INT8_DOTS_PORTABLE_H
#define SK_INT8_DOTS_PORTABLE_H

#include "lanes.h"
#include "packed_block.h"

enum { INT8_GROUPS = 1 };

SK_INLINE void int8_dots(sk_type type, const int C, const uint8_t *quants, const int8_t *const *q, ilanes *dots) {
    const bool nibbles = type != SK_TYPE_Q8_0;
    for (int j = 0; j < (nibbles ? 4 : 8); j++) {
        ulanes four;
        memcpy(&four, quants + 64 * j, sizeof four);
        for (int t = 0; t < 4; t++) {
            ilanes byte = (ilanes)((four >> (8 * t)) & 0xff);
            for (int c = 0; c < C; c++) {
                const int8_t *a = q[c] + 4 * j + t;
                if (nibbles) dots[c] += (byte & 15) * (int32_t)a[0] + (byte >> 4) * (int32_t)a[16];
                else dots[c] += byte * (int32_t)a[0];
            }
        }
    }
}

#endif
