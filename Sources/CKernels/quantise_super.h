// Quantisation of a row of activations in blocks of 256 (SK_ACTIVATION_Q8_256).

#ifndef SK_QUANTISE_SUPER_H
#define SK_QUANTISE_SUPER_H

#include "activation_super.h"
#include "row_kernels.h"

/// Sums of neighbours: a0 + a1, a2 + a3, ..., b14 + b15.
SK_INLINE ilanes ilanes_add_neighbours(ilanes a, ilanes b) {
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
           __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

/// -S of each 16 and of each 32 values, in the order that activation_super.h gives. v[i] is overwritten.
SK_INLINE void store_minus_sums(ilanes v[SUPER_PARTS], char *minus_sum_16, char *minus_sum_32) {
    SK_UNROLL for (int count = SUPER_PARTS; count > 1; count /= 2)
        SK_UNROLL for (int i = 0; i < count / 2; i++) v[i] = ilanes_add_neighbours(v[2 * i], v[2 * i + 1]);
    ilanes of_16 = -v[0], of_32 = ilanes_add_neighbours(of_16, of_16);
    hlanes a = __builtin_convertvector((ulanes)__builtin_shufflevector(of_16, of_16, 0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15), hlanes);
    hlanes b = __builtin_convertvector((ulanes)__builtin_shufflevector(of_32, of_32, 0, 2, 1, 3, 4, 6, 5, 7, 0, 2, 1, 3, 4, 6, 5, 7), hlanes);
    memcpy(minus_sum_16, &a, 32);
    memcpy(minus_sum_32, &b, 16);
}

static void quantise_q8_256(const float *x, int32_t columns, void *out) {
    const super_row_parts parts = super_row_parts_of(columns);
    char *row = out;
    const float smallest = 0x1p-100f;  // 127 / M must not overflow
    for (int32_t b = 0; b < columns / SUPER_BLOCK; b++, x += SUPER_BLOCK) {
        ilanes bits = ilanes_splat(0);
        SK_UNROLL for (int i = 0; i < SUPER_PARTS; i++) {
            ilanes magnitude = lanes_magnitude_bits(lanes_load(x + i * LANES));
            bits = ilanes_select(magnitude > bits, magnitude, bits);
        }
        int32_t largest = ilanes_fold_greater(bits);
        float magnitude;
        memcpy(&magnitude, &largest, sizeof magnitude);

        const bool finite = largest < 0x7f800000;
        const bool counts = finite && magnitude >= smallest;
        const float factor = counts ? 127.0f / magnitude : 0.0f;
        int8_t *q = (int8_t *)row + (size_t)b * SUPER_BLOCK;
        ilanes a[SUPER_PARTS];
        SK_UNROLL for (int i = 0; i < SUPER_PARTS; i++) {
            lanes v = finite ? lanes_load(x + i * LANES) : lanes_splat(0.0f);
            a[i] = lanes_round(v * lanes_splat(factor));
            blanes narrow = __builtin_convertvector(a[i], blanes);
            memcpy(q + i * LANES, &narrow, sizeof narrow);
        }
        const float scale = counts ? magnitude / 127.0f : finite ? 0.0f : NAN;
        memcpy(row + parts.scales + (size_t)b * sizeof scale, &scale, sizeof scale);
        store_minus_sums(a, row + parts.sums_16 + (size_t)b * 32, row + parts.sums_32 + (size_t)b * 16);
    }
}

#endif
