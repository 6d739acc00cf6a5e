/* python.h - what the Python half of the core shares: handles, hooks, the codec.
 *
 * Policy lives in Python and comes in through hooks: how to pickle, how to park a goroutine. The C side knows neither
 * greenlets nor cloudpickle.
 */
#ifndef GP_PYTHON_H
#define GP_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "core.h"

enum { DIR_SEND = 1, DIR_RECV = 2, DIR_BOTH = 3 };

typedef struct gp_handle {
    PyObject_HEAD
    gp_ref ref;               /* 0: the nil channel */
    uint32_t gen;
    uint64_t run;             /* of the runtime it belongs to */
    uint8_t kind, dir;
    bool counted;             /* it is in the table and stands for this proc's holder bit */
    PyObject *whole;          /* a view's channel: keeps it held */
    PyObject *weak;
} Handle;

/* ---- hooks, set once by goproc at import: core.connect(...) */
struct gp_hooks {
    PyObject *encode;   /* (obj) -> (bytes, [buffer, ...]) */
    PyObject *decode;   /* (memoryview, [buffer, ...]) -> obj */
    PyObject *park;     /* (slot, timeout | None, reason, handle | None) -> told: bool */
    PyObject *expire;   /* (reason) -> raises TimeoutError, or what the goroutine was interrupted with */
    PyObject *preempt;  /* () -> None: many operations without a block: let others run */
    PyObject *start;    /* () -> None: start the runtime */
    PyObject *unread;   /* (id, failure, site) -> None: a failed goroutine's last handle died unread */
    PyObject *chan_closed, *out_of_memory, *stopped; /* exception types */
    PyObject *runq;     /* sized: goroutines ready on this proc */
    PyObject *types[GP_KINDS]; /* what a decoded handle of that kind becomes */
    PyObject *views[4];        /* channel views by direction */
    PyObject *nil;             /* the nil channel */
};
extern struct gp_hooks hooks;
extern unsigned long scheduler_thread; /* PyThread ident of the thread that runs goroutines */

/* ---- handles.c */
extern PyTypeObject HandleType;
PyObject *handle_new(PyTypeObject *type, enum gp_kind kind);          /* with a new object */
PyObject *handle_for(gp_ref ref, uint32_t gen, enum gp_kind kind, unsigned dir);
struct gp_object *handle_object(Handle *h);                           /* NULL and an exception if it cannot be used */
int handle_ready(void);                                               /* attached (started if need be), not forked: 0, else -1 */
PyObject *handle_view(Handle *h, unsigned dir);                       /* of a channel */
void handles_forget(void);                                            /* at detach */
uint32_t handles_live(void);
PyObject *handles_unread(void);                                       /* [(id, failure, site)] that live handles have not read */
uint32_t collect_now(void);                                           /* shared objects that were garbage */
gp_ref alloc_or_collect(uint64_t payload, unsigned flags);            /* gp_alloc; short of memory, after a collection */
PyObject *raise_memory(uint64_t asked, const char *what);

/* ---- codec.c */
int message_encode(PyObject *v, struct gp_message *m);                /* 0, or -1 and an exception: nothing kept */
PyObject *message_decode(const struct gp_message *m, bool keep);      /* frees its block, also on failure, unless keep */
bool message_log_handle(Handle *h);                                   /* a handle is being pickled into the current message */
bool message_in_progress(void);                                       /* this thread is pickling */
PyObject *message_as_pickling(PyObject *module, PyObject *const *args, Py_ssize_t nargs); /* call it as if pickling */
extern PyTypeObject BufferType;

/* ---- wait.c: blocking operations */
struct wait_spec {
    struct gp_object *object;
    PyObject *handle;         /* for reports; may be NULL */
    PyObject *timeout;        /* number or None/NULL */
    PyObject *reason;
};
enum wait_outcome { WAIT_ERROR = -1, WAIT_DONE, WAIT_CLOSED };
enum wait_outcome wait_send(struct wait_spec *w, struct gp_message *m); /* after an error m.block is what is still to be dropped */
enum wait_outcome wait_recv(struct wait_spec *w, struct gp_message *m);
enum wait_outcome wait_done(struct wait_spec *w);                     /* wait group at zero, goroutine ended */
enum wait_outcome wait_forever(struct wait_spec *w);
int tick(void);                                                       /* after each operation: 0, or -1 and an exception */
int parse_timeout(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, Py_ssize_t at, const char *name,
                  PyObject **timeout);
extern PyMethodDef wait_functions[];

extern PyObject *reason_send, *reason_recv, *reason_send_nil, *reason_recv_nil, *reason_waitgroup, *reason_join;

/* ---- types */
extern PyTypeObject ChannelType, WaitGroupType, AtomicType, OutcomeType;
extern PyMethodDef task_functions[];

/* ---- dump.c */
extern PyMethodDef dump_functions[];

#endif
