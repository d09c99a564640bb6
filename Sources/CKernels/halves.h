// f16 and bf16, sixteen at a time. F16C and NEON have f16 in hardware; everywhere else the same bits come from integers.

#ifndef SK_HALVES_H
#define SK_HALVES_H

#include "lanes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

SK_INLINE hlanes hlanes_load(const uint16_t *p) {
    hlanes v;
    memcpy(&v, p, sizeof v);
    return v;
}

SK_INLINE void hlanes_store(uint16_t *p, hlanes v) { memcpy(p, &v, sizeof v); }

SK_INLINE ulanes hlanes_widen(hlanes v) { return __builtin_convertvector(v, ulanes); }
SK_INLINE hlanes ulanes_narrow(ulanes v) { return __builtin_convertvector(v, hlanes); }

#if defined(SK_HAS_AVX512)

SK_INLINE lanes lanes_from_f16(hlanes v) { return (lanes)_mm512_cvtph_ps((__m256i)v); }

SK_INLINE hlanes lanes_to_f16(lanes v) {
    return (hlanes)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

#elif defined(SK_HAS_F16C)

SK_INLINE lanes lanes_from_f16(hlanes v) {
    __m256 low = _mm256_cvtph_ps(_mm256_castsi256_si128((__m256i)v));
    __m256 high = _mm256_cvtph_ps(_mm256_extracti128_si256((__m256i)v, 1));
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

SK_INLINE hlanes lanes_to_f16(lanes v) {
    __m256 low = (__m256)__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
    __m256 high = (__m256)__builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
    __m128i a = _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m128i b = _mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return (hlanes)_mm256_set_m128i(b, a);
}

#elif defined(SK_HAS_NEON)

typedef uint16_t four_halves __attribute__((vector_size(8)));

SK_INLINE lanes lanes_from_f16(hlanes v) {
    float32x4_t quarter[4];
    four_halves h[4];
    memcpy(h, &v, sizeof h);
    SK_UNROLL for (int i = 0; i < 4; i++) quarter[i] = vcvt_f32_f16((float16x4_t)h[i]);
    lanes wide;
    memcpy(&wide, quarter, sizeof wide);
    return wide;
}

SK_INLINE hlanes lanes_to_f16(lanes v) {
    float32x4_t quarter[4];
    four_halves h[4];
    memcpy(quarter, &v, sizeof quarter);
    SK_UNROLL for (int i = 0; i < 4; i++) h[i] = (four_halves)vcvt_f16_f32(quarter[i]);
    hlanes narrow;
    memcpy(&narrow, h, sizeof narrow);
    return narrow;
}

#else

SK_INLINE lanes lanes_from_f16(hlanes v) {
    ulanes h = hlanes_widen(v);
    ulanes sign = (h & 0x8000) << 16;
    ulanes magnitude = h & 0x7fff;
    ulanes normal = (magnitude << 13) + (112u << 23);
    ulanes special = (magnitude << 13) | 0x7f800000u;
    special = ulanes_select(magnitude > 0x7c00, special | 0x400000u, special);
    // A subnormal is its integer times 2^-24, exactly.
    ulanes subnormal = (ulanes)(lanes_to_float((ilanes)magnitude) * lanes_splat(0x1p-24f));
    ulanes bits = ulanes_select(magnitude < 0x400, subnormal, normal);
    bits = ulanes_select(magnitude >= 0x7c00, special, bits);
    return (lanes)(bits | sign);
}

SK_INLINE hlanes lanes_to_f16(lanes v) {
    ulanes bits = (ulanes)v;
    ulanes sign = (bits >> 16) & 0x8000;
    ulanes magnitude = bits & 0x7fffffff;
    // Subnormal results: adding 0.5 lets the float adder round at bit 2^-24.
    ulanes subnormal = (ulanes)((lanes)magnitude + lanes_splat(0.5f)) - 0x3f000000u;
    ulanes odd = (magnitude >> 13) & 1;
    ulanes normal = (magnitude - (112u << 23) + 0xfff + odd) >> 13;
    ulanes nan = 0x7e00 | ((magnitude >> 13) & 0x3ff);
    ulanes special = ulanes_select(magnitude > 0x7f800000u, nan, ulanes_splat(0x7c00));
    ulanes half = ulanes_select(magnitude < (113u << 23), subnormal, normal);
    half = ulanes_select(magnitude >= 0x47800000u, special, half);
    return ulanes_narrow(half | sign);
}

#endif

SK_INLINE lanes lanes_from_bf16(hlanes v) { return (lanes)(hlanes_widen(v) << 16); }

SK_INLINE hlanes lanes_to_bf16(lanes v) {
    ulanes bits = (ulanes)v;
    ulanes rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    ulanes nan = (bits >> 16) | 0x40;
    return ulanes_narrow(ulanes_select((bits & 0x7fffffff) > 0x7f800000u, nan, rounded));
}

#endif
