/* guard_walk.c - the making of a Guard: a walk over the containers of a value. */
#include "guard.h"

struct walk {
    Guard *guard;
    PyObject *leaves;      /* a tuple of types */
    /* a tuple of subclasses of dict that are but their entries and, perhaps, a default_factory */
    PyObject *dicts;
    PyObject *is_plain;    /* (class) -> whether its objects are but their attributes */
    struct pointers seen;
    PyObject **todo;       /* borrowed: the object that is walked holds them */
    size_t n, cap;
};

/* a datetime with a tzinfo, which may be any object */
static bool has_zone(PyObject *o) {
    const char *name = strrchr(Py_TYPE(o)->tp_name, '.');
    if (!name || (strcmp(name, ".datetime") != 0 && strcmp(name, ".time") != 0)) return false;
    PyObject *zone = PyObject_GetAttrString(o, "tzinfo");
    if (!zone) PyErr_Clear();
    bool none = zone == Py_None;
    Py_XDECREF(zone);
    return !none;
}

static bool is_leaf(const struct walk *w, PyObject *o) {
    PyTypeObject *t = Py_TYPE(o);
    if (t == &PyUnicode_Type || t == &PyLong_Type || t == &PyFloat_Type || o == Py_None ||
        t == &PyBool_Type || t == &PyBytes_Type || t == &PyComplex_Type)
        return true;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(w->leaves); i++)
        if (PyTuple_GET_ITEM(w->leaves, i) == (PyObject *)t) return !has_zone(o);
    return false;
}

static bool is_dict(const struct walk *w, PyObject *o) {
    if (PyDict_CheckExact(o)) return true;
    for (Py_ssize_t i = 0; PyDict_Check(o) && i < PyTuple_GET_SIZE(w->dicts); i++)
        if (PyTuple_GET_ITEM(w->dicts, i) == (PyObject *)Py_TYPE(o)) return true;
    return false;
}

static int is_plain_object(const struct walk *w, PyObject *o) {
    PyObject *type = (PyObject *)Py_TYPE(o), *known = PyDict_GetItemWithError(w->guard->classes, type);
    if (known) return known == Py_True;
    if (PyErr_Occurred()) return -1;
    PyObject *answer = PyObject_CallOneArg(w->is_plain, type);
    int r = answer ? PyDict_SetItem(w->guard->classes, type, answer) : -1;
    if (r == 0) r = answer == Py_True;
    Py_XDECREF(answer);
    return r;
}

/* 1: goes on, 0: the value cannot be guarded, -1: an exception */
static int walk_push(struct walk *w, PyObject *o) {
    if (is_leaf(w, o)) return 1;
    if (!PyList_CheckExact(o) && !PyTuple_CheckExact(o) && !PyAnySet_CheckExact(o) && !is_dict(w, o)) {
        int plain = is_plain_object(w, o);
        if (plain <= 0) return plain;
    }
    if (PyTuple_CheckExact(o)) {
        Py_ssize_t i = 0;
        while (i < PyTuple_GET_SIZE(o) && is_leaf(w, PyTuple_GET_ITEM(o, i))) i++;
        if (i == PyTuple_GET_SIZE(o)) return 1;
    }
    if (pointer_find(&w->seen, o)) return 1;
    if (!pointer_put(&w->seen, o)) return -1;
    if (w->n == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 64;
        PyObject **v = PyMem_Realloc(w->todo, cap * sizeof *v);
        if (!v) {
            PyErr_NoMemory();
            return -1;
        }
        w->todo = v;
        w->cap = cap;
    }
    w->todo[w->n++] = o;
    return 1;
}

static struct record *record_new(Guard *g, enum kind kind, PyObject *container, size_t bytes) {
    if (g->n == g->cap) {
        size_t cap = g->cap ? 2 * g->cap : 4;
        struct record *v = PyMem_Realloc(g->v, cap * sizeof *v);
        if (!v) return (struct record *)PyErr_NoMemory();
        g->v = v;
        g->cap = cap;
    }
    void *items = bytes ? PyMem_Malloc(bytes) : NULL;
    if (bytes && !items) return (struct record *)PyErr_NoMemory();
    struct record *r = &g->v[g->n++];
    *r = (struct record){.kind = kind, .container = Py_NewRef(container), .items = items, .mask = -1};
    return r;
}

static int walk_list(struct walk *w, PyObject *list) {
    Py_ssize_t n = PyList_GET_SIZE(list);
    PyObject **from = ((PyListObject *)list)->ob_item;
    struct record *r = record_new(w->guard, LIST, list, (size_t)n * sizeof *from);
    if (!r) return -1;
    r->n = n;
    if (n) memcpy(r->items, from, (size_t)n * sizeof *from);
    for (Py_ssize_t i = 0; i < n; i++) Py_INCREF(from[i]);
    int go = 1;
    for (Py_ssize_t i = 0; go > 0 && i < n; i++) go = walk_push(w, from[i]);
    return go;
}

static int walk_set(struct walk *w, PyObject *set) {
    PySetObject *s = (PySetObject *)set;
    size_t bytes = ((size_t)s->mask + 1) * sizeof *s->table;
    struct record *r = record_new(w->guard, SET, set, bytes);
    if (!r) return -1;
    r->n = s->used;
    r->mask = s->mask;
    memcpy(r->items, s->table, bytes);
    for (Py_ssize_t i = 0; i <= s->mask; i++) Py_XINCREF(s->table[i].key);
    int go = 1;
    for (Py_ssize_t i = 0; go > 0 && i <= s->mask; i++)
        if (s->table[i].key && s->table[i].hash != -1) go = walk_push(w, s->table[i].key);
    return go;
}

static int walk_object(struct walk *w, PyObject *o) {
    PyObject *dict = PyObject_GenericGetDict(o, NULL);
    if (!dict) return -1;
    if (!PyDict_CheckExact(dict)) {
        Py_DECREF(dict);
        return 0;
    }
    struct record *r = record_new(w->guard, OBJECT, o, 0);
    if (!r) {
        Py_DECREF(dict);
        return -1;
    }
    r->first = Py_NewRef(Py_TYPE(o));
    r->second = dict;
    return walk_push(w, dict);
}

static int walk_entries(struct walk *w, PyObject *dict) {
    Py_ssize_t n = 2 * PyDict_GET_SIZE(dict), i = 0;
    struct record *r = record_new(w->guard, ENTRIES, dict, (size_t)n * sizeof(PyObject *));
    if (!r) return -1;
    PyObject **items = r->items, *key, *value;
    for (Py_ssize_t at = 0; i < n && PyDict_Next(dict, &at, &key, &value);) {
        items[i++] = Py_NewRef(key);
        items[i++] = Py_NewRef(value);
    }
    r->n = i;
    int go = 1;
    for (Py_ssize_t k = 0; go > 0 && k < i; k++) go = walk_push(w, items[k]);
    return go;
}

static int walk_dict(struct walk *w, PyObject *dict) {
    uint64_t since;
    if (!dict_says(dict)) return walk_entries(w, dict);
    if (dict_watch(dict, &since) < 0) return -1;
    struct record *r = record_new(w->guard, DICT, dict, 0);
    if (!r) {
        dict_unwatch(dict);
        return -1;
    }
    r->since = since;
    PyObject *key, *value;
    int go = 1;
    if (!PyDict_CheckExact(dict)) {
        if (!(r->first = factory_of(dict))) return -1;
        /* one that could change is for the pickle */
        if (r->first != Py_None &&
            (!PyType_Check(r->first) || ((PyTypeObject *)r->first)->tp_flags & Py_TPFLAGS_HEAPTYPE))
            return 0;
    }
    for (Py_ssize_t at = 0; go > 0 && PyDict_Next(dict, &at, &key, &value);)
        if ((go = walk_push(w, key)) > 0) go = walk_push(w, value);
    return go;
}

static int walk_tuple(struct walk *w, PyObject *tuple) {
    int go = 1;
    for (Py_ssize_t i = 0; go > 0 && i < PyTuple_GET_SIZE(tuple); i++)
        go = walk_push(w, PyTuple_GET_ITEM(tuple, i));
    return go;
}

static PyObject *guard_new(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 4 || !PyTuple_Check(args[1]) || !PyTuple_Check(args[2]))
        return PyErr_Format(PyExc_TypeError, "guard(value, types of leaves, types of dicts, is plain)");
    Guard *g = PyObject_New(Guard, &GuardType);
    if (!g) return NULL;
    g->root = Py_NewRef(args[0]);
    g->v = NULL;
    g->n = g->cap = 0;
    g->classes = PyDict_New();
    struct walk w = {.guard = g, .leaves = args[1], .dicts = args[2], .is_plain = args[3]};
    int go = g->classes ? walk_push(&w, args[0]) : -1;
    while (go > 0 && w.n) {
        PyObject *o = w.todo[--w.n];
        go = PyList_CheckExact(o)     ? walk_list(&w, o)
             : PyDict_Check(o)        ? walk_dict(&w, o)
             : PyTuple_CheckExact(o)  ? walk_tuple(&w, o)
             : PyAnySet_CheckExact(o) ? walk_set(&w, o)
                                      : walk_object(&w, o);
    }
    pointers_free(&w.seen);
    PyMem_Free(w.todo);
    if (go > 0) return (PyObject *)g;
    Py_DECREF(g);
    if (go < 0) return NULL;
    Py_RETURN_NONE;
}

PyMethodDef guard_functions[] = {
    {"guard", METHOD(guard_new), METH_FASTCALL,
     PyDoc_STR("guard(value, types of leaves, types of dicts, is_plain(class)): a Guard; None if the value "
               "holds objects that a "
               "guard does not know.")},
    {NULL, NULL, 0, NULL},
};
