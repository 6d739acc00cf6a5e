/* tasks.h - the rings of tasks, for tasks.c, placing.c and taking.c. */
#ifndef GP_TASKS_H
#define GP_TASKS_H

#include "repair.h"

static inline gp_ref *ring(uint32_t proc, bool pinned) {
    return (gp_ref *)(gp_part_at(proc) + (pinned ? gp.pinned_at : gp.tasks_at));
}

static inline struct gp_queue *queue_of(uint32_t proc) { return &gp_proc_at(proc)->queue; }
static inline uint32_t queued(const struct gp_queue *q) { return gp_get(&q->tail) - gp_get(&q->head); }
static inline uint32_t pinned(const struct gp_queue *q) {
    return gp_get(&q->pinned_tail) - gp_get(&q->pinned_head);
}

/* Under the lock: where the n-th task of a proc is. */
static inline gp_ref *slot(uint32_t proc, bool pinned, uint32_t n) {
    uint32_t mask = gp_get(&queue_of(proc)->slots[pinned]) - 1;
    if (GP_UNLIKELY(mask >= gp.ring_tasks)) gp_damaged("a queue's size", mask);
    return ring(proc, pinned) + (n & mask);
}

/* A reference from a ring, which must be that of a task. */
static inline gp_ref checked(gp_ref task) {
    uint64_t capacity;
    if (GP_UNLIKELY(!gp_block_check(task, &capacity) || !(gp_flags(task) & GP_BLOCK_TASK) ||
                    capacity < sizeof(struct gp_task)))
        gp_damaged("a task", task);
    return task;
}

static inline uint32_t load_of(uint32_t proc) {
    const struct gp_queue *q = queue_of(proc);
    return gp_get(&q->started) + queued(q) + pinned(q);
}

#endif
