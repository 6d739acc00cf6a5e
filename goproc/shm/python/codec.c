/* codec.c - Python values to messages and back.
 *
 * The values that programs send most never meet pickle. None, bools, 64-bit ints, floats, and short str and bytes go
 * inline in the 64-byte message. So do small tuples, lists and dicts of those and of channel handles ("plain": a one-byte
 * type, then the value; exact types only, and no list or dict twice, because identity inside a message must survive).
 * Everything else goes through the encode hook (pickle protocol 5) into a block. Buffers that the hook hands out of band
 * get a block each, which the receiver maps (Buffer below) instead of copying.
 *
 * A message that carries handles is always in a block that lists them, so that the collector can find them. Data from
 * shared memory is copied once, then checked, then used.
 */
#include "python.h"

#define PLAIN_BYTES 1024 /* larger values: pickle is as fast */
#define PLAIN_DEPTH 8
#define PLAIN_SHARED 32  /* lists and dicts in one value */
#define MAX_HANDLES 65536u

/* ---- handles met while pickling the current message. Per thread: another thread may pickle at the same time. Another
 * goroutine of this thread may not: blocking inside a __reduce__ is refused (see wait.c). */

static _Thread_local struct {
    bool on;
    uint32_t n, cap;
    gp_ref *ref;
} handle_log;

static void share(Handle *h) {
    struct gp_object *o = gp_at(h->ref);
    if (!(gp_get(&o->flags) & GP_OBJ_SHARED)) atomic_fetch_or_explicit(&o->flags, GP_OBJ_SHARED, memory_order_acq_rel);
}

bool message_in_progress(void) { return handle_log.on; }

PyObject *message_as_pickling(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs < 1) return PyErr_Format(PyExc_TypeError, "as_pickling(function, *args)");
    bool was_on = handle_log.on;
    uint32_t first = handle_log.n;
    handle_log.on = true;
    PyObject *r = PyObject_Vectorcall(args[0], args + 1, (size_t)nargs - 1, NULL);
    handle_log.on = was_on;
    handle_log.n = first;
    return r;
}

bool message_log_handle(Handle *h) {
    if (!handle_log.on) return false;
    if (handle_log.n == handle_log.cap) {
        uint32_t cap = handle_log.cap ? 2 * handle_log.cap : 64;
        gp_ref *v = PyMem_Realloc(handle_log.ref, cap * sizeof *v);
        if (!v) return false;
        handle_log.ref = v;
        handle_log.cap = cap;
    }
    handle_log.ref[handle_log.n++] = h->ref;
    share(h);
    return true;
}

static uint64_t handles_bytes(uint32_t n) { return n ? (sizeof(struct gp_handles) + 4ULL * n + 7) / 8 * 8 : 0; }

static gp_ref block_with_handles(uint64_t payload, const gp_ref *refs, uint32_t n, char **at) {
    gp_ref block = alloc_or_collect(handles_bytes(n) + payload, n ? GP_BLOCK_HANDLES : 0);
    if (!block) {
        raise_memory(payload, "a message");
        return 0;
    }
    *at = gp_payload(block);
    if (n) {
        struct gp_handles *list = (struct gp_handles *)*at;
        list->count = n;
        memcpy(list->object, refs, 4ULL * n);
        *at += handles_bytes(n);
    }
    return block;
}

/* ---- plain values: encoding */

struct plain {
    uint8_t *at, *end;
    PyObject *mutables[PLAIN_SHARED];
    gp_ref handle[PLAIN_BYTES / 11 + 1];
    uint32_t n_mutables, n_handles;
};

static bool once(struct plain *p, PyObject *v) {
    for (uint32_t i = 0; i < p->n_mutables; i++)
        if (p->mutables[i] == v) return false;
    if (p->n_mutables == PLAIN_SHARED) return false;
    p->mutables[p->n_mutables++] = v;
    return true;
}

static bool head(struct plain *p, char type, Py_ssize_t n) {
    if (n > 255 || p->end - p->at < 2) return false;
    *p->at++ = (uint8_t)type;
    *p->at++ = (uint8_t)n;
    return true;
}

static bool raw(struct plain *p, char type, const void *data, Py_ssize_t n) {
    if (!head(p, type, n) || p->end - p->at < n) return false;
    memcpy(p->at, data, (size_t)n);
    p->at += n;
    return true;
}

static bool one(struct plain *p, char type) {
    if (p->at == p->end) return false;
    *p->at++ = (uint8_t)type;
    return true;
}

/* false: not plain (or too large); no exception is set */
static bool plain(struct plain *p, PyObject *v, int depth) {
    PyTypeObject *t = Py_TYPE(v);
    if (v == Py_None) return one(p, 'N');
    if (t == &PyLong_Type) {
        int overflow;
        long long x = PyLong_AsLongLongAndOverflow(v, &overflow);
        if (overflow) return false;
        if (x >= -128 && x < 128) {
            if (p->end - p->at < 2) return false;
            *p->at++ = 'b';
            *p->at++ = (uint8_t)(int8_t)x;
            return true;
        }
        if (p->end - p->at < 9) return false;
        *p->at++ = 'i';
        memcpy(p->at, &x, 8);
        p->at += 8;
        return true;
    }
    if (t == &PyUnicode_Type) {
        Py_ssize_t n;
        const char *s = PyUnicode_AsUTF8AndSize(v, &n);
        if (!s) PyErr_Clear(); /* lone surrogates: pickle knows how */
        return s && raw(p, 's', s, n);
    }
    if (t == &PyFloat_Type) {
        double x = PyFloat_AS_DOUBLE(v);
        if (p->end - p->at < 9) return false;
        *p->at++ = 'd';
        memcpy(p->at, &x, 8);
        p->at += 8;
        return true;
    }
    if (v == Py_True) return one(p, 'T');
    if (v == Py_False) return one(p, 'F');
    if (t == &PyBytes_Type) return raw(p, 'y', PyBytes_AS_STRING(v), PyBytes_GET_SIZE(v));
    if (depth == 0) return false;
    if (t == &PyTuple_Type || t == &PyList_Type) {
        if (t == &PyList_Type && !once(p, v)) return false;
        Py_ssize_t n = PySequence_Fast_GET_SIZE(v);
        if (!head(p, t == &PyList_Type ? '[' : '(', n)) return false;
        for (Py_ssize_t i = 0; i < n; i++)
            if (!plain(p, PySequence_Fast_GET_ITEM(v, i), depth - 1)) return false;
        return true;
    }
    if (t == &PyDict_Type) {
        if (!once(p, v) || !head(p, '{', PyDict_GET_SIZE(v))) return false;
        PyObject *key, *value;
        for (Py_ssize_t at = 0; PyDict_Next(v, &at, &key, &value);)
            if (!plain(p, key, depth - 1) || !plain(p, value, depth - 1)) return false;
        return true;
    }
    if (PyObject_TypeCheck(v, &HandleType) && !PyObject_TypeCheck(v, &CondType)) { /* a Cond has its mutex with it */
        Handle *h = (Handle *)v;
        if ((h->ref && h->run != gp.run) || p->end - p->at < 11) return false; /* a stale handle: pickling raises the error */
        *p->at++ = 'c';
        *p->at++ = h->kind;
        *p->at++ = h->dir;
        memcpy(p->at, &h->ref, 4);
        memcpy(p->at + 4, &h->gen, 4);
        p->at += 8;
        if (h->ref) {
            p->handle[p->n_handles++] = h->ref;
            share(h);
        }
        return true;
    }
    return false;
}

/* ---- pickled values */

_Thread_local bool message_keeps; /* the message that is encoded may be read several times: its large buffers become Views */

/* Put references in the place of large buffers. */
static int refer_to_copies(PyObject *buffers) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(buffers); i++) {
        PyObject *buffer = PyList_GET_ITEM(buffers, i);
        Py_buffer view;
        if (Py_TYPE(buffer) == &ReferenceType) continue;
        if (PyObject_GetBuffer(buffer, &view, PyBUF_C_CONTIGUOUS) < 0) return -1;
        PyObject *r = view.len >= LARGE_BUFFER ? reference_to_copy(&view) : Py_NewRef(buffer);
        PyBuffer_Release(&view);
        if (!r || PyList_SetItem(buffers, i, r) < 0) return -1;
    }
    return 0;
}

/* Have the message list the copies that its references are to. */
static int log_references(PyObject *buffers) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(buffers); i++) {
        PyObject *buffer = PyList_GET_ITEM(buffers, i);
        if (Py_TYPE(buffer) == &ReferenceType && !message_log_handle((Handle *)((Reference *)buffer)->part.copy)) {
            PyErr_NoMemory();
            return -1;
        }
    }
    return 0;
}

static gp_ref copy_to_part(PyObject *buffer) {
    Py_buffer view;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_C_CONTIGUOUS) < 0) return 0;
    gp_ref part = alloc_or_collect((uint64_t)view.len, GP_BLOCK_ALIGNED);
    if (!part) {
        raise_memory((uint64_t)view.len, "a message");
    } else if (view.len >= 1 << 16) {
        Py_BEGIN_ALLOW_THREADS /* the block is private until the message is sent */
        memcpy(gp_payload(part), view.buf, (size_t)view.len);
        Py_END_ALLOW_THREADS
    } else {
        memcpy(gp_payload(part), view.buf, (size_t)view.len);
    }
    PyBuffer_Release(&view);
    return part;
}

static PyObject *pickled_parts(PyObject *v, bool keeps, uint32_t *handles) {
    bool was_on = handle_log.on;
    uint32_t first = handle_log.n;
    handle_log.on = true;
    PyObject *parts = PyObject_CallOneArg(hooks.encode, v), *body, *buffers;
    if (parts && (!PyArg_ParseTuple(parts, "O!O!", &PyBytes_Type, &body, &PyList_Type, &buffers) ||
                  (keeps && refer_to_copies(buffers) < 0) || log_references(buffers) < 0))
        Py_CLEAR(parts);
    handle_log.on = was_on;
    *handles = handle_log.n - first;
    handle_log.n = first;
    return parts;
}

static int encode_pickled(PyObject *v, struct gp_message *m) {
    uint32_t first = handle_log.n, handles;
    bool keeps = message_keeps;
    message_keeps = false; /* for a message that is sent during this pickling */
    PyObject *parts = pickled_parts(v, keeps, &handles);
    if (!parts) return -1;
    PyObject *body = PyTuple_GET_ITEM(parts, 0), *buffers = PyTuple_GET_ITEM(parts, 1);
    gp_ref block = 0;
    uint32_t n = (uint32_t)PyList_GET_SIZE(buffers);
    uint64_t size = (uint64_t)PyBytes_GET_SIZE(body), payload = sizeof(struct gp_pickle) + (4ULL * n + 7) / 8 * 8 + size;
    char *at;
    if (handles > MAX_HANDLES) {
        PyErr_Format(PyExc_ValueError, "a message with more than %u channels", MAX_HANDLES);
        goto fail;
    }
    block = block_with_handles(payload, handle_log.ref + first, handles, &at);
    if (!block) goto fail;
    struct gp_pickle *p = (struct gp_pickle *)at;
    p->buffers = 0;
    p->main = size;
    m->codec = GP_CODEC_PICKLE;
    m->len = 0;
    m->flags = 0;
    m->block = block;
    for (uint32_t i = 0; i < n; i++) {
        PyObject *buffer = PyList_GET_ITEM(buffers, i);
        gp_ref part = Py_TYPE(buffer) == &ReferenceType ? reference_write((Reference *)buffer) : copy_to_part(buffer);
        if (!part) goto fail;
        gp_own(part, GP_TAG(GP_TAG_PART, block));
        p->buffer[i] = part;
        p->buffers = i + 1;
    }
    memcpy((char *)p->buffer + (4ULL * n + 7) / 8 * 8, PyBytes_AS_STRING(body), size);
    for (uint32_t i = 0; i < n; i++) /* the message keeps the copies by now */
        if (keeps && Py_TYPE(PyList_GET_ITEM(buffers, i)) == &ReferenceType)
            ((Handle *)((Reference *)PyList_GET_ITEM(buffers, i))->part.copy)->passed_on = true;
    Py_DECREF(parts);
    return 0;
fail:
    if (block) gp_message_drop(m);
    Py_DECREF(parts);
    return -1;
}

static int encode_raw(enum gp_codec codec, const char *data, Py_ssize_t n, struct gp_message *m) {
    m->codec = (uint8_t)codec;
    m->block = 0;
    m->flags = 0;
    m->len = 0;
    if (n <= (Py_ssize_t)GP_INLINE) {
        m->len = (uint8_t)n;
        memcpy(m->data, data, (size_t)n);
        return 0;
    }
    m->block = alloc_or_collect((uint64_t)n, 0);
    if (!m->block) {
        raise_memory((uint64_t)n, "a message");
        return -1;
    }
    memcpy(gp_payload(m->block), data, (size_t)n);
    return 0;
}

int message_encode(PyObject *v, struct gp_message *m) {
    PyTypeObject *t = Py_TYPE(v);
    if (t == &PyLong_Type) {
        int overflow;
        long long x = PyLong_AsLongLongAndOverflow(v, &overflow);
        if (GP_LIKELY(!overflow)) {
            m->codec = GP_CODEC_INT;
            m->len = 8;
            m->flags = 0;
            m->block = 0;
            memcpy(m->data, &x, 8);
            return 0;
        }
    } else if (t == &PyFloat_Type) {
        double x = PyFloat_AS_DOUBLE(v);
        return encode_raw(GP_CODEC_FLOAT, (const char *)&x, 8, m);
    } else if (v == Py_None || v == Py_True || v == Py_False) {
        return encode_raw(v == Py_None ? GP_CODEC_NONE : v == Py_True ? GP_CODEC_TRUE : GP_CODEC_FALSE, "", 0, m);
    } else if (t == &PyUnicode_Type) {
        Py_ssize_t n;
        const char *s = PyUnicode_AsUTF8AndSize(v, &n);
        if (s) return encode_raw(GP_CODEC_STR, s, n, m);
        PyErr_Clear();
    } else if (t == &PyBytes_Type) {
        return encode_raw(GP_CODEC_BYTES, PyBytes_AS_STRING(v), PyBytes_GET_SIZE(v), m);
    } else {
        uint8_t scratch[PLAIN_BYTES];
        struct plain p;
        p.at = scratch;
        p.end = scratch + sizeof scratch;
        p.n_mutables = p.n_handles = 0;
        if (plain(&p, v, PLAIN_DEPTH)) {
            Py_ssize_t n = p.at - scratch;
            if (p.n_handles == 0) return encode_raw(GP_CODEC_PLAIN, (const char *)scratch, n, m);
            char *at;
            gp_ref block = block_with_handles((uint64_t)n, p.handle, p.n_handles, &at);
            if (!block) return -1;
            memcpy(at, scratch, (size_t)n);
            m->codec = GP_CODEC_PLAIN;
            m->len = 0;
            m->flags = 0;
            m->block = block;
            return 0;
        }
    }
    return encode_pickled(v, m);
}

/* ---- decoding */

static PyObject *broken(void) {
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, "a message in shared memory is damaged: something outside goproc wrote there");
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
    return use == PARTS_TAKE ? buffer_new(part) : PyByteArray_FromStringAndSize(gp_payload(part), (Py_ssize_t)gp_len(part));
}

static PyObject *decode_pickled(gp_ref block, char *at, uint64_t len, enum parts_use use, PyObject *copy) {
    struct gp_pickle head;
    if (len < sizeof head) return broken();
    memcpy(&head, at, sizeof head); /* once */
    uint64_t skip = sizeof head + (4ULL * head.buffers + 7) / 8 * 8;
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

static PyObject *decode_at(const struct gp_message *m, char *at, uint64_t len, enum parts_use use, PyObject *copy) {
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
        skip = handles_bytes(((struct gp_handles *)at)->count);
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
    uint64_t skip = sizeof *p + (4ULL * p->buffers + 7) / 8 * 8;
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
