// Products with weights in blocks of 256 columns whose parts have integer scales: the walk over tiles. The instruction set's file has given,
// before it includes this,
//   SUPER_COLUMNS                                    columns of its largest tile
//   SUPER_CODE_OFFSET                                what it wants added to the values of IQ4_XS's codes: 128, or 0 for signed weights
//   super_steps_max(type)                            steps whose sum a super_sum holds
//   super_sum, super_start(start)                    sums of 16 rows for one column; they start at 0
//   SUPER_STARTS                                     1 where they may start at any other int32 as well, and hold a whole part
//   super_codes(w)                                   the code's value, + SUPER_CODE_OFFSET, for each byte
//   super_step(type, C, w, q, at, sum)               sum[c] += 16 rows' dot products of four weights (unsigned) and q[c] + at
//   super_fold(type, C, sum, scale, total)           total[c] += sum[c] * scale
//   super_pair(C, pair, minus_sum, at, correction)   correction[c] += dot products of two int16 and those at minus_sum[c] + at
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

/// Step `step`, counted from the slice at `slices` on: unsigned weights, four to a row's lane.
SK_INLINE ulanes super_weights(sk_type type, const uint8_t *slices, int step) {
    const int bits = super_low_bits(type), top = super_high_bits(type), steps = 8 / bits, at = step % SUPER_SLICE_STEPS;
    const uint8_t *slice = slices + (size_t)(step / SUPER_SLICE_STEPS) * super_slice_bytes(type);
    ulanes w = words_load(slice + super_low_at(type, at / steps)) >> (bits * (at % steps)) & ((1u << bits) - 1) * 0x01010101u;
    if (type == SK_TYPE_IQ4_XS) return super_codes(w);
    if (top == 0) return w;
    const int top_steps = 8 / top, shift = bits - top * (at % top_steps);
    ulanes v = words_load(slice + super_high_at(type, at / top_steps));
    v = shift >= 0 ? v << (shift >= 0 ? shift : 0) : v >> (shift < 0 ? -shift : 0);
    return w | (v & (((1u << top) - 1) << bits) * 0x01010101u);
}

enum { SUPER_BLOCKS_AHEAD = 3 };  // that weights are asked for before they are needed

/// What the sums of a column's parts start at: -S << zero shift, which is the correction of types without minima at no cost.
typedef int32_t super_starts[SUPER_PARTS];

/// total[c] = sum over the block of scale (u a + start). Weights as they lie packed in `slices`, or `spread`: 64 bytes for each step.
/// starts: of each column, or null for zeros.
SK_INLINE void super_dots(sk_type type, const bool spread, const int C, const uint8_t *slices, const super_scales *scales, const char *const *q,
                          const super_starts *starts, ilanes *total) {
    const int steps = super_part(type) / 4;
    const int fold = steps < super_steps_max(type) ? steps : super_steps_max(type);
    // One column keeps enough loads in flight by itself. With more, less of what is to come fits into the processor's window, and without
    // these 4 columns took 1.8 times as long as one, 8 took 2.9 (now 1.2 and 1.7).
    const size_t ahead = spread || C == 1 ? 0 : SUPER_BLOCKS_AHEAD * super_block_bytes(type);
    SK_UNROLL for (int c = 0; c < C; c++) total[c] = ilanes_splat(0);
    for (int word = 0; word < SUPER_BLOCK / super_part(type) / 4; word++) {
        const size_t slice_bytes = spread ? SUPER_SLICE_STEPS * 64 : super_slice_bytes(type);
        const uint8_t *here = slices + (size_t)(word * 4 * steps / SUPER_SLICE_STEPS) * slice_bytes;
        SK_UNROLL for (int part = 0; part < 4; part++) {
            // The compiler must not mix the loads of several parts: the prefetchers would lose the stream.
            if (C == 1 && !spread) __asm__ volatile("" ::: "memory");
            ilanes scale = (ilanes)(scales->scale[word] << (24 - 8 * part)) >> 24;
            SK_UNROLL for (int first = part * steps; first < (part + 1) * steps; first += fold) {
                super_sum sum[SUPER_COLUMNS];
                SK_UNROLL for (int c = 0; c < C; c++) sum[c] = super_start(starts != NULL ? starts[c][4 * word + part] : 0);
                SK_UNROLL for (int step = first; step < first + fold; step++) {
                    if (ahead > 0 && step * (int)slice_bytes % 512 < (int)slice_bytes)
                        __builtin_prefetch(here + ahead + (size_t)step * slice_bytes / SUPER_SLICE_STEPS);
                    ulanes w = spread ? words_load(here + 64 * step) : super_weights(type, here, step);
                    super_step(type, C, w, q, 16 * steps * word + 4 * step, sum);
                }
                super_fold(type, C, sum, scale, total);
            }
        }
    }
}

/// correction[c] = sum over the block's parts of -S times the minimum, or times the scale in types without minima.
SK_INLINE void super_corrections(sk_type type, const int C, const super_scales *scales, const char *const *minus_sum, ilanes *correction) {
    SK_UNROLL for (int c = 0; c < C; c++) correction[c] = ilanes_splat(0);
    SK_UNROLL for (int word = 0; word < SUPER_BLOCK / super_part(type) / 4; word++) {
        ulanes bytes = super_has_minima(type) ? scales->minimum[word] : scales->scale[word];
        super_pair(C, (slanes)bytes << 8 >> 8, minus_sum, 8 * word, correction);
        super_pair(C, (slanes)bytes >> 8, minus_sum, 8 * word + 4, correction);
    }
}

/// What a block has besides its weights.
typedef struct super_head {
    super_scales scales;
    lanes d, dmin;
} super_head;

SK_INLINE void super_head_load(sk_type type, const uint8_t *block, super_head *out) {
    const uint16_t *d = (const uint16_t *)(const void *)(block + super_d_at(type));
    super_scales_load(type, block, &out->scales);
    out->d = lanes_from_f16(hlanes_load(d));
    out->dmin = super_has_minima(type) ? lanes_from_f16(hlanes_load(d + LANES)) : lanes_splat(0.0f);
}

/// Adds block `b` to the outputs of C columns. x: C activation rows `stride` bytes apart.
SK_INLINE void super_block(sk_type type, const bool spread, const int C, const super_head *head, const uint8_t *weights, const super_starts *starts,
                           const char *x, size_t stride, const super_row_parts *parts, size_t b, lanes *acc) {
    const bool minima = super_has_minima(type), signed_codes = type == SK_TYPE_IQ4_XS && SUPER_CODE_OFFSET == 0;
    const size_t sums_at = super_part(type) == 16 ? parts->sums_16 + b * 32 : parts->sums_32 + b * 16;
    const char *q[SUPER_COLUMNS], *minus_sum[SUPER_COLUMNS];
    SK_UNROLL for (int c = 0; c < C; c++) {
        q[c] = x + (size_t)c * stride + b * SUPER_BLOCK;
        minus_sum[c] = x + (size_t)c * stride + sums_at;
    }
    ilanes total[SUPER_COLUMNS], correction[SUPER_COLUMNS];
    super_dots(type, spread, C, weights, &head->scales, q, starts, total);
    const bool corrected = minima || (starts == NULL && !signed_codes);
    if (corrected) super_corrections(type, C, &head->scales, minus_sum, correction);
    SK_UNROLL for (int c = 0; c < C; c++) {
        float s;
        memcpy(&s, x + (size_t)c * stride + parts->scales + b * sizeof s, sizeof s);
        if (corrected && !minima) total[c] += correction[c] << super_zero_shift(type);
        acc[c] = lanes_fma(head->d * lanes_splat(s), lanes_to_float(total[c]), acc[c]);
        if (minima) acc[c] = lanes_fma(head->dmin * lanes_splat(s), lanes_to_float(correction[c]), acc[c]);
    }
}

SK_INLINE void super_store(const product_range *range, int32_t group, int32_t column, const int C, const lanes *acc) {
    const int32_t row = group * LANES;
    float *out = range->out + (size_t)column * range->ldo + row;
    if (range->rows - row >= LANES)
        SK_UNROLL for (int c = 0; c < C; c++) lanes_store(out + (size_t)c * range->ldo, acc[c]);
    else
        for (int c = 0; c < C; c++) lanes_store_first(out + (size_t)c * range->ldo, acc[c], (size_t)(range->rows - row));
}

// ---- Few columns: weights go from packed bytes through registers into the sums, and each group is read once

SK_INLINE void super_tile(sk_type type, const int C, const product_range *range, int32_t group, int32_t column) {
    const size_t blocks = (size_t)range->columns / SUPER_BLOCK;
    const uint8_t *block = range->packed + (size_t)group * super_block_bytes(type) * blocks;
    const char *x = range->activations + (size_t)column * range->stride;
    const super_row_parts parts = super_row_parts_of(range->columns);
    lanes acc[SUPER_COLUMNS];
    SK_UNROLL for (int c = 0; c < C; c++) acc[c] = lanes_splat(0.0f);
    for (size_t b = 0; b < blocks; b++, block += super_block_bytes(type)) {
        super_head head;
        super_head_load(type, block, &head);
        super_block(type, false, C, &head, block + super_slices_at(type), NULL, x, range->stride, &parts, b, acc);
    }
    super_store(range, group, column, C, acc);
}

SK_INLINE void super_few(sk_type type, const product_range *range, int32_t group, int32_t first, int32_t last) {
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

// ---- Many columns: the weights of a block are spread once, one byte each, and all columns take them from there

enum { SUPER_MANY = 32 };  // columns from which on this pays
enum { SUPER_COLUMNS_AT_ONCE = 128 };  // their activations stay in the second cache while all groups pass over them

SK_INLINE void super_starts_load(sk_type type, const char *x, size_t stride, const super_row_parts *parts, size_t b, int32_t count,
                                 super_starts *starts) {
    typedef int16_t sixteen __attribute__((vector_size(32)));
    const size_t bytes = super_part(type) == 16 ? 32 : 16;
    const size_t sums_at = super_part(type) == 16 ? parts->sums_16 + b * bytes : parts->sums_32 + b * bytes;
    for (int32_t c = 0; c < count; c++) {
        sixteen sums = {0};
        memcpy(&sums, x + (size_t)c * stride + sums_at, bytes);
        ilanes v = __builtin_convertvector(sums, ilanes) << super_zero_shift(type);
        v = __builtin_shufflevector(v, v, 0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
        memcpy(starts[c], &v, sizeof v);
    }
}

SK_INLINE void super_many(sk_type type, const product_range *range, int32_t group, int32_t first, int32_t count) {
    const size_t blocks = (size_t)range->columns / SUPER_BLOCK;
    const uint8_t *block = range->packed + (size_t)group * super_block_bytes(type) * blocks;
    const super_row_parts parts = super_row_parts_of(range->columns);
    lanes acc[SUPER_COLUMNS_AT_ONCE];
    uint8_t weights[SUPER_BLOCK * SK_ROW_GROUP] __attribute__((aligned(64)));
    const bool signed_codes = type == SK_TYPE_IQ4_XS && SUPER_CODE_OFFSET == 0;
    const bool started = SUPER_STARTS && !super_has_minima(type) && !signed_codes;
    super_starts starts[SUPER_COLUMNS_AT_ONCE] __attribute__((aligned(64)));
    for (int32_t c = 0; c < count; c++) acc[c] = lanes_splat(0.0f);
    for (size_t b = 0; b < blocks; b++, block += super_block_bytes(type)) {
        super_head head;
        super_head_load(type, block, &head);
        const uint8_t *slice = block + super_slices_at(type);
        for (int i = 0; i < SUPER_SLICES; i++, slice += super_slice_bytes(type)) {
            for (size_t at = 0; at < super_slice_bytes(type); at += 64) __builtin_prefetch(slice + super_block_bytes(type) + at);
            SK_UNROLL for (int step = 0; step < SUPER_SLICE_STEPS; step++) {
                ulanes w = super_weights(type, slice, step);
                memcpy(weights + 64 * (SUPER_SLICE_STEPS * i + step), &w, sizeof w);
            }
        }
        const char *x = range->activations + (size_t)first * range->stride;
        if (started) super_starts_load(type, x, range->stride, &parts, b, count, starts);
        for (int32_t c = 0; c < count; c += SUPER_COLUMNS, x += SUPER_COLUMNS * range->stride) {
            // 256 bytes of each of the next rows, too short for the processor to see them coming.
            SK_UNROLL for (size_t i = 0; i < SUPER_COLUMNS; i++)
                SK_UNROLL for (size_t at = 0; at < SUPER_BLOCK; at += 64)
                    __builtin_prefetch(x + (SUPER_COLUMNS + i) * range->stride + b * SUPER_BLOCK + at);
            super_block(type, true, SUPER_COLUMNS, &head, weights, started ? starts + c : NULL, x, range->stride, &parts, b, acc + c);
        }
    }
    for (int32_t c = 0; c < count; c += SUPER_COLUMNS) super_store(range, group, first + c, SUPER_COLUMNS, acc + c);
}

SK_INLINE void super_product(sk_type type, const product_range *range) {
    for (int32_t first = 0; first < range->batch; first += SUPER_COLUMNS_AT_ONCE) {
        int32_t count = range->batch - first < SUPER_COLUMNS_AT_ONCE ? range->batch - first : SUPER_COLUMNS_AT_ONCE;
        int32_t whole = count < SUPER_MANY ? 0 : count / SUPER_COLUMNS * SUPER_COLUMNS;
        for (int32_t group = 0; group < range->groups; group++) {
            if (whole > 0) super_many(type, range, group, first, whole);
            super_few(type, range, group, first + whole, first + count);
        }
    }
}

static void product_q2_k(const product_range *range) { super_product(SK_TYPE_Q2_K, range); }
static void product_q3_k(const product_range *range) { super_product(SK_TYPE_Q3_K, range); }
static void product_q4_k(const product_range *range) { super_product(SK_TYPE_Q4_K, range); }
static void product_q5_k(const product_range *range) { super_product(SK_TYPE_Q5_K, range); }
static void product_q6_k(const product_range *range) { super_product(SK_TYPE_Q6_K, range); }
static void product_iq4_xs(const product_range *range) { super_product(SK_TYPE_IQ4_XS, range); }

#endif
