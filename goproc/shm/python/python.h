/* python.h - the Python half of the core: handles, hooks, the codec.
 *
 * Policy lives in Python and comes in through hooks: how to pickle, how to park a goroutine. The C side knows
 * neither greenlets nor cloudpickle.
 */
#ifndef GP_PYTHON_H
#define GP_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "proc/proc.h"

enum { DIR_SEND = 1, DIR_RECV = 2, DIR_BOTH = 3 };

typedef struct gp_handle {
    PyObject_HEAD
    gp_ref ref;               /* 0: the nil channel */
    uint32_t gen;
    uint64_t run;             /* the run of the runtime that it belongs to */
    uint8_t kind, dir;
    bool counted;             /* the handle is in the table and stands for this proc's holder bit */
    /* a message of this proc lists the object: dropping this handle leaves no garbage */
    bool passed_on;
    PyObject *whole;          /* the channel of a view, which keeps that alive */
    PyObject *weak;
} Handle;

/* ---- hooks, set once by goproc at import: core.connect(...) */
struct gp_hooks {
    PyObject *encode;   /* (obj) -> (bytes, [buffer, ...]) */
    PyObject *decode;   /* (memoryview, [buffer, ...]) -> obj */
    /* (slot, until: monotonic s | None, reason, handle | None) -> notified: bool; or (the function that
     * waits, its goroutine, timed: bool) */
    PyObject *park;
    /* (goroutine, timed: bool, failed: bool) -> notified: bool. Called after that function */
    PyObject *parked;
    PyObject *scheduler; /* dict: the scheduler's variables */
    /* (reason, time is up: bool) -> raises TimeoutError, or the exception that interrupts the goroutine */
    PyObject *raise_wait_failure;
    /* (change: int) -> None: while the sum is positive, nothing interrupts the running goroutine */
    PyObject *shield;
    PyObject *case_of;  /* (object) -> the channel that a select over the object waits for, or None */
    PyObject *offer_turn; /* (may raise: bool) -> None: many operations have not blocked: let others run */
    PyObject *start;    /* () -> None: start the runtime */
    PyObject *refer;    /* (object) -> its stand-in in a message if there is a copy of the object, or None */
    /* (attempt: int) -> bool: look for garbage, since the memory is full; False: give up */
    PyObject *full;
    /* (a death's number, facts of it and of a goroutine lost with it) -> the outcome that a failed goroutine
     * stores */
    PyObject *died;
    PyObject *gone;     /* (proc) -> the exception for a worker that has died and is not replaced */
    /* (id, failure, site) -> None: the last handle of a failed goroutine has gone unread */
    PyObject *unread;
    PyObject *error, *chan_closed, *out_of_memory, *stopped, *owner_died; /* exception types */
    PyObject *runq;     /* deque: goroutines ready on this proc */
    PyObject *ready, *ready_next; /* append and appendleft of runq */
    PyObject *timers;   /* list: the scheduler's heap of timers */
    /* frozenset: names of modules that take a length for the number of items to come */
    PyObject *progress_bars;
    PyObject *types[GP_KINDS]; /* the types of decoded handles, by kind */
    PyObject *views[4];        /* channel views by direction */
    PyObject *nil;             /* the nil channel */
};
extern struct gp_hooks hooks;
extern unsigned long scheduler_thread; /* PyThread ident of the thread that runs goroutines */

/* ---- handles.c */
extern PyTypeObject HandleType;
PyObject *handle_new(PyTypeObject *type, enum gp_kind kind);          /* a handle of a new object */
PyObject *handle_for(gp_ref ref, uint32_t gen, enum gp_kind kind, unsigned dir);
/* NULL and an exception if the handle cannot be used */
struct gp_object *handle_object(Handle *h);
/* import goproc._wiring, which sets the hooks: the program may have imported a part of goproc alone */
int handles_connect(void);
/* the same where the runtime is about to be used: the zygote boots meanwhile */
int handles_begin(void);
/* 0 once attached (the runtime is started if needed) and not forked, else -1 */
int handle_ready(void);
PyObject *handle_view(Handle *h, unsigned dir);                       /* of a channel */
void handles_forget(void);                                            /* at detach */
/* raise RuntimeStopped, with the reason if that run ended by itself */
void raise_stopped(const char *what, uint64_t run);
uint32_t handles_live(void);
/* [(id, failure, site)] of unread failures, held here or by no process */
PyObject *handles_unread(void);
/* the number of shared objects that were garbage */
uint32_t collect_now(void);
/* the same, also if that means to wait for another process that collects */
uint32_t collect_surely(void);

/* ---- memory.c */
/* gp_alloc; if memory is short, once more after a collection */
gp_ref alloc_or_collect(uint64_t payload, unsigned flags);
gp_ref alloc_for(enum gp_purpose purpose, uint64_t payload, unsigned flags);
gp_ref object_for(enum gp_purpose purpose, enum gp_kind kind);
int message_encode_for(enum gp_purpose purpose, PyObject *v, struct gp_message *m);
/* for_end(function, *arguments): call a function that may use the reserve of memory */
PyObject *memory_for_end(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
/* raise OutOfSharedMemory, with the limit that is reached; always NULL */
PyObject *raise_memory(uint64_t asked, const char *what);
/* true if the exception says only that memory is short: it is cleared */
bool only_memory_is_short(void);
/* put an outcome or a cause into the block that was set aside for it */
void result_store(gp_ref block, gp_ref object, const struct gp_message *m);
/* free the block and its message */
void result_drop(gp_ref block);

/* ---- codec.c, decode.c */
#define PLAIN_DEPTH 8 /* of tuples, lists and dicts that travel without a pickle */
/* 0, or -1 and an exception: nothing kept */
int message_encode(PyObject *v, struct gp_message *m);
/* free the block of the message, also on failure, unless `keep` */
PyObject *message_decode(const struct gp_message *m, bool keep);
/* the use of a pickle's buffers: buffers that are stored by reference become a private View or a read-only
 * one */
enum parts_use {
    PARTS_TAKE,           /* the receiver gets them, as Buffers */
    PARTS_KEEP,           /* they are copied, since the message is read again */
    PARTS_PRIVATE,        /* of a copy: Views, private and writable */
    PARTS_READONLY,       /* of a copy: Views, read only */
};
/* the block of the message stays */
PyObject *message_decode_parts(const struct gp_message *m, enum parts_use use, PyObject *copy);
struct message_parts {
    const char *body;
    uint64_t main;
    uint32_t n;
    const gp_ref *buffer;
};
bool message_parts(const struct gp_message *m, struct message_parts *parts); /* false: it is no pickle */
uint64_t message_bytes(const struct gp_message *m);                   /* bytes of shared memory */
/* a handle is being pickled into the current message */
bool message_log_handle(Handle *h);
bool message_in_progress(void);                                       /* true while this thread pickles */
/* call a function as if this thread pickled */
PyObject *message_as_pickling(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
/* the message that is encoded now may be read several times */
extern _Thread_local bool message_keeps;

/* ---- buffers.c */
#define LARGE_BUFFER 8000000 /* bytes: smaller memory is copied about as fast as it is compared and mapped */
struct shared_part {      /* a part of a block of a copy */
    PyObject *copy;
    gp_ref block;
    uint64_t offset, len; /* in the block's payload */
};
extern PyTypeObject BufferType, ViewType;
PyObject *buffer_new(gp_ref part);
PyObject *view_new(const struct shared_part *p, bool readonly);
bool same_bytes(const void *a, const void *b, size_t n);
bool part_is(const struct shared_part *p, const void *memory, uint64_t len);
bool parts_equal(const struct shared_part *a, const struct shared_part *b);

/* ---- references.c */
typedef struct {
    PyObject_HEAD
    struct shared_part part;
} Reference;
extern PyTypeObject ReferenceType;
PyObject *buffers_reference(PyObject *module, PyObject *memory);      /* reference(memory) */
PyObject *reference_to_copy(const Py_buffer *memory);                 /* the copy is made for it */
gp_ref reference_write(const Reference *r);                           /* the block; 0 and an exception */
/* `out` has a new reference to its copy */
bool reference_read(gp_ref part, struct shared_part *out);
/* for a buffer in the message of a copy; decode.c */
bool message_part(PyObject *copy, gp_ref part, struct shared_part *out);

/* ---- copy.c */
extern PyTypeObject CopyType;
Handle *copy_new_empty(PyTypeObject *type);
void copy_fill(Handle *h, const struct gp_message *m);                /* give an empty copy its value, once */
bool copy_has(Handle *h, gp_ref block);

/* ---- wait.c: blocking operations; the caller has tried without blocking */
struct wait_spec {
    PyObject *handle;         /* for reports; may be NULL */
    PyObject *timeout;        /* number or None/NULL */
    PyObject *reason;
    struct gp_object *release; /* a lock to release once queued: that of a condition */
    bool reader;               /* the lock is held for reading */
};
/* the position; -1: an exception */
int64_t wait_cases(struct gp_select *s, struct wait_spec *w, enum gp_result *r);
/* GP_BLOCK: an exception; the caller still drops c->m of a send */
enum gp_result wait_case(struct gp_case *c, struct wait_spec *w);
/* of a wait group at zero, or a goroutine's end */
int wait_done(struct gp_object *o, struct wait_spec *w);
/* a collecting waiter: 1 a watched waiter fired, 0 time is up, -1 an exception */
int wait_fired(uint32_t waiter, struct wait_spec *w);
/* the error of gp_waiter_alloc() or gp_sudog_alloc(); 1 case: no select */
PyObject *raise_no_waiter(int64_t error, uint32_t cases);
void wait_forever(struct wait_spec *w);                               /* always an exception */
/* call it before each operation, so that a loop of them lets others run: 0, or -1 and an exception */
int tick(void);
int checkpoint(void);  /* the same before an operation that can block: an interrupt may end it here, too */
bool wait_stack_short(void); /* true if too few frames of Python are left for the scheduler */
bool wait_allowed(void);     /* true if the running goroutine may park; false: an exception */

/* ---- spinning.c */
int64_t spin_for_case(struct gp_select *s, enum gp_result *r); /* the case that was done, or -1 */
void spin_for_fired(const struct gp_waiter *state);

/* ---- timeouts.c */
#define FOR_EVER 4e9 /* seconds that a caller waits: more is for ever. Python has the same in _timeouts.py */
#define LATEST 9e9   /* the last second of the core's clock, whose nanoseconds are an int64 */
int parse_timeout(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, Py_ssize_t at, const char *name,
                  PyObject **timeout);
bool timeout_until(PyObject *timeout, uint64_t *until); /* ns, 0: for ever; false: an exception */
/* of time.monotonic(), or None: 0; 0 and an exception */
uint64_t time_ns(PyObject *time);

/* ---- scheduler_calls.c */
void scheduler_unbind(uint32_t waiter); /* no goroutine waits there any more */
/* Python threads beside the scheduler's; each may do anything, unless it is blocked */
uint32_t threads_beside(void);
extern PyMethodDef scheduler_functions[];

/* ---- select_type.c: also for selector.c, await.c and awaited.c */
struct item {
    uint8_t kind;        /* enum gp_op_kind */
    Handle *target;
    PyObject *value;     /* of a send; else NULL */
    uint64_t n;
    uint32_t number;     /* its place among the arguments */
};
/* 0 a case, 1 default, -1 an exception */
int select_parse(PyObject *arg, Py_ssize_t number, struct item *it, PyObject **keep);
/* the cases, with their messages: 0, else -1 and nothing kept */
int select_fill(const struct item *items, struct gp_select *s);
void select_drop_values(struct gp_case *cases, uint32_t n, int64_t but);
/* wait.c: allocate for a wait on several cases: 0, -ENOMEM, -ENOSPC */
int64_t select_prepare(struct gp_select *s);
#define SELECT_MOST 65536 /* cases: the number of one has 16 bits in the state of a waiter */
PyObject *select_too_many(void); /* raise ValueError: NULL */
int select_two_defaults(void); /* raise ValueError: -1 */
/* raise RuntimeStopped for a handle of a runtime that has stopped, and start no other runtime: -1 */
int select_refuse_stale(PyObject *const *args, Py_ssize_t n);
PyObject *select_perform(struct item *items, struct gp_select *s, Py_ssize_t default_at, PyObject *timeout);
PyObject *select_result(const struct item *items, struct gp_select *s, int64_t chosen, enum gp_result r);

/* ---- cushion.c: for the thread that runs goroutines */
int cushion_begin(void);   /* set the cushion aside: 0, or -1 and an exception */
bool cushion_ready(void);  /* true if there is room for the stack of the goroutine that runs */
bool cushion_check(void);  /* the same; false: a MemoryError */
bool cushion_give(void);   /* an allocation has failed; true: try again */
extern PyMethodDef cushion_functions[];

/* ---- stacks.c */
extern PyMethodDef stack_functions[];

/* the reason of a goroutine's wait, in Go's words */
#define REASONS(X)                                                                                        \
    X(send, "chan send")                                                                                  \
    X(recv, "chan receive") X(send_nil, "chan send (nil chan)") X(recv_nil, "chan receive (nil chan)")    \
        X(waitgroup, "sync.WaitGroup.Wait") X(join, "goroutine join") X(select, "select")                 \
            X(select_none, "select (no cases)") X(lock, "sync.Mutex.Lock") X(rlock, "sync.RWMutex.RLock") \
                X(wlock, "sync.RWMutex.Lock") X(cond, "sync.Cond.Wait") X(acquire, "semacquire")          \
                    X(barrier, "barrier wait") X(completed, "as_completed")
#define DECLARE(name, text) extern PyObject *reason_##name;
REASONS(DECLARE)
#undef DECLARE

/* ---- types */
extern PyTypeObject BindingsType;                                      /* bindings.c */
/* 1 if the bindings hold in a dict or a class, else 0; -1 with an exception */
int bindings_hold(PyObject *bindings, PyObject *namespace);
extern PyTypeObject TogetherType; /* together.c */
extern PyMethodDef together_functions[];
extern PyTypeObject GuardType;                                         /* guard.c */
extern PyTypeObject ChannelType, WaitGroupType, AtomicType, OutcomeType;
extern PyTypeObject MutexType, OnceType, RWMutexType, CondType, SemaphoreType, BarrierType; /* sync_types.c */
extern PyTypeObject SelectorType;                                     /* selector.c */
extern PyTypeObject WatchType;                                        /* watch.c */
extern PyTypeObject AwaitsType, AwaitedType;                          /* await.c, awaited.c */
int select_types_ready(PyObject *module);
int sync_types_ready(void);
typedef PyObject *(*with_function)(Handle *self);
int with_methods_add(PyTypeObject *type, with_function enter, with_function exit); /* with_method.c */
extern PyMethodDef resize_functions[]; /* resize_calls.c */
extern PyMethodDef map_functions[]; /* map_calls.c */
extern PyTypeObject ResultsType;
extern PyMethodDef cell_functions[]; /* cell.c */
extern PyMethodDef call_functions[]; /* calls.c */
extern PyMethodDef guard_functions[], copied_functions[], task_functions[], task_life_functions[],
    select_functions[], clock_functions[];
/* 0 if the handle may be used that way, else -1 and an exception */
int channel_need(Handle *h, unsigned dir);
PyObject *channel_closed(const char *text);
extern PyCFunction channel_send_method, channel_recv_method, channel_recv_ok_method, semaphore_acquire_method,
    waitgroup_wait_method;
/* A function of any signature as the one that tables of methods and slots have; the flags beside it say which
 * it is. */
#define METHOD(f) ((PyCFunction)(void (*)(void))(f))

enum drained { DRAIN_LOOK = 1, DRAIN_TICKED = 2, DRAIN_STOPS = 4 }; /* flags of drain() */

/* ---- obituary.c */
/* the outcome of a lost goroutine; NULL: damaged, or an exception */
PyObject *obituary_read(const struct gp_message *m);
/* raise for a worker that is gone for good; always NULL */
PyObject *raise_death(uint32_t proc);
extern PyMethodDef death_functions[];

/* ---- module.c */
PyObject *os_error(int err, const char *what); /* raise an OSError for -errno; always NULL */

/* ---- goroutines.c */
uint64_t next_id(void); /* the number of a new goroutine or promise */
void task_free(gp_ref task);
static inline void task_count_started(int change) { /* this process alone writes the counter */
    _Atomic uint32_t *n = &gp.my->queue.started;
    gp_set(n, gp_get(n) + (uint32_t)change);
}

/* ---- task_life.c */
/* make the message of an outcome: 0, or -1 and an exception: the value does not fit in memory, or cannot be
 * copied */
int encode_outcome(PyObject *value, bool failed, struct gp_message *m);
extern PyMethodDef promise_functions[]; /* promises.c */

/* ---- process_calls.c, memory_calls.c */
extern PyMethodDef process_functions[], memory_functions[];

/* ---- dump.c, ends.c */
extern PyMethodDef dump_functions[], end_functions[];
extern PyMethodDef output_functions[], interrupt_functions[];

#endif
