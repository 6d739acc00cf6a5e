/* death_line.c - the line on stderr about a worker that died, where the program goes on. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/wait.h>

#include "repair.h"

#define NAMED 8u /* goroutines that are named in the line */

static void say_cause(struct gp_text *t, const struct gp_death *d) {
    if (d->late) {
        gp_text_add(t, "was killed, as goroutine %llu had not ended in time: %s", (unsigned long long)d->late,
                    d->call);
        return;
    }
    if (d->timed_out) gp_text_add(t, "was killed");
    else gp_end_text(t, d->status);
    if (d->running)
        gp_text_add(t, " while it ran goroutine %llu: %s", (unsigned long long)d->running, d->call);
    if (d->timed_out) {
        gp_text_add(t, ", as a call had not ended in time");
    } else if (d->status >= 0 && WIFSIGNALED(d->status) && WTERMSIG(d->status) == SIGKILL) {
        gp_text_add(t, " (if nobody sent that, the kernel did for want of memory");
        if (d->memory) gp_text_add(t, "; it had %llu MiB at most", (unsigned long long)(d->memory >> 20));
        gp_text_add(t, ")");
    }
}

static void say_goroutines(struct gp_text *t, const struct gp_death *d) {
    uint32_t listed = d->lost < GP_DEATH_GOROUTINES ? d->lost : GP_DEATH_GOROUTINES, named = 0;
    uint64_t told = d->late ? d->late : d->running;
    for (uint32_t i = 0; i < listed && named < NAMED; i++) {
        const struct gp_lost *g = &d->goroutine[i];
        if (g->id == told) continue;
        gp_text_add(t, "%s goroutine %llu (%s)",
                    named  ? ","
                    : told ? "; lost, too:"
                           : "; lost:",
                    (unsigned long long)g->id, g->name);
        named++;
    }
    uint32_t more = d->lost - named;
    for (uint32_t i = 0; i < listed && told; i++)
        if (d->goroutine[i].id == told) more--;
    if (more) gp_text_add(t, " and %u more", more);
    if (d->again) gp_text_add(t, "; %u start%s again (retries)", d->again, d->again == 1 ? "s" : "");
    if (!d->lost && !d->again) gp_text_add(t, "; no goroutine was lost");
}

void gp_death_line(struct gp_text *t, const struct gp_death *d, bool replaced) {
    gp_text_add(t, "goproc: proc %u (pid %d) ", d->proc, (int)d->pid);
    say_cause(t, d);
    say_goroutines(t, d);
    gp_text_add(t, replaced ? "; the worker is replaced\n" : "; the worker is not replaced\n");
}
