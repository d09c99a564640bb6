// What a thread does between two looks at a word that another one writes.

#ifndef SK_SPIN_PAUSE_H
#define SK_SPIN_PAUSE_H

static inline void sk_spin_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");  // `yield` is nothing on most cores
#endif
}

#endif
