// Random tensors in the formats of GGUF files.

#include "cases.h"
#include "staffel_dequant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/// Where a block keeps its f16 numbers, and how large a weight is with a scale of one: weights of deviation about `deviation` have
/// a scale of deviation / reach. All other bytes may be anything.
typedef struct format_scales {
    int32_t type;
    int32_t scale;    // offset of d
    int32_t minimum;  // offset of m or dmin, -1 for none
    float reach;      // of the integers, sub-block scales included
    float lift;       // m = lift * d, to centre the weights; K-quants subtract it themselves
} format_scales;

static const format_scales known[] = {
    {2, 0, -1, 4.6f, 0},     {3, 0, 2, 4.6f, -7.5f}, {6, 0, -1, 9.2f, 0},     {7, 0, 2, 9.2f, -15.5f},    {8, 0, -1, 74, 0},
    {10, 80, 82, 10, 0.2f},  {11, 108, -1, 40, 0},   {12, 0, 2, 170, 7.5f},   {13, 0, 2, 340, 15.5f},     {14, 208, -1, 1400, 0},
    {20, 0, -1, 70, 0},      {23, 0, -1, 1300, 0},
};

static uint16_t half_of(float value) {
    uint16_t bits;
    sk_to_f16(sk_kernels_plain(), &value, &bits, 1);
    return bits;
}

static void put_half(uint8_t *at, uint16_t bits) { memcpy(at, &bits, sizeof bits); }

static uint16_t hostile_half(seeded *s, spread kind) {
    static const uint16_t special[] = {0, 0x8000, 1, 0x8001, 0x03ff, 0x0400, 0x7bff, 0xfbff, 0x3c00};
    if (kind == NOT_FINITE && seeded_below(s, 20) == 0) return (uint16_t)seeded_next(s);
    if (seeded_below(s, 2) == 0) return special[seeded_below(s, 9)];
    return (uint16_t)((seeded_next(s) & 0x83ff) | 0x2400);
}

/// Floats of any width: the values themselves are the weights.
static void fill_float_weights(seeded *s, spread kind, sk_type type, float deviation, uint8_t *rows, size_t bytes) {
    const size_t element = type == SK_TYPE_F32 ? 4 : 2;
    for (size_t i = 0; i + element <= bytes; i += element) {
        float value;
        fill_floats(s, kind, &value, 1);
        if (kind == ORDINARY) value *= deviation;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        if (type == SK_TYPE_F32) memcpy(rows + i, &value, 4);
        else if (type == SK_TYPE_BF16) put_half(rows + i, (uint16_t)(bits >> 16));
        else put_half(rows + i, kind == ORDINARY ? half_of(value) : hostile_half(s, kind));
    }
}

void fill_weights(seeded *s, spread kind, sk_type type, float deviation, uint8_t *rows, size_t bytes) {
    if (sk_type_block(type) == 1) return fill_float_weights(s, kind, type, deviation, rows, bytes);
    const format_scales *format = NULL;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].type == (int32_t)type) format = &known[i];
    const sk_tensor_format *sizes = sk_tensor_format_find((int32_t)type);
    if (format == NULL || sizes == NULL) {
        fprintf(stderr, "error: type %d has kernels, but weights.c does not know where it keeps its scales: add it there\n", (int)type);
        exit(1);
    }
    const size_t block_bytes = (size_t)sizes->block_bytes;
    for (size_t at = 0; at + block_bytes <= bytes; at += block_bytes) {
        uint8_t *block = rows + at;
        // All weights at one end of their range give the largest sums.
        static const uint8_t ends[] = {0x00, 0xff, 0x80, 0x7f};
        bool at_one_end = kind != ORDINARY && seeded_below(s, 4) == 0;
        uint8_t end = ends[seeded_below(s, 4)];
        for (size_t i = 0; i < block_bytes; i++) block[i] = at_one_end ? end : (uint8_t)(seeded_next(s) >> 56);
        float d = deviation / format->reach * (1.0f + 0.25f * seeded_unit(s));
        put_half(block + format->scale, kind == ORDINARY ? half_of(d) : hostile_half(s, kind));
        if (format->minimum >= 0) put_half(block + format->minimum, kind == ORDINARY ? half_of(format->lift * d) : hostile_half(s, kind));
    }
}
