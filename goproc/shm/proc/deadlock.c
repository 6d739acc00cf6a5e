/* deadlock.c - "all goroutines are asleep": termination detection by double collect (Dijkstra and Safra;
 * Mattern).
 *
 * A process that goes idle makes its `act` odd and then reads the others'; the last one to do so sees all of
 * them odd. Having seen each process idle is not having seen all idle at once, and a wake-up may be under
 * way. So: read all `act` (all odd, nothing outside pending), find every inbox and task queue empty, read all
 * `act` again. Unchanged values mean that each process was idle over an interval, and all intervals share the
 * moment between the two readings. A wake-up posted before that moment was seen in the middle: a poster posts
 * before its own `act` turns odd, or, if it is a plain thread, before it is counted as blocked. No goroutine
 * runs at that moment and nothing outside can start one, so it stays that way: no time-out is needed, and no
 * false report is possible.
 *
 * Outside are timers (ext), plain threads that are not blocked in an operation (foreign, threads) and signal
 * handlers, for which the host asks before it reports. A process that waits in a system call is not idle in
 * this sense. Plain threads that sleep until another thread of their process wakes them are not outside
 * (threads.c): the process publishes that it has seen all of them asleep, for one value each of `act` and
 * `threads`, and both words are compared with these here.
 */
#include "proc/proc.h"

enum { NOBODY = UINT32_MAX };

/* of the first reading; only the scheduler's thread looks */
static uint64_t act[GP_MAX_PROCS], threads[GP_MAX_PROCS];

static bool some_run(const struct gp_proc *w, uint64_t blocked) {
    return (int32_t)(gp_acquire(&w->foreign) - (uint32_t)blocked) > 0;
}

bool gp_threads_run(uint32_t proc) {
    const struct gp_proc *w = gp_proc_at(proc);
    return some_run(w, atomic_load(&w->threads));
}

/* True if the process has seen all its threads asleep, and nothing of the process has run since. */
static bool seen_asleep(const struct gp_proc *w, uint32_t p) {
    return atomic_load(&w->asleep_act) == act[p] && atomic_load(&w->asleep_threads) == threads[p];
}

/* A worker that died and is not replaced. During its repair, and until its replacement is there, it counts as
 * running. */
static bool gone(const struct gp_proc *w) { return gp_acquire(&w->state) == GP_P_GONE; }

static bool idle_all(uint32_t but) {
    for (uint32_t p = 0; p < gp_places(); p++) {
        struct gp_proc *w = gp_proc_at(p);
        act[p] = atomic_load(&w->act);
        if (gone(w)) continue;
        if (gp_get(&w->doomed) || gp_get(&w->kill_at)) return false; /* its death will wake a goroutine */
        if (gp_acquire(&w->state) != GP_P_LIVE || (p != but && (!(act[p] & 1) || gp_get(&w->ext))))
            return false;
        threads[p] = atomic_load(&w->threads);
        if (some_run(w, threads[p]) && !(p == but ? gp_threads_asleep() : seen_asleep(w, p))) return false;
    }
    return true;
}

static bool nothing_pending(void) {
    atomic_thread_fence(memory_order_seq_cst);
    for (uint32_t p = 0; p < gp_places(); p++) {
        struct gp_proc *w = gp_proc_at(p);
        struct gp_queue *q = &w->queue;
        if (!gone(w) &&
            (atomic_load(&w->inbox) || atomic_load(&w->rescan) || gp_get(&w->park) == GP_NOTIFIED))
            return false;
        if (gp_get(&q->tail) != gp_get(&q->head) || gp_get(&q->pinned_tail) != gp_get(&q->pinned_head))
            return false;
    }
    return true;
}

static bool unchanged(void) {
    atomic_thread_fence(memory_order_seq_cst);
    for (uint32_t p = 0; p < gp_places(); p++) {
        struct gp_proc *w = gp_proc_at(p);
        if (!gone(w) && (atomic_load(&w->act) != act[p] || atomic_load(&w->threads) != threads[p]))
            return false;
    }
    return true;
}

bool gp_all_asleep(void) {
    struct gp_header *h = gp.head;
    uint32_t epoch = atomic_load(&h->crash_epoch);
    if (gp_get(&h->stop) || gp_get(&h->fatal) || gp_get(&h->asleep) || epoch & 1) return false;
    return idle_all(NOBODY) && nothing_pending() && unchanged() && atomic_load(&h->crash_epoch) == epoch;
}

void gp_report_if_asleep(void) {
    uint32_t no = 0;
    if (gp_all_asleep() && atomic_compare_exchange_strong(&gp.head->asleep, &no, 1)) gp_nudge(0);
}

/* For the host, between being told that all sleep and reporting that. It asks for the handlers of signals.
 * One that ran before may have woken a goroutine and be gone, so the host checks before and after. */
bool gp_others_asleep(bool again) {
    if (again ? gp_threads_run(gp.proc) && !gp_threads_asleep() : !idle_all(gp.proc)) return false;
    return nothing_pending() && unchanged();
}
