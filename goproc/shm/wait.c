/* wait.c - operations that may block: try, perhaps spin, queue, park, and see what became of it.
 *
 * On the scheduler's thread a goroutine parks through the park hook, which runs others meanwhile; any other thread
 * sleeps on its waiter's state word without the GIL.
 */
#include <math.h>

#include "python.h"

#define TICKS 512 /* operations without a block after which a goroutine offers its turn */
#define STACK_NEEDED 40
#define SPINS 4   /* successful looks that were then too late */

unsigned long scheduler_thread;
PyObject *reason_send, *reason_recv, *reason_send_nil, *reason_recv_nil, *reason_waitgroup, *reason_join;

static int ticks = TICKS;

/* Python's frames left. An error for want of frames in the middle of the scheduler would lose what it has in hand. */
static bool stack_is_short(void) {
    PyThreadState *t = PyThreadState_Get();
#if PY_VERSION_HEX >= 0x030C0000
    return t->py_recursion_remaining < STACK_NEEDED;
#else
    return t->recursion_remaining < STACK_NEEDED;
#endif
}

static bool stack_error(void) {
    if (!stack_is_short()) return false;
    PyErr_SetString(PyExc_RecursionError, "maximum recursion depth exceeded: too deep to block in a goproc operation");
    return true;
}

static bool may_park(void) {
    if (!message_in_progress()) return true;
    PyErr_SetString(PyExc_RuntimeError, "a goproc operation that would block, inside a __reduce__ or __getstate__: "
                                        "the message must be complete before anything else can run");
    return false;
}

static PyObject *core_check_park(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    if (stack_error() || !may_park()) return NULL;
    Py_RETURN_NONE;
}

int tick(void) {
    if (GP_LIKELY(--ticks > 0)) return 0;
    ticks = TICKS;
    if (PyThread_get_thread_ident() != scheduler_thread || stack_is_short() || message_in_progress()) return 0;
    PyObject *r = PyObject_CallNoArgs(hooks.preempt);
    Py_XDECREF(r);
    return r ? 0 : -1;
}

int parse_timeout(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, Py_ssize_t at, const char *name,
                  PyObject **timeout) {
    Py_ssize_t keywords = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    *timeout = NULL;
    if (nargs > at + 1 || nargs < at || keywords > 1 || (keywords == 1 && nargs == at + 1)) {
        PyErr_Format(PyExc_TypeError, "%s takes %zd argument%s and timeout=", name, at, at == 1 ? "" : "s");
        return -1;
    }
    if (nargs == at + 1) *timeout = args[at];
    if (keywords) {
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "timeout") != 0) {
            PyErr_Format(PyExc_TypeError, "%s got an unexpected keyword argument '%U'", name, PyTuple_GET_ITEM(kwnames, 0));
            return -1;
        }
        *timeout = args[nargs];
    }
    if (*timeout == Py_None) *timeout = NULL;
    if (*timeout && !PyFloat_Check(*timeout) && !PyLong_Check(*timeout)) {
        PyErr_Format(PyExc_TypeError, "timeout must be seconds as a number, or None, not %.100s", Py_TYPE(*timeout)->tp_name);
        return -1;
    }
    if (*timeout) { /* an int may be too large for a float; NaN has no place in the order of timers */
        double seconds = PyFloat_AsDouble(*timeout);
        if (seconds == -1 && PyErr_Occurred()) return -1;
        if (isnan(seconds)) {
            PyErr_SetString(PyExc_ValueError, "timeout must be seconds, not NaN");
            return -1;
        }
    }
    return 0;
}

/* ---- the parts of an operation */

enum op { OP_SEND, OP_RECV, OP_DONE, OP_FOREVER };

static enum gp_result attempt(enum op op, struct gp_object *o, struct gp_message *m) {
    switch (op) {
    case OP_SEND: return gp_chan_send(o, m);
    case OP_RECV: return gp_chan_recv(o, m);
    default: return GP_BLOCK;
    }
}

static enum gp_result attempt_or_queue(enum op op, struct gp_object *o, struct gp_message *m, uint32_t waiter) {
    switch (op) {
    case OP_SEND: return gp_chan_send_or_wait(o, m, waiter);
    case OP_RECV: return gp_chan_recv_or_wait(o, m, waiter);
    case OP_DONE: return gp_wait_or_done(o, waiter);
    default: gp_waiter_arm(waiter); return GP_BLOCK;
    }
}

/* 1 told through the inbox, 0 not (time is up, or woken some other way), -1 an exception */
static int park(struct wait_spec *w, uint32_t waiter) {
    PyObject *slot = PyLong_FromUnsignedLong(waiter);
    if (!slot) return -1;
    PyObject *r = PyObject_CallFunctionObjArgs(hooks.park, slot, w->timeout ? w->timeout : Py_None, w->reason,
                                               w->handle ? w->handle : Py_None, NULL);
    Py_DECREF(slot);
    int told = r ? PyObject_IsTrue(r) : -1;
    Py_XDECREF(r);
    return told;
}

static int sleep_thread(struct wait_spec *w, uint32_t waiter) {
    uint64_t until = 0;
    if (w->timeout) {
        double seconds = PyFloat_AsDouble(w->timeout);
        if (seconds == -1 && PyErr_Occurred()) return -1;
        if (seconds < 1e9) until = gp_now() + (seconds > 0 ? (uint64_t)(seconds * 1e9) : 0);
    }
    struct gp_mapping *mapping = gp.mapping;
    struct gp_waiter *state = gp_waiter_at(gp.proc, waiter);
    int result = 0;
    mapping->users++; /* the runtime may stop while we sleep in it */
    for (;;) {
        bool fired;
        Py_BEGIN_ALLOW_THREADS
        fired = gp_thread_wait(state, until);
        Py_END_ALLOW_THREADS
        if (fired || (until && gp_now() >= until)) break;
        if ((result = PyErr_CheckSignals()) < 0) break;
    }
    gp_mapping_release(mapping);
    return result;
}

static enum wait_outcome outcome(enum gp_result r) { return r == GP_CLOSED ? WAIT_CLOSED : WAIT_DONE; }

static enum wait_outcome wait(struct wait_spec *w, enum op op, struct gp_message *m) {
    struct gp_object *o = w->object;
    bool goroutine = PyThread_get_thread_ident() == scheduler_thread;
    enum gp_result r = attempt(op, o, m);
    if (GP_LIKELY(r != GP_BLOCK)) return outcome(r);
    if (!may_park()) return WAIT_ERROR;
    if (goroutine && stack_error()) return WAIT_ERROR;
    if (goroutine && op <= OP_RECV && PyObject_Size(hooks.runq) == 0)
        for (int i = 0; i < SPINS && gp_spin_until(o, op == OP_SEND); i++)
            if ((r = attempt(op, o, m)) != GP_BLOCK) return outcome(r);

    int64_t slot = gp_waiter_alloc(!goroutine);
    if (slot < 0) {
        raise_memory(128, "blocking one more goroutine");
        return WAIT_ERROR;
    }
    uint32_t waiter = (uint32_t)slot;
    uint64_t run = gp.run;
    r = attempt_or_queue(op, o, m, waiter);
    if (r != GP_BLOCK) {
        gp_waiter_release(waiter);
        return outcome(r);
    }
    int told;
    do { /* "told" while the waiter still waits is not possible, unless the scheduler is wrong: never believe it */
        told = goroutine ? park(w, waiter) : sleep_thread(w, waiter);
    } while (told == 1 && run == gp.run && gp.base &&
             GP_W_TAG(gp_acquire(&gp_waiter_at(gp.proc, waiter)->state)) == GP_W_WAITING);
    if (run != gp.run || !gp.base) { /* it stopped under us */
        if (!PyErr_Occurred()) PyErr_SetString(hooks.stopped, "the goproc runtime stopped");
        return WAIT_ERROR;
    }
    if (told != 1 && gp_waiter_cancel(waiter)) {
        if (op != OP_FOREVER) gp_wait_abandon(o, waiter);
        gp_waiter_release(waiter);
        if (told == 0) {
            PyObject *x = PyObject_CallOneArg(hooks.expire, w->reason);
            if (x) PyErr_SetString(PyExc_SystemError, "the expire hook returned");
            Py_XDECREF(x);
        }
        return WAIT_ERROR;
    }
    r = gp_chan_finish(o, waiter, told == 1, op == OP_RECV ? m : NULL);
    gp_waiter_release(waiter);
    if (told == -1) { /* the operation happened, but an exception is on its way: a value in hand is given up */
        if (op == OP_RECV && r == GP_OK) gp_message_drop(m);
        if (op == OP_SEND && r == GP_OK) m->block = 0; /* it is the receiver's now, not the caller's to drop */
        return WAIT_ERROR;
    }
    if (op == OP_DONE) return WAIT_DONE;
    return outcome(r);
}

enum wait_outcome wait_send(struct wait_spec *w, struct gp_message *m) {
    return wait(w, OP_SEND, m);
}
enum wait_outcome wait_recv(struct wait_spec *w, struct gp_message *m) { return wait(w, OP_RECV, m); }
enum wait_outcome wait_done(struct wait_spec *w) {
    struct gp_object *o = w->object;
    bool waitgroup = gp_get(&o->kind) == GP_KIND_WAITGROUP;
    if (waitgroup ? gp_get(&o->value) == 0 : gp_acquire(&o->state) >= GP_G_OK) return WAIT_DONE;
    return wait(w, OP_DONE, NULL);
}
enum wait_outcome wait_forever(struct wait_spec *w) { return wait(w, OP_FOREVER, NULL); }

/* ---- what the scheduler calls: parking and idling */

static PyObject **parked; /* by waiter: the goroutine that waits there, as the scheduler sees it */
static uint32_t parked_cap;

static PyObject *core_bind(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    (void)module;
    if (nargs != 2) return PyErr_Format(PyExc_TypeError, "bind(slot, goroutine)");
    unsigned long slot = PyLong_AsUnsignedLong(args[0]);
    if (slot == (unsigned long)-1 && PyErr_Occurred()) return NULL;
    if (slot >= GP_WAITERS) return PyErr_Format(PyExc_ValueError, "no waiter %lu", slot);
    if (slot >= parked_cap) {
        uint32_t cap = parked_cap ? parked_cap : 256;
        while (cap <= slot) cap *= 2;
        PyObject **v = PyMem_Realloc(parked, cap * sizeof *v);
        if (!v) return PyErr_NoMemory();
        memset(v + parked_cap, 0, (cap - parked_cap) * sizeof *v);
        parked = v;
        parked_cap = cap;
    }
    PyObject *old = parked[slot];
    parked[slot] = Py_NewRef(args[1]);
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

/* g.parked: False, g.told: True, and into the run queue; without a bytecode in between, where a signal could come */
static int make_ready(PyObject *g) {
    static PyObject *parked_, *told_, *append_;
    if (!append_ && (!(parked_ = PyUnicode_InternFromString("parked")) || !(told_ = PyUnicode_InternFromString("told")) ||
                     !(append_ = PyUnicode_InternFromString("append"))))
        return -1;
    PyObject *waits = PyObject_GetAttr(g, parked_);
    if (!waits) return -1;
    Py_DECREF(waits);
    if (waits != Py_True) return 0; /* something else was faster */
    if (PyObject_SetAttr(g, parked_, Py_False) < 0 || PyObject_SetAttr(g, told_, Py_True) < 0) return -1;
    PyObject *r = PyObject_CallMethodOneArg(hooks.runq, append_, g);
    Py_XDECREF(r);
    return r ? 0 : -1;
}

static PyObject *core_drain(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    if (GP_LIKELY(!gp.base || (!gp_inbox_pending() && !gp_get(&gp.my->rescan)))) Py_RETURN_FALSE;
    uint32_t told[1024];
    int n;
    while (gp_inbox_pending() && (n = gp_drain(told, 1024)) > 0)
        for (int i = 0; i < n; i++) {
            unsigned tag = GP_W_TAG(gp_acquire(&gp_waiter_at(gp.proc, told[i])->state));
            /* a late bit may meet a waiter that has gone on to wait for something else, or for nothing */
            if (tag == GP_W_WAITING || tag == GP_W_IDLE || told[i] >= parked_cap || !parked[told[i]]) continue;
            if (make_ready(parked[told[i]]) < 0) return NULL;
        }
    bool look = gp_get(&gp.my->rescan);
    if (look) atomic_store(&gp.my->rescan, 0);
    return PyBool_FromLong(look);
}

static uint64_t deadline_ns(PyObject *deadline) { /* time.monotonic() seconds, or None */
    if (deadline == Py_None) return 0;
    double seconds = PyFloat_AsDouble(deadline);
    return seconds <= 0 ? 1 : seconds > 1e9 ? 0 : (uint64_t)(seconds * 1e9);
}

static PyObject *core_idle(PyObject *module, PyObject *deadline) {
    (void)module;
    uint64_t until = deadline_ns(deadline);
    if (PyErr_Occurred()) return NULL;
    if (!gp.base) Py_RETURN_NONE;
    Py_BEGIN_ALLOW_THREADS
    gp_idle(until);
    Py_END_ALLOW_THREADS
    if (PyErr_CheckSignals() < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *core_wake(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    if (gp.base) gp_nudge(gp.proc);
    Py_RETURN_NONE;
}

static PyObject *core_scheduler_thread(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    scheduler_thread = PyThread_get_thread_ident();
    Py_RETURN_NONE;
}

static PyObject *core_on_scheduler_thread(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyBool_FromLong(PyThread_get_thread_ident() == scheduler_thread);
}

static PyObject *core_park_forever(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    (void)module;
    if (nargs != 2 || !PyUnicode_Check(args[0]))
        return PyErr_Format(PyExc_TypeError, "park_forever(reason, timeout)");
    if (handle_ready() < 0) return NULL;
    struct wait_spec w = {NULL, NULL, args[1] == Py_None ? NULL : args[1], args[0]};
    if (wait_forever(&w) != WAIT_ERROR) PyErr_SetString(PyExc_SystemError, "something ended an endless wait");
    return NULL;
}

PyMethodDef wait_functions[] = {
    {"bind", (PyCFunction)(void (*)(void))core_bind, METH_FASTCALL, PyDoc_STR("The goroutine that waits in this slot.")},
    {"drain", core_drain, METH_NOARGS, PyDoc_STR("Queue the goroutines told through the inbox; was this process asked to look around?")},
    {"idle", core_idle, METH_O, PyDoc_STR("Sleep until there may be something to do, or the monotonic deadline.")},
    {"check_park", core_check_park, METH_NOARGS, PyDoc_STR("Raise where a goroutine cannot park: too deep a stack, or in the middle of pickling.")},
    {"wake", core_wake, METH_NOARGS, PyDoc_STR("Make this process's scheduler look around; from any thread.")},
    {"use_this_thread", core_scheduler_thread, METH_NOARGS, PyDoc_STR("Goroutines run on the calling thread.")},
    {"on_scheduler_thread", core_on_scheduler_thread, METH_NOARGS, NULL},
    {"park_forever", (PyCFunction)(void (*)(void))core_park_forever, METH_FASTCALL,
     PyDoc_STR("Block until the timeout: raises TimeoutError or what interrupts it.")},
    {NULL, NULL, 0, NULL},
};
