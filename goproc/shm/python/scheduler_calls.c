/* scheduler_calls.c - the functions that the scheduler calls: the goroutines of waiters, idling, and the end
 * of time slices. */
#include <limits.h>
#include <malloc.h>
#include <unistd.h>

#include "python.h"
#include <structmember.h>

/* ---- parking and idling */

static PyObject **parked; /* by waiter: the goroutine that waits there, as the scheduler sees it */
static uint32_t parked_cap;

void scheduler_unbind(uint32_t waiter) {
    if (waiter < parked_cap) Py_CLEAR(parked[waiter]);
}

/* Python threads beside the scheduler's; each may do anything, unless it is blocked in an operation */
uint32_t threads_beside(void) {
    uint32_t n = 0;
    for (PyThreadState *t = PyInterpreterState_ThreadHead(PyInterpreterState_Get()); t;
         t = PyThreadState_Next(t))
        n++;
    return n - 1;
}

/* Note the goroutine that runs, after a wait in which the core had no part. */
static PyObject *core_running(PyObject *Py_UNUSED(module), PyObject *id) {
    unsigned long long number = PyLong_AsUnsignedLongLong(id);
    if (PyErr_Occurred()) return NULL;
    if (gp.base) gp_set(&gp.my->running, number);
    Py_RETURN_NONE;
}

static PyObject *core_check_park(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (!wait_allowed()) return NULL;
    return PyBool_FromLong(cushion_ready());
}

static PyObject *core_check_memory(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return cushion_check() ? Py_NewRef(Py_None) : NULL;
}

/* For reports on this process's death. `id` is a slot of the class, so it lies at the offset of its
 * descriptor. */
static uint64_t id_of(PyObject *g) {
    static PyTypeObject *type;
    static Py_ssize_t offset;
    if (GP_UNLIKELY(type != Py_TYPE(g))) {
        PyObject *slot = PyObject_GetAttrString((PyObject *)Py_TYPE(g), "id");
        offset = slot && Py_IS_TYPE(slot, &PyMemberDescr_Type)
                     ? ((PyMemberDescrObject *)slot)->d_member->offset
                     : 0;
        type = Py_TYPE(g);
        Py_XDECREF(slot);
        PyErr_Clear();
    }
    PyObject *id = offset ? *(PyObject **)((char *)g + offset) : NULL;
    return id && PyLong_Check(id) ? PyLong_AsUnsignedLongLongMask(id) : 0;
}

static PyObject *core_bind(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 2) return PyErr_Format(PyExc_TypeError, "bind(slot, goroutine)");
    unsigned long slot = PyLong_AsUnsignedLong(args[0]);
    if (slot == (unsigned long)-1 && PyErr_Occurred()) return NULL;
    if (slot >= gp.waiters) return PyErr_Format(PyExc_ValueError, "no waiter %lu", slot);
    if (slot >= parked_cap) {
        uint32_t cap = parked_cap ? parked_cap : 256;
        while (cap <= slot) cap *= 2;
        PyObject **v = PyMem_Realloc(parked, cap * sizeof *v);
        if (!v) return PyErr_NoMemory();
        memset(v + parked_cap, 0, (cap - parked_cap) * sizeof *v);
        parked = v;
        parked_cap = cap;
    }
    gp_set(&gp_waiter_at(gp.proc, (uint32_t)slot)->goroutine, id_of(args[1]));
    PyObject *old = parked[slot];
    parked[slot] = Py_NewRef(args[1]);
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

/* g.parked: False, g.notified, and into the run queue; without a bytecode in between, where a signal could
 * come */
static int make_ready(PyObject *g, bool notified, bool next) {
    static PyObject *parked_, *notified_;
    if (!notified_ && (!(parked_ = PyUnicode_InternFromString("parked")) ||
                       !(notified_ = PyUnicode_InternFromString("notified"))))
        return -1;
    PyObject *waits = PyObject_GetAttr(g, parked_);
    if (!waits) return -1;
    Py_DECREF(waits);
    if (waits != Py_True) return 0; /* something else was faster */
    if (PyObject_SetAttr(g, parked_, Py_False) < 0 ||
        PyObject_SetAttr(g, notified_, notified ? Py_True : Py_False) < 0)
        return -1;
    PyObject *r = PyObject_CallOneArg(next ? hooks.ready_next : hooks.ready, g);
    Py_XDECREF(r);
    return r ? 0 : -1;
}

/* Look for waiters that were fired and not told: a process may have died in between. `notified` stays false:
 * rule O2. */
static int look_at_waiters(void) {
    static uint64_t run;
    static uint32_t seen;
    uint32_t scans = gp_acquire(&gp.head->scans), n = gp_waiters_used(gp.my);
    if (run != gp.run) seen = 0;
    run = gp.run;
    if (scans == seen) return 0;
    seen = scans;
    gp_threads_recount();
    for (uint32_t i = 0; i < n; i++) {
        struct gp_waiter *w = gp_waiter_at(gp.proc, i);
        unsigned tag = GP_W_TAG(gp_acquire(&w->state));
        if (tag == GP_W_IDLE || tag == GP_W_WAITING) continue;
        if (gp_get(&w->thread) == GP_WATCHED) gp_watched_again(i);
        else if (gp_get(&w->thread)) gp_futex_wake((_Atomic uint32_t *)&w->state, INT_MAX);
        else if (i < parked_cap && parked[i] && make_ready(parked[i], false, false) < 0) return -1;
    }
    return 0;
}

static PyObject *core_drain(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    gp_set(&gp_polls, gp_get(&gp_polls) + 1);
    int64_t wakee = -1;
    gp_slice_quiet(0);
    if (gp.base) {
        wakee = gp_direct_wakee();
        if (wakee < 0 || !gp_slice_inherit()) {
            wakee = -1;
            gp_set(&gp_slices, gp_get(&gp_slices) + 1);
        }
    }
    if (!gp.base) return PyLong_FromLong(DRAIN_STOPS);
    gp_set(&gp.my->running, 0); /* the next goroutine sets it, except one that has yielded */
    long flags = (gp_slice_ticked() ? DRAIN_TICKED : 0) | (gp_get(&gp.head->stop) ? DRAIN_STOPS : 0);
    if (GP_LIKELY(!gp_inbox_pending() && !gp_get(&gp.my->rescan))) return PyLong_FromLong(flags);
    uint32_t indices[1024];
    int n;
    while (gp_inbox_pending() && (n = gp_drain(indices, 1024)) > 0)
        for (int i = 0; i < n; i++) {
            unsigned tag = GP_W_TAG(gp_acquire(&gp_waiter_at(gp.proc, indices[i])->state));
            /* a late bit may meet a waiter that has gone on to wait for something else, or for nothing */
            if (tag == GP_W_IDLE || indices[i] >= parked_cap || !parked[indices[i]]) continue;
            if (tag == GP_W_WAITING && !atomic_exchange(&gp_waiter_at(gp.proc, indices[i])->rethink, 0))
                continue;
            if (make_ready(parked[indices[i]], true, indices[i] == wakee) < 0) return NULL;
        }
    if (gp_get(&gp.my->rescan)) {
        atomic_store(&gp.my->rescan, 0);
        if (look_at_waiters() < 0) return NULL;
        flags |= DRAIN_LOOK;
    }
    return PyLong_FromLong(flags);
}

/* The process has nothing to do: garbage and free memory go back to the system. */
static void trim(void) {
    if (gp_collection_due()) collect_now();
    if (!gp.base) return;
    if (!gp_get(&gp.my->fenced)) { /* no thread of this process may allocate meanwhile */
        gp_heap_trim(gp_something_to_do);
        return;
    }
    Py_BEGIN_ALLOW_THREADS
    gp_heap_trim(gp_something_to_do);
    Py_END_ALLOW_THREADS
}

static PyObject *core_idle(PyObject *Py_UNUSED(module), PyObject *deadline) {
    uint64_t until = time_ns(deadline);
    if (PyErr_Occurred()) return NULL;
    if (!gp.base) Py_RETURN_NONE;
    gp_release(&gp.my->foreign, threads_beside());
    Py_BEGIN_ALLOW_THREADS
    gp_idle(until);
    Py_END_ALLOW_THREADS
    if (gp.base && gp_heap_look()) trim();
    if (PyErr_CheckSignals() < 0) return NULL;
    Py_RETURN_NONE;
}

/* malloc keeps free memory below its topmost block */
static PyObject *core_trim(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
#ifdef __GLIBC__
    Py_BEGIN_ALLOW_THREADS
    malloc_trim(0);
    Py_END_ALLOW_THREADS
#endif
    Py_RETURN_NONE;
}

/* glibc keeps freed blocks for the next ones up to a size that grows with the largest block that was given
 * back to the system. At its first size, 128 KB, a function that makes and drops arrays of a megabyte gets
 * each of them from the system: the kernel clears as many pages as the function writes to. Children inherit
 * the size. */
static PyObject *core_keep_freed(PyObject *Py_UNUSED(module), PyObject *size) {
    size_t n = PyLong_AsSize_t(size);
    if (PyErr_Occurred()) return NULL;
#ifdef __GLIBC__
    void *volatile block = malloc(n);
    free(block);
#endif
    Py_RETURN_NONE;
}

static PyObject *core_wake(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (gp.base) gp_nudge(gp.proc);
    Py_RETURN_NONE;
}

static PyObject *core_scheduler_thread(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (cushion_begin() < 0) return NULL;
    scheduler_thread = PyThread_get_thread_ident();
    /* goroutines of a runtime that has stopped */
    for (uint32_t i = 0; i < parked_cap; i++) scheduler_unbind(i);
    Py_RETURN_NONE;
}

/* The scheduler keeps one dead greenlet. It is in no cycle, and a search for dead ones is not to find it. */
static PyObject *core_untrack(PyObject *Py_UNUSED(module), PyObject *object) {
    if (PyObject_GC_IsTracked(object)) PyObject_GC_UnTrack(object);
    Py_RETURN_NONE;
}

static PyObject *core_on_scheduler_thread(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyBool_FromLong(PyThread_get_thread_ident() == scheduler_thread);
}

static PyObject *core_park_forever(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 2 || !PyUnicode_Check(args[0]))
        return PyErr_Format(PyExc_TypeError, "park_forever(reason, timeout)");
    if (handle_ready() < 0) return NULL;
    struct wait_spec w = {.timeout = args[1] == Py_None ? NULL : args[1], .reason = args[0]};
    wait_forever(&w);
    return NULL;
}

/* ---- time slices */

/* called without the GIL: sizes may be stale, and then the next slice sees it */
static bool somebody_waits(void) {
    return gp_inbox_pending() || gp_get(&gp.my->rescan) || (hooks.runq && Py_SIZE(hooks.runq) > 0) ||
           (hooks.timers && Py_SIZE(hooks.timers) > 0 && gp_slice_timers());
}

static void request(int number) { PyErr_SetInterruptEx(number); }

static PyObject *core_start_monitor(PyObject *Py_UNUSED(module), PyObject *arg) {
    long number = PyLong_AsLong(arg);
    if (number == -1 && PyErr_Occurred()) return NULL;
    int err = gp_monitor_start((int)number, request, somebody_waits);
    if (err < 0) return PyErr_Format(PyExc_OSError, "cannot start goproc's monitor thread: error %d", -err);
    Py_RETURN_NONE;
}

static PyObject *core_stop_monitor(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    gp_monitor_stop(); /* it never waits for the GIL */
    Py_RETURN_NONE;
}

static PyObject *core_may_switch(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyBool_FromLong(gp.base && PyThread_get_thread_ident() == scheduler_thread &&
                           !message_in_progress() && !wait_stack_short() && cushion_ready());
}

static PyObject *core_slice_end(PyObject *Py_UNUSED(module), PyObject *next) {
    if (next == Py_None) gp_slice_refused();
    else gp_slice_quiet(time_ns(next));
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static PyObject *core_slice_noted(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    gp_slice_noted();
    Py_RETURN_NONE;
}

/* os.getcwd() without letting go of the GIL. A thread that waits for the GIL asks for it after 5 ms without a
 * release. A release every few milliseconds, at which this thread takes it back at once, would keep the other
 * one waiting for ever */
static PyObject *core_folder(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    char path[4096];
    return PyUnicode_DecodeFSDefault(getcwd(path, sizeof path) ? path : "");
}

static PyObject *core_take_asleep(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyBool_FromLong(gp.base && gp.proc == 0 && atomic_exchange(&gp.head->asleep, 0) &&
                           !gp_worker_ended());
}

static PyObject *core_others_asleep(PyObject *Py_UNUSED(module), PyObject *again) {
    if (!gp.base) Py_RETURN_FALSE;
    gp_release(&gp.my->foreign, threads_beside());
    return PyBool_FromLong(gp_others_asleep(again == Py_True));
}

static PyObject *core_ignore_threads(PyObject *Py_UNUSED(module), PyObject *numbers) {
    pid_t tids[GP_MOST_IGNORED];
    if (!PyList_Check(numbers)) return PyErr_Format(PyExc_TypeError, "ignore_threads() takes a list");
    int n = 0;
    for (; n < PyList_GET_SIZE(numbers) && n < GP_MOST_IGNORED; n++) {
        tids[n] = (pid_t)PyLong_AsLong(PyList_GET_ITEM(numbers, n));
        if (PyErr_Occurred()) return NULL;
    }
    gp_ignore_threads(tids, n);
    Py_RETURN_NONE;
}

PyMethodDef scheduler_functions[] = {
    {"bind", METHOD(core_bind), METH_FASTCALL,
     PyDoc_STR("bind(slot, goroutine): note the goroutine that waits in this slot.")},
    {"drain", core_drain, METH_NOARGS,
     PyDoc_STR("Queue the goroutines notified through the inbox. DRAIN_LOOK: this process was asked to look "
               "around; DRAIN_TICKED: "
               "the kernel's clock has ticked since slice_noted(); DRAIN_STOPS: stopping() is true.")},
    {"idle", core_idle, METH_O,
     PyDoc_STR("Sleep until there may be something to do, or the monotonic deadline.")},
    {"running", core_running, METH_O, PyDoc_STR("Note the number of the goroutine that runs, for reports.")},
    {"check_park", core_check_park, METH_NOARGS,
     PyDoc_STR("Raise where a goroutine cannot park: too deep a stack, or in the middle of pickling. True if "
               "there is memory for its stack.")},
    {"check_memory", core_check_memory, METH_NOARGS,
     PyDoc_STR("Raise MemoryError if there is no memory for the stack of a goroutine that parks.")},
    {"wake", core_wake, METH_NOARGS,
     PyDoc_STR("Make this process's scheduler look around; from any thread.")},
    {"use_this_thread", core_scheduler_thread, METH_NOARGS,
     PyDoc_STR("Goroutines run on the calling thread.")},
    {"trim", core_trim, METH_NOARGS, PyDoc_STR("Give memory that malloc has free back to the system.")},
    {"keep_freed", core_keep_freed, METH_O,
     PyDoc_STR("Let malloc keep freed blocks of up to so many bytes, in this process and its children.")},
    {"untrack", core_untrack, METH_O, PyDoc_STR("Hide an object from the garbage collector.")},
    {"on_scheduler_thread", core_on_scheduler_thread, METH_NOARGS, NULL},
    {"park_forever", METHOD(core_park_forever), METH_FASTCALL,
     PyDoc_STR("Block until the timeout: raises TimeoutError or the exception that interrupts it.")},
    {"start_monitor", core_start_monitor, METH_O,
     PyDoc_STR("Have the handler of a signal called when a goroutine keeps this thread for long.")},
    {"stop_monitor", core_stop_monitor, METH_NOARGS, NULL},
    {"may_switch", core_may_switch, METH_NOARGS,
     PyDoc_STR("True if a goroutine can let others run here, as far as C knows.")},
    {"slice_noted", core_slice_noted, METH_NOARGS,
     PyDoc_STR("The state of the process is noted: DRAIN_TICKED comes again after the next tick.")},
    {"folder", core_folder, METH_NOARGS,
     PyDoc_STR("The working directory, \"\" if it was removed. Keeps the GIL.")},
    {"slice_end", core_slice_end, METH_O,
     PyDoc_STR("The request for a turn came to nothing: None, not here; else when the next timer is due.")},
    {"others_asleep", core_others_asleep, METH_O,
     PyDoc_STR("True if nothing is under way and all but the caller sleep. With True: and nothing has "
               "changed since the call with False.")},
    {"ignore_threads", core_ignore_threads, METH_O,
     PyDoc_STR("The numbers of threads of this process that wake no goroutine.")},
    {"take_asleep", core_take_asleep, METH_NOARGS,
     PyDoc_STR("In the host: True, once, if all goroutines were found asleep.")},
    {NULL, NULL, 0, NULL},
};
