/* obituary.c - deaths of workers as Python sees them: their records, the outcome of a goroutine that was
 * lost, and killing. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "python.h"

/* ---- records */

static PyObject *goroutines_of(const struct gp_death *r) {
    uint32_t n = r->lost < GP_DEATH_GOROUTINES ? r->lost : GP_DEATH_GOROUTINES;
    PyObject *all = PyTuple_New(n);
    for (uint32_t i = 0; all && i < n; i++) {
        const struct gp_lost *g = &r->goroutine[i];
        PyObject *name =
            PyUnicode_DecodeUTF8(g->name, (Py_ssize_t)strnlen(g->name, sizeof g->name), "ignore");
        PyObject *one = name
                            ? Py_BuildValue("(KNNN)", (unsigned long long)g->id, name,
                                            PyBool_FromLong(g->started != 0), PyBool_FromLong(g->waited != 0))
                            : NULL;
        if (one) PyTuple_SET_ITEM(all, i, one);
        else Py_CLEAR(all);
    }
    return all;
}

/* The record that death() returns; None: the record is not kept any more */
static PyObject *death_facts(uint64_t number) {
    if (number == 0 || number > gp_acquire(&gp.head->deaths)) Py_RETURN_NONE;
    struct gp_death *r = gp_death_at(number), *copy = PyMem_Malloc(GP_DEATH_BYTES);
    if (!copy) return PyErr_NoMemory();
    uint64_t before = gp_acquire(&r->number);
    memcpy(copy, r, GP_DEATH_BYTES);
    atomic_thread_fence(memory_order_seq_cst);
    PyObject *facts, *goroutines = NULL;
    if (before != number || gp_acquire(&r->number) != number) facts = Py_NewRef(Py_None);
    else if (!(goroutines = goroutines_of(copy))) facts = NULL;
    else
        facts = Py_BuildValue(
            "(IiiKNdIINIKKN)", copy->proc, copy->pid, copy->status, (unsigned long long)copy->memory,
            PyBool_FromLong(copy->timed_out != 0), (double)copy->when / 1e9, copy->lost, copy->moved,
            goroutines, copy->again, (unsigned long long)copy->running, (unsigned long long)copy->late,
            PyUnicode_DecodeUTF8(copy->call, (Py_ssize_t)strnlen(copy->call, sizeof copy->call), "replace"));
    PyMem_Free(copy);
    return facts;
}

static PyObject *core_death(PyObject *Py_UNUSED(module), PyObject *arg) {
    unsigned long long number = PyLong_AsUnsignedLongLong(arg);
    if (PyErr_Occurred()) return NULL;
    if (!gp.base) Py_RETURN_NONE;
    return death_facts(number);
}

static PyObject *core_deaths(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromUnsignedLongLong(gp.base ? gp_acquire(&gp.head->deaths) : 0);
}

/* The outcome of a goroutine that was lost: hooks.died makes the failure that it stores. */
PyObject *obituary_read(const struct gp_message *m) {
    struct gp_obituary o;
    memcpy(&o, m->data, sizeof o);
    uint64_t capacity;
    if (m->len != sizeof o || !hooks.died || !gp_block_check(o.task, &capacity) ||
        capacity < sizeof(struct gp_task))
        return NULL;
    const struct gp_task *t = gp_task_at(o.task);
    uint64_t n = gp_len(o.task);
    PyObject *name = PyUnicode_DecodeUTF8(t->name, (Py_ssize_t)strnlen(t->name, sizeof t->name), "ignore");
    PyObject *labels = PyUnicode_DecodeUTF8((const char *)(t + 1),
                                            n > sizeof *t ? (Py_ssize_t)(n - sizeof *t) : 0, "ignore");
    PyObject *facts = name && labels ? death_facts(o.death) : NULL;
    PyObject *r = facts ? PyObject_CallFunction(
                              hooks.died, "(KIiiKBOOKOKOI)", (unsigned long long)o.death, (unsigned)o.proc,
                              (int)o.pid, (int)o.status, (unsigned long long)o.memory, o.timed_out,
                              o.unstarted ? Py_True : Py_False, facts, (unsigned long long)t->id, name,
                              (unsigned long long)t->parent, labels, (unsigned)gp_get(&t->lost))
                        : NULL;
    Py_XDECREF(name);
    Py_XDECREF(labels);
    Py_XDECREF(facts);
    return r;
}

PyObject *raise_death(uint32_t proc) {
    PyObject *exc = PyObject_CallFunction(hooks.gone, "I", (unsigned)proc);
    if (exc) PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    Py_XDECREF(exc);
    return NULL;
}

/* ---- killing */

/* Until a worker that is told to die has been repaired, its goroutines are not asleep for ever. */
static void doom(struct gp_proc *p, pid_t pid, enum gp_doomed how) {
    atomic_store(&p->doomed, how);
    if (atomic_load(&p->pid) != pid) atomic_store(&p->doomed, GP_LIVES); /* it was repaired before */
}

static PyObject *kill_worker(PyObject *arg, enum gp_doomed how) {
    unsigned long p = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred() || handle_ready() < 0) return NULL;
    if (p == 0 || p >= gp_places()) return PyErr_Format(PyExc_ValueError, "no worker %lu", p);
    struct gp_proc *proc = gp_proc_at((uint32_t)p);
    pid_t pid = gp_get(&proc->pid);
    int fd = pid > 0 ? gp_pidfd(pid) : -1;
    /* The pid may be another process's by now. If the worker still has it once the descriptor is open, the
     * descriptor is the worker's. */
    bool there = pid > 0 && gp_get(&proc->pid) == pid && gp_get(&proc->state) <= GP_P_LIVE;
    if (there) doom(proc, pid, how);
    int r = !there    ? 0
            : fd >= 0 ? (int)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0)
                      : kill(pid, SIGKILL);
    int error = errno;
    if (fd >= 0) close(fd);
    errno = error;
    if (r < 0 && errno != ESRCH) return PyErr_SetFromErrno(PyExc_OSError);
    return PyBool_FromLong(there && r == 0);
}

static PyObject *core_kill(PyObject *Py_UNUSED(module), PyObject *arg) { return kill_worker(arg, GP_DOOMED); }

static PyObject *core_end(PyObject *Py_UNUSED(module), PyObject *arg) {
    return kill_worker(arg, GP_DOOMED_QUIETLY);
}

/* (proc, flag): have a worker take no more goroutines, and leave when it has none; or call that off. False:
 * it leaves already. */
static PyObject *core_retire(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    unsigned long p = nargs == 2 ? PyLong_AsUnsignedLong(args[0]) : 0;
    if (PyErr_Occurred() || handle_ready() < 0) return NULL;
    if (p == 0 || p >= gp_places()) return PyErr_Format(PyExc_ValueError, "no worker %lu", p);
    bool asked = args[1] == Py_True;
    if (!asked && atomic_load(&gp_proc_at((uint32_t)p)->drop)) Py_RETURN_FALSE; /* a resize wants it gone */
    uint16_t from = asked ? GP_STAYS : GP_RETIRES;
    bool done = atomic_compare_exchange_strong(&gp_proc_at((uint32_t)p)->retire, &from,
                                               asked ? GP_RETIRES : GP_STAYS);
    if (asked) gp_task_retire((uint32_t)p);
    gp_nudge((uint32_t)p);
    return PyBool_FromLong(done || (asked && from == GP_RETIRES));
}

/* Of this worker: True if it is to leave when it has nothing to do. With a true argument: it leaves now, if
 * that still holds. */
static PyObject *core_retiring(PyObject *Py_UNUSED(module), PyObject *now) {
    if (!gp.base || gp.proc == 0) Py_RETURN_FALSE;
    uint16_t from = GP_RETIRES;
    /* no other process runs tasks that are pinned to this one */
    if (now == Py_True && gp_get(&gp.my->drop) && !gp_task_none_pinned(gp.proc)) Py_RETURN_FALSE;
    if (now == Py_True)
        return PyBool_FromLong(atomic_compare_exchange_strong(&gp.my->retire, &from, GP_LEAVES));
    return PyBool_FromLong(gp_get(&gp.my->retire) == GP_RETIRES);
}

/* A timer of the kernel, which goes off in any state of this process. */
static PyObject *core_kill_at(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs < 1 || nargs > 2) return PyErr_Format(PyExc_TypeError, "kill_at(seconds, object)");
    static timer_t timer;
    static pid_t maker; /* a forked child has no timers */
    double seconds = PyFloat_AsDouble(args[0]);
    unsigned long object = nargs > 1 ? PyLong_AsUnsignedLong(args[1]) : 0;
    if (PyErr_Occurred() || handle_ready() < 0) return NULL;
    if (gp.proc == 0) return PyErr_Format(PyExc_ValueError, "kill_at(): the host is not killed");
    if (!(seconds >= 0)) return PyErr_Format(PyExc_ValueError, "kill_at() takes a time.monotonic() time");
    uint64_t ns = seconds < LATEST ? (uint64_t)(seconds * 1e9) : 0;
    if (maker != getpid()) {
        if (ns == 0) Py_RETURN_NONE;
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
        if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0) return PyErr_SetFromErrno(PyExc_OSError);
        maker = getpid();
    }
    struct itimerspec when = {.it_value = {(time_t)(ns / 1000000000ULL), (long)(ns % 1000000000ULL)}};
    if (ns) {
        gp_set(&gp.my->kill_for, (gp_ref)object);
        gp_set(&gp.my->kill_at, ns);
    }
    if (timer_settime(timer, TIMER_ABSTIME, &when, NULL) < 0) return PyErr_SetFromErrno(PyExc_OSError);
    if (!ns) gp_set(&gp.my->kill_at, 0); /* after the timer has stopped: it may have gone off */
    Py_RETURN_NONE;
}

PyMethodDef death_functions[] = {
    {"deaths", core_deaths, METH_NOARGS,
     PyDoc_STR("The number of deaths of workers, which is that of the last one.")},
    {"death", core_death, METH_O,
     PyDoc_STR("(proc, pid, status, memory, timed out, when, lost, moved, goroutines, again, running, late, "
               "call) of a death by "
               "its number; None: it is not kept.")},
    {"retire", METHOD(core_retire), METH_FASTCALL,
     PyDoc_STR("retire(proc, flag): have a worker leave when it has nothing to do, or not. False: it leaves "
               "already, or was not to.")},
    {"retiring", core_retiring, METH_O,
     PyDoc_STR("True if this worker is to leave when it has nothing to do. With True as argument: it leaves "
               "now, if that still holds.")},
    {"kill", core_kill, METH_O, PyDoc_STR("Kill a worker; False: none is there at this moment.")},
    {"end", core_end, METH_O,
     PyDoc_STR(
         "Kill a worker whose goroutine nobody wants any more. A line tells of it only if others are lost.")},
    {"kill_at", METHOD(core_kill_at), METH_FASTCALL,
     PyDoc_STR("kill_at(seconds, object): have the kernel kill this process at a monotonic time, for the "
               "goroutine with that outcome; "
               "0, or a time beyond the core's clock: never. The last call counts.")},
    {NULL, NULL, 0, NULL},
};
