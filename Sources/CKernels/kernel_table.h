// Fills in one instruction set's table from the functions above it in the same file.

#include "attention_kernels.h"
#include "product_float.h"
#include "product_int8.h"
#include "product_super.h"
#include "quantise_super.h"
#include "row_kernels.h"

#define SK_KERNEL_TABLE(ISA)                 \
    {                                        \
        .isa = ISA,                          \
        .product = {                         \
            [SK_TYPE_F32] = product_f32,     \
            [SK_TYPE_F16] = product_f16,     \
            [SK_TYPE_BF16] = product_bf16,   \
            [SK_TYPE_Q4_0] = product_q4_0,   \
            [SK_TYPE_Q4_1] = product_q4_1,   \
            [SK_TYPE_Q5_0] = product_q5_0,   \
            [SK_TYPE_Q5_1] = product_q5_1,   \
            [SK_TYPE_Q8_0] = product_q8_0,   \
            [SK_TYPE_Q2_K] = product_q2_k,   \
            [SK_TYPE_Q3_K] = product_q3_k,   \
            [SK_TYPE_Q4_K] = product_q4_k,   \
            [SK_TYPE_Q5_K] = product_q5_k,   \
            [SK_TYPE_Q6_K] = product_q6_k,   \
            [SK_TYPE_IQ4_NL] = product_iq4_nl, \
            [SK_TYPE_IQ4_XS] = product_iq4_xs, \
        },                                   \
        .quantise_q8 = quantise_q8,          \
        .quantise_q8_256 = quantise_q8_256,  \
        .quantisation_rest = quantisation_rest,\
        .normalise = normalise,              \
        .apply = apply,                      \
        .gate = gate,                        \
        .add = add,                          \
        .add_scaled = add_scaled,            \
        .scale = scale,                      \
        .round_bf16 = round_bf16,            \
        .to_bf16 = to_bf16,                  \
        .from_bf16 = from_bf16,              \
        .to_f16 = to_f16,                    \
        .from_f16 = from_f16,                \
        .argmax = argmax,                    \
        .collect = collect,                  \
        .temper = temper,                    \
        .all_finite = all_finite,            \
        .maximum = maximum,                  \
        .exp_sum = exp_sum,                  \
        .divide = divide,                    \
        .rope = rope,                        \
        .kv_write = kv_write,                \
        .attend_chunk = attend_chunk,        \
        .attend_merge = attend_merge,        \
        .attend_finish = attend_finish,      \
    }
