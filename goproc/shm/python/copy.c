/* copy.c - a value kept in shared memory: written once, read by any process that has a handle of it.
 *
 * A reader does not copy its buffers: it gets Views of them (buffers.c).
 */
#include "python.h"

Handle *copy_new_empty(PyTypeObject *type) {
    Handle *h = (Handle *)handle_new(type, GP_KIND_COPY);
    gp_ref block = h ? alloc_or_collect(sizeof(struct gp_message), 0) : 0;
    if (!block) {
        if (h) raise_memory(sizeof(struct gp_message), "a shared copy");
        Py_XDECREF(h);
        return NULL;
    }
    gp_copy_begin(gp_at(h->ref), block);
    return h;
}

void copy_fill(Handle *h, const struct gp_message *m) { gp_copy_fill(gp_at(h->ref), m, message_bytes(m)); }

static PyObject *copy_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"value", NULL};
    PyObject *value;
    struct gp_message m;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Copy", names, &value) || handle_ready() < 0 ||
        message_encode(value, &m) < 0)
        return NULL;
    Handle *h = copy_new_empty(type);
    if (h) copy_fill(h, &m);
    else gp_message_drop(&m);
    return (PyObject *)h;
}

static struct gp_message *message_of(Handle *self) {
    struct gp_object *o = handle_object(self);
    if (o && !o->ring)
        PyErr_SetString(PyExc_RuntimeError, "a shared copy without a value (this is a bug in goproc)");
    return o && o->ring ? gp_stored(o->ring) : NULL;
}

static PyObject *copy_load(Handle *self, PyObject *private) {
    struct gp_message *m = message_of(self);
    return m ? message_decode_parts(m, private == Py_True ? PARTS_PRIVATE : PARTS_READONLY, (PyObject *)self)
             : NULL;
}

bool copy_has(Handle *self, gp_ref block) {
    struct gp_message *m = message_of(self);
    if (!m) PyErr_Clear();
    uint64_t tag = gp_tag(block);
    return m && (m->block == block ? tag == GP_TAG(GP_TAG_RESULT, self->ref)
                                   : tag == GP_TAG(GP_TAG_PART, m->block));
}

/* True if a part of the copy is, byte for byte, a buffer of another pickle. -1: an exception. */
static int same_part(const struct shared_part *part, PyObject *buffer) {
    if (Py_TYPE(buffer) == &ReferenceType) {
        const struct shared_part *other = &((Reference *)buffer)->part;
        if (other->block == part->block && other->offset == part->offset) return other->len == part->len;
        return parts_equal(part, other);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_C_CONTIGUOUS) < 0) return -1;
    bool same = part_is(part, view.buf, (uint64_t)view.len);
    PyBuffer_Release(&view);
    return same;
}

static PyObject *copy_same(Handle *self, PyObject *const *args, Py_ssize_t nargs) {
    struct gp_message *m = message_of(self);
    if (!m) return NULL;
    if (nargs != 2 || !PyList_Check(args[1]))
        return PyErr_Format(PyExc_TypeError, "_same(bytes | None, list)");
    struct message_parts parts;
    if (!message_parts(m, &parts)) Py_RETURN_FALSE;
    if ((Py_ssize_t)parts.n != PyList_GET_SIZE(args[1])) Py_RETURN_FALSE;
    if (args[0] != Py_None) {
        char *body;
        Py_ssize_t n;
        if (PyBytes_AsStringAndSize(args[0], &body, &n) < 0) return NULL;
        if ((uint64_t)n != parts.main || !same_bytes(body, parts.body, (size_t)n)) Py_RETURN_FALSE;
    }
    for (uint32_t i = 0; i < parts.n; i++) {
        struct shared_part part;
        if (!message_part((PyObject *)self, parts.buffer[i], &part)) return NULL;
        int same = same_part(&part, PyList_GET_ITEM(args[1], i));
        Py_DECREF(part.copy);
        if (same < 0) return NULL;
        if (!same) Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

static PyObject *copy_bytes(Handle *self, void *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    return o ? PyLong_FromLongLong(gp_get(&o->value)) : NULL;
}

static PyObject *copy_maker(Handle *self, void *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    return o ? PyLong_FromUnsignedLong(gp_get(&o->proc) - 1) : NULL;
}

static PyObject *copy_kept(Handle *self, void *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    uint32_t maker = gp_get(&o->proc) - 1;
    return PyBool_FromLong(atomic_load(&o->holders[maker / 64]) >> (maker % 64) & 1);
}

static PyMethodDef copy_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {"_load", (PyCFunction)copy_load, METH_O,
     PyDoc_STR("The value, read anew. True: its buffers are private and writable; False: read-only, in "
               "shared memory.")},
    {"_same", METHOD(copy_same), METH_FASTCALL,
     PyDoc_STR("_same(body | None, buffers): True if a pickle and its buffers are those of the copy, byte "
               "for byte.")},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef copy_getset[] = {
    {"_bytes", (getter)copy_bytes, NULL, PyDoc_STR("The bytes of shared memory that it takes."), NULL},
    {"_maker", (getter)copy_maker, NULL, PyDoc_STR("The proc that made it."), NULL},
    {"_kept", (getter)copy_kept, NULL, PyDoc_STR("True if the proc that made it still has a handle of it."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject CopyType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.Copy",
    .tp_doc = PyDoc_STR("A value in shared memory."),
    .tp_base = &HandleType,
    .tp_basicsize = sizeof(Handle),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = copy_new,
    .tp_methods = copy_methods,
    .tp_getset = copy_getset,
};
