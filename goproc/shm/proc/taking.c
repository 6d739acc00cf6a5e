/* taking.c - tasks leave the rings: a process takes the next one of its own, or steals some of another's.
 *
 * Stealing corrects the placement, and must not undo it. A worker that has nothing to run takes a task
 *   - from the host's ring at once: a fair share of a long queue, else one;
 *   - from a worker that runs and has at least two goroutines more at once: half of a long queue, else one;
 *   - from any other worker that runs after 10 ms: this one has blocked goroutines of its own, and the task
 *     may be begun there first;
 *   - from a worker that was woken for the task after 50 ms: the kernel does not let it run, or it is
 *     stopped.
 *
 * A process is reserved while it makes a call that has it to itself (a call of a map). Then it begins only
 * tasks that it has created itself, for which the call may wait, and those of GP_PINNED_ALWAYS, and it takes
 * none from others. Tasks that it creates go to its own ring.
 */
#include "tasks.h"

#define STEAL_MOST 64u
#define PUSHES_MOST (1u << 20) /* a second, or more */
#define LONG 8u               /* tasks; of a shorter queue a thief takes one */
#define PATIENCE_RUNS 1u       /* units of gp_patience(), of 10 ms */
#define PATIENCE_WOKEN 5u
/* tasks that were put on a worker which still starts stay there for so long */
#define STARTING_NS 200000000ULL

/* ---- while the process is reserved */

bool gp_reserved;

static bool may_begin(gp_ref task) {
    const struct gp_task *t = (const struct gp_task *)gp_payload(task);
    return !gp_reserved || t->creator == gp.proc || t->pinned == GP_PINNED_ALWAYS;
}

/* Under the lock of my queue, while this process is reserved: find the first task that may begin. */
static bool find_allowed(bool pinned, uint32_t head, uint32_t tail, uint32_t *at) {
    gp_task_queued(gp.proc, pinned);
    for (*at = head; *at != tail; ++*at)
        if (may_begin(checked(*slot(gp.proc, pinned, *at)))) return true;
    return false;
}

/* The number of tasks that may begin in a reserved process; 1 stands for any number. */
static uint32_t count_allowed(void) {
    struct gp_queue *q = &gp.my->queue;
    uint32_t at;
    if (queued(q) + pinned(q) == 0) return 0;
    gp_lock(q);
    bool found = find_allowed(true, gp_get(&q->pinned_head), gp_get(&q->pinned_tail), &at) ||
                 find_allowed(false, gp_get(&q->head), gp_get(&q->tail), &at);
    gp_unlock(q);
    return found;
}

/* ---- from the own rings */

uint32_t gp_task_count(void) {
    if (gp_reserved) return count_allowed();
    /* a worker that is to be replaced leaves its pinned tasks to the replacement */
    bool leaves_pinned = gp_get(&gp.my->retire) && !gp_get(&gp.my->drop);
    return (gp_takes_tasks() ? queued(&gp.my->queue) : 0) + (leaves_pinned ? 0 : pinned(&gp.my->queue));
}

/* The task at the head of one of my rings, claimed; 0: none. */
static gp_ref take_first(bool pinned) {
    struct gp_queue *q = &gp.my->queue;
    _Atomic uint32_t *first = pinned ? &q->pinned_head : &q->head;
    gp_ref task = 0;
    gp_lock(q);
    uint32_t head = gp_get(first);
    if (head != gp_get(pinned ? &q->pinned_tail : &q->tail)) {
        task = checked(*slot(gp.proc, pinned, head));
        gp_own(task, gp_my_tag()); /* COMMIT of the claim */
        gp_order();
        gp_set(first, head + 1);
    }
    gp_unlock(q);
    return task;
}

/* As gp_task_pop(), while this process is reserved. The tasks before and behind the chosen one go through the
 * ring once, which keeps their order: one store cannot take a task from the middle. */
static gp_ref pop_allowed(void) {
    gp_ref task = 0;
    if (!count_allowed()) return 0;
    for (int kind = 1; kind >= 0 && !task; kind--) {
        for (uint32_t n = kind ? pinned(&gp.my->queue) : queued(&gp.my->queue); n > 0; n--) {
            gp_ref first = take_first(kind);
            if (!first) break;
            if (!task && may_begin(first)) task = first;
            else
                while (gp_task_push(first, gp.proc, kind) < 0)
                    gp_pause(); /* its slot has become free just now */
        }
    }
    return task;
}

gp_ref gp_task_pop(bool newest) {
    struct gp_queue *q = &gp.my->queue;
    if (!gp_get(&q->looked)) gp_set(&q->looked, 1); /* searching procs read this line */
    if (gp_reserved) return pop_allowed();
    if (gp_task_count() == 0) return 0;
    gp_ref task = 0;
    gp_lock(q);
    uint32_t head = gp_get(&q->pinned_head), tail = gp_get(&q->pinned_tail);
    if (head != tail) {
        task = checked(*slot(gp.proc, true, head));
        gp_own(task, gp_my_tag()); /* COMMIT of the claim */
        gp_order();
        gp_set(&q->pinned_head, head + 1);
    } else if (gp_takes_tasks() && (head = gp_get(&q->head)) != (tail = gp_get(&q->tail))) {
        task = checked(*slot(gp.proc, false, newest ? tail - 1 : head));
        gp_own(task, gp_my_tag()); /* COMMIT of the claim */
        gp_order();
        if (newest) gp_set(&q->tail, tail - 1);
        else gp_set(&q->head, head + 1);
    }
    gp_unlock(q);
    if (task && queued(q) > 0) gp_wake_one(); /* an idle worker can begin the next one while this one runs */
    return task;
}

/* ---- from those of others */

/* True if the victim has a task that may be stolen now, by the rules above. */
static bool reaches(uint32_t victim, uint32_t mine) {
    struct gp_proc *p = gp_proc_at(victim);
    if (victim == gp.proc || queued(&p->queue) == 0) return false;
    if (victim == 0 || gp_get(&p->retire) || gp_get(&p->state) == GP_P_DEAD || gp_get(&p->state) == GP_P_GONE)
        return true;
    if (!gp_get(&p->queue.looked)) return gp_now() - gp.attached > STARTING_NS;
    if (gp_get(&p->park) == GP_PARKED && mine < load_of(victim)) return true;
    if (gp_get(&p->park) != GP_RUN) return gp_patience() >= PATIENCE_WOKEN;
    return gp_patience() >= PATIENCE_RUNS || mine + 2 <= load_of(victim);
}

bool gp_task_in_reach(void) {
    uint32_t mine = load_of(gp.proc);
    if (!gp_takes_tasks() || gp_reserved) return false;
    for (uint32_t p = 0; p < gp_places(); p++)
        if (reaches(p, mine)) return true;
    return false;
}

bool gp_task_elsewhere(void) {
    if (!gp_takes_tasks() || gp_reserved) return false;
    for (uint32_t p = 0; p < gp_places(); p++)
        if (p != gp.proc && queued(queue_of(p)) > 0) return true;
    return false;
}

/* The number of tasks to steal from a queue of n. */
static uint32_t share(uint32_t victim, uint32_t n) {
    if (n < LONG) return n < 1 ? n : 1;
    uint32_t workers = gp_workers(), part = victim == 0 && workers ? n / (2 * workers) : n / 2;
    return part < 1 ? 1 : part < STEAL_MOST ? part : STEAL_MOST;
}

/* The own ring was empty. It can be full only for the moment in which the coroner puts tasks into it. */
static void push_own(gp_ref task) {
    for (uint32_t tries = 0; gp_task_push(task, gp.proc, false) < 0; tries++) {
        if (GP_UNLIKELY(tries == PUSHES_MOST)) gp_damaged("a queue without room", gp.proc);
        gp_pause();
    }
}

bool gp_task_steal(void) {
    static uint32_t turn;
    gp_ref got[STEAL_MOST];
    uint32_t mine = load_of(gp.proc);
    if (!gp_takes_tasks() || gp_reserved) return false;
    for (uint32_t k = 0; k < gp_places(); k++) {
        uint32_t victim = (gp.proc + ++turn) % gp_places();
        struct gp_queue *q = queue_of(victim);
        if (!reaches(victim, mine)) continue;
        gp_lock(q);
        uint32_t head = gp_get(&q->head), n = share(victim, gp_get(&q->tail) - head);
        for (uint32_t i = 0; i < n; i++)
            gp_own(got[i] = checked(*slot(victim, false, head + i)), gp_my_tag());
        gp_order();
        gp_release(&q->head, head + n); /* COMMIT: they are in no ring now, but their tags name their owner */
        gp_unlock(q);
        for (uint32_t i = 0; i < n; i++) push_own(got[i]);
        if (n == 0) continue;
        gp_patience_over();
        if (queued(q) > 0) gp_wake_one(); /* the remaining tasks need another worker */
        return true;
    }
    return false;
}
