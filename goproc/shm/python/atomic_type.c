/* atomic_type.c - the Python type of atomics. */
#include "python.h"

/* ---- Atomic: sequentially consistent, as Go's */

static int atomic_value(struct gp_object *o, PyObject *v, int64_t *x) {
    if ((gp_get(&o->flags) & GP_OBJ_BOOL) ? !PyBool_Check(v) : !PyLong_Check(v) || PyBool_Check(v)) {
        PyErr_Format(PyExc_TypeError, "this Atomic holds %s, not %.100s",
                     gp_get(&o->flags) & GP_OBJ_BOOL ? "a bool" : "an int", Py_TYPE(v)->tp_name);
        return -1;
    }
    int overflow;
    *x = PyLong_AsLongLongAndOverflow(v, &overflow);
    if (!overflow) return 0;
    PyErr_SetString(PyExc_OverflowError, "an Atomic holds 64 bits: -2**63 to 2**63 - 1");
    return -1;
}

static PyObject *atomic_result(struct gp_object *o, int64_t x) {
    return gp_get(&o->flags) & GP_OBJ_BOOL ? PyBool_FromLong(x != 0) : PyLong_FromLongLong(x);
}

static PyObject *atomic_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"value", NULL};
    PyObject *v = NULL;
    int64_t x = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Atomic", names, &v)) return NULL;
    Handle *h = (Handle *)handle_new(type, GP_KIND_ATOMIC);
    if (!h) return NULL;
    struct gp_object *o = gp_at(h->ref);
    if (v && PyBool_Check(v)) gp_set(&o->flags, GP_OBJ_BOOL);
    if (v && atomic_value(o, v, &x) < 0) {
        Py_DECREF(h);
        return NULL;
    }
    atomic_store(&o->value, x);
    return (PyObject *)h;
}

static PyObject *atomic_load_(Handle *self, PyObject *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    if (!o || tick() < 0) return NULL; /* a loop that polls lets others run */
    return atomic_result(o, atomic_load(&o->value));
}

static PyObject *atomic_store_(Handle *self, PyObject *v) {
    struct gp_object *o = handle_object(self);
    int64_t x;
    if (!o || atomic_value(o, v, &x) < 0 || tick() < 0) return NULL;
    atomic_store(&o->value, x);
    Py_RETURN_NONE;
}

static PyObject *atomic_swap_(Handle *self, PyObject *v) {
    struct gp_object *o = handle_object(self);
    int64_t x;
    if (!o || atomic_value(o, v, &x) < 0 || tick() < 0) return NULL;
    return atomic_result(o, atomic_exchange(&o->value, x));
}

static PyObject *atomic_cas_(Handle *self, PyObject *const *args, Py_ssize_t nargs) {
    struct gp_object *o = handle_object(self);
    int64_t old, new_;
    if (!o) return NULL;
    if (nargs != 2) return PyErr_Format(PyExc_TypeError, "cas() takes old and new");
    if (atomic_value(o, args[0], &old) < 0 || atomic_value(o, args[1], &new_) < 0 || tick() < 0) return NULL;
    return PyBool_FromLong(atomic_compare_exchange_strong(&o->value, &old, new_));
}

static int number_only(struct gp_object *o, const char *name) {
    if (!(gp_get(&o->flags) & GP_OBJ_BOOL)) return 0;
    PyErr_Format(PyExc_TypeError, "%s needs an Atomic that holds an int", name);
    return -1;
}

static PyObject *atomic_add_(Handle *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"n", NULL};
    PyObject *n = NULL;
    struct gp_object *o = handle_object(self);
    int64_t x = 1;
    if (!o || !PyArg_ParseTupleAndKeywords(args, kwargs, "|O:add", names, &n) || number_only(o, "add()") < 0)
        return NULL;
    if ((n && atomic_value(o, n, &x) < 0) || tick() < 0) return NULL;
    int64_t old = atomic_load(&o->value), sum;
    do {
        if (__builtin_add_overflow(old, x, &sum))
            return PyErr_Format(PyExc_OverflowError, "an Atomic holds 64 bits: %lld + %lld does not fit",
                                (long long)old, (long long)x);
    } while (!atomic_compare_exchange_weak(&o->value, &old, sum));
    return PyLong_FromLongLong(sum);
}

static PyObject *atomic_and_(Handle *self, PyObject *v) {
    struct gp_object *o = handle_object(self);
    int64_t x;
    if (!o || number_only(o, "and_()") < 0 || atomic_value(o, v, &x) < 0 || tick() < 0) return NULL;
    return PyLong_FromLongLong(atomic_fetch_and(&o->value, x));
}

static PyObject *atomic_or_(Handle *self, PyObject *v) {
    struct gp_object *o = handle_object(self);
    int64_t x;
    if (!o || number_only(o, "or_()") < 0 || atomic_value(o, v, &x) < 0 || tick() < 0) return NULL;
    return PyLong_FromLongLong(atomic_fetch_or(&o->value, x));
}

static PyMethodDef atomic_methods[] = {
    {"load", (PyCFunction)atomic_load_, METH_NOARGS, PyDoc_STR("load($self, /)\n--\n\nThe value.")},
    {"store", (PyCFunction)atomic_store_, METH_O, PyDoc_STR("store($self, value, /)\n--\n\nSet the value.")},
    {"swap", (PyCFunction)atomic_swap_, METH_O,
     PyDoc_STR("swap($self, value, /)\n"
               "--\n\n"
               "Set the value; return the old one.")},
    {"cas", METHOD(atomic_cas_), METH_FASTCALL,
     PyDoc_STR("cas($self, old, new, /)\n"
               "--\n\n"
               "Set the value to new if it equals old. Return True if it did.")},
    {"add", METHOD(atomic_add_), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("add($self, /, n=1)\n"
               "--\n\n"
               "Add n; return the new value.\n\n"
               "Raises:\n"
               "    OverflowError: the result does not fit into 64 bits.")},
    {"and_", (PyCFunction)atomic_and_, METH_O,
     PyDoc_STR("and_($self, mask, /)\n"
               "--\n\n"
               "value &= mask; return the old value.")},
    {"or_", (PyCFunction)atomic_or_, METH_O,
     PyDoc_STR("or_($self, mask, /)\n"
               "--\n\n"
               "value |= mask; return the old value.")},
    {NULL, NULL, 0, NULL},
};

PyTypeObject AtomicType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.Atomic",
    .tp_base = &HandleType,
    .tp_basicsize = sizeof(Handle),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = atomic_new,
    .tp_methods = atomic_methods,
};
