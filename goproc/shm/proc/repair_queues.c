/* repair_queues.c - step 2: the goroutines of a dead process leave the queues in which they waited. */
#include "repair.h"

/* End the waits of the dead process: peers hand it nothing any more. Messages that were handed over are lost
 * with it. */
static void end_waiters(uint32_t proc, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        struct gp_waiter *w = gp_waiter_at(proc, i);
        uint64_t seen = gp_acquire(&w->state);
        if (GP_W_TAG(seen) == GP_W_WAITING)
            atomic_compare_exchange_strong(&w->state, &seen, GP_W(GP_W_EPOCH(seen), 0, GP_W_DEAD));
    }
}

/* True if the waiter was signalled and has not gone on: then the signal is for another waiter. */
static bool signal_is_lost(const struct gp_object *o, const struct gp_sudog *s) {
    uint64_t state = gp_acquire(&gp_waiter_at(s->proc, s->waiter)->state);
    return gp_get(&o->kind) == GP_KIND_COND && GP_W_TAG(state) == GP_W_FIRED &&
           GP_W_EPOCH(state) == s->epoch && GP_W_CASE(state) == s->cas;
}

/* Take a case of the dead process out of its queue. False: the runtime ends. */
static bool leave(uint32_t sd) {
    struct gp_sudog *s = gp_sudog_at(sd);
    gp_ref ref = gp_get(&s->object);
    if (!ref || !gp_object_check(ref)) return true;
    struct gp_object *o = gp_at(ref);
    /* a sudog in no queue needs the lock, too: the process that fired it may still be there */
    if (!gp_repair_lock(o)) return false;
    if (gp_get(&o->gen) == s->gen) {
        if (gp_repair_linked(o, sd)) gp_unlink(o, sd);
        else if (signal_is_lost(o, s)) gp_repair_fire_first(o, GP_W_FIRED);
        gp_repair_serve(o);
    }
    gp_repair_unlock(o);
    gp_set(&s->object, 0);
    return true;
}

bool gp_repair_queues(const struct gp_dead *d) {
    const struct gp_proc *p = gp_proc_at(d->proc);
    uint32_t waiters = gp_waiters_used(p), selects = gp_sudogs_used(p);
    end_waiters(d->proc, waiters);
    for (uint32_t i = 0; i < waiters; i++)
        if (!leave(gp_sudog_ref(d->proc, i))) return false;
    for (uint32_t i = 0; i < selects; i++)
        if (!leave(gp_sudog_ref(d->proc, gp.waiters + i))) return false;
    return true;
}
