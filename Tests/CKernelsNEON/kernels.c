// The cases of all kernels.
//
//   kernels        runs them with every table that this machine has and prints a line for each: name, words recorded, their digest.
//                  Ends with 1 when a table differs from plain C in any bit
//   kernels types  prints the names of the tensor types that have kernels, in small letters
//   kernels isa    prints the instruction set that STAFFEL_ISA asks for, or the best one, or "unsupported", or "unknown"

#include "cases.h"
#include "staffel_dequant.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const char *chosen(void) {
    sk_isa isa;
    switch (sk_isa_from_environment(&isa)) {
        case SK_ISA_OK: return sk_isa_name(isa);
        case SK_ISA_UNSUPPORTED: return "unsupported";
        default: return "unknown";
    }
}

static void print_types(void) {
    for (int32_t type = 0; type < 64; type++) {
        if (!sk_type_is_supported((uint32_t)type)) continue;
        for (const char *name = sk_tensor_format_find(type)->name; *name != 0; name++) putchar(tolower(*name));
        putchar('\n');
    }
}

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "isa") == 0) {
        puts(chosen());
        return 0;
    }
    if (count == 2 && strcmp(arguments[1], "types") == 0) {
        print_types();
        return 0;
    }
    if (count != 1) {
        fprintf(stderr, "usage: kernels [types | isa]\n");
        return 2;
    }
    find_tables();
    print_tables();
    run_row_cases();
    run_attention_cases();
    run_product_cases();
    if (cases_failed() == 0) return 0;
    fprintf(stderr, "error: %d cases differ between instruction sets\n", cases_failed());
    return 1;
}
