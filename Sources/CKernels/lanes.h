// Sixteen floats side by side: the unit in which all kernels think. These are the compiler's own vectors, so one source becomes
// zmm, two ymm or four xmm registers, and each lane sees the same operations on every instruction set.
//
// Included by the files of one instruction set each, after their target pragma.

#ifndef SK_LANES_H
#define SK_LANES_H

#include <stdint.h>
#include <string.h>

// Vectors wider than the target's registers would be passed differently by differently built callers. Nothing here is ever called:
// every function that takes or returns one is inlined.
#pragma clang diagnostic ignored "-Wpsabi"

#define SK_INLINE static inline __attribute__((always_inline))
#define SK_UNROLL _Pragma("clang loop unroll(full)")

enum { LANES = 16 };

typedef float lanes __attribute__((vector_size(64)));
typedef int32_t ilanes __attribute__((vector_size(64)));
typedef uint32_t ulanes __attribute__((vector_size(64)));
typedef uint16_t hlanes __attribute__((vector_size(32)));  // f16 or bf16 bits
typedef int8_t blanes __attribute__((vector_size(16)));

SK_INLINE lanes lanes_load(const float *p) {
    lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}

SK_INLINE void lanes_store(float *p, lanes v) { memcpy(p, &v, sizeof v); }

/// The first `n` lanes from memory, the rest +0. n < 16.
SK_INLINE lanes lanes_load_first(const float *p, size_t n) {
    float padded[LANES] = {0};
    memcpy(padded, p, n * sizeof(float));
    return lanes_load(padded);
}

SK_INLINE void lanes_store_first(float *p, lanes v, size_t n) {
    float padded[LANES];
    lanes_store(padded, v);
    memcpy(p, padded, n * sizeof(float));
}

SK_INLINE lanes lanes_splat(float s) { return (lanes){s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s}; }
SK_INLINE ilanes ilanes_splat(int32_t s) { return (ilanes){s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s}; }
SK_INLINE ulanes ulanes_splat(uint32_t s) { return (ulanes){s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s}; }
SK_INLINE ilanes lanes_index(void) { return (ilanes){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }

SK_INLINE lanes lanes_fma(lanes a, lanes b, lanes c) { return __builtin_elementwise_fma(a, b, c); }

/// a where the mask's lane is -1, b where it is 0.
SK_INLINE lanes lanes_select(ilanes mask, lanes a, lanes b) { return (lanes)((mask & (ilanes)a) | (~mask & (ilanes)b)); }
SK_INLINE ilanes ilanes_select(ilanes mask, ilanes a, ilanes b) { return (mask & a) | (~mask & b); }
SK_INLINE ulanes ulanes_select(ilanes mask, ulanes a, ulanes b) { return ((ulanes)mask & a) | (~(ulanes)mask & b); }

/// a where a > b, else b; so a NaN in `a` is passed over.
SK_INLINE lanes lanes_greater(lanes a, lanes b) { return lanes_select(a > b, a, b); }

SK_INLINE lanes lanes_to_float(ilanes v) { return __builtin_convertvector(v, lanes); }

// The fold of a sum over a row: lanes 8 apart, then 4, 2, 1.
#define SK_FOLD_STEP(v, half)                        \
    for (int j = 0; j < (half); j++) (v)[j] = (v)[j] + (v)[j + (half)];

SK_INLINE float lanes_fold_sum(lanes v) {
    float s[LANES];
    lanes_store(s, v);
    SK_FOLD_STEP(s, 8)
    SK_FOLD_STEP(s, 4)
    SK_FOLD_STEP(s, 2)
    return s[0] + s[1];
}

SK_INLINE float lanes_fold_greater(lanes v) {
    float s[LANES];
    lanes_store(s, v);
    float m = s[0];
    for (int j = 1; j < LANES; j++) m = s[j] > m ? s[j] : m;
    return m;
}

#endif
