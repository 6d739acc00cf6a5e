/* outcome.c - objects that are done once and for all: outcomes of goroutines, promises, copies; and wait
 * groups, which use the same queues.
 */
#include "chan/chan.h"

/* ---- copies. Only its maker knows a copy that is not filled: if the maker dies, all blocks with the tag of
 * the copy are freed. */

void gp_copy_begin(struct gp_object *o, gp_ref block) {
    memset(gp_payload(block), 0, sizeof(struct gp_message));
    gp_own(block, GP_TAG(GP_TAG_RESULT, gp_ref_of(o)));
    gp_set(&o->proc, gp.proc + 1);
    o->ring = block;
}

void gp_copy_fill(struct gp_object *o, const struct gp_message *m, uint64_t bytes) {
    if (m->block) gp_own(m->block, GP_TAG(GP_TAG_RESULT, gp_ref_of(o)));
    memcpy(gp_payload(o->ring), m, sizeof *m);
    gp_set(&o->value, (int64_t)bytes);
    gp_release(&o->state, GP_G_OK); /* COMMIT */
}

/* ---- wait groups and outcomes of goroutines: the same queues, fired all at once */

bool gp_is_done(const struct gp_object *o) {
    return gp_get(&o->kind) == GP_KIND_WAITGROUP ? gp_get(&o->value) == 0 : gp_acquire(&o->state) >= GP_G_OK;
}

int gp_waitgroup_add(struct gp_object *o, int64_t n, int64_t *now) {
    int err = 0;
    gp_lock(o);
    int64_t count;
    if (__builtin_add_overflow(gp_get(&o->value), n, &count)) err = -EOVERFLOW;
    else if (count < 0) err = -ERANGE;
    else {
        gp_set(&o->value, count); /* COMMIT */
        /* at zero newcomers do not queue, but after the next add they would */
        if (count == 0) gp_fire_all(o, GP_W_CLOSED, false);
        *now = count;
    }
    gp_unlock(o);
    gp_ring();
    return err;
}

bool gp_unheld(struct gp_object *o) {
    for (unsigned k = 0; k <= (gp.room - 1) / 64; k++)
        if (atomic_load_explicit(&o->holders[k], memory_order_seq_cst)) return false;
    return true;
}

/* The holders come first: a process that sends its only handle sets the flag, then drops its bit. */
bool gp_held(struct gp_object *o) { return !gp_unheld(o) || gp_acquire(&o->flags) & GP_OBJ_SHARED; }

/* ---- The process that ends a goroutine may have no handle of the outcome, and the last waiter that it tells
 * may drop the last handle. An outcome that is not shared is freed under its lock: so the lock is kept to the
 * end, and all its waiters are in one process. A shared one is the collector's, and stays while it has a
 * holder. The process becomes a holder before the outcome is over: until then it is not collected. */

static bool hold(struct gp_object *o) { /* false: it was a holder before */
    uint64_t bit = 1ULL << (gp.proc % 64);
    if (atomic_fetch_or(&o->holders[gp.proc / 64], bit) & bit) return false;
    atomic_fetch_add(&o->holders_version, 1);
    return true;
}

static void unhold(struct gp_object *o) {
    atomic_fetch_and(&o->holders[gp.proc / 64], ~(1ULL << (gp.proc % 64)));
}

bool gp_outcome_set(struct gp_object *o, enum gp_goroutine_state state, gp_ref block) {
    gp_lock(o);
    bool wanted = gp_held(o);
    if (wanted) {
        bool shared = gp_get(&o->flags) & GP_OBJ_SHARED, held = shared && hold(o);
        gp_intent_outcome(gp_ref_of(o), block, state, o->task);
        if (block) gp_own(block, GP_TAG(GP_TAG_RESULT, gp_ref_of(o)));
        o->ring = block;
        o->task = 0;
        gp_release(&o->state, state); /* COMMIT */
        gp_done();
        gp_fire_all(o, GP_W_CLOSED, shared);
        if (held) unhold(o);
    }
    gp_unlock(o);
    gp_ring();
    return wanted;
}

bool gp_promise_claim(struct gp_object *o) {
    uint32_t nobody = 0, queued = GP_G_QUEUED;
    /* COMMIT: the promise ends with this process */
    if (!atomic_compare_exchange_strong(&o->proc, &nobody, gp.proc + 1)) return false;
    return atomic_compare_exchange_strong(&o->state, &queued, GP_G_RUNNING); /* unless it has been broken */
}

/* Under the lock: put the outcome of a promise into the block set aside for it. The copy comes first: if
 * this process dies before the next store, the message goes with it. */
static gp_ref fill(struct gp_object *o, const struct gp_message *m) {
    if (!m || !o->task) return 0;
    memcpy(gp_payload(o->task), m, sizeof *m);
    gp_order();
    if (m->block) gp_own(m->block, GP_TAG(GP_TAG_RESULT, gp_ref_of(o)));
    return o->task;
}

bool gp_promise_keep(struct gp_object *o, enum gp_goroutine_state state, const struct gp_message *m) {
    gp_lock(o);
    bool first = gp_acquire(&o->state) < GP_G_OK;
    if (first) {
        gp_ref block = fill(o, m);
        gp_intent_outcome(gp_ref_of(o), block, state, o->task);
        if (block) {
            gp_own(block, GP_TAG(GP_TAG_RESULT, gp_ref_of(o)));
            o->ring = block;
            o->task = 0;
        }
        gp_release(&o->state, state); /* COMMIT */
        gp_done();
        gp_fire_all(o, GP_W_CLOSED, true);
    }
    gp_unlock(o);
    gp_ring();
    return first;
}

bool gp_outcome_over(const struct gp_object *o) {
    return gp_acquire(&o->state) >= GP_G_OK || gp_get(&o->flags) & GP_OBJ_PROMISE;
}

bool gp_outcome_unread(const struct gp_object *o) {
    return gp_get(&o->kind) == GP_KIND_OUTCOME && gp_acquire(&o->state) == GP_G_FAILED &&
           gp_get(&o->value) == 0;
}

bool gp_outcome_release(struct gp_object *o) {
    gp_lock(o);
    atomic_fetch_and_explicit(&o->holders[gp.proc / 64], ~(1ULL << (gp.proc % 64)), memory_order_acq_rel);
    bool last = !gp_held(o) && gp_outcome_over(o); /* else its proc finds out when the goroutine ends */
    gp_unlock(o);
    return last;
}
