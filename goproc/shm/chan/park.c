/* park.c - how a blocked goroutine is told, and how a proc sleeps without missing it.
 *
 * A waker wins the CAS on waiter.state, sets the waiter's bit in its proc's inbox, and, with no lock held, rings
 * the proc. The inbox is a bitmap: setting a bit twice is harmless, it cannot overflow, and it is only a hint, the
 * waiter's state is the truth. The lost-wake-up argument is Dekker's:
 *
 *     waker: bit |= ..., top |= ... (seq_cst);  read park        sleeper: park = PARKED (seq_cst);  read top; sleep
 *
 * One of the two sees the other. The CAS PARKED -> NOTIFIED elects the one waker that makes the system call.
 * A plain thread sleeps on its own waiter's state word instead: its proc's scheduler may be busy for long.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <stdlib.h>

#include "core.h"

#define BELT_NS 1000000000ULL    /* no sleep is longer: one that then finds work counts in `missed`, which must stay 0 */
#define PATIENCE_NS 10000000ULL   /* a unit of patience: see tasks.c */
#define IDLE_SPIN_NS 20000ULL    /* about what waking a sleeping process costs: then spinning loses at most half */
#define CHANNEL_SPIN_NS 10000ULL
#define LOOK_NS 250

static struct {
    uint32_t *free_waiters;
    uint32_t n_free, cap_free, fresh; /* indices below `fresh` have been used */
    uint32_t *free_sudogs;            /* of the second half, for selects */
    uint32_t n_free_sudogs, cap_free_sudogs, fresh_sudogs;
    uint64_t inbox_done, waiters_done, sudogs_done, more_done; /* committed prefixes of my partition, bytes */
    uint64_t bell[GP_MAX_PROCS / 64];
    bool bells;
    _Atomic uint32_t *thread[1024];
    uint32_t threads;
    int64_t heir;                     /* see gp_heir() */
    uint32_t patience;                /* units for which tasks were left to other workers */
} park;

enum { NOBODY = -1, SEVERAL = -2 };

static uint32_t pauses_per_us = 20;

void gp_wait_ns(uint32_t ns) {
    for (uint32_t n = ns * pauses_per_us / 1000; n > 0; n--) gp_pause();
}

int gp_park_attach(void) {
    uint64_t start = gp_now(); /* a pause takes 5 to 150 ns, by the kind of CPU */
    for (int i = 0; i < 128; i++) gp_pause();
    uint64_t took = gp_now() - start;
    pauses_per_us = took < 640 ? 200 : took > 128000 ? 1 : (uint32_t)(128000 / took);
    free(park.free_waiters);
    free(park.free_sudogs);
    memset(&park, 0, sizeof park);
    park.heir = NOBODY;
    return gp_commit_upto(gp.parts_at + gp.proc * gp.part_bytes, &park.inbox_done, GP_PART_INBOX + 64, GP_PART_WAITERS);
}

/* ---- waiters */

int64_t gp_waiter_alloc(bool thread) {
    uint32_t i;
    if (park.n_free) {
        i = park.free_waiters[--park.n_free];
    } else {
        uint64_t at = gp.parts_at + gp.proc * gp.part_bytes;
        uint64_t n = park.fresh + 1, most = gp.waiters;
        if (park.fresh == gp.waiters) return -ENOSPC;
        if (gp_commit_upto(at, &park.inbox_done, GP_PART_INBOX + (n + 7) / 8, GP_PART_WAITERS) < 0 ||
            gp_commit_upto(at + GP_PART_WAITERS, &park.waiters_done, 64 * n, 64 * most) < 0 ||
            gp_commit_upto(at + gp.sudogs_at, &park.sudogs_done, 128 * n, 128 * most) < 0)
            return -ENOMEM;
        if (park.fresh == park.cap_free) {
            uint32_t cap = park.cap_free ? 2 * park.cap_free : 256;
            uint32_t *v = realloc(park.free_waiters, cap * sizeof *v);
            if (!v) return -ENOMEM;
            park.free_waiters = v;
            park.cap_free = cap;
        }
        i = park.fresh++;
        gp_set(&gp.my->waiters_used, park.fresh);
    }
    gp_set(&gp_waiter_at(gp.proc, i)->thread, thread);
    return i;
}

void gp_waiter_release(uint32_t i) {
    struct gp_waiter *w = gp_waiter_at(gp.proc, i);
    GP_ASSERT(GP_W_TAG(gp_get(&w->state)) != GP_W_WAITING && i < park.fresh);
    gp_set(&w->state, GP_W(GP_W_EPOCH(gp_get(&w->state)), 0, GP_W_IDLE));
    park.free_waiters[park.n_free++] = i; /* cap_free >= fresh */
}

void gp_waiter_arm(uint32_t i) {
    struct gp_waiter *w = gp_waiter_at(gp.proc, i);
    GP_ASSERT(GP_W_TAG(gp_get(&w->state)) != GP_W_WAITING);
    gp_set(&w->state, GP_W(GP_W_EPOCH(gp_get(&w->state)) + 1, 0, GP_W_WAITING));
}

bool gp_waiter_cancel(uint32_t i) {
    struct gp_waiter *w = gp_waiter_at(gp.proc, i);
    uint64_t seen = gp_get(&w->state);
    return GP_W_TAG(seen) == GP_W_WAITING &&
           atomic_compare_exchange_strong_explicit(&w->state, &seen, GP_W(GP_W_EPOCH(seen), 0, GP_W_CANCELLED),
                                                   memory_order_acq_rel, memory_order_acquire);
}

int64_t gp_sudog_alloc(void) {
    uint32_t i;
    if (park.n_free_sudogs) {
        i = park.free_sudogs[--park.n_free_sudogs];
    } else {
        uint64_t at = gp.parts_at + gp.proc * gp.part_bytes + gp.sudogs_at + 128ULL * gp.waiters;
        if (park.fresh_sudogs == gp.selects) return -ENOSPC;
        if (gp_commit_upto(at, &park.more_done, 128ULL * (park.fresh_sudogs + 1), 128ULL * gp.selects) < 0) return -ENOMEM;
        if (park.fresh_sudogs == park.cap_free_sudogs) {
            uint32_t cap = park.cap_free_sudogs ? 2 * park.cap_free_sudogs : 256;
            uint32_t *v = realloc(park.free_sudogs, cap * sizeof *v);
            if (!v) return -ENOMEM;
            park.free_sudogs = v;
            park.cap_free_sudogs = cap;
        }
        i = park.fresh_sudogs++;
        gp_set(&gp.my->sudogs_used, park.fresh_sudogs);
    }
    return gp_sudog_ref(gp.proc, gp.waiters + i);
}

void gp_sudog_release(uint32_t sd) { /* cap_free_sudogs >= fresh_sudogs */
    park.free_sudogs[park.n_free_sudogs++] = (sd & ((1u << GP_SUDOG_BITS) - 1)) - 1 - gp.waiters;
}

/* ---- plain threads. For the deadlock detector each blocked one is counted in its process; whoever takes the waiter out
 * of GP_THREAD_BLOCKED, the teller or the thread itself, uncounts it, so a thread that was told counts as running from
 * before its teller can go idle. The two words do not change at once, and a thread can be held up in between for long: so
 * in between it must not count. It is marked first and counted then, and uncounted before the mark goes; a count that is
 * too low for a while only delays a report. Each change moves the upper half, too: two threads that wake each other in
 * turn must not look asleep to a detector that reads one after the other. */

static void count_thread(uint32_t proc, int change) {
    atomic_fetch_add(&gp_proc_at(proc)->threads, (1ULL << 32) + (uint64_t)(int64_t)change);
}

void gp_thread_blocks(struct gp_waiter *w) {
    uint32_t expect = GP_THREAD;
    if (atomic_compare_exchange_strong(&w->thread, &expect, GP_THREAD_BLOCKED)) count_thread(gp.proc, 1); /* else told already */
}

void gp_thread_runs(struct gp_waiter *w) {
    count_thread(gp.proc, -1);
    if (atomic_exchange(&w->thread, GP_THREAD) != GP_THREAD_BLOCKED) count_thread(gp.proc, 1); /* its teller has done it */
}

/* ---- telling */

/* Push the waiter i on the stack of its collector, then fire that. The collector arms itself before it looks at the stack:
 * one of the two sees the other. */
static void tell_collector(uint32_t proc, uint32_t i, void (*tell)(uint32_t proc, uint32_t i)) {
    struct gp_waiter *w = gp_waiter_at(proc, i);
    uint32_t collector = gp_get(&w->watch);
    struct gp_waiter *c = gp_waiter_at(proc, collector);
    uint32_t top = gp_get(&c->fired);
    do gp_set(&w->next, top);
    while (!atomic_compare_exchange_weak(&c->fired, &top, i + 1));
    uint64_t seen = atomic_load(&c->state);
    if (GP_W_TAG(seen) == GP_W_WAITING &&
        atomic_compare_exchange_strong(&c->state, &seen, GP_W(GP_W_EPOCH(seen), 0, GP_W_FIRED)))
        tell(proc, collector);
}

static bool was_blocked(struct gp_waiter *w) { return atomic_exchange(&w->thread, GP_THREAD_TOLD) == GP_THREAD_BLOCKED; }

static void set_bit(uint32_t proc, uint32_t i) {
    char *part = gp_part_at(proc);
    _Atomic uint64_t *word = (_Atomic uint64_t *)(part + GP_PART_INBOX) + i / 64;
    _Atomic uint64_t *mid = (_Atomic uint64_t *)(part + GP_PART_INBOX_MID) + i / (64 * GP_INBOX_LINE);
    atomic_fetch_or_explicit(word, 1ULL << (i % 64), memory_order_release);
    atomic_fetch_or_explicit(mid, 1ULL << (i / GP_INBOX_LINE % 64), memory_order_release);
    atomic_fetch_or_explicit(&gp_proc_at(proc)->inbox, 1ULL << (i / (64 * GP_INBOX_LINE)), memory_order_seq_cst);
}

void gp_tell_now(uint32_t proc, uint32_t i) {
    struct gp_waiter *w = gp_waiter_at(proc, i);
    if (gp_get(&w->thread) == GP_WATCHED) {
        tell_collector(proc, i, gp_tell_now);
    } else if (gp_get(&w->thread)) {
        if (was_blocked(w)) count_thread(proc, -1);
        gp_futex_wake((_Atomic uint32_t *)&w->state, INT_MAX);
    } else {
        set_bit(proc, i);
        gp_ring_proc(proc);
    }
}

void gp_tell(uint32_t proc, uint32_t i) {
    struct gp_waiter *w = gp_waiter_at(proc, i);
    if (gp_get(&w->thread)) {
        if (gp_get(&w->thread) == GP_WATCHED) {
            tell_collector(proc, i, gp_tell);
            return;
        }
        if (was_blocked(w)) count_thread(proc, -1);
        if (park.threads == sizeof park.thread / sizeof park.thread[0])
            gp_futex_wake((_Atomic uint32_t *)&w->state, INT_MAX); /* under a lock, but only past the 1024th thread */
        else
            park.thread[park.threads++] = (_Atomic uint32_t *)&w->state;
        return;
    }
    if (proc == gp.proc) park.heir = park.heir == NOBODY ? (int64_t)i : SEVERAL;
    set_bit(proc, i);
    park.bell[proc / 64] |= 1ULL << (proc % 64);
    park.bells = true;
}

void gp_untell(uint32_t i) {
    _Atomic uint64_t *word = (_Atomic uint64_t *)(gp.part + GP_PART_INBOX) + i / 64;
    atomic_fetch_and_explicit(word, ~(1ULL << (i % 64)), memory_order_acq_rel);
}

int64_t gp_heir(void) {
    int64_t i = park.heir;
    park.heir = NOBODY;
    return i < 0 ? -1 : i;
}

void gp_ring_proc(uint32_t proc) {
    struct gp_proc *p = gp_proc_at(proc);
    uint32_t seen = GP_PARKED;
    if (atomic_load_explicit(&p->park, memory_order_seq_cst) == GP_PARKED &&
        atomic_compare_exchange_strong_explicit(&p->park, &seen, GP_NOTIFIED, memory_order_seq_cst, memory_order_relaxed))
        gp_futex_wake(&p->park, 1);
}

void gp_nudge(uint32_t proc) {
    atomic_store_explicit(&gp_proc_at(proc)->rescan, 1, memory_order_seq_cst);
    gp_ring_proc(proc);
}

void gp_ring(void) {
    while (park.threads) gp_futex_wake(park.thread[--park.threads], INT_MAX);
    if (!park.bells) return;
    park.bells = false;
    for (unsigned k = 0; k < GP_MAX_PROCS / 64; k++)
        while (park.bell[k]) {
            uint32_t bit = (uint32_t)__builtin_ctzll(park.bell[k]);
            park.bell[k] &= park.bell[k] - 1;
            gp_ring_proc(k * 64 + bit);
        }
}

bool gp_inbox_pending(void) { return gp_get(&gp.my->inbox) != 0; }

static int drain_line(_Atomic uint64_t *words, uint32_t line, uint32_t *out) {
    int n = 0;
    for (uint32_t k = line * (GP_INBOX_LINE / 64), end = k + GP_INBOX_LINE / 64; k < end; k++) {
        if (!gp_get(&words[k])) continue;
        uint64_t word = atomic_exchange_explicit(&words[k], 0, memory_order_acq_rel);
        for (; word; word &= word - 1) out[n++] = k * 64 + (uint32_t)__builtin_ctzll(word);
    }
    return n;
}

int gp_drain(uint32_t *out, int max) {
    int n = 0;
    _Atomic uint64_t *mids = (_Atomic uint64_t *)(gp.part + GP_PART_INBOX_MID);
    _Atomic uint64_t *words = (_Atomic uint64_t *)(gp.part + GP_PART_INBOX);
    uint64_t top = atomic_exchange_explicit(&gp.my->inbox, 0, memory_order_seq_cst);
    while (top) {
        unsigned t = (unsigned)__builtin_ctzll(top);
        top &= top - 1;
        uint64_t mid = atomic_exchange_explicit(&mids[t], 0, memory_order_acq_rel);
        while (mid) {
            unsigned m = (unsigned)__builtin_ctzll(mid);
            if (n + (int)GP_INBOX_LINE > max) { /* no room for a whole line: put the rest back and come again */
                atomic_fetch_or_explicit(&mids[t], mid, memory_order_release);
                atomic_fetch_or_explicit(&gp.my->inbox, top | 1ULL << t, memory_order_seq_cst);
                return n;
            }
            mid &= mid - 1;
            n += drain_line(words, t * 64 + m, out + n);
        }
    }
    return n;
}

bool gp_thread_wait(struct gp_waiter *w, uint64_t until_ns) {
    for (;;) {
        uint64_t seen = gp_acquire(&w->state);
        if (GP_W_TAG(seen) != GP_W_WAITING) return true;
        uint64_t now = gp_now(), cap = now + BELT_NS;
        if (until_ns && now >= until_ns) return false;
        long r = gp_futex_wait((_Atomic uint32_t *)&w->state, (uint32_t)seen, until_ns && until_ns < cap ? until_ns : cap);
        if (r == -EINTR) return GP_W_TAG(gp_acquire(&w->state)) != GP_W_WAITING; /* let Python look at its signals */
    }
}

void gp_release_threads(void) {
    for (uint32_t i = 0; i < park.fresh; i++) {
        struct gp_waiter *w = gp_waiter_at(gp.proc, i);
        uint64_t seen = gp_get(&w->state);
        if (!gp_get(&w->thread) || GP_W_TAG(seen) != GP_W_WAITING) continue;
        if (atomic_compare_exchange_strong(&w->state, &seen, GP_W(GP_W_EPOCH(seen), 0, GP_W_DEAD)))
            gp_futex_wake((_Atomic uint32_t *)&w->state, INT_MAX);
    }
}

/* ---- spinning: only when there is a core for it (ski rental: at most what the sleep would have cost) */

uint32_t gp_procs_running(void) {
    uint32_t idle = 0, live = gp_get(&gp.head->live);
    for (unsigned k = 0; k <= (gp.nprocs - 1) / 64; k++) idle += (uint32_t)__builtin_popcountll(gp_get(&gp.head->idle[k]));
    return live > idle ? live - idle : 0;
}

bool gp_may_spin(void) { return gp.nprocs > 1 && gp.ncpu > 1 && gp_procs_running() <= gp.ncpu; }

bool gp_spin_until(const struct gp_case *cases, uint32_t n) {
    uint64_t cap = 0;
    for (const struct gp_case *c = cases; c < cases + n; c++) {
        if (!c->o || c->kind == GP_DONE || gp_get(&c->o->flags) & GP_OBJ_LAZY) continue;
        if (c->kind > GP_RECV || c->o->cap == 0) return false; /* an unbuffered partner must be able to see us: queue at once */
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

/* ---- idle */

static bool own_work(void) {
    return atomic_load_explicit(&gp.my->inbox, memory_order_seq_cst) != 0 || gp_get(&gp.my->rescan) || gp_task_count() > 0;
}

bool gp_something_to_do(void) { return own_work() || gp_get(&gp.head->stop) || gp_task_in_reach(); }

bool gp_anybody_searches(void) {
    for (unsigned k = 0; k <= (gp.nprocs - 1) / 64; k++)
        if (gp_get(&gp.head->searching[k])) return true;
    return false;
}

static uint32_t searchers(void) {
    uint32_t n = 0;
    for (unsigned k = 0; k <= (gp.nprocs - 1) / 64; k++) n += (uint32_t)__builtin_popcountll(gp_get(&gp.head->searching[k]));
    return n;
}

void gp_searches(uint32_t proc, bool yes) {
    _Atomic uint64_t *word = &gp.head->searching[proc / 64];
    uint64_t bit = 1ULL << (proc % 64);
    if (yes) atomic_fetch_or_explicit(word, bit, memory_order_seq_cst);
    else atomic_fetch_and_explicit(word, ~bit, memory_order_seq_cst);
}

/* Look for work without sleeping. A worker is counted in `searching` meanwhile, so that submitters of tasks need not wake
 * anybody. */
static bool search(uint64_t until_ns) {
    bool counted = gp_takes_tasks() && !gp_reserved;
    if (!gp_may_spin() || (counted && 2 * searchers() >= gp_procs_running())) return false;
    if (counted) gp_searches(gp.proc, true);
    gp_set(&gp.my->park, GP_SPIN);
    bool found = false;
    do {
        for (int i = 0; i < 8 && !found; i++) {
            gp_wait_ns(100);
            found = gp_something_to_do();
        }
    } while (!found && gp_now() < until_ns);
    gp_set(&gp.my->park, GP_RUN);
    if (counted) gp_searches(gp.proc, false);
    return found;
}

/* Give back what memory is free, asleep as before for everybody else. False if that takes the GIL. */
static bool tend_heap(void) {
    if (!gp_heap_look()) return true;
    if (gp_drops_settled() || !gp_get(&gp.my->fenced)) {
        gp_heap_look_again();
        return false;
    }
    gp_heap_trim(gp_something_to_do);
    return true;
}

/* Sleep until the bell, `until_ns` or the belt. The detector of deadlocks looks first, if this process is the last one. */
static void sleep_idle(uint64_t now, uint64_t until_ns) {
    uint64_t cap = now + BELT_NS, patience;
    gp_report_if_asleep();
    while ((patience = gp_heap_patience(now)) < BELT_NS && (!until_ns || now + patience < until_ns)) {
        long r = until_ns ? gp_futex_wait(&gp.my->park, GP_PARKED, now + patience) : gp_idle_wait(now + patience);
        if (r != -ETIMEDOUT || !tend_heap()) return;
        now = gp_now();
        cap = now + BELT_NS;
    }
    bool capped = !until_ns || until_ns > cap;
    long r = until_ns ? gp_futex_wait(&gp.my->park, GP_PARKED, capped ? cap : until_ns) : gp_idle_wait(cap);
    /* The belt ended it, and there is work: was a wake-up lost? Unless its waker is between the bit and the bell. */
    if (r == -ETIMEDOUT && capped && gp_inbox_pending() &&
        gp_futex_wait(&gp.my->park, GP_PARKED, gp_now() + BELT_NS) == -ETIMEDOUT && gp_get(&gp.my->park) == GP_PARKED)
        gp_set(&gp.my->missed, gp_get(&gp.my->missed) + 1);
}

void gp_idle(uint64_t until_ns) {
    struct gp_proc *my = gp.my;
    struct gp_header *h = gp.head;
    uint64_t now = gp_now(), timer_ns = until_ns;
    uint64_t bit = gp_reserved ? 0 : 1ULL << (gp.proc % 64); /* who is reserved is not woken for tasks of others */
    _Atomic uint64_t *idle = &h->idle[gp.proc / 64];
    if (gp_something_to_do() || (until_ns && now >= until_ns)) return;
    if (search(until_ns && until_ns < now + IDLE_SPIN_NS ? until_ns : now + IDLE_SPIN_NS)) {
        /* submitters relied on this search: if there is more to do than it takes, somebody must know */
        if (gp_takes_tasks() && gp_task_elsewhere()) gp_wake_one();
        return;
    }
    atomic_fetch_or_explicit(idle, bit, memory_order_seq_cst);
    atomic_exchange_explicit(&my->park, GP_PARKED, memory_order_seq_cst);
    gp_set(&my->ext, until_ns != 0);
    atomic_store(&my->act, gp_get(&my->act) + 1); /* odd, before the last look: the detector's Dekker */
    bool waits = gp_task_elsewhere();
    gp_task_hand_over();
    if (!waits) park.patience = 0;
    if (waits && (!until_ns || until_ns > now + PATIENCE_NS)) until_ns = now + PATIENCE_NS;
    if (!gp_something_to_do() && (!bit || (atomic_load_explicit(idle, memory_order_seq_cst) & bit)))
        sleep_idle(now, until_ns);
    atomic_store(&my->act, gp_get(&my->act) + 1); /* even, before anything is drained */
    gp_set(&my->park, GP_RUN);
    gp_monitor_wake();
    if (waits && gp_now() >= now + PATIENCE_NS) park.patience++;
    /* whoever cleared the bit chose this worker and counted it as searching; its search ends with the steal that follows,
     * unless something of its own came at the same time: then another must search, submitters relied on this one */
    bool chosen = bit && !(atomic_fetch_and_explicit(idle, ~bit, memory_order_seq_cst) & bit);
    if (gp_get(&h->searching[gp.proc / 64]) & bit) gp_searches(gp.proc, false); /* also where who would choose it has died */
    if (chosen) {
        if ((own_work() || (timer_ns && gp_now() >= timer_ns)) && gp_task_elsewhere()) gp_wake_one();
    }
}

uint32_t gp_patience(void) { return park.patience; }
void gp_patience_over(void) { park.patience = 0; }
