/* codec.c - Python values to messages; decode.c is the way back.
 *
 * The values that programs send most never meet pickle. None, bools, 64-bit ints, floats, and short str and
 * bytes go inline in the 64-byte message. So do small tuples, lists and dicts of those and of channel handles
 * ("plain": a one-byte type, then the value; exact types only, and no list or dict twice, because identity
 * inside a message must survive). Everything else goes through the encode hook (pickle protocol 5) into a
 * block. Buffers that the hook hands out of band get a block each, which the receiver maps (buffers.c)
 * instead of copying.
 *
 * A message that carries handles is always in a block that lists them, so that the collector can find them.
 * Data from shared memory is copied once, then checked, then used.
 */
#include "python.h"

#define PLAIN_BYTES 1024 /* larger values: pickle is as fast */
#define PLAIN_SHARED 32  /* lists and dicts in one value */
#define MAX_HANDLES 65536u

/* ---- handles met while pickling the current message. Per thread: another thread may pickle at the same
 * time. Another goroutine of this thread may not: blocking inside a __reduce__ is refused (see wait.c). */

static _Thread_local struct {
    bool on;
    uint32_t n, cap;
    gp_ref *ref;
} handle_log;

static void share(Handle *h) {
    struct gp_object *o = gp_at(h->ref);
    if (!(gp_get(&o->flags) & GP_OBJ_SHARED))
        atomic_fetch_or_explicit(&o->flags, GP_OBJ_SHARED, memory_order_acq_rel);
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

static gp_ref block_with_handles(uint64_t payload, const gp_ref *refs, uint32_t n, char **at) {
    gp_ref block = alloc_or_collect(gp_handles_bytes(n) + payload, n ? GP_BLOCK_HANDLES : 0);
    if (!block) {
        raise_memory(payload, "a message");
        return 0;
    }
    *at = gp_payload(block);
    if (n) {
        struct gp_handles *list = (struct gp_handles *)*at;
        list->count = n;
        memcpy(list->object, refs, 4ULL * n);
        *at += gp_handles_bytes(n);
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
    /* a Cond has its mutex with it */
    if (PyObject_TypeCheck(v, &HandleType) && !PyObject_TypeCheck(v, &CondType)) {
        Handle *h = (Handle *)v;
        /* a stale handle: pickling raises the error */
        if ((h->ref && h->run != gp.run) || p->end - p->at < 11) return false;
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

/* the message that is encoded may be read several times: its large buffers become Views */
_Thread_local bool message_keeps;

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
        if (Py_TYPE(buffer) == &ReferenceType &&
            !message_log_handle((Handle *)((Reference *)buffer)->part.copy)) {
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
    uint64_t size = (uint64_t)PyBytes_GET_SIZE(body),
             payload = sizeof(struct gp_pickle) + gp_buffers_bytes(n) + size;
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
        gp_ref part =
            Py_TYPE(buffer) == &ReferenceType ? reference_write((Reference *)buffer) : copy_to_part(buffer);
        if (!part) goto fail;
        gp_own(part, GP_TAG(GP_TAG_PART, block));
        p->buffer[i] = part;
        p->buffers = i + 1;
    }
    memcpy((char *)p->buffer + gp_buffers_bytes(n), PyBytes_AS_STRING(body), size);
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
        return encode_raw(v == Py_None   ? GP_CODEC_NONE
                          : v == Py_True ? GP_CODEC_TRUE
                                         : GP_CODEC_FALSE,
                          "", 0, m);
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
