/* references.c - a message refers to memory that is in shared memory already, and does not copy it.
 *
 * A Reference stands in a message for large memory that is in the segment already, or for a part of it: the
 * message lists the handle of the copy, and its reader gets a View. If the memory was written to since, there
 * is no Reference: the message has the memory itself.
 *
 * The first Reference into a Buffer makes a copy of its block without copying it. From then on the block must
 * stay as it is. So the process puts a private mapping of the block in the place of the segment, at the
 * address of the Buffer, and a second mapping shows the block itself. When the Buffer goes, the segment comes
 * back to its place.
 */
#include "buffers.h"

/* ---- Reference */

static void reference_dealloc(Reference *r) {
    Py_XDECREF(r->part.copy);
    PyObject_Free(r);
}

static PyObject *reference_nbytes(PyObject *Py_UNUSED(self), void *Py_UNUSED(unused)) {
    return PyLong_FromLong(0);
}

static PyGetSetDef reference_getset[] = {
    {"nbytes", reference_nbytes, NULL, PyDoc_STR("The bytes that a message has of the memory: none."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject ReferenceType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.Reference",
    .tp_doc = PyDoc_STR("Stands in a message for memory that is in shared memory already."),
    .tp_basicsize = sizeof(Reference),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)reference_dealloc,
    .tp_getset = reference_getset,
};

static PyObject *reference_new(struct shared_part part) {
    Reference *r = PyObject_New(Reference, &ReferenceType);
    if (!r) return NULL;
    r->part = part;
    Py_INCREF(part.copy);
    return (PyObject *)r;
}

static Handle *copy_new_of_memory(void) {
    if (!hooks.types[GP_KIND_COPY]) {
        PyErr_SetString(PyExc_RuntimeError, "goproc._pickling has not been imported");
        return NULL;
    }
    return copy_new_empty((PyTypeObject *)hooks.types[GP_KIND_COPY]);
}

static void fill(Handle *copy, gp_ref block) {
    struct gp_message m = {.codec = GP_CODEC_BYTES, .block = block};
    copy_fill(copy, &m);
}

/* Make a copy of the block of a Buffer, with its present content. 1; 0: that is not possible; -1: an
 * exception. */
static int give_block(Shown *s) {
    Handle *copy = copy_new_of_memory();
    if (!copy) return only_memory_is_short() ? 0 : -1;
    int r = 0;
    if (!s->copy) { /* else a finalizer has sent it, which ran meanwhile */
        gp_own(s->block, GP_TAG(GP_TAG_RESULT, copy->ref)); /* while it can be reached by its place */
        if (shown_replace_segment(s)) {
            fill(copy, s->block);
            s->copy = Py_NewRef(copy);
            r = 1;
        } else {
            gp_own(s->block, gp_my_tag());
        }
    }
    Py_DECREF(copy);
    return r;
}

static PyObject *reference_to(Shown *s, const char *at, Py_ssize_t len) {
    bool given = s->copy == NULL; /* then its content is the present one */
    if (given) {
        int r = give_block(s);
        if (r < 0) return NULL;
        if (r == 0) Py_RETURN_NONE;
    }
    struct shared_part part = {s->copy, s->block, s->offset + (uint64_t)(at - s->data), (uint64_t)len};
    if (!given && !part_is(&part, at, part.len)) Py_RETURN_NONE;
    return reference_new(part);
}

PyObject *buffers_reference(PyObject *Py_UNUSED(module), PyObject *memory) {
    Py_buffer view;
    if (!gp.base) Py_RETURN_NONE;
    if (PyObject_GetBuffer(memory, &view, PyBUF_SIMPLE) < 0) return NULL;
    Shown *s = view.len >= LARGE_BUFFER ? shown_find(view.buf, view.len) : NULL;
    PyObject *r;
    if (s) {
        Py_INCREF(s);
        r = reference_to(s, view.buf, view.len);
        Py_DECREF(s);
    } else {
        r = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&view);
    return r;
}

/* A reference to a copy of memory that is not in the segment yet. */
PyObject *reference_to_copy(const Py_buffer *memory) {
    gp_ref block = alloc_or_collect((uint64_t)memory->len, GP_BLOCK_ALIGNED);
    if (!block) return raise_memory((uint64_t)memory->len, "a message");
    Py_BEGIN_ALLOW_THREADS
    memcpy(gp_payload(block), memory->buf, (size_t)memory->len);
    Py_END_ALLOW_THREADS
    Handle *copy = copy_new_of_memory();
    if (!copy) {
        gp_free(block);
        return NULL;
    }
    fill(copy, block);
    PyObject *r = reference_new((struct shared_part){(PyObject *)copy, block, 0, (uint64_t)memory->len});
    Py_DECREF(copy);
    return r;
}

/* ---- references in messages */

gp_ref reference_write(const Reference *r) {
    gp_ref part = alloc_or_collect(sizeof(struct gp_reference), GP_BLOCK_REFERENCE);
    if (!part) {
        raise_memory(sizeof(struct gp_reference), "a message");
        return 0;
    }
    const Handle *copy = (Handle *)r->part.copy;
    struct gp_reference x = {copy->ref, copy->gen, r->part.block, 0, r->part.offset, r->part.len};
    memcpy(gp_payload(part), &x, sizeof x);
    return part;
}

bool reference_read(gp_ref part, struct shared_part *out) {
    struct gp_reference x;
    uint64_t capacity;
    if (gp_len(part) < sizeof x) return false;
    memcpy(&x, gp_payload(part), sizeof x); /* once */
    PyObject *copy = handle_for(x.object, x.gen, GP_KIND_COPY, DIR_BOTH);
    if (!copy) return false;
    *out = (struct shared_part){copy, x.block, x.offset, x.len};
    if (gp_block_check(x.block, &capacity) && copy_has((Handle *)copy, x.block) && x.len <= gp_len(x.block) &&
        x.offset <= gp_len(x.block) - x.len)
        return true;
    Py_DECREF(copy);
    return false;
}
