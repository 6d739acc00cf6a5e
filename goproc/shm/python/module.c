/* module.c - the extension module goproc.shm._core: the life of the segment, the hooks, and all functions and
 * types. */
#define _GNU_SOURCE
#include <sys/resource.h>

#include "python.h"

PyObject *os_error(int err, const char *what) {
    PyObject *args = Py_BuildValue("(iN)", -err, PyUnicode_FromFormat("%s: %s", what, strerror(-err)));
    if (args) PyErr_SetObject(PyExc_OSError, args);
    Py_XDECREF(args);
    return NULL;
}

/* ---- life of the segment */

/* Raise with the limit of the process that the segment does not fit in. False: no such limit is known. */
static bool limit_error(int err, unsigned procs) {
    struct rlimit space, file;
    uint64_t least = gp_least_bytes(procs);
    bool is_space = err == -ENOMEM && getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY;
    bool is_file = err == -EFBIG && getrlimit(RLIMIT_FSIZE, &file) == 0 && file.rlim_cur != RLIM_INFINITY;
    if (!is_space && !is_file) return false;
    errno = -err;
    PyObject *text =
        PyUnicode_FromFormat("cannot create goproc's shared memory: %u processes need at least %llu bytes of "
                             "%s, and %s is %llu; raise it, or use "
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
    if (procs < 1 || procs > GP_MAX_PROCS)
        return PyErr_Format(PyExc_ValueError, "procs must be 1 to %u", GP_MAX_PROCS);
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
        gp_lifeline_stop();
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

/* ---- hooks */

static PyObject *core_connect(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs) {
    if (PyTuple_GET_SIZE(args)) return PyErr_Format(PyExc_TypeError, "connect() takes keyword arguments");
    struct {
        const char *name;
        PyObject **at;
    } known[] = {
        {"encode", &hooks.encode},
        {"decode", &hooks.decode},
        {"park", &hooks.park},
        {"parked", &hooks.parked},
        {"raise_wait_failure", &hooks.raise_wait_failure},
        {"scheduler", &hooks.scheduler},
        {"offer_turn", &hooks.offer_turn},
        {"start", &hooks.start},
        {"copy", &hooks.types[GP_KIND_COPY]},
        {"refer", &hooks.refer},
        {"unread", &hooks.unread},
        {"chan_closed", &hooks.chan_closed},
        {"error", &hooks.error},
        {"out_of_memory", &hooks.out_of_memory},
        {"stopped", &hooks.stopped},
        {"shield", &hooks.shield},
        {"case_of", &hooks.case_of},
        {"owner_died", &hooks.owner_died},
        {"timers", &hooks.timers},
        {"mutex", &hooks.types[GP_KIND_MUTEX]},
        {"once", &hooks.types[GP_KIND_ONCE]},
        {"rwmutex", &hooks.types[GP_KIND_RWMUTEX]},
        {"cond", &hooks.types[GP_KIND_COND]},
        {"semaphore", &hooks.types[GP_KIND_SEMAPHORE]},
        {"barrier", &hooks.types[GP_KIND_BARRIER]},
        {"runq", &hooks.runq},
        {"chan", &hooks.types[GP_KIND_CHAN]},
        {"waitgroup", &hooks.types[GP_KIND_WAITGROUP]},
        {"atomic", &hooks.types[GP_KIND_ATOMIC]},
        {"goroutine", &hooks.types[GP_KIND_OUTCOME]},
        {"send_view", &hooks.views[DIR_SEND]},
        {"recv_view", &hooks.views[DIR_RECV]},
        {"nil", &hooks.nil},
        {"ready", &hooks.ready},
        {"ready_next", &hooks.ready_next},
        {"died", &hooks.died},
        {"gone", &hooks.gone},
        {"progress_bars", &hooks.progress_bars},
        {"full", &hooks.full},
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
    {"create", core_create, METH_VARARGS,
     PyDoc_STR("create(procs, memory, cpus): make a segment; return its memfd.")},
    {"attach", core_attach, METH_VARARGS,
     PyDoc_STR("attach(memfd, proc, zygote=0): map the segment and become proc; a worker of the zygote with "
               "that number.")},
    {"detach", core_detach, METH_NOARGS, PyDoc_STR("Unmap the segment; handles become unusable.")},
    {"attached", core_attached, METH_NOARGS, PyDoc_STR("True if a runtime is attached to this process.")},
    {"begin", core_begin, METH_NOARGS, PyDoc_STR("Load what the runtime consists of, unless it is loaded.")},
    {"ensure", core_ensure, METH_NOARGS,
     PyDoc_STR("Start the runtime with the defaults unless one is attached.")},
    {"check_fork", core_check_fork, METH_NOARGS,
     PyDoc_STR("Raise if the user forked this process while a runtime ran.")},
    {"stop", core_stop, METH_NOARGS, PyDoc_STR("Tell every proc to leave.")},
    {"stopping", core_stopping, METH_NOARGS, PyDoc_STR("True if stop() was called.")},
    {"proc", core_proc, METH_NOARGS, PyDoc_STR("This process's number.")},
    {"procs", core_procs, METH_NOARGS, PyDoc_STR("The number of procs; 0 without a runtime.")},
    {"pids", core_pids, METH_NOARGS, PyDoc_STR("Process ids by proc; 0: not started.")},
    {"reference", buffers_reference, METH_O,
     PyDoc_STR("reference($module, memory, /)\n"
               "--\n\n"
               "The Reference to large memory that is in shared memory already; None if the memory is not, "
               "or has changed.")},
    {"as_pickling", METHOD(message_as_pickling), METH_FASTCALL,
     PyDoc_STR("Call a function that pickles, outside of a message: handles let themselves be pickled, "
               "blocking is refused.")},
    {"for_end", METHOD(memory_for_end), METH_FASTCALL,
     PyDoc_STR("for_end(function, *args): call a function that may use the memory set aside for ends: "
               "failures, reports, releases.")},
    {"connect", METHOD(core_connect), METH_VARARGS | METH_KEYWORDS, PyDoc_STR("Set hooks by name.")},
    {"keep", core_keep, METH_O,
     PyDoc_STR("Let an object outlive the interpreter: its finalizers never run.")},
    {"_handle", core_handle, METH_VARARGS, PyDoc_STR("Unpickle a handle.")},
    {"make_nil", core_make_nil, METH_NOARGS, PyDoc_STR("The nil channel.")},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                        "goproc.shm._core",
                                        "Shared memory, channels and task queues of goproc.",
                                        -1,
                                        functions,
                                        NULL,
                                        NULL,
                                        NULL,
                                        NULL};

#define DEFINE(name, text) PyObject *reason_##name;
REASONS(DEFINE)

PyMODINIT_FUNC PyInit__core(void) {
    struct {
        const char *name;
        PyTypeObject *type;
    } types[] = {{"Handle", &HandleType},    {"Channel", &ChannelType},     {"WaitGroup", &WaitGroupType},
                 {"Atomic", &AtomicType},    {"Outcome", &OutcomeType},     {"Buffer", &BufferType},
                 {"Mutex", &MutexType},      {"Once", &OnceType},           {"RWMutex", &RWMutexType},
                 {"Cond", &CondType},        {"Semaphore", &SemaphoreType}, {"Barrier", &BarrierType},
                 {"Awaits", &AwaitsType},    {"Awaited", &AwaitedType},     {"Results", &ResultsType},
                 {"Watch", &WatchType},      {"Copy", &CopyType},           {"View", &ViewType},
                 {"Guard", &GuardType},      {"Reference", &ReferenceType}, {"Bindings", &BindingsType},
                 {"Together", &TogetherType}};
#define MAKE(name, text) \
    if (!reason_##name && !(reason_##name = PyUnicode_InternFromString(text))) return NULL;
    REASONS(MAKE)
    PyObject *m = PyModule_Create(&definition);
    PyMethodDef *const functions[] = {
        task_functions,      task_life_functions, scheduler_functions, stack_functions,   select_functions,
        clock_functions,     dump_functions,      end_functions,       death_functions,   guard_functions,
        copied_functions,    map_functions,       resize_functions,    cell_functions,    output_functions,
        interrupt_functions, call_functions,      together_functions,  process_functions, memory_functions,
        promise_functions,   cushion_functions};
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (!m || PyModule_AddFunctions(m, functions[i]) < 0) return NULL;
    if (select_types_ready(m) < 0) return NULL;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (PyType_Ready(types[i].type) < 0 ||
            PyModule_AddObjectRef(m, types[i].name, (PyObject *)types[i].type) < 0)
            return NULL;
    if (sync_types_ready() < 0) return NULL;
    if (PyModule_AddIntConstant(m, "MAX_PROCS", GP_MAX_PROCS) < 0 ||
        PyModule_AddIntConstant(m, "G_QUEUED", GP_G_QUEUED) < 0 ||
        PyModule_AddIntConstant(m, "G_RUNNING", GP_G_RUNNING) < 0 ||
        PyModule_AddIntConstant(m, "G_OK", GP_G_OK) < 0 ||
        PyModule_AddIntConstant(m, "G_FAILED", GP_G_FAILED) < 0 ||
        PyModule_AddIntConstant(m, "G_DEAD", GP_G_DEAD) < 0 ||
        PyModule_AddIntConstant(m, "DEATH_EXIT", GP_DEATH_EXIT) < 0 ||
        PyModule_AddIntConstant(m, "DEATH_RESTART", GP_DEATH_RESTART) < 0 ||
        PyModule_AddIntConstant(m, "DEATH_CONTINUE", GP_DEATH_CONTINUE) < 0 ||
        PyModule_AddIntConstant(m, "CANCELED", GP_CANCELED) < 0 ||
        PyModule_AddIntConstant(m, "DEADLINE", GP_DEADLINE) < 0 ||
        PyModule_AddIntConstant(m, "SLICE_NS", GP_SLICE_NS) < 0 ||
        PyModule_AddIntConstant(m, "DRAIN_LOOK", DRAIN_LOOK) < 0 ||
        PyModule_AddIntConstant(m, "DRAIN_TICKED", DRAIN_TICKED) < 0 ||
        PyModule_AddIntConstant(m, "DRAIN_STOPS", DRAIN_STOPS) < 0 ||
        PyModule_AddIntConstant(m, "LARGE_BUFFER", LARGE_BUFFER) < 0)
        return NULL;
#ifdef GP_DEBUG
    if (PyModule_AddIntConstant(m, "DEBUG", 1) < 0) return NULL; /* built with GOPROC_DEBUG=1 */
#endif
    return m;
}
