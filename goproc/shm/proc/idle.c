/* idle.c - the sleep of a proc without work: it searches a while, then waits for its bell. See
 * chan/tell.c. */
#include "proc/proc.h"

/* no sleep is longer: one that then finds work counts in `missed`, which must stay 0 */
#define BELT_NS 1000000000ULL
#define PATIENCE_NS 10000000ULL   /* a unit of patience: see taking.c */
/* about the cost of waking a sleeping process: then spinning loses at most half */
#define IDLE_SPIN_NS 20000ULL

static uint32_t patience_units; /* for so many units this process has left tasks to other workers */

void gp_idle_attach(void) { patience_units = 0; }

static bool own_work(void) {
    return atomic_load_explicit(&gp.my->inbox, memory_order_seq_cst) != 0 || gp_get(&gp.my->rescan) ||
           gp_task_count() > 0;
}

bool gp_something_to_do(void) { return own_work() || gp_get(&gp.head->stop) || gp_task_in_reach(); }

bool gp_anybody_searches(void) {
    for (unsigned k = 0; k <= (gp.room - 1) / 64; k++)
        if (gp_get(&gp.head->searching[k])) return true;
    return false;
}

static uint32_t searchers(void) {
    uint32_t n = 0;
    for (unsigned k = 0; k <= (gp.room - 1) / 64; k++)
        n += (uint32_t)__builtin_popcountll(gp_get(&gp.head->searching[k]));
    return n;
}

void gp_searches(uint32_t proc, bool yes) {
    _Atomic uint64_t *word = &gp.head->searching[proc / 64];
    uint64_t bit = 1ULL << (proc % 64);
    if (yes) atomic_fetch_or_explicit(word, bit, memory_order_seq_cst);
    else atomic_fetch_and_explicit(word, ~bit, memory_order_seq_cst);
}

/* Look for work without sleeping. Meanwhile a worker is counted in `searching`, so that submitters of tasks
 * need not wake another. */
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

/* Give free memory back to the system, while this process looks asleep to all others. False: that needs the
 * GIL. */
static bool tend_heap(void) {
    if (!gp_heap_look()) return true;
    if (gp_drops_settled() || !gp_get(&gp.my->fenced)) {
        gp_heap_look_again();
        return false;
    }
    gp_heap_trim(gp_something_to_do);
    return true;
}

/* Sleep until the bell, `until_ns` or the time cap. The detector of deadlocks looks first, if this process is
 * the last one. */
static void sleep_idle(uint64_t now, uint64_t until_ns) {
    uint64_t cap = now + BELT_NS, patience;
    gp_report_if_asleep();
    while ((patience = gp_heap_patience(now)) < BELT_NS && (!until_ns || now + patience < until_ns)) {
        long r =
            until_ns ? gp_futex_wait(&gp.my->park, GP_PARKED, now + patience) : gp_idle_wait(now + patience);
        if (r != -ETIMEDOUT || !tend_heap()) return;
        now = gp_now();
        cap = now + BELT_NS;
    }
    bool capped = !until_ns || until_ns > cap;
    long r = until_ns ? gp_futex_wait(&gp.my->park, GP_PARKED, capped ? cap : until_ns) : gp_idle_wait(cap);
    if (r == -ETIMEDOUT) gp_still_die_with_parent();
    /* The time cap ended the sleep, and there is work: a wake-up was lost, unless its waker is between the
     * bit and the bell. */
    if (r == -ETIMEDOUT && capped && gp_inbox_pending() &&
        gp_futex_wait(&gp.my->park, GP_PARKED, gp_now() + BELT_NS) == -ETIMEDOUT &&
        gp_get(&gp.my->park) == GP_PARKED)
        gp_set(&gp.my->missed, gp_get(&gp.my->missed) + 1);
}

void gp_idle(uint64_t until_ns) {
    struct gp_proc *my = gp.my;
    struct gp_header *h = gp.head;
    uint64_t now = gp_now(), timer_ns = until_ns;
    /* a reserved process is not woken for tasks of others */
    uint64_t bit = gp_reserved ? 0 : 1ULL << (gp.proc % 64);
    _Atomic uint64_t *idle = &h->idle[gp.proc / 64];
    if (gp_something_to_do() || (until_ns && now >= until_ns)) return;
    if (search(until_ns && until_ns < now + IDLE_SPIN_NS ? until_ns : now + IDLE_SPIN_NS)) {
        /* submitters relied on this search: if there is more work than it takes, another must search */
        if (gp_takes_tasks() && gp_task_elsewhere()) gp_wake_one();
        return;
    }
    atomic_fetch_or_explicit(idle, bit, memory_order_seq_cst);
    atomic_exchange_explicit(&my->park, GP_PARKED, memory_order_seq_cst);
    gp_set(&my->ext, until_ns != 0);
    atomic_store(&my->act, gp_get(&my->act) + 1); /* odd, before the last look: the detector's Dekker */
    bool waits = gp_task_elsewhere();
    gp_task_hand_over();
    if (!waits) patience_units = 0;
    if (waits && (!until_ns || until_ns > now + PATIENCE_NS)) until_ns = now + PATIENCE_NS;
    if (!gp_something_to_do() && (!bit || (atomic_load_explicit(idle, memory_order_seq_cst) & bit)))
        sleep_idle(now, until_ns);
    atomic_store(&my->act, gp_get(&my->act) + 1); /* even, before anything is drained */
    gp_set(&my->park, GP_RUN);
    gp_monitor_wake();
    if (waits && gp_now() >= now + PATIENCE_NS) patience_units++;
    /* The process that cleared the bit has chosen this worker, and counted it as searching. The search ends
     * with the steal that follows. If this worker also has work of its own, another one must search:
     * submitters rely on a search. */
    bool chosen = bit && !(atomic_fetch_and_explicit(idle, ~bit, memory_order_seq_cst) & bit);
    /* a process that died may have set it */
    if (gp_get(&h->searching[gp.proc / 64]) & bit) gp_searches(gp.proc, false);
    if (chosen && (own_work() || (timer_ns && gp_now() >= timer_ns)) && gp_task_elsewhere()) gp_wake_one();
}

uint32_t gp_patience(void) { return patience_units; }
void gp_patience_over(void) { patience_units = 0; }
