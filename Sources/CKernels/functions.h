// exp and the activation functions, the same operations on every instruction set.
//
// exp, which attention and softmax call for every position, works in binary32. The others work in binary64 (no fma, so that no
// processor has to emulate one) and round to binary32 once; their cost vanishes beside the products that surround them.

#ifndef SK_FUNCTIONS_H
#define SK_FUNCTIONS_H

#include "kernels.h"
#include "lanes.h"

/// e^x, at most 1 ulp off, subnormal results included. x = n ln 2 + r, |r| <= ln 2 / 2.
SK_INLINE lanes lanes_exp(lanes x) {
    // Past these the result is 0 or infinity; NaN passes both comparisons unchanged.
    x = lanes_select(x > 89.0f, lanes_splat(89.0f), x);
    x = lanes_select(x < -104.0f, lanes_splat(-104.0f), x);

    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
    const float magic = 0x1.8p23f;
    lanes shifted = lanes_fma(x, lanes_splat(0x1.715476p0f), lanes_splat(magic));
    lanes n = shifted - magic;
    lanes r = lanes_fma(n, lanes_splat(-0x1.62e4p-1f), x);
    r = lanes_fma(n, lanes_splat(-0x1.7f7d1cp-20f), r);

    // (e^r - 1 - r) / r^2, Chebyshev fit.
    lanes p = lanes_splat(0x1.a1256cp-13f);
    p = lanes_fma(p, r, lanes_splat(0x1.6d43b0p-10f));
    p = lanes_fma(p, r, lanes_splat(0x1.1110e0p-7f));
    p = lanes_fma(p, r, lanes_splat(0x1.5554e8p-5f));
    p = lanes_fma(p, r, lanes_splat(0x1.555556p-3f));
    p = lanes_fma(p, r, lanes_splat(0.5f));
    p = lanes_fma(p, r * r, r) + 1.0f;

    // 2^n in two factors, since n reaches from -150 to 128: only the second product rounds.
    ilanes exponent = (ilanes)((ulanes)shifted - 0x4b400000u);
    ilanes half = exponent >> 1;
    lanes first = (lanes)((ulanes)(half + 127) << 23);
    lanes second = (lanes)((ulanes)(exponent - half + 127) << 23);
    return p * first * second;
}

typedef double dlanes __attribute__((vector_size(64)));
typedef int64_t dmask __attribute__((vector_size(64)));
typedef uint64_t dbits __attribute__((vector_size(64)));
typedef float flanes __attribute__((vector_size(32)));

SK_INLINE dlanes dlanes_splat(double s) { return (dlanes){s, s, s, s, s, s, s, s}; }
SK_INLINE dlanes dlanes_select(dmask mask, dlanes a, dlanes b) { return (dlanes)((mask & (dmask)a) | (~mask & (dmask)b)); }
SK_INLINE dlanes dlanes_abs(dlanes x) { return (dlanes)((dbits)x & 0x7fffffffffffffffull); }

/// e^x for x <= 0, relative error about 1e-13. Below -700, where no float is left, e^-700.
SK_INLINE dlanes dlanes_exp_negative(dlanes x) {
    x = dlanes_select(x < -700.0, dlanes_splat(-700.0), x);
    const double magic = 0x1.8p52;
    dlanes shifted = x * 0x1.71547652b82fep0 + magic;
    dlanes n = shifted - magic;
    dlanes r = x - n * 0x1.62e42feep-1;  // 32 bits: the product is exact
    r = r - n * 0x1.a39ef35793c76p-33;

    static const double inverse_factorials[] = {1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720,
                                                1.0 / 120,     1.0 / 24,     1.0 / 6,     0.5,        1.0};
    dlanes p = dlanes_splat(1.0 / 39916800);
    SK_UNROLL for (int i = 0; i < 10; i++) p = p * r + inverse_factorials[i];
    p = p * r + 1.0;
    dbits scale = ((dbits)shifted - 0x4338000000000000ull + 1023) << 52;
    return p * (dlanes)scale;
}

/// x / (1 + e^-2u) where u has the sign of x: every gate of the form x * sigmoid. Exact to a float in both tails, because the
/// negative one is x e / (1 + e) and never a difference.
SK_INLINE dlanes dlanes_times_sigmoid(dlanes x, dlanes u2) {
    dlanes e = dlanes_exp_negative(-dlanes_abs(u2));
    // -1000 stands for all below it, infinity included: the product underflows in either case.
    dlanes bounded = dlanes_select(x < -1000.0, dlanes_splat(-1000.0), x);
    dlanes numerator = dlanes_select(x < 0.0, bounded * e, x);
    return numerator / (e + 1.0);
}

SK_INLINE dlanes dlanes_gelu_tanh(dlanes x) {
    const double twice_sqrt_2_over_pi = 1.5957691216057308;
    dlanes u2 = (x + x * x * x * 0.044715) * twice_sqrt_2_over_pi;
    return dlanes_times_sigmoid(x, u2);
}

/// erfc(z) for z >= 0, relative error about 1e-13: e^(-z^2) / (1 + z) times a polynomial in (z - 2.5) / (z + 2.5), fitted to z <= 26.
SK_INLINE dlanes dlanes_erfc_positive(dlanes z) {
    static const double c[] = {
        2.3836169101767323e-07,  -4.224745247356196e-07,  -1.9566048367468935e-06, 2.675384825802397e-07,
        1.0109195197116936e-05,  6.9714588283554415e-06,  -4.7412277944181674e-05, -6.13500089542065e-05,
        0.0002516123925910742,   0.00036012706783292294,  -0.0017530797217075946,  -0.0008552370839442459,
        0.014383595912953724,    -0.0315222584458094,     0.016298433326907603,    0.07634432682090658,
        -0.247046748515729,      0.7378222742140075,
    };
    z = dlanes_select(z > 26.0, dlanes_splat(26.0), z);
    dlanes t = (z - 2.5) / (z + 2.5);
    dlanes p = dlanes_splat(9.298231039065402e-08);
    SK_UNROLL for (int i = 0; i < 18; i++) p = p * t + c[i];
    return dlanes_exp_negative(-(z * z)) * p / (z + 1.0);
}

/// x/2 erfc(-x / sqrt 2)
SK_INLINE dlanes dlanes_gelu_erf(dlanes x) {
    dlanes tail = dlanes_erfc_positive(dlanes_abs(x) * 0.7071067811865476);
    dlanes bounded = dlanes_select(x < -1000.0, dlanes_splat(-1000.0), x);
    return dlanes_select(x < 0.0, bounded * tail, x * (2.0 - tail)) * 0.5;
}

SK_INLINE dlanes dlanes_tanh(dlanes x) {
    dlanes magnitude = dlanes_abs(x);
    dlanes e = dlanes_exp_negative(magnitude * -2.0);
    dlanes large = (1.0 - e) / (e + 1.0);
    dlanes signed_large = (dlanes)((dbits)large | ((dbits)x & 0x8000000000000000ull));
    // Near zero 1 - e cancels; there two terms of the series are exact to a double.
    dlanes small = x * (1.0 - x * x * (1.0 / 3));
    return dlanes_select(magnitude < 0x1p-13, small, signed_large);
}

/// max(x, 0) + ln(1 + e^-|x|), the logarithm as 2 artanh(e / (2 + e)), whose series has no cancellation.
SK_INLINE dlanes dlanes_softplus(dlanes x) {
    dlanes e = dlanes_exp_negative(-dlanes_abs(x));
    dlanes s = e / (e + 2.0);
    dlanes s2 = s * s;
    dlanes series = dlanes_splat(1.0 / 27);
    static const double odd_inverses[] = {1.0 / 25, 1.0 / 23, 1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13,
                                          1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3,  1.0};
    SK_UNROLL for (int i = 0; i < 13; i++) series = series * s2 + odd_inverses[i];
    dlanes positive = dlanes_select(x < 0.0, dlanes_splat(0.0), x);
    return positive + s * 2.0 * series;
}

SK_INLINE dlanes dlanes_function(sk_function function, dlanes x) {
    switch (function) {
        case SK_FUNCTION_SILU: return dlanes_times_sigmoid(x, x);
        case SK_FUNCTION_GELU_QUICK: return dlanes_times_sigmoid(x, x * 1.702);
        case SK_FUNCTION_GELU_TANH: return dlanes_gelu_tanh(x);
        case SK_FUNCTION_GELU_ERF: return dlanes_gelu_erf(x);
        case SK_FUNCTION_TANH: return dlanes_tanh(x);
        default: return dlanes_softplus(x);
    }
}

SK_INLINE lanes lanes_function(sk_function function, lanes x) {
    if (function == SK_FUNCTION_EXP) return lanes_exp(x);
    dlanes low = __builtin_convertvector(__builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7), dlanes);
    dlanes high = __builtin_convertvector(__builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15), dlanes);
    flanes a = __builtin_convertvector(dlanes_function(function, low), flanes);
    flanes b = __builtin_convertvector(dlanes_function(function, high), flanes);
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

// One loop for each function, so that the choice stays outside of it.
SK_INLINE void apply_loop(sk_function function, const float *x, const float *times, float *out, size_t count) {
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        lanes y = lanes_function(function, lanes_load(x + i));
        if (times != NULL) y = y * lanes_load(times + i);
        lanes_store(out + i, y);
    }
    if (i == count) return;
    lanes y = lanes_function(function, lanes_load_first(x + i, count - i));
    if (times != NULL) y = y * lanes_load_first(times + i, count - i);
    lanes_store_first(out + i, y, count - i);
}

SK_INLINE void apply_chosen(sk_function function, const float *x, const float *times, float *out, size_t count) {
    switch (function) {
        case SK_FUNCTION_SILU: return apply_loop(SK_FUNCTION_SILU, x, times, out, count);
        case SK_FUNCTION_GELU_ERF: return apply_loop(SK_FUNCTION_GELU_ERF, x, times, out, count);
        case SK_FUNCTION_GELU_TANH: return apply_loop(SK_FUNCTION_GELU_TANH, x, times, out, count);
        case SK_FUNCTION_GELU_QUICK: return apply_loop(SK_FUNCTION_GELU_QUICK, x, times, out, count);
        case SK_FUNCTION_TANH: return apply_loop(SK_FUNCTION_TANH, x, times, out, count);
        case SK_FUNCTION_SOFTPLUS: return apply_loop(SK_FUNCTION_SOFTPLUS, x, times, out, count);
        case SK_FUNCTION_EXP: return apply_loop(SK_FUNCTION_EXP, x, times, out, count);
    }
}

static void apply(sk_function function, const float *x, float *out, size_t count) { apply_chosen(function, x, NULL, out, count); }

static void gate(sk_function function, const float *g, const float *up, float *out, size_t count) {
    apply_chosen(function, g, up, out, count);
}

#endif
