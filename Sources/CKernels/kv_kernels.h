// The writing of one position's keys and values into its KV block. Layout and rounding stand in the public header at `sk_kv_type` and `sk_kv`.

#ifndef SK_KV_KERNELS_H
#define SK_KV_KERNELS_H

#include "halves.h"
#include "kernels.h"

#include <math.h>

/// Sixteen dimensions from p on; those past `count` are +0.
SK_INLINE lanes kv_source(const float *p, int32_t count) {
    if (count >= LANES) return lanes_load(p);
    return count > 0 ? lanes_load_first(p, (size_t)count) : lanes_splat(0.0f);
}

SK_INLINE ilanes lanes_are_finite(lanes v) { return ((ilanes)v & 0x7fffffff) < 0x7f800000; }

/// NaN where v is not finite: its weight is then NaN too, never a silent zero.
SK_INLINE lanes kv_checked(lanes v) { return lanes_select(lanes_are_finite(v), v, lanes_splat(NAN)); }

SK_INLINE hlanes kv_half(lanes v) {
    hlanes half = lanes_to_f16(v);
    ulanes bits = hlanes_widen(half);
    return ulanes_narrow(ulanes_select((ilanes)(bits & 0x7fff) >= 0x7c00, ulanes_splat(0x7e00), bits));
}

static void kv_write_f32(const sk_kv *kv, float *keys, float *values, int32_t slot, const float *key, const float *value) {
    const int32_t dim = kv->head_dim;
    for (int32_t d = 0; d < dim; d += LANES) {
        lanes k = kv_checked(kv_source(key + d, dim - d));
        for (int32_t j = 0; j < LANES && d + j < dim; j++) keys[(d + j) * LANES] = k[j];
        lanes_store(values + slot * kv_value_stride(dim) + d, kv_checked(kv_source(value + d, dim - d)));
    }
}

static void kv_write_f16(const sk_kv *kv, uint16_t *keys, uint16_t *values, int32_t slot, const float *key, const float *value) {
    const int32_t dim = kv->head_dim;
    for (int32_t d = 0; d < dim; d += LANES) {
        hlanes k = kv_half(kv_source(key + d, dim - d));
        for (int32_t j = 0; j < LANES && d + j < dim; j++) keys[(d + j) * LANES] = k[j];
        hlanes_store(values + slot * kv_value_stride(dim) + d, kv_half(kv_source(value + d, dim - d)));
    }
}

/// 32 dimensions as integers; the scale as bf16 bits.
SK_INLINE uint16_t kv_quantise(lanes low, lanes high, int8_t out[KV_Q8_BLOCK]) {
    ilanes low_bits = (ilanes)low & 0x7fffffff, high_bits = (ilanes)high & 0x7fffffff;
    ilanes larger = ilanes_select(low_bits > high_bits, low_bits, high_bits);
    int32_t largest = 0;  // the integers' order is that of magnitudes, infinity and NaN last
    SK_UNROLL for (int j = 0; j < LANES; j++) largest = larger[j] > largest ? larger[j] : largest;
    memset(out, 0, KV_Q8_BLOCK);
    if (largest >= 0x7f800000) return 0x7fc0;
    float magnitude;
    memcpy(&magnitude, &largest, sizeof magnitude);
    if (magnitude < 0x1p-100f) return 0;

    float exact = magnitude / 127.0f, scale;
    uint32_t bits;
    memcpy(&bits, &exact, sizeof bits);
    bits = (bits + 0xffff) & 0xffff0000;
    memcpy(&scale, &bits, sizeof scale);
    float inverse = 1.0f / scale;
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
    ilanes a = (ilanes)((ulanes)(low * inverse + 0x1.8p23f) - 0x4b400000u), b = (ilanes)((ulanes)(high * inverse + 0x1.8p23f) - 0x4b400000u);
    blanes a8 = __builtin_convertvector(a, blanes), b8 = __builtin_convertvector(b, blanes);
    memcpy(out, &a8, sizeof a8);
    memcpy(out + LANES, &b8, sizeof b8);
    return (uint16_t)(bits >> 16);
}

static void kv_write_q8(const sk_kv *kv, int8_t *keys, int8_t *values, uint16_t *scales, int32_t slot, const float *key, const float *value) {
    const int32_t dim = kv->head_dim, stride = kv_value_stride(dim);
    uint16_t *value_scales = scales + kv_scale_bytes(dim) / sizeof(uint16_t);
    for (int32_t d = 0; d < dim; d += KV_Q8_BLOCK) {
        int8_t quants[KV_Q8_BLOCK];
        int32_t count = dim - d < KV_Q8_BLOCK ? dim - d : KV_Q8_BLOCK;
        scales[d + slot] = kv_quantise(kv_source(key + d, count), kv_source(key + d + LANES, count - LANES), quants);
        for (int32_t j = 0; j < count; j++) keys[(d + j) * LANES] = quants[j];
        value_scales[d + slot] = kv_quantise(kv_source(value + d, count), kv_source(value + d + LANES, count - LANES), quants);
        memcpy(values + slot * stride + d, quants, (size_t)(stride - d < KV_Q8_BLOCK ? stride - d : KV_Q8_BLOCK));
    }
}

static void kv_write(const sk_kv *kv, int32_t block, int32_t slot, const float *key, const float *value) {
    const int32_t dim = kv->head_dim;
    const size_t element = kv_element_bytes(kv->type);
    for (int32_t h = 0; h < kv->kv_heads; h++, key += dim, value += dim) {
        char *head = kv_head_at(kv, block, h);
        void *keys = head + element * ((size_t)(slot / LANES) * (size_t)dim * LANES + (size_t)(slot % LANES));
        void *values = head + kv_values_offset(kv);
        switch (kv->type) {
            case SK_KV_F32: kv_write_f32(kv, keys, values, slot, key, value); break;
            case SK_KV_F16: kv_write_f16(kv, keys, values, slot, key, value); break;
            case SK_KV_Q8: kv_write_q8(kv, keys, values, kv_scales_at(kv, head), slot, key, value); break;
        }
    }
}

#endif
