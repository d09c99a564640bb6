// Products with weights in blocks of 256 columns whose parts have integer scales: the walk over tiles. The instruction set's file has given,
// before it includes this,
//   SUPER_COLUMNS                                    columns of its largest tile
//   SUPER_CODE_OFFSET                                what it wants added to the values of IQ4_XS's codes: 128, or 0 for signed weights
//   super_steps_max(type)                            steps whose sum a super_sum holds
//   super_sum, super_zero()                          sums of 16 rows for one column
//   super_codes(w)                                   the code's value, + SUPER_CODE_OFFSET, for each byte
//   super_step(type, C, w, q, at, sum)               sum[c] += 16 rows' dot products of four weights (unsigned) and q[c] + at
//   super_fold(type, C, sum, scale, total)           total[c] += sum[c] * scale
//   super_pair(C, pair, minus_sum, at, correction)   correction[c] += dot products of two int16 and minus_sum[c] + at
// and lanes carry the rest. The rule of each type stands in the public header, layouts and bounds in packed_super.h.

#ifndef SK_PRODUCT_SUPER_H
#define SK_PRODUCT_SUPER_H

#include "activation_super.h"
#include "product_float.h"

typedef int16_t slanes __attribute__((vector_size(64)));    // two for each row
typedef uint8_t bytelanes __attribute__((vector_size(64)));  // four for each row

SK_INLINE ulanes words_load(const uint8_t *p) {
    ulanes v;
    memcpy(&v, p, sizeof v);
    return v;
}

/// The scales and minima of a block, four to a row's lane, as signed bytes.
typedef struct super_scales {
    ulanes scale[4];
    ulanes minimum[4];
} super_scales;

SK_INLINE ulanes minus_32(ulanes bytes) { return (ulanes)((bytelanes)bytes - 32); }

SK_INLINE void super_scales_load(sk_type type, const uint8_t *p, super_scales *out) {
    const uint32_t half = 0x0f0f0f0f, two = 0x03030303;
    ulanes a = words_load(p);
    if (type == SK_TYPE_IQ4_XS) {
        ulanes top = hlanes_widen(hlanes_load((const uint16_t *)(const void *)(p + 64)));
        ulanes first = (top & 0x0303) | (top << 14 & 0x03030000), second = (top >> 4 & 0x0303) | (top << 10 & 0x03030000);
        out->scale[0] = minus_32((a & half) | first << 4);
        out->scale[1] = minus_32((a >> 4 & half) | second << 4);
        return;
    }
    ulanes b = words_load(p + 64), c = words_load(p + 128);
    if (type == SK_TYPE_Q4_K || type == SK_TYPE_Q5_K) {
        out->scale[0] = a & 0x3f3f3f3f;
        out->minimum[0] = b & 0x3f3f3f3f;
        out->scale[1] = (c & half) | (a >> 2 & 0x30303030);
        out->minimum[1] = (c >> 4 & half) | (b >> 2 & 0x30303030);
    } else if (type == SK_TYPE_Q3_K) {
        out->scale[0] = minus_32((a & half) | (c & two) << 4);
        out->scale[1] = minus_32((b & half) | (c >> 2 & two) << 4);
        out->scale[2] = minus_32((a >> 4 & half) | (c >> 4 & two) << 4);
        out->scale[3] = minus_32((b >> 4 & half) | (c >> 6 & two) << 4);
    } else {
        SK_UNROLL for (int i = 0; i < 4; i++) {
            ulanes v = words_load(p + 64 * i);
            out->scale[i] = type == SK_TYPE_Q2_K ? v & half : v;
            out->minimum[i] = v >> 4 & half;
        }
    }
}

/// Step `step` of the planes that begin at `low` and `high`: unsigned weights, four to a row's lane.
SK_INLINE ulanes super_weights(sk_type type, const uint8_t *low, const uint8_t *high, int step) {
    const int bits = super_low_bits(type), top = super_high_bits(type), steps = 8 / bits;
    ulanes w = words_load(low + 64 * (step / steps)) >> (bits * (step % steps)) & ((1u << bits) - 1) * 0x01010101u;
    if (type == SK_TYPE_IQ4_XS) return super_codes(w);
    if (top == 0) return w;
    const int top_steps = 8 / top, shift = bits - top * (step % top_steps);
    ulanes v = words_load(high + 64 * (step / top_steps));
    v = shift >= 0 ? v << (shift >= 0 ? shift : 0) : v >> (shift < 0 ? -shift : 0);
    return w | (v & (((1u << top) - 1) << bits) * 0x01010101u);
}

/// total[c] = sum over the block of scale u a.
SK_INLINE void super_dots(sk_type type, const int C, const uint8_t *block, const super_scales *scales, const int8_t *const *q, ilanes *total) {
    const int steps = super_part(type) / 4;
    const int fold = steps < super_steps_max(type) ? steps : super_steps_max(type);
    const uint8_t *low = block, *high = block + super_plane_bytes(super_low_bits(type));
    SK_UNROLL for (int c = 0; c < C; c++) total[c] = ilanes_splat(0);
    for (int word = 0; word < SUPER_STEPS / (4 * steps); word++) {
        const uint8_t *word_low = low + word * 4 * steps * super_low_bits(type) * 8;
        const uint8_t *word_high = high + word * 4 * steps * super_high_bits(type) * 8;
        SK_UNROLL for (int part = 0; part < 4; part++) {
            ilanes scale = (ilanes)(scales->scale[word] << (24 - 8 * part)) >> 24;
            SK_UNROLL for (int first = part * steps; first < (part + 1) * steps; first += fold) {
                super_sum sum[C];
                SK_UNROLL for (int c = 0; c < C; c++) sum[c] = super_zero();
                SK_UNROLL for (int step = first; step < first + fold; step++) {
                    ulanes w = super_weights(type, word_low, word_high, step);
                    super_step(type, C, w, q, 16 * steps * word + 4 * step, sum);
                }
                super_fold(type, C, sum, scale, total);
            }
        }
    }
}

/// correction[c] = sum over the block's parts of -S times the minimum, or times the scale in types without minima.
SK_INLINE void super_corrections(sk_type type, const int C, const super_scales *scales, const int16_t *const *minus_sum, ilanes *correction) {
    SK_UNROLL for (int c = 0; c < C; c++) correction[c] = ilanes_splat(0);
    SK_UNROLL for (int word = 0; word < SUPER_BLOCK / super_part(type) / 4; word++) {
        ulanes bytes = super_has_minima(type) ? scales->minimum[word] : scales->scale[word];
        super_pair(C, (slanes)bytes << 8 >> 8, minus_sum, 4 * word, correction);
        super_pair(C, (slanes)bytes >> 8, minus_sum, 4 * word + 2, correction);
    }
}

SK_INLINE void super_tile(sk_type type, const int C, const product_range *range, int32_t group, int32_t column) {
    const bool minima = super_has_minima(type), signed_codes = type == SK_TYPE_IQ4_XS && SUPER_CODE_OFFSET == 0;
    const int zero_shift = type == SK_TYPE_IQ4_XS ? 7 : super_zero_shift(type);
    const int32_t blocks = range->columns / SUPER_BLOCK;
    const uint8_t *block = range->packed + (size_t)group * super_block_bytes(type) * (size_t)blocks;
    super_row x[C];
    lanes acc[C];
    SK_UNROLL for (int c = 0; c < C; c++) {
        x[c] = super_row_at(range->activations + (size_t)(column + c) * range->stride, range->columns);
        acc[c] = lanes_splat(0.0f);
    }
    for (int32_t b = 0; b < blocks; b++, block += super_block_bytes(type)) {
        const int8_t *q[C];
        const int16_t *minus_sum[C];
        SK_UNROLL for (int c = 0; c < C; c++) {
            q[c] = x[c].q + (size_t)b * SUPER_BLOCK;
            minus_sum[c] = super_part(type) == 16 ? x[c].minus_sum_16 + (size_t)b * 16 : x[c].minus_sum_32 + (size_t)b * 8;
        }
        super_scales scales;
        super_scales_load(type, block + super_scales_at(type), &scales);
        ilanes total[C], correction[C];
        super_dots(type, C, block, &scales, q, total);
        if (!signed_codes) super_corrections(type, C, &scales, minus_sum, correction);

        const uint16_t *head = (const uint16_t *)(const void *)(block + super_d_at(type));
        lanes d = lanes_from_f16(hlanes_load(head));
        SK_UNROLL for (int c = 0; c < C; c++) {
            if (!minima && !signed_codes) total[c] += correction[c] << zero_shift;
            acc[c] = lanes_fma(d * lanes_splat(x[c].scale[b]), lanes_to_float(total[c]), acc[c]);
        }
        if (!minima) continue;
        lanes dmin = lanes_from_f16(hlanes_load(head + LANES));
        SK_UNROLL for (int c = 0; c < C; c++)
            acc[c] = lanes_fma(dmin * lanes_splat(x[c].scale[b]), lanes_to_float(correction[c]), acc[c]);
    }
    SK_UNROLL for (int c = 0; c < C; c++) {
        int32_t row = group * LANES;
        store_rows(range->out + (size_t)(column + c) * range->ldo + row, acc[c], range->rows - row);
    }
}

SK_INLINE void super_columns(sk_type type, const product_range *range, int32_t group, int32_t first, int32_t last) {
    int32_t column = first;
    for (; column + SUPER_COLUMNS <= last; column += SUPER_COLUMNS) super_tile(type, SUPER_COLUMNS, range, group, column);
    switch (last - column) {
        case 7: if (SUPER_COLUMNS > 7) super_tile(type, 7, range, group, column); break;
        case 6: if (SUPER_COLUMNS > 6) super_tile(type, 6, range, group, column); break;
        case 5: if (SUPER_COLUMNS > 5) super_tile(type, 5, range, group, column); break;
        case 4: if (SUPER_COLUMNS > 4) super_tile(type, 4, range, group, column); break;
        case 3: super_tile(type, 3, range, group, column); break;
        case 2: super_tile(type, 2, range, group, column); break;
        case 1: super_tile(type, 1, range, group, column); break;
    }
}

/// Columns whose activations stay in the second cache while all groups pass over them.
enum { SUPER_COLUMNS_AT_ONCE = 64 };

SK_INLINE void super_product(sk_type type, const product_range *range) {
    for (int32_t first = 0; first < range->batch; first += SUPER_COLUMNS_AT_ONCE) {
        int32_t last = range->batch - first < SUPER_COLUMNS_AT_ONCE ? range->batch : first + SUPER_COLUMNS_AT_ONCE;
        for (int32_t group = 0; group < range->groups; group++) super_columns(type, range, group, first, last);
    }
}

static void product_q2_k(const product_range *range) { super_product(SK_TYPE_Q2_K, range); }
static void product_q3_k(const product_range *range) { super_product(SK_TYPE_Q3_K, range); }
static void product_q4_k(const product_range *range) { super_product(SK_TYPE_Q4_K, range); }
static void product_q5_k(const product_range *range) { super_product(SK_TYPE_Q5_K, range); }
static void product_q6_k(const product_range *range) { super_product(SK_TYPE_Q6_K, range); }
static void product_iq4_xs(const product_range *range) { super_product(SK_TYPE_IQ4_XS, range); }

#endif
