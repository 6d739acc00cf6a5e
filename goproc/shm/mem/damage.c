/* damage.c - the end of a program whose segment holds a value that cannot be right.
 *
 * Every process may write all of the segment, and so may C code that runs in one of them and writes beyond
 * its memory. An index, a length or a link is checked where a wrong one would lead out of the segment, or
 * into an endless loop. Nothing can be saved then: nobody knows what else is wrong, or since when. The
 * program ends with a report, and its status is 2.
 */
#include <stdio.h>
#include <unistd.h>

#include "mem/mem.h"

void (*gp_damage_ends)(const char *text, size_t n); /* a floor above knows how to end a program */

_Noreturn void gp_damaged(const char *what, uint64_t value) {
    char text[400];
    int n = snprintf(
        text, sizeof text,
        "fatal error: proc %u (pid %d) found goproc's shared memory damaged: %s that cannot be (%llx)\n"
        "C code that writes beyond its memory does that, in any process of the program: an extension module, "
        "say.\n",
        gp.proc, (int)getpid(), what, (unsigned long long)value);
    size_t length = n < (int)sizeof text ? (size_t)n : sizeof text - 1;
    if (gp_damage_ends && gp.head && gp.proc < gp.room) gp_damage_ends(text, length);
    else gp_say(text, length);
    _exit(2);
}
