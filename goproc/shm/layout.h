/* layout.h - the one definition of the shared segment: structs, sizes, and the invariant of every field.
 *
 * Every proc maps one sealed memfd, at any address. The segment holds no pointers. A place in it is a `ref`,
 * its offset divided by 64 (GP_LINE). So 32 bits reach 256 GiB, and ref 0 (the header) serves as "none".
 *
 *   header      4 KiB
 *   procs       GP_MAX_PROCS x 4 KiB   one per proc: park word, journal, task queue, counters
 *   deaths      GP_DEATHS x 8 KiB      how workers died, and the goroutines that were lost with them
 *   partitions  one per proc           inbox bitmap, waiters, sudogs, task rings; written by their proc,
 *                                      except waiter.state (CAS), inbox (fetch_or), sudog links (a lock)
 *   arenas      one per proc           the heap: page descriptors, then 64 KiB pages of blocks and extents
 *
 * The segment is sparse. A range is backed with memory before its first use, so a full machine gives an
 * error, never SIGBUS.
 *
 * Crash rule: a killed proc has executed a prefix of its instruction stream. Every transition becomes visible
 * by ONE atomic store or CAS (marked COMMIT in the code). The stores before it are private or unreachable;
 * the coroner redoes the stores after it from the proc's journal record (repair.c). Stores therefore go
 * through the gp_set/gp_get helpers (atomics), which also keep the compiler from reordering them where the
 * order matters.
 */
#ifndef GP_LAYOUT_H
#define GP_LAYOUT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define GP_MAGIC 0x31636f72706f67ULL /* "goproc1" */
#define GP_ABI 12u                   /* raised with every change of this file */
#define GP_LINE 64u
#define GP_MAX_PROCS 256u
/* in place of a proc's number: a command that reads the segment from outside */
#define GP_OBSERVER GP_MAX_PROCS
#define GP_PROCS_AT 4096ULL          /* the header lies before it */
#define GP_PROC_BYTES 4096u
/* The most that the tables of a proc hold. The segment is sparse, and the tables take memory only as they
 * fill: only the address space is a reason for smaller ones, see gp_header. */
/* goroutines of one proc that can be blocked at once: 64 * 64 * 512, see GP_INBOX_LINE */
#define GP_WAITERS 2097152u
#define GP_SELECTS 8388608u          /* sudogs of one proc for the cases of its selects */
/* unstarted goroutines queued on one proc; in the host's queue, for any worker */
#define GP_RING_TASKS 8388608u
#define GP_LEAST 262144u             /* the least size of each table, where address space is short */
/* waiters whose inbox bits are in one line, and have one bit in a middle word */
#define GP_INBOX_LINE 512u
#define GP_PAGE 65536u
#define GP_JOURNAL_LOCKS 64u
#define GP_INLINE 56u
#define GP_REASON 256u
/* in place of proc + 1: the coroner, or a process that ends the program without Python */
#define GP_FATAL_OTHER 0xffffu
/* the bits of exit_status for the status itself, or for a signal beside GP_BY_SIGNAL */
#define GP_STATUS 0x1ff
#define GP_FATAL_SAID 0x200          /* a bit of exit_status: the report is out */

typedef uint32_t gp_ref;

/* ---- owner tags: 8 bits of kind, 56 bits of value. The store of a tag IS the allocation, move or
 * release. */
enum gp_tag_kind {
    GP_TAG_FREE = 0,
    GP_TAG_PROC = 1,   /* value: incarnation << 16 | proc + 1     */
    GP_TAG_CHAN = 2,   /* value: ref of the channel whose ring holds the block */
    /* value: ref of the block whose buffer this is; the buffer lives and dies with that block */
    GP_TAG_PART = 3,
    GP_TAG_QUEUE = 4,  /* a task that no proc has claimed */
    GP_TAG_RESULT = 5, /* value: ref of the goroutine object whose outcome the block holds */
    GP_TAG_DEFINITION = 6, /* the block lives as long as the segment */
};
#define GP_TAG(kind, value) (((uint64_t)(kind) << 56) | (uint64_t)(value))
#define GP_TAG_KIND(tag) ((unsigned)((tag) >> 56))
#define GP_TAG_VALUE(tag) ((tag) & ((1ULL << 56) - 1))
/* The tag of a process, and the number of the proc in it. */
static inline uint64_t gp_proc_tag(uint32_t incarnation, uint32_t proc) {
    return GP_TAG(GP_TAG_PROC, (uint64_t)incarnation << 16 | (proc + 1));
}
static inline uint32_t gp_tag_proc(uint64_t tag) { return (uint32_t)(tag & 0xffff) - 1; }

/* ---- lock words: 0 = free, else WAITERS:1 | incarnation:21 | proc + 1:10 of the process that has the lock.
 * The word is at byte 16 of its line. */
#define GP_LOCK_AT 16u
#define GP_LOCK_WAITERS 0x80000000u
#define GP_WORD_PROC_BITS 10u
#define GP_WORD_PROC ((1u << GP_WORD_PROC_BITS) - 1)
#define GP_INCARNATION 0x1fffffu /* the bits of an incarnation that words and tags have */
static inline uint32_t gp_word(uint32_t incarnation, uint32_t proc) {
    return (incarnation & GP_INCARNATION) << GP_WORD_PROC_BITS | (proc + 1);
}
static inline uint32_t gp_word_proc(uint32_t word) { return (word & GP_WORD_PROC) - 1; }
static inline uint32_t gp_word_incarnation(uint32_t word) {
    return word >> GP_WORD_PROC_BITS & GP_INCARNATION;
}

/* ---- a message: the slot of a ring, or the cargo of a sudog. A receiver copies a message once, checks the
 * copy, and uses the copy. */
enum gp_codec {
    GP_CODEC_NONE = 0,
    GP_CODEC_FALSE,
    GP_CODEC_TRUE,
    GP_CODEC_INT,    /* int64 */
    GP_CODEC_FLOAT,  /* double */
    GP_CODEC_STR,    /* UTF-8 */
    GP_CODEC_BYTES,
    GP_CODEC_PLAIN,  /* nested tuples, lists and dicts of the above and of handles: see codec.c */
    GP_CODEC_PICKLE, /* always in a block: struct gp_pickle, then the pickle */
    GP_CODEC_DEATH,  /* struct gp_obituary: the outcome of a goroutine that was lost with its process */
    GP_CODECS
};
struct gp_message {
    uint8_t codec;  /* enum gp_codec */
    uint8_t len;    /* bytes used of `data` when block == 0 */
    uint16_t flags; /* 0 */
    gp_ref block;   /* 0, or the block that holds the payload; then `data` is unused */
    uint8_t data[GP_INLINE];
};

/* ---- heap */
struct gp_block {            /* at the start of every block and extent */
    _Atomic uint64_t tag;    /* the owner; FREE: the arena's owner may reuse the block */
    _Atomic uint64_t len;    /* GP_BLOCK_* flags << GP_BLOCK_FLAGS_AT | payload bytes; written by the owner */
};
#define GP_BLOCK_HEAD 16u
#define GP_BLOCK_FLAGS_AT 56u
#define GP_BLOCK_ALIGNED 1u  /* payload starts at byte 64, not 16: for buffers that their reader maps */
#define GP_BLOCK_HANDLES 2u  /* payload starts with u32 count and as many object refs (struct gp_handles) */
#define GP_BLOCK_TASK 4u     /* payload is a struct gp_task */
#define GP_BLOCK_REFERENCE 8u /* payload is a struct gp_reference; a PART block */

struct gp_handles {
    uint32_t count;
    gp_ref object[];
};
struct gp_pickle {           /* payload of GP_CODEC_PICKLE, after the handles if there are any */
    uint32_t buffers;        /* out-of-band buffers: so many refs of PART blocks follow */
    uint32_t pad;
    uint64_t main;           /* bytes of the pickle, which follows the refs */
    gp_ref buffer[];
};

/* a buffer of a pickle that lies in the memory of a copy; the message lists the copy among its handles */
struct gp_reference {
    gp_ref object;           /* the copy */
    uint32_t gen;            /* of that object */
    gp_ref block;            /* the block of the copy's message, or a PART of that */
    uint32_t pad;
    uint64_t offset, len;    /* in the payload of `block` */
};

enum {
    GP_CLASS_OBJECT = 1,
    GP_CLASS_FIRST = 2,   /* the first of the size classes, see heap.c */
    GP_CLASS_IDLE = 59,   /* a free page with memory */
    GP_CLASS_HOLE = 60,   /* a free page without memory */
    /* a page that a process gives back to the system: | its former class << 8 | proc + 1 << 16 */
    GP_CLASS_TAKING = 61,
    GP_CLASS_EXTENT = 62, /* the first page of an extent */
    GP_CLASS_INNER = 63,  /* a further page of an extent; or a page that its owner is about to use */
};
struct gp_page {             /* one per 64 KiB page of an arena; pages.h has the rules for changing it */
    _Atomic uint32_t cls;    /* 0 = never used */
    _Atomic uint32_t pages;  /* of an extent: its length in pages */
    /* the gen of the next objects here: the highest gen that an object in this page has had */
    _Atomic uint32_t gen;
    uint32_t pad;
};

/* ---- objects: channels, wait groups, atomics, goroutine outcomes. 128 bytes in pages of their own class.
 * `gen` survives reuse, and gp_page.gen keeps it while the page is used otherwise. So a stale handle is
 * always recognised. */
enum gp_kind {
    /* also timers (GP_OBJ_TIMER) and contexts (GP_OBJ_CONTEXT), from which one can receive */
    GP_KIND_CHAN = 1,
    GP_KIND_WAITGROUP,
    GP_KIND_ATOMIC,
    GP_KIND_OUTCOME,  /* of a goroutine; a promise (GP_OBJ_PROMISE), which has none */
    GP_KIND_MUTEX,
    GP_KIND_ONCE,     /* a mutex with GP_OBJ_DONE */
    GP_KIND_RWMUTEX,
    GP_KIND_COND,
    GP_KIND_SEMAPHORE,
    GP_KIND_BARRIER,
    GP_KIND_COPY,     /* a value that was written once (copy.c) */
    GP_KINDS
};
enum gp_object_flags {
    GP_OBJ_CLOSED = 1,  /* channel: set once, under the lock; context: it is done */
    GP_OBJ_SHARED = 2,  /* a handle was put into a message: only the collector may free the object */
    GP_OBJ_BOOL = 4,    /* atomic: holds a bool */
    GP_OBJ_CANCEL = 8,  /* goroutine: its cancel() was called */
    /* channel: a timer, to which no one sends: a receive at or after `value` makes the message itself */
    GP_OBJ_TIMER = 16,
    GP_OBJ_CONTEXT = 32, /* channel: a node of the tree of contexts; closed when it is done */
    /* mutex: a waiter was told to try again and has not tried; the coroner clears the flag for a dead
     * waiter */
    GP_OBJ_WOKEN = 64,
    /* once: its function has run; channel of one message (GP_OBJ_ONCE): a waiting receiver has got it */
    GP_OBJ_DONE = 128,
    /* timer: proc `owner` runs a function when it is due, and is nudged when it changes */
    GP_OBJ_FUNC = 256,
    GP_OBJ_INHERITED = 512, /* context: it ended with its parent, and has its parent's cause */
    GP_OBJ_PROMISE = 1024, /* goroutine: an outcome without a goroutine, which the program sets */
    GP_OBJ_ONCE = 2048, /* channel: a sender checks first whether the one message was sent */
};
/* the clock alone makes such an object ready: its waiters watch the time */
#define GP_OBJ_LAZY (GP_OBJ_TIMER | GP_OBJ_CONTEXT)
enum gp_goroutine_state { GP_G_QUEUED = 0, GP_G_RUNNING, GP_G_OK, GP_G_FAILED, GP_G_DEAD };

struct gp_object {
    /* line 0: the fields that an uncontended operation touches */
    _Atomic uint64_t tag;        /* as in gp_block; PROC(creator) while live */
    _Atomic uint32_t gen;        /* +1 at every release; a handle is valid iff it has the same gen */
    _Atomic uint16_t kind;       /* enum gp_kind */
    _Atomic uint16_t flags;      /* enum gp_object_flags */
    /* a lock word. Only the holder, or the coroner for a dead holder, writes the fields below */
    _Atomic uint32_t lock;
    uint32_t cap;                /* channel: its capacity; barrier: the number of parties. Constant */
    /* channel: head messages were taken so far, and tail messages put; 0 <= tail - head <= cap.
     * mutex, once: tail is the number of times that it was locked, see spin_for_lock().
     * wait group: head is the number of the last death that it was told of, tail the number of goroutines
     * that it has lost.
     * semaphore: head is the units that came back from the dead, which the living may give back once more.
     * tail is the units that are in no proc's share: the places of a group's members, and those beyond the
     * limit of the group */
    _Atomic uint64_t head, tail;
    /* Two FIFOs of sudogs. sendq has the senders of a channel, and the writers that wait for an rwmutex;
     * recvq has all other waiters. `next` from the first on is the truth; `last` and `prev` are caches. At
     * least one of the two has no WAITING entry, except where a select waits in both. */
    _Atomic uint32_t recvq_first, recvq_last;
    _Atomic uint32_t sendq_first;
    union {
        _Atomic uint32_t sendq_last;
        /* context: its children that exist; they are freed before it. Under the tree's lock */
        _Atomic uint32_t ctx_pins;
    };
    /* a block, or 0. channel: cap messages; goroutine, promise: the outcome; copy: the message; context: the
     * cause of the end; rwmutex, semaphore: an int64 for each proc, the number of its readers or units
     * (sync.c) */
    gp_ref ring;
    union {
        /* goroutine, promise: enum gp_goroutine_state; copy: GP_G_OK once it has its message */
        _Atomic uint32_t state;
        /* context: sibling, while it is in its parent's list; under the tree's lock */
        _Atomic uint32_t ctx_prev;
    };
    /* line 1 */
    _Atomic uint64_t holders[GP_MAX_PROCS / 64]; /* bit p: proc p has at least one handle */
    /* Written under the lock, except in atomics. wait group: the counter; atomic: the value; goroutine: 1
     * once its outcome was read; promise: 1, as its outcome need not be read; mutex, once: 1 = locked;
     * rwmutex: the number of readers, -1 = a writer; semaphore: free units; barrier: arrived parties; timer:
     * the time at which it is due, ns, 0 = never; context: enum gp_done; copy: the bytes of its message */
    _Atomic int64_t value;
    union {
        _Atomic uint64_t id;     /* goroutine, promise: its number; main is 1 */
        _Atomic uint64_t size;   /* semaphore: all its units, free or taken; constant */
        _Atomic uint64_t period; /* timer: ns between ticks, 0 = once */
        /* context: the earliest deadline of it and its ancestors, ns, 0 = none; constant */
        _Atomic uint64_t due;
    };
    /* +1 whenever a holder bit is set: for the collector's double collect */
    _Atomic uint32_t holders_version;
    union {
        /* goroutine: its task block, while it is queued or running; promise: the block for its outcome, until
         * that is set */
        gp_ref task;
        _Atomic uint32_t ctx_parent; /* context: its parent, for its whole life; 0 = none */
    };
    union {
        /* proc + 1, 0 = none. goroutine: where it runs; promise: that is to keep it, and whose death breaks
         * it; copy: its maker */
        _Atomic uint32_t proc;
        /* locks: lock word of the holder's process, 0 = none; func timer: proc + 1 of its function */
        _Atomic uint32_t owner;
        /* context: first of its children that are not done; under the tree's lock */
        _Atomic uint32_t ctx_child;
    };
    union {
        gp_ref site;               /* goroutine: the place where it was created, as in gp_task */
        _Atomic uint32_t ctx_next; /* context: sibling; under the tree's lock */
    };
};
enum gp_done { GP_LIVE = 0, GP_CANCELED = 1, GP_DEADLINE = 2 }; /* Python adds further codes */

/* ---- waiting */
enum gp_wait_tag {
    GP_W_IDLE = 0,  /* not in use, or between two waits */
    GP_W_WAITING,
    GP_W_FIRED,     /* the operation of the case was done */
    GP_W_CLOSED,    /* the object of the case is closed, or done */
    GP_W_CANCELLED, /* the waiter gave up */
    GP_W_DEAD,      /* the runtime has stopped, or the waiter's process has died */
    GP_W_RETRY,     /* no operation was done; the object has changed, so the waiter looks again */
};
#define GP_W(epoch, cas, tag) (((uint64_t)(epoch) << 24) | ((uint64_t)(cas) << 8) | (uint64_t)(tag))
#define GP_W_TAG(state) ((unsigned)((state) & 0xff))
#define GP_W_CASE(state) ((unsigned)(((state) >> 8) & 0xffff))
#define GP_W_EPOCH(state) ((uint64_t)((state) >> 24))

struct gp_waiter {               /* 64 bytes: one blocked goroutine (or thread) */
    /* epoch:40 | case:16 | tag:8. It leaves WAITING exactly once per epoch, by one CAS: of the holder of the
     * fired case's lock, or (to CANCELLED) of its own proc. The low word is the futex of a plain thread */
    _Atomic uint64_t state;
    /* enum gp_thread: a goroutine is told through the inbox, a plain thread sleeps on `state` */
    _Atomic uint32_t thread;
    /* 1: wake only to compute the deadline again (a timer was reset); the waiter stays queued */
    _Atomic uint32_t rethink;
    _Atomic uint64_t goroutine;  /* the number of the blocked goroutine, for reports */
    /* GP_WATCHED: the waiter of this proc that collects this one; constant while armed */
    _Atomic uint32_t watch;
    /* GP_WATCHED, fired: the waiter that fired before it, + 1; 0 = none. The teller writes it */
    _Atomic uint32_t next;
    /* of a collecting waiter: the watched waiter that fired last, + 1; 0 = none. Tellers push, the collector
     * takes all */
    _Atomic uint32_t fired;
    uint32_t place;              /* GP_WATCHED: its index in the collector's list (own proc) */
    /* lock word of a process. GP_WATCHED: the process that pushes it, or has pushed it; 0 = none so far */
    _Atomic uint32_t teller;
    uint32_t rest[5];
};
enum gp_thread {
    GP_GOROUTINE = 0,
    GP_THREAD,         /* not in gp_proc.threads: it runs, or its wait ends by itself */
    GP_THREAD_BLOCKED, /* counted in gp_proc.threads; the process that ends this state uncounts the thread */
    GP_THREAD_TELLING, /* the process `teller` ends the wait, and may not have uncounted the thread so far */
    GP_THREAD_TOLD,
    GP_WATCHED,        /* no goroutine sleeps in it: its end is passed to the waiter `watch`, see watch.c */
};
struct gp_sudog {                /* 128 bytes: one case of one blocked operation */
    _Atomic gp_ref object;       /* 0 = unused; the coroner reads it without the lock of that object */
    uint32_t gen;                /* of the object */
    uint32_t waiter;             /* index into the waiters of `proc` */
    uint16_t proc;
    uint16_t cas;                /* case number in a select, else 0 */
    uint64_t epoch;              /* the waiter's epoch when this was linked; another value = stale */
    /* sudog references: proc << 24 | index + 1; written under the object's lock */
    _Atomic uint32_t next, prev;
    uint32_t send;               /* 1 on sendq, 0 on recvq */
    /* 1 while reachable from its queue (own proc, or the lock holder); stored after `object` */
    _Atomic uint32_t linked;
    /* semaphore: the units wanted; barrier: the place of arrival, set at the release */
    uint64_t n;
    /* mutex: the time at which the wait began, ns, for the decision on a hand-off; 0: other objects */
    uint64_t since;
    uint64_t rest;
    /* sender: the message it offers; receiver: the sender writes it before its COMMIT */
    struct gp_message msg;
};
#define GP_SUDOG_BITS 24u

/* ---- tasks: goroutines that have not started. A task is a heap block (GP_BLOCK_TASK). Its tag is the truth
 * about its owner; the rings only hold hints. The block stays allocated, owned by its proc, until the
 * goroutine ends. Then it is freed, or holds the outcome for the handles. */
#define GP_TASK_NAME 60u
#define GP_TASK_LABELS 8192u         /* bytes of the labels that reports show */
enum gp_tracker {
    GP_TRACK_COUNT,  /* a wait group, which counts the goroutine */
    GP_TRACK_PLACE,  /* a semaphore, of which the goroutine has a unit, which its `tail` counts */
    GP_TRACK_GROUP,  /* a context, which is cancelled if the goroutine fails */
    GP_TRACKERS
};
struct gp_task {
    /* the call; once the goroutine has begun, the first bytes of the call; after its end, the outcome, which
     * then needs no memory */
    struct gp_message call;
    uint64_t id;                 /* goroutine number */
    uint64_t parent;             /* number of the goroutine that created it */
    gp_ref object;               /* the goroutine's outcome */
    uint32_t gen;                /* of that object */
    gp_ref site;                 /* the place where it was created: a DEFINITION block with text */
    uint16_t creator;            /* the proc that created it */
    uint16_t pinned;             /* enum gp_pinned */
    _Atomic uint32_t started;    /* enum gp_started: decides the goroutine's fate when its proc dies */
    /* the objects to tell of its end, also if its process dies; 0: told, or none */
    _Atomic uint32_t tracker[GP_TRACKERS];
    char name[GP_TASK_NAME];     /* UTF-8, cut, NUL-terminated */
    /* how often it may start again after it was lost with its process; while this is not 0, `call` stays as
     * it is */
    _Atomic uint16_t retries;
    _Atomic uint16_t lost;       /* how often it was lost so far */
    int32_t lost_with;           /* pid of the last process that it was lost with */
    /* a PART block for the outcome of a goroutine that may start again until that is known; 0: the outcome
     * takes the place of `call` */
    gp_ref spare;
    /* behind this, up to the end of the block: the labels as a report shows them */
};

enum gp_pinned {
    GP_ANYWHERE = 0,
    GP_PINNED,        /* go.on: never stolen */
    GP_LOCAL,         /* go.local: shares memory with its creator */
    GP_PINNED_ALWAYS, /* as GP_PINNED; it begins in a reserved process, too (taking.c) */
};
enum gp_started { GP_UNSTARTED = 0, GP_STARTED, GP_UNMADE /* its creator is making it */ };

/* ---- deaths: the coroner writes them, for readers of a lost goroutine's outcome, and for the line on
 * stderr */
#define GP_DEATHS 32u                /* the last ones are kept */
#define GP_DEATH_BYTES 8192u
#define GP_CALL 128u                 /* bytes of a call in a short form */
#define GP_DEATH_GOROUTINES 120u     /* goroutines that are listed; further ones are only counted */
struct gp_obituary {                 /* inline in a message */
    uint64_t death;                  /* the number of the death: 1, 2, ... */
    uint64_t memory;                 /* the most bytes that the process had resident, 0: not known */
    int32_t pid, status;             /* as of wait(); -1: not known */
    gp_ref task;                     /* the goroutine's task, with its name, labels and creator */
    uint16_t proc;
    /* 1: killed at the time that it had asked for, see gp_proc.kill_at; 2: the same, because of this
     * goroutine */
    uint8_t timed_out;
    uint8_t unstarted;               /* 1: pinned to the process, and not begun there */
};
struct gp_lost {                     /* a goroutine that was lost */
    uint64_t id;
    uint32_t started;                /* 0: it was pinned and had not begun */
    uint32_t waited;                 /* 1: it was blocked in an operation; 0: it ran, or was ready to */
    char name[48];                   /* UTF-8, cut, NUL-terminated */
};
struct gp_death {
    _Atomic uint64_t number;         /* 0: no death, or one that is being written */
    uint64_t when;                   /* ns, CLOCK_MONOTONIC */
    uint64_t memory;                 /* as in gp_obituary, with the next line */
    int32_t pid, status;
    uint32_t proc, incarnation;
    uint32_t timed_out;              /* 1: killed at the time that the process had asked for */
    uint32_t lost;                   /* the number of lost goroutines; the first of them are in the list */
    uint32_t moved;                  /* goroutines that had not begun, and run elsewhere */
    uint32_t again;                  /* goroutines that had begun, and start again elsewhere */
    /* 1: it has ended in order, to be replaced: not a death, and no record is written */
    uint32_t retired;
    gp_ref overdue;                  /* the outcome of the goroutine that it was killed for, 0: none */
    uint32_t candidates;             /* the number of goroutines that may have run at that moment */
    uint64_t candidate;              /* the number of the first of these */
    uint64_t running;                /* the number of the goroutine that ran, 0: none, or not known */
    uint64_t late;                   /* the number of the goroutine that it was killed for, 0: none */
    char call[GP_CALL];              /* the name and arguments of the goroutine that ran, NUL-terminated */
    struct gp_lost goroutine[];
};

/* ---- procs */
enum gp_on_death { GP_DEATH_EXIT = 0, GP_DEATH_RESTART, GP_DEATH_CONTINUE };
enum gp_doomed { GP_LIVES = 0, GP_DOOMED /* by _core.kill() */, GP_DOOMED_QUIETLY /* by _core.end() */ };
enum gp_proc_state {
    GP_P_FREE = 0,
    GP_P_STARTING, /* a worker is to come */
    GP_P_LIVE,     /* attached */
    GP_P_DEAD,     /* the coroner has seen its death, and repairs */
    GP_P_GONE,     /* there is no process, and none is to come */
    GP_P_WANTED,   /* a resize wants a worker here: the coroner has the zygote fork one */
};
enum gp_drop {
    GP_KEPT = 0,
    GP_DROPPED,      /* the worker retires, and gets no replacement */
    GP_DROPPED_GONE, /* the coroner has seen it end */
};
enum gp_retire {
    GP_STAYS = 0,
    GP_RETIRES, /* the worker takes no goroutines, and leaves when it has none */
    GP_LEAVES,  /* it runs its exit handlers */
};
enum gp_quiet {
    GP_LOUD = 0,
    GP_QUIET_DEATHS, /* no line on stderr for a worker that died */
    GP_QUIET_END,    /* nor a report of a death that ends the program: the program is about to end */
};
enum gp_park {
    GP_RUN = 0,
    GP_SPIN,     /* it looks for work without sleeping */
    GP_PARKED,   /* it sleeps, or is about to */
    GP_NOTIFIED, /* a waker has chosen it, and wakes it */
};
/* The operations of the journal, with their operands: see gp_intent_...() in mem.h. */
enum gp_op {
    GP_OP_NONE = 0,
    GP_OP_HANDOFF, /* a=channel b=sudog c=block d=epoch */
    GP_OP_BUFPUT,  /* a=channel c=block d=tail */
    GP_OP_BUFGET,  /* a=channel c=block d=head */
    GP_OP_PROMOTE, /* a=channel b=sudog c=block d=epoch, e=tail */
    GP_OP_TAKE,    /* a=channel b=sudog c=block d=epoch */
    GP_OP_FIRE,    /* a=object b=sudog d=epoch: closing, wait group at zero, goroutine ended */
    /* a=wait group or semaphore b=enum gp_tracker c=task d=`value` (a semaphore's `tail`) after it e=the
     * task's tracker after it */
    GP_OP_TRACK,
    GP_OP_OUTCOME, /* a=goroutine c=the block of its outcome d=state once it has ended e=`task` before it */
    /* a=lock or semaphore b=sudog d=epoch e=value once granted. To redo it: value = e, owner = b's process */
    GP_OP_GRANT,
};
struct gp_journal {              /* op != NONE => the lock of `a` is held by this proc */
    _Atomic uint32_t op, nlocks; /* locks[0..nlocks) are held, or being tried, or being released */
    _Atomic uint64_t a, b, c, d, e;
    /* 0, or a block of refs: further lines with locks that are held, being tried or released */
    _Atomic uint32_t spill;
    uint32_t pad[3];
    _Atomic uint32_t locks[GP_JOURNAL_LOCKS]; /* refs of the lines with the lock words */
};
struct gp_queue {                /* one line; the lock word is at GP_LOCK_AT as in gp_object */
    uint64_t pad0, pad1;
    _Atomic uint32_t lock;
    _Atomic uint32_t head, tail;               /* stealable ring of task numbers: see slots */
    _Atomic uint32_t pinned_head, pinned_tail; /* go.on ring */
    /* goroutines of this proc that have started and not ended; own proc writes */
    _Atomic uint32_t started;
    /* the sizes of the two rings, the moduli of the numbers: 0, or a power of two */
    _Atomic uint32_t slots[2];
    _Atomic uint32_t looked;                   /* 1: this proc has begun to take tasks */
    uint32_t pad2[3];
};
struct gp_proc {
    /* line 0: identity */
    /* enum gp_proc_state: the process itself, the coroner and the host store it */
    _Atomic uint32_t state;
    _Atomic uint32_t incarnation; /* raised by each process that attaches, and by each repair */
    _Atomic int32_t pid;         /* 0: no process, or none that is known */
    uint32_t pad0;
    /* number of a zygote << 32 | pid of the worker that it has forked, 0 = no worker. The worker stores the
     * pid by CAS before its first step here (COMMIT); the coroner stores the rest */
    _Atomic uint64_t claim;
    /* enum gp_drop: the host stores the first two, the coroner the third by CAS. See resize.c */
    _Atomic uint32_t drop;
    _Atomic uint32_t grown;      /* 1: a resize has made this worker, and the worker has not come to life */
    _Atomic uint32_t unborn;     /* errno of the failed fork for that; 0: no fork has failed */
    /* the CPU that the worker is to be bound to, + 1; 0: no CPU. The host stores it */
    _Atomic uint32_t cpu;
    uint32_t pad00[6];
    /* line 1: park (any proc writes) */
    /* enum gp_park; PARKED -> NOTIFIED by the one waker that then wakes the futex */
    _Atomic uint32_t park;
    /* others set it: look around, and at every own waiter's state if header.scans has changed */
    _Atomic uint32_t rescan;
    /* top bitmap level: the bits of those of the 64 middle words that may be non-zero. A hint: waiter.state
     * is the truth */
    _Atomic uint64_t inbox;
    uint32_t pad1[12];
    /* line 2: for the deadlock detector (own proc writes) */
    _Atomic uint64_t act;        /* even = active, odd = quiescent; +1 at every change */
    _Atomic uint32_t ext;        /* 1: a timer will make this proc run */
    _Atomic uint32_t missed;     /* sleeps that ended by their time cap and found work: must stay 0 */
    _Atomic uint64_t committed;  /* bytes of its arena and partition that memory backs */
    /* changes << 32 | plain threads blocked for ever in an operation; any proc writes */
    _Atomic uint64_t threads;
    /* Python threads beside the scheduler's, counted when one of them or the scheduler last blocked */
    _Atomic uint32_t foreign;
    _Atomic uint32_t searched;   /* the latest header.full for which this proc has looked for garbage */
    /* threads.c: all threads beside the scheduler's sleep while `act` and `threads` have these values */
    _Atomic uint64_t asleep_act, asleep_threads;
    uint32_t pad3[2];
    /* line 3: for reclaim.c (own proc writes, but for the last) */
    _Atomic uint64_t heap_moves; /* +1 whenever this proc takes pages, or looks for FREE blocks in them */
    _Atomic uint64_t heap_freed; /* blocks that this proc has released */
    _Atomic uint32_t fenced;     /* 1: the kernel can put a fence into this process */
    uint32_t pad4;
    _Atomic uint64_t heap_moves_seen; /* heap_moves at the last check whether the arena is in use */
    /* the rest of the line is for the coroner (own proc writes) */
    _Atomic uint32_t waiters_used, sudogs_used; /* records of its partition that were ever in use */
    _Atomic uint64_t kill_at;    /* ns; at this time a timer of the kernel kills the process; 0: no time */
    _Atomic uint64_t running;    /* the number of the goroutine that runs; 0: not known, or none */
    _Atomic uint32_t kill_for;   /* the outcome of the goroutine that kill_at is for */
    _Atomic uint16_t doomed;     /* enum gp_doomed: it was told to die; any proc writes */
    /* enum gp_retire; others exchange the first two values, this proc sets the third by CAS */
    _Atomic uint16_t retire;
    struct gp_journal journal;   /* 5 lines, own proc writes */
    struct gp_queue queue;       /* the fields before it keep it line-aligned */
    /* reports, see dump.c */
    /* request << 32 | block with the answer; the proc that made the request exchanges 0 for it and frees the
     * block */
    _Atomic uint64_t dump;
    /* 1: a signal makes this process answer (worker: SIGQUIT, host: SIGURG); 0: no signal may be sent */
    _Atomic uint32_t dumps;
};

struct gp_header {
    /* constants, written before any other proc attaches */
    uint64_t magic;
    uint32_t abi;
    /* places that are, or have been, in use: the number grows up to `room` and never shrinks */
    _Atomic uint32_t nprocs;
    uint64_t bytes;              /* size of the segment */
    uint64_t procs_at, parts_at, part_bytes, heap_at, arena_bytes; /* offsets and strides */
    uint64_t memory;             /* limit on committed bytes, all procs together */
    uint32_t ncpu;               /* CPUs that the program may use: with one, no proc spins */
    uint32_t on_death;           /* enum gp_on_death */
    uint8_t pad_of_head[16];
    uint32_t waiters;            /* of each proc; a multiple of GP_INBOX_LINE */
    uint32_t selects;            /* sudogs of each proc, beyond the one sudog of each waiter */
    uint32_t ring_tasks;         /* the most slots of each of the two queues of a proc: a power of two */
    uint32_t quiet_deaths;       /* enum gp_quiet */
    uint32_t room;               /* places that the segment is laid out for */
    _Atomic uint32_t workers;    /* that the program has: 1 to this number. The host stores it: resize.c */
    uint8_t pad0[8];
    /* line 2 on: mutable */
    _Atomic uint32_t crash_epoch;/* odd = a repair is under way */
    _Atomic uint32_t stop;       /* 1: every proc leaves */
    /* proc + 1 of the process that reports and ends the program, or GP_FATAL_OTHER; set once by CAS, so that
     * there is one coherent report. A proc may pass it on to another that ends the program in its place */
    _Atomic uint32_t fatal;
    /* the status of the program's end once `fatal` is set; GP_FATAL_SAID: the report is out */
    _Atomic int32_t exit_status;
    _Atomic uint32_t failed;     /* errno of a fork that failed, with the proc in failed_proc */
    _Atomic uint32_t failed_proc;
    _Atomic uint32_t full;       /* +1 whenever a process runs out of memory: the others look for garbage */
    _Atomic uint32_t zygotes;    /* number of the zygote that forks workers now: 1, 2, ... */
    _Atomic uint32_t zygote_lost;/* 1: the zygote has died, and the host is to start another */
    uint32_t pad1;
    /* the time that the coroner took for the last repair; the program went on meanwhile */
    _Atomic uint64_t repair_ns;
    uint32_t pad1b[4];
    /* bit p: proc p is parked, or about to be. A worker wants work then; the host (bit 0, beside workers)
     * takes none */
    _Atomic uint64_t idle[GP_MAX_PROCS / 64];
    /* bit p: worker p looks for work without being parked, or is woken to do so: at most one is woken per
     * submission */
    _Atomic uint64_t searching[GP_MAX_PROCS / 64];
    _Atomic uint32_t live;       /* attached procs: those without an idle bit run */
    /* +1 by the coroner: every proc is to look at its own waiters, as some may not have been told */
    _Atomic uint32_t scans;
    _Atomic uint64_t deaths;     /* the number of deaths so far, which is the number of the last one */
    uint32_t pad2[12];
    _Atomic uint64_t next_id;    /* the next goroutine number; procs take batches */
    _Atomic uint64_t collect;    /* weight of all dropped handles of shared objects */
    _Atomic uint64_t collected;  /* that weight at the start of the last collection */
    /* the further weight that makes the next collection worth its time; 0: not set */
    _Atomic uint32_t collect_after;
    _Atomic uint32_t collecting; /* lock word of the one process that collects, else 0 */
    _Atomic uint32_t asleep;     /* 1: all goroutines are asleep, and the host is to report it */
    /* lock word of the one process that gives free memory back to the system, else 0 */
    _Atomic uint32_t reclaiming;
    _Atomic uint64_t collect_seen; /* `collect`, at the last look of an idle process */
    _Atomic uint64_t heap_trimmed; /* the time at which an idle process last looked for free memory, ns */
    /* moves, releases and drops of all procs at that time, if the process gave all free memory back */
    _Atomic uint64_t heap_changes;
    /* a line of its own: the lock word at GP_LOCK_AT guards the links of all contexts */
    struct {
        uint64_t pad0, pad1;
        _Atomic uint32_t lock;
        uint32_t pad2[11];
    } tree;
    /* reports, see dump.c */
    _Atomic uint32_t main_gone;  /* 1: main has called goexit(), and the program goes on without it */
    /* 1: main has reported its panic and runs exit handlers: a process that waits for the end may stop
     * waiting */
    _Atomic uint32_t ending;
    _Atomic uint32_t dumping;    /* lock word of the process that collects a dump, else 0 */
    _Atomic uint32_t dump_last;  /* number of the last request for a dump */
    _Atomic uint32_t dump_wanted;/* the request that waits for answers, else 0 */
    _Atomic uint32_t survives;   /* 1: the host goes on when the runtime ends by a panic or a death */
    /* the reason of that end, in words, NUL-terminated; the process that has set `fatal` writes it */
    char reason[GP_REASON];
};

#define GP_DEATHS_AT (GP_PROCS_AT + (uint64_t)GP_MAX_PROCS * GP_PROC_BYTES)

/* offsets inside a partition */
#define GP_PART_INBOX_MID 0u                           /* 64 words */
/* GP_WAITERS bits, a line of 8 words for each bit of a middle word */
#define GP_PART_INBOX 4096u
#define GP_PART_WAITERS (GP_PART_INBOX + GP_WAITERS / 8)
/* one for each waiter, then those for the cases of selects */
static inline uint64_t gp_part_sudogs(uint32_t waiters) {
    return GP_PART_WAITERS + sizeof(struct gp_waiter) * (uint64_t)waiters;
}
/* ring_tasks refs of stealable tasks */
static inline uint64_t gp_part_tasks(uint32_t waiters, uint32_t selects) {
    return gp_part_sudogs(waiters) + sizeof(struct gp_sudog) * ((uint64_t)waiters + selects);
}
/* ring_tasks refs of pinned tasks */
static inline uint64_t gp_part_pinned(uint32_t waiters, uint32_t selects, uint32_t ring_tasks) {
    return gp_part_tasks(waiters, selects) + sizeof(gp_ref) * (uint64_t)ring_tasks;
}
static inline uint64_t gp_part_end(uint32_t waiters, uint32_t selects, uint32_t ring_tasks) {
    return gp_part_pinned(waiters, selects, ring_tasks) + sizeof(gp_ref) * (uint64_t)ring_tasks;
}

_Static_assert(sizeof(struct gp_message) == 64, "a message is one line");
_Static_assert(sizeof(struct gp_obituary) <= GP_INLINE, "an obituary is inline");
_Static_assert(sizeof(struct gp_death) + GP_DEATH_GOROUTINES * sizeof(struct gp_lost) <= GP_DEATH_BYTES,
               "a death fits");
_Static_assert(sizeof(struct gp_object) == 128, "an object is two lines");
_Static_assert(offsetof(struct gp_object, lock) == GP_LOCK_AT, "the lock word of an object");
_Static_assert(offsetof(struct gp_queue, lock) == GP_LOCK_AT, "the lock word of a queue");
_Static_assert(offsetof(struct gp_header, tree.lock) - offsetof(struct gp_header, tree) == GP_LOCK_AT,
               "the lock word of the tree");
_Static_assert(GP_MAX_PROCS + 1 < GP_WORD_PROC,
               "a number for each proc, the observer and the coroner in a lock word");
_Static_assert(offsetof(struct gp_object, holders) == 64, "line 0 is the hot one");
_Static_assert(offsetof(struct gp_object, owner) == 120, "tests overwrite it");
_Static_assert(sizeof(struct gp_waiter) == 64 && sizeof(struct gp_sudog) == 128, "records fill lines");
_Static_assert(sizeof(struct gp_queue) == 64 && offsetof(struct gp_proc, queue) % 64 == 0,
               "queue is one line");
_Static_assert(sizeof(struct gp_proc) <= GP_PROC_BYTES && sizeof(struct gp_header) <= GP_PROCS_AT, "pages");
_Static_assert(offsetof(struct gp_header, crash_epoch) == 128, "mutable part on its own lines");
_Static_assert(offsetof(struct gp_proc, waiters_used) == 224, "tests overwrite it");
_Static_assert(offsetof(struct gp_header, tree) % 64 == 0, "the tree's lock is one line");
_Static_assert(GP_WAITERS + GP_SELECTS < (1u << GP_SUDOG_BITS), "sudog reference");
_Static_assert(GP_MAX_PROCS <= (1u << (32 - GP_SUDOG_BITS)), "sudog reference");
_Static_assert(GP_WAITERS <= 64 * 64 * GP_INBOX_LINE, "inbox");

#endif
