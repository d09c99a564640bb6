// One row of a packed matrix as floats.

#include "halves.h"
#include "packed_block.h"
#include "packed_super.h"
#include "require.h"

static float widen_f16(uint16_t half) {
    uint16_t padded[LANES] = {half};
    return lanes_from_f16(hlanes_load(padded))[0];
}

static float widen_bf16(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void float_row(const sk_matrix *matrix, const uint8_t *group, int32_t row, float *out) {
    for (int32_t k = 0; k < matrix->columns; k++) {
        size_t index = (size_t)k * SK_ROW_GROUP + (size_t)row;
        uint16_t half;
        if (matrix->type == SK_TYPE_F32) {
            memcpy(out + k, group + 4 * index, 4);
            continue;
        }
        memcpy(&half, group + 2 * index, 2);
        out[k] = matrix->type == SK_TYPE_F16 ? widen_f16(half) : widen_bf16(half);
    }
}

/// The integer that stands for element i of a row: q, or the value that q is the number of.
static int block_element(sk_type type, const uint8_t *block, int32_t row, int i) {
    const uint8_t *quants = block + packed_quants_at(type);
    if (!packed_nibbles(type)) return quants[64 * (i / 4) + 4 * row + i % 4] - 128;
    int half = i / 16, j = i % 16 / 4, t = i % 4;
    int q = quants[64 * j + 4 * row + t] >> (4 * half) & 15;
    if (packed_fifth_bits(type)) q |= (quants[4 * row + t - 64] >> (4 * half + j) & 1) << 4;
    if (type == SK_TYPE_IQ4_NL) return packed_iq4_values[q];
    return packed_shift(type) < 0 ? q : q - (1 << packed_shift(type));
}

static void block_row(sk_type type, const uint8_t *block, int32_t row, float *out) {
    uint16_t d16, m16;
    memcpy(&d16, block + 2 * row, 2);
    memcpy(&m16, block + (packed_minimum(type) ? 32 : 0) + 2 * row, 2);
    float d = widen_f16(d16), m = widen_f16(m16);
    for (int i = 0; i < Q8_BLOCK; i++) {
        float product = d * (float)block_element(type, block, row, i);
        out[i] = packed_minimum(type) ? product + m : product;
    }
}

void sk_packed_row_to_f32(const sk_matrix *matrix, int32_t row, float *out) {
    SK_REQUIRE(row >= 0 && row < matrix->rows, "no such row");
    const uint8_t *group = (const uint8_t *)matrix->packed + sk_packed_offset(matrix->type, row & ~(SK_ROW_GROUP - 1), matrix->columns);
    if (sk_type_block(matrix->type) == 1) {
        float_row(matrix, group, row % SK_ROW_GROUP, out);
        return;
    }
    if (is_super(matrix->type)) {
        super_row_to_f32(matrix->type, group, row % SK_ROW_GROUP, matrix->columns, out);
        return;
    }
    for (int32_t b = 0; b < matrix->columns / Q8_BLOCK; b++)
        block_row(matrix->type, group + (size_t)b * packed_block_bytes(matrix->type), row % SK_ROW_GROUP, out + (size_t)b * Q8_BLOCK);
}
