// Recordings, their comparison, seeded inputs.

#include "cases.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct record {
    uint32_t *words;
    size_t count, capacity;
};

typedef struct table {
    const char *name;
    const sk_kernels *kernels;
} table;

static table tables[8];
static int table_count, failed;

void find_tables(void) {
    // Plain C first: it is the rule that the others must match.
    tables[table_count++] = (table){"plain", sk_kernels_plain()};
    for (int isa = 0; isa < 8; isa++) {
        if (!sk_isa_is_supported((sk_isa)isa)) continue;
        table t = {sk_isa_name((sk_isa)isa), sk_kernels_for((sk_isa)isa)};
        if (t.kernels != sk_kernels_plain()) tables[table_count++] = t;
    }
}

void print_tables(void) {
    fprintf(stderr, "tables:");
    for (int i = 0; i < table_count; i++) fprintf(stderr, " %s", tables[i].name);
    fprintf(stderr, "\n");
}

int cases_failed(void) { return failed; }

// ---- Recordings

static void record_word(record *r, uint32_t word) {
    if (r->count == r->capacity) {
        r->capacity = r->capacity == 0 ? 4096 : 2 * r->capacity;
        r->words = realloc(r->words, r->capacity * sizeof *r->words);
        if (r->words == NULL) abort();
    }
    r->words[r->count++] = word;
}

void record_floats(record *r, const float *x, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        record_word(r, (bits & 0x7fffffff) > 0x7f800000 ? 0x7fc00000 : bits);
    }
}

void record_doubles(record *r, const double *x, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint64_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        if ((bits & INT64_MAX) > 0x7ff0000000000000) bits = 0x7ff8000000000000;
        record_int(r, (int64_t)bits);
    }
}

void record_f16(record *r, const uint16_t *x, size_t count) {
    for (size_t i = 0; i < count; i++) record_word(r, (x[i] & 0x7fff) > 0x7c00 ? 0x7e00 : x[i]);
}

void record_bf16(record *r, const uint16_t *x, size_t count) {
    for (size_t i = 0; i < count; i++) record_word(r, (x[i] & 0x7fff) > 0x7f80 ? 0x7fc0 : x[i]);
}

void record_memory(record *r, const void *memory, size_t bytes) {
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        uint32_t word;
        memcpy(&word, (const char *)memory + i, sizeof word);
        record_word(r, word == 0xffc00000 ? 0x7fc00000 : word);
    }
}

void record_activations(record *r, sk_activation_kind kind, const void *memory, int32_t rows, int32_t columns) {
    const size_t bytes = (size_t)rows * sk_activation_bytes(kind, columns);
    if (kind == SK_ACTIVATION_F32) record_floats(r, memory, bytes / sizeof(float));
    else record_memory(r, memory, bytes);
}

void record_int(record *r, int64_t value) {
    record_word(r, (uint32_t)value);
    record_word(r, (uint32_t)((uint64_t)value >> 32));
}

/// FNV-1a, 64 bit, over the words' bytes from the lowest on.
static uint64_t digest_of(const record *r) {
    uint64_t digest = 0xcbf29ce484222325;
    for (size_t i = 0; i < r->count; i++)
        for (int byte = 0; byte < 4; byte++) digest = (digest ^ (r->words[i] >> (8 * byte) & 0xff)) * 0x100000001b3;
    return digest;
}

static bool equals(const char *name, const char *table_name, const record *rule, const record *found) {
    if (rule->count != found->count) {
        printf("%s: %s gave %zu words, plain %zu\n", name, table_name, found->count, rule->count);
        return false;
    }
    for (size_t i = 0; i < rule->count; i++) {
        if (rule->words[i] == found->words[i]) continue;
        printf("%s: word %zu of %zu is %08x with %s, %08x with plain\n", name, i, rule->count, found->words[i], table_name, rule->words[i]);
        return false;
    }
    return true;
}

void run_case(case_function function, const void *argument, const char *format, ...) {
    char name[200];
    va_list list;
    va_start(list, format);
    vsnprintf(name, sizeof name, format, list);
    va_end(list);

    record rule = {0};
    function(tables[0].kernels, &rule, argument);
    bool equal = true;
    for (int i = 1; i < table_count; i++) {
        record found = {0};
        function(tables[i].kernels, &found, argument);
        equal = equals(name, tables[i].name, &rule, &found) && equal;
        free(found.words);
    }
    if (rule.count == 0) {
        printf("%s: recorded nothing\n", name);
        equal = false;
    }
    printf("%s %zu %016llx\n", name, rule.count, (unsigned long long)digest_of(&rule));
    free(rule.words);
    if (!equal) failed++;
}

// ---- Inputs

const char *const spread_names[SPREADS] = {"ordinary", "hostile", "not-finite"};

uint64_t seeded_next(seeded *s) {
    uint64_t z = s->state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

uint32_t seeded_below(seeded *s, uint32_t limit) { return (uint32_t)((seeded_next(s) >> 32) * limit >> 32); }

float seeded_unit(seeded *s) { return (float)(int32_t)(seeded_next(s) >> 40) * 0x1p-23f - 1.0f; }

static float ordinary(seeded *s) {
    float sum = seeded_unit(s) + seeded_unit(s) + seeded_unit(s) + seeded_unit(s);
    return seeded_below(s, 50) == 0 ? sum * 30 : sum;
}

static float hostile(seeded *s) {
    static const float special[] = {0.0f,   -0.0f, 0x1p-149f, -0x1p-149f, 0x1p-126f, 0x1.4p-130f, -1e-30f, 1e-20f,
                                    1.0f,   -1.0f, 0.5f,      65504.0f,   -65520.0f, 1e10f,       -1e18f,  3e18f};
    switch (seeded_below(s, 4)) {
        case 0: return special[seeded_below(s, sizeof special / sizeof special[0])];
        case 1: {
            // 2^-140 to 2^40: one of the powers alone could be subnormal on the way.
            int exponent = (int)seeded_below(s, 181) - 140;
            uint32_t half = (uint32_t)(exponent / 2 + 127) << 23, rest = (uint32_t)(exponent - exponent / 2 + 127) << 23;
            float a, b;
            memcpy(&a, &half, sizeof a);
            memcpy(&b, &rest, sizeof b);
            return seeded_unit(s) * a * b;
        }
        default: return 2 * seeded_unit(s);
    }
}

void fill_floats(seeded *s, spread kind, float *x, size_t count) {
    for (size_t i = 0; i < count; i++) {
        x[i] = kind == ORDINARY ? ordinary(s) : hostile(s);
        if (kind != NOT_FINITE || seeded_below(s, 200) != 0) continue;
        uint32_t bits[] = {0x7f800000, 0xff800000, 0x7fc00000, 0xffc12345, 0x7f800001};
        memcpy(&x[i], &bits[seeded_below(s, 5)], sizeof x[i]);
    }
}

void *new_memory(size_t bytes) {
    size_t rounded = (bytes + SK_ALIGNMENT - 1) / SK_ALIGNMENT * SK_ALIGNMENT;
    void *memory = aligned_alloc(SK_ALIGNMENT, rounded == 0 ? SK_ALIGNMENT : rounded);
    if (memory == NULL) abort();
    memset(memory, 0xa5, rounded);
    return memory;
}

float *new_floats(seeded *s, spread kind, size_t count) {
    float *x = new_memory(count * sizeof *x);
    fill_floats(s, kind, x, count);
    return x;
}
