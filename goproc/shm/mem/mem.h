/* mem.h - the lowest floor: this process's view of the segment, blocks and objects in it, locks, the journal.
 * It knows no goroutine.
 *
 * No floor but the highest knows Python. Callers hold the GIL from lock to unlock, though: a process has one
 * journal.
 */
#ifndef GP_MEM_H
#define GP_MEM_H

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "invariant.h"
#include "layout.h"

enum gp_shortage {
    GP_SHORT_LIMIT,          /* the limit of the runtime */
    GP_SHORT_SYSTEM,         /* the system has no memory */
    GP_SHORT_ARENA,          /* the address space of this process's arena */
    GP_SHORT_DESCRIPTOR,     /* the kernel needs the segment's descriptor, and the program has closed it */
};

/* ---- this process's view; private memory */
/* the mapping of the segment; it outlives the runtime while a buffer maps one of its blocks */
struct gp_mapping {
    char *base;
    uint64_t bytes;
    uint64_t users;
    /* private copies of the memory that Python objects show, for forked children: held.c */
    char *image;
    /* true in a child the user forked: the segment is not mapped there, and must not be unmapped */
    bool inherited;
};
struct gp_held {             /* memory that a Python object shows */
    struct gp_held *next, **at; /* `at` is NULL in a forked child, whose memory is its own */
    /* the mapping of the segment; NULL: the memory is a private mapping of a part of it */
    struct gp_mapping *mapping;
    char *data;
    uint64_t len;
    bool constant;           /* no process writes there */
    bool copied;             /* copied before an earlier fork */
    bool lost;               /* lost in a forked child, for want of memory */
};
struct gp_self {
    char *base;              /* the mapping, or NULL when no runtime is attached */
    uint64_t bytes;
    uint64_t run;            /* +1 at every attach: handles of an earlier runtime are refused */
    uint32_t proc;           /* my number; 0 is the host */
    uint32_t room;           /* places in the segment: constant, unlike gp_places() */
    uint32_t me;             /* my lock word */
    uint32_t ncpu;
    struct gp_header *head;
    struct gp_proc *my;
    char *part;              /* my partition */
    uint64_t arena;          /* offset of my arena */
    uint64_t arena_bytes;
    uint64_t heap_at;        /* offsets below this are not heap */
    uint32_t heap_first, heap_lines; /* references to the heap begin there, and are so many */
    uint64_t part_bytes, parts_at;
    uint32_t waiters, selects, ring_tasks;     /* sizes of the tables of a partition */
    uint64_t sudogs_at, tasks_at, pinned_at;   /* offsets in a partition */
    struct gp_mapping *mapping;
    uint64_t attached;       /* the time of the attach, ns */
    int memfd;               /* the program may have closed it: gp_memfd_valid() */
    uint64_t memfd_dev, memfd_ino;
    enum gp_shortage shortage; /* the reason why the last range could not be backed */
    _Atomic bool lost;       /* the runtime has ended by itself, and this process, the host, survives it */
    bool forked;             /* true in a child the user forked: it must touch nothing */
};
extern struct gp_self gp;

/* Make room for one more element in an array from malloc, which has n elements and room for *cap. False:
 * there is no memory, and the array is unchanged. */
static inline bool gp_grow(void *array, uint32_t n, uint32_t *cap, uint32_t first, size_t size) {
    if (n < *cap) return true;
    uint32_t more = *cap ? 2 * *cap : first;
    void *v = realloc(*(void **)array, more * size);
    if (!v) return false;
    *(void **)array = v;
    *cap = more;
    return true;
}

/* ---- access */
#define gp_get(p) atomic_load_explicit((p), memory_order_relaxed)
#define gp_set(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define gp_acquire(p) atomic_load_explicit((p), memory_order_acquire)
#define gp_release(p, v) atomic_store_explicit((p), (v), memory_order_release)
/* program order of my own stores, as the coroner sees them after my death: a compiler barrier is enough
 * (prefix rule) */
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
static inline gp_ref gp_ref_of(const void *p) {
    return (gp_ref)(((uint64_t)((const char *)p - gp.base)) / GP_LINE);
}
static inline struct gp_proc *gp_proc_at(uint32_t p) {
    return (struct gp_proc *)(gp.base + GP_PROCS_AT + (uint64_t)p * GP_PROC_BYTES);
}
/* Places that are or have been in use, the host's included. More may come at any time (resize.c), and none
 * goes. A number that cannot be is damage, which the end of the program itself must survive. */
static inline uint32_t gp_places(void) {
    uint32_t n = gp_acquire(&gp.head->nprocs);
    return GP_LIKELY(n - 1 < gp.room) ? n : gp.room;
}
static inline uint32_t gp_workers(void) { /* that the program has now */
    uint32_t n = gp_get(&gp.head->workers);
    return GP_LIKELY(n < gp.room) ? n : gp.room - 1;
}
static inline char *gp_part_at(uint32_t p) { return gp.base + gp.parts_at + (uint64_t)p * gp.part_bytes; }
static inline uint64_t gp_my_tag(void) { return gp_proc_tag(gp.me >> GP_WORD_PROC_BITS, gp.proc); }
/* The incarnation, the lock word and the tag of the process that a proc has now. */
static inline uint32_t gp_incarnation_of(uint32_t proc) {
    return gp_get(&gp_proc_at(proc)->incarnation) & GP_INCARNATION;
}
static inline uint32_t gp_word_of(uint32_t proc) { return gp_word(gp_incarnation_of(proc), proc); }
static inline uint64_t gp_tag_of(uint32_t proc) { return gp_proc_tag(gp_incarnation_of(proc), proc); }

/* ---- damage.c: a value from the segment that cannot be right ends the program */
_Noreturn void gp_damaged(const char *what, uint64_t value) __attribute__((cold));
extern void (*gp_damage_ends)(const char *text, size_t n); /* reports, and ends the processes; may return */
/* End the program unless the lines [ref, ref + more] are in the heap. */
static inline void gp_check_lines(gp_ref ref, uint64_t more) {
    if (GP_UNLIKELY((uint64_t)(gp_ref)(ref - gp.heap_first) + more >= gp.heap_lines))
        gp_damaged("a block", ref);
}

/* ---- segment.c */
/* memfd, or -errno; with room for no more procs */
int gp_create(uint32_t nprocs, uint64_t memory, uint32_t ncpu);
/* the same, with room for procs to come */
int gp_create_with_room(uint32_t nprocs, uint64_t memory, uint32_t ncpu);
/* memory for the struct gp_proc: 0, -ENOMEM, -errno */
int gp_back_place(uint32_t proc);
/* the number of the zygote that has forked this worker; 0: no zygote has */
extern uint32_t gp_zygote;
/* 0 or -errno; the other procs do not see this proc before gp_go_live() */
int gp_attach(int memfd, uint32_t proc);
/* let the other procs see this one: each part of the core has attached */
void gp_go_live(void);
/* map another program's segment for reading: own and hold nothing */
int gp_observe(int memfd);
void gp_detach(void);
/* a view or the runtime no longer needs it */
void gp_mapping_release(struct gp_mapping *m);
/* the address space, and the size of a file, for so many procs */
uint64_t gp_least_bytes(uint32_t nprocs);
uint64_t gp_now(void);                                               /* CLOCK_MONOTONIC, ns */

/* ---- backing.c */
enum gp_purpose {
    GP_FOR_VALUES, /* values that the program sends and keeps: within the limit */
    /* a new goroutine, which may be the one that empties the channels: also from half of the reserve */
    GP_FOR_TASKS,
    GP_FOR_TABLES, /* records of coordination, such as a waiter: also from the reserve beyond the limit */
    GP_FOR_ENDS,   /* records of an end, such as a failure: as tables */
};
/* the purpose of the pages that this thread takes for blocks and objects */
extern _Thread_local enum gp_purpose gp_purpose;
/* true if the descriptor is still the segment's */
bool gp_memfd_valid(void);
/* back with memory, regardless of the limit: 0, -ENOMEM, -errno */
int gp_back(uint64_t offset, uint64_t bytes);
/* give a range back to the system; false: that is not possible */
bool gp_unback(uint64_t offset, uint64_t bytes);
/* back and count: 0, -ENOMEM, -errno */
int gp_commit_for(enum gp_purpose purpose, uint64_t offset, uint64_t bytes);
int gp_commit(uint64_t offset, uint64_t bytes);                      /* back and count, for tables */
uint64_t gp_committed(void);                                         /* the bytes of all procs */
/* grow a prefix in steps */
int gp_commit_upto(uint64_t start, uint64_t *done, uint64_t want, uint64_t limit);

/* ---- held.c */
void gp_held_start(void);
void gp_hold(struct gp_held *held, struct gp_mapping *mapping, char *data, uint64_t len, bool constant);
void gp_unhold(struct gp_held *held);

/* ---- heap.c */
gp_ref gp_alloc(uint64_t payload, unsigned flags);                   /* 0: out of memory */
gp_ref gp_object_alloc(enum gp_kind kind);                           /* 0: out of memory */
/* release a block that this process owns */
void gp_free(gp_ref ref);
void gp_object_free(struct gp_object *o);
/* the first half of that: the object is nobody's, and its memory has no other use before gp_free() */
void gp_object_end(struct gp_object *o);
/* true for a live block; *capacity: that of its payload */
bool gp_block_check(gp_ref ref, uint64_t *capacity);
/* true if there may be an object at ref */
bool gp_object_check(gp_ref ref);
void gp_heap_attach(void);
void gp_heap_detach(void);
/* call the function for live blocks and objects; for those in the arena of one proc */
void gp_heap_each_in(uint32_t proc, void (*visit)(struct gp_block *b, bool object, uint64_t bytes, void *arg),
                     void *arg);
void gp_heap_each(void (*visit)(struct gp_block *b, bool object, uint64_t bytes, void *arg), void *arg);
struct gp_heap_stats {
    uint64_t blocks, objects, definitions, bytes;
};
/* count the live ones in all arenas: for tests */
void gp_heap_census(struct gp_heap_stats *out);

static inline unsigned gp_block_flags(const struct gp_block *b) {
    return (unsigned)(gp_get(&b->len) >> GP_BLOCK_FLAGS_AT);
}
static inline uint64_t gp_block_len(const struct gp_block *b) {
    return gp_get(&b->len) & ((1ULL << GP_BLOCK_FLAGS_AT) - 1);
}
static inline uint64_t gp_head_bytes(unsigned flags) {
    return flags & GP_BLOCK_ALIGNED ? GP_LINE : GP_BLOCK_HEAD;
}
static inline char *gp_payload(gp_ref ref) {
    struct gp_block *b = gp_at(ref);
    return (char *)b + gp_head_bytes(gp_block_flags(b));
}
static inline uint64_t gp_len(gp_ref ref) { return gp_block_len(gp_at(ref)); }
/* The bytes of a list of handles, and of the refs of a pickle's buffers, rounded up to a multiple of 8. */
static inline uint64_t gp_handles_bytes(uint32_t n) {
    return n ? (sizeof(struct gp_handles) + sizeof(gp_ref) * (uint64_t)n + 7) / 8 * 8 : 0;
}
static inline uint64_t gp_buffers_bytes(uint32_t n) { return (sizeof(gp_ref) * (uint64_t)n + 7) / 8 * 8; }
static inline unsigned gp_flags(gp_ref ref) { return gp_block_flags(gp_at(ref)); }
static inline void gp_own(gp_ref ref, uint64_t tag) {
    gp_check_lines(ref, 0);
    gp_set(&((struct gp_block *)gp_at(ref))->tag, tag);
}
static inline uint64_t gp_tag(gp_ref ref) {
    gp_check_lines(ref, 0);
    return gp_acquire(&((struct gp_block *)gp_at(ref))->tag);
}

/* ---- definitions.c: for one thread at a time */
/* *ref: a definition of these bytes, which an earlier process of this number has stored, or 0. False:
 * there are so many that this process should store no other. Cost: a walk over the own arena, once. */
bool gp_definition_find(const char *data, uint64_t len, gp_ref *ref);
/* a block of this process becomes a definition */
void gp_definition_keep(gp_ref ref);
void gp_definitions_detach(void);

/* ---- reclaim.c */
void gp_reclaim_attach(void);
/* give all free memory of all arenas back to the system */
void gp_heap_reclaim(void);
/* ns after which an idle process should look */
uint64_t gp_heap_patience(uint64_t now);
/* the idle process looks now: true if there may be memory to give back */
bool gp_heap_look(void);
void gp_heap_look_again(void);                                       /* the next look is due at once */
/* after such a look: true if a collection is due, since no handle was dropped after the last look */
bool gp_collection_due(void);
/* after such a look: gp_heap_reclaim() in arenas that are little used, until `enough` is true */
void gp_heap_trim(bool (*enough)(void));

/* ---- lock.c */
void gp_lock_slow(_Atomic uint32_t *word);
void gp_unlock_wake(_Atomic uint32_t *word);
/* after a long wait: end the program if no process has the lock */
void gp_check_holder(_Atomic uint32_t *word, bool coroner);
/* until_ns is absolute; 0 = no limit */
long gp_futex_wait(_Atomic uint32_t *word, uint32_t expect, uint64_t until_ns);
void gp_futex_wake(_Atomic uint32_t *word, int count);

static inline _Atomic uint32_t *gp_lock_word(void *line) {
    return (_Atomic uint32_t *)((char *)line + GP_LOCK_AT);
}

/* True while the lock is held: by this process, or by the coroner for a dead one. */
static inline bool gp_locked(const void *line) {
    return (gp_get((const _Atomic uint32_t *)((const char *)line + GP_LOCK_AT)) & ~GP_LOCK_WAITERS) != 0;
}

/* `line` is an object, a queue or the tree of contexts. Locks are taken in ascending order of ref. */
static inline void gp_lock(void *line) {
    struct gp_journal *j = &gp.my->journal;
    uint32_t n = gp_get(&j->nlocks), free_word = 0;
    _Atomic uint32_t *word = gp_lock_word(line);
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
/* The same for a line that journal.spill lists, in a select over more channels than the journal has room
 * for. */
static inline void gp_lock_spilled(void *line) {
    uint32_t free_word = 0;
    _Atomic uint32_t *word = gp_lock_word(line);
    if (GP_UNLIKELY(!atomic_compare_exchange_strong_explicit(word, &free_word, gp.me, memory_order_acquire,
                                                             memory_order_relaxed)))
        gp_lock_slow(word);
}
static inline void gp_unlock_spilled(void *line) {
    _Atomic uint32_t *word = gp_lock_word(line);
    GP_ASSERT((gp_get(word) & ~GP_LOCK_WAITERS) == gp.me);
    gp_order();
    if (GP_UNLIKELY(atomic_exchange_explicit(word, 0, memory_order_release) & GP_LOCK_WAITERS))
        gp_unlock_wake(word);
    gp_order();
}
static inline void gp_unlock(void *line) {
    struct gp_journal *j = &gp.my->journal;
    _Atomic uint32_t *word = gp_lock_word(line);
    GP_ASSERT(gp_get(&j->op) == GP_OP_NONE);
    GP_ASSERT(gp_get(&j->nlocks) > 0);
    GP_ASSERT((gp_get(word) & ~GP_LOCK_WAITERS) == gp.me);
    gp_order();
    if (GP_UNLIKELY(atomic_exchange_explicit(word, 0, memory_order_release) & GP_LOCK_WAITERS))
        gp_unlock_wake(word);
    gp_order(); /* the wake belongs to the operation: only now may the coroner forget this lock */
    gp_set(&j->nlocks, gp_get(&j->nlocks) - 1);
}

/* ---- journal: intent first, then the COMMIT, then gp_done. enum gp_op has the operands of each
 * operation. */
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
static inline void gp_intent_handoff(gp_ref channel, uint32_t sudog, gp_ref block, uint64_t epoch) {
    gp_intent(GP_OP_HANDOFF, channel, sudog, block, epoch, 0);
}
static inline void gp_intent_bufput(gp_ref channel, gp_ref block, uint64_t tail) {
    gp_intent(GP_OP_BUFPUT, channel, 0, block, tail, 0);
}
static inline void gp_intent_bufget(gp_ref channel, gp_ref block, uint64_t head) {
    gp_intent(GP_OP_BUFGET, channel, 0, block, head, 0);
}
static inline void gp_intent_promote(gp_ref channel, uint32_t sudog, gp_ref block, uint64_t epoch,
                                     uint64_t tail) {
    gp_intent(GP_OP_PROMOTE, channel, sudog, block, epoch, tail);
}
static inline void gp_intent_take(gp_ref channel, uint32_t sudog, gp_ref block, uint64_t epoch) {
    gp_intent(GP_OP_TAKE, channel, sudog, block, epoch, 0);
}
static inline void gp_intent_fire(gp_ref object, uint32_t sudog, uint64_t epoch) {
    gp_intent(GP_OP_FIRE, object, sudog, 0, epoch, 0);
}
static inline void gp_intent_track(gp_ref object, enum gp_tracker which, gp_ref task, uint64_t count,
                                   gp_ref tracker) {
    gp_intent(GP_OP_TRACK, object, which, task, count, tracker);
}
static inline void gp_intent_outcome(gp_ref goroutine, gp_ref block, enum gp_goroutine_state state,
                                     gp_ref task) {
    gp_intent(GP_OP_OUTCOME, goroutine, 0, block, state, task);
}
static inline void gp_intent_grant(gp_ref object, uint32_t sudog, uint64_t epoch, int64_t value) {
    gp_intent(GP_OP_GRANT, object, sudog, 0, epoch, (uint64_t)value);
}
static inline void gp_done(void) {
    GP_ASSERT(gp_get(&gp.my->journal.op) != GP_OP_NONE);
    gp_order();
    gp_set(&gp.my->journal.op, GP_OP_NONE);
    gp_order();
}

/* ---- spin.c */
void gp_spin_attach(void);
void gp_wait_ns(uint32_t ns);              /* spin for about so long */
/* the number of attached procs that are not idle: they compute, or are blocked in a system call */
uint32_t gp_procs_running(void);
bool gp_may_spin(void);                    /* true if there is a core to spin on */

/* ---- descriptors.c */
struct gp_fd {               /* a number, and the file that it led to */
    int fd;                  /* -1: none */
    uint64_t device, inode;
};
int gp_fd_note(struct gp_fd *f, int fd);    /* 0 or -errno */
bool gp_fd_is(const struct gp_fd *f);       /* true if the number still leads to that file */
void gp_fd_close(struct gp_fd *f);          /* unless the number leads to another file by now */
/* give the calling thread a table of descriptors of its own that has this one; false: it goes on to share
 * one */
bool gp_fd_own_table(int kept);
int gp_pidfd(pid_t pid);                    /* -1: errno says why */
/* true if the kernel reports the end of a worker that the coroner has not repaired so far */
bool gp_worker_ended(void);
/* write to stderr; give up if no reader takes the text for some seconds */
void gp_say(const char *text, size_t n);
/* the same without waiting; return the number of bytes that are written or lost */
size_t gp_say_now(const char *text, size_t n);

#endif
