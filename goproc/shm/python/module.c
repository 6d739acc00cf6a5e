/* module.c - the extension module goproc.shm._core. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "python.h"

static PyObject *os_error(int err, const char *what) {
    PyObject *args = Py_BuildValue("(iN)", -err, PyUnicode_FromFormat("%s: %s", what, strerror(-err)));
    if (args) PyErr_SetObject(PyExc_OSError, args);
    Py_XDECREF(args);
    return NULL;
}

/* ---- life of the segment */

/* Say which limit of the process the segment does not fit in; false: none that is known. */
static bool limit_error(int err, unsigned procs) {
    struct rlimit space, file;
    uint64_t least = gp_least_bytes(procs);
    bool is_space = err == -ENOMEM && getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY;
    bool is_file = err == -EFBIG && getrlimit(RLIMIT_FSIZE, &file) == 0 && file.rlim_cur != RLIM_INFINITY;
    if (!is_space && !is_file) return false;
    errno = -err;
    PyObject *text = PyUnicode_FromFormat(
        "cannot create goproc's shared memory: %u processes need at least %llu bytes of %s, and %s is %llu; raise it, or use "
        "fewer processes (--procs, GOPROC_PROCS or runtime(procs=...))",
        procs, (unsigned long long)least, is_space ? "address space" : "a file",
        is_space ? "RLIMIT_AS (ulimit -v)" : "RLIMIT_FSIZE (ulimit -f)",
        (unsigned long long)(is_space ? space.rlim_cur : file.rlim_cur));
    PyObject *args = text ? Py_BuildValue("(iN)", -err, text) : NULL;
    if (args) PyErr_SetObject(PyExc_OSError, args);
    Py_XDECREF(args);
    return true;
}

static PyObject *core_create(PyObject *Py_UNUSED(module), PyObject *args) {
    unsigned procs, ncpu;
    unsigned long long memory;
    if (!PyArg_ParseTuple(args, "IKI:create", &procs, &memory, &ncpu)) return NULL;
    if (gp.base) return PyErr_Format(PyExc_RuntimeError, "a runtime is attached already");
    if (procs < 1 || procs > GP_MAX_PROCS) return PyErr_Format(PyExc_ValueError, "procs must be 1 to %u", GP_MAX_PROCS);
    int fd = gp_create_with_room(procs, memory, ncpu);
    if (fd >= 0) return PyLong_FromLong(fd);
    return limit_error(fd, procs) ? NULL : os_error(fd, "cannot create goproc's shared memory");
}

static PyObject *core_attach(PyObject *Py_UNUSED(module), PyObject *args) {
    int fd;
    unsigned proc, zygote = 0;
    if (!PyArg_ParseTuple(args, "iI|I:attach", &fd, &proc, &zygote)) return NULL;
    gp_zygote = zygote;
    int err = gp_attach(fd, proc);
    if (err == 0) err = gp_waiters_attach();
    if (err < 0) return os_error(err, "cannot map goproc's shared memory");
    gp_tell_attach();
    gp_idle_attach();
    gp_damage_ends = gp_damage_exit;
    gp_go_live();
    scheduler_thread = PyThread_get_thread_ident();
    Py_RETURN_NONE;
}

static PyObject *core_detach(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (gp.base) {
        gp_monitor_stop();
        gp_coroner_stop();
        gp_release_threads();
        handles_forget();
        gp_detach();
    }
    Py_RETURN_NONE;
}

static PyObject *core_attached(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyBool_FromLong(gp.base != NULL);
}

static PyObject *core_ensure(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return handle_ready() < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *core_begin(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return handles_begin() < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *core_check_fork(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (gp.forked && handle_ready() < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *core_stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (gp.base) {
        atomic_store(&gp.head->stop, 1);
        for (uint32_t p = 0; p < gp_places(); p++) gp_ring_proc(p);
    }
    Py_RETURN_NONE;
}

static PyObject *core_stopping(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyBool_FromLong(!gp.base || gp_get(&gp.head->stop));
}

static PyObject *core_failed(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (GP_LIKELY(!gp.base || !gp_get(&gp.head->failed))) Py_RETURN_NONE;
    return Py_BuildValue("(II)", gp_get(&gp.head->failed_proc), gp_get(&gp.head->failed));
}

static PyObject *core_start_coroner(PyObject *Py_UNUSED(module), PyObject *args) {
    int control, zygote, keeper;
    if (!PyArg_ParseTuple(args, "iii:start_coroner", &control, &zygote, &keeper)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    gp_coroner_await_end();
    Py_END_ALLOW_THREADS
    int err = gp_coroner_start(control, zygote, keeper);
    if (err < 0) return os_error(err, "cannot start goproc's coroner thread");
    Py_RETURN_NONE;
}

static PyObject *core_start_zygotes(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    gp_set(&gp.head->zygotes, 1);
    for (uint32_t p = 1; p < gp_places(); p++) gp_set(&gp_proc_at(p)->claim, 1ULL << 32);
    Py_RETURN_NONE;
}

/* None, or the needs of another zygote: its number, the segment's descriptor, the pids of the workers that it has not forked */
static PyObject *core_zygote_lost(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (!gp.base || gp.proc != 0 || !gp_get(&gp.head->zygote_lost)) Py_RETURN_NONE;
    if (gp_get(&gp.head->stop) || gp_get(&gp.head->fatal) || !atomic_exchange(&gp.head->zygote_lost, 0)) Py_RETURN_NONE;
    PyObject *pids = PyList_New(0);
    for (uint32_t p = 1; pids && p < gp_places(); p++) {
        uint32_t pid = (uint32_t)gp_get(&gp_proc_at(p)->claim);
        PyObject *one = PyLong_FromUnsignedLong(pid);
        if (!one || (pid && gp_get(&gp_proc_at(p)->state) <= GP_P_LIVE && PyList_Append(pids, one) < 0)) Py_CLEAR(pids);
        Py_XDECREF(one);
    }
    if (!pids) return NULL;
    return Py_BuildValue("IiN", gp_get(&gp.head->zygotes), gp_memfd_valid() ? gp.memfd : -1, pids);
}

static PyObject *next_zygote; /* () -> None: start another zygote */

static void call_next_zygote(void) {
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *result = PyObject_CallNoArgs(next_zygote);
    if (!result) PyErr_WriteUnraisable(next_zygote);
    Py_XDECREF(result);
    PyGILState_Release(state);
}

static PyObject *core_start_successor(PyObject *Py_UNUSED(module), PyObject *function) {
    Py_XSETREF(next_zygote, Py_NewRef(function));
    int err = gp_successor_start(call_next_zygote);
    if (err < 0) return os_error(err, "cannot start the thread for goproc's zygotes");
    Py_RETURN_NONE;
}

static PyObject *core_stop_successor(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    Py_BEGIN_ALLOW_THREADS
    gp_successor_stop();
    Py_END_ALLOW_THREADS
    Py_CLEAR(next_zygote);
    Py_RETURN_NONE;
}

static PyObject *core_repair_ns(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromUnsignedLongLong(gp.base ? gp_get(&gp.head->repair_ns) : 0);
}

static PyObject *core_zygote_failed(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    gp_coroner_give_up();
    Py_RETURN_NONE;
}

static PyObject *core_stop_coroner(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    Py_BEGIN_ALLOW_THREADS
    gp_coroner_stop();
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *core_tell_zygote(PyObject *Py_UNUSED(module), PyObject *order) {
    const char *letter = PyBytes_AsString(order);
    return letter ? PyBool_FromLong(gp_coroner_tell(letter)) : NULL;
}

static PyObject *core_say(PyObject *Py_UNUSED(module), PyObject *arg) {
    char *text;
    Py_ssize_t n;
    if (PyBytes_AsStringAndSize(arg, &text, &n) < 0) return NULL;
    Py_BEGIN_ALLOW_THREADS
    gp_say(text, (size_t)n);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *core_fatal_claim(PyObject *Py_UNUSED(module), PyObject *reason) {
    PyObject *text = PyUnicode_AsEncodedString(reason, "utf-8", "backslashreplace");
    if (!text) return NULL;
    bool mine = !gp.base || gp_fatal_claim(PyBytes_AS_STRING(text));
    Py_DECREF(text);
    return PyBool_FromLong(mine);
}

static PyObject *core_fatal_exit(PyObject *Py_UNUSED(module), PyObject *arg) {
    long status = PyLong_AsLong(arg);
    if (status == -1 && PyErr_Occurred()) return NULL;
    if (!gp.base) gp_leave((int)status);
    Py_BEGIN_ALLOW_THREADS
    gp_fatal_exit((int)status);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *core_set_survives(PyObject *Py_UNUSED(module), PyObject *flag) {
    if (gp.base) gp_set(&gp.head->survives, flag == Py_True);
    Py_RETURN_NONE;
}

static PyObject *core_set_on_death(PyObject *Py_UNUSED(module), PyObject *arg) {
    unsigned long policy = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred()) return NULL;
    if (gp.base) gp.head->on_death = (uint32_t)policy;
    Py_RETURN_NONE;
}

static PyObject *core_set_quiet_deaths(PyObject *Py_UNUSED(module), PyObject *flag) {
    if (gp.base) gp.head->quiet_deaths = flag == Py_True;
    Py_RETURN_NONE;
}

static PyObject *core_survives(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyBool_FromLong(gp.base && gp.proc == 0 && gp_get(&gp.head->survives));
}

static PyObject *core_lost(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (GP_LIKELY(!atomic_load(&gp.lost)) || !gp.base) Py_RETURN_NONE;
    return PyUnicode_DecodeUTF8(gp.head->reason, (Py_ssize_t)strnlen(gp.head->reason, GP_REASON), "replace");
}

#ifdef __GLIBC__
static void end_with(int status, void *wanted) {
    if (status != 0) return;
    fflush(NULL);
    gp_leave((int)(intptr_t)wanted);
}
#endif

static PyObject *core_exit_status(PyObject *Py_UNUSED(module), PyObject *arg) {
    long status = PyLong_AsLong(arg);
    if (status == -1 && PyErr_Occurred()) return NULL;
#ifdef __GLIBC__
    if (on_exit(end_with, (void *)(intptr_t)status) == 0) Py_RETURN_TRUE;
#endif
    Py_RETURN_FALSE;
}

/* ---- facts */

static PyObject *core_proc(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromUnsignedLong(gp.base ? gp.proc : 0);
}

static PyObject *core_procs(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromUnsignedLong(gp.base ? 1 + gp_workers() : 0);
}

static PyObject *core_pids(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    PyObject *list = PyList_New(0);
    for (uint32_t p = 0; list && gp.base && p < gp_places(); p++) {
        PyObject *pid = PyLong_FromLong(gp_get(&gp_proc_at(p)->pid));
        if (!pid || PyList_Append(list, pid) < 0) Py_CLEAR(list);
        Py_XDECREF(pid);
    }
    return list;
}

static PyObject *core_census(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (handle_ready() < 0) return NULL;
    struct gp_heap_stats s;
    gp_heap_census(&s);
    uint64_t missed = 0, queued = 0;
    for (uint32_t p = 0; p < gp_places(); p++) {
        struct gp_queue *q = &gp_proc_at(p)->queue;
        missed += gp_get(&gp_proc_at(p)->missed);
        queued += gp_get(&q->tail) - gp_get(&q->head) + gp_get(&q->pinned_tail) - gp_get(&q->pinned_head);
    }
    return Py_BuildValue("{s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:I}", "blocks", (unsigned long long)s.blocks, "objects",
                         (unsigned long long)s.objects, "definitions", (unsigned long long)s.definitions, "bytes",
                         (unsigned long long)s.bytes, "committed", (unsigned long long)gp_committed(), "missed_wakeups",
                         (unsigned long long)missed, "queued", (unsigned long long)queued, "handles", handles_live());
}

static PyObject *core_memory_use(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (handle_ready() < 0) return NULL;
    return PyFloat_FromDouble((double)gp_committed() / (double)gp.head->memory);
}

static PyObject *core_full(PyObject *Py_UNUSED(module), PyObject *tell) {
    if (!gp.base) return PyLong_FromLong(0);
    if (tell != Py_True) return PyLong_FromUnsignedLong(gp_get(&gp.head->full));
    uint32_t count = atomic_fetch_add(&gp.head->full, 1) + 1;
    for (uint32_t p = 0; p < gp_places(); p++)
        if (p != gp.proc) gp_nudge(p);
    return PyLong_FromUnsignedLong(count);
}

/* This process has looked for garbage because of a request, the number that core_full() returned. */
static PyObject *core_searched(PyObject *Py_UNUSED(module), PyObject *request) {
    unsigned long count = PyLong_AsUnsignedLong(request);
    if (PyErr_Occurred()) return NULL;
    if (gp.base) gp_release(&gp.my->searched, (uint32_t)count);
    Py_RETURN_NONE;
}

/* True if each other process that runs has looked for garbage because of this request or of a later one. */
static PyObject *core_all_searched(PyObject *Py_UNUSED(module), PyObject *request) {
    unsigned long count = PyLong_AsUnsignedLong(request);
    if (PyErr_Occurred()) return NULL;
    for (uint32_t p = 0; gp.base && p < gp_places(); p++) {
        struct gp_proc *other = gp_proc_at(p);
        if (p == gp.proc || gp_get(&other->state) != GP_P_LIVE) continue;
        if ((int32_t)(gp_acquire(&other->searched) - (uint32_t)count) < 0) Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

static PyObject *core_collect(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (handle_ready() < 0) return NULL;
    return PyLong_FromUnsignedLong(collect_now());
}

static PyObject *core_unread(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return gp.base ? handles_unread() : PyList_New(0);
}

static PyObject *core_die_with_parent(PyObject *Py_UNUSED(module), PyObject *args) {
    int ppid, keeper;
    if (!PyArg_ParseTuple(args, "ii:die_with_parent", &ppid, &keeper)) return NULL;
    int err = gp_die_with_parent(ppid, keeper);
    if (err < 0) return os_error(err, "the parent process is gone");
    Py_RETURN_NONE;
}

static PyObject *core_set_name(PyObject *Py_UNUSED(module), PyObject *arg) {
    const char *name = PyBytes_AsString(arg);
    if (!name) return NULL;
    prctl(PR_SET_NAME, name);
    Py_RETURN_NONE;
}

/* ---- hooks */

static PyObject *core_connect(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs) {
    if (PyTuple_GET_SIZE(args)) return PyErr_Format(PyExc_TypeError, "connect() takes keyword arguments");
    struct {
        const char *name;
        PyObject **at;
    } known[] = {
        {"encode", &hooks.encode},           {"decode", &hooks.decode},
        {"park", &hooks.park},               {"parked", &hooks.parked},
        {"raise_wait_failure", &hooks.raise_wait_failure}, {"scheduler", &hooks.scheduler},
        {"offer_turn", &hooks.offer_turn},      {"start", &hooks.start},
        {"copy", &hooks.types[GP_KIND_COPY]}, {"refer", &hooks.refer},
        {"unread", &hooks.unread},           {"chan_closed", &hooks.chan_closed},
        {"error", &hooks.error}, {"out_of_memory", &hooks.out_of_memory}, {"stopped", &hooks.stopped},
        {"shield", &hooks.shield},           {"case_of", &hooks.case_of},
        {"owner_died", &hooks.owner_died},   {"timers", &hooks.timers},
        {"mutex", &hooks.types[GP_KIND_MUTEX]}, {"once", &hooks.types[GP_KIND_ONCE]},
        {"rwmutex", &hooks.types[GP_KIND_RWMUTEX]}, {"cond", &hooks.types[GP_KIND_COND]},
        {"semaphore", &hooks.types[GP_KIND_SEMAPHORE]}, {"barrier", &hooks.types[GP_KIND_BARRIER]},
        {"runq", &hooks.runq},               {"chan", &hooks.types[GP_KIND_CHAN]},
        {"waitgroup", &hooks.types[GP_KIND_WAITGROUP]}, {"atomic", &hooks.types[GP_KIND_ATOMIC]},
        {"goroutine", &hooks.types[GP_KIND_OUTCOME]}, {"send_view", &hooks.views[DIR_SEND]},
        {"recv_view", &hooks.views[DIR_RECV]}, {"nil", &hooks.nil},
        {"ready", &hooks.ready},             {"ready_next", &hooks.ready_next},
        {"died", &hooks.died}, {"gone", &hooks.gone}, {"progress_bars", &hooks.progress_bars}, {"full", &hooks.full},
    };
    PyObject *key, *value;
    for (Py_ssize_t at = 0; kwargs && PyDict_Next(kwargs, &at, &key, &value);) {
        PyObject **slot = NULL;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            if (PyUnicode_CompareWithASCIIString(key, known[i].name) == 0) slot = known[i].at;
        if (!slot) return PyErr_Format(PyExc_TypeError, "no hook %R", key);
        PyObject *old = *slot;
        *slot = Py_NewRef(value);
        Py_XDECREF(old);
    }
    Py_RETURN_NONE;
}

static PyObject *core_keep(PyObject *Py_UNUSED(module), PyObject *object) {
    Py_INCREF(object); /* for ever */
    Py_RETURN_NONE;
}

static PyObject *core_handle(PyObject *Py_UNUSED(module), PyObject *args) {
    unsigned ref, gen, kind, dir;
    if (!PyArg_ParseTuple(args, "IIII:_handle", &ref, &gen, &kind, &dir)) return NULL;
    if (handle_ready() < 0) return NULL;
    if (dir < DIR_SEND || dir > DIR_BOTH) return PyErr_Format(PyExc_ValueError, "no direction %u", dir);
    return handle_for(ref, gen, kind, dir);
}

static PyObject *core_make_nil(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (!hooks.types[GP_KIND_CHAN]) return PyErr_Format(PyExc_RuntimeError, "connect(chan=...) first");
    return handle_for(0, 0, GP_KIND_CHAN, DIR_BOTH);
}

static PyMethodDef functions[] = {
    {"create", core_create, METH_VARARGS, PyDoc_STR("create(procs, memory, cpus): make a segment; return its memfd.")},
    {"attach", core_attach, METH_VARARGS, PyDoc_STR("attach(memfd, proc, zygote=0): map the segment and become proc; a worker of the zygote with that number.")},
    {"detach", core_detach, METH_NOARGS, PyDoc_STR("Unmap the segment; handles become unusable.")},
    {"attached", core_attached, METH_NOARGS, PyDoc_STR("True if a runtime is attached to this process.")},
    {"begin", core_begin, METH_NOARGS, PyDoc_STR("Load what the runtime consists of, unless it is loaded.")},
    {"ensure", core_ensure, METH_NOARGS, PyDoc_STR("Start the runtime with the defaults unless one is attached.")},
    {"check_fork", core_check_fork, METH_NOARGS, PyDoc_STR("Raise if the user forked this process while a runtime ran.")},
    {"stop", core_stop, METH_NOARGS, PyDoc_STR("Tell every proc to leave.")},
    {"stopping", core_stopping, METH_NOARGS, PyDoc_STR("True if stop() was called.")},
    {"failed", core_failed, METH_NOARGS, PyDoc_STR("(proc, errno) of a fork that failed, or None.")},
    {"start_coroner", core_start_coroner, METH_VARARGS, PyDoc_STR("start_coroner(control, zygote pid, keeper pid): it owns the socket from now on.")},
    {"start_successor", core_start_successor, METH_O,
     PyDoc_STR("start_successor(function): a thread calls the function whenever the zygote has died.")},
    {"stop_successor", core_stop_successor, METH_NOARGS, PyDoc_STR("End that thread, after a call that is under way.")},
    {"start_zygotes", core_start_zygotes, METH_NOARGS, PyDoc_STR("The first zygote is about to fork the workers.")},
    {"zygote_lost", core_zygote_lost, METH_NOARGS,
     PyDoc_STR("None, or once after the zygote died: (number of the next one, descriptor of the segment or -1, pids of workers).")},
    {"repair_ns", core_repair_ns, METH_NOARGS, PyDoc_STR("The time of the last repair, ns.")},
    {"zygote_failed", core_zygote_failed, METH_NOARGS, PyDoc_STR("There is no other zygote to be had: the program ends.")},
    {"stop_coroner", core_stop_coroner, METH_NOARGS, PyDoc_STR("Wait for the coroner, after the zygote has ended; close the control socket.")},
    {"tell_zygote", core_tell_zygote, METH_O, PyDoc_STR("Send the zygote a letter; false: the program has closed the socket.")},
    {"say", core_say, METH_O, PyDoc_STR("Write bytes to standard error; give up if no reader takes them for some seconds.")},
    {"fatal_claim", core_fatal_claim, METH_O, PyDoc_STR("fatal_claim(reason): true if this process may report and end the program: the first may.")},
    {"fatal_exit", core_fatal_exit, METH_O, PyDoc_STR("End every process of the program with a status; in a host that survives, the others.")},
    {"set_survives", core_set_survives, METH_O, PyDoc_STR("Set if the host goes on when the runtime ends by a panic or a death.")},
    {"set_quiet_deaths", core_set_quiet_deaths, METH_O, PyDoc_STR("Say nothing on stderr about a worker that died, where the program goes on.")},
    {"set_on_death", core_set_on_death, METH_O, PyDoc_STR("Set the policy for deaths of workers: DEATH_EXIT, DEATH_RESTART or DEATH_CONTINUE.")},
    {"survives", core_survives, METH_NOARGS, PyDoc_STR("True in a host that goes on when the runtime ends by a panic or a death.")},
    {"lost", core_lost, METH_NOARGS, PyDoc_STR("In a host that survives: why the runtime has ended, else None.")},
    {"exit_status", core_exit_status, METH_O, PyDoc_STR("End the program with this status if it would be 0; false: the C library cannot.")},
    {"proc", core_proc, METH_NOARGS, PyDoc_STR("This process's number.")},
    {"procs", core_procs, METH_NOARGS, PyDoc_STR("The number of procs; 0 without a runtime.")},
    {"pids", core_pids, METH_NOARGS, PyDoc_STR("Process ids by proc; 0: not started.")},
    {"census", core_census, METH_NOARGS, PyDoc_STR("Live blocks, objects and bytes of the segment, and counters.")},
    {"memory_use", core_memory_use, METH_NOARGS, PyDoc_STR("The part of the memory limit that is taken, from 0 to 1.")},
    {"full", core_full, METH_O, PyDoc_STR("How often a process had no memory left. True: once more; have the others look for garbage.")},
    {"searched", core_searched, METH_O, PyDoc_STR("This process has looked for garbage because of that request.")},
    {"all_searched", core_all_searched, METH_O, PyDoc_STR("True if the other processes have looked for garbage because of that request.")},
    {"collect", core_collect, METH_NOARGS, PyDoc_STR("Free shared objects without a reference; return their number.")},
    {"reference", buffers_reference, METH_O,
     PyDoc_STR("reference($module, memory, /)\n--\n\nWhat stands in a message for large memory that is in shared memory already; None if it is not, or has changed.")},
    {"as_pickling", METHOD(message_as_pickling), METH_FASTCALL,
     PyDoc_STR("Call a function that pickles, outside of a message: handles let themselves be pickled, blocking is refused.")},
    {"for_end", METHOD(memory_for_end), METH_FASTCALL,
     PyDoc_STR("for_end(function, *args): call a function that may use the memory set aside for ends: failures, reports, releases.")},
    {"unread", core_unread, METH_NOARGS, PyDoc_STR("(id, failure, site) of failed goroutines with an unread failure and a handle here, or in no process.")},
    {"die_with_parent", core_die_with_parent, METH_VARARGS,
     PyDoc_STR("die_with_parent(ppid, keeper): end when my parent, which must be ppid, dies; if the keeper, unless that is 0, is my "
               "parent then, when that dies.")},
    {"set_name", core_set_name, METH_O, PyDoc_STR("Name of this process in ps and top, at most 15 bytes.")},
    {"connect", METHOD(core_connect), METH_VARARGS | METH_KEYWORDS, PyDoc_STR("Set hooks by name.")},
    {"keep", core_keep, METH_O, PyDoc_STR("Let an object outlive the interpreter: its finalizers never run.")},
    {"_handle", core_handle, METH_VARARGS, PyDoc_STR("Unpickle a handle.")},
    {"make_nil", core_make_nil, METH_NOARGS, PyDoc_STR("The nil channel.")},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "goproc.shm._core", "Shared memory, channels and task queues of goproc.", -1, functions, NULL, NULL, NULL, NULL,
};

#define DEFINE(name, text) PyObject *reason_##name;
REASONS(DEFINE)

PyMODINIT_FUNC PyInit__core(void) {
    struct {
        const char *name;
        PyTypeObject *type;
    } types[] = {{"Handle", &HandleType},       {"Channel", &ChannelType}, {"WaitGroup", &WaitGroupType},
                 {"Atomic", &AtomicType},       {"Outcome", &OutcomeType}, {"Buffer", &BufferType},
                 {"Mutex", &MutexType},         {"Once", &OnceType},       {"RWMutex", &RWMutexType},
                 {"Cond", &CondType},           {"Semaphore", &SemaphoreType}, {"Barrier", &BarrierType},
                 {"Awaits", &AwaitsType},   {"Awaited", &AwaitedType},   {"Results", &ResultsType},
                 {"Watch", &WatchType},     {"Copy", &CopyType},       {"View", &ViewType},
                 {"Guard", &GuardType},        {"Reference", &ReferenceType},
                 {"Bindings", &BindingsType},  {"Together", &TogetherType}};
#define MAKE(name, text) \
    if (!reason_##name && !(reason_##name = PyUnicode_InternFromString(text))) return NULL;
    REASONS(MAKE)
    PyObject *m = PyModule_Create(&definition);
    PyMethodDef *const functions[] = {task_functions, scheduler_functions, stack_functions, select_functions, clock_functions,
                                      dump_functions, end_functions, death_functions, guard_functions, map_functions, resize_functions,
                                      cell_functions, output_functions, interrupt_functions, call_functions, together_functions};
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (!m || PyModule_AddFunctions(m, functions[i]) < 0) return NULL;
    if (select_types_ready(m) < 0) return NULL;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (PyType_Ready(types[i].type) < 0 || PyModule_AddObjectRef(m, types[i].name, (PyObject *)types[i].type) < 0) return NULL;
    if (sync_types_ready() < 0) return NULL;
    if (PyModule_AddIntConstant(m, "MAX_PROCS", GP_MAX_PROCS) < 0 || PyModule_AddIntConstant(m, "G_QUEUED", GP_G_QUEUED) < 0 ||
        PyModule_AddIntConstant(m, "G_RUNNING", GP_G_RUNNING) < 0 || PyModule_AddIntConstant(m, "G_OK", GP_G_OK) < 0 ||
        PyModule_AddIntConstant(m, "G_FAILED", GP_G_FAILED) < 0 || PyModule_AddIntConstant(m, "G_DEAD", GP_G_DEAD) < 0 ||
        PyModule_AddIntConstant(m, "DEATH_EXIT", GP_DEATH_EXIT) < 0 || PyModule_AddIntConstant(m, "DEATH_RESTART", GP_DEATH_RESTART) < 0 ||
        PyModule_AddIntConstant(m, "DEATH_CONTINUE", GP_DEATH_CONTINUE) < 0 || PyModule_AddIntConstant(m, "DRAIN_LOOK", DRAIN_LOOK) < 0 ||
        PyModule_AddIntConstant(m, "DRAIN_TICKED", DRAIN_TICKED) < 0 || PyModule_AddIntConstant(m, "DRAIN_STOPS", DRAIN_STOPS) < 0 ||
        PyModule_AddIntConstant(m, "LARGE_BUFFER", LARGE_BUFFER) < 0)
        return NULL;
#ifdef GP_DEBUG
    if (PyModule_AddIntConstant(m, "DEBUG", 1) < 0) return NULL; /* built with GOPROC_DEBUG=1 */
#endif
    return m;
}
