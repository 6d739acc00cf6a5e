/* channel_type.c - the Python type of channels. */
#include "python.h"

static PyObject *chan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"cap", NULL};
    Py_ssize_t cap = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|n:chan", names, &cap)) return NULL;
    if (cap < 0 || (uint64_t)cap >= 1ULL << 32)
        return PyErr_Format(PyExc_ValueError, "makechan: size out of range");
    Handle *h = (Handle *)handle_new(type, GP_KIND_CHAN);
    if (!h || cap == 0) return (PyObject *)h;
    uint64_t bytes = (uint64_t)cap * sizeof(struct gp_message);
    struct gp_object *o = gp_at(h->ref);
    gp_ref ring = alloc_or_collect(bytes, GP_BLOCK_ALIGNED);
    if (!ring) {
        raise_memory(bytes, "a channel of that capacity");
        Py_DECREF(h);
        return NULL;
    }
    gp_own(ring, GP_TAG(GP_TAG_CHAN, h->ref)); /* it outlives its creator */
    o->ring = ring;
    o->cap = (uint32_t)cap;
    return (PyObject *)h;
}

int channel_need(Handle *h, unsigned dir) {
    if (GP_LIKELY(h->dir & dir)) return 0;
    PyErr_SetString(PyExc_TypeError, dir == DIR_SEND ? "cannot send to receive-only channel"
                                                     : "receive from send-only channel");
    return -1;
}

PyObject *channel_closed(const char *text) {
    if (handles_connect() == 0) PyErr_SetString(hooks.chan_closed, text);
    return NULL;
}

static int on_nil(Handle *h, PyObject *timeout, PyObject *reason) {
    if (GP_LIKELY(h->ref != 0)) return 0;
    if (handle_ready() < 0) return -1;
    struct wait_spec w = {.handle = (PyObject *)h, .timeout = timeout, .reason = reason};
    wait_forever(&w);
    return -1;
}

static PyObject *chan_send(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *timeout = NULL;
    if (GP_UNLIKELY((nargs != 1 || kwnames) &&
                    parse_timeout(args, nargs, kwnames, 1, "send()", &timeout) < 0))
        return NULL;
    if (checkpoint() < 0 || channel_need(self, DIR_SEND) < 0 || on_nil(self, timeout, reason_send_nil) < 0)
        return NULL;
    struct gp_object *o = handle_object(self);
    struct gp_message m;
    if (!o || message_encode(args[0], &m) < 0) return NULL;
    enum gp_result r = gp_chan_send(o, &m);
    if (GP_UNLIKELY(r == GP_BLOCK)) {
        struct gp_case c = {.o = o, .kind = GP_SEND, .m = m};
        struct wait_spec w = {.handle = (PyObject *)self, .timeout = timeout, .reason = reason_send};
        r = wait_case(&c, &w);
        m = c.m;
        if (r == GP_BLOCK) {
            if (gp.base && self->run == gp.run) gp_message_drop(&m);
            return NULL;
        }
    }
    if (GP_UNLIKELY(r == GP_CLOSED)) {
        gp_message_drop(&m);
        return channel_closed("send on closed channel");
    }
    Py_RETURN_NONE;
}

/* 1: a message, 0: closed and drained, -1: an exception. The message comes in the case and is nowhere else,
 * since the stack of a goroutine that waits is kept. */
static int receive(Handle *self, PyObject *timeout, struct gp_case *c) {
    if (checkpoint() < 0 || channel_need(self, DIR_RECV) < 0 || on_nil(self, timeout, reason_recv_nil) < 0)
        return -1;
    struct gp_object *o = handle_object(self);
    if (!o) return -1;
    if (GP_UNLIKELY(gp_get(&o->flags) & GP_OBJ_CONTEXT)) gp_context_expire(o);
    enum gp_result r = gp_chan_recv(o, &c->m);
    if (GP_UNLIKELY(r == GP_BLOCK)) {
        *c = (struct gp_case){.o = o, .kind = GP_RECV};
        struct wait_spec w = {.handle = (PyObject *)self, .timeout = timeout, .reason = reason_recv};
        if ((r = wait_case(c, &w)) == GP_BLOCK) return -1;
    }
    return r == GP_OK;
}

static PyObject *received(const struct gp_message *m) { return message_decode(m, false); }

static PyObject *chan_recv(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *timeout = NULL;
    struct gp_case c;
    if ((nargs || kwnames) && parse_timeout(args, nargs, kwnames, 0, "recv()", &timeout) < 0) return NULL;
    int got = receive(self, timeout, &c);
    if (got == 0) return channel_closed("receive from closed channel");
    return got < 0 ? NULL : received(&c.m);
}

static PyObject *pair(PyObject *v, int ok) {
    return v ? Py_BuildValue("(NO)", v, ok ? Py_True : Py_False) : NULL;
}

static PyObject *chan_recv_ok(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *timeout = NULL;
    struct gp_case c;
    if ((nargs || kwnames) && parse_timeout(args, nargs, kwnames, 0, "recv_ok()", &timeout) < 0) return NULL;
    int got = receive(self, timeout, &c);
    if (got < 0) return NULL;
    return got ? pair(received(&c.m), 1) : pair(Py_NewRef(Py_None), 0);
}

static PyObject *chan_next(Handle *self) {
    struct gp_case c;
    int got = receive(self, NULL, &c);
    return got == 1 ? received(&c.m) : NULL; /* NULL without an exception ends the iteration */
}

static PyObject *chan_iter(Handle *self) {
    return channel_need(self, DIR_RECV) < 0 ? NULL : Py_NewRef((PyObject *)self);
}

static PyObject *chan_try_send(Handle *self, PyObject *v) {
    if (tick() < 0 || channel_need(self, DIR_SEND) < 0) return NULL;
    struct gp_message m;
    if (self->ref == 0) Py_RETURN_FALSE;
    struct gp_object *o = handle_object(self);
    if (!o || message_encode(v, &m) < 0) return NULL;
    enum gp_result r = gp_chan_send(o, &m);
    if (r != GP_OK) gp_message_drop(&m);
    if (r == GP_CLOSED) return channel_closed("send on closed channel");
    return PyBool_FromLong(r == GP_OK);
}

static PyObject *chan_try_recv(Handle *self, PyObject *Py_UNUSED(unused)) {
    if (tick() < 0 || channel_need(self, DIR_RECV) < 0) return NULL;
    if (self->ref == 0) return pair(Py_NewRef(Py_None), 0);
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    /* A failing poll takes no lock. Empty first, closed second: a channel found open was open when it was
     * empty. */
    if (gp_chan_seems_empty(o) && !(gp_acquire(&o->flags) & (GP_OBJ_CLOSED | GP_OBJ_LAZY)))
        return pair(Py_NewRef(Py_None), 0);
    struct gp_case c = {.o = o, .kind = GP_RECV};
    enum gp_result r = gp_case_try(&c);
    if (r == GP_OK) return pair(received(&c.m), 1);
    if (r == GP_CLOSED) return channel_closed("receive from closed channel");
    return pair(Py_NewRef(Py_None), 0);
}

static PyObject *chan_send_many(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *timeout = NULL;
    if (parse_timeout(args, nargs, kwnames, 1, "send_many()", &timeout) < 0) return NULL;
    PyObject *it = PyObject_GetIter(args[0]), *v;
    if (!it) return NULL;
    Py_ssize_t n = 0;
    while ((v = PyIter_Next(it))) {
        PyObject *one[] = {v, timeout ? timeout : Py_None};
        PyObject *r = chan_send(self, one, 2, NULL);
        Py_DECREF(v);
        if (!r) break;
        Py_DECREF(r);
        n++;
    }
    Py_DECREF(it);
    return PyErr_Occurred() ? NULL : PyLong_FromSsize_t(n);
}

static PyObject *chan_recv_many(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *timeout = NULL;
    struct gp_case c;
    if (parse_timeout(args, nargs, kwnames, 1, "recv_many()", &timeout) < 0) return NULL;
    Py_ssize_t most = PyNumber_AsSsize_t(args[0], PyExc_OverflowError);
    if (most == -1 && PyErr_Occurred()) return NULL;
    if (most < 1) return PyErr_Format(PyExc_ValueError, "recv_many(n) needs n >= 1, not %zd", most);
    PyObject *list = PyList_New(0);
    int got = list ? receive(self, timeout, &c) : -1;
    if (got == 0) return list;
    while (got == 1) {
        PyObject *v = received(&c.m);
        if (!v || PyList_Append(list, v) < 0) got = -1;
        Py_XDECREF(v);
        if (got < 0 || PyList_GET_SIZE(list) >= most) break;
        struct gp_object *o = handle_object(self);
        got = o ? gp_chan_recv(o, &c.m) == GP_OK : -1;
    }
    if (got >= 0) return list;
    Py_XDECREF(list);
    return NULL;
}

static PyObject *chan_close(Handle *self, PyObject *Py_UNUSED(unused)) {
    if (!(self->dir & DIR_SEND)) {
        PyErr_SetString(PyExc_TypeError, "cannot close receive-only channel");
        return NULL;
    }
    if (self->ref == 0) return channel_closed("close of nil channel");
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    if (!gp_chan_close(o)) return channel_closed("close of closed channel");
    Py_RETURN_NONE;
}

/* 1 if the Python code that called is a progress bar's, else 0; -1 with an exception */
static int is_for_progress(void) {
    PyObject *globals = PyEval_GetGlobals(); /* borrowed, as is the name */
    PyObject *name = globals && hooks.progress_bars ? PyDict_GetItemString(globals, "__name__") : NULL;
    return name && PyUnicode_CheckExact(name) ? PySet_Contains(hooks.progress_bars, name) : 0;
}

static Py_ssize_t chan_len(Handle *self) {
    int progress = is_for_progress();
    if (progress > 0)
        PyErr_SetString(
            PyExc_TypeError,
            "a channel does not know how many values will come: it has no length to a progress bar");
    if (progress) return -1;
    if (self->ref == 0) return 0;
    struct gp_object *o = handle_object(self);
    if (!o || tick() < 0) return -1; /* a loop that polls lets others run */
    return (Py_ssize_t)gp_chan_len(o);
}

static int chan_bool(Handle *Py_UNUSED(self)) { return 1; } /* a channel is not false because it is empty */

static PyObject *chan_get_cap(Handle *self, void *Py_UNUSED(unused)) {
    if (self->ref == 0) return PyLong_FromLong(0);
    struct gp_object *o = handle_object(self);
    return o ? PyLong_FromUnsignedLong(o->cap) : NULL;
}

static PyObject *chan_get_closed(Handle *self, void *Py_UNUSED(unused)) {
    if (self->ref == 0) Py_RETURN_FALSE;
    struct gp_object *o = tick() < 0 ? NULL : handle_object(self);
    if (!o) return NULL;
    if (gp_get(&o->flags) & GP_OBJ_CONTEXT) gp_context_expire(o);
    return PyBool_FromLong(gp_acquire(&o->flags) & GP_OBJ_CLOSED);
}

static PyObject *chan_get_view(Handle *self, void *dir) {
    return handle_view(self, (unsigned)(uintptr_t)dir);
}

/* A channel is a reference: its copy refers to the same one. */
static PyObject *chan_copy(PyObject *self, PyObject *Py_UNUSED(unused)) { return Py_NewRef(self); }

static PyObject *chan_send_once(Handle *self, PyObject *Py_UNUSED(unused)) {
    struct gp_object *o = self->ref ? handle_object(self) : NULL;
    if (o) atomic_fetch_or(&o->flags, GP_OBJ_ONCE);
    return o || !PyErr_Occurred() ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef chan_methods[] = {
    {"_send_once", (PyCFunction)chan_send_once, METH_NOARGS,
     PyDoc_STR("Note that this channel will have one message, for `_sent`.")},
    {"__copy__", chan_copy, METH_NOARGS, NULL},
    {"__deepcopy__", chan_copy, METH_O, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {"send", METHOD(chan_send), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR(
         "send($self, value, /, timeout=None)\n--\n\n"
         "Send a copy of value; block until a receiver takes it, or the buffer has room.\n\n"
         "Args:\n"
         "    value: anything that can be pickled; None, bool, int, float, short str and bytes and small\n"
         "        tuples, lists and dicts of those never meet pickle.\n"
         "    timeout: seconds to wait at most; None waits for ever.\n\n"
         "Raises:\n    ChanClosed: the channel is closed, or was closed while this waited.\n"
         "    TimeoutError: time is up; nothing was sent.\n"
         "    PickleError: value cannot be copied; names the path to the culprit.\n"
         "    OutOfSharedMemory: value does not fit into the shared memory.\n\n"
         "Cost: about 0.1 us for a small value if the call does not block.")},
    {"recv", METHOD(chan_recv), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("recv($self, /, timeout=None)\n--\n\n"
               "Receive the next value; block until there is one.\n\n"
               "Args:\n    timeout: seconds to wait at most; None waits for ever.\n\n"
               "Raises:\n    ChanClosed: the channel is closed and drained.\n    TimeoutError: time is up.")},
    {"recv_ok", METHOD(chan_recv_ok), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("recv_ok($self, /, timeout=None)\n--\n\n"
               "Receive as Go's `v, ok = <-c`: (value, True), or (None, False) once closed and drained.\n\n"
               "Args:\n    timeout: seconds to wait at most; None waits for ever.\n\n"
               "Raises:\n    TimeoutError: time is up.")},
    {"try_send", (PyCFunction)chan_try_send, METH_O,
     PyDoc_STR("try_send($self, value, /)\n"
               "--\n\n"
               "Send if that is possible at once. Return True if the value was sent.\n\n"
               "Raises:\n    ChanClosed: the channel is closed.")},
    {"try_recv", (PyCFunction)chan_try_recv, METH_NOARGS,
     PyDoc_STR("try_recv($self, /)\n"
               "--\n\n"
               "Receive if that is possible at once: (value, True), else (None, False).\n\n"
               "Raises:\n"
               "    ChanClosed: the channel is closed and drained.\n\n"
               "Cost: a failing poll takes no lock.")},
    {"send_many", METHOD(chan_send_many), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("send_many($self, values, /, timeout=None)\n--\n\n"
               "Send each value of an iterable, blocking as send() does; return their number.\n\n"
               "Args:\n"
               "    values: any iterable.\n"
               "    timeout: seconds to wait at most for each value; None waits for ever.\n\n"
               "Raises:\n"
               "    ChanClosed, TimeoutError, PickleError, OutOfSharedMemory: as send(), for one value. The "
               "values before\n"
               "        that one have been sent.")},
    {"recv_many", METHOD(chan_recv_many), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("recv_many($self, n, /, timeout=None)\n--\n\n"
               "Block for one value, then take the values that are there without blocking: a list of 1 to n "
               "values.\n\n"
               "Args:\n"
               "    n: the most values.\n"
               "    timeout: seconds to wait at most for the first one; None waits for ever.\n\n"
               "Returns:\n    The values. The list is empty once the channel is closed and drained.\n\n"
               "Raises:\n    TimeoutError: time is up.")},
    {"close", (PyCFunction)chan_close, METH_NOARGS,
     PyDoc_STR("close($self, /)\n--\n\nClose the channel: no more values can be sent.\n\n"
               "Receivers drain the buffer, then see the end. Blocked senders raise ChanClosed.\n\n"
               "Raises:\n    ChanClosed: the channel is closed already, or nil.")},
    {NULL, NULL, 0, NULL},
};
/* True if the message of a channel of one message was sent. That is right also if the sender was killed. */
static PyObject *chan_get_sent(Handle *self, void *Py_UNUSED(unused)) {
    struct gp_object *o = self->ref ? handle_object(self) : NULL;
    if (!o) return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
    return PyBool_FromLong(gp_acquire(&o->tail) > 0 || gp_get(&o->flags) & GP_OBJ_DONE);
}

static PyGetSetDef chan_getset[] = {
    {"_sent", (getter)chan_get_sent, NULL,
     PyDoc_STR("True if the one message of this channel was sent. See _send_once()."), NULL},
    {"cap", (getter)chan_get_cap, NULL, PyDoc_STR("The capacity of the buffer; 0: unbuffered."), NULL},
    {"closed", (getter)chan_get_closed, NULL, PyDoc_STR("True once close() was called."), NULL},
    {"tx", (getter)chan_get_view, NULL, PyDoc_STR("The send-only view; equal to the channel."),
     (void *)DIR_SEND},
    {"rx", (getter)chan_get_view, NULL, PyDoc_STR("The receive-only view; equal to the channel."),
     (void *)DIR_RECV},
    {NULL, NULL, NULL, NULL, NULL},
};
static PySequenceMethods chan_sequence = {.sq_length = (lenfunc)chan_len};
static PyNumberMethods chan_number = {.nb_bool = (inquiry)chan_bool};

PyTypeObject ChannelType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.Channel",
    .tp_base = &HandleType,
    .tp_basicsize = sizeof(Handle),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = chan_new,
    .tp_iter = (getiterfunc)chan_iter,
    .tp_iternext = (iternextfunc)chan_next,
    .tp_as_sequence = &chan_sequence,
    .tp_as_number = &chan_number,
    .tp_methods = chan_methods,
    .tp_getset = chan_getset,
};

PyCFunction channel_send_method = METHOD(chan_send), channel_recv_method = METHOD(chan_recv),
            channel_recv_ok_method = METHOD(chan_recv_ok);
