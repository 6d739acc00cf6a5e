/* tasks.c - unstarted goroutines: a FIFO per proc, where a new one is put, and stealing.
 *
 * A task is a heap block. Its owner tag (QUEUE until a proc claims it) is the truth; a ring only holds hints. The ring is
 * guarded by the same owner-tagged lock as a channel. At 5 ns against microseconds of serialising, a lock-free deque
 * would gain nothing, and in its window a thief that dies would take tasks with it. Only unstarted goroutines move
 * between procs.
 *
 * The host runs no task, unless it is the only process. Its ring is the queue for any worker.
 *
 * A started goroutine never moves, so the placement of long-lived ones decides how a program uses its cores. The
 * creator puts a new task into the ring of the worker with the smallest load, which is the number of goroutines that
 * have started there or are queued there. So of N tasks each of N idle workers gets one, and of 2N each gets two.
 * From PLENTY on the load is no guide any more: tasks go to the creator's ring, and workers fetch them as they run dry.
 *
 * Stealing corrects the placement, and must not undo it. A worker that has nothing to run takes a task
 *   - from the host's ring at once: a fair share of a long queue, else one;
 *   - from a worker that runs and has at least two goroutines more at once: half of a long queue, else one;
 *   - from any other worker that runs after 10 ms: this one has blocked goroutines of its own, and the task may be
 *     begun there first;
 *   - from a worker that was woken for the task after 50 ms: the kernel does not let it run, or it is stopped.
 * As in Go a submission wakes one idle proc, and only if no proc is searching already (runtime/proc.go, wakep). If the
 * host and workers take all cores, a submission wakes none: with the host there is one process more than cores, and a
 * program that creates short tasks would wake the last worker for each, which takes the time of the others. Such a task
 * is taken by the next worker that runs dry, handed over by the next process that goes to sleep, or seen by the monitor
 * of one that runs, if nothing was taken from its ring for 10 ms.
 *
 * A process is reserved while it makes a call that has it to itself (a call of a map). Then it begins only tasks that it
 * has created itself, for which the call may wait, and those of GP_PINNED_ALWAYS, and it takes none from others. Tasks
 * that it creates go to its own ring.
 */
#include "repair.h"

#define STEAL_MOST 64u
#define PLENTY 16u            /* goroutines on every worker, from which on placement by load is not worth its cost */
#define LOOKS 16u             /* workers that a placement looks at */
#define LONG 8u               /* tasks; of a shorter queue a thief takes one */
#define PATIENCE_RUNS 1u       /* units of gp_patience(), of 10 ms */
#define PATIENCE_WOKEN 5u
#define CROWDED_NS 10000000ULL  /* while no core is free, a process wakes a worker for a task once in this time */
#define STARTING_NS 200000000ULL /* tasks that were put on a worker which still starts stay there for so long */

static gp_ref *ring(uint32_t proc, bool pinned) {
    return (gp_ref *)(gp_part_at(proc) + (pinned ? gp.pinned_at : gp.tasks_at));
}

static struct gp_queue *queue_of(uint32_t proc) { return &gp_proc_at(proc)->queue; }
static uint32_t queued(const struct gp_queue *q) { return gp_get(&q->tail) - gp_get(&q->head); }
static uint32_t pinned(const struct gp_queue *q) { return gp_get(&q->pinned_tail) - gp_get(&q->pinned_head); }

/* Under the lock: where the n-th task of a proc is. */
static gp_ref *slot(uint32_t proc, bool pinned, uint32_t n) {
    uint32_t mask = gp_get(&queue_of(proc)->slots[pinned]) - 1;
    if (GP_UNLIKELY(mask >= gp.ring_tasks)) gp_damaged("a queue's size", mask);
    return ring(proc, pinned) + (n & mask);
}

gp_ref gp_task_slot(uint32_t proc, bool pinned, uint32_t n) { return *slot(proc, pinned, n); }

uint32_t gp_task_queued(uint32_t proc, bool which) {
    const struct gp_queue *q = queue_of(proc);
    uint32_t n = which ? pinned(q) : queued(q);
    if (GP_UNLIKELY(n > gp_get(&q->slots[which]))) gp_damaged("a queue's length", n);
    return n;
}

/* A reference from a ring, which must be that of a task. */
static gp_ref checked(gp_ref task) {
    uint64_t capacity;
    if (GP_UNLIKELY(!gp_block_check(task, &capacity) || !(gp_flags(task) & GP_BLOCK_TASK) || capacity < sizeof(struct gp_task)))
        gp_damaged("a task", task);
    return task;
}

bool gp_reserved;

static bool may_begin(gp_ref task) {
    const struct gp_task *t = (const struct gp_task *)gp_payload(task);
    return !gp_reserved || t->creator == gp.proc || t->pinned == GP_PINNED_ALWAYS;
}

/* Under the lock of my queue, while I am reserved: the first task that may begin. */
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

/* ---- A ring has as many slots as it once needed, and tasks go round in these. It grows by doubling. */

static uint32_t next_size(uint32_t slots) {
    uint32_t next = slots ? 2 * slots : GP_PAGE / sizeof(gp_ref);
    return next < gp.ring_tasks ? next : gp.ring_tasks;
}

/* Not under a lock: back the memory by which a ring of so many slots grows. 0 or -errno. */
static int commit_growth(uint32_t proc, bool pinned, uint32_t slots) {
    uint64_t at = gp.parts_at + proc * gp.part_bytes + (pinned ? gp.pinned_at : gp.tasks_at);
    return gp_commit(at + sizeof(gp_ref) * (uint64_t)slots, sizeof(gp_ref) * (uint64_t)(next_size(slots) - slots));
}

/* Another proc has made the ring grow meanwhile, and counted the memory. */
static void uncount_growth(uint32_t slots) {
    atomic_fetch_sub(&gp.my->committed, sizeof(gp_ref) * (uint64_t)(next_size(slots) - slots));
}

/* Under the lock, with memory: copy the queued tasks whose place is another one in the larger ring. */
static void grow(uint32_t proc, bool pinned, uint32_t head, uint32_t tail) {
    struct gp_queue *q = queue_of(proc);
    uint32_t slots = gp_get(&q->slots[pinned]), more = next_size(slots);
    gp_ref *refs = ring(proc, pinned);
    for (uint32_t n = head; n != tail; n++)
        if (n & slots) refs[n & (more - 1)] = refs[n & (slots - 1)];
    gp_order();
    gp_release(&q->slots[pinned], more); /* COMMIT */
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
        bool room = n < slots, refused = pinned && gp_is_closed(proc);
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
        if (refused) return proc <= gp_workers() && atomic_load(&gp_proc_at(proc)->drop) ? -EAGAIN : -ESRCH; /* wanted again */
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

/* ---- the objects that are told of a goroutine's end. The change of the count and that of the task are one step for the
 * coroner, which tells in place of a dead process, and must not tell twice. */

/* Under the lock of a wait group or semaphore */
static void track(gp_ref task, enum gp_tracker which, struct gp_object *o, uint64_t count, gp_ref then) {
    gp_intent_track(gp_ref_of(o), which, task, count, then);
    if (which == GP_TRACK_PLACE) gp_set(&o->tail, count); /* COMMIT */
    else gp_set(&o->value, (int64_t)count);               /* COMMIT */
    gp_order();
    gp_set(&gp_task_at(task)->tracker[which], then);
    gp_done();
}

static int count(gp_ref task, struct gp_object *o, int64_t change, gp_ref then) {
    int err = 0;
    int64_t value;
    gp_lock(o);
    if (__builtin_add_overflow(gp_get(&o->value), change, &value)) err = -EOVERFLOW;
    else if (value < 0) err = -ERANGE;
    if (err == 0) {
        track(task, GP_TRACK_COUNT, o, (uint64_t)value, then);
        if (value == 0) gp_fire_all(o, GP_W_CLOSED, false);
    }
    gp_unlock(o);
    gp_ring();
    return err;
}

int gp_task_enter(gp_ref task, struct gp_object *o) { return count(task, o, 1, gp_ref_of(o)); }

static struct gp_object *tracker_at(gp_ref task, enum gp_tracker which) {
    gp_ref ref = gp_get(&gp_task_at(task)->tracker[which]);
    if (GP_UNLIKELY(ref && !gp_object_check(ref))) gp_damaged("a tracker of a task", ref);
    return ref ? gp_at(ref) : NULL;
}

/* A place leaves its process's share after it has become the task's, and comes back to it before anybody can have it. If the
 * process dies in between, `value` is made anew from `tail` and the shares of the living. */

void gp_task_take_place(gp_ref task, struct gp_object *places) {
    gp_lock(places);
    track(task, GP_TRACK_PLACE, places, gp_get(&places->tail) + 1, gp_ref_of(places));
    gp_share_take(places, 1);
    gp_unlock(places);
}

void gp_task_return_place(gp_ref task) {
    struct gp_object *places = tracker_at(task, GP_TRACK_PLACE);
    if (!places) return;
    gp_lock(places);
    track(task, GP_TRACK_PLACE, places, gp_get(&places->tail) - 1, 0);
    gp_share_add(places, 1);
    gp_unlock(places);
}

static void free_place(gp_ref task, struct gp_object *places) {
    gp_lock(places);
    track(task, GP_TRACK_PLACE, places, gp_get(&places->tail) - 1, 0);
    gp_set(&places->value, gp_get(&places->value) + 1);
    gp_sync_settle(places);
    gp_unlock(places);
    gp_ring();
}

int gp_task_leave(gp_ref task) {
    struct gp_object *places = tracker_at(task, GP_TRACK_PLACE), *counter = tracker_at(task, GP_TRACK_COUNT);
    if (places) free_place(task, places);
    return counter ? count(task, counter, -1, 0) : 0;
}

/* ---- placement */

static uint32_t load_of(uint32_t proc) {
    const struct gp_queue *q = queue_of(proc);
    return gp_get(&q->started) + queued(q) + pinned(q);
}

/* Of two workers with equal loads the one that starts a task sooner: it searches, sleeps, is the creator, or is busy. */
static uint32_t readiness(uint32_t proc) {
    if (proc == gp.proc) return 2;
    switch (gp_get(&gp_proc_at(proc)->park)) {
    case GP_SPIN: return 0;
    case GP_PARKED: return 1;
    default: return 3;
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
        uint32_t key = (load < PLENTY ? load : PLENTY) * 4 + readiness(p);
        if (key < best_key) {
            best_key = key;
            best = p;
        }
    }
    if (workers > LOOKS) from += LOOKS;
    if (best_key < PLENTY * 4) return best;
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

static bool left; /* a submission of this process has woken no worker since its last sleep */

/* True if a submission may wake a worker. With more workers than cores always: their tasks are expected to block. So, too, if
 * the scheduler of this process sleeps and a plain thread submits: no sleep of the scheduler follows that hands the task over. */
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
            gp_searches(proc, true); /* first: once its idle bit is gone, it may be awake, and then it ends its search */
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
    atomic_thread_fence(memory_order_seq_cst); /* the task is visible before we look whether its proc sleeps */
    uint32_t park = gp_get(&gp_proc_at(proc)->park);
    if (pinned) gp_ring_proc(proc);
    else if (proc == 0 && gp.room > 1) gp_wake_one(); /* the host takes no task, whatever its scheduler does */
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

/* ---- taking */

uint32_t gp_task_count(void) {
    if (gp_reserved) return count_allowed();
    bool leaves_pinned = gp_get(&gp.my->retire) && !gp_get(&gp.my->drop); /* for the one that takes its place */
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

/* As gp_task_pop(), while this process is reserved. The tasks before and behind the chosen one go through the ring once,
 * which keeps their order: one store cannot take a task from the middle. */
static gp_ref pop_allowed(void) {
    gp_ref task = 0;
    if (!count_allowed()) return 0;
    for (int kind = 1; kind >= 0 && !task; kind--) {
        for (uint32_t n = kind ? pinned(&gp.my->queue) : queued(&gp.my->queue); n > 0; n--) {
            gp_ref first = take_first(kind);
            if (!first) break;
            if (!task && may_begin(first)) task = first;
            else
                while (gp_task_push(first, gp.proc, kind) < 0) gp_pause(); /* its slot has become free just now */
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

static bool reaches(uint32_t victim, uint32_t mine) {
    struct gp_proc *p = gp_proc_at(victim);
    if (victim == gp.proc || queued(&p->queue) == 0) return false;
    if (victim == 0 || gp_get(&p->retire) || gp_get(&p->state) == GP_P_DEAD || gp_get(&p->state) == GP_P_GONE) return true;
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

static uint32_t share(uint32_t victim, uint32_t n) {
    if (n < LONG) return n < 1 ? n : 1;
    uint32_t part = victim == 0 ? n / (2 * gp_workers()) : n / 2;
    return part < 1 ? 1 : part < STEAL_MOST ? part : STEAL_MOST;
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
        for (uint32_t i = 0; i < n; i++) gp_own(got[i] = checked(*slot(victim, false, head + i)), gp_my_tag());
        gp_order();
        gp_release(&q->head, head + n); /* COMMIT: they are in no ring now, but their tags name their owner */
        gp_unlock(q);
        for (uint32_t i = 0; i < n; i++)
            while (gp_task_push(got[i], gp.proc, false) < 0) gp_pause(); /* own ring is empty: it cannot be full */
        if (n == 0) continue;
        gp_patience_over();
        if (queued(q) > 0) gp_wake_one(); /* the remaining tasks need another worker */
        return true;
    }
    return false;
}
