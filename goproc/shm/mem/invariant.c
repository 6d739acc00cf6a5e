/* invariant.c - the end of a process that finds an invariant broken, with its text and place, and a core
 * dump. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mem/mem.h"

#ifdef GP_DEBUG
_Noreturn void gp_assert_failed(const char *what, const char *file, int line) {
    char text[512];
    int n = snprintf(text, sizeof text, "goproc: %s:%d: not true in proc %u (pid %d): %s\n", file, line,
                     gp.proc, (int)getpid(), what);
    if (n > 0) gp_say(text, n < (int)sizeof text ? (size_t)n : sizeof text - 1);
    abort();
}
#else
typedef int gp_no_assertions; /* ISO C wants a declaration in each file */
#endif
