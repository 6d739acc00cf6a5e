/* sync_types.c - the Python types of locks, over sync.c: mutex, once, read-write mutex, condition. */
#include "sync_types.h"

static PyObject *no_arguments(PyTypeObject *type, PyObject *args, PyObject *kwargs, const char *format,
                              enum gp_kind kind) {
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
        PyErr_Format(hooks.owner_died,
                     "the process that held this %s died; it is locked by you now, and what it guards "
                     "may be half changed: unlock() it when that is mended",
                     strrchr(Py_TYPE(self)->tp_name, '.') ? strrchr(Py_TYPE(self)->tp_name, '.') + 1
                                                          : Py_TYPE(self)->tp_name);
    return r == GP_OK ? 0 : -1;
}

static PyObject *take_with_timeout(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                                   enum gp_op_kind kind, PyObject *reason, const char *name) {
    PyObject *timeout = NULL;
    if ((nargs || kwnames) && parse_timeout(args, nargs, kwnames, 0, name, &timeout) < 0) return NULL;
    if (take(self, kind, timeout, reason) < 0) return NULL;
    Py_RETURN_NONE;
}

PyObject *sync_try_take(Handle *self, enum gp_op_kind kind, uint64_t n) {
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
    return sync_try_take(self, GP_LOCK, 0);
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
        PyErr_SetString(hooks.owner_died,
                        "the process that held this Mutex died; it is free again, and what it guards may "
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
               "    OwnerDied: the process of its holder died. The caller holds the mutex now; the next one "
               "is not told.\n\n"
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

PyTypeObject MutexType =
    SYNC_TYPE("Mutex", .tp_new = mutex_new, .tp_methods = mutex_methods, .tp_getset = mutex_getset);

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
    {"_finish", (PyCFunction)once_finish, METH_NOARGS, PyDoc_STR("Note that the call was made.")},
    {NULL, NULL, 0, NULL},
};

PyTypeObject OnceType = SYNC_TYPE("Once", .tp_new = once_new, .tp_methods = once_methods);

/* ---- RWMutex */

/* Give a new lock or semaphore the counts of each proc: see sync.c. */
PyObject *sync_with_shares(PyObject *handle, const char *what) {
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
    return sync_with_shares(no_arguments(type, args, kwargs, ":RWMutex", GP_KIND_RWMUTEX), "an RWMutex");
}

static PyObject *rwmutex_lock(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    return take_with_timeout(self, args, nargs, kwnames, GP_LOCK, reason_wlock, "lock()");
}

static PyObject *rwmutex_rlock(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    return take_with_timeout(self, args, nargs, kwnames, GP_RLOCK, reason_rlock, "rlock()");
}

static PyObject *rwmutex_try_rlock(Handle *self, PyObject *Py_UNUSED(unused)) {
    return sync_try_take(self, GP_RLOCK, 0);
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
     PyDoc_STR(
         "lock($self, /, timeout=None)\n"
         "--\n\n"
         "Block until there is no reader and no writer, and lock for writing. Meanwhile new readers wait.\n\n"
         "Args:\n    timeout: seconds to wait at most; None waits for ever.\n\n"
         "Raises:\n"
         "    TimeoutError: time is up.\n"
         "    OwnerDied: the process of the writer that held it died; it is held now.")},
    {"try_lock", (PyCFunction)mutex_try_lock, METH_NOARGS,
     PyDoc_STR("try_lock($self, /)\n"
               "--\n\n"
               "Lock for writing if that is possible at once. Return True if it was.")},
    {"unlock", (PyCFunction)rwmutex_unlock, METH_NOARGS,
     PyDoc_STR("unlock($self, /)\n"
               "--\n\n"
               "End writing.\n\n"
               "Raises:\n"
               "    RuntimeError: sync: Unlock of unlocked RWMutex")},
    {"rlock", METHOD(rwmutex_rlock), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("rlock($self, /, timeout=None)\n"
               "--\n\n"
               "Block until no writer holds the lock or waits for it, and lock for reading, beside other "
               "readers.\n\n"
               "Args:\n    timeout: seconds to wait at most; None waits for ever.\n\n"
               "Raises:\n"
               "    TimeoutError: time is up.\n"
               "    OwnerDied: the process of the writer that held it died; it is held now.")},
    {"try_rlock", (PyCFunction)rwmutex_try_rlock, METH_NOARGS,
     PyDoc_STR("try_rlock($self, /)\n"
               "--\n\n"
               "Lock for reading if that is possible at once. Return True if it was.")},
    {"runlock", (PyCFunction)rwmutex_runlock, METH_NOARGS,
     PyDoc_STR("runlock($self, /)\n"
               "--\n\n"
               "End reading.\n\n"
               "Raises:\n"
               "    RuntimeError: sync: RUnlock of unlocked RWMutex")},
    {NULL, NULL, 0, NULL},
};

PyTypeObject RWMutexType = SYNC_TYPE("RWMutex", .tp_new = rwmutex_new, .tp_methods = rwmutex_methods);

/* ---- Cond */

static PyObject *cond_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs)) {
    return handle_new(type, GP_KIND_COND);
}

/* exceptions that a wait for the lock outlives: at more presses of Ctrl-C the user wants to get out */
#define RAISES 3

/* Queued, then unlocked: a signal that comes after the unlock finds the waiter, as with Go's tickets. */
static PyObject *cond_wait(Handle *self, PyObject *const *args, Py_ssize_t nargs) {
    PyObject *timeout;
    if (nargs != 3 || !PyObject_TypeCheck(args[0], &HandleType))
        return PyErr_Format(PyExc_TypeError, "_wait(mutex, reader, timeout)");
    if (parse_timeout(args + 2, 1, NULL, 0, "wait()", &timeout) < 0) return NULL;
    Handle *mutex = (Handle *)args[0];
    struct gp_object *o = checkpoint() < 0 ? NULL : handle_object(self),
                     *lock = o ? handle_object(mutex) : NULL;
    if (!lock) return NULL;
    bool reader = args[1] == Py_True, rw = gp_get(&lock->kind) == GP_KIND_RWMUTEX;
    struct gp_case c = {.o = o, .kind = GP_SIGNAL};
    struct wait_spec w = {.handle = (PyObject *)self,
                          .timeout = timeout,
                          .reason = reason_cond,
                          .release = lock,
                          .reader = reader};
    bool ok = wait_case(&c, &w) != GP_BLOCK;
    if (w.release || !gp.base) return NULL; /* it did not come to wait, or the runtime is gone */
    /* the lock is the caller's again in any case; an exception waits for it, and nothing interrupts */
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyObject *r = PyObject_CallFunction(hooks.shield, "i", 1);
    Py_XDECREF(r);
    PyObject *reason = reader ? reason_rlock : rw ? reason_wlock : reason_lock;
    int locked = r ? take(mutex, reader ? GP_RLOCK : GP_LOCK, NULL, reason) : -1;
    /* a signal's handler can raise here, too: that waits, or the caller would unlock a lock of another
     * goroutine */
    for (int i = 0; r && locked < 0 && i < RAISES && gp.base && mutex->run == gp.run &&
                    !PyErr_ExceptionMatches(hooks.owner_died);
         i++) {
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

static PyObject *cond_signal(Handle *self, PyObject *Py_UNUSED(unused)) { return cond_fire(self, false); }

static PyObject *cond_broadcast(Handle *self, PyObject *Py_UNUSED(unused)) { return cond_fire(self, true); }

static PyMethodDef cond_methods[] = {
    {"_wait", METHOD(cond_wait), METH_FASTCALL,
     PyDoc_STR("_wait(mutex, reader, timeout): unlock, sleep until told, lock again.")},
    {"signal", (PyCFunction)cond_signal, METH_NOARGS,
     PyDoc_STR("signal($self, /)\n"
               "--\n\n"
               "Wake the goroutine that has waited longest, if there is one. The lock need not be held.")},
    {"broadcast", (PyCFunction)cond_broadcast, METH_NOARGS,
     PyDoc_STR("broadcast($self, /)\n--\n\nWake every goroutine that waits now.")},
    {NULL, NULL, 0, NULL},
};

PyTypeObject CondType = SYNC_TYPE("Cond", .tp_new = cond_new, .tp_methods = cond_methods);

int sync_types_ready(void) { /* after PyType_Ready() */
    if (with_methods_add(&MutexType, mutex_enter, mutex_exit) < 0) return -1;
    return semaphore_type_ready();
}
