/* guard.c - sees whether a value that was copied has changed since, without copying it again.
 *
 * A guard knows the containers of a value: lists, dicts, sets and objects that consist of their attributes,
 * however deep, over leaves that cannot change. Of a list it keeps the pointers of the elements, of a set its
 * table, and compares them. Of a dict it keeps the version (3.11), or has the interpreter report a change
 * (watchers, from 3.12 on); of an object's dict it keeps the entries; of an object its class and its dict. It
 * holds the objects that it points to, so that no other object can come to lie there. It refuses any other
 * kind of value: then the pickles are compared.
 */
#include "guard.h"
#include <structmember.h>

/* ---- the check whether a dict has changed */

#if PY_VERSION_HEX < 0x030C0000

bool dict_says(PyObject *Py_UNUSED(dict)) { return true; }
int dict_watch(PyObject *dict, uint64_t *since) {
    *since = ((PyDictObject *)dict)->ma_version_tag; /* no two states of dicts have the same */
    return 0;
}
void dict_unwatch(PyObject *Py_UNUSED(dict)) {}
static bool dict_same(PyObject *dict, uint64_t since) {
    return ((PyDictObject *)dict)->ma_version_tag == since;
}

#else

static int watcher = -1;
static uint64_t changes;        /* of watched dicts, so far */
static struct pointers watched; /* dict -> when it was changed last */

/* An object's dict may share its values with the object (3.13), and an attribute that is set there tells no
 * watcher. */
bool dict_says(PyObject *dict) { return ((PyDictObject *)dict)->ma_values == NULL; }

static int on_change(PyDict_WatchEvent Py_UNUSED(event), PyObject *dict, PyObject *Py_UNUSED(key),
                     PyObject *Py_UNUSED(value)) {
    struct pointer *p = pointer_find(&watched, dict);
    if (p) p->value = ++changes;
    return 0;
}

int dict_watch(PyObject *dict, uint64_t *since) {
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

void dict_unwatch(PyObject *dict) {
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

PyObject *factory_of(PyObject *dict) {
    PyObject *factory = PyObject_GetAttrString(dict, "default_factory");
    if (factory || !PyErr_ExceptionMatches(PyExc_AttributeError)) return factory;
    PyErr_Clear();
    return Py_NewRef(Py_None);
}

static bool entries_same(const struct record *r) {
    PyObject **items = r->items, *key, *value;
    if (2 * PyDict_GET_SIZE(r->container) != r->n) return false;
    Py_ssize_t i = 0;
    for (Py_ssize_t at = 0; i < r->n && PyDict_Next(r->container, &at, &key, &value); i += 2)
        if (items[i] != key || items[i + 1] != value) return false;
    return i == r->n;
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
        return PyList_GET_SIZE(o) == r->n && (r->n == 0 || memcmp(((PyListObject *)o)->ob_item, r->items,
                                                                  (size_t)r->n * sizeof(PyObject *)) == 0);
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
    for (size_t i = 0; !found && i < other->n; i++)
        found = pointer_find(&mine, other->v[i].container) != NULL;
    pointers_free(&mine);
    return PyBool_FromLong(found);
}

static PyMethodDef guard_methods[] = {
    {"shares", (PyCFunction)guard_shares, METH_O,
     PyDoc_STR("True if a container is in the value of another guard, too.")},
    {"unchanged", (PyCFunction)guard_unchanged, METH_NOARGS,
     PyDoc_STR("True if no container of the value was changed since.")},
    {NULL, NULL, 0, NULL},
};

static PyObject *guard_flat(Guard *g, void *Py_UNUSED(unused)) { return PyBool_FromLong(g->n <= 1); }

static PyGetSetDef guard_getset[] = {
    {"flat", (getter)guard_flat, NULL, PyDoc_STR("True if there is but one container that could change."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef guard_members[] = {
    {"classes", T_OBJECT, offsetof(Guard, classes), READONLY,
     PyDoc_STR("class -> True if its objects consist of their attributes.")},
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
