/* decode.c - messages to Python values: the other half of codec.c. Data from shared memory is copied once,
 * then checked, then used.
 */
#include "python.h"

static PyObject *broken(void) {
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError,
                        "a message in shared memory is damaged: something outside goproc wrote there");
    return NULL;
}

struct reader {
    const uint8_t *at, *end;
};

static PyObject *read_plain(struct reader *r, int depth) {
    if (r->at == r->end || depth < 0) return broken();
    uint8_t type = *r->at++;
    switch (type) {
    case 'N': Py_RETURN_NONE;
    case 'T': Py_RETURN_TRUE;
    case 'F': Py_RETURN_FALSE;
    case 'b':
        if (r->at == r->end) return broken();
        return PyLong_FromLong((int8_t)*r->at++);
    case 'i':
    case 'd': {
        if (r->end - r->at < 8) return broken();
        long long x;
        double d;
        memcpy(&x, r->at, 8);
        memcpy(&d, r->at, 8);
        r->at += 8;
        return type == 'i' ? PyLong_FromLongLong(x) : PyFloat_FromDouble(d);
    }
    case 'c': {
        if (r->end - r->at < 10) return broken();
        uint32_t ref, gen;
        uint8_t kind = r->at[0], dir = r->at[1];
        memcpy(&ref, r->at + 2, 4);
        memcpy(&gen, r->at + 6, 4);
        r->at += 10;
        if (dir < DIR_SEND || dir > DIR_BOTH) return broken();
        return handle_for(ref, gen, kind, dir);
    }
    }
    if (r->at == r->end) return broken();
    Py_ssize_t n = *r->at++;
    if (type == 's' || type == 'y') {
        if (r->end - r->at < n) return broken();
        const char *s = (const char *)r->at;
        r->at += n;
        return type == 's' ? PyUnicode_DecodeUTF8(s, n, NULL) : PyBytes_FromStringAndSize(s, n);
    }
    if (type == '(' || type == '[') {
        PyObject *v = type == '(' ? PyTuple_New(n) : PyList_New(n);
        for (Py_ssize_t i = 0; v && i < n; i++) {
            PyObject *x = read_plain(r, depth - 1);
            if (!x) Py_CLEAR(v);
            else if (type == '(') PyTuple_SET_ITEM(v, i, x);
            else PyList_SET_ITEM(v, i, x);
        }
        return v;
    }
    if (type != '{') return broken();
    PyObject *v = PyDict_New();
    for (Py_ssize_t i = 0; v && i < n; i++) {
        PyObject *key = read_plain(r, depth - 1), *x = key ? read_plain(r, depth - 1) : NULL;
        if (!x || PyDict_SetItem(v, key, x) < 0) Py_CLEAR(v);
        Py_XDECREF(key);
        Py_XDECREF(x);
    }
    return v;
}

/* ---- parts: the buffers of a pickle */

bool message_part(PyObject *copy, gp_ref part, struct shared_part *out) {
    if (gp_flags(part) & GP_BLOCK_REFERENCE) return reference_read(part, out) || (broken(), false);
    *out = (struct shared_part){Py_NewRef(copy), part, 0, gp_len(part)};
    return true;
}

static PyObject *view_of(PyObject *copy, gp_ref part, bool readonly) {
    struct shared_part p;
    if (!message_part(copy, part, &p)) return NULL;
    PyObject *r = view_new(&p, readonly);
    Py_DECREF(p.copy);
    return r;
}

static PyObject *read_part(gp_ref part, enum parts_use use, PyObject *copy) {
    if (use == PARTS_PRIVATE || use == PARTS_READONLY || gp_flags(part) & GP_BLOCK_REFERENCE)
        return view_of(copy, part, use == PARTS_READONLY);
    return use == PARTS_TAKE ? buffer_new(part)
                             : PyByteArray_FromStringAndSize(gp_payload(part), (Py_ssize_t)gp_len(part));
}

static PyObject *decode_pickled(gp_ref block, char *at, uint64_t len, enum parts_use use, PyObject *copy) {
    struct gp_pickle head;
    if (len < sizeof head) return broken();
    memcpy(&head, at, sizeof head); /* once */
    uint64_t skip = sizeof head + gp_buffers_bytes(head.buffers);
    if (skip > len || head.main > len - skip) return broken();
    PyObject *buffers = PyList_New(head.buffers), *view = NULL, *v = NULL;
    if (!buffers) return NULL;
    for (uint32_t i = 0; i < head.buffers; i++) {
        gp_ref part;
        uint64_t capacity;
        memcpy(&part, at + sizeof head + 4ULL * i, 4);
        if (!gp_block_check(part, &capacity) || gp_tag(part) != GP_TAG(GP_TAG_PART, block)) {
            Py_DECREF(buffers);
            return broken();
        }
        PyObject *b = read_part(part, use, copy);
        if (!b) {
            Py_DECREF(buffers);
            return NULL;
        }
        PyList_SET_ITEM(buffers, i, b);
    }
    view = PyMemoryView_FromMemory(at + skip, (Py_ssize_t)head.main, PyBUF_READ);
    if (view) v = PyObject_CallFunctionObjArgs(hooks.decode, view, buffers, NULL);
    if (view) { /* the block is about to be reused: no code may go on to read it */
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        PyObject *r = PyObject_CallMethod(view, "release", NULL);
        if (!r) PyErr_Clear();
        Py_XDECREF(r);
        PyErr_Restore(type, value, trace);
    }
    Py_XDECREF(view);
    Py_DECREF(buffers);
    return v;
}

static PyObject *decode_at(const struct gp_message *m, char *at, uint64_t len, enum parts_use use,
                           PyObject *copy) {
    switch (m->codec) {
    case GP_CODEC_STR: return PyUnicode_DecodeUTF8(at, (Py_ssize_t)len, NULL);
    case GP_CODEC_BYTES: return PyBytes_FromStringAndSize(at, (Py_ssize_t)len);
    case GP_CODEC_PLAIN: {
        struct reader r = {(const uint8_t *)at, (const uint8_t *)at + len};
        return read_plain(&r, PLAIN_DEPTH + 1);
    }
    case GP_CODEC_PICKLE: return m->block ? decode_pickled(m->block, at, len, use, copy) : broken();
    default: return broken();
    }
}

/* the position after the handles in the block of a message; NULL: it is damaged */
static char *content(const struct gp_message *m, uint64_t *len) {
    uint64_t capacity, skip = 0;
    if (!gp_block_check(m->block, &capacity)) return NULL;
    char *at = gp_payload(m->block);
    *len = gp_len(m->block);
    if (gp_flags(m->block) & GP_BLOCK_HANDLES && *len >= sizeof(struct gp_handles))
        skip = gp_handles_bytes(((struct gp_handles *)at)->count);
    if (skip > *len) return NULL;
    *len -= skip;
    return at + skip;
}

static PyObject *decode_block(const struct gp_message *m, enum parts_use use, PyObject *copy) {
    uint64_t len;
    char *at = content(m, &len);
    return at ? decode_at(m, at, len, use, copy) : broken();
}

PyObject *message_decode_parts(const struct gp_message *m, enum parts_use use, PyObject *copy) {
    return m->block ? decode_block(m, use, copy) : message_decode(m, true);
}

bool message_parts(const struct gp_message *m, struct message_parts *parts) {
    uint64_t len;
    char *at = m->codec == GP_CODEC_PICKLE && m->block ? content(m, &len) : NULL;
    if (!at || len < sizeof(struct gp_pickle)) return false;
    struct gp_pickle *p = (struct gp_pickle *)at;
    uint64_t skip = sizeof *p + gp_buffers_bytes(p->buffers);
    if (skip > len || p->main > len - skip) return false;
    *parts = (struct message_parts){at + skip, p->main, p->buffers, p->buffer};
    return true;
}

uint64_t message_bytes(const struct gp_message *m) {
    struct message_parts parts;
    if (!m->block) return 0;
    uint64_t sum = gp_len(m->block);
    if (message_parts(m, &parts))
        for (uint32_t i = 0; i < parts.n; i++) sum += gp_len(parts.buffer[i]);
    return sum;
}

PyObject *message_decode(const struct gp_message *m, bool keep) {
    if (m->block) {
        PyObject *v = decode_block(m, keep ? PARTS_KEEP : PARTS_TAKE, NULL);
        if (keep) return v;
        /* buffers that found a view have a new owner by now; the others go with the block */
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        gp_message_drop(m);
        PyErr_Restore(type, value, trace);
        return v;
    }
    switch (m->codec) {
    case GP_CODEC_NONE: Py_RETURN_NONE;
    case GP_CODEC_FALSE: Py_RETURN_FALSE;
    case GP_CODEC_TRUE: Py_RETURN_TRUE;
    case GP_CODEC_INT: {
        long long x;
        memcpy(&x, m->data, 8);
        return PyLong_FromLongLong(x);
    }
    case GP_CODEC_FLOAT: {
        double x;
        memcpy(&x, m->data, 8);
        return PyFloat_FromDouble(x);
    }
    case GP_CODEC_DEATH: {
        PyObject *v = obituary_read(m);
        return v ? v : broken();
    }
    default: return m->len > GP_INLINE ? broken() : decode_at(m, (char *)m->data, m->len, PARTS_KEEP, NULL);
    }
}
