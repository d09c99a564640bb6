// RoPE tables and the logarithm for log-probabilities: double functions of our own, in plain +, -, *, / whose results IEEE-754 fixes.

#include "kernels.h"
#include "require.h"

#include <math.h>
#include <string.h>

// ln 2 and pi / 2 in parts: the first ones end in zeros, so their product with a whole number is exact.
static const double ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
static const double half_pi_high = 0x1.921fb544p0, half_pi_middle = 0x1.0b4611a6p-34, half_pi_low = 0x1.3198a2e037073p-69;
static const double rounding_magic = 0x1.8p52;

static double power_of_two(int64_t exponent) {
    uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/// ln x for a normal, positive x: x = 2^e f with f in [sqrt 1/2, sqrt 2), ln f = 2 artanh((f - 1) / (f + 1)).
static double natural_log(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int64_t exponent = (int64_t)(bits >> 52) - 1023;
    double f = x / power_of_two(exponent);
    if (f > 1.4142135623730951) {
        f = f / 2;
        exponent += 1;
    }
    double s = (f - 1) / (f + 1), s2 = s * s;
    double series = 0;
    for (int n = 25; n >= 3; n -= 2) series = (series + 1.0 / n) * s2;
    return ((double)exponent * ln2_low + 2 * s * series + 2 * s) + (double)exponent * ln2_high;
}

/// e^x for |x| < 700.
static double exponential(double x) {
    double n = (x * 0x1.71547652b82fep0 + rounding_magic) - rounding_magic;
    double r = (x - n * ln2_high) - n * ln2_low;
    double sum = 1;
    for (int i = 18; i >= 1; i--) sum = sum * r / i + 1;
    return sum * power_of_two((int64_t)n);
}

/// Cosine and sine of x for 0 <= x < 2^31.
static void cosine_sine(double x, double *cosine, double *sine) {
    double n = (x * 0x1.45f306dc9c883p-1 + rounding_magic) - rounding_magic;
    double r = ((x - n * half_pi_high) - n * half_pi_middle) - n * half_pi_low;
    double r2 = r * r, s = 1, c = 1;
    for (int i = 20; i >= 2; i -= 2) {
        s = 1 - s * r2 / (i * (i + 1));
        c = 1 - c * r2 / (i * (i - 1));
    }
    s = s * r;
    switch ((int64_t)n & 3) {
        case 0: *cosine = c, *sine = s; break;
        case 1: *cosine = -s, *sine = c; break;
        case 2: *cosine = -c, *sine = -s; break;
        default: *cosine = s, *sine = -c; break;
    }
}

void sk_rope_frequencies(double theta, int32_t dims, const float *divisors, double *frequencies) {
    SK_REQUIRE(theta >= 1 && theta <= 1e300, "theta must be at least 1");
    SK_REQUIRE(dims >= 0 && dims % 2 == 0, "dims must be even");
    double log_theta = natural_log(theta);
    for (int32_t i = 0; i < dims / 2; i++) {
        double frequency = exponential(-2.0 * i / dims * log_theta);
        frequencies[i] = divisors == NULL ? frequency : frequency / (double)divisors[i];
    }
}

void sk_rope_scale_linear(double *frequencies, int32_t count, double factor) {
    for (int32_t i = 0; i < count; i++) frequencies[i] /= factor;
}

void sk_rope_scale_llama3(double *frequencies, int32_t count, double factor, double low, double high, double original_context) {
    for (int32_t i = 0; i < count; i++) {
        double wavelength = 6.283185307179586 / frequencies[i];
        if (wavelength < original_context / high) continue;
        if (wavelength > original_context / low) {
            frequencies[i] /= factor;
            continue;
        }
        double s = (original_context / wavelength - low) / (high - low);
        frequencies[i] = (1 - s) * frequencies[i] / factor + s * frequencies[i];
    }
}

/// The pair whose frequency turns so often over the original context, as a fraction.
static double pair_of_turns(double turns, int32_t count, double theta, double original_context) {
    return count * natural_log(original_context / (turns * 6.283185307179586)) / natural_log(theta);
}

void sk_rope_scale_yarn(double *frequencies, int32_t count, double theta, double factor, double beta_fast, double beta_slow,
                        double original_context) {
    SK_REQUIRE(theta > 1 && factor >= 1 && beta_slow > 0 && beta_fast >= beta_slow && original_context >= 1, "impossible YaRN scaling");
    double low = floor(pair_of_turns(beta_fast, count, theta, original_context));
    double high = ceil(pair_of_turns(beta_slow, count, theta, original_context));
    if (low < 0) low = 0;
    if (high > 2 * count - 1) high = 2 * count - 1;
    if (low == high) high += 0.001;
    for (int32_t i = 0; i < count; i++) {
        double ramp = ((double)i - low) / (high - low);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        frequencies[i] = frequencies[i] / factor * ramp + frequencies[i] * (1 - ramp);
    }
}

double sk_natural_log(double x) {
    SK_REQUIRE(x >= 0x1p-1022 && x < INFINITY, "logarithm of what is not normal and positive");
    return natural_log(x);
}

void sk_rope_table(const double *frequencies, int32_t count, int32_t first, int32_t positions, double magnitude, float *cosines,
                   float *sines) {
    SK_REQUIRE(first >= 0 && positions >= 0, "negative position");
    for (int32_t p = 0; p < positions; p++) {
        for (int32_t i = 0; i < count; i++) {
            double cosine, sine;
            cosine_sine((double)(first + p) * frequencies[i], &cosine, &sine);
            cosines[(size_t)p * (size_t)count + (size_t)i] = (float)(cosine * magnitude);
            sines[(size_t)p * (size_t)count + (size_t)i] = (float)(sine * magnitude);
        }
    }
}

double sk_log_sum_exp(const sk_kernels *k, const float *x, int32_t count) {
    SK_REQUIRE(count > 0, "no element");
    float highest = k->maximum(x, count);
    float sum = k->exp_sum(x, highest, NULL, count);
    if (!(sum >= 1.0f && sum < INFINITY)) return NAN;  // not a finite row
    return (double)highest + natural_log((double)sum);
}
