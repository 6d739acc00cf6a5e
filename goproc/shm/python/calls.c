/* calls.c - steps of every call that crosses processes: the look at its arguments, the copies of its function
 * and of the record of its goroutine, the release of its globals. */
#include "python.h"

enum { MOST_DEPTH = 2, MOST_ITEMS = 16 };

static bool is_leaf(PyTypeObject *type) {
    if (type == &PyLong_Type || type == &PyUnicode_Type || type == &PyFloat_Type || type == &PyBool_Type ||
        type == &PyBytes_Type || type == &PyComplex_Type || type == Py_TYPE(Py_None) ||
        type == &PyContextVar_Type)
        return true;
    static PyObject *name;
    if (!name && !(name = PyUnicode_InternFromString("__goproc_handle__"))) {
        PyErr_Clear();
        return false;
    }
    /* no code of the program runs, as it would for a metaclass */
    return _PyType_Lookup(type, name) == Py_True;
}

static bool are_plain(PyObject *container, int depth);

static bool is_plain(PyObject *value, int depth) {
    if (is_leaf(Py_TYPE(value))) return true;
    Py_ssize_t items = PyDict_CheckExact(value)                                ? PyDict_GET_SIZE(value)
                       : PyTuple_CheckExact(value) || PyList_CheckExact(value) ? Py_SIZE(value)
                                                                               : PY_SSIZE_T_MAX;
    return depth <= MOST_DEPTH && items <= MOST_ITEMS && are_plain(value, depth + 1);
}

static bool are_plain(PyObject *container, int depth) {
    if (PyDict_CheckExact(container)) {
        PyObject *key, *value;
        for (Py_ssize_t i = 0; PyDict_Next(container, &i, &key, &value);)
            if (!is_plain(key, depth) || !is_plain(value, depth)) return false;
        return true;
    }
    PyObject **item = PyTuple_CheckExact(container) ? ((PyTupleObject *)container)->ob_item
                                                    : ((PyListObject *)container)->ob_item;
    for (Py_ssize_t i = 0; i < Py_SIZE(container); i++)
        if (!is_plain(item[i], depth)) return false;
    return true;
}

static PyObject *core_plain(PyObject *Py_UNUSED(module), PyObject *container) {
    if (!PyTuple_CheckExact(container) && !PyList_CheckExact(container) && !PyDict_CheckExact(container))
        return PyErr_Format(PyExc_TypeError, "plain(tuple, list or dict)");
    return PyBool_FromLong(are_plain(container, 0));
}

/* True if only the caller's own reference leads to a dictionary, beside the functions in it that run over
 * it. */
static bool is_alone(PyObject *namespace) {
    Py_ssize_t known = 1, found = Py_REFCNT(namespace);
    PyObject *key, *value;
    for (Py_ssize_t i = 0; PyDict_Next(namespace, &i, &key, &value);)
        if (PyFunction_Check(value) && PyFunction_GET_GLOBALS(value) == namespace) {
            known += 2; /* of the function to the namespace, and back */
            found += Py_REFCNT(value);
        }
    return found <= known;
}

static PyObject *core_release_namespace(PyObject *Py_UNUSED(module), PyObject *const *args,
                                        Py_ssize_t nargs) {
    if (nargs != 2) return PyErr_Format(PyExc_TypeError, "release_namespace(owner, name of its attribute)");
    PyObject *namespace = PyObject_GetAttr(args[0], args[1]);
    if (!namespace || PyObject_SetAttr(args[0], args[1], Py_None) < 0) {
        Py_XDECREF(namespace);
        return NULL;
    }
    if (PyDict_CheckExact(namespace) && is_alone(namespace)) PyDict_Clear(namespace);
    Py_DECREF(namespace);
    Py_RETURN_NONE;
}

/* As types.FunctionType() makes a function, without the parsing of its arguments. */
static PyObject *core_make_function(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 5 || !PyCode_Check(args[0]) || !PyDict_Check(args[1]) || !PyUnicode_Check(args[2]) ||
        !(args[3] == Py_None || PyTuple_Check(args[3])) || !(args[4] == Py_None || PyTuple_Check(args[4])))
        return PyErr_Format(PyExc_TypeError, "make_function(code, globals, name, defaults, cells)");
    Py_ssize_t cells = args[4] == Py_None ? 0 : PyTuple_GET_SIZE(args[4]);
    if (cells != ((PyCodeObject *)args[0])->co_nfreevars)
        return PyErr_Format(PyExc_ValueError, "the code has %d free variables, not %zd",
                            ((PyCodeObject *)args[0])->co_nfreevars, cells);
    for (Py_ssize_t i = 0; i < cells; i++)
        if (!PyCell_Check(PyTuple_GET_ITEM(args[4], i)))
            return PyErr_Format(PyExc_TypeError, "cells is a tuple of cells");
    PyObject *function = PyFunction_New(args[0], args[1]);
    if (!function) return NULL;
    Py_SETREF(((PyFunctionObject *)function)->func_name, Py_NewRef(args[2]));
    if ((args[3] != Py_None && PyFunction_SetDefaults(function, args[3]) < 0) ||
        (args[4] != Py_None && PyFunction_SetClosure(function, args[4]) < 0))
        Py_CLEAR(function);
    return function;
}

static PyObject *core_twin(PyObject *Py_UNUSED(module), PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    if (type->tp_base != &PyBaseObject_Type || !PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) ||
        type->tp_dictoffset || type->tp_weaklistoffset || type->tp_itemsize)
        return PyErr_Format(PyExc_TypeError, "twin() copies an object that has slots and nothing else");
    PyObject *fresh = type->tp_alloc(type, 0);
    if (!fresh) return NULL;
    for (Py_ssize_t at = sizeof(PyObject); at < type->tp_basicsize; at += (Py_ssize_t)sizeof(PyObject *))
        *(PyObject **)((char *)fresh + at) = Py_XNewRef(*(PyObject **)((char *)object + at));
    return fresh;
}

PyMethodDef call_functions[] = {
    {"make_function", METHOD(core_make_function), METH_FASTCALL,
     PyDoc_STR(
         "make_function(code, globals, name, defaults, cells): a function, as types.FunctionType makes it.")},
    {"twin", core_twin, METH_O,
     PyDoc_STR("Another object of the same class, with the same values in its slots.")},
    {"plain", core_plain, METH_O,
     PyDoc_STR("True if a tuple, list or dict holds leaves only, or small containers of leaves: scalars, "
               "texts, handles.")},
    {"release_namespace", METHOD(core_release_namespace), METH_FASTCALL,
     PyDoc_STR("release_namespace(owner, name): set the attribute to None; empty its globals if nothing else "
               "leads there.")},
    {NULL, NULL, 0, NULL},
};
