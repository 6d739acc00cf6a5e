/* semaphore_type.c - the Python types of semaphores and barriers, over sync.c. */
#include "sync_types.h"

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

static PyObject *semaphore_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"n", NULL};
    PyObject *v;
    uint64_t n;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Semaphore", names, &v) ||
        units(v, &n, "Semaphore(n)") < 0)
        return NULL;
    Handle *h = (Handle *)handle_new(type, GP_KIND_SEMAPHORE);
    if (!h) return NULL;
    struct gp_object *o = gp_at(h->ref);
    gp_set(&o->size, n);
    gp_set(&o->value, (int64_t)n);
    return sync_with_shares((PyObject *)h, "a Semaphore");
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
    return PyErr_Format(PyExc_TypeError, "acquire(): ctx must be a Context, not %.100s",
                        Py_TYPE(ctx)->tp_name);
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
    struct gp_case cases[2] = {{.o = a->n > gp_get(&o->size) ? NULL : o, .kind = GP_ACQUIRE, .n = a->n},
                               {.o = end, .kind = GP_RECV}};
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
    if (!channel || !((Handle *)channel)->ref || (end = handle_object((Handle *)channel)))
        ended = acquire(self, o, &a, end);
    Py_XDECREF(channel);
    if (ended == 1) return raise_end_of(a.ctx);
    if (ended < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *semaphore_try_acquire(Handle *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"n", NULL};
    PyObject *v = NULL;
    uint64_t n;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:try_acquire", names, &v) ||
        units(v, &n, "try_acquire()") < 0)
        return NULL;
    return sync_try_take(self, GP_ACQUIRE, n);
}

static PyObject *semaphore_release(Handle *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"n", NULL};
    PyObject *v = NULL;
    uint64_t n;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:release", names, &v) || units(v, &n, "release()") < 0)
        return NULL;
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    if (gp_semaphore_release(o, n)) Py_RETURN_NONE;
    PyErr_SetString(PyExc_ValueError, "semaphore: released more than held");
    return NULL;
}

static PyObject *semaphore_limit(Handle *self, PyObject *args) {
    long long old, limit;
    if (!PyArg_ParseTuple(args, "LL:_limit", &old, &limit)) return NULL;
    struct gp_object *o = handle_object(self);
    return o ? PyBool_FromLong(gp_semaphore_limit(o, old, limit)) : NULL;
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
               "Take n units; block until they are free. First come, first served: a large acquire is not "
               "overtaken.\n\n"
               "Args:\n"
               "    n: units. If they are more than all there are, the call waits for ctx or the timeout "
               "only, and holds up no other.\n"
               "    timeout: seconds to wait at most; None waits for ever.\n"
               "    ctx: a context. Once it is done, the call raises its error, even if units are free.\n\n"
               "Raises:\n    TimeoutError: time is up.\n    Canceled, DeadlineExceeded: ctx is done.")},
    {"try_acquire", METHOD(semaphore_try_acquire), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("try_acquire($self, /, n=1)\n"
               "--\n\n"
               "Take n units if they are free and no goroutine waits. Return True if they were taken.")},
    {"release", METHOD(semaphore_release), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("release($self, /, n=1)\n"
               "--\n\n"
               "Give n units back.\n\n"
               "Raises:\n"
               "    ValueError: semaphore: released more than held")},
    {"_limit", (PyCFunction)semaphore_limit, METH_VARARGS,
     PyDoc_STR("_limit(old, limit): have so many free units; False: there are not `old` of them. No unit may "
               "be taken.")},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef semaphore_getset[] = {
    {"size", (getter)semaphore_size, NULL, PyDoc_STR("All units, free or taken."), NULL},
    {"free", (getter)semaphore_free, NULL, PyDoc_STR("The free units, at some instant."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject SemaphoreType = SYNC_TYPE("Semaphore", .tp_new = semaphore_new, .tp_methods = semaphore_methods,
                                       .tp_getset = semaphore_getset);

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
     PyDoc_STR(
         "wait($self, /, timeout=None)\n"
         "--\n\n"
         "Block until n goroutines wait here; then all go on. The barrier can be used again at once.\n\n"
         "Args:\n    timeout: seconds to wait at most; None waits for ever.\n\n"
         "Returns:\n"
         "    A place from 0 to n - 1, a different one for each goroutine; n - 1 is the last that came.\n\n"
         "Raises:\n    TimeoutError: time is up; this goroutine no longer counts as waiting.")},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef barrier_getset[] = {
    {"parties", (getter)barrier_parties, NULL, PyDoc_STR("The number of goroutines that it waits for."),
     NULL},
    {"waiting", (getter)semaphore_free, NULL, PyDoc_STR("The number of waiting goroutines, at some instant."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject BarrierType =
    SYNC_TYPE("Barrier", .tp_new = barrier_new, .tp_methods = barrier_methods, .tp_getset = barrier_getset);

int semaphore_type_ready(void) { return with_methods_add(&SemaphoreType, semaphore_enter, semaphore_exit); }
