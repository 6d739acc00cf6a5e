/* types.c - the Python types over the core: channel, wait group, atomic, outcome of a goroutine. */
#include "python.h"

/* ---- Channel */

static PyObject *chan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"cap", NULL};
    Py_ssize_t cap = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|n:chan", names, &cap)) return NULL;
    if (cap < 0 || (uint64_t)cap >= 1ULL << 32) return PyErr_Format(PyExc_ValueError, "makechan: size out of range");
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
    PyErr_SetString(PyExc_TypeError,
                    dir == DIR_SEND ? "cannot send to receive-only channel" : "receive from send-only channel");
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
    if (GP_UNLIKELY((nargs != 1 || kwnames) && parse_timeout(args, nargs, kwnames, 1, "send()", &timeout) < 0)) return NULL;
    if (checkpoint() < 0 || channel_need(self, DIR_SEND) < 0 || on_nil(self, timeout, reason_send_nil) < 0) return NULL;
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

/* 1: a message, 0: closed and drained, -1: an exception. The message is in the case: the stack that a goroutine has where
 * it waits is kept, and has the message once. */
static int receive(Handle *self, PyObject *timeout, struct gp_case *c) {
    if (checkpoint() < 0 || channel_need(self, DIR_RECV) < 0 || on_nil(self, timeout, reason_recv_nil) < 0) return -1;
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

static PyObject *chan_iter(Handle *self) { return channel_need(self, DIR_RECV) < 0 ? NULL : Py_NewRef((PyObject *)self); }

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

static PyObject *chan_try_recv(Handle *self, PyObject *unused) {
    (void)unused;
    if (tick() < 0 || channel_need(self, DIR_RECV) < 0) return NULL;
    if (self->ref == 0) return pair(Py_NewRef(Py_None), 0);
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    /* A failing poll takes no lock. Empty first, closed second: a channel found open was open when it was empty. */
    if (gp_acquire(&o->head) == gp_acquire(&o->tail) && !gp_acquire(&o->sendq_first) &&
        !(gp_acquire(&o->flags) & (GP_OBJ_CLOSED | GP_OBJ_LAZY)))
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

static PyObject *chan_close(Handle *self, PyObject *unused) {
    (void)unused;
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
        PyErr_SetString(PyExc_TypeError, "a channel does not know how many values will come: it has no length to a progress bar");
    if (progress) return -1;
    if (self->ref == 0) return 0;
    struct gp_object *o = handle_object(self);
    if (!o || tick() < 0) return -1; /* a loop that polls lets others run */
    uint64_t head = gp_acquire(&o->head), tail = gp_acquire(&o->tail), n = tail - head;
    return (Py_ssize_t)(n > o->cap ? o->cap : n); /* the two loads are not one instant */
}

static int chan_bool(Handle *self) { /* a channel is not false because it is empty */
    (void)self;
    return 1;
}

static PyObject *chan_get_cap(Handle *self, void *unused) {
    (void)unused;
    if (self->ref == 0) return PyLong_FromLong(0);
    struct gp_object *o = handle_object(self);
    return o ? PyLong_FromUnsignedLong(o->cap) : NULL;
}

static PyObject *chan_get_closed(Handle *self, void *unused) {
    (void)unused;
    if (self->ref == 0) Py_RETURN_FALSE;
    struct gp_object *o = tick() < 0 ? NULL : handle_object(self);
    if (!o) return NULL;
    if (gp_get(&o->flags) & GP_OBJ_CONTEXT) gp_context_expire(o);
    return PyBool_FromLong(gp_acquire(&o->flags) & GP_OBJ_CLOSED);
}

static PyObject *chan_get_view(Handle *self, void *dir) { return handle_view(self, (unsigned)(uintptr_t)dir); }

static PyObject *chan_copy(PyObject *self, PyObject *unused) { /* a reference: its copy refers to the same channel */
    (void)unused;
    return Py_NewRef(self);
}

static PyObject *chan_send_once(Handle *self, PyObject *unused) {
    (void)unused;
    struct gp_object *o = self->ref ? handle_object(self) : NULL;
    if (o) atomic_fetch_or(&o->flags, GP_OBJ_ONCE);
    return o || !PyErr_Occurred() ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef chan_methods[] = {
    {"_send_once", (PyCFunction)chan_send_once, METH_NOARGS, PyDoc_STR("There will be one message: have `_sent` tell of it.")},
    {"__copy__", chan_copy, METH_NOARGS, NULL},
    {"__deepcopy__", chan_copy, METH_O, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {"send", METHOD(chan_send), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("send($self, value, /, timeout=None)\n--\n\n"
               "Send a copy of value; block until a receiver takes it or the buffer has room.\n\n"
               "Args:\n    value: anything that can be pickled; None, bool, int, float, short str and bytes and small\n"
               "        tuples, lists and dicts of those never meet pickle.\n"
               "    timeout: seconds to wait at most; None waits for ever.\n\n"
               "Raises:\n    ChanClosed: the channel is closed, or was closed while this waited.\n"
               "    TimeoutError: time is up; nothing was sent.\n    PickleError: value cannot be copied; names the path to the culprit.\n"
               "    OutOfSharedMemory: value is larger than what memory allows.\n\n"
               "Cost: about 0.1 us for a small value when nobody has to wait.")},
    {"recv", METHOD(chan_recv), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("recv($self, /, timeout=None)\n--\n\n"
               "Receive the next value; block until there is one.\n\n"
               "Raises:\n    ChanClosed: the channel is closed and drained.\n    TimeoutError: time is up.")},
    {"recv_ok", METHOD(chan_recv_ok), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("recv_ok($self, /, timeout=None)\n--\n\n"
               "Receive as Go's `v, ok = <-c`: (value, True), or (None, False) once closed and drained.\n\n"
               "Raises:\n    TimeoutError: time is up.")},
    {"try_send", (PyCFunction)chan_try_send, METH_O,
     PyDoc_STR("try_send($self, value, /)\n--\n\nSend if that is possible at once; tell whether it was.\n\n"
               "Raises:\n    ChanClosed: the channel is closed.")},
    {"try_recv", (PyCFunction)chan_try_recv, METH_NOARGS,
     PyDoc_STR("try_recv($self, /)\n--\n\nReceive if that is possible at once: (value, True), else (None, False).\n\n"
               "Raises:\n    ChanClosed: the channel is closed and drained.\n\nCost: a failing poll takes no lock.")},
    {"send_many", METHOD(chan_send_many), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("send_many($self, values, /, timeout=None)\n--\n\n"
               "Send each value of an iterable, blocking as send() does; return how many there were.\n\n"
               "When one fails (closed, not picklable, timeout for that value), those before it have been sent.")},
    {"recv_many", METHOD(chan_recv_many), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("recv_many($self, n, /, timeout=None)\n--\n\n"
               "Block for one value, then take what is there without blocking: a list of 1 to n values.\n\n"
               "The list is empty once the channel is closed and drained.")},
    {"close", (PyCFunction)chan_close, METH_NOARGS,
     PyDoc_STR("close($self, /)\n--\n\nNo more values will be sent. Receivers drain the buffer, then see the end; blocked\n"
               "senders raise ChanClosed.\n\nRaises:\n    ChanClosed: it is closed already, or nil.")},
    {NULL, NULL, 0, NULL},
};
/* A channel of one message: has that been sent? The answer is right also where the sender was killed. */
static PyObject *chan_get_sent(Handle *self, void *unused) {
    (void)unused;
    struct gp_object *o = self->ref ? handle_object(self) : NULL;
    if (!o) return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
    return PyBool_FromLong(gp_acquire(&o->tail) > 0 || gp_get(&o->flags) & GP_OBJ_DONE);
}

static PyGetSetDef chan_getset[] = {
    {"_sent", (getter)chan_get_sent, NULL, PyDoc_STR("Was the one message of this channel sent? See _send_once()."), NULL},
    {"cap", (getter)chan_get_cap, NULL, PyDoc_STR("The capacity of the buffer; 0: unbuffered."), NULL},
    {"closed", (getter)chan_get_closed, NULL, PyDoc_STR("Whether close() was called."), NULL},
    {"tx", (getter)chan_get_view, NULL, PyDoc_STR("The send-only view; equal to the channel."), (void *)DIR_SEND},
    {"rx", (getter)chan_get_view, NULL, PyDoc_STR("The receive-only view; equal to the channel."), (void *)DIR_RECV},
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

/* ---- WaitGroup */

static PyObject *wg_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":WaitGroup", names)) return NULL;
    return handle_new(type, GP_KIND_WAITGROUP);
}

static PyObject *wg_change(Handle *self, int64_t n) {
    struct gp_object *o = handle_object(self);
    int64_t now;
    if (!o || tick() < 0) return NULL;
    switch (gp_waitgroup_add(o, n, &now)) {
    case 0: break;
    case -ERANGE: return PyErr_Format(PyExc_ValueError, "sync: negative WaitGroup counter");
    default: return PyErr_Format(PyExc_OverflowError, "sync: WaitGroup counter overflow");
    }
    Py_RETURN_NONE;
}

static PyObject *wg_add(Handle *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"n", NULL};
    long long n = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|L:add", names, &n)) return NULL;
    return wg_change(self, n);
}

static PyObject *wg_done(Handle *self, PyObject *unused) {
    (void)unused;
    return wg_change(self, -1);
}

static PyObject *wg_wait(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *timeout;
    if (parse_timeout(args, nargs, kwnames, 0, "wait()", &timeout) < 0 || checkpoint() < 0) return NULL;
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    struct wait_spec w = {.handle = (PyObject *)self, .timeout = timeout, .reason = reason_waitgroup};
    if (wait_done(self, o, &w) < 0) return NULL;
    Py_RETURN_NONE;
}

PyCFunction waitgroup_wait_method = METHOD(wg_wait);

static PyObject *wg_count(Handle *self, void *unused) {
    (void)unused;
    struct gp_object *o = handle_object(self);
    return o && tick() == 0 ? PyLong_FromLongLong(gp_acquire(&o->value)) : NULL;
}

static PyObject *wg_lost(Handle *self, void *unused) {
    (void)unused;
    struct gp_object *o = handle_object(self);
    return o ? Py_BuildValue("(KK)", (unsigned long long)gp_acquire(&o->head), (unsigned long long)gp_get(&o->tail)) : NULL;
}

static PyMethodDef wg_methods[] = {
    {"add", METHOD(wg_add), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("add($self, /, n=1)\n--\n\nAdd n (may be negative) to the counter; at zero every waiter is released.\n\n"
               "Raises:\n    ValueError: the counter would become negative; it keeps its value.")},
    {"done", (PyCFunction)wg_done, METH_NOARGS, PyDoc_STR("done($self, /)\n--\n\nadd(-1).")},
    {"wait", METHOD(wg_wait), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("wait($self, /, timeout=None)\n--\n\nBlock until the counter is zero.\n\nRaises:\n    TimeoutError: time is up.")},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef wg_getset[] = {
    {"_lost", (getter)wg_lost, NULL, PyDoc_STR("(number of the last death that took counted goroutines along, how many in all)."), NULL},
    {"count", (getter)wg_count, NULL, PyDoc_STR("The counter, at some instant."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject WaitGroupType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.WaitGroup",
    .tp_base = &HandleType,
    .tp_basicsize = sizeof(Handle),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = wg_new,
    .tp_methods = wg_methods,
    .tp_getset = wg_getset,
};

/* ---- Atomic: sequentially consistent, as Go's */

static int atomic_value(struct gp_object *o, PyObject *v, int64_t *x) {
    if ((gp_get(&o->flags) & GP_OBJ_BOOL) ? !PyBool_Check(v) : !PyLong_Check(v) || PyBool_Check(v)) {
        PyErr_Format(PyExc_TypeError, "this Atomic holds %s, not %.100s", gp_get(&o->flags) & GP_OBJ_BOOL ? "a bool" : "an int",
                     Py_TYPE(v)->tp_name);
        return -1;
    }
    int overflow;
    *x = PyLong_AsLongLongAndOverflow(v, &overflow);
    if (!overflow) return 0;
    PyErr_SetString(PyExc_OverflowError, "an Atomic holds 64 bits: -2**63 to 2**63 - 1");
    return -1;
}

static PyObject *atomic_result(struct gp_object *o, int64_t x) {
    return gp_get(&o->flags) & GP_OBJ_BOOL ? PyBool_FromLong(x != 0) : PyLong_FromLongLong(x);
}

static PyObject *atomic_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"value", NULL};
    PyObject *v = NULL;
    int64_t x = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Atomic", names, &v)) return NULL;
    Handle *h = (Handle *)handle_new(type, GP_KIND_ATOMIC);
    if (!h) return NULL;
    struct gp_object *o = gp_at(h->ref);
    if (v && PyBool_Check(v)) gp_set(&o->flags, GP_OBJ_BOOL);
    if (v && atomic_value(o, v, &x) < 0) {
        Py_DECREF(h);
        return NULL;
    }
    atomic_store(&o->value, x);
    return (PyObject *)h;
}

static PyObject *atomic_load_(Handle *self, PyObject *unused) {
    (void)unused;
    struct gp_object *o = handle_object(self);
    if (!o || tick() < 0) return NULL; /* a loop that polls lets others run */
    return atomic_result(o, atomic_load(&o->value));
}

static PyObject *atomic_store_(Handle *self, PyObject *v) {
    struct gp_object *o = handle_object(self);
    int64_t x;
    if (!o || atomic_value(o, v, &x) < 0 || tick() < 0) return NULL;
    atomic_store(&o->value, x);
    Py_RETURN_NONE;
}

static PyObject *atomic_swap_(Handle *self, PyObject *v) {
    struct gp_object *o = handle_object(self);
    int64_t x;
    if (!o || atomic_value(o, v, &x) < 0 || tick() < 0) return NULL;
    return atomic_result(o, atomic_exchange(&o->value, x));
}

static PyObject *atomic_cas_(Handle *self, PyObject *const *args, Py_ssize_t nargs) {
    struct gp_object *o = handle_object(self);
    int64_t old, new_;
    if (!o) return NULL;
    if (nargs != 2) return PyErr_Format(PyExc_TypeError, "cas() takes old and new");
    if (atomic_value(o, args[0], &old) < 0 || atomic_value(o, args[1], &new_) < 0 || tick() < 0) return NULL;
    return PyBool_FromLong(atomic_compare_exchange_strong(&o->value, &old, new_));
}

static int number_only(struct gp_object *o, const char *name) {
    if (!(gp_get(&o->flags) & GP_OBJ_BOOL)) return 0;
    PyErr_Format(PyExc_TypeError, "%s needs an Atomic that holds an int", name);
    return -1;
}

static PyObject *atomic_add_(Handle *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"n", NULL};
    PyObject *n = NULL;
    struct gp_object *o = handle_object(self);
    int64_t x = 1;
    if (!o || !PyArg_ParseTupleAndKeywords(args, kwargs, "|O:add", names, &n) || number_only(o, "add()") < 0) return NULL;
    if ((n && atomic_value(o, n, &x) < 0) || tick() < 0) return NULL;
    int64_t old = atomic_load(&o->value), sum;
    do {
        if (__builtin_add_overflow(old, x, &sum))
            return PyErr_Format(PyExc_OverflowError, "an Atomic holds 64 bits: %lld + %lld does not fit", (long long)old, (long long)x);
    } while (!atomic_compare_exchange_weak(&o->value, &old, sum));
    return PyLong_FromLongLong(sum);
}

static PyObject *atomic_and_(Handle *self, PyObject *v) {
    struct gp_object *o = handle_object(self);
    int64_t x;
    if (!o || number_only(o, "and_()") < 0 || atomic_value(o, v, &x) < 0 || tick() < 0) return NULL;
    return PyLong_FromLongLong(atomic_fetch_and(&o->value, x));
}

static PyObject *atomic_or_(Handle *self, PyObject *v) {
    struct gp_object *o = handle_object(self);
    int64_t x;
    if (!o || number_only(o, "or_()") < 0 || atomic_value(o, v, &x) < 0 || tick() < 0) return NULL;
    return PyLong_FromLongLong(atomic_fetch_or(&o->value, x));
}

static PyMethodDef atomic_methods[] = {
    {"load", (PyCFunction)atomic_load_, METH_NOARGS, PyDoc_STR("load($self, /)\n--\n\nThe value.")},
    {"store", (PyCFunction)atomic_store_, METH_O, PyDoc_STR("store($self, value, /)\n--\n\nSet the value.")},
    {"swap", (PyCFunction)atomic_swap_, METH_O, PyDoc_STR("swap($self, value, /)\n--\n\nSet the value; return the old one.")},
    {"cas", METHOD(atomic_cas_), METH_FASTCALL,
     PyDoc_STR("cas($self, old, new, /)\n--\n\nSet the value to new if it is old; tell whether it was.")},
    {"add", METHOD(atomic_add_), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("add($self, /, n=1)\n--\n\nAdd n; return the new value.\n\nRaises:\n    OverflowError: it would not fit 64 bits.")},
    {"and_", (PyCFunction)atomic_and_, METH_O, PyDoc_STR("and_($self, mask, /)\n--\n\nvalue &= mask; return the old value.")},
    {"or_", (PyCFunction)atomic_or_, METH_O, PyDoc_STR("or_($self, mask, /)\n--\n\nvalue |= mask; return the old value.")},
    {NULL, NULL, 0, NULL},
};

PyTypeObject AtomicType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.Atomic",
    .tp_base = &HandleType,
    .tp_basicsize = sizeof(Handle),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = atomic_new,
    .tp_methods = atomic_methods,
};

/* ---- Outcome: what a Goroutine handle is underneath */

static PyObject *outcome_wait(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *timeout;
    if (parse_timeout(args, nargs, kwnames, 0, "join()", &timeout) < 0 || checkpoint() < 0) return NULL;
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    struct wait_spec w = {.handle = (PyObject *)self, .timeout = timeout, .reason = reason_join};
    if (wait_done(self, o, &w) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *outcome_take(Handle *self, PyObject *unused) {
    (void)unused;
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    uint32_t state = gp_acquire(&o->state);
    if (state < GP_G_OK) return PyErr_Format(PyExc_RuntimeError, "the goroutine has not ended");
    atomic_store(&o->value, 1); /* somebody has seen it */
    PyObject *v = o->ring ? message_decode((struct gp_message *)gp_payload(o->ring), true) : Py_NewRef(Py_None);
    return v ? Py_BuildValue("(IN)", state, v) : NULL;
}

static PyObject *outcome_id(Handle *self, void *unused) {
    (void)unused;
    struct gp_object *o = handle_object(self);
    return o ? PyLong_FromUnsignedLongLong(gp_get(&o->id)) : NULL;
}

static PyObject *outcome_state(Handle *self, void *unused) {
    (void)unused;
    struct gp_object *o = handle_object(self);
    return o && tick() == 0 ? PyLong_FromUnsignedLong(gp_acquire(&o->state)) : NULL;
}

static PyObject *outcome_proc(Handle *self, void *unused) {
    (void)unused;
    struct gp_object *o = handle_object(self);
    return o ? PyLong_FromLong((long)gp_acquire(&o->proc) - 1) : NULL;
}

static PyObject *outcome_cancel(Handle *self, PyObject *unused) {
    (void)unused;
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    uint16_t before = atomic_fetch_or(&o->flags, GP_OBJ_CANCEL);
    if (before & GP_OBJ_CANCEL || gp_acquire(&o->state) >= GP_G_OK) Py_RETURN_FALSE;
    uint32_t proc = gp_get(&o->proc); /* 0: not started; whoever starts it sees the flag */
    if (proc && proc <= gp.nprocs) gp_nudge(proc - 1);
    Py_RETURN_TRUE;
}

static PyMethodDef outcome_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {"cancel", (PyCFunction)outcome_cancel, METH_NOARGS,
     PyDoc_STR("cancel($self, /)\n--\n\nRaise Cancelled in the goroutine at its next blocking point.\n\n"
               "Returns whether this call did it: False if it has ended or was cancelled before.")},
    {"_join", METHOD(outcome_wait), METH_FASTCALL | METH_KEYWORDS, PyDoc_STR("Block until the goroutine ended.")},
    {"_take", (PyCFunction)outcome_take, METH_NOARGS, PyDoc_STR("(state, value) of an ended goroutine; marks it as read.")},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef outcome_getset[] = {
    {"id", (getter)outcome_id, NULL, PyDoc_STR("The goroutine's number; main is 1."), NULL},
    {"_state", (getter)outcome_state, NULL, NULL, NULL},
    {"_proc", (getter)outcome_proc, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject OutcomeType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.Outcome",
    .tp_base = &HandleType,
    .tp_basicsize = sizeof(Handle),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_methods = outcome_methods,
    .tp_getset = outcome_getset,
};
