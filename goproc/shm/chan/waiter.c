/* waiter.c - the records of blocked goroutines and threads: each has a waiter, and a sudog for each object
 * that it waits for. */
#define _GNU_SOURCE
#include <limits.h>
#include <stdlib.h>

#include "chan/chan.h"

#define BELT_NS 1000000000ULL /* no sleep of a thread is longer: then the thread looks again */
#define WAITER (uint64_t)sizeof(struct gp_waiter)
#define SUDOG (uint64_t)sizeof(struct gp_sudog)

static struct {
    uint32_t *free_waiters;
    uint32_t n_free, cap_free, fresh; /* indices below `fresh` have been used */
    uint32_t *free_sudogs;            /* of the second half, for selects */
    uint32_t n_free_sudogs, cap_free_sudogs, fresh_sudogs;
    uint64_t inbox_done, waiters_done, sudogs_done, more_done; /* committed prefixes of my partition, bytes */
} slots;

int gp_waiters_attach(void) {
    free(slots.free_waiters);
    free(slots.free_sudogs);
    memset(&slots, 0, sizeof slots);
    return gp_commit_upto(gp.parts_at + gp.proc * gp.part_bytes, &slots.inbox_done, GP_PART_INBOX + GP_LINE,
                          GP_PART_WAITERS);
}

int64_t gp_waiter_alloc(bool thread) {
    uint32_t i;
    if (slots.n_free) {
        i = slots.free_waiters[--slots.n_free];
    } else {
        uint64_t at = gp.parts_at + gp.proc * gp.part_bytes;
        uint64_t n = slots.fresh + 1, most = gp.waiters;
        if (slots.fresh == gp.waiters) return -ENOSPC;
        if (gp_commit_upto(at, &slots.inbox_done, GP_PART_INBOX + (n + 7) / 8, GP_PART_WAITERS) < 0 ||
            gp_commit_upto(at + GP_PART_WAITERS, &slots.waiters_done, WAITER * n, WAITER * most) < 0 ||
            gp_commit_upto(at + gp.sudogs_at, &slots.sudogs_done, SUDOG * n, SUDOG * most) < 0)
            return -ENOMEM;
        if (!gp_grow(&slots.free_waiters, slots.fresh, &slots.cap_free, 256, sizeof *slots.free_waiters))
            return -ENOMEM;
        i = slots.fresh++;
        gp_set(&gp.my->waiters_used, slots.fresh);
    }
    gp_set(&gp_waiter_known(gp.proc, i)->thread, thread);
    return i;
}

void gp_waiter_release(uint32_t i) {
    struct gp_waiter *w = gp_waiter_known(gp.proc, i);
    GP_ASSERT(GP_W_TAG(gp_get(&w->state)) != GP_W_WAITING && i < slots.fresh);
    gp_set(&w->state, GP_W(GP_W_EPOCH(gp_get(&w->state)), 0, GP_W_IDLE));
    slots.free_waiters[slots.n_free++] = i; /* cap_free >= fresh */
}

void gp_waiter_arm(uint32_t i) {
    struct gp_waiter *w = gp_waiter_known(gp.proc, i);
    GP_ASSERT(GP_W_TAG(gp_get(&w->state)) != GP_W_WAITING);
    gp_set(&w->state, GP_W(GP_W_EPOCH(gp_get(&w->state)) + 1, 0, GP_W_WAITING));
}

bool gp_waiter_cancel(uint32_t i) {
    struct gp_waiter *w = gp_waiter_known(gp.proc, i);
    uint64_t seen = gp_get(&w->state);
    return GP_W_TAG(seen) == GP_W_WAITING && atomic_compare_exchange_strong_explicit(
                                                 &w->state, &seen, GP_W(GP_W_EPOCH(seen), 0, GP_W_CANCELLED),
                                                 memory_order_acq_rel, memory_order_acquire);
}

int64_t gp_sudog_alloc(void) {
    uint32_t i;
    if (slots.n_free_sudogs) {
        i = slots.free_sudogs[--slots.n_free_sudogs];
    } else {
        uint64_t at = gp.parts_at + gp.proc * gp.part_bytes + gp.sudogs_at + SUDOG * gp.waiters;
        if (slots.fresh_sudogs == gp.selects) return -ENOSPC;
        if (gp_commit_upto(at, &slots.more_done, SUDOG * (slots.fresh_sudogs + 1), SUDOG * gp.selects) < 0)
            return -ENOMEM;
        if (!gp_grow(&slots.free_sudogs, slots.fresh_sudogs, &slots.cap_free_sudogs, 256,
                     sizeof *slots.free_sudogs))
            return -ENOMEM;
        i = slots.fresh_sudogs++;
        gp_set(&gp.my->sudogs_used, slots.fresh_sudogs);
    }
    return gp_sudog_ref(gp.proc, gp.waiters + i);
}

void gp_sudog_release(uint32_t sd) { /* cap_free_sudogs >= fresh_sudogs */
    slots.free_sudogs[slots.n_free_sudogs++] = (sd & ((1u << GP_SUDOG_BITS) - 1)) - 1 - gp.waiters;
}

/* ---- plain threads */

bool gp_thread_wait(struct gp_waiter *w, uint64_t until_ns) {
    for (;;) {
        uint64_t seen = gp_acquire(&w->state);
        if (GP_W_TAG(seen) != GP_W_WAITING) return true;
        uint64_t now = gp_now(), cap = now + BELT_NS;
        if (until_ns && now >= until_ns) return false;
        long r = gp_futex_wait((_Atomic uint32_t *)&w->state, (uint32_t)seen,
                               until_ns && until_ns < cap ? until_ns : cap);
        /* let Python look at its signals */
        if (r == -EINTR) return GP_W_TAG(gp_acquire(&w->state)) != GP_W_WAITING;
    }
}

void gp_release_threads(void) {
    for (uint32_t i = 0; i < slots.fresh; i++) {
        struct gp_waiter *w = gp_waiter_known(gp.proc, i);
        uint64_t seen = gp_get(&w->state);
        if (!gp_get(&w->thread) || GP_W_TAG(seen) != GP_W_WAITING) continue;
        if (atomic_compare_exchange_strong(&w->state, &seen, GP_W(GP_W_EPOCH(seen), 0, GP_W_DEAD)))
            gp_futex_wake((_Atomic uint32_t *)&w->state, INT_MAX);
    }
}
