// Test cases as recordings: a case computes something with one table of kernels, from seeded inputs, and records every word that came
// out. It is run with each table that this machine has. All recordings must equal the first one's word for word, and the digest of the
// first is printed, so that two machines (or one and its emulation of the other) are compared line by line.

#ifndef CASES_H
#define CASES_H

#include "staffel_kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// ---- Recordings

/// The words that one run of a case gave. All NaN are recorded as one: the contract leaves their sign and payload open.
typedef struct record record;

void record_floats(record *r, const float *x, size_t count);
void record_doubles(record *r, const double *x, size_t count);
void record_f16(record *r, const uint16_t *x, size_t count);
void record_bf16(record *r, const uint16_t *x, size_t count);
/// Memory whose inner layout is no business of the test; `bytes` a multiple of 4. Nothing in it is changed but the sign of a default NaN.
void record_memory(record *r, const void *memory, size_t bytes);
/// Rows of activations as `sk_quantise` makes them.
void record_activations(record *r, sk_activation_kind kind, const void *memory, int32_t rows, int32_t columns);
void record_int(record *r, int64_t value);

/// `argument` is the case's own.
typedef void (*case_function)(const sk_kernels *k, record *r, const void *argument);

/// Runs a case with every table and prints its line; `name` as for printf.
__attribute__((format(printf, 3, 4))) void run_case(case_function function, const void *argument, const char *name, ...);

/// Cases so far whose recordings differ between tables.
int cases_failed(void);
/// To be called first.
void find_tables(void);
/// Their names, to stderr.
void print_tables(void);

// ---- Inputs

/// SplitMix64.
typedef struct seeded {
    uint64_t state;
} seeded;

uint64_t seeded_next(seeded *s);
/// 0 ..< limit
uint32_t seeded_below(seeded *s, uint32_t limit);
/// -1 ..< 1
float seeded_unit(seeded *s);

typedef enum spread {
    ORDINARY,    // as a model's activations look: mostly small, some thirty times as large
    HOSTILE,     // zeros of both signs, subnormals, extremes, all finite
    NOT_FINITE,  // HOSTILE with a NaN or an infinity here and there
    SPREADS,
} spread;

extern const char *const spread_names[SPREADS];

void fill_floats(seeded *s, spread kind, float *x, size_t count);

/// Memory aligned to SK_ALIGNMENT, filled with a pattern that no kernel writes by chance. Never fails: it ends the process instead.
void *new_memory(size_t bytes);
/// The same for `count` floats that hold values.
float *new_floats(seeded *s, spread kind, size_t count);

// ---- What the files of cases offer to kernels.c

void run_product_cases(void);
void run_row_cases(void);
void run_attention_cases(void);

// ---- Weights (weights.c)

/// Fills rows of a tensor as a GGUF file holds them, `row_bytes` each. ORDINARY: random weights of deviation about `deviation`. HOSTILE:
/// scales among zeros, subnormals and the largest, weights often all at one end of their range. NOT_FINITE: scales of any bits.
/// Ends the process where nobody has said yet where a format keeps its scales.
void fill_weights(seeded *s, spread kind, sk_type type, float deviation, uint8_t *rows, size_t bytes);

#endif
