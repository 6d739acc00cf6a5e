/* together.c - several checks that are made as one, at each `go` of a function that uses classes of the
 * script.
 *
 * A Together holds pairs: a Bindings, or any callable, and the namespace to give to it. Such checks stand for
 * the definitions of classes; after a definition was made anew they may be the wrong ones, although they
 * hold. So a Together counts no longer once the number of definitions has changed.
 */
#include "python.h"

static unsigned long long definitions; /* that were made, or given up, in this process */

typedef struct {
    PyObject_HEAD
    PyObject *checks; /* tuple of pairs */
    unsigned long long definitions;
} Together;

static int holds(PyObject *check, PyObject *namespace) { /* 1, 0, or -1 and an exception */
    if (Py_IS_TYPE(check, &BindingsType)) return bindings_hold(check, namespace);
    PyObject *result = PyObject_CallOneArg(check, namespace);
    int hold = result ? PyObject_IsTrue(result) : -1;
    Py_XDECREF(result);
    return hold;
}

static PyObject *together_unchanged(Together *t, PyObject *Py_UNUSED(none)) {
    if (t->definitions != definitions) Py_RETURN_FALSE;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(t->checks); i++) {
        PyObject *pair = PyTuple_GET_ITEM(t->checks, i);
        int hold = holds(PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
        if (hold < 0) return NULL;
        if (!hold) Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

static PyObject *together_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *checks;
    unsigned long long number;
    if (kwargs || !PyArg_ParseTuple(args, "O!K:Together", &PyTuple_Type, &checks, &number)) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "Together(checks, definitions)");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(checks); i++)
        if (!PyTuple_Check(PyTuple_GET_ITEM(checks, i)) || PyTuple_GET_SIZE(PyTuple_GET_ITEM(checks, i)) != 2)
            return PyErr_Format(PyExc_TypeError, "checks is a tuple of pairs");
    Together *t = (Together *)type->tp_alloc(type, 0);
    if (!t) return NULL;
    t->checks = Py_NewRef(checks);
    t->definitions = number;
    return (PyObject *)t;
}

static int together_traverse(Together *t, visitproc visit, void *arg) {
    Py_VISIT(t->checks);
    return 0;
}

static void together_dealloc(Together *t) {
    PyObject_GC_UnTrack(t);
    Py_XDECREF(t->checks);
    Py_TYPE(t)->tp_free(t);
}

static PyMethodDef together_methods[] = {
    {"unchanged", (PyCFunction)together_unchanged, METH_NOARGS,
     PyDoc_STR("True if all checks hold, and no definition was made since they were collected.")},
    {NULL, NULL, 0, NULL},
};

PyTypeObject TogetherType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.Together",
    .tp_doc = PyDoc_STR("Together(checks, definitions): checks that are made as one; definitions() when they "
                        "were collected."),
    .tp_basicsize = sizeof(Together),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = together_new,
    .tp_dealloc = (destructor)together_dealloc,
    .tp_traverse = (traverseproc)together_traverse,
    .tp_methods = together_methods,
};

static PyObject *core_definitions(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    return PyLong_FromUnsignedLongLong(definitions);
}

static PyObject *core_redefined(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    definitions++;
    Py_RETURN_NONE;
}

static bool in_table(PyObject *table, PyObject *value) { /* or an exception */
    if (PyMethod_Check(value)) value = PyMethod_GET_SELF(value);
    bool is_class = PyType_Check(value);
    if (!is_class && !PyType_HasFeature(Py_TYPE(value), Py_TPFLAGS_HEAPTYPE)) return false;
    PyObject *key = PyLong_FromVoidPtr(is_class ? value : (PyObject *)Py_TYPE(value));
    bool found = key && PyDict_Contains(table, key) == 1;
    Py_XDECREF(key);
    return found;
}

static bool any_in_table(PyObject *table, PyObject *part) { /* or an exception */
    if (PyTuple_CheckExact(part)) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(part); i++)
            if (in_table(table, PyTuple_GET_ITEM(part, i))) return true;
    } else if (PyDict_CheckExact(part)) {
        PyObject *key, *value;
        for (Py_ssize_t i = 0; PyDict_Next(part, &i, &key, &value);)
            if (in_table(table, value)) return true;
    }
    return false;
}

static PyObject *core_brings(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 2 || !PyTuple_CheckExact(args[0]) || !PyDict_CheckExact(args[1]))
        return PyErr_Format(PyExc_TypeError, "brings(message, table)");
    bool found = false;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args[0]) && !found; i++)
        found = any_in_table(args[1], PyTuple_GET_ITEM(args[0], i));
    return PyErr_Occurred() ? NULL : PyBool_FromLong(found);
}

PyMethodDef together_functions[] = {
    {"definitions", core_definitions, METH_NOARGS,
     PyDoc_STR("The number of times that redefined() was called.")},
    {"redefined", core_redefined, METH_NOARGS,
     PyDoc_STR("A definition of a class was made or given up: every Together counts no longer.")},
    {"brings", METHOD(core_brings), METH_FASTCALL,
     PyDoc_STR("brings(message, table): true if a tuple or dict of the message has a class whose id is in "
               "the table, an "
               "object of such a class, or a method of one.")},
    {NULL, NULL, 0, NULL},
};
