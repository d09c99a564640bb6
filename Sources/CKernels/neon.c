// Kernels for AArch64 with the dot-product instructions (SDOT). Conversions between f16 and f32 are in every AArch64.

#if defined(__aarch64__)

#include <arm_neon.h>

#define SK_HAS_NEON 1
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)

#include "lanes.h"
#include "packed_block.h"

enum { INT8_GROUPS = 1 };

/// Four rows' sums += four weights of each row times the same four activations: element `j` of `q` as 32-bit lanes. Written with a
/// splat, which becomes SDOT's by-element form once the loops around it are unrolled.
SK_INLINE int32x4_t dot_four(int32x4_t sum, int8x16_t weights, int8x16_t q, int j) {
    return vdotq_s32(sum, weights, vreinterpretq_s8_s32(vdupq_n_s32(vreinterpretq_s32_s8(q)[j])));
}

/// SDOT multiplies signed by signed. 8-bit weights become signed by taking off the 128 that packing added; so the sum here is of the
/// signed weights, and the multiple of -S that `dots` brings along is not needed. 4-bit weights are small enough to be both: there
/// `dots` goes on as it came. A quarter of the rows at a time, so that weights, sums and the activations of four columns fit into the
/// registers.
SK_INLINE void int8_dots(sk_type type, const int C, const uint8_t *quants, const int8_t *const *q, ilanes *dots) {
    const bool bytes = type == SK_TYPE_Q8_0;
    int8x16_t low_half[C], high_half[C];  // elements 0 ..< 16 and 16 ..< 32 of the block
    int32x4_t sums[C][4];
    SK_UNROLL for (int c = 0; c < C; c++) {
        low_half[c] = vld1q_s8(q[c]);
        high_half[c] = vld1q_s8(q[c] + 16);
        if (bytes) dots[c] = ilanes_splat(0);
        memcpy(sums[c], &dots[c], sizeof sums[c]);
    }
    SK_UNROLL for (int r = 0; r < 4; r++) {
        SK_UNROLL for (int j = 0; j < 4; j++) {
            uint8x16_t w = vld1q_u8(quants + 64 * j + 16 * r);
            int8x16_t low, high;
            if (bytes) {
                low = vreinterpretq_s8_u8(veorq_u8(w, vdupq_n_u8(0x80)));
                high = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(quants + 256 + 64 * j + 16 * r), vdupq_n_u8(0x80)));
            } else {
                low = vreinterpretq_s8_u8(vandq_u8(w, vdupq_n_u8(15)));
                high = vreinterpretq_s8_u8(vshrq_n_u8(w, 4));
            }
            SK_UNROLL for (int c = 0; c < C; c++) sums[c][r] = dot_four(sums[c][r], low, low_half[c], j);
            SK_UNROLL for (int c = 0; c < C; c++) sums[c][r] = dot_four(sums[c][r], high, high_half[c], j);
        }
    }
    SK_UNROLL for (int c = 0; c < C; c++) memcpy(&dots[c], sums[c], sizeof dots[c]);
}

#include "dots_super_neon.h"
#include "kernel_table.h"

#pragma clang attribute pop

const sk_kernels sk_kernels_neon = SK_KERNEL_TABLE(SK_ISA_NEON);

#endif
