/* sync_types.c - the Python types over sync.c: mutex, once, read-write mutex, condition, semaphore, barrier. */
#include <math.h>

#include "python.h"

static PyObject *no_arguments(PyTypeObject *type, PyObject *args, PyObject *kwargs, const char *format, enum gp_kind kind) {
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names)) return NULL;
    return handle_new(type, kind);
}

/* 0, or -1 and an exception */
static int take(Handle *self, enum gp_op_kind kind, PyObject *timeout, PyObject *reason) {
    struct gp_object *o = checkpoint() < 0 ? NULL : handle_object(self);
    if (!o) return -1;
    struct gp_case c = {.o = o, .kind = (uint8_t)kind};
    enum gp_result r = gp_case_try(&c);
    if (GP_UNLIKELY(r == GP_BLOCK)) {
        struct wait_spec w = {.handle = (PyObject *)self, .timeout = timeout, .reason = reason};
        r = wait_case(&c, &w);
    }
    if (GP_UNLIKELY(r == GP_OWNER_DIED))
        PyErr_Format(hooks.owner_died, "the process that held this %s died; it is locked by you now, and what it guards "
                     "may be half changed: unlock() it when that is mended", strrchr(Py_TYPE(self)->tp_name, '.') ?
                     strrchr(Py_TYPE(self)->tp_name, '.') + 1 : Py_TYPE(self)->tp_name);
    return r == GP_OK ? 0 : -1;
}

static PyObject *take_with_timeout(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                                   enum gp_op_kind kind, PyObject *reason, const char *name) {
    PyObject *timeout = NULL;
    if ((nargs || kwnames) && parse_timeout(args, nargs, kwnames, 0, name, &timeout) < 0) return NULL;
    if (take(self, kind, timeout, reason) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *try_take(Handle *self, enum gp_op_kind kind, uint64_t n) {
    struct gp_object *o = tick() < 0 ? NULL : handle_object(self);
    if (!o) return NULL;
    struct gp_case c = {.o = o, .kind = (uint8_t)kind, .n = n};
    enum gp_result r = gp_case_try(&c);
    if (r == GP_OWNER_DIED) {
        PyErr_SetString(hooks.owner_died, "the process that held this lock died; it is locked by you now");
        return NULL;
    }
    return PyBool_FromLong(r == GP_OK);
}

static PyObject *misuse(const char *text) {
    PyErr_SetString(PyExc_RuntimeError, text);
    return NULL;
}

static PyObject *is_locked(Handle *self, void *Py_UNUSED(unused)) {
    struct gp_object *o = tick() < 0 ? NULL : handle_object(self);
    return o ? PyBool_FromLong(gp_acquire(&o->value) != 0) : NULL;
}

/* ---- Mutex */

static PyObject *mutex_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    return no_arguments(type, args, kwargs, ":Mutex", GP_KIND_MUTEX);
}

static PyObject *mutex_lock(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    return take_with_timeout(self, args, nargs, kwnames, GP_LOCK, reason_lock, "lock()");
}

static PyObject *mutex_try_lock(Handle *self, PyObject *Py_UNUSED(unused)) {
    return try_take(self, GP_LOCK, 0);
}

static PyObject *mutex_unlock(Handle *self, PyObject *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    if (!gp_mutex_unlock(o)) return misuse("sync: unlock of unlocked mutex");
    Py_RETURN_NONE;
}

static PyObject *mutex_enter(Handle *self) {
    if (take(self, GP_LOCK, NULL, reason_lock) == 0) return Py_NewRef((PyObject *)self);
    if (PyErr_ExceptionMatches(hooks.owner_died)) { /* the block is not entered, so it would stay locked */
        struct gp_object *o = gp_at(self->ref);
        PyErr_SetString(hooks.owner_died, "the process that held this Mutex died; it is free again, and what it guards may "
                        "be half changed");
        gp_mutex_unlock(o);
    }
    return NULL;
}

static PyObject *mutex_exit(Handle *self) { return mutex_unlock(self, NULL); }

static PyMethodDef mutex_methods[] = {
    {"lock", METHOD(mutex_lock), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("lock($self, /, timeout=None)\n--\n\nBlock until the mutex is free, and take it.\n\n"
               "Args:\n    timeout: seconds to wait at most; None waits for ever.\n\n"
               "Raises:\n    TimeoutError: time is up; the caller does not hold the mutex.\n"
               "    OwnerDied: the process of its holder died. The caller holds the mutex now; the next one is not told.\n\n"
               "Cost: about 0.1 us if the mutex is free.")},
    {"try_lock", (PyCFunction)mutex_try_lock, METH_NOARGS,
     PyDoc_STR("try_lock($self, /)\n--\n\nTake the mutex if it is free. Return True if it was.")},
    {"unlock", (PyCFunction)mutex_unlock, METH_NOARGS,
     PyDoc_STR("unlock($self, /)\n--\n\nRelease the mutex. Any goroutine may, as in Go.\n\n"
               "Raises:\n    RuntimeError: sync: unlock of unlocked mutex")},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef mutex_getset[] = {
    {"locked", (getter)is_locked, NULL, PyDoc_STR("True if the mutex is held, at some instant."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* The initializer of a type; the type's own slots follow the name. */
#define SYNC_TYPE(name, ...)                                 \
    {                                                        \
        PyVarObject_HEAD_INIT(NULL, 0)                       \
        .tp_name = "goproc.shm._core." name,                 \
        .tp_base = &HandleType,                              \
        .tp_basicsize = sizeof(Handle),                      \
        .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, \
        __VA_ARGS__                                          \
    }

PyTypeObject MutexType = SYNC_TYPE("Mutex", .tp_new = mutex_new, .tp_methods = mutex_methods, .tp_getset = mutex_getset);

/* ---- Once: a mutex that remembers that it is done; policy is Python's (goproc/sync.py) */

static PyObject *once_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    return no_arguments(type, args, kwargs, ":Once", GP_KIND_ONCE);
}

static PyObject *once_done(Handle *self, PyObject *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    return o ? PyBool_FromLong(gp_acquire(&o->flags) & GP_OBJ_DONE) : NULL;
}

static PyObject *once_finish(Handle *self, PyObject *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    atomic_fetch_or(&o->flags, GP_OBJ_DONE);
    Py_RETURN_NONE;
}

static PyMethodDef once_methods[] = {
    {"_lock", METHOD(mutex_lock), METH_FASTCALL | METH_KEYWORDS, NULL},
    {"_unlock", (PyCFunction)mutex_unlock, METH_NOARGS, NULL},
    {"_done", (PyCFunction)once_done, METH_NOARGS, PyDoc_STR("True once the call was made.")},
    {"_finish", (PyCFunction)once_finish, METH_NOARGS, PyDoc_STR("From now on it has.")},
    {NULL, NULL, 0, NULL},
};

PyTypeObject OnceType = SYNC_TYPE("Once", .tp_new = once_new, .tp_methods = once_methods);

/* ---- RWMutex */

/* See sync.c. */
static PyObject *with_shares(PyObject *handle, const char *what) {
    if (!handle) return NULL;
    struct gp_object *o = gp_at(((Handle *)handle)->ref);
    gp_ref block = alloc_or_collect(sizeof(int64_t) * gp.room, 0);
    if (!block) {
        Py_DECREF(handle);
        return raise_memory(sizeof(int64_t) * gp.room, what);
    }
    memset(gp_payload(block), 0, sizeof(int64_t) * gp.room);
    gp_own(block, GP_TAG(GP_TAG_CHAN, gp_ref_of(o)));
    o->ring = block;
    return handle;
}

static PyObject *rwmutex_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    return with_shares(no_arguments(type, args, kwargs, ":RWMutex", GP_KIND_RWMUTEX), "an RWMutex");
}

static PyObject *rwmutex_lock(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    return take_with_timeout(self, args, nargs, kwnames, GP_LOCK, reason_wlock, "lock()");
}

static PyObject *rwmutex_rlock(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    return take_with_timeout(self, args, nargs, kwnames, GP_RLOCK, reason_rlock, "rlock()");
}

static PyObject *rwmutex_try_rlock(Handle *self, PyObject *Py_UNUSED(unused)) {
    return try_take(self, GP_RLOCK, 0);
}

static PyObject *rwmutex_unlock(Handle *self, PyObject *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    if (!gp_rwmutex_unlock(o, false)) return misuse("sync: Unlock of unlocked RWMutex");
    Py_RETURN_NONE;
}

static PyObject *rwmutex_runlock(Handle *self, PyObject *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    if (!gp_rwmutex_unlock(o, true)) return misuse("sync: RUnlock of unlocked RWMutex");
    Py_RETURN_NONE;
}

static PyMethodDef rwmutex_methods[] = {
    {"lock", METHOD(rwmutex_lock), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("lock($self, /, timeout=None)\n--\n\nBlock until there is no reader and no writer, and lock for writing. Meanwhile new readers wait.\n\n"
               "Args:\n    timeout: seconds to wait at most; None waits for ever.\n\n"
               "Raises:\n    TimeoutError: time is up.\n    OwnerDied: the process of the writer that held it died; it is held now.")},
    {"try_lock", (PyCFunction)mutex_try_lock, METH_NOARGS,
     PyDoc_STR("try_lock($self, /)\n--\n\nLock for writing if that is possible at once. Return True if it was.")},
    {"unlock", (PyCFunction)rwmutex_unlock, METH_NOARGS,
     PyDoc_STR("unlock($self, /)\n--\n\nEnd writing.\n\nRaises:\n    RuntimeError: sync: Unlock of unlocked RWMutex")},
    {"rlock", METHOD(rwmutex_rlock), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("rlock($self, /, timeout=None)\n--\n\nBlock until no writer holds the lock or waits for it, and lock for reading, beside other readers.\n\n"
               "Args:\n    timeout: seconds to wait at most; None waits for ever.\n\n"
               "Raises:\n    TimeoutError: time is up.\n    OwnerDied: the process of the writer that held it died; it is held now.")},
    {"try_rlock", (PyCFunction)rwmutex_try_rlock, METH_NOARGS,
     PyDoc_STR("try_rlock($self, /)\n--\n\nLock for reading if that is possible at once. Return True if it was.")},
    {"runlock", (PyCFunction)rwmutex_runlock, METH_NOARGS,
     PyDoc_STR("runlock($self, /)\n--\n\nEnd reading.\n\nRaises:\n    RuntimeError: sync: RUnlock of unlocked RWMutex")},
    {NULL, NULL, 0, NULL},
};

PyTypeObject RWMutexType = SYNC_TYPE("RWMutex", .tp_new = rwmutex_new, .tp_methods = rwmutex_methods);

/* ---- Cond */

static PyObject *cond_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs)) {
    return handle_new(type, GP_KIND_COND);
}

#define RAISES 3 /* exceptions that a wait for the lock outlives: at more presses of Ctrl-C the user wants to get out */

/* Queued, then unlocked: a signal that comes after the unlock finds the waiter, as with Go's tickets. */
static PyObject *cond_wait(Handle *self, PyObject *const *args, Py_ssize_t nargs) {
    PyObject *timeout;
    if (nargs != 3 || !PyObject_TypeCheck(args[0], &HandleType))
        return PyErr_Format(PyExc_TypeError, "_wait(mutex, reader, timeout)");
    if (parse_timeout(args + 2, 1, NULL, 0, "wait()", &timeout) < 0) return NULL;
    Handle *mutex = (Handle *)args[0];
    struct gp_object *o = checkpoint() < 0 ? NULL : handle_object(self), *lock = o ? handle_object(mutex) : NULL;
    if (!lock) return NULL;
    bool reader = args[1] == Py_True, rw = gp_get(&lock->kind) == GP_KIND_RWMUTEX;
    struct gp_case c = {.o = o, .kind = GP_SIGNAL};
    struct wait_spec w = {.handle = (PyObject *)self, .timeout = timeout, .reason = reason_cond,
                          .release = lock, .reader = reader};
    bool ok = wait_case(&c, &w) != GP_BLOCK;
    if (w.release || !gp.base) return NULL; /* it did not come to wait, or the runtime is gone */
    /* the lock is the caller's again in any case; an exception waits for it, and nothing interrupts */
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyObject *r = PyObject_CallFunction(hooks.shield, "i", 1);
    Py_XDECREF(r);
    PyObject *reason = reader ? reason_rlock : rw ? reason_wlock : reason_lock;
    int locked = r ? take(mutex, reader ? GP_RLOCK : GP_LOCK, NULL, reason) : -1;
    /* a signal's handler can raise here, too: that waits, or the caller would unlock a lock of another goroutine */
    for (int i = 0; r && locked < 0 && i < RAISES && gp.base && mutex->run == gp.run && !PyErr_ExceptionMatches(hooks.owner_died); i++) {
        if (type) PyErr_Clear();
        else PyErr_Fetch(&type, &value, &trace);
        ok = false;
        locked = take(mutex, reader ? GP_RLOCK : GP_LOCK, NULL, reason);
    }
    if (locked == 0 || (PyErr_Occurred() && type)) PyErr_Restore(type, value, trace);
    if (r) {
        PyErr_Fetch(&type, &value, &trace);
        r = PyObject_CallFunction(hooks.shield, "i", -1);
        Py_XDECREF(r);
        PyErr_Restore(type, value, trace);
    }
    if (!ok || locked < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *cond_fire(Handle *self, bool all) {
    struct gp_object *o = tick() < 0 ? NULL : handle_object(self);
    if (!o) return NULL;
    gp_cond_signal(o, all);
    Py_RETURN_NONE;
}

static PyObject *cond_signal(Handle *self, PyObject *Py_UNUSED(unused)) {
    return cond_fire(self, false);
}

static PyObject *cond_broadcast(Handle *self, PyObject *Py_UNUSED(unused)) {
    return cond_fire(self, true);
}

static PyMethodDef cond_methods[] = {
    {"_wait", METHOD(cond_wait), METH_FASTCALL, PyDoc_STR("_wait(mutex, reader, timeout): unlock, sleep until told, lock again.")},
    {"signal", (PyCFunction)cond_signal, METH_NOARGS,
     PyDoc_STR("signal($self, /)\n--\n\nWake the goroutine that has waited longest, if there is one. The lock need not be held.")},
    {"broadcast", (PyCFunction)cond_broadcast, METH_NOARGS,
     PyDoc_STR("broadcast($self, /)\n--\n\nWake every goroutine that waits now.")},
    {NULL, NULL, 0, NULL},
};

PyTypeObject CondType = SYNC_TYPE("Cond", .tp_new = cond_new, .tp_methods = cond_methods);

/* ---- Semaphore */

static int units(PyObject *v, uint64_t *n, const char *name) {
    *n = 1;
    if (!v) return 0;
    long long x = PyLong_AsLongLong(v);
    if (x == -1 && PyErr_Occurred()) return -1;
    if (x < 0) {
        PyErr_Format(PyExc_ValueError, "%s takes a number of units of at least 0, not %lld", name, x);
        return -1;
    }
    *n = (uint64_t)x;
    return 0;
}

#define ENDLESS (1ULL << 59) /* for the places of a Group, which any process takes and gives back */

static PyObject *semaphore_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"n", NULL};
    PyObject *v;
    uint64_t n;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Semaphore", names, &v) || units(v, &n, "Semaphore(n)") < 0) return NULL;
    Handle *h = (Handle *)handle_new(type, GP_KIND_SEMAPHORE);
    if (!h) return NULL;
    struct gp_object *o = gp_at(h->ref);
    gp_set(&o->size, n);
    gp_set(&o->value, (int64_t)n);
    return n < ENDLESS ? with_shares((PyObject *)h, "a Semaphore") : (PyObject *)h;
}

struct acquire {
    uint64_t n;
    PyObject *timeout, *ctx; /* borrowed; NULL: none */
};

static int acquire_arguments(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, struct acquire *a) {
    PyObject *given[3] = {NULL, NULL, NULL};
    static const char *names[] = {"n", "timeout", "ctx"};
    if (nargs > 3) {
        PyErr_Format(PyExc_TypeError, "acquire() takes n, timeout= and ctx=");
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) given[i] = args[i];
    for (Py_ssize_t i = 0; kwnames && i < PyTuple_GET_SIZE(kwnames); i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        int k = 0;
        while (k < 3 && PyUnicode_CompareWithASCIIString(name, names[k]) != 0) k++;
        if (k == 3 || given[k]) {
            PyErr_Format(PyExc_TypeError, "acquire() got an unexpected argument '%U'", name);
            return -1;
        }
        given[k] = args[nargs + i];
    }
    a->ctx = given[2] == Py_None ? NULL : given[2];
    if (units(given[0], &a->n, "acquire()") < 0) return -1;
    return parse_timeout(&given[1], given[1] ? 1 : 0, NULL, 0, "acquire()", &a->timeout);
}

/* Return the channel that a context closes at its end, a new reference; NULL: an exception. */
static PyObject *end_of(PyObject *ctx) {
    PyObject *channel = PyObject_CallOneArg(hooks.case_of, ctx);
    if (channel != Py_None) return channel;
    Py_DECREF(channel);
    return PyErr_Format(PyExc_TypeError, "acquire(): ctx must be a Context, not %.100s", Py_TYPE(ctx)->tp_name);
}

static PyObject *raise_end_of(PyObject *ctx) {
    PyObject *error = PyObject_CallMethod(ctx, "err", NULL);
    if (error) PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    return NULL;
}

/* Take the units, unless the channel `end` is closed first, or was: that wins, even if units are free.
 * 0: they are taken, 1: it is closed, -1: an exception */
static int acquire(Handle *self, struct gp_object *o, const struct acquire *a, struct gp_object *end) {
    struct gp_case cases[2] = {{.o = a->n > gp_get(&o->size) ? NULL : o, .kind = GP_ACQUIRE, .n = a->n, .number = 1},
                               {.o = end, .kind = GP_RECV, .number = 0}};
    uint32_t poll[2], lock[2];
    struct gp_select s = {.cases = cases, .n = end ? 2 : 1, .poll = poll, .lock = lock};
    if (end && gp_case_try(&cases[1]) != GP_BLOCK) return 1;
    enum gp_result r = gp_case_try(&cases[0]);
    if (r == GP_BLOCK) {
        struct wait_spec w = {.handle = (PyObject *)self, .timeout = a->timeout, .reason = reason_acquire};
        int64_t chosen = wait_cases(&s, &w, &r);
        if (chosen != 0) return (int)chosen;
    }
    if (!end || gp_case_try(&cases[1]) == GP_BLOCK) return 0;
    gp_semaphore_release(o, a->n); /* closed meanwhile, and this process was too busy to see it */
    return 1;
}

static PyObject *semaphore_acquire(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    struct acquire a;
    if (acquire_arguments(args, nargs, kwnames, &a) < 0) return NULL;
    struct gp_object *o = checkpoint() < 0 ? NULL : handle_object(self), *end = NULL;
    PyObject *channel = o && a.ctx ? end_of(a.ctx) : NULL;
    if (!o || (a.ctx && !channel)) return NULL;
    int ended = -1;
    if (!channel || !((Handle *)channel)->ref || (end = handle_object((Handle *)channel))) ended = acquire(self, o, &a, end);
    Py_XDECREF(channel);
    if (ended == 1) return raise_end_of(a.ctx);
    if (ended < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *semaphore_try_acquire(Handle *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"n", NULL};
    PyObject *v = NULL;
    uint64_t n;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:try_acquire", names, &v) || units(v, &n, "try_acquire()") < 0) return NULL;
    return try_take(self, GP_ACQUIRE, n);
}

static PyObject *semaphore_release(Handle *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"n", NULL};
    PyObject *v = NULL;
    uint64_t n;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:release", names, &v) || units(v, &n, "release()") < 0) return NULL;
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    if (gp_semaphore_release(o, n)) Py_RETURN_NONE;
    PyErr_SetString(PyExc_ValueError, "semaphore: released more than held");
    return NULL;
}

static PyObject *semaphore_enter(Handle *self) {
    PyObject *r = semaphore_acquire(self, NULL, 0, NULL);
    Py_XDECREF(r);
    return r ? Py_NewRef((PyObject *)self) : NULL;
}

static PyObject *semaphore_exit(Handle *self) {
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    if (gp_semaphore_release(o, 1)) Py_RETURN_NONE;
    PyErr_SetString(PyExc_ValueError, "semaphore: released more than held");
    return NULL;
}

static PyObject *semaphore_size(Handle *self, void *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    return o ? PyLong_FromUnsignedLongLong(gp_get(&o->size)) : NULL;
}

static PyObject *semaphore_free(Handle *self, void *Py_UNUSED(unused)) {
    struct gp_object *o = tick() < 0 ? NULL : handle_object(self);
    return o ? PyLong_FromLongLong(gp_acquire(&o->value)) : NULL;
}

PyCFunction semaphore_acquire_method = METHOD(semaphore_acquire);

static PyMethodDef semaphore_methods[] = {
    {"acquire", METHOD(semaphore_acquire), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("acquire($self, /, n=1, timeout=None, ctx=None)\n--\n\n"
               "Take n units; block until they are free. First come, first served: a large acquire is not overtaken.\n\n"
               "Args:\n    n: units. If they are more than all there are, the call waits for ctx or the timeout only, and holds up no other.\n"
               "    timeout: seconds to wait at most; None waits for ever.\n"
               "    ctx: a context. Once it is done, the call raises its error, even if units are free.\n\n"
               "Raises:\n    TimeoutError: time is up.\n    Canceled, DeadlineExceeded: ctx is done.")},
    {"try_acquire", METHOD(semaphore_try_acquire), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("try_acquire($self, /, n=1)\n--\n\nTake n units if they are free and no goroutine waits. Return True if they were taken.")},
    {"release", METHOD(semaphore_release), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("release($self, /, n=1)\n--\n\nGive n units back.\n\nRaises:\n    ValueError: semaphore: released more than held")},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef semaphore_getset[] = {
    {"size", (getter)semaphore_size, NULL, PyDoc_STR("All units, free or taken."), NULL},
    {"free", (getter)semaphore_free, NULL, PyDoc_STR("The free units, at some instant."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject SemaphoreType = SYNC_TYPE("Semaphore", .tp_new = semaphore_new, .tp_methods = semaphore_methods, .tp_getset = semaphore_getset);

/* ---- Barrier */

static PyObject *barrier_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"n", NULL};
    Py_ssize_t n;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n:Barrier", names, &n)) return NULL;
    if (n < 1 || n > INT32_MAX) return PyErr_Format(PyExc_ValueError, "Barrier(n) needs n >= 1, not %zd", n);
    Handle *h = (Handle *)handle_new(type, GP_KIND_BARRIER);
    if (h) ((struct gp_object *)gp_at(h->ref))->cap = (uint32_t)n;
    return (PyObject *)h;
}

static PyObject *barrier_wait(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *timeout = NULL;
    if (parse_timeout(args, nargs, kwnames, 0, "wait()", &timeout) < 0) return NULL;
    struct gp_object *o = checkpoint() < 0 ? NULL : handle_object(self);
    if (!o) return NULL;
    struct gp_case c = {.o = o, .kind = GP_ARRIVE};
    if (gp_case_try(&c) == GP_BLOCK) {
        struct wait_spec w = {.handle = (PyObject *)self, .timeout = timeout, .reason = reason_barrier};
        if (wait_case(&c, &w) == GP_BLOCK) return NULL;
    }
    return PyLong_FromUnsignedLongLong(c.n);
}

static PyObject *barrier_parties(Handle *self, void *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    return o ? PyLong_FromUnsignedLong(o->cap) : NULL;
}

static PyMethodDef barrier_methods[] = {
    {"wait", METHOD(barrier_wait), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("wait($self, /, timeout=None)\n--\n\nBlock until n goroutines wait here; then all go on. The barrier can be used again at once.\n\n"
               "Args:\n    timeout: seconds to wait at most; None waits for ever.\n\n"
               "Returns:\n    A place from 0 to n - 1, a different one for each goroutine; n - 1 is the last that came.\n\n"
               "Raises:\n    TimeoutError: time is up; this goroutine no longer counts as waiting.")},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef barrier_getset[] = {
    {"parties", (getter)barrier_parties, NULL, PyDoc_STR("The number of goroutines that it waits for."), NULL},
    {"waiting", (getter)semaphore_free, NULL, PyDoc_STR("The number of waiting goroutines, at some instant."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject BarrierType = SYNC_TYPE("Barrier", .tp_new = barrier_new, .tp_methods = barrier_methods, .tp_getset = barrier_getset);

int sync_types_ready(void) { /* after PyType_Ready() */
    if (with_methods_add(&MutexType, mutex_enter, mutex_exit) < 0) return -1;
    return with_methods_add(&SemaphoreType, semaphore_enter, semaphore_exit);
}
