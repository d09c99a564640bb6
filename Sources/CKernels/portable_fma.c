// The same plain C for x86-64 processors with FMA, so that `fma` is an instruction. Same bits as portable.c, many times faster.

#if defined(__x86_64__)

#include <immintrin.h>

#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)

#include "dots_super_portable.h"
#include "int8_dots_portable.h"
#include "kernel_table.h"

#pragma clang attribute pop

const sk_kernels sk_kernels_portable_fma = SK_KERNEL_TABLE(SK_ISA_PORTABLE);

#endif
