// The kernels in plain C for any processor: the rule that all others must match.

#include "dots_super_portable.h"
#include "int8_dots_portable.h"
#include "kernel_table.h"

const sk_kernels sk_kernels_portable = SK_KERNEL_TABLE(SK_ISA_PORTABLE);
