/* verdict.c - the answer to a death: the program goes on, or ends.
 *
 * The policy `exit`: a worker that dies ends the program with one report that names it, its signal and its
 * goroutines. No process can hang on the dead one's objects, because none outlives it (ending.c).
 *
 * The policies `restart` and `continue`: the dead worker's part of shared memory is repaired (repair.h), and
 * its goroutines end with WorkerDied. With `restart` the zygote forks a worker for its place.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/wait.h>

#include "coroner.h"

/* the time in which a worker that has claimed the end of the program must end */
#define CLAIMANT_NS 5000000000ULL

/* True if another worker, which has claimed the end of the program, may still be about to report. */
static bool wait_for_claimant(const struct record *r) {
    if (gp_watch.late.kind) return gp_now() < gp_watch.late_until;
    gp_watch.late = *r;
    gp_watch.late.kind = DIED;
    gp_watch.late_until = gp_now() + CLAIMANT_NS;
    return true;
}

bool gp_coroner_retired(uint32_t proc) { return gp_get(&gp_proc_at(proc)->retire) == GP_LEAVES; }

bool gp_coroner_carries_on(uint32_t proc) {
    struct gp_header *h = gp.head;
    return (h->on_death != GP_DEATH_EXIT || gp_coroner_retired(proc)) && !gp_get(&h->stop) &&
           !gp_get(&h->fatal);
}

/* True if no process but this one is left that could run a goroutine. */
static bool last_one(uint32_t proc) {
    if (gp.head->on_death == GP_DEATH_RESTART) return false;
    for (uint32_t p = 1; p < gp_places(); p++)
        if (p != proc &&
            (gp_get(&gp_proc_at(p)->state) <= GP_P_LIVE || gp_get(&gp_proc_at(p)->state) == GP_P_WANTED))
            return false;
    return true;
}

/* If the program ends because of the death, claim that before any process can meet the dead one's locks: a
 * process that takes one gets OwnerDied, and must not be the one that reports. */
static void claim_end(uint32_t proc) {
    struct gp_dead d = gp_repair_dead(proc);
    bool ends = gp_repair_panics(&d) || (last_one(proc) && !gp_coroner_retired(proc));
    if (ends && gp_coroner_claim() == 0) gp_watch.end = d;
}

void gp_coroner_note(uint32_t proc) {
    struct place *place = &gp_watch.places[proc];
    if (place->noted) return;
    uint64_t begun = gp_now();
    place->noted = true;
    claim_end(proc);
    gp_repair_note(proc);
    place->took = gp_now() - begun;
}

void gp_coroner_replace(uint32_t proc) {
    uint8_t order[] = {'F', (uint8_t)proc};
    gp_watch.places[proc].owed = gp_watch.alone || !gp_coroner_tell_bytes(order, sizeof order);
}

/* Start the worker that a resize wants: see resize.c. */
void gp_coroner_begin_wanted(uint32_t proc) {
    struct gp_proc *p = gp_proc_at(proc);
    if (gp_acquire(&p->state) != GP_P_WANTED) return;
    gp_set(&p->claim, (uint64_t)gp_get(&gp.head->zygotes) << 32);
    gp_release(&p->state, GP_P_STARTING);
    gp_watch.places[proc].starts = 0;
    gp_coroner_replace(proc);
}

/* A status that is not known counts as that of the timer: the zygote has waited for the process, and had no
 * CPU to say how it ended. */
static bool timed_out(const struct record *r) {
    uint64_t at = gp_get(&gp_proc_at(r->proc)->kill_at);
    bool killed = r->value < 0 || (WIFSIGNALED(r->value) && WTERMSIG(r->value) == SIGKILL);
    return at && killed && gp_now() >= at;
}

/* The goroutine that ran, by its number; 0: not known. UINT64_MAX: none, the process was idle. */
static uint64_t running(uint32_t proc) {
    const struct gp_proc *p = gp_proc_at(proc);
    return gp_get(&p->act) & 1 ? UINT64_MAX : gp_get(&p->running);
}

/* Say that a worker died. `quiet`: a map or the like has ended its own goroutine there, so that only the loss
 * of another one is worth a line. */
static void say_death(const struct gp_dead *dead, bool quiet) {
    static char buffer[GP_STACK + 2048];
    const struct gp_death *d = dead->death ? gp_death_at(dead->death) : NULL;
    struct gp_text t = {buffer, buffer + sizeof buffer};
    if (!d || gp.head->quiet_deaths || (quiet && d->lost <= 1)) return;
    gp_death_line(&t, d, dead->replaced);
    gp_coroner_add_stack(&t, d->pid);
    gp_say_later(buffer, (size_t)(t.at - buffer));
}

/* True if the worker of this place has ended too often before it could begin a goroutine: it would go on like
 * that. */
static bool in_a_loop(const struct record *r) {
    const struct gp_proc *p = gp_proc_at(r->proc);
    unsigned *starts = &gp_watch.places[r->proc].starts;
    if (gp_get(&p->queue.looked)) *starts = 0;
    else if (!gp_get(&p->doomed)) ++*starts; /* else the program itself has killed it */
    return *starts >= STARTS_MOST;
}

static struct gp_death death_of(const struct record *r) {
    const struct gp_proc *p = gp_proc_at(r->proc);
    struct gp_death how = {
        .proc = r->proc,
        .pid = r->pid,
        .status = r->value,
        .when = gp_now(),
        .memory = gp_watch.places[r->proc].process.memory,
        .incarnation = gp_get(&p->incarnation),
        .timed_out = timed_out(r),
        .running = running(r->proc),
    };
    how.retired = gp_coroner_retired(r->proc) && r->value == 0;
    if (how.timed_out) how.overdue = gp_get(&p->kill_for);
    return how;
}

/* True if a resize has dropped it: it gets no replacement. The host may change its mind until then. */
static bool drops(uint32_t proc) {
    uint32_t dropped = GP_DROPPED;
    struct gp_proc *p = gp_proc_at(proc);
    /* for a replacement: recycle() */
    bool waits = gp_coroner_retired(proc) && gp_get(&p->queue.pinned_tail) != gp_get(&p->queue.pinned_head);
    return !waits && atomic_compare_exchange_strong(&p->drop, &dropped, GP_DROPPED_GONE);
}

/* End the program, after gp_coroner_claim(), since the loss of a goroutine is a panic. */
static bool panic(const struct gp_dead *d, const struct gp_death *how) {
    gp_coroner_kill_workers();
    gp_coroner_report_panic(d, how);
    gp_coroner_leave(2);
    return false;
}

/* false: the watch is over */
static bool carry_on(const struct record *r) {
    static struct gp_dead dead;
    uint32_t proc = r->proc;
    struct gp_death how = death_of(r);
    gp_coroner_forget(proc);
    dead.replaced = (how.retired || gp.head->on_death == GP_DEATH_RESTART) && !drops(proc);
    bool quiet = gp_get(&gp_proc_at(proc)->doomed) == GP_DOOMED_QUIETLY;
    uint64_t begun = gp_now();
    if (!gp_repair(&dead, &how, gp_coroner_notice)) return !gp_watch.over;
    gp_set(&gp.head->repair_ns, gp_watch.places[proc].took + gp_now() - begun);
    /* if the claim fails, another process ends the program already */
    if (dead.panics) return gp_coroner_claim() ? true : panic(&dead, &how);
    gp_watch.places[proc].noted = false;
    if (dead.replaced) gp_coroner_replace(proc);
    say_death(&dead, quiet);
    for (uint32_t p = 1; p < gp_places(); p++)
        if (gp_watch.places[p].noted) return true;
    gp_repair_over();
    gp_nudge(0); /* see is_free() of resize.c */
    return true;
}

/* ---- a death */

static bool end_claimed(const struct record *r) {
    struct gp_death how = death_of(r);
    if (gp_watch.end.panics) return panic(&gp_watch.end, &how);
    gp_coroner_kill_workers();
    gp_coroner_report_death(r);
    gp_coroner_leave(2);
    return false;
}

bool gp_coroner_on_death(const struct record *r) {
    struct gp_header *h = gp.head;
    if (gp_get(&h->stop)) return true;
    if (gp_coroner_carries_on(r->proc)) gp_coroner_note(r->proc);
    if (gp_watch.end.proc) return gp_watch.end.proc == r->proc ? end_claimed(r) : true;
    if (gp_coroner_retired(r->proc) && r->value == 0 && !gp_get(&h->fatal)) return carry_on(r);
    if (h->on_death != GP_DEATH_EXIT && gp_coroner_carries_on(r->proc) && !in_a_loop(r) && !last_one(r->proc))
        return carry_on(r);
    uint32_t by = gp_coroner_claim();
    int status = gp_get(&h->exit_status);
    /* the host is about to end everything */
    if (by == GP_FATAL_OTHER || (by == 1 && !gp_get(&h->ending))) return true;
    if (by > 1 && by != r->proc + 1 && !(status & GP_FATAL_SAID) && wait_for_claimant(r)) return true;
    /* after the claim: a process that meets it must not report in its own way */
    gp_set(&gp_proc_at(r->proc)->state, GP_P_DEAD);
    bool said = by == 1 || (by && status & GP_FATAL_SAID);
    status = by > 1 && said ? status & GP_STATUS : 2;
    gp_coroner_kill_workers();
    if (said) gp_say_last();
    else gp_coroner_report_death(r);
    gp_coroner_leave(status);
    return false;
}

void gp_coroner_on_lost(void (*say)(void)) {
    if (gp_get(&gp.head->stop)) return;
    uint32_t by = gp_coroner_claim();
    if (by == 1 || by == GP_FATAL_OTHER) return;
    int status = gp_get(&gp.head->exit_status);
    bool said = by && status & GP_FATAL_SAID;
    gp_coroner_kill_workers();
    if (said) gp_say_last();
    else say();
    gp_coroner_leave(said ? status & GP_STATUS : 2);
}
