/* tell.c - how a blocked goroutine is told that its wait is over, and how a proc that sleeps does not miss
 * that. To tell a waiter is to notify it, as a condition variable does.
 *
 * A waker wins the CAS on waiter.state, sets the waiter's bit in its proc's inbox, and, without any lock,
 * rings the proc. The inbox is a bitmap: setting a bit twice is harmless, and it cannot overflow. It is only
 * a hint: the waiter's state is the truth. Dekker's argument shows that no wake-up is lost:
 *
 *     waker:    bit |= ..., top |= ... (seq_cst);  read park
 *     sleeper:  park = PARKED (seq_cst);  read top;  sleep
 *
 * One of the two sees the other. The CAS PARKED -> NOTIFIED elects the one waker that makes the system call.
 * A plain thread sleeps on its own waiter's state word instead: its proc's scheduler may be busy for long.
 */
#define _GNU_SOURCE
#include <limits.h>

#include "chan/chan.h"

#define MOST_THREADS 1024 /* threads that wait to be woken by the next gp_ring() */

static struct {
    uint64_t bell[GP_MAX_PROCS / 64];
    bool bells;
    _Atomic uint32_t *thread[MOST_THREADS];
    uint32_t threads;
    int64_t wakee;                    /* see gp_direct_wakee() */
} told;

#define RECOUNTS 100 /* of blocked threads, which others tell meanwhile */

enum { NOBODY = -1, SEVERAL = -2 };

void gp_tell_attach(void) {
    memset(&told, 0, sizeof told);
    told.wakee = NOBODY;
}

bool gp_word_died(uint32_t word) {
    uint32_t proc = gp_word_proc(word);
    if (proc >= gp_places()) return true;
    const struct gp_proc *p = gp_proc_at(proc);
    uint32_t state = gp_acquire(&p->state); /* before the incarnation: the repair raises that first */
    return state == GP_P_DEAD || state == GP_P_GONE || gp_incarnation_of(proc) != gp_word_incarnation(word);
}

/* ---- plain threads. For the deadlock detector each blocked one is counted in its process. The teller or the
 * thread itself takes the waiter out of GP_THREAD_BLOCKED, and uncounts it. So a thread that was told counts
 * as running before its teller can go idle. The mark and the count do not change at once, and the process
 * that changes them can be held up in between, or die: so in between the thread must not count. The mark is
 * set first, then the count; the uncount comes before the mark goes. A count that is too low for a while only
 * delays a report. After the death of a process every other one counts its threads anew, as the dead one may
 * have been a teller. Each change also moves the upper half: two threads that wake each other in turn must
 * not look asleep to a detector that reads one after the other. */

static void count_thread(uint32_t proc, int change) {
    atomic_fetch_add(&gp_proc_at(proc)->threads, (1ULL << 32) + (uint64_t)(int64_t)change);
}

void gp_thread_blocks(struct gp_waiter *w) {
    uint32_t expect = GP_THREAD;
    /* if the mark has changed, the thread was told already */
    if (atomic_compare_exchange_strong(&w->thread, &expect, GP_THREAD_BLOCKED)) count_thread(gp.proc, 1);
}

void gp_thread_runs(struct gp_waiter *w) {
    count_thread(gp.proc, -1);
    /* if a teller has taken the mark away, it has uncounted the thread */
    if (atomic_exchange(&w->thread, GP_THREAD) != GP_THREAD_BLOCKED) count_thread(gp.proc, 1);
}

/* False: a teller that lives is about to change the count. None of the threads changes its mark meanwhile. */
static bool count_blocked(uint32_t *n) {
    *n = 0;
    for (uint32_t i = 0, used = gp_waiters_used(gp.my); i < used; i++) {
        const struct gp_waiter *w = gp_waiter_at(gp.proc, i);
        uint32_t thread = gp_acquire(&w->thread);
        if (thread == GP_THREAD_TELLING && !gp_word_died(gp_get(&w->teller))) return false;
        *n += thread == GP_THREAD_BLOCKED;
    }
    return true;
}

void gp_threads_recount(void) {
    uint64_t seen = atomic_load(&gp.my->threads), mask = UINT32_MAX;
    uint32_t n;
    for (int i = 0; i < RECOUNTS && count_blocked(&n) && (uint32_t)seen != n; i++)
        if (atomic_compare_exchange_strong(&gp.my->threads, &seen, ((seen & ~mask) + (1ULL << 32)) | n))
            return;
}

/* ---- telling */

static void push(struct gp_waiter *c, struct gp_waiter *w, uint32_t i) {
    uint32_t top = gp_get(&c->fired);
    do gp_set(&w->next, top);
    while (!atomic_compare_exchange_weak(&c->fired, &top, i + 1)); /* COMMIT */
}

static void fire_collector(uint32_t proc, uint32_t collector, void (*tell)(uint32_t proc, uint32_t i)) {
    struct gp_waiter *c = gp_waiter_at(proc, collector);
    uint64_t seen = atomic_load(&c->state);
    if (GP_W_TAG(seen) == GP_W_WAITING &&
        atomic_compare_exchange_strong(&c->state, &seen, GP_W(GP_W_EPOCH(seen), 0, GP_W_FIRED)))
        tell(proc, collector);
}

/* Push the waiter i on the stack of its collector, then fire the collector. The collector arms itself before
 * it looks at the stack, so one of the two sees the other. The waiter first notes the process that pushes it:
 * if that process dies on the way, the collector's process finds the waiter fired, and not in the stack. */
static void tell_collector(uint32_t proc, uint32_t i, void (*tell)(uint32_t proc, uint32_t i)) {
    struct gp_waiter *w = gp_waiter_at(proc, i);
    uint32_t collector = gp_get(&w->watch), nobody = 0;
    if (atomic_compare_exchange_strong(&w->teller, &nobody, gp.me)) push(gp_waiter_at(proc, collector), w, i);
    fire_collector(proc, collector, tell);
}

void gp_watched(uint32_t i, uint32_t collector) {
    struct gp_waiter *w = gp_waiter_at(gp.proc, i);
    gp_set(&w->watch, collector);
    gp_set(&w->teller, 0);
    gp_set(&w->thread, GP_WATCHED);
}

static bool in_stack(const struct gp_waiter *c, uint32_t i) {
    uint32_t at = gp_acquire(&c->fired);
    for (uint64_t steps = 0; at && at != i + 1; at = gp_get(&gp_waiter_at(gp.proc, at - 1)->next))
        gp_count_step(&steps);
    return at != 0;
}

/* This process alone takes waiters out of the stack, and does not do so meanwhile. */
void gp_watched_again(uint32_t i) {
    struct gp_waiter *w = gp_waiter_at(gp.proc, i), *c = gp_waiter_at(gp.proc, gp_get(&w->watch));
    uint32_t teller = gp_acquire(&w->teller);
    bool lost = teller == 0 || (gp_word_died(teller) && !in_stack(c, i));
    if (lost && atomic_compare_exchange_strong(&w->teller, &teller, gp.me)) push(c, w, i);
    fire_collector(gp.proc, gp_get(&w->watch), gp_tell_now);
}

static void tell_thread(uint32_t proc, struct gp_waiter *w) {
    uint32_t telling = GP_THREAD_TELLING;
    gp_set(&w->teller, gp.me);
    gp_order();
    if (atomic_exchange(&w->thread, GP_THREAD_TELLING) == GP_THREAD_BLOCKED) count_thread(proc, -1);
    atomic_compare_exchange_strong(&w->thread, &telling, GP_THREAD_TOLD); /* unless it goes on already */
}

static void set_bit(uint32_t proc, uint32_t i) {
    char *part = gp_part_at(proc);
    _Atomic uint64_t *word = (_Atomic uint64_t *)(part + GP_PART_INBOX) + i / 64;
    _Atomic uint64_t *mid = (_Atomic uint64_t *)(part + GP_PART_INBOX_MID) + i / (64 * GP_INBOX_LINE);
    atomic_fetch_or_explicit(word, 1ULL << (i % 64), memory_order_release);
    atomic_fetch_or_explicit(mid, 1ULL << (i / GP_INBOX_LINE % 64), memory_order_release);
    atomic_fetch_or_explicit(&gp_proc_at(proc)->inbox, 1ULL << (i / (64 * GP_INBOX_LINE)),
                             memory_order_seq_cst);
}

void gp_tell_now(uint32_t proc, uint32_t i) {
    struct gp_waiter *w = gp_waiter_at(proc, i);
    if (gp_get(&w->thread) == GP_WATCHED) {
        tell_collector(proc, i, gp_tell_now);
    } else if (gp_get(&w->thread)) {
        tell_thread(proc, w);
        gp_futex_wake((_Atomic uint32_t *)&w->state, INT_MAX);
    } else {
        set_bit(proc, i);
        gp_ring_proc(proc);
    }
}

void gp_tell(uint32_t proc, uint32_t i) {
    struct gp_waiter *w = gp_waiter_known(proc, i);
    if (gp_get(&w->thread)) {
        if (gp_get(&w->thread) == GP_WATCHED) {
            tell_collector(proc, i, gp_tell);
            return;
        }
        tell_thread(proc, w);
        if (told.threads == MOST_THREADS) /* then a thread is woken under a lock */
            gp_futex_wake((_Atomic uint32_t *)&w->state, INT_MAX);
        else told.thread[told.threads++] = (_Atomic uint32_t *)&w->state;
        return;
    }
    if (proc == gp.proc) told.wakee = told.wakee == NOBODY ? (int64_t)i : SEVERAL;
    set_bit(proc, i);
    told.bell[proc / 64] |= 1ULL << (proc % 64);
    told.bells = true;
}

void gp_untell(uint32_t i) {
    _Atomic uint64_t *word = (_Atomic uint64_t *)(gp.part + GP_PART_INBOX) + i / 64;
    atomic_fetch_and_explicit(word, ~(1ULL << (i % 64)), memory_order_acq_rel);
}

int64_t gp_direct_wakee(void) {
    int64_t i = told.wakee;
    told.wakee = NOBODY;
    return i < 0 ? -1 : i;
}

void gp_ring_proc(uint32_t proc) {
    struct gp_proc *p = gp_proc_at(proc);
    uint32_t seen = GP_PARKED;
    if (atomic_load_explicit(&p->park, memory_order_seq_cst) == GP_PARKED &&
        atomic_compare_exchange_strong_explicit(&p->park, &seen, GP_NOTIFIED, memory_order_seq_cst,
                                                memory_order_relaxed))
        gp_futex_wake(&p->park, 1);
}

void gp_nudge(uint32_t proc) {
    atomic_store_explicit(&gp_proc_at(proc)->rescan, 1, memory_order_seq_cst);
    gp_ring_proc(proc);
}

void gp_ring(void) {
    while (told.threads) gp_futex_wake(told.thread[--told.threads], INT_MAX);
    if (!told.bells) return;
    told.bells = false;
    for (unsigned k = 0; k < GP_MAX_PROCS / 64; k++)
        while (told.bell[k]) {
            uint32_t bit = (uint32_t)__builtin_ctzll(told.bell[k]);
            told.bell[k] &= told.bell[k] - 1;
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
            /* no room for a whole line: put the rest back and come again */
            if (n + (int)GP_INBOX_LINE > max) {
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
