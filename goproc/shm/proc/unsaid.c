/* unsaid.c - lines about deaths, for a standard error that nobody reads at the moment.
 *
 * The coroner writes a line about each death, and goes on with the program. The pipe that standard error is
 * may be full. The coroner must not wait for its reader: other workers may die meanwhile, and their
 * goroutines have joiners. So a text that is not taken at once waits here, and the coroner tries again
 * whenever it looks. Lines for which there is no room are counted.
 *
 * The coroner alone calls these functions.
 */
#include <stdio.h>
#include <string.h>

#include "repair.h"

#define LAST_LINE 96 /* room that is kept for the line about dropped lines */

static struct {
    char text[16384];
    size_t n;
    unsigned dropped; /* lines */
} unsaid;

static void add(const char *text, size_t n) {
    memcpy(unsaid.text + unsaid.n, text, n);
    unsaid.n += n;
}

static void tell_of_dropped(void) {
    char line[LAST_LINE];
    int n = snprintf(line, sizeof line,
                     "goproc: %u more lines about deaths; nobody has read standard error\n", unsaid.dropped);
    add(line, (size_t)n);
    unsaid.dropped = 0;
}

void gp_say_later(const char *text, size_t n) {
    bool fits = !unsaid.dropped && n <= sizeof unsaid.text - LAST_LINE - unsaid.n;
    if (fits) add(text, n);
    else unsaid.dropped++;
    gp_say_unsaid();
}

bool gp_say_unsaid(void) {
    if (!unsaid.n) return false;
    size_t said = gp_say_now(unsaid.text, unsaid.n);
    unsaid.n -= said;
    memmove(unsaid.text, unsaid.text + said, unsaid.n);
    if (!unsaid.n && unsaid.dropped) tell_of_dropped();
    return unsaid.n > 0;
}

void gp_say_last(void) {
    if (unsaid.dropped) tell_of_dropped();
    if (unsaid.n) gp_say(unsaid.text, unsaid.n);
    unsaid.n = 0;
}
