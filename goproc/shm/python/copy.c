/* copy.c - a value kept in shared memory: written once, read by any process that has a handle of it.
 *
 * A reader does not copy its buffers. It maps them: the segment itself, read only, or the same pages once more and
 * privately (MAP_PRIVATE), so that a write costs the pages written and nobody else sees it. Such a mapping shows the
 * segment's pages as long as they are not written, so it keeps the handle, and with it the copy.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "python.h"
#include <structmember.h>

#define SMALL_PART 65536 /* copied: cheaper than a mapping and its page faults */

/* ---- View: memory of a copy as a Python buffer */

typedef struct {
    PyObject_HEAD
    PyObject *copy;             /* keeps what is seen in shared memory */
    struct gp_mapping *segment; /* of a read-only view */
    struct gp_held held;
    void *map;                  /* of a private one */
    size_t map_bytes;
    char *data;
    Py_ssize_t len;
} View;

static void view_dealloc(View *v) {
    if (v->segment || v->map) gp_unhold(&v->held);
    if (v->map) munmap(v->map, v->map_bytes);
    if (v->segment && !gp.forked) gp_mapping_release(v->segment);
    Py_XDECREF(v->copy);
    PyObject_Free(v);
}

static int view_get(View *v, Py_buffer *view, int flags) {
    if (v->segment && v->held.lost) {
        PyErr_SetString(PyExc_BufferError, "there was no memory for this forked child's copy of an array in shared memory");
        return -1;
    }
    return PyBuffer_FillInfo(view, (PyObject *)v, v->data, v->len, v->segment != NULL, flags);
}

static PyBufferProcs view_procs = {(getbufferproc)view_get, NULL};

static PyMemberDef view_members[] = {
    {"copy", T_OBJECT, offsetof(View, copy), READONLY, PyDoc_STR("The copy.")},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject ViewType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.View",
    .tp_doc = PyDoc_STR("A buffer of a copy: read only in shared memory, or writable in a private mapping of it."),
    .tp_basicsize = sizeof(View),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)view_dealloc,
    .tp_as_buffer = &view_procs,
    .tp_members = view_members,
};

static View *view_new(PyObject *copy, gp_ref part) {
    View *v = PyObject_New(View, &ViewType);
    if (!v) return NULL;
    v->copy = Py_NewRef(copy);
    v->segment = NULL;
    v->map = NULL;
    v->data = gp_payload(part);
    v->len = (Py_ssize_t)gp_len(part);
    return v;
}

static PyObject *view_shared(gp_ref part, void *copy) {
    View *v = view_new(copy, part);
    if (!v) return NULL;
    v->segment = gp.mapping;
    v->segment->users++;
    gp_hold(&v->held, v->segment, v->data, (uint64_t)v->len, true);
    return (PyObject *)v;
}

static PyObject *view_private(gp_ref part, void *copy) {
    char *data = gp_payload(part);
    Py_ssize_t len = (Py_ssize_t)gp_len(part);
    if (len <= SMALL_PART) return PyByteArray_FromStringAndSize(data, len);
    View *v = view_new(copy, part);
    if (!v) return NULL;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), at = (uint64_t)(data - gp.base), start = at / page * page;
    v->map_bytes = (size_t)(at - start) + (size_t)len;
    v->map = !gp_memfd_valid() ? MAP_FAILED
           : mmap(NULL, v->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, gp.memfd, (off_t)start);
    if (v->map == MAP_FAILED) { /* the program has closed the descriptor, or the system allows no more mappings: a copy
                                   means the same */
        v->map = NULL;
        Py_DECREF(v);
        return PyByteArray_FromStringAndSize(data, len);
    }
    madvise(v->map, v->map_bytes, MADV_DONTDUMP);
    v->data = (char *)v->map + (at - start);
    gp_hold(&v->held, NULL, v->data, (uint64_t)v->len, false);
    return (PyObject *)v;
}

/* ---- Copy */

static PyObject *copy_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"value", NULL};
    PyObject *value;
    struct gp_message m;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Copy", names, &value) || handle_ready() < 0 ||
        message_encode(value, &m) < 0)
        return NULL;
    Handle *h = (Handle *)handle_new(type, GP_KIND_COPY);
    gp_ref block = h ? alloc_or_collect(sizeof m, 0) : 0;
    if (!block) {
        if (h) raise_memory(sizeof m, "a shared copy");
        Py_XDECREF(h);
        gp_message_drop(&m);
        return NULL;
    }
    struct gp_object *o = gp_at(h->ref);
    memcpy(gp_payload(block), &m, sizeof m);
    gp_own(block, GP_TAG(GP_TAG_RESULT, h->ref));
    if (m.block) gp_own(m.block, GP_TAG(GP_TAG_RESULT, h->ref));
    gp_set(&o->value, (int64_t)message_bytes(&m));
    gp_set(&o->proc, gp.proc + 1);
    o->ring = block; /* nobody else knows of it yet */
    return (PyObject *)h;
}

static struct gp_message *message_of(Handle *self) {
    struct gp_object *o = handle_object(self);
    if (o && !o->ring) PyErr_SetString(PyExc_RuntimeError, "a shared copy without a value (this is a bug in goproc)");
    return o && o->ring ? (struct gp_message *)gp_payload(o->ring) : NULL;
}

static PyObject *copy_load(Handle *self, PyObject *private) {
    struct gp_message *m = message_of(self);
    return m ? message_decode_parts(m, private == Py_True ? view_private : view_shared, self) : NULL;
}

static bool same_bytes(const void *a, const void *b, size_t n) {
    int r;
    if (n < 1 << 16) return memcmp(a, b, n) == 0;
    Py_BEGIN_ALLOW_THREADS
    r = memcmp(a, b, n);
    Py_END_ALLOW_THREADS
    return r == 0;
}

/* _same(body | None, buffers): whether the pickle and its buffers are, byte for byte, those of the copy */
static PyObject *copy_same(Handle *self, PyObject *const *args, Py_ssize_t nargs) {
    struct gp_message *m = message_of(self);
    if (!m) return NULL;
    if (nargs != 2 || !PyList_Check(args[1])) return PyErr_Format(PyExc_TypeError, "_same(bytes | None, list)");
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
        Py_buffer view;
        if (PyObject_GetBuffer(PyList_GET_ITEM(args[1], i), &view, PyBUF_C_CONTIGUOUS) < 0) return NULL;
        gp_ref part = parts.buffer[i];
        bool same = (uint64_t)view.len == gp_len(part) && same_bytes(view.buf, gp_payload(part), (size_t)view.len);
        PyBuffer_Release(&view);
        if (!same) Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

static PyObject *copy_bytes(Handle *self, void *unused) {
    (void)unused;
    struct gp_object *o = handle_object(self);
    return o ? PyLong_FromLongLong(gp_get(&o->value)) : NULL;
}

static PyObject *copy_maker(Handle *self, void *unused) {
    (void)unused;
    struct gp_object *o = handle_object(self);
    return o ? PyLong_FromUnsignedLong(gp_get(&o->proc) - 1) : NULL;
}

static PyObject *copy_kept(Handle *self, void *unused) {
    (void)unused;
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    uint32_t maker = gp_get(&o->proc) - 1;
    return PyBool_FromLong(atomic_load(&o->holders[maker / 64]) >> (maker % 64) & 1);
}

static PyMethodDef copy_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {"_load", (PyCFunction)copy_load, METH_O,
     PyDoc_STR("The value, read anew. True: its buffers are private and writable; False: read-only, in shared memory.")},
    {"_same", (PyCFunction)(void (*)(void))copy_same, METH_FASTCALL,
     PyDoc_STR("_same(body | None, buffers): True if a pickle and its buffers are those of the copy, byte for byte.")},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef copy_getset[] = {
    {"_bytes", (getter)copy_bytes, NULL, PyDoc_STR("What it takes of shared memory."), NULL},
    {"_maker", (getter)copy_maker, NULL, PyDoc_STR("The proc that made it."), NULL},
    {"_kept", (getter)copy_kept, NULL, PyDoc_STR("True if the proc that made it still has a handle of it."), NULL},
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
