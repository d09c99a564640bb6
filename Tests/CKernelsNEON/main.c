// Runs all cases with every table of kernels that this machine has, and prints a line for each: name, words recorded, their digest.
//
//   cases            all tables
//   cases neon       the same, and it is an error when there is no table of this name
//
// Ends with 1 when a table differs from plain C in any bit.

#include "cases.h"

#include <stdio.h>

int main(int count, char **arguments) {
    if (!find_tables(count > 1 ? arguments[1] : NULL)) {
        fprintf(stderr, "error: this machine has no kernels named '%s'\n", arguments[1]);
        return 1;
    }
    run_row_cases();
    run_attention_cases();
    run_product_cases();
    if (cases_failed() == 0) return 0;
    fprintf(stderr, "error: %d cases differ between instruction sets\n", cases_failed());
    return 1;
}
