/* bindings.c - the check whether names still lead to the same objects, which the sender of a function makes
 * at each `go`.
 *
 * A Bindings knows the names of a namespace (a function's globals, the attributes of a class) with the
 * objects that they led to, names that were absent, plain functions with their parts, and small containers
 * with a copy of each. All are compared by identity: no code of the program runs but the equality of sets,
 * whose elements cannot change.
 */
#include "python.h"

typedef struct {
    PyObject_HEAD
    PyObject *names, *values; /* tuples of one length */
    PyObject *absent;         /* tuple of names */
    /* tuple of tuples: name, code, defaults, name and qualified name of the function */
    PyObject *functions;
    PyObject *copies;         /* tuple of pairs: a list, dict or set, and its copy */
    /* tuple of tuples: name of a function, None for the function of fits(); true: its annotations, false: its
     * keyword defaults; that dict, and its copy */
    PyObject *details;
    Py_ssize_t size;          /* how many names there are; -1: any number */
    PyObject *defaults, *kwdefaults, *title, *qualname; /* of the function for fits(); NULL: anything goes */
    PyObject *bases;          /* of the class for hold(), with its qualified name; NULL: anything goes */
    /* of the class when the names of its dict were compared last; 0: they were not */
    unsigned version;
} Bindings;

static PyObject *dict_of(PyObject *namespace) { /* a new reference */
    if (PyDict_Check(namespace)) return Py_NewRef(namespace);
    if (!PyType_Check(namespace))
        return PyErr_Format(PyExc_TypeError, "a namespace is a dict or a class, not %s",
                            Py_TYPE(namespace)->tp_name);
#if PY_VERSION_HEX >= 0x030C0000
    return PyType_GetDict((PyTypeObject *)namespace);
#else
    return Py_NewRef(((PyTypeObject *)namespace)->tp_dict);
#endif
}

static bool is_or_none(PyObject *now, PyObject *before) { return (now ? now : Py_None) == before; }

static bool same_text(PyObject *a, PyObject *b) {
    return a == b || (PyUnicode_Check(a) && PyUnicode_Check(b) && PyUnicode_Compare(a, b) == 0);
}

static bool same_function(PyObject *f, PyObject *parts) {
    return f && PyFunction_Check(f) && PyFunction_GET_CODE(f) == PyTuple_GET_ITEM(parts, 1) &&
           is_or_none(PyFunction_GET_DEFAULTS(f), PyTuple_GET_ITEM(parts, 2)) &&
           same_text(((PyFunctionObject *)f)->func_name, PyTuple_GET_ITEM(parts, 3)) &&
           same_text(((PyFunctionObject *)f)->func_qualname, PyTuple_GET_ITEM(parts, 4));
}

static bool same_items(PyObject *a, PyObject *b) {
    if (PyDict_GET_SIZE(a) != PyDict_GET_SIZE(b)) return false;
    PyObject *key, *value, *other_key, *other_value;
    for (Py_ssize_t i = 0, j = 0; PyDict_Next(a, &i, &key, &value);)
        if (!PyDict_Next(b, &j, &other_key, &other_value) || key != other_key || value != other_value)
            return false;
    return true;
}

/* 1 if a container holds the very objects that its copy does, else 0; -1 with an exception */
static int same_container(PyObject *now, PyObject *copy) {
    if (PyDict_Check(now)) return same_items(now, copy);
    if (!PyList_Check(now)) return PyObject_RichCompareBool(now, copy, Py_EQ);
    Py_ssize_t n = PyList_GET_SIZE(now);
    return n == PyList_GET_SIZE(copy) &&
           (n == 0 || memcmp(((PyListObject *)now)->ob_item, ((PyListObject *)copy)->ob_item,
                             (size_t)n * sizeof(PyObject *)) == 0);
}

/* 1 if no dict that belongs to a function has changed, else 0; -1 with an exception */
static int same_details(Bindings *b, PyObject *function, PyObject *dict) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(b->details); i++) {
        PyObject *detail = PyTuple_GET_ITEM(b->details, i), *name = PyTuple_GET_ITEM(detail, 0);
        PyObject *f = name == Py_None ? function : PyDict_GetItemWithError(dict, name);
        if (!f || !PyFunction_Check(f)) return PyErr_Occurred() ? -1 : 0;
        PyFunctionObject *has = (PyFunctionObject *)f;
        PyObject *now = PyTuple_GET_ITEM(detail, 1) == Py_True ? has->func_annotations : has->func_kwdefaults;
        PyObject *known = PyTuple_GET_ITEM(detail, 2);
        if (now != known || !same_items(known, PyTuple_GET_ITEM(detail, 3))) return 0;
    }
    return 1;
}

/* As hold_in(), for the names and their values alone. */
static int names_hold(Bindings *b, PyObject *dict) {
    if (b->size >= 0 && PyDict_GET_SIZE(dict) != b->size) return 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(b->names); i++) {
        PyObject *now = PyDict_GetItemWithError(dict, PyTuple_GET_ITEM(b->names, i));
        if (!now || now != PyTuple_GET_ITEM(b->values, i)) return PyErr_Occurred() ? -1 : 0;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(b->absent); i++) {
        int found = PyDict_Contains(dict, PyTuple_GET_ITEM(b->absent, i));
        if (found) return found < 0 ? -1 : 0;
    }
    return 1;
}

/* 1 if the functions and containers to which names lead are as they were, else 0; -1 with an exception */
static int parts_hold(Bindings *b, PyObject *dict) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(b->functions); i++) {
        PyObject *parts = PyTuple_GET_ITEM(b->functions, i);
        PyObject *now = PyDict_GetItemWithError(dict, PyTuple_GET_ITEM(parts, 0));
        if (!same_function(now, parts)) return PyErr_Occurred() ? -1 : 0;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(b->copies); i++) {
        PyObject *pair = PyTuple_GET_ITEM(b->copies, i);
        int same = same_container(PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
        if (same <= 0) return same;
    }
    return 1;
}

static int hold_in(Bindings *b, PyObject *dict) {
    int hold = names_hold(b, dict);
    return hold > 0 ? parts_hold(b, dict) : hold;
}

/* The number that Python gives to a class after each change of its attributes; 0: the class has none now. */
static unsigned version_of(PyObject *class) {
    PyTypeObject *type = (PyTypeObject *)class;
    return PyType_HasFeature(type, Py_TPFLAGS_VALID_VERSION_TAG) ? type->tp_version_tag : 0;
}

static int hold_in_class(Bindings *b, PyObject *class, PyObject *dict) {
    if (!b->version || b->version != version_of(class)) {
        b->version = 0;
        int hold = names_hold(b, dict);
        if (hold <= 0) return hold;
        /* a look-up gives the class a number */
        if (PyTuple_GET_SIZE(b->names)) _PyType_Lookup((PyTypeObject *)class, PyTuple_GET_ITEM(b->names, 0));
        b->version = version_of(class);
    }
    return parts_hold(b, dict);
}

static bool same_class(Bindings *b, PyObject *class) {
    if (!b->bases) return true;
    if (!PyType_Check(class) || !PyType_HasFeature((PyTypeObject *)class, Py_TPFLAGS_HEAPTYPE)) return false;
    return ((PyTypeObject *)class)->tp_bases == b->bases &&
           (!b->qualname || same_text(((PyHeapTypeObject *)class)->ht_qualname, b->qualname));
}

int bindings_hold(PyObject *bindings, PyObject *namespace) {
    Bindings *b = (Bindings *)bindings;
    if (!same_class(b, namespace)) return 0;
    PyObject *dict = dict_of(namespace);
    if (!dict) return -1;
    int hold = PyType_Check(namespace) ? hold_in_class(b, namespace, dict) : hold_in(b, dict);
    Py_DECREF(dict);
    return hold;
}

static PyObject *hold(PyObject *b, PyObject *namespace) {
    int hold = bindings_hold(b, namespace);
    return hold < 0 ? NULL : PyBool_FromLong(hold);
}

static bool same_own(Bindings *b, PyFunctionObject *f) {
    if (b->kwdefaults &&
        (!is_or_none(f->func_kwdefaults, b->kwdefaults) || (f->func_dict && PyDict_GET_SIZE(f->func_dict))))
        return false;
    return (!b->defaults || is_or_none(f->func_defaults, b->defaults)) &&
           (!b->title || (same_text(f->func_name, b->title) && same_text(f->func_qualname, b->qualname)));
}

static PyObject *bindings_fits(Bindings *b, PyObject *function) {
    if (!PyFunction_Check(function)) return PyErr_Format(PyExc_TypeError, "fits(function)");
    if (!same_own(b, (PyFunctionObject *)function)) Py_RETURN_FALSE;
    int hold = hold_in(b, PyFunction_GET_GLOBALS(function));
    if (hold > 0) hold = same_details(b, function, PyFunction_GET_GLOBALS(function));
    return hold < 0 ? NULL : PyBool_FromLong(hold);
}

static int bindings_traverse(Bindings *b, visitproc visit, void *arg) {
    Py_VISIT(b->names);
    Py_VISIT(b->values);
    Py_VISIT(b->absent);
    Py_VISIT(b->functions);
    Py_VISIT(b->copies);
    Py_VISIT(b->details);
    Py_VISIT(b->defaults);
    Py_VISIT(b->kwdefaults);
    Py_VISIT(b->title);
    Py_VISIT(b->qualname);
    Py_VISIT(b->bases);
    return 0;
}

static void bindings_dealloc(Bindings *b) {
    PyObject_GC_UnTrack(b);
    Py_XDECREF(b->names);
    Py_XDECREF(b->values);
    Py_XDECREF(b->absent);
    Py_XDECREF(b->functions);
    Py_XDECREF(b->copies);
    Py_XDECREF(b->details);
    Py_XDECREF(b->defaults);
    Py_XDECREF(b->kwdefaults);
    Py_XDECREF(b->title);
    Py_XDECREF(b->qualname);
    Py_XDECREF(b->bases);
    Py_TYPE(b)->tp_free(b);
}

/* Every item of a tuple is itself a tuple of n items. */
static bool all_of(PyObject *tuples, Py_ssize_t n, const char *what) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuples); i++) {
        PyObject *item = PyTuple_GET_ITEM(tuples, i);
        if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != n) {
            PyErr_Format(PyExc_TypeError, "%s is a tuple of tuples of %zd items", what, n);
            return false;
        }
    }
    return true;
}

/* Item `at` of each tuple is a container, and the next one is its copy. */
static bool all_containers(PyObject *tuples, Py_ssize_t at) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuples); i++) {
        PyObject *item = PyTuple_GET_ITEM(tuples, i), *now = PyTuple_GET_ITEM(item, at),
                 *copy = PyTuple_GET_ITEM(item, at + 1);
        bool known = PyList_CheckExact(now) || PyDict_CheckExact(now) || PyAnySet_CheckExact(now);
        if (!known || Py_TYPE(now) != Py_TYPE(copy)) {
            PyErr_SetString(PyExc_TypeError, "copies are of lists, dicts and sets");
            return false;
        }
    }
    return true;
}

static PyObject *bindings_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *words[] = {"names",    "values",     "absent", "functions", "copies", "details", "size",
                            "defaults", "kwdefaults", "title",  "qualname",  "bases",  NULL};
    PyObject *names, *values, *absent = NULL, *functions = NULL, *copies = NULL, *details = NULL;
    PyObject *defaults = NULL, *kwdefaults = NULL, *title = NULL, *qualname = NULL, *bases = NULL;
    Py_ssize_t size = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!|$O!O!O!O!nOOUUO!:Bindings", words, &PyTuple_Type,
                                     &names, &PyTuple_Type, &values, &PyTuple_Type, &absent, &PyTuple_Type,
                                     &functions, &PyTuple_Type, &copies, &PyTuple_Type, &details, &size,
                                     &defaults, &kwdefaults, &title, &qualname, &PyTuple_Type, &bases))
        return NULL;
    if (PyTuple_GET_SIZE(names) != PyTuple_GET_SIZE(values))
        return PyErr_Format(PyExc_TypeError, "as many values as names");
    if (!title != !qualname) return PyErr_Format(PyExc_TypeError, "title and qualname go together");
    if ((functions && !all_of(functions, 5, "functions")) ||
        (copies && !(all_of(copies, 2, "copies") && all_containers(copies, 0))) ||
        (details && !(all_of(details, 4, "details") && all_containers(details, 2))))
        return NULL;
    PyObject *empty = PyTuple_New(0);
    Bindings *b = empty ? (Bindings *)type->tp_alloc(type, 0) : NULL;
    if (b) {
        b->names = Py_NewRef(names);
        b->values = Py_NewRef(values);
        b->absent = Py_NewRef(absent ? absent : empty);
        b->functions = Py_NewRef(functions ? functions : empty);
        b->copies = Py_NewRef(copies ? copies : empty);
        b->details = Py_NewRef(details ? details : empty);
        b->size = size;
        b->defaults = Py_XNewRef(defaults);
        b->kwdefaults = Py_XNewRef(kwdefaults);
        b->title = Py_XNewRef(title);
        b->qualname = Py_XNewRef(qualname);
        b->bases = Py_XNewRef(bases);
    }
    Py_XDECREF(empty);
    return (PyObject *)b;
}

static PyMethodDef bindings_methods[] = {
    {"hold", hold, METH_O,
     PyDoc_STR("True if the bindings hold in a namespace, which is a dict or a class.")},
    {"fits", (PyCFunction)bindings_fits, METH_O,
     PyDoc_STR("True if the bindings hold in the globals of a function, and its own parts are the same.")},
    {NULL, NULL, 0, NULL},
};

PyTypeObject BindingsType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.Bindings",
    .tp_doc = PyDoc_STR("Names of a namespace, and the objects that they led to."),
    .tp_basicsize = sizeof(Bindings),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = bindings_new,
    .tp_dealloc = (destructor)bindings_dealloc,
    .tp_traverse = (traverseproc)bindings_traverse,
    .tp_methods = bindings_methods,
};
