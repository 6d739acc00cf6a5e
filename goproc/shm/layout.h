/* layout.h - the one definition of the shared segment: structs, sizes, and the invariant of every field.
 *
 * One sealed memfd is mapped by every proc, at any address. Nothing in it is a pointer: a place in the
 * segment is a `ref`, its offset divided by 64 (GP_LINE), so 32 bits reach 256 GiB and ref 0 (the header)
 * serves as "none".
 *
 *   header      4 KiB
 *   procs       GP_MAX_PROCS x 4 KiB        one per proc: park word, journal, task queue, counters
 *   deaths      GP_DEATHS x 8 KiB           how workers died, and what was lost with them
 *   partitions  one per proc                 inbox bitmap, waiters, sudogs, task rings; written by their proc,
 *                                            except waiter.state (CAS), inbox (fetch_or), sudog links (channel lock)
 *   arenas      one per proc                 the heap: page descriptors, then 64 KiB pages of blocks and extents
 *
 * The segment is sparse. A range is backed with memory before its first use, so a full machine gives an error, never SIGBUS.
 *
 * Crash rule: a killed proc has executed a prefix of its instruction stream. Every transition becomes visible
 * by ONE atomic store or CAS (marked COMMIT where it happens); what precedes it is private or unreachable,
 * what follows can be redone from the proc's journal record. Stores therefore go through the gp_set/gp_get
 * helpers (atomics), which also keep the compiler from reordering them where the order matters.
 */
#ifndef GP_LAYOUT_H
#define GP_LAYOUT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define GP_MAGIC 0x31636f72706f67ULL /* "goproc1" */
#define GP_ABI 10u                   /* raised with every change of this file */
#define GP_LINE 64u
#define GP_MAX_PROCS 256u
#define GP_OBSERVER GP_MAX_PROCS     /* in place of a proc's number: a command that looks at the segment from outside */
#define GP_PROC_BYTES 4096u
/* The most that the tables of a proc hold. The segment is sparse and they take memory as they fill, so only the address
 * space is a reason for less: see gp_header. */
#define GP_WAITERS 2097152u          /* goroutines of one proc that can be blocked at once: 64 * 64 * 512, see GP_INBOX_LINE */
#define GP_SELECTS 8388608u          /* sudogs of one proc for the cases of its selects */
#define GP_RING_TASKS 8388608u       /* unstarted goroutines queued on one proc; in the host's queue, for any worker */
#define GP_LEAST 262144u             /* of each, where address space is short */
#define GP_INBOX_LINE 512u           /* waiters whose inbox bits are in one line, and have one bit in a middle word */
#define GP_PAGE 65536u
#define GP_JOURNAL_LOCKS 64u
#define GP_INLINE 56u
#define GP_REASON 256u
#define GP_FATAL_OTHER 0xffffu       /* in place of a proc + 1: the coroner, or who ends the program without Python */
#define GP_STATUS 0x1ff              /* of exit_status: the status itself, or a signal beside GP_BY_SIGNAL */
#define GP_FATAL_SAID 0x200          /* beside the status: the report is out */

typedef uint32_t gp_ref;

/* ---- owner tags: 8 bits of kind, 56 bits of value. The store of a tag IS the allocation, move or release. */
enum gp_tag_kind {
    GP_TAG_FREE = 0,
    GP_TAG_PROC = 1,   /* value: incarnation << 16 | proc + 1     */
    GP_TAG_CHAN = 2,   /* value: ref of the channel whose ring holds it */
    GP_TAG_PART = 3,   /* value: ref of the block it is a buffer of; it lives and dies with that block */
    GP_TAG_QUEUE = 4,  /* a task no proc has claimed yet */
    GP_TAG_RESULT = 5, /* value: ref of the goroutine object whose outcome it holds */
    GP_TAG_DEFINITION = 6, /* lives as long as the segment */
    GP_TAG_TAKEN = 7,  /* a FREE extent: who has stored this, the arena's owner or a proc that gives it back, has it */
};
#define GP_TAG(kind, value) (((uint64_t)(kind) << 56) | (uint64_t)(value))
#define GP_TAG_KIND(tag) ((unsigned)((tag) >> 56))
#define GP_TAG_VALUE(tag) ((tag) & ((1ULL << 56) - 1))

/* ---- a message: the slot of a ring, the cargo of a sudog. Copied once, then checked, then used. */
enum gp_codec {
    GP_CODEC_NONE = 0,
    GP_CODEC_FALSE,
    GP_CODEC_TRUE,
    GP_CODEC_INT,    /* int64 */
    GP_CODEC_FLOAT,  /* double */
    GP_CODEC_STR,    /* UTF-8 */
    GP_CODEC_BYTES,
    GP_CODEC_PLAIN,  /* nested tuples, lists, dicts of the above and of handles: see codec.c */
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
    _Atomic uint64_t tag;    /* owner; FREE means the arena's owner may reuse it */
    _Atomic uint64_t len;    /* GP_BLOCK_* flags << 56 | payload bytes; written by the owner */
};
#define GP_BLOCK_HEAD 16u
#define GP_BLOCK_ALIGNED 1u  /* payload starts at byte 64, not 16: for buffers that are mapped by their reader */
#define GP_BLOCK_HANDLES 2u  /* payload starts with u32 count and as many object refs (struct gp_handles) */
#define GP_BLOCK_TASK 4u     /* payload is a struct gp_task */
#define GP_BLOCK_REFERENCE 8u /* payload is a struct gp_reference; a PART block */

struct gp_handles {
    uint32_t count;
    gp_ref object[];
};
struct gp_pickle {           /* payload of GP_CODEC_PICKLE, after the handles if there are any */
    uint32_t buffers;        /* out-of-band buffers: as many refs of PART blocks follow */
    uint32_t pad;
    uint64_t main;           /* bytes of the pickle, which follows the refs */
    gp_ref buffer[];
};

struct gp_reference {        /* a buffer of a pickle that is memory of a copy; the message lists that among its handles */
    gp_ref object;           /* the copy */
    uint32_t gen;
    gp_ref block;            /* of its message, or a PART of it */
    uint32_t pad;
    uint64_t offset, len;    /* in the payload of `block` */
};

enum {
    GP_CLASS_OBJECT = 1,
    GP_CLASS_FIRST = 2,   /* the first of the size classes, see heap.c */
    GP_CLASS_IDLE = 59,   /* free, with memory */
    GP_CLASS_HOLE = 60,   /* free, without */
    GP_CLASS_TAKING = 61, /* somebody gives it back to the system: | what it was << 8 | proc + 1 << 16 */
    GP_CLASS_EXTENT = 62, /* the first page of one */
    GP_CLASS_INNER = 63,  /* further pages of an extent; a page that its owner is about to use */
};
struct gp_page {             /* one per 64 KiB page of an arena; pages.h says who may change it */
    _Atomic uint32_t cls;    /* 0 = never used */
    _Atomic uint32_t pages;  /* of an extent: its length in pages */
    _Atomic uint32_t gen;    /* where its next objects begin: at the highest that an object here has had */
    uint32_t pad;
};

/* ---- objects: channels, wait groups, atomics, goroutine outcomes. 128 bytes in pages of their own class. `gen` survives
 * reuse, also where the page was something else meanwhile (gp_page.gen), so that a stale handle is always recognised. */
enum gp_kind {
    GP_KIND_CHAN = 1, /* also timers (GP_OBJ_TIMER) and contexts (GP_OBJ_CONTEXT): both are what one receives from */
    GP_KIND_WAITGROUP,
    GP_KIND_ATOMIC,
    GP_KIND_GOROUTINE,
    GP_KIND_MUTEX,
    GP_KIND_ONCE,     /* a mutex with GP_OBJ_DONE */
    GP_KIND_RWMUTEX,
    GP_KIND_COND,
    GP_KIND_SEMAPHORE,
    GP_KIND_BARRIER,
    GP_KIND_COPY,     /* ring: its message; value: how many bytes that takes; proc: who made it, plus 1 */
    GP_KINDS
};
enum gp_object_flags {
    GP_OBJ_CLOSED = 1,  /* channel: set once, under the lock; context: it is done */
    GP_OBJ_SHARED = 2,  /* a handle was put into a message: only the collector may free the object */
    GP_OBJ_BOOL = 4,    /* atomic: holds a bool */
    GP_OBJ_CANCEL = 8,  /* goroutine: cancel() was called */
    GP_OBJ_TIMER = 16,  /* channel: a timer; nobody sends, a receive at or after `value` makes the message itself */
    GP_OBJ_CONTEXT = 32, /* channel: a node of the tree of contexts; closed when it is done */
    GP_OBJ_WOKEN = 64,  /* mutex: a waiter was told to try again and has not yet; the coroner clears it for a dead one */
    GP_OBJ_DONE = 128,  /* once: its function has run; channel of one message (GP_OBJ_ONCE): a waiting receiver has got it */
    GP_OBJ_INHERITED = 512, /* context: its end came from its parent's, and so does the cause */
    GP_OBJ_PROMISE = 1024, /* goroutine: there is none, only an outcome that somebody sets */
    GP_OBJ_ONCE = 2048, /* channel: whoever sends looks first whether its one message was sent */
    GP_OBJ_FUNC = 256,  /* timer: proc `owner` runs a function when it is due, and is nudged when it changes */
};
#define GP_OBJ_LAZY (GP_OBJ_TIMER | GP_OBJ_CONTEXT) /* becomes ready by the clock alone: whoever waits for it looks */
enum gp_goroutine_state { GP_G_QUEUED = 0, GP_G_RUNNING, GP_G_OK, GP_G_FAILED, GP_G_DEAD };

struct gp_object {
    /* line 0: all that an uncontended operation touches */
    _Atomic uint64_t tag;        /* as in gp_block; PROC(creator) while live */
    _Atomic uint32_t gen;        /* +1 at every release; a handle is valid iff its gen is equal */
    _Atomic uint16_t kind;       /* enum gp_kind */
    _Atomic uint16_t flags;      /* enum gp_object_flags */
    _Atomic uint32_t lock;       /* 0 = free, else WAITERS:1 | incarnation:21 | proc+1:10; only its holder (or the coroner
                                    for a dead holder) writes the fields below */
    uint32_t cap;                /* channel: capacity; constant */
    _Atomic uint64_t head, tail; /* channel: messages taken / put since creation; 0 <= tail - head <= cap; wait group: number
                                    of the last death that it was told of, and how many goroutines it has lost; semaphore: head is
                                    units that came back from the dead, and that the living may give back once more */
    _Atomic uint32_t recvq_first, recvq_last; /* sudogs, FIFO; `next` from first is the truth, `last` and `prev` are caches */
    _Atomic uint32_t sendq_first; /* at least one of the two queues has no WAITING entry (but for a select on both) */
    union {
        _Atomic uint32_t sendq_last;
        _Atomic uint32_t ctx_pins; /* context: children that exist; it is not freed before them. Under the tree's lock */
    };
    gp_ref ring;                 /* channel: block with cap messages; goroutine: its outcome; context: the cause; rwmutex and
                                    semaphore: block with an int64 for each proc, how many readers or units are its: sync.c */
    union {
        _Atomic uint32_t state;    /* goroutine: enum gp_goroutine_state; copy: GP_G_OK once it has its message */
        _Atomic uint32_t ctx_prev; /* context: sibling, while it is in its parent's list; under the tree's lock */
    };
    /* line 1 */
    _Atomic uint64_t holders[GP_MAX_PROCS / 64]; /* bit p: proc p has at least one handle */
    _Atomic int64_t value;       /* under the lock, but for atomics: wait group: counter; atomic: the value; goroutine: 1 once
                                    its outcome was read; mutex: 1 = locked; rwmutex: readers, -1 = a writer; semaphore: units
                                    free; barrier: how many wait; timer: when it is due, ns, 0 = never; context: enum gp_done */
    union {
        _Atomic uint64_t id;     /* goroutine: its number; main is 1 */
        _Atomic uint64_t size;   /* semaphore: units in all; constant */
        _Atomic uint64_t period; /* timer: ns between ticks, 0 = once */
        _Atomic uint64_t due;    /* context: the earliest deadline of it and its ancestors, ns, 0 = none; constant */
    };
    _Atomic uint32_t holders_version; /* +1 whenever a holder bit is set: the collector's double collect */
    union {
        gp_ref task;                 /* goroutine: its task block, while it is queued or running; promise: the block for its
                                        outcome, until that is set */
        _Atomic uint32_t ctx_parent; /* context: for its whole life; 0 = none */
    };
    union {
        _Atomic uint32_t proc;      /* goroutine: proc + 1 that runs it */
        _Atomic uint32_t owner;     /* locks: lock word of the process that holds it, 0 = none; func timer: proc + 1 */
        _Atomic uint32_t ctx_child; /* context: first of its children that are not done; under the tree's lock */
    };
    union {
        gp_ref site;               /* goroutine: where it was created, as in gp_task */
        _Atomic uint32_t ctx_next; /* context: sibling */
    };
};
enum gp_done { GP_LIVE = 0, GP_CANCELED = 1, GP_DEADLINE = 2 }; /* further codes are Python's */

/* ---- waiting */
enum gp_wait_tag { GP_W_IDLE = 0, GP_W_WAITING, GP_W_FIRED, GP_W_CLOSED, GP_W_CANCELLED, GP_W_DEAD,
                   GP_W_RETRY /* nothing was done: look again, something has changed */ };
#define GP_W(epoch, cas, tag) (((uint64_t)(epoch) << 24) | ((uint64_t)(cas) << 8) | (uint64_t)(tag))
#define GP_W_TAG(state) ((unsigned)((state) & 0xff))
#define GP_W_CASE(state) ((unsigned)(((state) >> 8) & 0xffff))
#define GP_W_EPOCH(state) ((uint64_t)((state) >> 24))

struct gp_waiter {               /* 64 bytes: one blocked goroutine (or thread) */
    _Atomic uint64_t state;      /* epoch:40 | case:16 | tag:8; leaves WAITING exactly once per epoch, by one CAS, by the holder
                                    of the fired case's lock or (to CANCELLED) by its own proc. Low word is a thread's futex. */
    _Atomic uint32_t thread;     /* enum gp_thread: a goroutine is told through the inbox, a plain thread sleeps on `state` */
    _Atomic uint32_t rethink;    /* 1: wake only to compute the deadline again (a timer was reset); the waiter stays queued */
    _Atomic uint64_t goroutine;  /* its number, for reports */
    _Atomic uint32_t watch;      /* GP_WATCHED: the waiter of this proc that collects this one; constant while armed */
    _Atomic uint32_t next;       /* GP_WATCHED, fired: the one that fired before it, + 1; 0 = none. Its teller writes */
    _Atomic uint32_t fired;      /* of a collecting waiter: the one that fired last, + 1; 0 = none. Tellers push, it takes all */
    uint32_t place;              /* GP_WATCHED: index in the list of the collector (own proc) */
    _Atomic uint32_t teller;     /* lock word of a process. GP_WATCHED: that pushes it, or has; 0 = none yet */
    uint32_t rest[5];
};
enum gp_thread {
    GP_GOROUTINE = 0,
    GP_THREAD,         /* not in gp_proc.threads: it runs, or its wait ends by itself */
    GP_THREAD_BLOCKED, /* counted in gp_proc.threads; whoever moves it on from this uncounts it */
    GP_THREAD_TELLING, /* the process `teller` moves it on, and may not have uncounted it yet */
    GP_THREAD_TOLD,
    GP_WATCHED,        /* nobody sleeps in it: it goes to the waiter `watch`, see watch.c */
};
struct gp_sudog {                /* 128 bytes: one case of one blocked operation */
    _Atomic gp_ref object;       /* 0 = unused; the coroner reads it without the lock of that object */
    uint32_t gen;
    uint32_t waiter;             /* index into the waiters of `proc` */
    uint16_t proc;
    uint16_t cas;                /* case number in a select, else 0 */
    uint64_t epoch;              /* of the waiter, when this was linked; another value = stale */
    _Atomic uint32_t next, prev; /* sudog references: proc << 24 | index + 1; written under the object's lock */
    uint32_t send;               /* 1 on sendq, 0 on recvq */
    _Atomic uint32_t linked;     /* 1 while reachable from its queue (own proc, or the lock holder); stored after `object` */
    uint64_t n;                  /* semaphore: units wanted; barrier: its place, set when it is released */
    uint64_t since;              /* mutex: when the wait began, ns: decides on hand-off */
    uint64_t rest;
    struct gp_message msg;       /* sender: what it offers; receiver: written by the sender before its COMMIT */
};
#define GP_SUDOG_BITS 24u

/* ---- tasks: goroutines that have not started. A heap block (GP_BLOCK_TASK); its tag is the truth about who has it,
 * the rings only hold hints. It stays allocated, owned by its proc, until the goroutine ends; then it goes, or holds the
 * outcome for the handles. */
#define GP_TASK_NAME 60u
#define GP_TASK_LABELS 8192u         /* bytes of labels that reports show */
enum gp_tracker {
    GP_TRACK_COUNT,  /* a wait group, which counts it */
    GP_TRACK_PLACE,  /* a semaphore, of which it has a unit */
    GP_TRACK_GROUP,  /* a context, which is cancelled if it fails */
    GP_TRACKERS
};
struct gp_task {
    struct gp_message call;      /* what to call, and once it has begun, the first bytes of that; where the goroutine has ended, its outcome: that then needs no memory */
    uint64_t id;                 /* goroutine number */
    uint64_t parent;             /* number of the goroutine that created it */
    gp_ref object;               /* its outcome */
    uint32_t gen;
    gp_ref site;                 /* where it was created: a DEFINITION block with text */
    uint16_t creator;            /* proc */
    uint16_t pinned;             /* enum gp_pinned */
    _Atomic uint32_t started;    /* enum gp_started: what becomes of it when its proc dies */
    _Atomic uint32_t tracker[GP_TRACKERS]; /* who is to be told of its end, also where its process dies; 0: told, or nobody */
    char name[GP_TASK_NAME];     /* UTF-8, cut, NUL-terminated */
    _Atomic uint16_t retries;    /* how often it may be started again after it was lost with its process; while it is not 0,
                                    `call` stays as it is */
    _Atomic uint16_t lost;       /* how often it was */
    int32_t lost_with;           /* pid of the last of these processes */
};                               /* behind it, as far as the block goes: its labels as a report has them */

enum gp_pinned { GP_ANYWHERE = 0, GP_PINNED /* go.on: never stolen */, GP_LOCAL, /* go.local: shares memory with its creator */
                 GP_PINNED_ALWAYS /* as GP_PINNED; it begins in a reserved process, too (tasks.c) */ };
enum gp_started { GP_UNSTARTED = 0, GP_STARTED, GP_UNMADE /* its creator has not filled it in yet */ };

/* ---- deaths: written by the coroner, for whoever reads the outcome of a lost goroutine, and for the line on stderr */
#define GP_DEATHS 32u                /* the last ones are kept */
#define GP_DEATH_BYTES 8192u
#define GP_CALL 128u                 /* bytes of a call in a short form */
#define GP_DEATH_GOROUTINES 120u     /* that are listed; more are only counted */
struct gp_obituary {                 /* inline in a message */
    uint64_t death;                  /* its number: 1, 2, ... */
    uint64_t memory;                 /* bytes that the process had resident at most, 0: not known */
    int32_t pid, status;             /* as of wait(); -1: not known */
    gp_ref task;                     /* of the goroutine: its name, labels and creator */
    uint16_t proc;
    uint8_t timed_out;               /* 1: it was killed at the time that it had asked for, see gp_proc.kill_at; 2: for this goroutine */
    uint8_t unstarted;               /* 1: pinned to the process, and not begun there */
};
struct gp_lost {                     /* a goroutine */
    uint64_t id;
    uint32_t started;                /* 0: it was pinned and had not begun */
    uint32_t waited;                 /* 1: it was blocked in an operation; 0: it ran, or was ready to */
    char name[48];                   /* UTF-8, cut, NUL-terminated */
};
struct gp_death {
    _Atomic uint64_t number;         /* 0: nothing, or it is being written */
    uint64_t when;                   /* ns, CLOCK_MONOTONIC */
    uint64_t memory;
    int32_t pid, status;
    uint32_t proc, incarnation;
    uint32_t timed_out;
    uint32_t lost;                   /* goroutines; the first of them are in the list */
    uint32_t moved;                  /* goroutines that had not begun, and run elsewhere */
    uint32_t again;                  /* goroutines that had begun, and start again elsewhere */
    uint32_t retired;                /* 1: it has ended in order, to be replaced: no death, and no record is written */
    gp_ref overdue;                  /* the outcome of the goroutine that it was killed for, 0: none */
    uint32_t candidates;             /* goroutines that may have run at that moment */
    uint64_t candidate;              /* the number of the first of these */
    uint64_t running;                /* the number of the one that ran, 0: none, or not known */
    uint64_t late;                   /* the number of the one that it was killed for, 0: none */
    char call[GP_CALL];              /* of the one that ran: its name and arguments, NUL-terminated */
    struct gp_lost goroutine[];
};

/* ---- procs */
enum gp_on_death { GP_DEATH_EXIT = 0, GP_DEATH_RESTART, GP_DEATH_CONTINUE };
enum gp_proc_state { GP_P_FREE = 0, GP_P_STARTING, GP_P_LIVE, GP_P_DEAD, GP_P_GONE };
enum gp_retire { GP_STAYS = 0, GP_RETIRES /* takes no goroutines; leaves when it has none */, GP_LEAVES /* runs its exit handlers */ };
enum gp_park { GP_RUN = 0, GP_SPIN, GP_PARKED, GP_NOTIFIED };
enum gp_op {
    GP_OP_NONE = 0,
    GP_OP_HANDOFF, /* a=channel b=sudog c=block d=epoch */
    GP_OP_BUFPUT,  /* a=channel c=block d=tail */
    GP_OP_BUFGET,  /* a=channel c=block d=head */
    GP_OP_PROMOTE, /* a=channel b=sudog c=block d=epoch, e=tail */
    GP_OP_TAKE,    /* a=channel b=sudog c=block d=epoch */
    GP_OP_FIRE,    /* a=object b=sudog d=epoch: closing, wait group at zero, goroutine ended */
    GP_OP_TRACK,   /* a=wait group or semaphore b=enum gp_tracker c=task d=value then e=what the task's tracker is then */
    GP_OP_OUTCOME, /* a=goroutine c=its task, or the block of a promise d=state once it has ended */
    GP_OP_GRANT,   /* a=lock or semaphore b=sudog d=epoch e=value once granted: redo is value = e, owner = b's process */
};
struct gp_journal {              /* op != NONE => the lock of `a` is held by this proc */
    _Atomic uint32_t op, nlocks; /* locks[0..nlocks) are held, or being tried, or being released */
    _Atomic uint64_t a, b, c, d, e;
    _Atomic uint32_t spill;      /* 0, or a block of refs: further lines whose locks are held, being tried or released */
    uint32_t pad[3];
    _Atomic uint32_t locks[GP_JOURNAL_LOCKS]; /* refs of the lines whose lock word (byte 16) is meant */
};
struct gp_queue {                /* one line; the lock word is at byte 16 as in gp_object */
    uint64_t pad0, pad1;
    _Atomic uint32_t lock;
    _Atomic uint32_t head, tail;               /* stealable ring: numbers of tasks: see slots */
    _Atomic uint32_t pinned_head, pinned_tail; /* go.on ring */
    _Atomic uint32_t started;                  /* goroutines of this proc that have started and not ended; own proc writes */
    _Atomic uint32_t slots[2];                 /* of the two rings, that is to say their modulus: 0, or a power of two */
    _Atomic uint32_t looked;                   /* 1: this proc has begun to take tasks */
    uint32_t pad2[3];
};
struct gp_proc {
    /* line 0: who (host and zygote write) */
    _Atomic uint32_t state, incarnation;
    _Atomic int32_t pid;
    uint32_t pad0;
    _Atomic uint64_t claim;      /* number of a zygote << 32 | pid of the worker that it has forked, 0 = none yet. The worker
                                    stores the pid by CAS before it does anything else here (COMMIT); the coroner the rest */
    uint32_t pad00[10];
    /* line 1: park (any proc writes) */
    _Atomic uint32_t park;       /* enum gp_park; PARKED -> NOTIFIED by the one waker that then wakes the futex */
    _Atomic uint32_t rescan;     /* set by others: look around; and at every own waiter's state, if header.scans has changed */
    _Atomic uint64_t inbox;      /* top bitmap level: which of the 64 middle words may be non-zero. A hint: waiter.state is the truth */
    uint32_t pad1[12];
    /* line 2: for the deadlock detector (own proc writes) */
    _Atomic uint64_t act;        /* even = active, odd = quiescent; +1 at every change */
    _Atomic uint32_t ext;        /* 1: a timer will make it run */
    _Atomic uint32_t missed;     /* sleeps that ended by their time cap and found work: must stay 0 */
    _Atomic uint64_t committed;  /* bytes of its arena and partition backed by memory */
    _Atomic uint64_t threads;    /* changes << 32 | plain threads blocked for ever in an operation; any proc writes */
    _Atomic uint32_t foreign;    /* Python threads beside the scheduler's, when it or one of them last blocked */
    _Atomic uint32_t searched;   /* the latest header.full for which it has looked for garbage */
    /* threads.c: all threads beside the scheduler's sleep for as long as `act` and `threads` have these values */
    _Atomic uint64_t asleep_act, asleep_threads;
    uint32_t pad3[2];
    /* line 3: for reclaim.c (own proc writes, but for the last) */
    _Atomic uint64_t heap_moves; /* +1 whenever it takes pages, or looks for FREE blocks in them */
    _Atomic uint64_t heap_freed; /* blocks that it has released */
    _Atomic uint32_t fenced;     /* 1: the kernel can put a fence into this process */
    uint32_t pad4;
    _Atomic uint64_t heap_moves_seen; /* by the last look whether its arena is in use */
    /* the rest of the line is for the coroner (own proc writes) */
    _Atomic uint32_t waiters_used, sudogs_used; /* records of its partition that have ever been in use */
    _Atomic uint64_t kill_at;    /* ns; a timer of the kernel's kills it then; 0: none */
    _Atomic uint64_t running;    /* number of the goroutine that runs; 0: not known, or none */
    _Atomic uint32_t kill_for;   /* the outcome of the goroutine that kill_at is about */
    _Atomic uint16_t doomed;     /* 1: it was told to die, by _core.kill(); any proc writes */
    _Atomic uint16_t retire;     /* enum gp_retire; others exchange the first two, it goes on to the third by CAS */
    struct gp_journal journal;   /* 5 lines, own proc writes */
    struct gp_queue queue;       /* line-aligned by what precedes it */
    /* reports, see dump.c */
    _Atomic uint64_t dump;       /* request << 32 | block with the answer; who made that request exchanges 0 for it and frees the block */
    _Atomic uint32_t dumps;      /* 1: a signal makes this process answer (worker: SIGQUIT, host: SIGURG); else it must not be sent */
};

struct gp_header {
    /* constants, written before any other proc attaches */
    uint64_t magic;
    uint32_t abi, nprocs;
    uint64_t bytes;              /* of the segment */
    uint64_t procs_at, parts_at, part_bytes, heap_at, arena_bytes; /* offsets and strides */
    uint64_t memory;             /* limit on committed bytes, all procs together */
    uint32_t ncpu;               /* CPUs the program may use: decides whether spinning is allowed */
    uint32_t on_death;
    uint8_t nonce[16];
    uint32_t waiters;            /* of each proc: a multiple of GP_INBOX_LINE */
    uint32_t selects;            /* sudogs beyond those that belong to the waiter of the same index */
    uint32_t ring_tasks;         /* the most slots of each of its two queues: a power of two */
    uint32_t quiet_deaths;       /* 1: no line on stderr for a worker that died */
    uint8_t pad0[16];
    /* line 2 on: mutable */
    _Atomic uint32_t crash_epoch;/* odd = repair running */
    _Atomic uint32_t stop;       /* 1: every proc leaves */
    _Atomic uint32_t fatal;      /* who reports and ends the program: proc + 1, or GP_FATAL_OTHER; set once by CAS, so that
                                    there is one coherent report. May pass from a proc on to one that ends it in its place */
    _Atomic int32_t exit_status; /* what the program ends with once `fatal` is set; GP_FATAL_SAID: the report is out */
    _Atomic uint32_t failed;     /* errno of a fork that failed, with the proc in failed_proc */
    _Atomic uint32_t failed_proc;
    _Atomic uint32_t full;       /* +1 whenever a process has no memory left: the others look for garbage */
    _Atomic uint32_t zygotes;    /* number of the zygote that forks workers now: 1, 2, ... */
    _Atomic uint32_t zygote_lost;/* 1: it has died, and the host is to start another */
    uint32_t pad1;
    _Atomic uint64_t repair_ns;  /* what the coroner took for the repair of the last death; the program went on meanwhile */
    uint32_t pad1b[4];
    _Atomic uint64_t idle[GP_MAX_PROCS / 64]; /* bit p: proc p is parked, or about to be. A worker wants work then; the host
                                                 (bit 0, beside workers) takes none */
    _Atomic uint64_t searching[GP_MAX_PROCS / 64]; /* workers that look for work without being parked, or are woken to do so:
                                                      at most one is woken per submission */
    _Atomic uint32_t live;       /* procs that are attached: those without an idle bit run */
    _Atomic uint32_t scans;      /* +1 by the coroner: every proc is to look at its own waiters, some may not have been told */
    _Atomic uint64_t deaths;     /* so far; the number of the last one */
    uint32_t pad2[12];
    _Atomic uint64_t next_id;    /* goroutine numbers, handed out in batches */
    _Atomic uint64_t collect;    /* weight of all handles of shared objects dropped so far */
    _Atomic uint64_t collected;  /* that weight at the start of the last collection */
    _Atomic uint32_t collect_after; /* how much more makes the next one worth it; 0: not set yet */
    _Atomic uint32_t collecting; /* lock word of the one process that collects, else 0 */
    _Atomic uint32_t asleep;     /* 1: all goroutines are; the host is to report it */
    _Atomic uint32_t reclaiming; /* lock word of the one process that gives free memory back to the system, else 0 */
    _Atomic uint64_t collect_seen; /* `collect`, at the last look of an idle process */
    _Atomic uint64_t heap_trimmed; /* when an idle process last looked for free memory, ns */
    _Atomic uint64_t heap_settled; /* moves, releases and drops of all procs by then, if it has given all of it back */
    struct {                     /* a line of its own: the lock word at byte 16 guards the links of all contexts */
        uint64_t pad0, pad1;
        _Atomic uint32_t lock;
        uint32_t pad2[11];
    } tree;
    /* reports, see dump.c */
    _Atomic uint32_t main_gone;  /* 1: main called goexit(), the program goes on without it */
    _Atomic uint32_t ending;     /* 1: main has reported its panic and runs exit handlers: who waits for the end may lose patience */
    _Atomic uint32_t dumping;    /* lock word of the process that collects a dump, else 0 */
    _Atomic uint32_t dump_last;  /* number of the last request for a dump */
    _Atomic uint32_t dump_wanted;/* the request that waits for answers, else 0 */
    _Atomic uint32_t survives;   /* 1: the host goes on when the runtime ends by a panic or a death */
    char reason[GP_REASON];      /* of that end, in words; written by the process that has set `fatal`, NUL-terminated */
};

#define GP_DEATHS_AT (4096ULL + (uint64_t)GP_MAX_PROCS * GP_PROC_BYTES)

/* offsets inside a partition */
#define GP_PART_INBOX_MID 0u                           /* 64 words */
#define GP_PART_INBOX 4096u                            /* GP_WAITERS bits, a line of 8 words for each bit of a middle word */
#define GP_PART_WAITERS (GP_PART_INBOX + GP_WAITERS / 8)
static inline uint64_t gp_part_sudogs(uint32_t waiters) { return GP_PART_WAITERS + 64ULL * waiters; }
static inline uint64_t gp_part_tasks(uint32_t waiters, uint32_t selects) { /* ring_tasks refs, stealable */
    return gp_part_sudogs(waiters) + 128ULL * ((uint64_t)waiters + selects);
}
static inline uint64_t gp_part_pinned(uint32_t waiters, uint32_t selects, uint32_t ring_tasks) { /* as many, go.on */
    return gp_part_tasks(waiters, selects) + 4ULL * ring_tasks;
}
static inline uint64_t gp_part_end(uint32_t waiters, uint32_t selects, uint32_t ring_tasks) {
    return gp_part_pinned(waiters, selects, ring_tasks) + 4ULL * ring_tasks;
}

_Static_assert(sizeof(struct gp_message) == 64, "a message is one line");
_Static_assert(sizeof(struct gp_obituary) <= GP_INLINE, "an obituary is inline");
_Static_assert(sizeof(struct gp_death) + GP_DEATH_GOROUTINES * sizeof(struct gp_lost) <= GP_DEATH_BYTES, "a death fits");
_Static_assert(sizeof(struct gp_object) == 128, "an object is two lines");
_Static_assert(offsetof(struct gp_object, lock) == 16 && offsetof(struct gp_queue, lock) == 16, "lock word at byte 16");
_Static_assert(offsetof(struct gp_object, holders) == 64, "line 0 is the hot one");
_Static_assert(sizeof(struct gp_waiter) == 64 && sizeof(struct gp_sudog) == 128, "records fill lines");
_Static_assert(sizeof(struct gp_queue) == 64 && offsetof(struct gp_proc, queue) % 64 == 0, "queue is one line");
_Static_assert(sizeof(struct gp_proc) <= GP_PROC_BYTES && sizeof(struct gp_header) <= 4096, "pages");
_Static_assert(offsetof(struct gp_header, crash_epoch) == 128, "mutable part on its own lines");
_Static_assert(offsetof(struct gp_header, tree) % 64 == 0, "the tree's lock is one line");
_Static_assert(GP_WAITERS + GP_SELECTS < (1u << GP_SUDOG_BITS), "sudog reference");
_Static_assert(GP_MAX_PROCS <= (1u << (32 - GP_SUDOG_BITS)), "sudog reference");
_Static_assert(GP_WAITERS <= 64 * 64 * GP_INBOX_LINE, "inbox");

#endif
