/* with_method.c - __enter__ and __exit__ that `with` can bind cheaply.
 *
 * `with m:` looks both methods up, binds them to m, calls them and drops them. Bound built-in functions are
 * objects of the garbage collector, and making two of them takes longer than locking and unlocking. Here
 * bound methods come from a free list.
 */
#include "python.h"

#define SPARE 16 /* blocks nest, and goroutines are left in them; beyond that they are allocated */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyTypeObject *of;
    const char *name;
    with_function call;
} WithMethod;

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    WithMethod *method; /* immortal */
    PyObject *self;
} Bound;

static PyTypeObject WithMethodType, BoundType;
static Bound *spare[SPARE];
static int spares;

/* ---- bound: the method that `with` calls */

/* The arguments after self: none, or three that say how the block ended, which is all one to a lock. */
static PyObject *call(const WithMethod *m, PyObject *self, PyObject *kwnames) {
    if (kwnames) return PyErr_Format(PyExc_TypeError, "%s() takes no keyword arguments", m->name);
    return m->call((Handle *)self);
}

static PyObject *bound_call(Bound *b, PyObject *const *Py_UNUSED(args), size_t Py_UNUSED(nargs),
                            PyObject *kwnames) {
    return call(b->method, b->self, kwnames);
}

static void bound_dealloc(Bound *b) {
    PyObject *self = b->self;
    if (spares < SPARE) spare[spares++] = b;
    else PyObject_Free(b);
    Py_DECREF(self);
}

static PyObject *bound_repr(Bound *b) {
    return PyUnicode_FromFormat("<method '%s' of %R>", b->method->name, b->self);
}

static PyObject *bind(PyObject *method, PyObject *self, PyObject *Py_UNUSED(type)) {
    WithMethod *m = (WithMethod *)method;
    if (!self) return Py_NewRef(method);
    if (!PyObject_TypeCheck(self, m->of))
        return PyErr_Format(PyExc_TypeError, "%s() of a %s cannot be bound to a %.100s", m->name,
                            m->of->tp_name, Py_TYPE(self)->tp_name);
    Bound *b = spares ? (Bound *)PyObject_Init((PyObject *)spare[--spares], &BoundType)
                      : PyObject_New(Bound, &BoundType);
    if (!b) return NULL;
    b->vectorcall = (vectorcallfunc)(void (*)(void))bound_call;
    b->method = m;
    b->self = Py_NewRef(self);
    return (PyObject *)b;
}

static PyTypeObject BoundType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.bound_with_method",
    .tp_basicsize = sizeof(Bound),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_vectorcall_offset = offsetof(Bound, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_dealloc = (destructor)bound_dealloc,
    .tp_repr = (reprfunc)bound_repr,
};

/* ---- the method itself, called with the object as first argument: contextlib.ExitStack does */

static PyObject *method_call(WithMethod *m, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    if (PyVectorcall_NARGS(nargsf) < 1 || !PyObject_TypeCheck(args[0], m->of))
        return PyErr_Format(PyExc_TypeError, "%s() needs a %s", m->name, m->of->tp_name);
    return call(m, args[0], kwnames);
}

static PyObject *method_repr(WithMethod *m) {
    return PyUnicode_FromFormat("<method '%s' of '%s' objects>", m->name, m->of->tp_name);
}

static PyTypeObject WithMethodType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.with_method",
    .tp_basicsize = sizeof(WithMethod),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR |
                Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_vectorcall_offset = offsetof(WithMethod, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_descr_get = bind,
    .tp_repr = (reprfunc)method_repr,
};

static int add(PyTypeObject *type, const char *name, with_function call) {
    WithMethod *m = PyObject_New(WithMethod, &WithMethodType);
    if (!m) return -1;
    m->vectorcall = (vectorcallfunc)(void (*)(void))method_call;
    m->of = type;
    m->name = name;
    m->call = call;
    /* the reference of this function is kept, too: the method is never freed */
    return PyDict_SetItemString(type->tp_dict, name, (PyObject *)m);
}

int with_methods_add(PyTypeObject *type, with_function enter, with_function exit) {
    if (PyType_Ready(&BoundType) < 0 || PyType_Ready(&WithMethodType) < 0) return -1;
    if (add(type, "__enter__", enter) < 0 || add(type, "__exit__", exit) < 0) return -1;
    PyType_Modified(type);
    return 0;
}
