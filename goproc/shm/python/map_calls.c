/* map_calls.c - the inner loops of a map: the calls of its function in a worker (goproc/_data/station.py),
 * and the iteration over its results (goproc/_data/pmap.py).
 *
 * A call may take less than a microsecond, and around each of them the count of the item that runs must be in
 * shared memory, where it outlives the process, and the time must be read. In Python that costs more than
 * such a call.
 */
#include "python.h"

struct calls {
    Py_ssize_t done;      /* calls that have ended with a result */
    uint64_t work;        /* ns in these */
    Py_ssize_t slowest;   /* which of them took longest, and how long */
    uint64_t longest;
};

/* The exception that is set, or None. */
static PyObject *take_error(void) {
    PyObject *type, *value, *trace;
    if (!PyErr_Occurred()) return Py_NewRef(Py_None);
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (trace) PyException_SetTraceback(value, trace);
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return value;
}

static PyObject *call(PyObject *f, bool starred, PyObject *item) {
    if (!starred) return PyObject_CallOneArg(f, item);
    if (PyTuple_Check(item)) return PyObject_Call(f, item, NULL);
    return PyErr_Format(PyExc_TypeError, "the arguments of a call are a tuple");
}

/* Call until all are done, one fails, or `patience` ns are over since the first has begun. So the lane looks
 * after each long call whether the map has ended. Returns the time of the end. */
static uint64_t make_calls(struct calls *c, PyObject *f, bool starred, PyObject *items, Py_ssize_t from,
                           Py_ssize_t to, PyObject *out, struct gp_object *running, struct gp_object *since,
                           uint64_t patience) {
    uint64_t run = gp.run, now = gp_now(), until = now + patience;
    int64_t count = atomic_load(&running->value);
    for (Py_ssize_t i = from; i < to; i++) {
        uint64_t began = now;
        atomic_store_explicit(&since->value, (int64_t)(now / 1000), memory_order_relaxed);
        atomic_store_explicit(&running->value, count + 1 + (i - from), memory_order_release);
        PyObject *value = call(f, starred, PyList_GET_ITEM(items, i));
        int r = value ? PyList_Append(out, value) : -1;
        Py_XDECREF(value);
        now = gp_now();
        if (r < 0 || !gp.base || gp.run != run) break;
        c->work += now - began;
        if (now - began >= c->longest) {
            c->longest = now - began;
            c->slowest = c->done;
        }
        c->done++;
        if (now >= until) break;
    }
    return now;
}

static PyObject *map_calls(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 10 || !PyList_Check(args[2]) || !PyList_Check(args[5]) ||
        !PyObject_TypeCheck(args[6], &AtomicType) || !PyObject_TypeCheck(args[7], &AtomicType))
        return PyErr_Format(
            PyExc_TypeError,
            "map_calls(f, starred, items, from, to, out, running, since, count, patience) takes "
            "lists and Atomics");
    Py_ssize_t from = PyLong_AsSsize_t(args[3]), to = PyLong_AsSsize_t(args[4]);
    long long count = PyLong_AsLongLong(args[8]);
    double patience = PyFloat_AsDouble(args[9]);
    if (PyErr_Occurred()) return NULL;
    if (from < 0 || to > PyList_GET_SIZE(args[2]))
        return PyErr_Format(PyExc_IndexError, "map_calls(): there are not so many items");
    struct gp_object *running = handle_object((Handle *)args[6]);
    struct gp_object *since = handle_object((Handle *)args[7]);
    if (!running || !since) return NULL;
    atomic_store(&running->value, count);
    struct calls c = {0};
    uint64_t before = gp_now();
    uint64_t after = make_calls(&c, args[0], args[1] == Py_True, args[2], from, to, args[5], running, since,
                                (uint64_t)(patience * 1e9));
    PyObject *error = take_error();
    double last = (double)(after - before - c.work) / 1e9; /* in the call that has failed */
    return Py_BuildValue("(ndndNd)", c.done, (double)c.work / 1e9, c.slowest, (double)c.longest / 1e9, error,
                         last);
}

/* True if every process can read the values of a list: nothing has to be imported for them. */
static PyObject *all_readable(PyObject *Py_UNUSED(module), PyObject *values) {
    if (!PyList_Check(values)) return PyErr_Format(PyExc_TypeError, "all_readable(values) takes a list");
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(values); i++) {
        PyObject *v = PyList_GET_ITEM(values, i);
        if (!(PyLong_CheckExact(v) || PyFloat_CheckExact(v) || PyUnicode_CheckExact(v) ||
              PyBytes_CheckExact(v) || v == Py_None || PyBool_Check(v)))
            Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

/* ---- iteration
 *
 * The base of the iterator over the results of a map. While results are ready, and nothing has come that may
 * say otherwise (a failure is raised before results that are ready), next() is done here. Else the subclass
 * does it, in _more(). */

typedef struct {
    PyObject_HEAD
    PyObject *ready;   /* a deque of results, or NULL */
    PyObject *popleft; /* its method */
    Handle *door;      /* the channel on which something comes */
} Results;

static int results_clear(Results *self) {
    Py_CLEAR(self->ready);
    Py_CLEAR(self->popleft);
    Py_CLEAR(self->door);
    return 0;
}

static int results_traverse(Results *self, visitproc visit, void *arg) {
    Py_VISIT(self->ready);
    Py_VISIT(self->popleft);
    Py_VISIT(self->door);
    return 0;
}

static void results_dealloc(Results *self) {
    PyObject_GC_UnTrack(self);
    results_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *results_attach(Results *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs == 0) {
        results_clear(self);
        Py_RETURN_NONE;
    }
    if (nargs != 2 || !PyObject_TypeCheck(args[1], &ChannelType))
        return PyErr_Format(PyExc_TypeError, "_attach(ready, door) takes a deque and a channel, or nothing");
    PyObject *popleft = PyObject_GetAttrString(args[0], "popleft");
    if (!popleft) return NULL;
    results_clear(self);
    self->ready = Py_NewRef(args[0]);
    self->popleft = popleft;
    self->door = (Handle *)Py_NewRef(args[1]);
    Py_RETURN_NONE;
}

static bool nothing_came(Handle *door) {
    struct gp_object *o = handle_object(door);
    if (!o) {
        PyErr_Clear(); /* the runtime has stopped: _more() says so */
        return false;
    }
    return gp_acquire(&o->tail) == gp_acquire(&o->head);
}

static PyObject *results_next(Results *self) {
    if (self->ready && PyObject_Size(self->ready) > 0 && nothing_came(self->door))
        return PyObject_CallNoArgs(self->popleft);
    return PyObject_CallMethod((PyObject *)self, "_more", NULL);
}

static PyMethodDef results_methods[] = {
    {"_attach", METHOD(results_attach), METH_FASTCALL,
     PyDoc_STR(
         "Yield from a deque while a channel is empty; without arguments: leave everything to _more().")},
    {NULL, NULL, 0, NULL},
};

PyTypeObject ResultsType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.Results",
    .tp_doc = PyDoc_STR("The base of the iterator over the results of a map."),
    .tp_basicsize = sizeof(Results),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)results_dealloc,
    .tp_traverse = (traverseproc)results_traverse,
    .tp_clear = (inquiry)results_clear,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)results_next,
    .tp_methods = results_methods,
};

PyMethodDef map_functions[] = {
    {"map_calls", METHOD(map_calls), METH_FASTCALL,
     PyDoc_STR("Call f for items[from:to], append the results to out, and keep the count of the item in the "
               "Atomic running,\n"
               "and when its call began (us) in the Atomic since.\n\n"
               "Ends early if a call fails, or patience seconds after the first has begun. Returns (done, "
               "seconds of work,\n"
               "position and seconds of the slowest, the exception of the next call or None, its seconds).")},
    {"all_readable", all_readable, METH_O,
     PyDoc_STR("Return True if every process can read the values of a list.")},
    {NULL, NULL, 0, NULL},
};
