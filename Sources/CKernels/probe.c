// See staffel_probe.h. The chains are kept alive by empty assembly that claims to change them: without it the compiler would
// fold a million equal rounds into one.

#include "staffel_probe.h"

#include <string.h>

#include "require.h"

enum {
    CHAINS = 12,         // four cycles of latency times two units, and some to spare
    READ_STREAMS = 4,
    READ_LINE_BYTES = 64,
    READ_STEP_LINES = 2,  // lines of each stream in a row
};

#define OPS_OF(instruction_products) ((uint64_t)2 * CHAINS * (instruction_products))

#if defined(__x86_64__)

#include <immintrin.h>

#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), apply_to = function)

static uint64_t avx512_int8(uint64_t rounds) {
    __m512i sums[CHAINS], a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-2);
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_setzero_si512();
    for (uint64_t r = 0; r < rounds; r++) {
#pragma clang loop unroll(full)
        for (int i = 0; i < CHAINS; i++) {
            sums[i] = _mm512_dpbusd_epi32(sums[i], a, b);
            __asm__ volatile("" : "+v"(sums[i]));
        }
    }
    return rounds * OPS_OF(64);
}

static uint64_t avx512_f32(uint64_t rounds) {
    __m512 sums[CHAINS], a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.25f);
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_setzero_ps();
    for (uint64_t r = 0; r < rounds; r++) {
#pragma clang loop unroll(full)
        for (int i = 0; i < CHAINS; i++) {
            sums[i] = _mm512_fmadd_ps(sums[i], a, b);
            __asm__ volatile("" : "+v"(sums[i]));
        }
    }
    return rounds * OPS_OF(16);
}

#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)

/// Without VNNI an exact dot product is three instructions: pairs of 8 bits to 16, pairs of 16 to 32, the sum.
static uint64_t avx2_int8(uint64_t rounds) {
    __m256i sums[CHAINS], a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(-2), ones = _mm256_set1_epi16(1);
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm256_setzero_si256();
    for (uint64_t r = 0; r < rounds; r++) {
#pragma clang loop unroll(full)
        for (int i = 0; i < CHAINS; i++) {
            __asm__ volatile("" : "+x"(a));
            sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
            __asm__ volatile("" : "+x"(sums[i]));
        }
    }
    return rounds * OPS_OF(32);
}

static uint64_t avx2_f32(uint64_t rounds) {
    __m256 sums[CHAINS], a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.25f);
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm256_setzero_ps();
    for (uint64_t r = 0; r < rounds; r++) {
#pragma clang loop unroll(full)
        for (int i = 0; i < CHAINS; i++) {
            sums[i] = _mm256_fmadd_ps(sums[i], a, b);
            __asm__ volatile("" : "+x"(sums[i]));
        }
    }
    return rounds * OPS_OF(8);
}

#pragma clang attribute pop

#elif defined(__aarch64__)

#include <arm_neon.h>

#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)

static uint64_t neon_int8(uint64_t rounds) {
    int32x4_t sums[CHAINS];
    int8x16_t a = vdupq_n_s8(3), b = vdupq_n_s8(-2);
    for (int i = 0; i < CHAINS; i++) sums[i] = vdupq_n_s32(0);
    for (uint64_t r = 0; r < rounds; r++) {
#pragma clang loop unroll(full)
        for (int i = 0; i < CHAINS; i++) {
            sums[i] = vdotq_s32(sums[i], a, b);
            __asm__ volatile("" : "+w"(sums[i]));
        }
    }
    return rounds * OPS_OF(16);
}

#pragma clang attribute pop

static uint64_t neon_f32(uint64_t rounds) {
    float32x4_t sums[CHAINS], a = vdupq_n_f32(0.5f), b = vdupq_n_f32(0.25f);
    for (int i = 0; i < CHAINS; i++) sums[i] = vdupq_n_f32(0);
    for (uint64_t r = 0; r < rounds; r++) {
#pragma clang loop unroll(full)
        for (int i = 0; i < CHAINS; i++) {
            sums[i] = vfmaq_f32(sums[i], a, b);
            __asm__ volatile("" : "+w"(sums[i]));
        }
    }
    return rounds * OPS_OF(4);
}

#endif

// What the compiler makes of plain C is the portable kernels' limit too; 16 lanes, as they have.
typedef float probe_lanes __attribute__((vector_size(64)));
typedef int32_t probe_ilanes __attribute__((vector_size(64)));

static uint64_t portable_int8(uint64_t rounds) {
    probe_ilanes sums[CHAINS] = {0}, a = {3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3};
    for (uint64_t r = 0; r < rounds; r++)
        for (int i = 0; i < CHAINS; i++) {
            __asm__ volatile("" ::: "memory");
            sums[i] += a * a;
        }
    __asm__ volatile("" : : "r"(sums) : "memory");
    return rounds * OPS_OF(16);
}

static uint64_t portable_f32(uint64_t rounds) {
    probe_lanes sums[CHAINS] = {0}, a = {0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f};
    for (uint64_t r = 0; r < rounds; r++)
        for (int i = 0; i < CHAINS; i++) {
            __asm__ volatile("" ::: "memory");
            sums[i] = sums[i] * a + a;
        }
    __asm__ volatile("" : : "r"(sums) : "memory");
    return rounds * OPS_OF(16);
}

uint64_t sk_probe_peak(sk_isa isa, sk_peak peak, uint64_t rounds) {
    SK_REQUIRE(sk_isa_is_supported(isa), "the instruction set is not supported here");
    SK_REQUIRE(rounds > 0, "rounds must be positive");
    const bool int8 = peak == SK_PEAK_INT8;
#if defined(__x86_64__)
    if (isa == SK_ISA_AVX512) return int8 ? avx512_int8(rounds) : avx512_f32(rounds);
    if (isa == SK_ISA_AVX2) return int8 ? avx2_int8(rounds) : avx2_f32(rounds);
#elif defined(__aarch64__)
    if (isa != SK_ISA_PORTABLE) return int8 ? neon_int8(rounds) : neon_f32(rounds);
#endif
    return int8 ? portable_int8(rounds) : portable_f32(rounds);
}

uint64_t sk_probe_read(const void *memory, size_t bytes) {
    SK_REQUIRE(memory != NULL && (uintptr_t)memory % SK_ALIGNMENT == 0, "memory must be aligned");
    SK_REQUIRE(bytes % 2048 == 0, "bytes must be a multiple of 2048");
    const size_t stream = bytes / READ_STREAMS;
    probe_ilanes seen[READ_STEP_LINES] = {0};
    for (size_t i = 0; i < stream; i += READ_STEP_LINES * READ_LINE_BYTES)
#pragma clang loop unroll(full)
        for (int s = 0; s < READ_STREAMS; s++)
#pragma clang loop unroll(full)
            for (int l = 0; l < READ_STEP_LINES; l++)
                seen[l] |= *(const probe_ilanes *)((const char *)memory + (size_t)s * stream + i + (size_t)l * READ_LINE_BYTES);
    uint64_t value = 0;
    for (int l = 0; l < READ_STEP_LINES; l++)
        for (int i = 0; i < 16; i++) value |= (uint64_t)(uint32_t)seen[l][i] << (i % 2 * 32);
    return value;
}
