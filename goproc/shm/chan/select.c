/* select.c - operations that may have to wait, one or the first of several: Go's select (runtime/select.go).
 *
 * A case is one operation on one object. All locks are taken in ascending order of ref. With all of them
 * held, the cases are examined in random order, and the first that is ready is done: so the choice is uniform
 * among the ready ones, and "none is ready" holds at one instant. Otherwise one sudog for each case is queued
 * under the same locks. The winner of the CAS on the waiter's state has decided for its case; the other
 * sudogs are unlinked afterwards, in O(1) each.
 *
 * As in Go a select with a send and a receive on one channel does not meet itself: cases are examined before
 * any is queued. Cases of one channel are queued in random order, so that they have equal chances after a
 * block, too.
 *
 * More locks than the journal lists are spilled: a block names them all before the first is tried.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <unistd.h>

#include "chan/chan.h"

#define CHANNEL_SPIN_NS 10000ULL
#define LOOK_NS 250

/* ---- random numbers: xorshift64*, seeded per process */

uint32_t gp_random(uint32_t below) {
    /* seeded anew at each attach, which comes after the fork: no two processes have one sequence */
    static uint64_t x, run;
    if (GP_UNLIKELY(run != gp.run)) {
        run = gp.run;
        x = (gp_now() ^ (uint64_t)getpid() << 32) * 0x9E3779B97F4A7C15ULL | 1;
    }
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    return (uint32_t)(((x * 0x2545F4914F6CDD1DULL) >> 32) * below >> 32);
}

/* ---- one case, under its object's lock */

static enum gp_result step(struct gp_case *c) {
    switch (c->kind) {
    case GP_SEND: return gp_chan_put(c->o, &c->m);
    case GP_RECV: return gp_chan_take(c->o, &c->m);
    case GP_DONE: return gp_is_done(c->o) ? GP_OK : GP_BLOCK;
    case GP_FOREVER: return GP_BLOCK;
    default: return gp_sync_step(c->o, c);
    }
}

static void queue(struct gp_case *c, uint32_t waiter, uint32_t number) {
    struct gp_sudog *s = gp_sudog_known(c->sudog);
    gp_set(&s->object, gp_ref_of(c->o));
    s->gen = gp_get(&c->o->gen);
    s->waiter = waiter;
    s->proc = (uint16_t)gp.proc;
    s->cas = (uint16_t)number;
    s->epoch = GP_W_EPOCH(gp_get(&gp_waiter_known(gp.proc, waiter)->state));
    s->n = c->n;
    bool again = c->since != 0;
    if (c->kind == GP_LOCK && !again) c->since = gp_now();
    s->since = c->since;
    if (c->kind == GP_SEND) s->msg = c->m;
    if (c->kind == GP_ARRIVE) gp_set(&c->o->value, gp_get(&c->o->value) + 1);
    /* a waiter that was first before is first again */
    if (again && gp_get(&c->o->kind) != GP_KIND_RWMUTEX) gp_enqueue_first(c->o, c->sudog);
    else
        gp_enqueue(c->o, c->sudog,
                   c->kind == GP_SEND || (c->kind == GP_LOCK && gp_get(&c->o->kind) == GP_KIND_RWMUTEX));
}

/* ---- operations on one object */

static void expire_context(struct gp_case *c) {
    /* a context's deadline ends a whole tree, whose lock comes before that of any channel */
    if (c->kind == GP_RECV && gp_get(&c->o->flags) & GP_OBJ_CONTEXT) gp_context_expire(c->o);
}

enum gp_result gp_case_try(struct gp_case *c) {
    if (!c->o) return GP_BLOCK;
    expire_context(c);
    gp_lock(c->o);
    enum gp_result r = step(c);
    gp_unlock(c->o);
    gp_ring();
    return r;
}

enum gp_result gp_case_try_or_wait(struct gp_case *c, uint32_t waiter) {
    if (!c->o) {
        gp_waiter_arm(waiter);
        return GP_BLOCK;
    }
    expire_context(c);
    c->sudog = gp_sudog_ref(gp.proc, waiter);
    gp_lock(c->o);
    enum gp_result r = step(c);
    if (r == GP_BLOCK) {
        gp_waiter_arm(waiter);
        queue(c, waiter, 0);
    }
    gp_unlock(c->o);
    gp_ring();
    return r;
}

/* ---- on several */

static const struct gp_case *sorting;

static int by_object(const void *a, const void *b) {
    const struct gp_object *x = sorting[*(const uint32_t *)a].o, *y = sorting[*(const uint32_t *)b].o;
    return (x > y) - (x < y);
}

static void sort(struct gp_select *s) {
    if (s->sorted) return;
    s->sorted = true;
    for (uint32_t i = 0; i < s->n; i++) s->lock[i] = i;
    if (s->n > 16) {
        sorting = s->cases; /* one thread at a time: the GIL is held */
        qsort(s->lock, s->n, sizeof *s->lock, by_object);
        return;
    }
    for (uint32_t i = 1; i < s->n; i++) {
        uint32_t x = s->lock[i], k = i;
        for (; k > 0 && s->cases[s->lock[k - 1]].o > s->cases[x].o; k--) s->lock[k] = s->lock[k - 1];
        s->lock[k] = x;
    }
}

static void lock_all(struct gp_select *s) {
    struct gp_object *last = NULL;
    if (GP_UNLIKELY(s->spill)) {
        gp_ref *list = (gp_ref *)gp_payload(s->spill);
        for (uint32_t i = 0; i < s->n; i++)
            list[i] = s->cases[s->lock[i]].o ? gp_ref_of(s->cases[s->lock[i]].o) : 0;
        gp_order();
        gp_set(&gp.my->journal.spill, s->spill);
        gp_order();
    }
    for (uint32_t i = 0; i < s->n; i++) {
        struct gp_object *o = s->cases[s->lock[i]].o;
        if (o == last) continue; /* also: no channel at all */
        last = o;
        if (GP_UNLIKELY(s->spill)) gp_lock_spilled(o);
        else gp_lock(o);
    }
}

static void unlock_all(struct gp_select *s) {
    struct gp_object *last = NULL;
    for (uint32_t i = s->n; i-- > 0;) {
        struct gp_object *o = s->cases[s->lock[i]].o;
        if (o == last || !o) continue;
        last = o;
        if (GP_UNLIKELY(s->spill)) gp_unlock_spilled(o);
        else gp_unlock(o);
    }
    gp_order();
    if (GP_UNLIKELY(s->spill)) gp_set(&gp.my->journal.spill, 0);
}

int64_t gp_select(struct gp_select *s, int64_t waiter, enum gp_result *r) {
    struct gp_case *cases = s->cases;
    int64_t chosen = -1;
    for (uint32_t i = 0; i < s->n; i++) {
        s->poll[i] = i;
        if (cases[i].o) expire_context(&cases[i]);
    }
    sort(s);
    lock_all(s);
    for (uint32_t i = 0; i < s->n; i++) { /* shuffled as far as it is looked at (Fisher and Yates) */
        uint32_t k = i + (s->n - i > 1 ? gp_random(s->n - i) : 0), at = s->poll[k];
        s->poll[k] = s->poll[i];
        s->poll[i] = at;
        if (!cases[at].o || (*r = step(&cases[at])) == GP_BLOCK) continue;
        chosen = at;
        break;
    }
    if (chosen < 0 && waiter >= 0) {
        gp_waiter_arm((uint32_t)waiter);
        for (uint32_t i = 0; i < s->n; i++)
            if (cases[s->poll[i]].o) queue(&cases[s->poll[i]], (uint32_t)waiter, s->poll[i]);
    }
    unlock_all(s);
    gp_ring();
    return chosen;
}

int64_t gp_select_due(struct gp_select *s, uint32_t waiter) {
    uint32_t first = s->n > 1 ? gp_random(s->n) : 0;
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t k = (first + i) % s->n;
        struct gp_case *c = &s->cases[k];
        uint64_t due = gp_case_due(c);
        if (!due || gp_now() < due) continue;
        expire_context(c); /* a context tells all its waiters, this one too */
        if (!(gp_get(&c->o->flags) & GP_OBJ_TIMER)) continue;
        gp_lock(c->o);
        due = gp_case_due(c);
        /* once the waiter is cancelled, no other case can be done */
        bool won = due && gp_now() >= due && gp_waiter_cancel(waiter);
        if (won) step(c);
        gp_unlock(c->o);
        gp_ring();
        if (won) return k;
    }
    return -1;
}

/* ---- after a park */

static bool is_timer(const struct gp_case *c) {
    return c->o && c->kind == GP_RECV && gp_get(&c->o->flags) & GP_OBJ_TIMER;
}

bool gp_select_rethinks(const struct gp_select *s) {
    for (uint32_t i = 0; i < s->n; i++)
        if (is_timer(&s->cases[i])) return true;
    return false;
}

void gp_case_settled(struct gp_case *c, uint32_t waiter, bool notified) {
    if (!c->o) return;
    struct gp_sudog *s = gp_sudog_known(c->sudog);
    if (!notified) { /* rule O2 */
        gp_lock(c->o);
        gp_unlock(c->o);
        /* the teller has set the bit by now, and the next use of the waiter would find it */
        gp_untell(waiter);
    }
    gp_set(&s->object, 0);
    c->n = s->n;
    if (c->kind == GP_RECV) c->m = s->msg;
}

void gp_case_abandon(struct gp_case *c) {
    if (!c->o) return;
    struct gp_sudog *s = gp_sudog_known(c->sudog);
    gp_lock(c->o);
    if (gp_get(&s->linked)) {
        gp_unlink(c->o, c->sudog);
        if (c->kind >= GP_LOCK) gp_sync_serve(c->o);
    }
    gp_unlock(c->o);
    /* a timer tells its waiters without firing them: the next use of the waiter would find that */
    if (is_timer(c)) {
        gp_set(&gp_waiter_at(gp.proc, s->waiter)->rethink, 0);
        gp_untell(s->waiter);
    }
    gp_set(&s->object, 0);
    gp_ring();
}

/* A barrier releases all the waiters that it counts, so none may give up between the count and the release.
 * So this takes the lock of the barrier first. */
bool gp_case_cancel(struct gp_case *c, uint32_t waiter) {
    if (c->kind != GP_ARRIVE) return gp_waiter_cancel(waiter);
    gp_lock(c->o);
    bool won = gp_waiter_cancel(waiter);
    if (won) {
        gp_unlink(c->o, c->sudog);
        gp_set(&c->o->value, gp_get(&c->o->value) - 1);
    }
    gp_unlock(c->o);
    return won;
}

void gp_case_undo(struct gp_case *c) {
    switch (c->kind) {
    case GP_SEND: c->m.block = 0; break; /* the receiver's now, not the caller's to drop */
    case GP_RECV: gp_message_drop(&c->m); break;
    case GP_LOCK:
        if (gp_get(&c->o->kind) == GP_KIND_RWMUTEX) gp_rwmutex_unlock(c->o, false);
        else gp_mutex_unlock(c->o);
        break;
    case GP_RLOCK: gp_rwmutex_unlock(c->o, true); break;
    case GP_ACQUIRE: gp_semaphore_release(c->o, c->n); break;
    case GP_SIGNAL: gp_cond_signal(c->o, false); break; /* for another */
    default: break;
    }
}

uint64_t gp_case_due(const struct gp_case *c) {
    if (!c->o || c->kind != GP_RECV) return 0;
    uint16_t flags = gp_get(&c->o->flags);
    if (GP_LIKELY(!(flags & GP_OBJ_LAZY))) return 0;
    if (flags & GP_OBJ_TIMER) return (uint64_t)gp_get(&c->o->value);
    return flags & GP_OBJ_CLOSED ? 0 : gp_get(&c->o->due);
}

/* ---- spinning before it waits */

bool gp_spin_until(const struct gp_case *cases, uint32_t n) {
    uint64_t cap = 0;
    for (const struct gp_case *c = cases; c < cases + n; c++) {
        if (!c->o || c->kind == GP_DONE || gp_get(&c->o->flags) & GP_OBJ_LAZY) continue;
        /* an unbuffered partner must be able to see us: queue at once */
        if (c->kind > GP_RECV || c->o->cap == 0) return false;
        if (c->o->cap > cap) cap = c->o->cap;
    }
    if (cap == 0 || !gp_may_spin()) return false;
    uint64_t until = gp_now() + CHANNEL_SPIN_NS, before = 0;
    /* As with the lock: look rarely, and while the partner makes progress leave it some room to run ahead. */
    do {
        gp_wait_ns(cap < 8 ? LOOK_NS / 4 : LOOK_NS);
        uint64_t ready = 0;
        for (const struct gp_case *c = cases; c < cases + n; c++) {
            if (!c->o) continue;
            if (c->kind == GP_DONE ? gp_is_done(c->o) : gp_get(&c->o->flags) & GP_OBJ_CLOSED) return true;
            if (c->kind == GP_DONE || gp_get(&c->o->flags) & GP_OBJ_LAZY) continue;
            uint64_t head = gp_acquire(&c->o->head), used = gp_acquire(&c->o->tail) - head;
            ready += c->kind == GP_SEND ? c->o->cap - used : used;
        }
        if (ready > 0 && (ready >= cap / 4 || ready == before)) return true;
        before = ready;
    } while (!gp_inbox_pending() && gp_now() < until);
    return before > 0;
}
