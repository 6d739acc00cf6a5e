/* repair.h - the parts of the coroner's repair. All of it runs in the coroner's thread.
 *
 * A worker that died has left a prefix of its work (layout.h, crash rule). The repair completes that work, in
 * this order:
 *
 *     1. repair_locks.c    the operation in its journal is finished, or was never begun; its locks go
 *     2. repair_queues.c   its goroutines leave the queues in which they waited
 *     3. repair_tasks.c    its goroutines end with WorkerDied; those that had not begun run elsewhere
 *     4. repair_heap.c     its blocks are freed, its handles are forgotten
 *     5. repair.c          its place is made fit for a replacement
 *
 * The first step waits for no process. It is done for every dead worker before any later step goes on, and as
 * soon as a further worker dies: a later step may wait for a lock of a live process that itself waits for a
 * lock of the dead.
 *
 * The coroner has a lock word of its own and no journal: it lives and dies with the host, and so does the
 * segment. It shares the host's process with the scheduler there. So it must not use the scheduler's private
 * things: the journal, the lists of processes to ring (gp_tell, gp_ring), the free lists (gp_alloc, gp_free).
 */
#ifndef GP_REPAIR_H
#define GP_REPAIR_H

#include "proc/proc.h"

#define GP_CORONER_WORD (1u << GP_WORD_PROC_BITS | GP_WORD_PROC) /* no proc has that number */

struct gp_dead {
    uint32_t proc;
    uint32_t word;     /* its lock word */
    uint64_t tag;      /* the tag of its blocks */
    uint64_t death;    /* the number of its record; 0: there is no memory for one */
    bool replaced;
    bool panics;       /* a lost goroutine has no handle, so that its loss is a panic */
    struct gp_task panic; /* that goroutine, and its labels */
    char labels[256];
};

/* ---- repair.c */
struct gp_dead gp_repair_dead(uint32_t proc);  /* for the steps */
void gp_repair_note(uint32_t proc);            /* the proc has died: step 1 */
/* the other steps; false: the runtime ends meanwhile. `notice` looks for further deaths, and notes them */
bool gp_repair(struct gp_dead *d, const struct gp_death *how, bool (*notice)(void));
void gp_repair_over(void);                     /* every death is repaired */
/* wait for a lock, and look for further deaths meanwhile; false: the runtime ends */
bool gp_repair_lock(void *line);
void gp_repair_unlock(void *line);
void gp_repair_ring(void);                     /* every live proc looks at its own waiters */
static inline bool gp_repair_died(uint32_t word) { /* true for the lock word of a dead process */
    uint32_t proc = gp_word_proc(word);
    if (proc >= gp_places()) return false;
    uint32_t state = gp_acquire(&gp_proc_at(proc)->state);
    return state == GP_P_DEAD || state == GP_P_GONE || gp_incarnation_of(proc) != gp_word_incarnation(word);
}

/* ---- repair_locks.c */
void gp_repair_locks(const struct gp_dead *d);
void gp_repair_serve(struct gp_object *o);     /* under its lock: let every waiter go on that can */
/* under the lock, once the queues are sound: true if sd is in one */
bool gp_repair_linked(const struct gp_object *o, uint32_t sd);
/* fire the first waiter that wants to receive, or wants the lock */
bool gp_repair_fire_first(struct gp_object *o, unsigned tag);

/* ---- repair_queues.c */
bool gp_repair_queues(const struct gp_dead *d);

/* ---- repair_tree.c */
bool gp_repair_tree(void);

/* ---- repair_tasks.c */
bool gp_repair_tasks(struct gp_dead *d, const struct gp_death *how);
/* before step 1: true if the repair will certainly end in a panic, which `d` describes */
bool gp_repair_panics(struct gp_dead *d);

/* ---- repair_heap.c */
bool gp_repair_heap(const struct gp_dead *d);
void gp_repair_free_object(struct gp_object *o);

/* ---- deaths.c */
uint64_t gp_death_begin(const struct gp_death *how);            /* 0: no memory */
void gp_death_add(uint64_t death, const struct gp_task *task, bool waited);
/* list a lost goroutine that starts again */
void gp_death_again(uint64_t death, const struct gp_task *task, bool waited);
void gp_death_moved(uint64_t death);
void gp_death_end(uint64_t death);

/* ---- death_line.c: the line that the program prints if it goes on */
void gp_death_line(struct gp_text *t, const struct gp_death *d, bool replaced);

/* ---- unsaid.c: lines on stderr, which wait there for its reader */
void gp_say_later(const char *text, size_t n); /* now, if that is possible without waiting */
bool gp_say_unsaid(void);                      /* write more of them; true: some are left */
void gp_say_last(void);                        /* write the rest, or give up, as gp_say() */

#endif
