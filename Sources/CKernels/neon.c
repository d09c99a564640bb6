// Kernels for AArch64 with the dot-product instructions (SDOT). Conversions between f16 and f32 are in every AArch64.

#if defined(__aarch64__)

#include <arm_neon.h>

#define SK_HAS_NEON 1
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)

#include "lanes.h"
#include "packed_block.h"

enum { INT8_COLUMNS = 4, INT8_STRIP = 4 };

/// Four rows' sums += four weights of each row times the same four activations: element `j` of `q` as 32-bit lanes. Written with a
/// splat, which becomes SDOT's by-element form once the loops around it are unrolled.
SK_INLINE int32x4_t dot_four(int32x4_t sum, int8x16_t weights, int8x16_t q, int j) {
    return vdotq_s32(sum, weights, vreinterpretq_s8_s32(vdupq_n_s32(vreinterpretq_s32_s8(q)[j])));
}

/// Four rows of elements 4j + t (half 0) and 16 + 4j + t (half 1) as SDOT takes them: signed bytes. 4- and 5-bit weights are so as they
/// are stored; of 8-bit weights the 128 that packing added is taken off; IQ4_NL's codes become their values.
SK_INLINE int8x16_t signed_weights(sk_type type, const uint8_t *quants, int r, int j, int half) {
    if (!packed_nibbles(type)) return (int8x16_t)veorq_u8(vld1q_u8(quants + 64 * (4 * half + j) + 16 * r), vdupq_n_u8(0x80));
    const uint8x16_t both = vld1q_u8(quants + 64 * j + 16 * r);
    uint8x16_t w = half == 0 ? vandq_u8(both, vdupq_n_u8(15)) : vshrq_n_u8(both, 4);
    if (type == SK_TYPE_IQ4_NL) return vqtbl1q_s8(vld1q_s8(packed_iq4_values), w);
    if (packed_fifth_bits(type)) {
        const uint8x16_t fifth = vld1q_u8(quants - 64 + 16 * r);
        w |= (half == 0 ? fifth << (uint8_t)(4 - j) : fifth >> (uint8_t)j) & 16;
    }
    return (int8x16_t)w;
}

/// What is summed are signed weights where `signed_weights` says so, and then the multiple of -S that `dots` brings along is not needed.
/// A quarter of the rows at a time, so that weights, sums and the activations of four columns fit into the registers.
SK_INLINE void int8_dots(sk_type type, const int C, const uint8_t *quants, const int8_t *const *q, ilanes *dots) {
    const bool anew = type == SK_TYPE_Q8_0 || type == SK_TYPE_IQ4_NL;
    int8x16_t halves[C][2];  // elements 0 ..< 16 and 16 ..< 32 of the block
    int32x4_t sums[C][4];
    SK_UNROLL for (int c = 0; c < C; c++) {
        halves[c][0] = vld1q_s8(q[c]);
        halves[c][1] = vld1q_s8(q[c] + 16);
        if (anew) dots[c] = ilanes_splat(0);
        memcpy(sums[c], &dots[c], sizeof sums[c]);
    }
    SK_UNROLL for (int r = 0; r < 4; r++)
        SK_UNROLL for (int j = 0; j < 4; j++)
            SK_UNROLL for (int half = 0; half < 2; half++) {
                const int8x16_t w = signed_weights(type, quants, r, j, half);
                SK_UNROLL for (int c = 0; c < C; c++) sums[c][r] = dot_four(sums[c][r], w, halves[c][half], j);
            }
    SK_UNROLL for (int c = 0; c < C; c++) memcpy(&dots[c], sums[c], sizeof dots[c]);
}

#include "dots_super_neon.h"
#include "kernel_table.h"

#pragma clang attribute pop

const sk_kernels sk_kernels_neon = SK_KERNEL_TABLE(SK_ISA_NEON);

#endif
