/* sync.c - mutex, read-write mutex, condition, semaphore, barrier: Go's sync and x/sync/semaphore in shared
 * memory, on the queues of channels.
 *
 * A mutex is Go's (sync/mutex.go). In normal use a running process may take it before the woken one, since
 * handing it to a sleeper would make all others wait for that wake-up. A waiter of more than a millisecond is
 * handed it directly. At most one waiter at a time is awake and trying (GP_OBJ_WOKEN); if it fails it waits
 * in front again. All other objects hand over directly and serve in order: a pending writer stops new
 * readers, readers that waited for a writer all go when the writer ends, and a large acquire at the head of a
 * semaphore's queue is not overtaken.
 *
 * Each change is one store of `value`. When it belongs to a waiter, the CAS on the waiter is the COMMIT and
 * the journal (GP_OP_GRANT) has the value. `owner` shows whether a process has died with a lock: if the owner
 * of a mutex or of a writer's lock is not the live incarnation of its process, the lock goes to the next
 * taker, with GP_OWNER_DIED.
 */
#include "chan/chan.h"

#define STARVING_NS 1000000ULL

/* ---- shares: the readers or units of each proc, so that those of a dead process can be taken back
 *
 * A share changes before `value` does, up or down. So if a process dies in between with the lock, `value` is
 * computed anew from the shares. A process that gives back units of another process takes them from that
 * one's share.
 *
 * The units of a semaphore that no process has are in `tail`. A place of a group is in the share of the
 * process that is in Group.go(), until the member has it: see proc/trackers.c. */

int64_t gp_shares_sum(const struct gp_object *o) {
    const _Atomic int64_t *shares = gp_shares(o);
    int64_t sum = 0;
    for (uint32_t p = 0; shares && p < gp.room; p++) sum += gp_get(&shares[p]);
    return sum;
}

void gp_share_add(struct gp_object *o, int64_t n) {
    _Atomic int64_t *shares = gp_shares(o);
    if (GP_LIKELY(shares != NULL)) gp_set(&shares[gp.proc], gp_get(&shares[gp.proc]) + n);
    gp_order();
}

static int64_t take_from(_Atomic int64_t *share, int64_t n) {
    int64_t has = gp_get(share), part = has < n ? has : n;
    gp_set(share, has - part);
    return part;
}

void gp_share_take(struct gp_object *o, int64_t n) {
    _Atomic int64_t *shares = gp_shares(o);
    if (!shares) return;
    n -= take_from(&shares[gp.proc], n); /* its own first: mostly that is all */
    for (uint32_t p = 0; GP_UNLIKELY(n > 0) && p < gp.room; p++) n -= take_from(&shares[p], n);
    gp_order();
}

static bool owner_died(const struct gp_object *o) {
    uint32_t owner = gp_get(&o->owner);
    return owner != 0 && gp_word_died(owner);
}

static void own(struct gp_object *o) {
    gp_set(&o->owner, gp.me); /* first: a locked lock always has an owner */
    gp_order();
}

/* ---- read-write mutex */

static bool grant_readers(struct gp_object *o) {
    bool any = false;
    for (uint32_t sd; (sd = gp_get(&o->recvq_first)) != 0;)
        if (gp_grant(o, sd, gp_get(&o->value) + 1)) any = true;
    if (any) gp_set(&o->owner, 0);
    return any;
}

static void grant_writer(struct gp_object *o) {
    for (uint32_t sd; (sd = gp_get(&o->sendq_first)) != 0;)
        if (gp_grant(o, sd, -1)) return;
    grant_readers(o); /* they queued behind writers that have given up */
}

static enum gp_result rwmutex_step(struct gp_object *o, bool reader) {
    int64_t value = gp_get(&o->value);
    enum gp_result r = GP_OK;
    if (value < 0 && owner_died(o)) {
        value = 0;
        r = GP_OWNER_DIED;
    }
    if (reader) {
        if (value < 0 || (gp_get(&o->sendq_first) && r == GP_OK)) return GP_BLOCK;
        gp_share_add(o, 1);
        gp_set(&o->value, value + 1);
        gp_set(&o->owner, 0);
        return r;
    }
    if (value != 0) return GP_BLOCK;
    own(o);
    gp_set(&o->value, -1);
    return r;
}

bool gp_rwmutex_unlock(struct gp_object *o, bool reader) {
    gp_lock(o);
    int64_t value = gp_get(&o->value);
    bool ok = reader ? value > 0 : value < 0;
    if (ok && reader) {
        gp_share_take(o, 1);
        gp_set(&o->value, value - 1); /* COMMIT */
        if (value == 1) grant_writer(o);
    } else if (ok) {
        gp_set(&o->value, 0); /* COMMIT */
        gp_set(&o->owner, 0);
        if (!grant_readers(o)) grant_writer(o);
    }
    gp_unlock(o);
    gp_ring();
    return ok;
}

/* ---- mutex */

static void wake_first(struct gp_object *o) { /* to try again; the lock is free */
    for (uint32_t sd; (sd = gp_get(&o->recvq_first)) != 0;) {
        if (!gp_fire_one(o, sd, GP_W_RETRY)) continue;
        atomic_fetch_or(&o->flags, GP_OBJ_WOKEN); /* others of its flags are set without the lock */
        return;
    }
}

static void clear_woken(struct gp_object *o) { atomic_fetch_and(&o->flags, (uint16_t)~GP_OBJ_WOKEN); }

static enum gp_result mutex_step(struct gp_object *o, struct gp_case *c) {
    enum gp_result r = GP_OK;
    if (c->woken) {
        c->woken = false;
        clear_woken(o);
    }
    if (gp_get(&o->value) != 0) {
        if (!owner_died(o)) return GP_BLOCK;
        r = GP_OWNER_DIED;
    }
    own(o);
    gp_set(&o->tail, gp_get(&o->tail) + 1); /* turns: see spin_for_lock() */
    gp_set(&o->value, 1); /* COMMIT */
    return r;
}

bool gp_mutex_unlock(struct gp_object *o) {
    gp_lock(o);
    bool locked = gp_get(&o->value) != 0, handed = false;
    if (locked) {
        for (uint32_t sd; !handed && (sd = gp_get(&o->recvq_first)) != 0;) {
            if (gp_now() - gp_sudog_at(sd)->since < STARVING_NS) break;
            handed = gp_grant(o, sd, 1);
        }
        if (!handed) {
            gp_set(&o->value, 0); /* COMMIT */
            gp_set(&o->owner, 0);
            if (!(gp_get(&o->flags) & GP_OBJ_WOKEN)) wake_first(o);
        }
    }
    gp_unlock(o);
    gp_ring();
    return locked;
}

void gp_mutex_pass(struct gp_object *o) {
    gp_lock(o);
    clear_woken(o);
    if (gp_get(&o->value) == 0 || owner_died(o)) wake_first(o);
    gp_unlock(o);
    gp_ring();
}

/* ---- semaphore */

/* The first of the queue if it can have its units, else 0. If a select waits there with several cases, any of
 * these. */
static uint32_t first_grantable(struct gp_object *o) {
    int64_t free_units = gp_get(&o->value);
    uint32_t sd = gp_get(&o->recvq_first);
    if (!sd) return 0;
    uint32_t proc = gp_sudog_at(sd)->proc, waiter = gp_sudog_at(sd)->waiter;
    for (uint64_t steps = 0; sd; sd = gp_get(&gp_sudog_at(sd)->next)) {
        gp_count_step(&steps);
        struct gp_sudog *s = gp_sudog_at(sd);
        if (s->proc != proc || s->waiter != waiter) return 0;
        if ((int64_t)s->n <= free_units) return sd;
    }
    return 0;
}

static void serve(struct gp_object *o) {
    for (uint32_t sd; (sd = first_grantable(o)) != 0;)
        gp_grant(o, sd, gp_get(&o->value) - (int64_t)gp_sudog_at(sd)->n);
}

bool gp_semaphore_release(struct gp_object *o, uint64_t n) {
    gp_lock(o);
    uint64_t value = (uint64_t)gp_get(&o->value), size = gp_get(&o->size);
    /* units of the dead, whose release they may have left to another process */
    uint64_t back = gp_get(&o->head);
    bool ok = n <= size - value;
    if (!ok && n <= size - value + back) {
        gp_set(&o->head, back - (n - (size - value)));
        n = size - value;
        ok = true;
    }
    if (ok) {
        gp_share_take(o, (int64_t)n);
        gp_set(&o->value, (int64_t)(value + n)); /* COMMIT */
        serve(o);
    }
    gp_unlock(o);
    gp_ring();
    return ok;
}

bool gp_semaphore_limit(struct gp_object *o, int64_t old, int64_t limit) {
    gp_lock(o);
    bool ok = gp_get(&o->value) == old;
    if (ok) {
        gp_set(&o->tail, gp_get(&o->size) - (uint64_t)limit); /* COMMIT: no process has a share */
        gp_order();
        gp_set(&o->value, limit);
        serve(o);
    }
    gp_unlock(o);
    gp_ring();
    return ok;
}

/* ---- condition */

void gp_cond_signal(struct gp_object *o, bool all) {
    gp_lock(o);
    if (all) {
        /* a goroutine that waits again meanwhile does so after this lock */
        gp_fire_all(o, GP_W_FIRED, false);
    } else {
        uint32_t sd;
        while ((sd = gp_get(&o->recvq_first)) != 0 && !gp_fire_one(o, sd, GP_W_FIRED)) {}
    }
    gp_unlock(o);
    gp_ring();
}

/* ---- barrier */

static enum gp_result arrive(struct gp_object *o, struct gp_case *c) {
    int64_t before = gp_get(&o->value);
    if (before + 1 < (int64_t)o->cap) return GP_BLOCK; /* queue() of select.c counts it */
    uint64_t place = 0;
    for (uint32_t sd = gp_get(&o->recvq_first); sd; sd = gp_get(&gp_sudog_at(sd)->next)) {
        gp_sudog_at(sd)->n = place;
        gp_count_step(&place);
    }
    c->n = place;
    gp_set(&o->value, 0); /* COMMIT: the next round begins */
    gp_fire_all(o, GP_W_FIRED, false);
    return GP_OK;
}

/* ---- functions for select.c */

enum gp_result gp_sync_step(struct gp_object *o, struct gp_case *c) {
    bool rw = gp_get(&o->kind) == GP_KIND_RWMUTEX;
    switch (c->kind) {
    case GP_LOCK: return rw ? rwmutex_step(o, false) : mutex_step(o, c);
    case GP_RLOCK: return rwmutex_step(o, true);
    case GP_ACQUIRE:
        if (gp_get(&o->recvq_first) || (int64_t)c->n > gp_get(&o->value)) return GP_BLOCK;
        gp_share_add(o, (int64_t)c->n);
        gp_set(&o->value, gp_get(&o->value) - (int64_t)c->n); /* COMMIT */
        return GP_OK;
    case GP_ARRIVE: return arrive(o, c);
    default: return GP_BLOCK; /* a condition */
    }
}

void gp_sync_serve(struct gp_object *o) {
    switch (gp_get(&o->kind)) {
    case GP_KIND_SEMAPHORE: serve(o); break;
    case GP_KIND_RWMUTEX:
        if (gp_get(&o->value) == 0) grant_writer(o);
        else if (gp_get(&o->value) > 0 && !gp_get(&o->sendq_first)) grant_readers(o);
        break;
    default: break;
    }
}
