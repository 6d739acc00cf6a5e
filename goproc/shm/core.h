/* core.h - what the files of the core share: this process's view of the segment, access helpers, the C interface.
 *
 * Nothing here knows Python, except that the callers hold the GIL from lock to unlock: one journal per process.
 */
#ifndef GP_CORE_H
#define GP_CORE_H

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/types.h>

#include "invariant.h"
#include "layout.h"

enum gp_shortage {
    GP_SHORT_LIMIT,          /* of the runtime */
    GP_SHORT_SYSTEM,         /* the system has no memory */
    GP_SHORT_ARENA,          /* the address space of this process's arena */
    GP_SHORT_DESCRIPTOR,     /* the kernel needs the segment's descriptor, and the program has closed it */
};

/* ---- this process's view; private memory */
struct gp_mapping {          /* outlives the runtime while a buffer still maps one of its blocks */
    char *base;
    uint64_t bytes;
    uint64_t users;
    char *image;             /* private copies of what Python shows of it, for forked children: held.c */
    bool inherited;          /* true in a child the user forked: the segment is not there, and is not to be unmapped */
};
struct gp_held {             /* memory that a Python object shows */
    struct gp_held *next, **at; /* `at` is NULL in a forked child, whose memory is its own */
    struct gp_mapping *mapping; /* of the segment; NULL: the memory is a private mapping of it */
    char *data;
    uint64_t len;
    bool constant;           /* nobody writes there */
    bool copied;             /* before an earlier fork */
    bool lost;               /* in a forked child, for want of memory */
};
struct gp_self {
    char *base;              /* the mapping, or NULL when no runtime is attached */
    uint64_t bytes;
    uint64_t run;            /* +1 at every attach: handles of an earlier runtime are refused */
    uint32_t proc;           /* my number; 0 is the host */
    uint32_t nprocs;
    uint32_t me;             /* my lock word: incarnation << 10 | proc + 1 */
    uint32_t ncpu;
    struct gp_header *head;
    struct gp_proc *my;
    char *part;              /* my partition */
    uint64_t arena;          /* offset of my arena */
    uint64_t arena_bytes;
    uint64_t heap_at;        /* offsets below this are not heap */
    uint64_t part_bytes, parts_at;
    uint32_t waiters, selects, ring_tasks;     /* what the tables of a partition hold */
    uint64_t sudogs_at, tasks_at, pinned_at;   /* offsets in a partition */
    struct gp_mapping *mapping;
    uint64_t attached;       /* when, ns */
    int memfd;               /* the program may have closed it: gp_memfd_valid() */
    uint64_t memfd_dev, memfd_ino;
    enum gp_shortage shortage; /* why the last range was not to be had */
    _Atomic bool lost;       /* the runtime has ended by itself, and this process, the host, survives it */
    bool forked;             /* true in a child the user forked: nothing may be touched */
};
extern struct gp_self gp;

/* ---- access */
#define gp_get(p) atomic_load_explicit((p), memory_order_relaxed)
#define gp_set(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define gp_acquire(p) atomic_load_explicit((p), memory_order_acquire)
#define gp_release(p, v) atomic_store_explicit((p), (v), memory_order_release)
/* program order of my own stores as the coroner sees them after my death: a compiler barrier is enough (prefix rule) */
#define gp_order() atomic_signal_fence(memory_order_seq_cst)

#if defined(__x86_64__) || defined(__i386__)
#define gp_pause() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define gp_pause() __asm__ volatile("isb" ::: "memory")
#else
#define gp_pause() gp_order()
#endif

#define GP_LIKELY(x) __builtin_expect(!!(x), 1)
#define GP_UNLIKELY(x) __builtin_expect(!!(x), 0)

static inline void *gp_at(gp_ref ref) { return gp.base + (uint64_t)ref * GP_LINE; }
static inline gp_ref gp_ref_of(const void *p) { return (gp_ref)(((uint64_t)((const char *)p - gp.base)) / GP_LINE); }
static inline struct gp_proc *gp_proc_at(uint32_t p) {
    return (struct gp_proc *)(gp.base + 4096u + (uint64_t)p * GP_PROC_BYTES);
}
static inline char *gp_part_at(uint32_t p) { return gp.base + gp.parts_at + (uint64_t)p * gp.part_bytes; }
static inline uint64_t gp_my_tag(void) { return GP_TAG(GP_TAG_PROC, ((uint64_t)(gp.me >> 10) << 16) | (gp.proc + 1)); }

/* ---- segment.c */
int gp_create(uint32_t nprocs, uint64_t memory, uint32_t ncpu);      /* memfd, or -errno */
int gp_attach(int memfd, uint32_t proc);                             /* 0 or -errno */
int gp_observe(int memfd);                                           /* to read another program's: owns and holds nothing */
void gp_detach(void);
void gp_mapping_release(struct gp_mapping *m);                       /* a view or the runtime no longer needs it */
uint64_t gp_least_bytes(uint32_t nprocs);                            /* of address space, and of a file, for so many procs */
uint64_t gp_now(void);                                               /* CLOCK_MONOTONIC, ns */

/* ---- backing.c */
enum gp_purpose {
    GP_FOR_VALUES, /* what the program sends and keeps: within the limit */
    GP_FOR_TASKS,  /* a new goroutine, which may be the one that empties the channels: also from half of the reserve */
    GP_FOR_TABLES, /* what coordination needs, a waiter, say: also from the reserve beyond the limit */
    GP_FOR_ENDS,   /* what tells of an end, a failure, say: as tables */
};
extern _Thread_local enum gp_purpose gp_purpose; /* of the pages that this thread takes for blocks and objects */
bool gp_memfd_valid(void);                                           /* is the descriptor still the segment's? */
int gp_back(uint64_t offset, uint64_t bytes);                        /* with memory, whatever the limit: 0, -ENOMEM, -errno */
bool gp_unback(uint64_t offset, uint64_t bytes);                     /* give it to the system; false: it cannot be */
int gp_commit_for(enum gp_purpose purpose, uint64_t offset, uint64_t bytes); /* back and count: 0, -ENOMEM, -errno */
int gp_commit(uint64_t offset, uint64_t bytes);                      /* for tables */
uint64_t gp_committed(void);                                         /* of all procs */
int gp_commit_upto(uint64_t start, uint64_t *done, uint64_t want, uint64_t limit); /* grow a prefix in steps */

/* ---- held.c */
void gp_held_start(void);
void gp_hold(struct gp_held *held, struct gp_mapping *mapping, char *data, uint64_t len, bool constant);
void gp_unhold(struct gp_held *held);

/* ---- heap.c */
gp_ref gp_alloc(uint64_t payload, unsigned flags);                   /* 0: out of memory */
gp_ref gp_object_alloc(enum gp_kind kind);                           /* 0: out of memory */
void gp_free(gp_ref ref);                                            /* release a block this process owns, and its parts */
void gp_object_free(struct gp_object *o);
bool gp_block_check(gp_ref ref, uint64_t *capacity);                 /* is this a live block? its payload capacity */
bool gp_object_check(gp_ref ref);                                    /* could this be an object? */
void gp_heap_attach(void);
void gp_heap_detach(void);
void gp_heap_each(void (*visit)(struct gp_block *b, bool object, uint64_t bytes, void *arg), void *arg); /* live ones */
struct gp_heap_stats { uint64_t blocks, objects, definitions, bytes; };
void gp_heap_census(struct gp_heap_stats *out);                      /* live ones in all arenas: for tests */

static inline char *gp_payload(gp_ref ref) {
    struct gp_block *b = gp_at(ref);
    return (char *)b + ((gp_get(&b->len) >> 56) & GP_BLOCK_ALIGNED ? 64 : GP_BLOCK_HEAD);
}
static inline uint64_t gp_len(gp_ref ref) {
    return gp_get(&((struct gp_block *)gp_at(ref))->len) & ((1ULL << 56) - 1);
}
static inline unsigned gp_flags(gp_ref ref) { return (unsigned)(gp_get(&((struct gp_block *)gp_at(ref))->len) >> 56); }
static inline void gp_own(gp_ref ref, uint64_t tag) { gp_set(&((struct gp_block *)gp_at(ref))->tag, tag); }
static inline uint64_t gp_tag(gp_ref ref) { return gp_acquire(&((struct gp_block *)gp_at(ref))->tag); }

/* ---- reclaim.c */
void gp_reclaim_attach(void);
void gp_heap_reclaim(void);                                          /* all that is free, in all arenas, to the system */
uint64_t gp_heap_patience(uint64_t now);                             /* ns until an idle process should look */
bool gp_heap_look(void);                                             /* it does now: true if there may be memory to give back */
void gp_heap_look_again(void);                                       /* the next look is due at once */
bool gp_drops_settled(void);                                         /* then: is a collection due, as nothing more is dropped? */
void gp_heap_trim(bool (*enough)(void));                             /* then: as gp_heap_reclaim(), in arenas that are not in use */

/* ---- lock.c */
#define GP_LOCK_WAITERS 0x80000000u
void gp_lock_slow(_Atomic uint32_t *word);
void gp_unlock_wake(_Atomic uint32_t *word);
long gp_futex_wait(_Atomic uint32_t *word, uint32_t expect, uint64_t until_ns); /* absolute; 0 = no limit */
void gp_futex_wake(_Atomic uint32_t *word, int count);

/* True while somebody holds the lock: this process, or the coroner for a dead one. */
static inline bool gp_locked(const void *line) {
    return (gp_get((const _Atomic uint32_t *)((const char *)line + 16)) & ~GP_LOCK_WAITERS) != 0;
}

/* `line` is an object or a queue: its lock word is at byte 16. Locks are taken in ascending order of ref. */
static inline void gp_lock(void *line) {
    struct gp_journal *j = &gp.my->journal;
    uint32_t n = gp_get(&j->nlocks), free_word = 0;
    _Atomic uint32_t *word = (_Atomic uint32_t *)((char *)line + 16);
    GP_ASSERT(n < GP_JOURNAL_LOCKS);
    GP_ASSERT(n == 0 || gp_get(&j->locks[n - 1]) < gp_ref_of(line));
    gp_set(&j->locks[n], gp_ref_of(line)); /* before the attempt, as the kernel's list_op_pending */
    gp_order();
    gp_set(&j->nlocks, n + 1);
    gp_order();
    if (GP_UNLIKELY(!atomic_compare_exchange_strong_explicit(word, &free_word, gp.me, memory_order_acquire,
                                                             memory_order_relaxed)))
        gp_lock_slow(word);
}
/* The same for a line that journal.spill lists: of a select over more channels than the journal has room for. */
static inline void gp_lock_spilled(void *line) {
    uint32_t free_word = 0;
    _Atomic uint32_t *word = (_Atomic uint32_t *)((char *)line + 16);
    if (GP_UNLIKELY(!atomic_compare_exchange_strong_explicit(word, &free_word, gp.me, memory_order_acquire,
                                                             memory_order_relaxed)))
        gp_lock_slow(word);
}
static inline void gp_unlock_spilled(void *line) {
    _Atomic uint32_t *word = (_Atomic uint32_t *)((char *)line + 16);
    GP_ASSERT((gp_get(word) & ~GP_LOCK_WAITERS) == gp.me);
    gp_order();
    if (GP_UNLIKELY(atomic_exchange_explicit(word, 0, memory_order_release) & GP_LOCK_WAITERS)) gp_unlock_wake(word);
    gp_order();
}
static inline void gp_unlock(void *line) {
    struct gp_journal *j = &gp.my->journal;
    _Atomic uint32_t *word = (_Atomic uint32_t *)((char *)line + 16);
    GP_ASSERT(gp_get(&j->op) == GP_OP_NONE);
    GP_ASSERT(gp_get(&j->nlocks) > 0);
    GP_ASSERT((gp_get(word) & ~GP_LOCK_WAITERS) == gp.me);
    gp_order();
    if (GP_UNLIKELY(atomic_exchange_explicit(word, 0, memory_order_release) & GP_LOCK_WAITERS)) gp_unlock_wake(word);
    gp_order(); /* the wake belongs to the operation: only now may the coroner forget this lock */
    gp_set(&j->nlocks, gp_get(&j->nlocks) - 1);
}

/* ---- journal: intent first, then the COMMIT, then gp_done */
static inline void gp_intent(enum gp_op op, gp_ref a, uint32_t b, gp_ref c, uint64_t d, uint64_t e) {
    struct gp_journal *j = &gp.my->journal;
    GP_ASSERT(gp_get(&j->op) == GP_OP_NONE);
    gp_set(&j->a, a);
    gp_set(&j->b, b);
    gp_set(&j->c, c);
    gp_set(&j->d, d);
    gp_set(&j->e, e);
    gp_order();
    gp_set(&j->op, op);
    gp_order();
}
static inline void gp_done(void) {
    GP_ASSERT(gp_get(&gp.my->journal.op) != GP_OP_NONE);
    gp_order();
    gp_set(&gp.my->journal.op, GP_OP_NONE);
    gp_order();
}

/* ---- park.c */
static inline struct gp_waiter *gp_waiter_at(uint32_t proc, uint32_t i) {
    return (struct gp_waiter *)(gp_part_at(proc) + GP_PART_WAITERS) + i;
}
static inline struct gp_sudog *gp_sudog_at(uint32_t sd) { /* sd: a sudog reference, not 0 */
    return (struct gp_sudog *)(gp_part_at(sd >> GP_SUDOG_BITS) + gp.sudogs_at) + (sd & ((1u << GP_SUDOG_BITS) - 1)) - 1;
}
static inline uint32_t gp_sudog_ref(uint32_t proc, uint32_t i) { return proc << GP_SUDOG_BITS | (i + 1); }
static inline bool gp_sudog_check(uint32_t sd) {
    uint32_t i = sd & ((1u << GP_SUDOG_BITS) - 1);
    return (sd >> GP_SUDOG_BITS) < gp.nprocs && i >= 1 && i <= gp.waiters + gp.selects;
}

int64_t gp_waiter_alloc(bool thread);      /* index, or -ENOMEM, or -ENOSPC: all gp.waiters are in use */
void gp_waiter_release(uint32_t i);
int64_t gp_sudog_alloc(void);              /* a reference, or as above; for selects: a waiter has one of its own */
void gp_sudog_release(uint32_t sd);
void gp_thread_blocks(struct gp_waiter *w); /* a plain thread is about to sleep, for ever if nobody tells it */
void gp_thread_runs(struct gp_waiter *w);  /* it goes on, told or not */
void gp_waiter_arm(uint32_t i);            /* a new epoch, WAITING; before any sudog is linked */
bool gp_waiter_cancel(uint32_t i);         /* WAITING -> CANCELLED; false: somebody fired it first */
void gp_tell(uint32_t proc, uint32_t i);   /* after a state CAS: inbox bit, or note the thread; rung by gp_ring() */
void gp_tell_now(uint32_t proc, uint32_t i); /* the same at once: for the coroner's thread */
void gp_untell(uint32_t i);                /* own waiter, which was fired and did not wait to be told: no late bit for its next use */
void gp_ring(void);                        /* wake what gp_tell noted; call it with no lock held */
int64_t gp_heir(void);                     /* the only waiter of this process that it has told itself since the last call, or -1 */
void gp_ring_proc(uint32_t proc);
void gp_nudge(uint32_t proc);              /* its scheduler looks around: rescan */
int gp_drain(uint32_t *out, int max);      /* own inbox: waiter indices that were told */
bool gp_inbox_pending(void);
bool gp_thread_wait(struct gp_waiter *w, uint64_t until_ns); /* until state leaves WAITING; false: time is up. No GIL needed */
void gp_release_threads(void);             /* the runtime stops: no thread of this process may go on sleeping */
bool gp_something_to_do(void);             /* for the scheduler of this process */
void gp_idle(uint64_t until_ns);           /* sleep until there may be something to do. No GIL needed */
uint32_t gp_patience(void);                /* for how long gp_idle() has left tasks to other workers, in its units */
void gp_patience_over(void);               /* one was taken */
uint32_t gp_procs_running(void);           /* attached and not idle: they compute, or are blocked in a call of the system */
bool gp_may_spin(void);                    /* is there a core for it? */
bool gp_anybody_searches(void);            /* for tasks, or is being woken to */
void gp_searches(uint32_t proc, bool yes);
void gp_wait_ns(uint32_t ns);              /* busy, roughly */
int gp_park_attach(void);                  /* 0 or -errno */

/* ---- deadlock.c */
bool gp_all_asleep(void);                  /* nothing in any process can ever run again, by itself */
bool gp_others_asleep(bool again);         /* nor in another one, as this one runs; again: and has not since the last call */
void gp_report_if_asleep(void);            /* have the host report it if all are asleep */
bool gp_threads_run(uint32_t proc);        /* has it Python threads, beside the scheduler's, that no operation blocks? */

/* ---- threads.c */
enum gp_own_thread { GP_OWN_MONITOR, GP_OWN_CORONER, GP_OWN_LOOK, GP_OWN_THREADS };
void gp_own_thread(enum gp_own_thread which, bool runs); /* the calling thread is goproc's: it wakes no other of this process */
bool gp_threads_asleep(void);              /* was there an instant in this call when all threads but the caller slept for ever? */
long gp_idle_wait(uint64_t until_ns);      /* futex wait for my park word; meanwhile look at the threads and publish the result */

/* ---- monitor.c: a thread that asks a goroutine which keeps its process for long to let others run */
int gp_monitor_start(int signal, void (*request)(int signal), bool (*wanted)(void)); /* for the calling thread */
void gp_monitor_stop(void);
void gp_monitor_wake(void);                /* the process goes on after it was idle */
void gp_monitor_interrupt(void);           /* have the handler called now, from any thread */
void gp_slice_refused(void);               /* the goroutine cannot be left here: ask again later */
void gp_slice_quiet(uint64_t until_ns);    /* nothing else can run; no timer is due before that */
bool gp_slice_ticked(void);                /* has the kernel's clock ticked since gp_slice_noted()? */
void gp_slice_noted(void);
bool gp_slice_timers(void);                /* may one be due? */
bool gp_slice_inherit(void);               /* may a goroutine go on in the slice of the one that made it ready? */
extern _Atomic uint32_t gp_polls;          /* +1 whenever the scheduler looks for what to run */
extern _Atomic uint32_t gp_slices;         /* +1 whenever that begins a slice of its own */

/* ---- queue.c: FIFO of sudogs of one object, under its lock */
void gp_enqueue(struct gp_object *o, uint32_t sd, bool send);
void gp_enqueue_first(struct gp_object *o, uint32_t sd); /* on recvq, before all others */
void gp_unlink(struct gp_object *o, uint32_t sd);
uint32_t gp_queued(const struct gp_object *o, bool send); /* how many wait; a select that another case ended does not */
bool gp_fire(struct gp_object *o, uint32_t sd, unsigned tag); /* the one CAS of a waiter; unlinks in either case */
/* `tag` to every waiter of the object. `pausing`: lets go of the lock now and then, where newcomers cannot queue any
 * more; enters and leaves with the lock held */
void gp_fire_all(struct gp_object *o, unsigned tag, bool pausing);
void gp_add_share(struct gp_object *o, const struct gp_sudog *s);
bool gp_grant(struct gp_object *o, uint32_t sd, int64_t value); /* fire, and value is what the object has then */

/* ---- select.c: one operation on one object is a case; to block is to wait for the first of some cases */
enum gp_result { GP_BLOCK, GP_OK, GP_CLOSED, GP_OWNER_DIED };
enum gp_op_kind {
    GP_SEND, GP_RECV,
    GP_DONE,      /* wait group at zero, goroutine ended */
    GP_LOCK,      /* mutex; rwmutex: for writing */
    GP_RLOCK,     /* rwmutex: for reading */
    GP_ACQUIRE,   /* n units of a semaphore */
    GP_SIGNAL,    /* cond */
    GP_ARRIVE,    /* barrier; n is then its place */
    GP_FOREVER,   /* no object */
};
struct gp_case {
    struct gp_object *o;     /* NULL: never ready */
    uint32_t number;         /* what the caller calls it */
    uint32_t sudog;          /* while it waits */
    uint8_t kind;            /* enum gp_op_kind */
    bool woken;              /* mutex: it was told to try again, and has not yet */
    uint64_t n, since;
    struct gp_message m;     /* send: what is offered; receive: what came, owned by the caller */
};
struct gp_select {
    struct gp_case *cases;
    uint32_t n;
    uint32_t *poll, *lock;   /* room for n each: the orders in which they are examined, and locked */
    gp_ref spill;            /* block with room for n refs, if n >= GP_JOURNAL_LOCKS */
    bool sorted;             /* `lock` is in order */
};
enum gp_result gp_case_try(struct gp_case *c);                  /* non-blocking */
enum gp_result gp_case_try_or_wait(struct gp_case *c, uint32_t waiter); /* GP_BLOCK: it is queued */
/* some case in a random order: its position, *r GP_OK or GP_CLOSED. -1: none is ready; with a waiter, all are queued then */
int64_t gp_select(struct gp_select *s, int64_t waiter, enum gp_result *r);
int64_t gp_select_due(struct gp_select *s, uint32_t waiter); /* queued: a timer whose time has come, taken, or -1 */
/* after a park. The caller's waiter has left WAITING, or gp_waiter_cancel() was won. */
void gp_case_settled(struct gp_case *c, uint32_t waiter, bool told);  /* it was fired: take the message. !told: rule O2 */
bool gp_case_cancel(struct gp_case *c, uint32_t waiter); /* the waiter of the operation gives up; false: it was told */
void gp_case_abandon(struct gp_case *c);                        /* out of its queue, if it is still in it */
void gp_case_undo(struct gp_case *c);                           /* it happened, but nobody wants it: give back, or drop */
uint64_t gp_case_due(const struct gp_case *c);                  /* ns: when the clock alone may make it ready; 0: never */
uint32_t gp_random(uint32_t below);

/* ---- channel.c */
enum gp_result gp_chan_send(struct gp_object *c, const struct gp_message *m);  /* non-blocking */
enum gp_result gp_chan_recv(struct gp_object *c, struct gp_message *m);        /* non-blocking; m is owned by the caller */
enum gp_result gp_chan_put(struct gp_object *c, const struct gp_message *m);   /* the same under the lock, not rung */
enum gp_result gp_chan_take(struct gp_object *c, struct gp_message *m);
bool gp_chan_close(struct gp_object *c);                                      /* false: was closed */
bool gp_spin_until(const struct gp_case *cases, uint32_t n);                  /* worth trying again? */
void gp_chan_drop(struct gp_object *c);                                       /* free ring and messages of a dead channel */
void gp_outcome_drop(struct gp_object *o);                                    /* free what a goroutine, promise or context has left */
void gp_message_drop(const struct gp_message *m);

/* ---- timer.c: channels that the clock sends on */
enum gp_result gp_timer_take(struct gp_object *c, struct gp_message *m);      /* under the lock */
bool gp_timer_set(struct gp_object *c, int64_t when, uint64_t period);        /* 0 stops; was it active? */

/* ---- context.c */
void gp_context_link(struct gp_object *c, struct gp_object *parent, uint64_t due);
bool gp_context_cancel(struct gp_object *c, int64_t code, gp_ref cause);      /* the tree below too; false: was done */
bool gp_context_expire(struct gp_object *c);                                  /* fire a deadline that has passed; is it done? */
bool gp_context_unlink(struct gp_object *c);                                  /* before it is freed; false: it has children */
struct gp_object *gp_context_origin(struct gp_object *c);                     /* where its end began */

/* ---- sync.c: under the lock */
enum gp_result gp_sync_step(struct gp_object *o, struct gp_case *c);
void gp_sync_settle(struct gp_object *o);                                     /* a waiter left: who is behind it may go */
static inline _Atomic int64_t *gp_shares(const struct gp_object *o) { /* of a semaphore or rwmutex; NULL: they are not counted */
    return o->ring ? (_Atomic int64_t *)gp_payload(o->ring) : NULL;
}
int64_t gp_shares_sum(const struct gp_object *o);
/* whole operations; false: not locked, or more than was taken */
bool gp_mutex_unlock(struct gp_object *o);
void gp_mutex_pass(struct gp_object *o);                                      /* I was told to try again, and will not */
bool gp_rwmutex_unlock(struct gp_object *o, bool reader);
bool gp_semaphore_release(struct gp_object *o, uint64_t n);
void gp_cond_signal(struct gp_object *o, bool all);

/* wait groups and goroutine outcomes */
bool gp_is_done(const struct gp_object *o);                                   /* of a wait group or goroutine */
int gp_waitgroup_add(struct gp_object *o, int64_t n, int64_t *now);           /* 0, -ERANGE negative, -EOVERFLOW */
bool gp_held(struct gp_object *o);                                              /* is there a handle anywhere, or may there be? */
bool gp_unheld(struct gp_object *o);                                            /* no process has a handle; a message may */
bool gp_outcome_unread(const struct gp_object *o);                              /* failed, and nobody has heard of it */
bool gp_garbage_dropped(void);       /* has a dropped message listed such a one, or a copy, that no process holds? Once. */
bool gp_outcome_set(struct gp_object *o, enum gp_goroutine_state state, gp_ref block); /* false: no handle is left */
bool gp_promise_claim(struct gp_object *o); /* true: it was queued, and nobody else will keep it but who breaks it */
bool gp_promise_keep(struct gp_object *o, enum gp_goroutine_state state, gp_ref block); /* false: it has an outcome already */
bool gp_outcome_over(const struct gp_object *o); /* no goroutine refers to it: it has ended, or there never was one */
bool gp_outcome_release(struct gp_object *o); /* my last handle went; true: the object is ended and mine to free */

/* ---- collector.c */
bool gp_dropped(struct gp_object *o);                         /* my last handle of a shared object went; true: collect now */
uint32_t gp_collect(void (*ended)(struct gp_object *o));      /* objects freed; `ended` takes the outcome of each goroutine */
void gp_unread_each(void (*found)(struct gp_object *o, void *arg), void *arg); /* of those that this process holds, or none */

/* ---- tasks.c */
static inline bool gp_takes_tasks(void) { return gp.proc != 0 || gp.nprocs == 1; } /* the host leaves them to its workers */
extern bool gp_reserved; /* this process makes a call that has it to itself: see tasks.c */
uint32_t gp_task_place(void);                               /* the proc whose ring a new task goes to */
int gp_task_push(gp_ref task, uint32_t proc, bool pinned);  /* 0; -EAGAIN: the ring is full; -ESRCH: the proc is gone */
int gp_task_push_again(gp_ref task, uint32_t proc, bool pinned); /* the coroner's: 0, -errno; -EINTR: the runtime ends */
gp_ref gp_task_slot(uint32_t proc, bool pinned, uint32_t n); /* under the lock of the queue: the n-th task */
int gp_task_enter(gp_ref task, struct gp_object *count);    /* a wait group counts the task: 0, -EOVERFLOW */
int gp_task_leave(gp_ref task);                             /* its trackers are told of its end; -ERANGE: it was not counted */
void gp_task_announce(uint32_t proc, bool pinned);          /* after the push: wake the proc that is to take it */
gp_ref gp_task_pop(bool newest);                            /* claimed for this proc; 0: none */
bool gp_task_steal(void);                                   /* moves tasks of another ring to mine */
uint32_t gp_task_count(void);                               /* in my rings, for me to run */
bool gp_task_in_reach(void);                                /* true if gp_task_steal() would find a task */
bool gp_task_elsewhere(void);                               /* in any ring that I may steal from, in reach or not */
void gp_wake_one(void);                                     /* an idle worker, if nobody is searching and a core is free */
void gp_task_hand_over(void);                               /* wake workers for the tasks that are left: I sleep now */
void gp_task_watch(void);                                   /* wake workers for tasks that nobody has taken since the last call */

/* ---- descriptors.c */
struct gp_fd {               /* a number, and the file that it led to */
    int fd;                  /* -1: none */
    uint64_t device, inode;
};
int gp_fd_note(struct gp_fd *f, int fd);    /* 0 or -errno */
bool gp_fd_is(const struct gp_fd *f);       /* true if the number still leads to that file */
void gp_fd_close(struct gp_fd *f);          /* unless the number is another file's by now */
bool gp_fd_own_table(int kept);             /* the calling thread gets a table of its own with this one; false: it shares one */
int gp_pidfd(pid_t pid);                    /* -1: errno says why */
void gp_say(const char *text, size_t n);    /* to stderr; gives up if nobody reads for some seconds */

/* ---- death.c */
struct gp_text {             /* a text that grows up to `end` */
    char *at, *end;
};
void gp_panic_text(struct gp_text *t, const struct gp_death *how, const struct gp_task *task, const char *labels);
void gp_again_text(struct gp_text *t, unsigned times); /* so often in a row, before it could begin a goroutine */
void gp_last_text(struct gp_text *t);                  /* and so had all others before */
void gp_death_text(struct gp_text *t, uint32_t proc, pid_t pid, int status); /* a report; status as of wait(), -1: not known */

/* ---- deaths.c */
struct gp_death *gp_death_at(uint64_t death);          /* the record of that number, or of a later one: see its own */

/* ---- coroner.c */
#define GP_BY_SIGNAL 0x100 /* a status: the process is to end by the signal whose number stands beside this */
_Noreturn void gp_leave(int status);
int gp_coroner_start(int control, int zygote_pid, int keeper_pid);
void gp_coroner_stop(void);                                  /* the zygote has ended, or the runtime is lost */
bool gp_coroner_tell(const char *order);                     /* a letter to the zygote; false: it cannot be told */
bool gp_fatal_claim(const char *reason);                     /* true for the first caller, which then reports and ends the program */
void gp_fatal_exit(int status);                              /* after gp_fatal_claim: ends every process; a host that survives: the others */
void gp_interrupted_exit(const char *text, size_t n);        /* from a signal's handler; returns if that is not to be */
int gp_die_with_parent(int ppid);
void gp_still_die_with_parent(void);                         /* a change of the user undoes it, for each thread */

#endif
