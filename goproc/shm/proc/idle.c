/* idle.c - a proc without work: it searches for some microseconds, then sleeps on its park word until another
 * proc rings it (chan/tell.c), or until its next timer is due. */
#include "proc/proc.h"

/* The time cap of a sleep. A sleep that ends by the cap and finds work has missed its wake-up: it counts in
 * `missed`, which must stay 0. */
#define BELT_NS 1000000000ULL
#define PATIENCE_NS 10000000ULL /* a unit of gp_patience() */
/* The time of a search. Waking a sleeping process costs about as much, so a search in vain no more than
 * doubles the cost. */
#define IDLE_SPIN_NS 20000ULL

/* The units for which this process has left tasks of other workers to them: see taking.c. */
static uint32_t patience_units;

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

/* Look for work without sleeping; true: there is some. Meanwhile the bit of a worker is set in `searching`,
 * so that a process which submits a task wakes no other worker. */
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

/* Give free memory back to the system, while this process looks asleep to all others. False: it can be given
 * back only with the GIL, so the sleep must end (core_idle()). */
static bool tend_heap(void) {
    if (!gp_heap_look()) return true;
    if (gp_collection_due() || !gp_get(&gp.my->fenced)) {
        gp_heap_look_again();
        return false;
    }
    gp_heap_trim(gp_something_to_do);
    return true;
}

/* Sleep until the process is rung, until `until_ns`, or until the time cap. If all other processes are idle,
 * the detector of deadlocks looks first. */
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
    /* The time cap ended the sleep, and the inbox has a bit. Its setter may be about to ring. If nobody rings
     * for as long again, the wake-up was lost. */
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
        /* processes that submitted tasks meanwhile woke nobody: if one of the tasks is left, another worker
         * must search */
        if (gp_takes_tasks() && gp_task_elsewhere()) gp_wake_one();
        return;
    }
    atomic_fetch_or_explicit(idle, bit, memory_order_seq_cst);
    atomic_exchange_explicit(&my->park, GP_PARKED, memory_order_seq_cst);
    gp_set(&my->ext, until_ns != 0);
    /* odd, before this process looks for work once more: see deadlock.c */
    atomic_store(&my->act, gp_get(&my->act) + 1);
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
    /* A process that submitted a task may have chosen this worker to take it: it has cleared the worker's bit
     * in `idle` and set the one in `searching`. The steal that follows ends the search. But if this worker
     * has work of its own now, it may not steal, and another one must search. */
    bool chosen = bit && !(atomic_fetch_and_explicit(idle, ~bit, memory_order_seq_cst) & bit);
    /* also if this worker was not chosen: a process that died may have set the bit */
    if (gp_get(&h->searching[gp.proc / 64]) & bit) gp_searches(gp.proc, false);
    if (chosen && (own_work() || (timer_ns && gp_now() >= timer_ns)) && gp_task_elsewhere()) gp_wake_one();
}

uint32_t gp_patience(void) { return patience_units; }
void gp_patience_over(void) { patience_units = 0; }
