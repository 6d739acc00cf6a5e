/* tasks.c - unstarted goroutines: a FIFO per proc, and stealing.
 *
 * A task is a heap block; its owner tag (QUEUE until a proc claims it) is the truth, a ring only holds hints. The ring
 * is guarded by the same owner-tagged lock as a channel: at 5 ns against microseconds of serialising, a lock-free
 * deque would gain nothing and its thief window would lose tasks with the thief. Only what has not started moves
 * between procs. As in Go, half a queue is stolen at a time, and a submission wakes one idle proc only if nobody is
 * searching already (runtime/proc.go, wakep).
 */
#include "core.h"

#define STEAL_MOST 64u

static gp_ref *ring(uint32_t proc, bool pinned) {
    return (gp_ref *)(gp_part_at(proc) + (pinned ? GP_PART_PINNED : GP_PART_TASKS));
}

/* rings are backed in full only where they are used: the first time by their own proc or by whoever pins to it */
static int back_ring(uint32_t proc, bool pinned, uint32_t upto) {
    static uint64_t done[GP_MAX_PROCS][2], run;
    if (run != gp.run) {
        run = gp.run;
        memset(done, 0, sizeof done);
    }
    uint64_t at = gp.parts_at + proc * gp.part_bytes + (pinned ? GP_PART_PINNED : GP_PART_TASKS);
    return gp_commit_upto(at, &done[proc][pinned], 4ULL * upto, 4ULL * GP_RING_TASKS);
}

int gp_task_push(gp_ref task, uint32_t proc, bool pinned) {
    struct gp_queue *q = &gp_proc_at(proc)->queue;
    _Atomic uint32_t *head = pinned ? &q->pinned_head : &q->head, *tail = pinned ? &q->pinned_tail : &q->tail;
    uint32_t t;
    for (;;) { /* memory for the place before the lock; others may push meanwhile */
        uint32_t seen = gp_get(tail), upto = seen % GP_RING_TASKS + STEAL_MOST;
        int err = back_ring(proc, pinned, upto < GP_RING_TASKS ? upto : GP_RING_TASKS);
        if (err < 0) return err;
        gp_lock(q);
        t = gp_get(tail);
        if (t - seen < STEAL_MOST) break;
        gp_unlock(q);
    }
    bool room = t - gp_get(head) < GP_RING_TASKS;
    if (room) {
        ring(proc, pinned)[t % GP_RING_TASKS] = task;
        gp_own(task, GP_TAG(GP_TAG_QUEUE, proc + 1));
        gp_release(tail, t + 1); /* COMMIT */
    }
    gp_unlock(q);
    return room ? 0 : -EAGAIN;
}

uint32_t gp_task_count(void) {
    struct gp_queue *q = &gp.my->queue;
    return gp_get(&q->tail) - gp_get(&q->head) + gp_get(&q->pinned_tail) - gp_get(&q->pinned_head);
}

bool gp_tasks_anywhere(void) {
    if (gp_task_count()) return true;
    for (uint32_t p = 0; p < gp.nprocs; p++) {
        struct gp_queue *q = &gp_proc_at(p)->queue;
        if (gp_get(&q->tail) != gp_get(&q->head)) return true;
    }
    return false;
}

gp_ref gp_task_pop(bool newest) {
    struct gp_queue *q = &gp.my->queue;
    if (gp_task_count() == 0) return 0;
    gp_ref task = 0;
    gp_lock(q);
    uint32_t head = gp_get(&q->pinned_head), tail = gp_get(&q->pinned_tail);
    if (head != tail) {
        task = ring(gp.proc, true)[head % GP_RING_TASKS];
        gp_own(task, gp_my_tag()); /* COMMIT of the claim */
        gp_order();
        gp_set(&q->pinned_head, head + 1);
    } else if ((head = gp_get(&q->head)) != (tail = gp_get(&q->tail))) {
        task = ring(gp.proc, false)[(newest ? tail - 1 : head) % GP_RING_TASKS];
        gp_own(task, gp_my_tag()); /* COMMIT of the claim */
        gp_order();
        if (newest) gp_set(&q->tail, tail - 1);
        else gp_set(&q->head, head + 1);
    }
    gp_unlock(q);
    return task;
}

bool gp_task_steal(void) {
    static uint32_t turn;
    gp_ref got[STEAL_MOST];
    for (uint32_t k = 0; k < gp.nprocs; k++) {
        uint32_t victim = (gp.proc + ++turn) % gp.nprocs;
        struct gp_queue *q = &gp_proc_at(victim)->queue;
        if (victim == gp.proc || gp_get(&q->tail) == gp_get(&q->head)) continue;
        gp_lock(q);
        uint32_t head = gp_get(&q->head), n = gp_get(&q->tail) - head;
        n = n - n / 2 < STEAL_MOST ? n - n / 2 : STEAL_MOST;
        for (uint32_t i = 0; i < n; i++) got[i] = ring(victim, false)[(head + i) % GP_RING_TASKS];
        gp_release(&q->head, head + n); /* COMMIT: they are in no ring now, but their tags say QUEUE */
        gp_unlock(q);
        for (uint32_t i = 0; i < n; i++)
            while (gp_task_push(got[i], gp.proc, false) < 0) gp_pause(); /* own ring is empty: it cannot be full */
        if (n > 1 || gp_tasks_anywhere()) gp_wake_one(); /* more than one proc needs, here or left behind */
        if (n) return true;
    }
    return false;
}

void gp_wake_one(void) {
    struct gp_header *h = gp.head;
    atomic_thread_fence(memory_order_seq_cst); /* the task is visible before we look for sleepers */
    if (gp_get(&h->searching) != 0) return;
    for (unsigned k = 0; k <= (gp.nprocs - 1) / 64; k++) {
        uint64_t idle = gp_get(&h->idle[k]);
        while (idle) {
            uint64_t bit = idle & -idle;
            if (atomic_fetch_and_explicit(&h->idle[k], ~bit, memory_order_seq_cst) & bit) {
                atomic_fetch_add_explicit(&h->searching, 1, memory_order_seq_cst); /* on behalf of the woken one */
                gp_ring_proc(k * 64 + (uint32_t)__builtin_ctzll(bit));
                return;
            }
            idle &= ~bit;
        }
    }
}
