/* repair_locks.c - step 1: the locks of a dead process, and the operation that it was in the middle of.
 *
 * The journal of the dead process names the operation that it was about to do. The stores of the operation
 * show whether the COMMIT was made. If so, the rest is done here, as the operation would have; if not,
 * nothing had happened. Then the rules for the object at rest are restored, also if the process died between
 * two operations under one lock: a receive that has made room, say, and has not moved up the first waiting
 * sender.
 *
 * Nothing here waits. Every sleeper for a lock that the dead one knew of is woken: that one may have been
 * woken as the next, or have died between the release and the wake.
 */
#include <limits.h>

#include "repair.h"

/* ---- firing */

static bool fire(struct gp_object *o, uint32_t sd, unsigned tag) {
    struct gp_sudog *s = gp_sudog_at(sd);
    uint32_t proc = s->proc, waiter = s->waiter;
    bool won = gp_fire(o, sd, tag);
    if (won) gp_unlink(o, sd);
    if (won) gp_tell_now(proc, waiter);
    return won;
}

static void fire_all(struct gp_object *o, unsigned tag) {
    bool context = gp_get(&o->flags) & GP_OBJ_CONTEXT;
    for (uint32_t sd;
         (sd = gp_get(&o->recvq_first)) != 0 || (!context && (sd = gp_get(&o->sendq_first)) != 0);)
        fire(o, sd, tag);
}

bool gp_repair_fire_first(struct gp_object *o, unsigned tag) {
    for (uint32_t sd; (sd = gp_get(&o->recvq_first)) != 0;)
        if (fire(o, sd, tag)) return true;
    return false;
}

static bool grant(struct gp_object *o, uint32_t sd, int64_t value) {
    struct gp_sudog *s = gp_sudog_at(sd);
    uint32_t proc = s->proc, waiter = s->waiter;
    if (!gp_fire(o, sd, GP_W_FIRED)) return false;
    gp_add_share(o, s);
    gp_set(&o->value, value);
    if (gp_get(&o->kind) != GP_KIND_SEMAPHORE) gp_set(&o->owner, gp_word_of(proc));
    gp_unlink(o, sd);
    gp_tell_now(proc, waiter);
    return true;
}

/* ---- queues: `next` from the first on is the truth */

static void rebuild(_Atomic uint32_t *first, _Atomic uint32_t *last) {
    uint32_t prev = 0;
    uint64_t steps = 0;
    for (uint32_t sd = gp_get(first); sd; sd = gp_get(&gp_sudog_at(sd)->next)) {
        gp_count_step(&steps);
        gp_set(&gp_sudog_at(sd)->prev, prev);
        gp_set(&gp_sudog_at(sd)->linked, 1);
        prev = sd;
    }
    gp_set(last, prev);
}

static bool has_senders(const struct gp_object *o) {
    uint32_t kind = gp_get(&o->kind);
    return (kind == GP_KIND_CHAN || kind == GP_KIND_RWMUTEX) && !(gp_get(&o->flags) & GP_OBJ_CONTEXT);
}

static void rebuild_queues(struct gp_object *o) {
    rebuild(&o->recvq_first, &o->recvq_last);
    if (has_senders(o)) rebuild(&o->sendq_first, &o->sendq_last);
}

bool gp_repair_linked(const struct gp_object *o, uint32_t sd) {
    const struct gp_sudog *s = gp_sudog_at(sd);
    uint32_t prev = gp_get(&s->prev);
    if (gp_get(&o->recvq_first) == sd || (has_senders(o) && gp_get(&o->sendq_first) == sd)) return true;
    if (!prev || !gp_sudog_check(prev)) return false;
    const struct gp_sudog *p = gp_sudog_at(prev);
    /* `prev` of a sudog in no queue is stale: p may be in another queue now, under another lock. Then it has
     * been linked anew, and `linked` is read first: with it come its object, and its next sudog, of that
     * time. */
    return gp_acquire(&p->linked) && gp_get(&p->object) == gp_get(&s->object) && gp_get(&p->next) == sd;
}

/* ---- waiters that can go on */

static void promote(struct gp_object *c) {
    for (uint32_t sd; (sd = gp_get(&c->sendq_first)) != 0;) {
        uint64_t tail = gp_get(&c->tail);
        uint32_t cap = c->cap;
        if (gp_buffered(c) >= cap) return;
        struct gp_sudog *s = gp_sudog_at(sd);
        uint32_t proc = s->proc, waiter = s->waiter;
        gp_slots(c)[tail % cap] = s->msg;
        gp_ref block = s->msg.block;
        if (!gp_fire(c, sd, GP_W_FIRED)) continue;
        gp_release(&c->tail, tail + 1);
        if (block) gp_own(block, GP_TAG(GP_TAG_CHAN, gp_ref_of(c)));
        gp_unlink(c, sd);
        gp_tell_now(proc, waiter);
    }
}

/* The dead one may have set the timer, and told only some of its waiters. */
static void tell_of_timer(struct gp_object *c) {
    for (uint32_t next, sd = gp_get(&c->recvq_first); sd; sd = next) {
        struct gp_sudog *s = gp_sudog_at(sd);
        struct gp_waiter *w = gp_waiter_at(s->proc, s->waiter);
        next = gp_get(&s->next);
        if (gp_get(&w->thread)) {
            fire(c, sd, GP_W_RETRY);
            continue;
        }
        atomic_store(&w->rethink, 1);
        gp_tell_now(s->proc, s->waiter);
    }
}

static void serve_channel(struct gp_object *c) {
    if (gp_get(&c->flags) & GP_OBJ_TIMER) tell_of_timer(c);
    else if (gp_get(&c->flags) & GP_OBJ_CLOSED) fire_all(c, GP_W_CLOSED);
    else if (!(gp_get(&c->flags) & GP_OBJ_LAZY)) promote(c);
}

static void serve_mutex(struct gp_object *o) {
    bool dead = gp_get(&o->value) != 0 && gp_repair_died(gp_get(&o->owner));
    /* the dead one may be the one that was woken; one wake too many does no harm */
    atomic_fetch_and(&o->flags, (uint16_t)~GP_OBJ_WOKEN);
    if ((gp_get(&o->value) == 0 || dead) && gp_repair_fire_first(o, GP_W_RETRY))
        atomic_fetch_or(&o->flags, GP_OBJ_WOKEN);
}

static void serve_rwmutex(struct gp_object *o) {
    int64_t value = gp_get(&o->value);
    if (value < 0 && gp_repair_died(gp_get(&o->owner))) {
        fire_all(o, GP_W_RETRY); /* the first of them is told */
    } else if (value == 0) {
        for (uint32_t sd; (sd = gp_get(&o->sendq_first)) != 0;)
            if (grant(o, sd, -1)) return;
    }
    if (gp_get(&o->value) < 0 || gp_get(&o->sendq_first)) return;
    bool any = false;
    for (uint32_t sd; (sd = gp_get(&o->recvq_first)) != 0;) any |= grant(o, sd, gp_get(&o->value) + 1);
    if (any) gp_set(&o->owner, 0);
}

static void serve_semaphore(struct gp_object *o) {
    for (uint32_t sd; (sd = gp_get(&o->recvq_first)) != 0;) {
        int64_t left = gp_get(&o->value) - (int64_t)gp_sudog_at(sd)->n;
        if (left < 0) return;
        grant(o, sd, left);
    }
}

/* While a waiter is counted, `value` is not 0: if it is 0, all that still wait are to go. */
static void serve_barrier(struct gp_object *o) {
    if (gp_get(&o->value) == 0) {
        fire_all(o, GP_W_FIRED);
        return;
    }
    uint64_t n = 0;
    for (uint32_t sd = gp_get(&o->recvq_first); sd; sd = gp_get(&gp_sudog_at(sd)->next)) gp_count_step(&n);
    gp_set(&o->value, (int64_t)n);
}

void gp_repair_serve(struct gp_object *o) {
    switch (gp_get(&o->kind)) {
    case GP_KIND_CHAN: serve_channel(o); break;
    case GP_KIND_WAITGROUP:
    case GP_KIND_OUTCOME:
        if (gp_is_done(o)) fire_all(o, GP_W_CLOSED);
        break;
    case GP_KIND_MUTEX:
    case GP_KIND_ONCE: serve_mutex(o); break;
    case GP_KIND_RWMUTEX: serve_rwmutex(o); break;
    case GP_KIND_SEMAPHORE: serve_semaphore(o); break;
    case GP_KIND_BARRIER: serve_barrier(o); break;
    default: break;
    }
}

/* ---- the journal: enum gp_op has the operands of each operation */

static gp_ref object_in(const struct gp_journal *j) { return (gp_ref)gp_get(&j->a); }
static uint32_t sudog_in(const struct gp_journal *j) { return (uint32_t)gp_get(&j->b); }
static gp_ref block_in(const struct gp_journal *j) { return (gp_ref)gp_get(&j->c); }
static uint64_t epoch_in(const struct gp_journal *j) { return gp_get(&j->d); }
static int64_t value_in(const struct gp_journal *j) { return (int64_t)gp_get(&j->e); }

/* True if the dead process has fired the waiter of its operation. It held the lock of the only case that
 * shows this. */
static bool fired(const struct gp_journal *j) {
    const struct gp_sudog *s = gp_sudog_at(sudog_in(j));
    uint64_t state = gp_acquire(&gp_waiter_at(s->proc, s->waiter)->state);
    unsigned tag = GP_W_TAG(state);
    return GP_W_EPOCH(state) == epoch_in(j) && GP_W_CASE(state) == s->cas &&
           (tag == GP_W_FIRED || tag == GP_W_CLOSED || tag == GP_W_RETRY);
}

static void own(const struct gp_journal *j, uint64_t tag) {
    if (block_in(j)) gp_own(block_in(j), tag);
}

/* The sum of the shares of all procs, by `value`. */
static int64_t shared(int64_t value, const struct gp_object *o) {
    if (gp_get(&o->kind) == GP_KIND_SEMAPHORE) return (int64_t)(gp_get(&o->size) - gp_get(&o->tail)) - value;
    return value < 0 ? 0 : value;
}

/* The dead one may have changed a share, and not `value` yet. */
static void follow_shares(struct gp_object *o) {
    uint32_t kind = gp_get(&o->kind);
    if ((kind != GP_KIND_SEMAPHORE && kind != GP_KIND_RWMUTEX) || !gp_shares(o)) return;
    int64_t sum = gp_shares_sum(o);
    if (kind == GP_KIND_SEMAPHORE) gp_set(&o->value, (int64_t)(gp_get(&o->size) - gp_get(&o->tail)) - sum);
    else if (sum > 0 || gp_get(&o->value) > 0) gp_set(&o->value, sum);
}

static void redo_fired(const struct gp_dead *d, const struct gp_journal *j, struct gp_object *o,
                       uint32_t op) {
    uint32_t sd = sudog_in(j), proc = gp_sudog_at(sd)->proc;
    switch (op) {
    case GP_OP_HANDOFF: own(j, gp_tag_of(proc)); break;
    case GP_OP_TAKE: own(j, d->tag); break;
    case GP_OP_PROMOTE:
        gp_release(&o->tail, gp_get(&j->e) + 1);
        own(j, GP_TAG(GP_TAG_CHAN, gp_ref_of(o)));
        break;
    case GP_OP_GRANT:
        if (gp_shares(o) && gp_shares_sum(o) != shared(value_in(j), o)) gp_add_share(o, gp_sudog_at(sd));
        gp_set(&o->value, value_in(j));
        if (gp_get(&o->kind) != GP_KIND_SEMAPHORE) gp_set(&o->owner, gp_word_of(proc));
        break;
    default: break;
    }
    if (op == GP_OP_HANDOFF && gp_get(&o->flags) & GP_OBJ_ONCE) atomic_fetch_or(&o->flags, GP_OBJ_DONE);
    if (gp_repair_linked(o, sd)) gp_unlink(o, sd);
}

/* The task belongs to the dead process as before: it is lost, or starts again. A promise is not kept. */
static void undo_outcome(const struct gp_dead *d, const struct gp_journal *j, struct gp_object *o) {
    gp_ref task = (gp_ref)gp_get(&j->e);
    o->ring = 0;
    if (task) o->task = task;
    if (gp_get(&o->flags) & GP_OBJ_PROMISE) return;
    own(j, block_in(j) == task ? d->tag : GP_TAG(GP_TAG_PART, task)); /* the task itself, or its spare */
}

static void redo_track(const struct gp_journal *j, struct gp_object *o) {
    uint32_t which = (uint32_t)gp_get(&j->b);
    gp_ref task = block_in(j);
    uint64_t capacity;
    if (which >= GP_TRACKERS || !gp_block_check(task, &capacity)) gp_damaged("a journal", task);
    uint64_t count = which == GP_TRACK_PLACE ? gp_get(&o->tail) : (uint64_t)gp_get(&o->value);
    if (count == gp_get(&j->d)) gp_set(&gp_task_at(task)->tracker[which], (uint32_t)gp_get(&j->e));
}

/* Finish an operation that ends with a wake-up, if the dead process has made its COMMIT. */
static void redo_wake(const struct gp_dead *d, const struct gp_journal *j, struct gp_object *o, uint32_t op) {
    if (!gp_sudog_check(sudog_in(j))) return;
    struct gp_sudog *s = gp_sudog_at(sudog_in(j));
    uint32_t proc = s->proc, waiter = s->waiter;
    bool won = fired(j);
    if (won) redo_fired(d, j, o, op);
    if (!gp_repair_linked(o, sudog_in(j))) s->linked = 0; /* its owner must not unlink it again */
    if (won) gp_tell_now(proc, waiter); /* last: from here on the owner may queue it elsewhere */
}

static void redo(const struct gp_dead *d, const struct gp_journal *j, struct gp_object *o) {
    uint32_t op = gp_get(&j->op);
    if (op == GP_OP_BUFPUT) {
        if (gp_get(&o->tail) == gp_get(&j->d) + 1) own(j, GP_TAG(GP_TAG_CHAN, gp_ref_of(o)));
    } else if (op == GP_OP_BUFGET) {
        if (gp_get(&o->head) == gp_get(&j->d) + 1) own(j, d->tag);
    } else if (op == GP_OP_OUTCOME) {
        if (gp_get(&o->state) != gp_get(&j->d)) undo_outcome(d, j, o);
    } else if (op == GP_OP_TRACK) {
        redo_track(j, o);
    } else if (op != GP_OP_NONE) {
        redo_wake(d, j, o, op);
    }
}

/* ---- the locks */

static bool is_object(gp_ref ref) { return (uint64_t)ref * GP_LINE >= gp.heap_at && gp_object_check(ref); }

/* A task that the dead one has put into a ring, or was about to take out of it, belongs to the queue. */
static void restore_ring(uint32_t proc) {
    struct gp_queue *q = &gp_proc_at(proc)->queue;
    gp_task_queued(proc, false);
    gp_task_queued(proc, true);
    for (uint32_t n = gp_get(&q->head); n != gp_get(&q->tail); n++)
        gp_own(gp_task_slot(proc, false, n), GP_TAG(GP_TAG_QUEUE, proc + 1));
    for (uint32_t n = gp_get(&q->pinned_head); n != gp_get(&q->pinned_tail); n++)
        gp_own(gp_task_slot(proc, true, n), GP_TAG(GP_TAG_QUEUE, proc + 1));
}

static void make_sound(const struct gp_dead *d, const struct gp_journal *j, gp_ref ref) {
    if (is_object(ref)) {
        struct gp_object *o = gp_at(ref);
        rebuild_queues(o);
        if (object_in(j) == ref) redo(d, j, o);
        follow_shares(o);
        gp_repair_serve(o);
        return;
    }
    for (uint32_t p = 0; p < gp_places(); p++)
        if (gp_ref_of(&gp_proc_at(p)->queue) == ref) restore_ring(p);
}

static void let_go(const struct gp_dead *d, const struct gp_journal *j, gp_ref ref) {
    _Atomic uint32_t *word = gp_lock_word(gp_at(ref));
    bool tree = ref == gp_ref_of(&gp.head->tree);
    if (!tree && !is_object(ref) && (uint64_t)ref * GP_LINE >= gp.parts_at) return; /* no line with a lock */
    if ((gp_get(word) & ~GP_LOCK_WAITERS) == d->word) {
        if (tree) { /* its repair takes other locks, so it is part of the second step */
            atomic_store(word, GP_CORONER_WORD | GP_LOCK_WAITERS);
            return;
        }
        make_sound(d, j, ref);
        atomic_exchange(word, 0);
    }
    gp_futex_wake(word, INT_MAX);
}

void gp_repair_locks(const struct gp_dead *d) {
    struct gp_journal *j = &gp_proc_at(d->proc)->journal;
    uint32_t n = gp_acquire(&j->nlocks), spill = gp_get(&j->spill);
    uint64_t capacity;
    if (n > GP_JOURNAL_LOCKS) n = GP_JOURNAL_LOCKS;
    for (uint32_t i = n; i-- > 0;) let_go(d, j, gp_get(&j->locks[i]));
    if (spill && gp_block_check(spill, &capacity)) {
        const gp_ref *list = (const gp_ref *)gp_payload(spill);
        for (uint64_t i = 0; i < gp_len(spill) / sizeof *list; i++)
            if (list[i]) let_go(d, j, list[i]);
    }
    gp_set(&j->op, GP_OP_NONE);
    gp_set(&j->nlocks, 0);
    gp_set(&j->spill, 0);
}
