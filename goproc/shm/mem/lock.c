/* lock.c - the slow half of the owner-tagged futex lock, and the futex calls.
 *
 * Why not a robust pthread mutex: it tells only the next locker of a death, wakes no parked goroutine, and
 * its kill windows have been wrong in libc and kernel more than once. Here the owner IS the lock word, so a
 * lock without an owner cannot exist. Only the coroner, which is needed anyway, releases a lock for the dead.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "mem/mem.h"

#define AWAY_NS 900                /* before the first look at a lock that was taken */
#define LOOK_NS 300                /* between two looks */
#define LOCK_SPIN_NS 20000ULL       /* about the cost of sleeping and waking */
#define LOCK_SLEEP_NS 100000000ULL /* the longest sleep: then the sleeper looks again */

long gp_futex_wait(_Atomic uint32_t *word, uint32_t expect, uint64_t until_ns) {
    struct timespec t = {(time_t)(until_ns / 1000000000ULL), (long)(until_ns % 1000000000ULL)};
    long r = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expect, until_ns ? &t : NULL, NULL,
                     FUTEX_BITSET_MATCH_ANY);
    return r < 0 ? -errno : 0;
}

void gp_futex_wake(_Atomic uint32_t *word, int count) {
    syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

/* ---- the check whether any process has a lock: nobody would release one with a damaged word */

/* Looks in a row that find no holder. One look can miss a process that takes the lock again and again; so
 * many do not. */
#define LOST_LOOKS 1000u

static bool lists(const struct gp_proc *p, gp_ref line) {
    const struct gp_journal *j = &p->journal;
    uint32_t n = gp_acquire(&j->nlocks);
    if (gp_get(&j->spill)) return true; /* it has many */
    for (uint32_t i = 0; i < n && i < GP_JOURNAL_LOCKS; i++)
        if (gp_get(&j->locks[i]) == line) return true;
    return false;
}

static bool is_holder(uint32_t holder, gp_ref line) {
    uint32_t proc = gp_word_proc(holder);
    if (proc >= gp.room) return false;
    return gp_incarnation_of(proc) == gp_word_incarnation(holder) && lists(gp_proc_at(proc), line);
}

void gp_check_holder(_Atomic uint32_t *word, bool coroner) {
    uint32_t holder = gp_acquire(word) & ~GP_LOCK_WAITERS;
    gp_ref line = gp_ref_of((char *)word - GP_LOCK_AT);
    for (uint32_t i = 0; i < LOST_LOOKS; i++) {
        if (!coroner && gp_acquire(&gp.head->crash_epoch) & 1) return; /* the holder may have died */
        /* no operation takes a lock twice; the coroner is no part of one */
        bool own = holder == gp.me && !coroner;
        uint32_t now = gp_acquire(word);
        /* GP_LOCK_WAITERS without a holder is damage, too: an unlock stores 0 */
        if (now == 0 || (now & ~GP_LOCK_WAITERS) != holder || (!own && is_holder(holder, line))) return;
    }
    gp_damaged("the holder of a lock", holder);
}

void gp_lock_slow(_Atomic uint32_t *word) {
    if (gp_may_spin()) {
        /* The holder does several operations while the lines of the channel are in its cache, at a tenth of
         * the cost of fetching them each time. So do not snatch the lock between two of them: stay away for
         * some operations first, and look rarely. On a contended channel this halves the time a message
         * takes, for both sides. */
        uint64_t until = gp_now() + LOCK_SPIN_NS;
        gp_wait_ns(AWAY_NS);
        do {
            uint32_t seen = gp_get(word);
            if (seen == 0 && atomic_compare_exchange_strong_explicit(word, &seen, gp.me, memory_order_acquire,
                                                                     memory_order_relaxed))
                return;
            gp_wait_ns(LOOK_NS);
        } while (gp_now() < until);
    }
    for (;;) {
        uint32_t seen = gp_get(word);
        if (seen == 0) {
            /* others may sleep: a process that takes the lock this way keeps the duty to wake them (a plain
             * take would drop it) */
            if (atomic_compare_exchange_strong_explicit(word, &seen, gp.me | GP_LOCK_WAITERS,
                                                        memory_order_acquire, memory_order_relaxed))
                return;
            continue;
        }
        if (!(seen & GP_LOCK_WAITERS) &&
            !atomic_compare_exchange_strong_explicit(word, &seen, seen | GP_LOCK_WAITERS,
                                                     memory_order_relaxed, memory_order_relaxed))
            continue;
        if (gp_futex_wait(word, seen | GP_LOCK_WAITERS, gp_now() + LOCK_SLEEP_NS) == -ETIMEDOUT)
            gp_check_holder(word, false);
    }
}

void gp_unlock_wake(_Atomic uint32_t *word) { gp_futex_wake(word, 1); }
