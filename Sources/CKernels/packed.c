// Packing: from rows as GGUF stores them to row groups as the products read them. Layouts: packed_block.h and product_float.h.

#include "packed_block.h"
#include "packed_super.h"
#include "require.h"

#include <string.h>

bool sk_type_is_supported(uint32_t type) {
    switch (type) {
        case SK_TYPE_F32: case SK_TYPE_F16: case SK_TYPE_BF16:
        case SK_TYPE_Q4_0: case SK_TYPE_Q4_1: case SK_TYPE_Q5_0: case SK_TYPE_Q5_1: case SK_TYPE_Q8_0: case SK_TYPE_IQ4_NL:
            return true;
        default:
            return is_super(type);
    }
}

static bool is_float(sk_type type) { return type == SK_TYPE_F32 || type == SK_TYPE_F16 || type == SK_TYPE_BF16; }

int32_t sk_type_block(sk_type type) {
    SK_REQUIRE(sk_type_is_supported(type), "no such tensor type");
    return is_float(type) ? 1 : is_super(type) ? SUPER_BLOCK : Q8_BLOCK;
}

sk_activation_kind sk_type_activation(sk_type type) {
    SK_REQUIRE(sk_type_is_supported(type), "no such tensor type");
    return is_float(type) ? SK_ACTIVATION_F32 : is_super(type) ? SK_ACTIVATION_Q8_256 : SK_ACTIVATION_Q8_32;
}

/// Bytes of one block of a row in the file; packing keeps each of them.
static size_t file_block_bytes(sk_type type) {
    if (is_super(type)) return super_block_bytes(type) / SK_ROW_GROUP;
    switch (type) {
        case SK_TYPE_F32: return 4;
        case SK_TYPE_F16: case SK_TYPE_BF16: return 2;
        default: return packed_block_bytes(type) / SK_ROW_GROUP;
    }
}

size_t sk_type_row_bytes(sk_type type, int32_t columns) {
    SK_REQUIRE(columns > 0 && columns % sk_type_block(type) == 0, "columns must be a positive multiple of the type's block");
    return (size_t)(columns / sk_type_block(type)) * file_block_bytes(type);
}

size_t sk_packed_offset(sk_type type, int32_t row, int32_t columns) {
    SK_REQUIRE(row >= 0 && row % SK_ROW_GROUP == 0, "row must be a multiple of SK_ROW_GROUP");
    return (size_t)row * sk_type_row_bytes(type, columns);
}

size_t sk_packed_bytes(sk_type type, int32_t rows, int32_t columns) {
    SK_REQUIRE(rows > 0 && rows <= INT32_MAX - SK_ROW_GROUP, "rows must be positive");
    return sk_packed_offset(type, (rows + SK_ROW_GROUP - 1) / SK_ROW_GROUP * SK_ROW_GROUP, columns);
}

/// Floats of `element` bytes, 2 or 4: each goes to its place in the group.
static void pack_float_row(size_t element, const uint8_t *source, int32_t row, int32_t columns, uint8_t *group) {
    uint8_t *to = group + (size_t)row * element;
    for (int32_t k = 0; k < columns; k++, source += element, to += SK_ROW_GROUP * element) {
        if (element == 4) memcpy(to, source, 4);
        else memcpy(to, source, 2);
    }
}

/// The fifth bits of 32 elements, bit i for element i, in the order in which a packed block has them: element 16h + 4j + t is bit
/// 8t + 4h + j.
static uint32_t ordered_fifth_bits(uint32_t bits) {
    uint32_t ordered = 0;
    for (uint32_t i = 0; i < Q8_BLOCK; i++) ordered |= (bits >> i & 1) << (8 * (i % 4) + i / 4);
    return ordered;
}

/// GGUF's blocks: f16 d, for Q4_1 and Q5_1 f16 m, for Q5_0 and Q5_1 four bytes of fifth bits, then 16 bytes (element i low, element
/// i + 16 high), or for Q8_0 32 signed bytes.
static void pack_block_row(sk_type type, const uint8_t *source, int32_t row, int32_t columns, uint8_t *group) {
    const size_t file_bytes = file_block_bytes(type), block_bytes = packed_block_bytes(type);
    const size_t scales_bytes = packed_minimum(type) ? 4 : 2, quants = packed_nibbles(type) ? 16 : 32;
    for (int32_t b = 0; b < columns / Q8_BLOCK; b++) {
        const uint8_t *from = source + (size_t)b * file_bytes;
        uint8_t *scales = group + (size_t)b * block_bytes, *to = scales + packed_quants_at(type);
        uint32_t four;
        for (size_t part = 0; part < scales_bytes; part += 2, from += 2)
            memcpy(scales + part * SK_ROW_GROUP + 2 * (size_t)row, from, 2);
        if (packed_fifth_bits(type)) {
            memcpy(&four, from, 4);
            four = ordered_fifth_bits(four);
            memcpy(to - 64 + 4 * (size_t)row, &four, 4);
            from += 4;
        }
        for (size_t j = 0; j < quants; j += 4) {
            memcpy(&four, from + j, 4);
            if (type == SK_TYPE_Q8_0) four ^= 0x80808080u;
            memcpy(to + j * SK_ROW_GROUP + 4 * (size_t)row, &four, 4);
        }
    }
}

void sk_pack_rows(sk_type type, const void *source, int32_t rows, int32_t columns, void *packed) {
    const size_t row_bytes = sk_type_row_bytes(type, columns);
    if (rows % SK_ROW_GROUP != 0) {
        int32_t last = rows / SK_ROW_GROUP * SK_ROW_GROUP;
        memset((char *)packed + sk_packed_offset(type, last, columns), 0, row_bytes * SK_ROW_GROUP);
    }
    for (int32_t r = 0; r < rows; r++) {
        const uint8_t *from = (const uint8_t *)source + (size_t)r * row_bytes;
        uint8_t *group = (uint8_t *)packed + (size_t)(r / SK_ROW_GROUP) * SK_ROW_GROUP * row_bytes;
        if (is_float(type)) pack_float_row(file_block_bytes(type), from, r % SK_ROW_GROUP, columns, group);
        else if (is_super(type)) super_pack_row(type, from, r % SK_ROW_GROUP, columns, group);
        else pack_block_row(type, from, r % SK_ROW_GROUP, columns, group);
    }
}
