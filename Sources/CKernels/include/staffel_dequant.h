#ifndef STAFFEL_DEQUANT_H
#define STAFFEL_DEQUANT_H

// The tensor formats of GGUF files: their sizes, and their meaning as 32-bit floats.
// Plain scalar code, the same on every machine; the fast products on packed weights live elsewhere.

#include <stddef.h>
#include <stdint.h>

/// One tensor format. `type` is the number that GGUF files carry.
typedef struct {
    int32_t type;
    int32_t block_elements;  ///< elements that share one block; a row is a whole number of blocks
    int32_t block_bytes;     ///< bytes of one block in the file
    const char *name;        ///< as people write it: "Q4_K"
} sk_tensor_format;

/// The format with this GGUF number, or NULL where Staffel does not read it.
const sk_tensor_format *sk_tensor_format_find(int32_t type);

/// Widens `n` elements, a multiple of the format's block_elements, from `blocks` (any alignment) to `out[n]`.
/// Bit-equal to the `quants` module of the Python package `gguf`, in binary32, one rounding per operation, for finite
/// scales; a NaN comes out as a NaN whose payload is not promised. Returns 0, or -1 for an unknown type or a ragged n,
/// in which case `out` is untouched.
int sk_dequantize_row(int32_t type, const void *blocks, float *out, size_t n);

#endif
