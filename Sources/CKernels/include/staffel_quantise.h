#ifndef STAFFEL_QUANTISE_H
#define STAFFEL_QUANTISE_H

// From floats to the blocks of GGUF files: the way back from staffel_dequant.h. (Activations are quantised by
// `sk_quantise` in staffel_kernels.h; that is another thing.)
//
// Plain arithmetic without fused multiply-add, so the bytes are the same on every machine. Nothing is allocated or kept;
// rows may be given to any number of threads.
//
// F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 without importance give the bytes that `quants.quantize` of the Python package
// `gguf` gives. For all others codes, scales and minima are searched for a small weighted squared error
// sum w (x - value)^2.

#include <stddef.h>
#include <stdint.h>

typedef enum sk_quantise_error {
    SK_QUANTISE_OK = 0,
    SK_QUANTISE_UNKNOWN_TYPE = 1,      // no format of staffel_dequant.h
    SK_QUANTISE_RAGGED = 2,            // n is no multiple of the format's block
    SK_QUANTISE_NOT_FINITE = 3,        // a NaN or an infinity, for which quantised formats have no code
    SK_QUANTISE_TOO_LARGE = 4,         // a value, or the scale it needs, is beyond the largest number of the format
    SK_QUANTISE_WRONG_IMPORTANCE = 5,  // a weight that is negative or not finite
} sk_quantise_error;

/// Turns x, f32[n], into `n / block_elements` blocks of the format `type` (GGUF's number), any alignment.
/// `importance`: null, or f32[n], how much the squared error of each element counts; only the ratios within a block matter, and
/// a block whose weights are all zero is treated as if all were equal. F32, F16 and BF16 do not look at it.
/// On an error the contents of `blocks` are open.
sk_quantise_error sk_quantise_blocks(int32_t type, const float *x, size_t n, const float *importance, void *blocks);

#endif
