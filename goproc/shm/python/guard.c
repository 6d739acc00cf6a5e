/* guard.c - sees whether a value that was copied has changed since, without copying it again.
 *
 * A guard knows the containers of a value: lists, dicts, sets and objects that consist of their attributes, however deep,
 * over leaves that cannot change. Of a list it keeps the pointers of the elements, of a set its table, and compares them.
 * Of a dict it keeps the version (3.11), or has the interpreter report a change (watchers, from 3.12 on); of an object's
 * dict it keeps the entries; of an object its class and its dict. It holds the objects that it points to, so that no
 * other object can come to lie there. It refuses any other kind of value: then the pickles are compared.
 *
 * And the table of the objects that a process has copies of, which the pickler asks about every object of a message.
 */
#include "pointers.h"
#include <structmember.h>

/* ---- the check whether a dict has changed */

#if PY_VERSION_HEX < 0x030C0000

static bool dict_says(PyObject *Py_UNUSED(dict)) {
    return true;
}
static int dict_watch(PyObject *dict, uint64_t *since) {
    *since = ((PyDictObject *)dict)->ma_version_tag; /* no two states of dicts have the same */
    return 0;
}
static void dict_unwatch(PyObject *Py_UNUSED(dict)) {}
static bool dict_same(PyObject *dict, uint64_t since) { return ((PyDictObject *)dict)->ma_version_tag == since; }

#else

static int watcher = -1;
static uint64_t changes;        /* of watched dicts, so far */
static struct pointers watched; /* dict -> when it was changed last */

/* An object's dict may share its values with the object (3.13), and an attribute that is set there tells no watcher. */
static bool dict_says(PyObject *dict) { return ((PyDictObject *)dict)->ma_values == NULL; }

static int on_change(PyDict_WatchEvent Py_UNUSED(event), PyObject *dict, PyObject *Py_UNUSED(key), PyObject *Py_UNUSED(value)) {
    struct pointer *p = pointer_find(&watched, dict);
    if (p) p->value = ++changes;
    return 0;
}

static int dict_watch(PyObject *dict, uint64_t *since) {
    if (watcher < 0 && (watcher = PyDict_AddWatcher(on_change)) < 0) return -1;
    struct pointer *p = pointer_find(&watched, dict);
    if (!p && !(p = pointer_put(&watched, dict))) return -1;
    if (p->users++ == 0 && PyDict_Watch(watcher, dict) < 0) {
        pointer_remove(&watched, p);
        return -1;
    }
    *since = changes;
    return 0;
}

static void dict_unwatch(PyObject *dict) {
    struct pointer *p = pointer_find(&watched, dict);
    if (!p || --p->users) return;
    pointer_remove(&watched, p);
    if (PyDict_Unwatch(watcher, dict) < 0) PyErr_Clear();
}

static bool dict_same(PyObject *dict, uint64_t since) {
    if (changes == since) return true;
    struct pointer *p = pointer_find(&watched, dict);
    return p && p->value <= since;
}

#endif

/* ---- Guard */

enum kind { LIST, SET, DICT, ENTRIES, OBJECT };

struct record {
    enum kind kind;
    PyObject *container; /* held */
    Py_ssize_t n;        /* elements of `items`, held */
    Py_ssize_t mask;     /* of a set's table */
    void *items;         /* a list's pointers, a set's table, or the keys and values of a dict by its ENTRIES */
    uint64_t since;      /* a dict's */
    PyObject *first;     /* held, or NULL: a defaultdict's factory, an object's class */
    PyObject *second;    /* held, or NULL: an object's dict */
};

typedef struct {
    PyObject_HEAD
    PyObject *root;
    PyObject *classes; /* of the objects: a dict, class -> whether its objects are but their attributes */
    struct record *v;
    size_t n, cap;
} Guard;

static void record_clear(struct record *r) {
    if (r->kind == DICT) {
        dict_unwatch(r->container);
    } else if (r->kind == LIST || r->kind == ENTRIES) {
        for (Py_ssize_t i = 0; i < r->n; i++) Py_DECREF(((PyObject **)r->items)[i]);
    } else if (r->kind == SET) {
        for (Py_ssize_t i = 0; i <= r->mask; i++) Py_XDECREF(((setentry *)r->items)[i].key);
    }
    PyMem_Free(r->items);
    Py_XDECREF(r->first);
    Py_XDECREF(r->second);
    Py_DECREF(r->container);
}

static void guard_dealloc(Guard *g) {
    for (size_t i = 0; i < g->n; i++) record_clear(&g->v[i]);
    PyMem_Free(g->v);
    Py_XDECREF(g->root);
    Py_XDECREF(g->classes);
    PyObject_Free(g);
}

struct walk {
    Guard *guard;
    PyObject *leaves;      /* a tuple of types */
    PyObject *dicts;       /* a tuple of subclasses of dict that are but their entries and, perhaps, a default_factory */
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
    if (t == &PyUnicode_Type || t == &PyLong_Type || t == &PyFloat_Type || o == Py_None || t == &PyBool_Type ||
        t == &PyBytes_Type || t == &PyComplex_Type)
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

/* the default_factory of a dict, None if it has none */
static PyObject *factory_of(PyObject *dict) {
    PyObject *factory = PyObject_GetAttrString(dict, "default_factory");
    if (factory || !PyErr_ExceptionMatches(PyExc_AttributeError)) return factory;
    PyErr_Clear();
    return Py_NewRef(Py_None);
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

static bool entries_same(const struct record *r) {
    PyObject **items = r->items, *key, *value;
    if (2 * PyDict_GET_SIZE(r->container) != r->n) return false;
    Py_ssize_t i = 0;
    for (Py_ssize_t at = 0; i < r->n && PyDict_Next(r->container, &at, &key, &value); i += 2)
        if (items[i] != key || items[i + 1] != value) return false;
    return i == r->n;
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
        if (r->first != Py_None && (!PyType_Check(r->first) || ((PyTypeObject *)r->first)->tp_flags & Py_TPFLAGS_HEAPTYPE))
            return 0;
    }
    for (Py_ssize_t at = 0; go > 0 && PyDict_Next(dict, &at, &key, &value);)
        if ((go = walk_push(w, key)) > 0) go = walk_push(w, value);
    return go;
}

static int walk_tuple(struct walk *w, PyObject *tuple) {
    int go = 1;
    for (Py_ssize_t i = 0; go > 0 && i < PyTuple_GET_SIZE(tuple); i++) go = walk_push(w, PyTuple_GET_ITEM(tuple, i));
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
        go = PyList_CheckExact(o) ? walk_list(&w, o) : PyDict_Check(o) ? walk_dict(&w, o) :
             PyTuple_CheckExact(o) ? walk_tuple(&w, o) : PyAnySet_CheckExact(o) ? walk_set(&w, o) : walk_object(&w, o);
    }
    pointers_free(&w.seen);
    PyMem_Free(w.todo);
    if (go > 0) return (PyObject *)g;
    Py_DECREF(g);
    if (go < 0) return NULL;
    Py_RETURN_NONE;
}

static bool is_still(PyObject *now, PyObject *before) { /* takes the reference to the first */
    bool same = now == before;
    if (!now) PyErr_Clear();
    Py_XDECREF(now);
    return same;
}

static bool record_same(const struct record *r) {
    PyObject *o = r->container;
    if (r->kind == DICT) return dict_same(o, r->since) && (!r->first || is_still(factory_of(o), r->first));
    if (r->kind == ENTRIES) return entries_same(r);
    if (r->kind == OBJECT)
        return (PyObject *)Py_TYPE(o) == r->first && is_still(PyObject_GenericGetDict(o, NULL), r->second);
    if (r->kind == LIST)
        return PyList_GET_SIZE(o) == r->n &&
               (r->n == 0 || memcmp(((PyListObject *)o)->ob_item, r->items, (size_t)r->n * sizeof(PyObject *)) == 0);
    PySetObject *s = (PySetObject *)o;
    return s->used == r->n && s->mask == r->mask &&
           memcmp(s->table, r->items, ((size_t)s->mask + 1) * sizeof *s->table) == 0;
}

static PyObject *guard_unchanged(Guard *g, PyObject *Py_UNUSED(unused)) {
    for (size_t i = 0; i < g->n; i++)
        if (!record_same(&g->v[i])) Py_RETURN_FALSE;
    Py_RETURN_TRUE;
}

static PyObject *guard_shares(Guard *g, PyObject *arg) {
    if (!Py_IS_TYPE(arg, &GuardType)) return PyErr_Format(PyExc_TypeError, "shares(Guard)");
    Guard *other = (Guard *)arg;
    struct pointers mine = {0};
    bool found = false;
    for (size_t i = 0; i < g->n; i++)
        if (!pointer_find(&mine, g->v[i].container) && !pointer_put(&mine, g->v[i].container)) {
            pointers_free(&mine);
            return NULL;
        }
    for (size_t i = 0; !found && i < other->n; i++) found = pointer_find(&mine, other->v[i].container) != NULL;
    pointers_free(&mine);
    return PyBool_FromLong(found);
}

static PyMethodDef guard_methods[] = {
    {"shares", (PyCFunction)guard_shares, METH_O, PyDoc_STR("True if a container is in the value of another guard, too.")},
    {"unchanged", (PyCFunction)guard_unchanged, METH_NOARGS, PyDoc_STR("True if no container of the value was changed since.")},
    {NULL, NULL, 0, NULL},
};

static PyObject *guard_flat(Guard *g, void *Py_UNUSED(unused)) {
    return PyBool_FromLong(g->n <= 1);
}

static PyGetSetDef guard_getset[] = {
    {"flat", (getter)guard_flat, NULL, PyDoc_STR("True if there is but one container that could change."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef guard_members[] = {
    {"classes", T_OBJECT, offsetof(Guard, classes), READONLY, PyDoc_STR("class -> True if its objects consist of their attributes.")},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject GuardType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.Guard",
    .tp_doc = PyDoc_STR("Tells if the containers of a value have been changed since."),
    .tp_basicsize = sizeof(Guard),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)guard_dealloc,
    .tp_methods = guard_methods,
    .tp_getset = guard_getset,
    .tp_members = guard_members,
};

/* ---- the objects that this process has copies of */

static struct pointers copied;

static PyObject *copied_add(PyObject *Py_UNUSED(module), PyObject *id) {
    void *key = PyLong_AsVoidPtr(id);
    if (!key && PyErr_Occurred()) return NULL;
    if (!pointer_find(&copied, key) && !pointer_put(&copied, key)) return NULL;
    Py_RETURN_NONE;
}

static PyObject *copied_remove(PyObject *Py_UNUSED(module), PyObject *id) {
    void *key = PyLong_AsVoidPtr(id);
    if (!key && PyErr_Occurred()) return NULL;
    struct pointer *p = pointer_find(&copied, key);
    if (p) pointer_remove(&copied, p);
    Py_RETURN_NONE;
}

static PyObject *copied_clear(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    pointers_free(&copied);
    Py_RETURN_NONE;
}

/* persistent_id of the pickler of messages: the hook returns the stand-in for an object that has a copy */
static PyObject *copied_id(PyObject *Py_UNUSED(module), PyObject *object) {
    if (GP_LIKELY(!pointer_find(&copied, object))) Py_RETURN_NONE;
    return PyObject_CallOneArg(hooks.refer, object);
}

/* persistent_id of a pickler that leaves out objects that have copies */
static PyObject *copied_known(PyObject *Py_UNUSED(module), PyObject *object) {
    return Py_NewRef(pointer_find(&copied, object) ? Py_True : Py_None);
}

PyMethodDef guard_functions[] = {
    {"guard", METHOD(guard_new), METH_FASTCALL,
     PyDoc_STR("guard(value, types of leaves, types of dicts, is_plain(class)): a Guard; None if the value holds objects that a "
               "guard does not know.")},
    {"copied_add", copied_add, METH_O, PyDoc_STR("There is a copy of the object with this id.")},
    {"copied_remove", copied_remove, METH_O, PyDoc_STR("There is none any more.")},
    {"copied_clear", copied_clear, METH_NOARGS, PyDoc_STR("There are none any more.")},
    {"copied_known", copied_known, METH_O, PyDoc_STR("True if there is a copy of the object, else None.")},
    {"copied_id", copied_id, METH_O, PyDoc_STR("The stand-in for an object in a message; None: it is pickled.")},
    {NULL, NULL, 0, NULL},
};
