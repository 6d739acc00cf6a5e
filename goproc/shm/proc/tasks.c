/* tasks.c - unstarted goroutines: the rings in which they wait.
 *
 * A task is a heap block. Its owner tag (QUEUE until a proc claims it) is the truth; a ring only holds hints.
 * Each proc has two rings: a FIFO of tasks that any worker may take, and one of tasks that are pinned to it
 * (go.on). The rings are guarded by the same owner-tagged lock as a channel. At 5 ns against microseconds of
 * serialising, a lock-free deque would gain nothing, and in its window a thief that dies would take tasks
 * with it. Only unstarted goroutines move between procs.
 *
 * The host runs no task, unless it is the only process. Its ring is the queue for any worker.
 *
 * Other files have the rest: placing.c chooses the ring for a new task, and wakes a worker for it; taking.c
 * takes tasks out of rings, also out of those of others; trackers.c tells of the end of a goroutine.
 */
#include "tasks.h"

gp_ref gp_task_slot(uint32_t proc, bool pinned, uint32_t n) { return *slot(proc, pinned, n); }

uint32_t gp_task_queued(uint32_t proc, bool which) {
    const struct gp_queue *q = queue_of(proc);
    uint32_t n = which ? pinned(q) : queued(q);
    if (GP_UNLIKELY(n > gp_get(&q->slots[which]))) gp_damaged("a queue's length", n);
    return n;
}

/* ---- A ring has as many slots as it once needed, and tasks go round in these. It grows by doubling. */

static uint32_t next_size(uint32_t slots) {
    uint32_t next = slots ? 2 * slots : GP_PAGE / sizeof(gp_ref);
    return next < gp.ring_tasks ? next : gp.ring_tasks;
}

/* Not under a lock: back the memory by which a ring of so many slots grows. 0 or -errno. */
static int commit_growth(uint32_t proc, bool pinned, uint32_t slots) {
    uint64_t at = gp.parts_at + proc * gp.part_bytes + (pinned ? gp.pinned_at : gp.tasks_at);
    return gp_commit(at + sizeof(gp_ref) * (uint64_t)slots,
                     sizeof(gp_ref) * (uint64_t)(next_size(slots) - slots));
}

/* Another proc has made the ring grow meanwhile, and has counted the memory. */
static void uncount_growth(uint32_t slots) {
    atomic_fetch_sub(&gp.my->committed, sizeof(gp_ref) * (uint64_t)(next_size(slots) - slots));
}

/* Under the lock, once there is memory: make the ring larger. Queued tasks that have another place in it are
 * copied there. */
static void grow(uint32_t proc, bool pinned, uint32_t head, uint32_t tail) {
    struct gp_queue *q = queue_of(proc);
    uint32_t slots = gp_get(&q->slots[pinned]), more = next_size(slots);
    gp_ref *refs = ring(proc, pinned);
    for (uint32_t n = head; n != tail; n++)
        if (n & slots) refs[n & (more - 1)] = refs[n & (slots - 1)];
    gp_order();
    gp_release(&q->slots[pinned], more); /* COMMIT */
}

/* Under the lock: the error of a push of a pinned task to a closed proc. A dropped place that is wanted again
 * takes pinned tasks later. */
static int refusal(uint32_t proc) {
    return proc <= gp_workers() && atomic_load(&gp_proc_at(proc)->drop) ? -EAGAIN : -ESRCH;
}

static inline int push(gp_ref task, uint32_t proc, bool pinned, bool coroner) {
    struct gp_queue *q = queue_of(proc);
    _Atomic uint32_t *tail = pinned ? &q->pinned_tail : &q->tail;
    int64_t grown = -1; /* the slots of the ring for whose growth this proc has memory */
    for (;;) {
        if (!coroner) gp_lock(q);
        else if (!gp_repair_lock(q)) return -EINTR;
        uint32_t t = gp_get(tail), n = gp_task_queued(proc, pinned), slots = gp_get(&q->slots[pinned]);
        if (n == slots && grown == slots) {
            grow(proc, pinned, t - n, t);
            slots = gp_get(&q->slots[pinned]);
            grown = -1;
        }
        bool room = n < slots;
        int refused = pinned && gp_is_closed(proc) ? refusal(proc) : 0;
        if (room && !refused) {
            *slot(proc, pinned, t) = task;
            gp_release(tail, t + 1); /* COMMIT */
            gp_order();
            gp_own(task, GP_TAG(GP_TAG_QUEUE, proc + 1)); /* not before: a task with this tag is in a ring */
        }
        if (coroner) gp_repair_unlock(q);
        else gp_unlock(q);
        if (grown >= 0) uncount_growth((uint32_t)grown);
        grown = -1;
        if (refused) return refused;
        if (room) return 0;
        if (slots >= gp.ring_tasks) return -EAGAIN;
        int err = commit_growth(proc, pinned, slots);
        if (err < 0) return err;
        grown = slots;
    }
}

bool gp_task_none_pinned(uint32_t proc) {
    struct gp_queue *q = queue_of(proc);
    gp_lock(q);
    bool none = pinned(q) == 0;
    gp_unlock(q);
    return none;
}

int gp_task_push(gp_ref task, uint32_t proc, bool pinned) { return push(task, proc, pinned, false); }
int gp_task_push_again(gp_ref task, uint32_t proc, bool pinned) { return push(task, proc, pinned, true); }
