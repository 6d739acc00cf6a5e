/* map_calls.c - the inner loop of a map: calls of one function, one after the other (goproc/_data/station.py).
 *
 * A call may take less than a microsecond, and around each of them the count of the item that runs must be in shared memory,
 * where it outlives the process, and the time must be read. In Python that costs more than such a call.
 */
#include "python.h"

struct calls {
    Py_ssize_t done;      /* that have ended with a result */
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

/* Call until all are done, one fails, or `patience` ns are over since the first has ended. Returns the time of the end. */
static uint64_t make_calls(struct calls *c, PyObject *f, bool starred, PyObject *items, Py_ssize_t from, Py_ssize_t to,
                           PyObject *out, struct gp_object *running, uint64_t patience) {
    uint64_t run = gp.run, now = gp_now(), until = 0;
    int64_t count = atomic_load(&running->value);
    for (Py_ssize_t i = from; i < to; i++) {
        uint64_t began = now;
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
        if (!until) until = now + patience;
        else if (now >= until) break;
    }
    return now;
}

static PyObject *map_calls(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    (void)module;
    if (nargs != 9 || !PyList_Check(args[2]) || !PyList_Check(args[5]) || !PyObject_TypeCheck(args[6], &AtomicType))
        return PyErr_Format(PyExc_TypeError,
                            "map_calls(f, starred, items, from, to, out, running, count, patience) takes lists and an Atomic");
    Py_ssize_t from = PyLong_AsSsize_t(args[3]), to = PyLong_AsSsize_t(args[4]);
    long long count = PyLong_AsLongLong(args[7]);
    double patience = PyFloat_AsDouble(args[8]);
    if (PyErr_Occurred()) return NULL;
    if (from < 0 || to > PyList_GET_SIZE(args[2])) return PyErr_Format(PyExc_IndexError, "map_calls(): there are not so many items");
    struct gp_object *running = handle_object((Handle *)args[6]);
    if (!running) return NULL;
    atomic_store(&running->value, count);
    struct calls c = {0};
    uint64_t before = gp_now();
    uint64_t after = make_calls(&c, args[0], args[1] == Py_True, args[2], from, to, args[5], running, (uint64_t)(patience * 1e9));
    PyObject *error = take_error();
    double last = (double)(after - before - c.work) / 1e9; /* in the call that has failed */
    return Py_BuildValue("(ndndNd)", c.done, (double)c.work / 1e9, c.slowest, (double)c.longest / 1e9, error, last);
}

PyMethodDef map_functions[] = {
    {"map_calls", (PyCFunction)(void (*)(void))map_calls, METH_FASTCALL,
     PyDoc_STR("Call f for items[from:to], append the results to out, and keep the count of the item in the Atomic running.\n\n"
               "Ends early if a call fails, or patience seconds after the first has ended. Returns (done, seconds of work,\n"
               "position and seconds of the slowest, the exception of the next call or None, its seconds).")},
    {NULL, NULL, 0, NULL},
};
