/* resize.c - more or fewer workers while the program runs.
 *
 * `header.workers` is the wanted number of workers. The host stores it, and makes the places follow, now and
 * whenever a place has changed. A place above that number is dropped: it takes no goroutine any more, runs
 * those that it has begun and those that were pinned to it before, and leaves; the coroner does not replace
 * it. A place below that number without a worker is WANTED: the coroner has the zygote fork one for it. The
 * truth is in the places, so that a death on the way, also of the zygote, changes only the result of the next
 * look.
 *
 *     KEPT -> DROPPED           host
 *     DROPPED -> DROPPED_GONE   coroner: the worker has ended
 *     DROPPED_GONE -> KEPT      host: it wants the place again
 *     DROPPED -> KEPT           host, by CAS: the worker stays, or is replaced if it is on its way out
 *
 * Places are never given up: the blocks of a worker outlive it. So a place that was dropped is taken again,
 * and the number of places grows up to header.room.
 */
#include "proc/proc.h"

static bool retired_here[GP_MAX_PROCS]; /* the drop has made it retire, and not recycle() */

static bool wanted(uint32_t proc) { return proc <= gp_workers(); }

/* ---- one place */

static void want(uint32_t proc) {
    struct gp_proc *p = gp_proc_at(proc);
    gp_set(&p->unborn, 0);
    gp_set(&p->grown, 1);
    gp_set(&p->retire, GP_STAYS);
    gp_lock(&p->queue); /* a process that pins a task sees both changes, or none */
    atomic_store(&p->drop, GP_KEPT);
    gp_release(&p->state, GP_P_WANTED); /* COMMIT: from here on it is the coroner's */
    gp_unlock(&p->queue);
}

/* True if the place has no worker, and the repair of its last one is over. */
static bool is_free(const struct gp_proc *p) {
    /* read in this order */
    return gp_acquire(&p->state) == GP_P_GONE && !(atomic_load(&gp.head->crash_epoch) & 1);
}

static void give_up(struct gp_proc *p) {
    gp_set(&p->unborn, 0);
    gp_set(&p->grown, 0);
    atomic_store(&p->drop, GP_DROPPED_GONE);
    gp_release(&p->state, GP_P_GONE);
}

static void drop(uint32_t proc) {
    struct gp_proc *p = gp_proc_at(proc);
    uint16_t stays = GP_STAYS;
    uint32_t seen = atomic_load(&p->drop), state = gp_acquire(&p->state);
    if (state == GP_P_GONE || state == GP_P_DEAD) { /* DEAD: the next look finds how the repair ends */
        if (state == GP_P_GONE) atomic_store(&p->drop, GP_DROPPED_GONE);
        return;
    }
    if (seen != GP_DROPPED) {
        retired_here[proc] = false;
        atomic_store(&p->drop, GP_DROPPED); /* nothing more is pinned there */
    }
    if (gp_get(&p->unborn) && gp_task_none_pinned(proc)) {
        give_up(p);
        return;
    }
    if (atomic_compare_exchange_strong(&p->retire, &stays, GP_RETIRES)) {
        retired_here[proc] = true;
        gp_task_retire(proc);
    }
    gp_nudge(proc);
}

static void keep(uint32_t proc) {
    struct gp_proc *p = gp_proc_at(proc);
    uint32_t dropped = GP_DROPPED;
    uint16_t retires = GP_RETIRES;
    if (gp_get(&p->drop) == GP_KEPT) return;
    if (atomic_compare_exchange_strong(&p->drop, &dropped, GP_KEPT)) {
        /* a worker that retires for another reason leaves, and is replaced */
        if (retired_here[proc]) atomic_compare_exchange_strong(&p->retire, &retires, GP_STAYS);
        gp_nudge(proc);
    } else if (is_free(p)) {
        want(proc);
    }
}

static bool as_wanted(uint32_t proc) {
    const struct gp_proc *p = gp_proc_at(proc);
    uint32_t state = gp_acquire(&p->state);
    if (!wanted(proc)) return state == GP_P_GONE;
    return !gp_get(&p->drop) && state != GP_P_WANTED && !(state == GP_P_STARTING && gp_get(&p->grown));
}

/* ---- all of them */

bool gp_resized(void) {
    bool all = true;
    for (uint32_t p = 1; p < gp_places(); p++) {
        if (wanted(p)) keep(p);
        else drop(p);
        all = all && as_wanted(p);
    }
    return all;
}

/* Try again to have a worker that has died and was not replaced, or whose fork has failed. For one that is
 * gone keep() does the rest. */
static void try_again(uint32_t proc) {
    struct gp_proc *p = gp_proc_at(proc);
    if (gp_get(&p->unborn)) want(proc);
    else if (gp_acquire(&p->state) == GP_P_GONE) atomic_store(&p->drop, GP_DROPPED_GONE);
}

int gp_resize(uint32_t workers) {
    uint32_t places = gp_places();
    for (uint32_t p = places; p <= workers; p++) {
        int err = gp_back_place(p);
        if (err < 0) return err;
    }
    gp_set(&gp.head->workers, workers);
    for (uint32_t p = 1; p < places && p <= workers; p++) try_again(p);
    for (uint32_t p = places; p <= workers; p++) {
        want(p);
        gp_release(&gp.head->nprocs, p + 1);
    }
    gp_resized();
    return 0;
}

bool gp_unborn(uint32_t *proc, uint32_t *error) {
    for (*proc = 1; *proc <= gp_workers(); ++*proc)
        if ((*error = gp_get(&gp_proc_at(*proc)->unborn)) != 0) return true;
    return false;
}
