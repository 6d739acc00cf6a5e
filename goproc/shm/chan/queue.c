/* queue.c - FIFO of the sudogs that wait on one object. Everything here runs under the object's lock.
 *
 * The chain of `next` from `first` is the truth; `last` and `prev` are caches that make appending and
 * removing O(1) and that the coroner rebuilds. The store that makes a new sudog reachable is the COMMIT of
 * the enqueue.
 */
#include "chan/chan.h"

void gp_enqueue_first(struct gp_object *o, uint32_t sd) {
    struct gp_sudog *s = gp_sudog_known(sd);
    GP_ASSERT(gp_locked(o) && !s->linked);
    uint32_t next = gp_get(&o->recvq_first);
    gp_set(&s->next, next);
    gp_set(&s->prev, 0);
    s->send = 0;
    /* a reader without the lock, which sees this, finds the present object or a later one */
    gp_release(&s->linked, 1);
    gp_order();
    gp_set(&o->recvq_first, sd); /* COMMIT */
    gp_order();
    gp_set(next ? &gp_sudog_at(next)->prev : &o->recvq_last, sd);
}

void gp_enqueue(struct gp_object *o, uint32_t sd, bool send) {
    _Atomic uint32_t *first = send ? &o->sendq_first : &o->recvq_first;
    _Atomic uint32_t *last = send ? &o->sendq_last : &o->recvq_last;
    struct gp_sudog *s = gp_sudog_known(sd);
    GP_ASSERT(gp_locked(o) && !s->linked && s->object == gp_ref_of(o));
    uint32_t tail = gp_get(last);
    gp_set(&s->next, 0);
    gp_set(&s->prev, tail);
    s->send = send;
    /* a reader without the lock, which sees this, finds the present object or a later one */
    gp_release(&s->linked, 1);
    gp_order();
    gp_set(tail ? &gp_sudog_at(tail)->next : first, sd); /* COMMIT */
    gp_order();
    gp_set(last, sd);
}

void gp_unlink(struct gp_object *o, uint32_t sd) {
    struct gp_sudog *s = gp_sudog_known(sd);
    GP_ASSERT(gp_locked(o));
    if (!gp_get(&s->linked)) return;
    _Atomic uint32_t *first = s->send ? &o->sendq_first : &o->recvq_first;
    _Atomic uint32_t *last = s->send ? &o->sendq_last : &o->recvq_last;
    uint32_t next = gp_get(&s->next), prev = gp_get(&s->prev);
    if (prev) first = &gp_sudog_at(prev)->next;
    if (GP_UNLIKELY(gp_get(first) != sd)) gp_damaged("a link of a queue", prev);
    gp_release(first, next); /* COMMIT; see gp_chan_seems_empty() */
    gp_order();
    gp_set(next ? &gp_sudog_at(next)->prev : last, prev);
    gp_set(&s->linked, 0);
}

bool gp_fire(struct gp_object *o, uint32_t sd, unsigned tag) {
    struct gp_sudog *s = gp_sudog_known(sd);
    struct gp_waiter *w = gp_waiter_at(s->proc, s->waiter);
    GP_ASSERT(gp_locked(o) && s->object == gp_ref_of(o) && GP_W_EPOCH(gp_get(&w->state)) >= s->epoch);
    if (GP_UNLIKELY(!gp_get(&s->linked) || gp_get(&s->object) != gp_ref_of(o)))
        gp_damaged("a waiter in a queue", sd);
    uint64_t expect = GP_W(s->epoch, 0, GP_W_WAITING);
    /* COMMIT */
    bool won = atomic_compare_exchange_strong_explicit(&w->state, &expect, GP_W(s->epoch, s->cas, tag),
                                                       memory_order_acq_rel, memory_order_acquire);
    gp_order();
    /* another case of the select has won; its owner would unlink this one later */
    if (!won) gp_unlink(o, sd);
    return won;
}

uint32_t gp_queued(const struct gp_object *o, bool send) {
    uint32_t n = 0, sd = gp_get(send ? &o->sendq_first : &o->recvq_first);
    for (uint64_t steps = 0; sd; sd = gp_get(&gp_sudog_at(sd)->next)) {
        gp_count_step(&steps);
        const struct gp_sudog *s = gp_sudog_at(sd);
        n += gp_acquire(&gp_waiter_at(s->proc, s->waiter)->state) == GP_W(s->epoch, 0, GP_W_WAITING);
    }
    return n;
}

/* A granted reader lock or unit belongs to the waiter's process. `owner` names a writer. */
void gp_add_share(struct gp_object *o, const struct gp_sudog *s) {
    bool semaphore = gp_get(&o->kind) == GP_KIND_SEMAPHORE;
    if (!semaphore && (gp_get(&o->kind) != GP_KIND_RWMUTEX || s->send)) return;
    _Atomic int64_t *shares = gp_shares(o);
    if (shares) gp_set(&shares[s->proc], gp_get(&shares[s->proc]) + (semaphore ? (int64_t)s->n : 1));
    gp_order();
}

bool gp_grant(struct gp_object *o, uint32_t sd, int64_t value) {
    struct gp_sudog *s = gp_sudog_at(sd);
    uint32_t proc = s->proc, waiter = s->waiter;
    uint32_t owner = gp_word_of(proc);
    gp_intent_grant(gp_ref_of(o), sd, s->epoch, value);
    bool won = gp_fire(o, sd, GP_W_FIRED); /* COMMIT */
    if (won) {
        gp_add_share(o, s);
        gp_set(&o->value, value);
        if (gp_get(&o->kind) != GP_KIND_SEMAPHORE) gp_set(&o->owner, owner);
        gp_unlink(o, sd);
    }
    gp_done();
    if (won) gp_tell(proc, waiter);
    return won;
}

bool gp_fire_one(struct gp_object *o, uint32_t sd, unsigned tag) {
    struct gp_sudog *s = gp_sudog_at(sd);
    uint32_t proc = s->proc, waiter = s->waiter;
    gp_intent_fire(gp_ref_of(o), sd, s->epoch);
    bool won = gp_fire(o, sd, tag); /* COMMIT */
    if (won) gp_unlink(o, sd);
    gp_done(); /* before the peer can move on (rule O1) */
    if (won) gp_tell(proc, waiter);
    return won;
}

void gp_fire_all(struct gp_object *o, unsigned tag, bool pausing) {
    uint32_t fired = 0;
    for (;;) {
        uint32_t sd = gp_get(&o->recvq_first);
        if (!sd) sd = gp_get(&o->sendq_first);
        if (!sd) return;
        gp_fire_one(o, sd, tag);
        if (pausing && ++fired % 32 == 0) {
            gp_unlock(o);
            gp_ring();
            gp_lock(o);
        }
    }
}
