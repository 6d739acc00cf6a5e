/* buffers.c - memory of the segment as Python memory: arrays, frames and memoryviews lie in it.
 *
 * A Buffer is a part of a message as its receiver gets it: a block of the segment that the receiver owns and
 * may write to.
 *
 * A View shows memory of a copy (copy.c), which stays as it is. The View is the segment itself, read only, or
 * the same pages mapped once more and privately (MAP_PRIVATE): a write then costs the pages written, and no
 * other process sees it. Such a mapping shows the segment's pages where nothing was written, so it keeps the
 * handle of the copy.
 *
 * references.c lets later messages refer to such memory. A Buffer may then have a private mapping in its
 * place.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "buffers.h"

#define SMALL_PART 65536 /* copied: cheaper than a mapping and its page faults */
#define SMALL_COMPARISON 65536 /* not worth letting other threads run */

static Shown *large; /* all in this process, for shown_find() */

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

/* ---- the life of both */

/* The segment takes its place again. False: that is not possible. */
static bool restore_segment(Shown *s) {
    return mremap(s->original, s->map_bytes, s->map_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, s->map) !=
           MAP_FAILED;
}

static void leave_place(Shown *s) {
    if (gp.forked) {
        munmap(s->map, s->map_bytes); /* the pages of the segment are not in this process */
    } else if (!shown_is_current(s)) {
        munmap(s->original, s->map_bytes); /* the rest goes with the mapping of the segment */
    } else if (!restore_segment(s)) {
        s->copy = NULL; /* the block is kept for ever: this process could not reach new content of it */
    }
}

static void shown_dealloc(Shown *s) {
    unlink_large(s);
    if (s->data) gp_unhold(&s->held);
    if (s->original) leave_place(s);
    else if (s->map) munmap(s->map, s->map_bytes);
    else if (!s->copy && shown_is_current(s)) gp_free(s->block);
    if (s->mapping && !gp.forked) gp_mapping_release(s->mapping);
    Py_XDECREF(s->copy);
    PyObject_Free(s);
}

static int shown_get(Shown *s, Py_buffer *view, int flags) {
    if (s->held.lost) {
        PyErr_SetString(PyExc_BufferError,
                        "there was no memory for this forked child's copy of an array in shared memory");
        return -1;
    }
    return PyBuffer_FillInfo(view, (PyObject *)s, s->data, s->len, s->readonly, flags);
}

static PyBufferProcs shown_procs = {(getbufferproc)shown_get, NULL};

PyTypeObject BufferType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.Buffer",
    .tp_doc = PyDoc_STR(
        "A received out-of-band buffer, mapped from shared memory; writable, released with its last view."),
    .tp_basicsize = sizeof(Shown),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)shown_dealloc,
    .tp_as_buffer = &shown_procs,
};

PyTypeObject ViewType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.View",
    .tp_doc =
        PyDoc_STR("Memory of a copy: read only in shared memory, or writable in a private mapping of it."),
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
        if (s->original && s->block == block && shown_is_current(s)) return s;
    return NULL;
}

struct content {
    const char *at;
    Shown *replacement; /* keeps it there; NULL: the segment does */
    struct gp_mapping *mapping;
};

static struct content content_open(const struct shared_part *p) {
    struct content c = {NULL, replacement(p->block), gp.mapping};
    c.at = c.replacement ? c.replacement->original + c.replacement->offset +
                               ((char *)gp_payload(p->block) - (char *)gp_at(p->block))
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
    void *p = gp_memfd_valid()
                  ? mmap(NULL, s->map_bytes, prot, MAP_PRIVATE | MAP_NORESERVE, gp.memfd, (off_t)start)
                  : MAP_FAILED;
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
    PyObject *r = readonly ? PyBytes_FromStringAndSize(c.at, (Py_ssize_t)p->len)
                           : PyByteArray_FromStringAndSize(c.at, (Py_ssize_t)p->len);
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
    } else if (!map_private(s)) {
        /* the program has closed the descriptor, or the system allows no more mappings: a copy will do */
        Py_DECREF(s);
        return copied(p, readonly);
    }
    return (PyObject *)s;
}

/* ---- for references.c */

bool shown_replace_segment(Shown *s) {
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

Shown *shown_find(const char *at, Py_ssize_t len) {
    for (Shown *s = large; s; s = s->next)
        if (s->data <= at && at + len <= s->data + s->len && shown_is_current(s)) return s;
    return NULL;
}
