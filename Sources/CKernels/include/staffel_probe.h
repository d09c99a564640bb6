// What the machine allows: the two limits that the arithmetic is measured against. Nothing that is served calls these.

#ifndef STAFFEL_PROBE_H
#define STAFFEL_PROBE_H

#include <stddef.h>
#include <stdint.h>

#include "staffel_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sk_peak {
    SK_PEAK_INT8 = 0,  // 8-bit dot products added to int32: the products of quantised weights
    SK_PEAK_F32 = 1,   // f32 fused multiply-add: the products of float weights
} sk_peak;

/// Repeats the widest such instruction that `isa` has, on registers alone, in enough independent chains to hide its latency.
/// Returns the operations done, a multiplication and an addition counting as two; their rate is the most that any kernel of
/// that instruction set can reach on one thread. `rounds` > 0; a round is 12 instructions.
uint64_t sk_probe_peak(sk_isa isa, sk_peak peak, uint64_t rounds);

/// Reads `bytes` (a multiple of 2048) from memory aligned to SK_ALIGNMENT, as four streams side by side, which is what one
/// core needs to reach its bandwidth. Returns a value of all bytes, so that no read can be left out.
uint64_t sk_probe_read(const void *memory, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
