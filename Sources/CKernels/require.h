// What a caller must not do. A wrong argument is a bug in this program, so it ends the process with the broken rule.

#ifndef SK_REQUIRE_H
#define SK_REQUIRE_H

#include <stdio.h>
#include <stdlib.h>

#define SK_REQUIRE(condition, rule)                                      \
    do {                                                                 \
        if (__builtin_expect(!(condition), 0)) {                         \
            fprintf(stderr, "staffel kernels: %s: %s\n", __func__, rule); \
            abort();                                                     \
        }                                                                \
    } while (0)

#endif
