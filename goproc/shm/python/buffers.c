/* buffers.c - memory of the segment as Python memory: arrays, frames and memoryviews lie in it.
 *
 * A Buffer is a part of a message as its receiver gets it: a block of the segment that the receiver owns and may write
 * to.
 *
 * A View shows memory of a copy (copy.c), which stays as it is. The View is the segment itself, read only, or the same
 * pages mapped once more and privately (MAP_PRIVATE): a write then costs the pages written, and no other process sees it.
 * Such a mapping shows the segment's pages where nothing was written, so it keeps the handle of the copy.
 *
 * A Reference stands in a message for large memory that is in the segment already, or for a part of it: the message lists
 * the handle of the copy, and its reader gets a View. If the memory was written to since, there is no Reference: the
 * message has the memory itself.
 *
 * The first Reference into a Buffer makes a copy of its block without copying it. From then on the block must stay as it
 * is. So the process puts a private mapping of the block in the place of the segment, at the address of the Buffer, and a
 * second mapping shows the block itself. When the Buffer goes, the segment comes back to its place.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "python.h"
#include <structmember.h>

#define SMALL_PART 65536 /* copied: cheaper than a mapping and its page faults */
#define SMALL_COMPARISON 65536 /* not worth letting other threads run */

typedef struct shown {
    PyObject_HEAD
    struct gp_held held;
    struct gp_mapping *mapping; /* of the segment, where the memory is, or has its place; else NULL */
    PyObject *copy;             /* it keeps the block; NULL: the block is this object's own */
    uint64_t run;
    gp_ref block;
    uint64_t offset;            /* of the memory in the payload of the block */
    char *data;
    Py_ssize_t len;
    bool readonly;
    char *map;                  /* a private mapping of the block's pages, or of some */
    size_t map_bytes;
    char *original;             /* of a Buffer with a private mapping in the place of the segment: the segment's pages */
    struct shown *next, **at;   /* in the list of large ones */
} Shown;

static Shown *large; /* all in this process, for find() */

static void link_large(Shown *s) {
    s->at = NULL;
    if (s->len < LARGE_BUFFER) return;
    s->next = large;
    s->at = &large;
    if (large) large->at = &s->next;
    large = s;
}

static void unlink_large(Shown *s) {
    if (!s->at) return;
    *s->at = s->next;
    if (s->next) s->next->at = s->at;
}

static size_t page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }
static bool is_current(const Shown *s) { return gp.base && s->run == gp.run; }

/* ---- the life of both */

/* The segment takes its place again. False: that is not possible. */
static bool restore_segment(Shown *s) {
    return mremap(s->original, s->map_bytes, s->map_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, s->map) != MAP_FAILED;
}

static void leave_place(Shown *s) {
    if (gp.forked) munmap(s->map, s->map_bytes); /* and the segment's pages are not here */
    else if (!is_current(s)) munmap(s->original, s->map_bytes); /* the rest goes with the mapping of the segment */
    else if (!restore_segment(s)) s->copy = NULL; /* the block is kept for ever: no process may use memory that cannot be
                                                   * reached here */
}

static void shown_dealloc(Shown *s) {
    unlink_large(s);
    if (s->data) gp_unhold(&s->held);
    if (s->original) leave_place(s);
    else if (s->map) munmap(s->map, s->map_bytes);
    else if (!s->copy && is_current(s)) gp_free(s->block);
    if (s->mapping && !gp.forked) gp_mapping_release(s->mapping);
    Py_XDECREF(s->copy);
    PyObject_Free(s);
}

static int shown_get(Shown *s, Py_buffer *view, int flags) {
    if (s->held.lost) {
        PyErr_SetString(PyExc_BufferError, "there was no memory for this forked child's copy of an array in shared memory");
        return -1;
    }
    return PyBuffer_FillInfo(view, (PyObject *)s, s->data, s->len, s->readonly, flags);
}

static PyBufferProcs shown_procs = {(getbufferproc)shown_get, NULL};

PyTypeObject BufferType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.Buffer",
    .tp_doc = PyDoc_STR("A received out-of-band buffer, mapped from shared memory; writable, released with its last view."),
    .tp_basicsize = sizeof(Shown),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)shown_dealloc,
    .tp_as_buffer = &shown_procs,
};

PyTypeObject ViewType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.View",
    .tp_doc = PyDoc_STR("Memory of a copy: read only in shared memory, or writable in a private mapping of it."),
    .tp_basicsize = sizeof(Shown),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)shown_dealloc,
    .tp_as_buffer = &shown_procs,
};

static Shown *shown_new(PyTypeObject *type, gp_ref block, uint64_t offset, Py_ssize_t len) {
    Shown *s = PyObject_New(Shown, type);
    if (!s) return NULL;
    memset((char *)s + sizeof(PyObject), 0, sizeof *s - sizeof(PyObject));
    s->run = gp.run;
    s->block = block;
    s->offset = offset;
    s->len = len;
    return s;
}

static void in_segment(Shown *s, bool constant) {
    s->mapping = gp.mapping;
    s->mapping->users++;
    s->data = gp_payload(s->block) + s->offset;
    gp_hold(&s->held, s->mapping, s->data, (uint64_t)s->len, constant);
    link_large(s);
}

PyObject *buffer_new(gp_ref part) {
    Shown *s = shown_new(&BufferType, part, 0, (Py_ssize_t)gp_len(part));
    if (!s) return NULL;
    in_segment(s, false);
    gp_own(part, gp_my_tag());
    return (PyObject *)s;
}

/* ---- the content of a block, which is elsewhere where a private mapping is in its place */

static Shown *replacement(gp_ref block) {
    for (Shown *s = large; s; s = s->next)
        if (s->original && s->block == block && is_current(s)) return s;
    return NULL;
}

struct content {
    const char *at;
    Shown *replacement; /* keeps it there; NULL: the segment does */
    struct gp_mapping *mapping;
};

static struct content content_open(const struct shared_part *p) {
    struct content c = {NULL, replacement(p->block), gp.mapping};
    c.at = c.replacement ? c.replacement->original + c.replacement->offset + ((char *)gp_payload(p->block) - (char *)gp_at(p->block))
                         : gp_payload(p->block);
    c.at += p->offset;
    c.mapping->users++;
    Py_XINCREF(c.replacement);
    return c;
}

static void content_close(struct content *c) {
    Py_XDECREF(c->replacement);
    gp_mapping_release(c->mapping);
}

bool same_bytes(const void *a, const void *b, size_t n) {
    int r;
    if (a == b) return true;
    if (n < SMALL_COMPARISON) return memcmp(a, b, n) == 0;
    Py_BEGIN_ALLOW_THREADS
    r = memcmp(a, b, n);
    Py_END_ALLOW_THREADS
    return r == 0;
}

bool part_is(const struct shared_part *p, const void *memory, uint64_t len) {
    if (p->len != len) return false;
    struct content c = content_open(p);
    bool same = same_bytes(memory, c.at, len);
    content_close(&c);
    return same;
}

bool parts_equal(const struct shared_part *a, const struct shared_part *b) {
    if (a->len != b->len) return false;
    struct content c = content_open(b);
    bool same = part_is(a, c.at, b->len);
    content_close(&c);
    return same;
}

/* ---- View */

static bool map_private(Shown *s) {
    size_t page = page_bytes();
    uint64_t at = (uint64_t)((char *)gp_payload(s->block) - gp.base) + s->offset, start = at / page * page;
    int prot = s->readonly ? PROT_READ : PROT_READ | PROT_WRITE;
    s->map_bytes = (size_t)(at - start) + (size_t)s->len;
    void *p = gp_memfd_valid() ? mmap(NULL, s->map_bytes, prot, MAP_PRIVATE | MAP_NORESERVE, gp.memfd, (off_t)start) : MAP_FAILED;
    if (p == MAP_FAILED) return false;
    madvise(p, s->map_bytes, MADV_DONTDUMP);
    s->map = p;
    s->data = s->map + (at - start);
    gp_hold(&s->held, NULL, s->data, (uint64_t)s->len, false);
    link_large(s);
    return true;
}

static PyObject *copied(const struct shared_part *p, bool readonly) {
    struct content c = content_open(p);
    PyObject *r = readonly ? PyBytes_FromStringAndSize(c.at, (Py_ssize_t)p->len) : PyByteArray_FromStringAndSize(c.at, (Py_ssize_t)p->len);
    content_close(&c);
    return r;
}

PyObject *view_new(const struct shared_part *p, bool readonly) {
    if (!readonly && p->len <= SMALL_PART) return copied(p, false);
    Shown *s = shown_new(&ViewType, p->block, p->offset, (Py_ssize_t)p->len);
    if (!s) return NULL;
    s->copy = Py_NewRef(p->copy);
    s->readonly = readonly;
    if (readonly && !replacement(p->block)) {
        in_segment(s, true);
    } else if (!map_private(s)) { /* the program has closed the descriptor, or the system allows no more mappings: a copy
                                     means the same */
        Py_DECREF(s);
        return copied(p, readonly);
    }
    return (PyObject *)s;
}

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

/* Put a private mapping in the place of the block. False: the system does not allow it, and nothing has changed. */
static bool replace_segment(Shown *s) {
    size_t page = page_bytes();
    char *place = gp_at(s->block);
    size_t bytes = ((size_t)(s->data - place) + (size_t)s->len + page - 1) / page * page;
    off_t at = (off_t)(place - gp.base);
    if (!gp_memfd_valid()) return false;
    char *original = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, gp.memfd, at);
    if (original == MAP_FAILED) return false;
    madvise(original, bytes, MADV_DONTFORK);
    madvise(original, bytes, MADV_DONTDUMP);
    /* not by MAP_FIXED: if that fails, nothing may be left in the place */
    void *private = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, gp.memfd, at);
    bool mapped = private != MAP_FAILED;
    if (mapped) madvise(private, bytes, MADV_DONTDUMP);
    if (!mapped || mremap(private, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, place) == MAP_FAILED) {
        if (mapped) munmap(private, bytes);
        munmap(original, bytes);
        return false;
    }
    s->map = place;
    s->map_bytes = bytes;
    s->original = original;
    gp_unhold(&s->held);
    gp_hold(&s->held, NULL, s->data, (uint64_t)s->len, false);
    return true;
}

/* Make a copy of the block of a Buffer, with its present content. 1; 0: that is not possible; -1: an exception. */
static int give_block(Shown *s) {
    Handle *copy = copy_new_of_memory();
    if (!copy) return only_memory_is_short() ? 0 : -1;
    int r = 0;
    if (!s->copy) { /* else a finalizer has sent it, which ran meanwhile */
        gp_own(s->block, GP_TAG(GP_TAG_RESULT, copy->ref)); /* while it can be reached by its place */
        if (replace_segment(s)) {
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

static Shown *find(const char *at, Py_ssize_t len) {
    for (Shown *s = large; s; s = s->next)
        if (s->data <= at && at + len <= s->data + s->len && is_current(s)) return s;
    return NULL;
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
    Shown *s = view.len >= LARGE_BUFFER ? find(view.buf, view.len) : NULL;
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
