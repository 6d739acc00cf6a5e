/* placing.c - the ring that a new task goes to, and the worker that is woken for it.
 *
 * A started goroutine never moves, so the placement of long-lived ones decides how a program uses its cores.
 * The creator puts a new task into the ring of the worker with the smallest load, which is the number of
 * goroutines that have started there or are queued there. So of N tasks each of N idle workers gets one, and
 * of 2N each gets two. From PLENTY on the load is no guide any more: tasks go to the creator's ring, and
 * workers fetch them as they run dry.
 *
 * As in Go a submission wakes one idle proc, and only if no proc is searching already (runtime/proc.go,
 * wakep). If the host and workers take all cores, a submission wakes none: with the host there is one process
 * more than cores, and a program that creates short tasks would wake the last worker for each, which takes
 * the time of the others. Such a task is taken by the next worker that runs dry, handed over by the next
 * process that goes to sleep, or seen by the monitor of one that runs, if nothing was taken from its ring for
 * 10 ms.
 */
#include "tasks.h"

/* goroutines on every worker, from which on placement by load is not worth its cost */
#define PLENTY 16u
#define LOOKS 16u             /* workers that a placement looks at */
/* while no core is free, a process wakes a worker for a task once in this time */
#define CROWDED_NS 10000000ULL

/* ---- placement */

/* The order in which workers with equal loads would start a task. */
enum { SEARCHES, SLEEPS, CREATES, IS_BUSY, ORDERS };

static uint32_t order_of(uint32_t proc) {
    if (proc == gp.proc) return CREATES;
    switch (gp_get(&gp_proc_at(proc)->park)) {
    case GP_SPIN: return SEARCHES;
    case GP_PARKED: return SLEEPS;
    default: return IS_BUSY;
    }
}

uint32_t gp_task_place(void) {
    static uint32_t skip, from;
    static uint64_t run;
    uint32_t workers = gp_workers(), best = gp.proc, best_key = UINT32_MAX;
    if (workers == 0) return 0;
    if (gp_reserved) return gp.proc;
    if (run != gp.run) {
        run = gp.run;
        skip = from = 0;
    }
    if (skip > 0) {
        skip--;
        return gp.proc;
    }
    for (uint32_t i = 0; i < workers && i < LOOKS; i++) {
        uint32_t p = 1 + (from + i) % workers, load = load_of(p);
        if (gp_get(&gp_proc_at(p)->state) == GP_P_GONE || gp_get(&gp_proc_at(p)->retire)) continue;
        uint32_t key = (load < PLENTY ? load : PLENTY) * ORDERS + order_of(p);
        if (key < best_key) {
            best_key = key;
            best = p;
        }
    }
    if (workers > LOOKS) from += LOOKS;
    if (best_key < PLENTY * ORDERS) return best;
    skip = PLENTY - 1;
    return gp.proc;
}

/* ---- waking */

static bool sleeps(uint32_t proc) { return gp_get(&gp_proc_at(proc)->park) == GP_PARKED; }

static bool host_waits(void) { return gp_get(&gp.head->idle[0]) & 1; }

/* True if processes that run, a worker among them, take all cores. */
static bool crowded(void) {
    uint32_t running = gp_procs_running();
    return running >= gp.ncpu && running > (host_waits() ? 0 : 1);
}

static bool left; /* since its last sleep this process has submitted a task, and woken no worker for it */

/* True if a submission may wake a worker. With more workers than cores it always may: their tasks are
 * expected to block. It may, too, if a plain thread submits while the scheduler sleeps: then no sleep of the
 * scheduler follows, which would hand the task over. */
static bool may_wake(void) {
    static uint64_t last;
    if (!crowded() || gp_workers() > gp.ncpu || gp_get(&gp.my->park) != GP_RUN) return true;
    uint64_t now = gp_now();
    if (now - last < CROWDED_NS) {
        left = true;
        return false;
    }
    last = now;
    return true;
}

/* Wake an idle worker, and count it as searching for it. */
static void wake_any(void) {
    struct gp_header *h = gp.head;
    for (unsigned k = 0; k <= (gp.room - 1) / 64; k++) {
        uint64_t idle = gp_get(&h->idle[k]);
        if (k == 0 && gp.room > 1) idle &= ~1ULL; /* the host */
        while (idle) {
            uint64_t bit = idle & -idle;
            uint32_t proc = k * 64 + (uint32_t)__builtin_ctzll(bit);
            /* first: once its idle bit is gone, it may be awake, and then it ends its search */
            gp_searches(proc, true);
            if (atomic_fetch_and_explicit(&h->idle[k], ~bit, memory_order_seq_cst) & bit) {
                gp_ring_proc(proc);
                return;
            }
            gp_searches(proc, false);
            idle &= ~bit;
        }
    }
}

static bool somebody_idle(void) {
    uint64_t idle = gp_get(&gp.head->idle[0]) & (gp.room > 1 ? ~1ULL : ~0ULL);
    for (unsigned k = 1; k <= (gp.room - 1) / 64; k++) idle |= gp_get(&gp.head->idle[k]);
    return idle != 0;
}

void gp_wake_one(void) {
    atomic_thread_fence(memory_order_seq_cst); /* the task is visible before we look for sleepers */
    if (!gp_anybody_searches() && somebody_idle() && may_wake()) wake_any();
}

void gp_task_announce(uint32_t proc, bool pinned) {
    /* the task is visible before we look whether its proc sleeps */
    atomic_thread_fence(memory_order_seq_cst);
    uint32_t park = gp_get(&gp_proc_at(proc)->park);
    if (pinned) gp_ring_proc(proc);
    else if (proc == 0 && gp.room > 1) gp_wake_one(); /* the host takes no task */
    else if (park == GP_PARKED && may_wake()) gp_ring_proc(proc);
    else if (park == GP_RUN) gp_wake_one();
}

void gp_task_hand_over(void) {
    bool others = false;
    if (gp_takes_tasks() ? !gp_task_elsewhere() : !left) return;
    left = false;
    for (uint32_t p = 0; p < gp_places(); p++) {
        if (p == gp.proc || queued(queue_of(p)) == 0) continue;
        if (p > 0 && sleeps(p)) gp_ring_proc(p);
        else others = true;
    }
    if (others && !gp_takes_tasks() && !gp_anybody_searches()) wake_any();
}

void gp_task_watch(void) {
    static uint64_t seen[GP_MAX_PROCS], run;
    bool known = run == gp.run;
    run = gp.run;
    for (uint32_t p = 0; p < gp_places(); p++) {
        const struct gp_queue *q = queue_of(p);
        uint64_t now = queued(q) > 0 ? 1 + (uint64_t)gp_get(&q->head) : 0;
        bool waits = known && now != 0 && now == seen[p];
        seen[p] = now;
        if (!waits) continue;
        if (p > 0 && sleeps(p)) gp_ring_proc(p);
        else if (!gp_anybody_searches()) wake_any();
    }
}

void gp_task_retire(uint32_t proc) {
    atomic_thread_fence(memory_order_seq_cst); /* `retire` is visible before we look for sleepers */
    if (queued(queue_of(proc)) > 0) wake_any();
}
