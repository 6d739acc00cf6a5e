/* select_type.c - select for Python: its arguments, and its result.
 *
 * A case is recognised without calling anything: a channel, a bound method of one (`ch.recv`), a pair of such
 * a method and a value. Values to be sent are serialised before any lock is taken, and dropped again if
 * another case wins.
 */
#include "python.h"

#include <structseq.h>

#define FEW 8 /* cases whose memory is on the stack of select() */

static PyTypeObject *selected_type;
static PyObject *default_case; /* goproc.default */

/* ---- the meaning of an argument */

/* The slot is inherited; PyObject_TypeCheck() would walk the bases of goproc.Chan, of which most are. */
static bool is_channel(PyObject *x) {
    return Py_TYPE(x)->tp_iternext == ChannelType.tp_iternext || PyObject_TypeCheck(x, &ChannelType);
}

static bool method_of(PyObject *f, PyCFunction is) {
    return PyCFunction_Check(f) && PyCFunction_GET_FUNCTION(f) == is;
}

static int bad_case(PyObject *arg, Py_ssize_t number, const char *why) { /* -1, with an exception */
    PyErr_Format(PyExc_TypeError, "reflect.Select: invalid Dir: case %zd is %.100s %s", number,
                 Py_TYPE(arg)->tp_name, why);
    return -1;
}

/* True for a pair of that method and a value. */
static bool pair_of(PyObject *arg, PyCFunction is) {
    return PyTuple_Check(arg) && PyTuple_GET_SIZE(arg) == 2 && method_of(PyTuple_GET_ITEM(arg, 0), is);
}

static int receive_case(struct item *it, PyObject *channel) {
    it->kind = GP_RECV;
    it->target = (Handle *)channel;
    return channel_need(it->target, DIR_RECV);
}

static int send_case(struct item *it, PyObject *pair) {
    it->kind = GP_SEND;
    it->target = (Handle *)PyCFunction_GET_SELF(PyTuple_GET_ITEM(pair, 0));
    it->value = PyTuple_GET_ITEM(pair, 1);
    return channel_need(it->target, DIR_SEND);
}

static int done_case(struct item *it, PyObject *handle) {
    it->kind = GP_DONE;
    it->target = (Handle *)handle;
    return 0;
}

static int acquire_case(struct item *it, PyObject *method, PyObject *units) {
    it->kind = GP_ACQUIRE;
    it->target = (Handle *)PyCFunction_GET_SELF(method);
    long long n = units ? PyLong_AsLongLong(units) : 1;
    if (n == -1 && PyErr_Occurred()) return -1;
    if (n < 0) {
        PyErr_Format(PyExc_ValueError, "select: case %u acquires a negative number of units", it->number);
        return -1;
    }
    it->n = (uint64_t)n;
    return 0;
}

/* A timer, a context or any other object that Python has a channel for. */
static int other_case(struct item *it, PyObject *arg, PyObject **keep) {
    PyObject *channel = handles_connect() < 0 ? NULL : PyObject_CallOneArg(hooks.case_of, arg);
    if (!channel) return -1;
    if (!PyObject_TypeCheck(channel, &ChannelType)) {
        Py_DECREF(channel);
        return bad_case(
            arg, it->number,
            "and none of ch, ch.recv, (ch.send, value), a goroutine, a timer, a context, default");
    }
    *keep = channel;
    return receive_case(it, channel);
}

/* 0 a case, 1 default, -1 an exception. References are the caller's, but for *keep, which is a new one or
 * NULL. */
int select_parse(PyObject *arg, Py_ssize_t number, struct item *it, PyObject **keep) {
    it->value = NULL;
    it->n = 1;
    it->number = (uint32_t)number;
    if (is_channel(arg)) return receive_case(it, arg);
    if (method_of(arg, channel_recv_method) || method_of(arg, channel_recv_ok_method))
        return receive_case(it, PyCFunction_GET_SELF(arg));
    if (pair_of(arg, channel_send_method)) return send_case(it, arg);
    if (arg == default_case) return 1;
    if (PyObject_TypeCheck(arg, &OutcomeType) || PyObject_TypeCheck(arg, &WaitGroupType))
        return done_case(it, arg);
    if (method_of(arg, waitgroup_wait_method)) return done_case(it, PyCFunction_GET_SELF(arg));
    if (method_of(arg, semaphore_acquire_method)) return acquire_case(it, arg, NULL);
    if (pair_of(arg, semaphore_acquire_method))
        return acquire_case(it, PyTuple_GET_ITEM(arg, 0), PyTuple_GET_ITEM(arg, 1));
    if (method_of(arg, channel_send_method))
        return bad_case(arg, number, "without a value: a send case is (ch.send, value)");
    return other_case(it, arg, keep);
}

/* refuse_stale(*objects): the same for handles, and for methods of handles, in any use */
static PyObject *core_refuse_stale(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n) {
    for (Py_ssize_t i = 0; !gp.base && i < n; i++) {
        PyObject *o = PyCFunction_Check(args[i]) ? PyCFunction_GET_SELF(args[i])
                      : PyMethod_Check(args[i])  ? PyMethod_GET_SELF(args[i])
                                                 : args[i];
        if (o && PyObject_TypeCheck(o, &HandleType) && ((Handle *)o)->ref && !handle_object((Handle *)o))
            return NULL;
    }
    Py_RETURN_NONE;
}

/* Where no runtime runs, each handle is of one that has stopped. Raising that must not start another
 * runtime. */
int select_refuse_stale(PyObject *const *args, Py_ssize_t n) {
    for (Py_ssize_t i = 0; GP_UNLIKELY(!gp.base) && i < n; i++) {
        struct item it = {.target = NULL};
        PyObject *keep = NULL;
        int r = select_parse(args[i], i, &it, &keep);
        if (r == 0 && it.target && it.target->ref && !handle_object(it.target)) r = -1;
        Py_XDECREF(keep);
        if (r < 0) return -1;
    }
    return 0;
}

/* ---- doing it */

/* PyStructSequence_New() and its destructor look up the number of fields in the type's dict, four times an
 * object: that was a quarter of a select. So both are done here in the same way, without the lookups. */
#define FIELDS 3

static PyObject *selected(Py_ssize_t index, PyObject *value, bool ok) { /* takes the reference to value */
    PyObject *i = value ? PyLong_FromSsize_t(index) : NULL;
    PyStructSequence *r = i ? PyObject_GC_NewVar(PyStructSequence, selected_type, FIELDS) : NULL;
    if (!r) {
        Py_XDECREF(value);
        Py_XDECREF(i);
        return NULL;
    }
    r->ob_item[0] = i;
    r->ob_item[1] = value;
    r->ob_item[2] = Py_NewRef(ok ? Py_True : Py_False);
    if (PyObject_IS_GC(value)) PyObject_GC_Track(r);
    return (PyObject *)r;
}

static void selected_dealloc(PyStructSequence *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    for (int i = 0; i < FIELDS; i++) Py_XDECREF(self->ob_item[i]);
    type->tp_free(self);
    Py_DECREF(type);
}

void select_drop_values(struct gp_case *cases, uint32_t n, int64_t but) {
    for (uint32_t i = 0; i < n; i++)
        if (cases[i].kind == GP_SEND && i != but && cases[i].m.block) gp_message_drop(&cases[i].m);
}

int select_fill(const struct item *items, struct gp_select *s) {
    for (uint32_t i = 0; i < s->n; i++) {
        struct gp_case *c = &s->cases[i];
        Handle *h = items[i].target;
        c->kind = items[i].kind;
        c->n = items[i].n;
        c->since = 0;
        c->sudog = 0;
        c->woken = false;
        c->o = NULL;
        c->m.block = 0;
        bool live = h->ref && !(items[i].kind == GP_ACQUIRE && gp.base && h->run == gp.run &&
                                items[i].n > gp_get(&((struct gp_object *)gp_at(h->ref))->size));
        if ((live && !(c->o = handle_object(h))) ||
            (c->kind == GP_SEND && live && message_encode(items[i].value, &c->m) < 0)) {
            select_drop_values(s->cases, i, -1);
            return -1;
        }
    }
    return 0;
}

PyObject *select_result(const struct item *items, struct gp_select *s, int64_t chosen, enum gp_result r) {
    struct gp_case *c = &s->cases[chosen];
    Py_ssize_t number = items[chosen].number;
    if (c->kind == GP_SEND && r == GP_CLOSED) return channel_closed("send on closed channel");
    if (c->kind != GP_RECV) return selected(number, Py_NewRef(Py_None), true);
    if (r == GP_CLOSED) return selected(number, Py_NewRef(Py_None), false);
    return selected(number, message_decode(&c->m, false), true);
}

enum { NONE_READY = -1, RAISED = -2 };

/* Do a case that can be done at once: its position, or one of the above. */
static int64_t try_cases(struct gp_select *s, enum gp_result *r) {
    if (s->n == 0) return NONE_READY;
    if (s->n == 1 && s->cases[0].o) return (*r = gp_case_try(&s->cases[0])) == GP_BLOCK ? NONE_READY : 0;
    if (s->n >= GP_JOURNAL_LOCKS && !s->spill && !(s->spill = alloc_for(GP_FOR_TABLES, 4ULL * s->n, 0))) {
        raise_memory(4ULL * s->n, "a select over so many channels");
        return RAISED;
    }
    return gp_select(s, -1, r);
}

static int64_t wait_for_case(const struct item *items, struct gp_select *s, PyObject *timeout,
                             enum gp_result *r) {
    struct gp_case none = {.kind = GP_FOREVER};
    struct gp_select forever = {.cases = &none, .n = 1};
    struct wait_spec w = {.timeout = timeout,
                          .reason = s->n ? reason_select : reason_select_none,
                          .handle = s->n == 1 ? (PyObject *)items[0].target : NULL};
    return wait_cases(s->n ? s : &forever, &w, r);
}

PyObject *select_perform(struct item *items, struct gp_select *s, Py_ssize_t default_at, PyObject *timeout) {
    uint64_t run = gp.run;
    enum gp_result r = GP_BLOCK;
    if (select_fill(items, s) < 0) return NULL;
    int64_t chosen = try_cases(s, &r);
    if (chosen == NONE_READY && default_at >= 0) {
        select_drop_values(s->cases, s->n, -1);
        return selected(default_at, Py_NewRef(Py_None), false);
    }
    if (chosen == NONE_READY) chosen = wait_for_case(items, s, timeout, &r);
    if (!gp.base || run != gp.run) return NULL;
    select_drop_values(s->cases, s->n, r == GP_OK ? chosen : -1);
    return chosen < 0 ? NULL : select_result(items, s, chosen, r);
}

/* The timeout of a call of select(), whose positional arguments are its cases: 0, or -1 and an exception. */
static int parse_keywords(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **timeout) {
    *timeout = NULL;
    if (!kwnames || PyTuple_GET_SIZE(kwnames) == 0) return 0;
    return parse_timeout(args + nargs, 0, kwnames, 0, "select()", timeout);
}

PyObject *select_too_many(void) {
    PyErr_Format(PyExc_ValueError, "reflect.Select: too many cases (max %d)", SELECT_MOST);
    return NULL;
}

int select_two_defaults(void) {
    PyErr_SetString(PyExc_ValueError, "reflect.Select: multiple default cases");
    return -1;
}

/* The memory of one select(): on the stack for a few cases, else from the heap. */
struct select_frame {
    struct item *items, few_items[FEW];
    struct gp_case few_cases[FEW];
    uint32_t few_orders[2 * FEW]; /* of examining the cases, and of locking their objects */
    struct gp_select s;
    PyObject *kept;        /* list of channels that parsing has made, or NULL */
    Py_ssize_t default_at; /* -1: there is no default case */
    uint64_t run;          /* the run of the runtime that `s.spill` belongs to */
};

static int frame_init(struct select_frame *f, Py_ssize_t count) {
    f->items = f->few_items;
    f->s = (struct gp_select){.cases = f->few_cases, .poll = f->few_orders, .lock = f->few_orders + FEW};
    f->kept = NULL;
    f->default_at = -1;
    f->run = gp.run;
    if (GP_LIKELY(count <= FEW)) return 0;
    f->items = PyMem_Malloc((size_t)count * sizeof *f->items);
    f->s.cases = PyMem_Malloc((size_t)count * sizeof *f->s.cases);
    f->s.poll = PyMem_Malloc(2 * (size_t)count * sizeof *f->s.poll);
    f->s.lock = f->s.poll + count;
    if (f->items && f->s.cases && f->s.poll) return 0;
    PyErr_NoMemory(); /* frame_clear() frees the rest */
    return -1;
}

static int frame_keep(struct select_frame *f, PyObject *made) { /* takes the reference */
    int r = f->kept || (f->kept = PyList_New(0)) ? PyList_Append(f->kept, made) : -1;
    Py_DECREF(made);
    return r;
}

static int frame_parse(struct select_frame *f, PyObject *const *args, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *made = NULL;
        int r = select_parse(args[i], i, &f->items[f->s.n], &made);
        if ((made && frame_keep(f, made) < 0) || r < 0) return -1;
        if (r == 0) f->s.n++;
        else if (f->default_at >= 0) return select_two_defaults();
        else f->default_at = i;
    }
    return 0;
}

static void frame_clear(struct select_frame *f) {
    if (f->s.spill && gp.base && f->run == gp.run) gp_free(f->s.spill);
    Py_XDECREF(f->kept);
    if (GP_LIKELY(f->s.cases == f->few_cases)) return;
    PyMem_Free(f->items);
    PyMem_Free(f->s.cases);
    PyMem_Free(f->s.poll);
}

static PyObject *core_select(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames) {
    struct select_frame f;
    PyObject *timeout, *result = NULL;
    if (parse_keywords(args, nargs, kwnames, &timeout) < 0 || checkpoint() < 0) return NULL;
    if (select_refuse_stale(args, nargs) < 0 || handle_ready() < 0) return NULL;
    if (nargs > SELECT_MOST) return select_too_many();
    if (frame_init(&f, nargs) == 0 && frame_parse(&f, args, nargs) == 0)
        result = select_perform(f.items, &f.s, f.default_at, timeout);
    frame_clear(&f);
    return result;
}

/* ---- default and Selected */

static PyObject *default_repr(PyObject *Py_UNUSED(self)) { return PyUnicode_FromString("goproc.default"); }

static PyObject *default_reduce(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyUnicode_FromString("default");
}

static PyMethodDef default_methods[] = {{"__reduce__", default_reduce, METH_NOARGS, NULL},
                                        {NULL, NULL, 0, NULL}};

static PyTypeObject DefaultType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.Default",
    .tp_doc =
        PyDoc_STR("The type of goproc.default, the case of a select that is chosen if no other is ready."),
    .tp_basicsize = sizeof(PyObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_repr = default_repr,
    .tp_methods = default_methods,
};

int select_types_ready(PyObject *module) {
    static PyStructSequence_Field fields[] = {
        {"index", "Which case it was: its place among the arguments."},
        {"value", "What was received; None for any other kind of case."},
        {"ok", "False for a receive from a closed channel, and for default."},
        {NULL, NULL},
    };
    static PyStructSequence_Desc desc = {"goproc.Selected", "What select() returns: (index, value, ok).",
                                         fields, FIELDS};
    if (!selected_type) {
        if (!(selected_type = PyStructSequence_NewType(&desc))) return -1;
        selected_type->tp_dealloc = (destructor)selected_dealloc;
    }
    if (PyType_Ready(&DefaultType) < 0 || PyType_Ready(&SelectorType) < 0) return -1;
    if (!default_case && !(default_case = DefaultType.tp_alloc(&DefaultType, 0))) return -1;
    return PyModule_AddObjectRef(module, "Selected", (PyObject *)selected_type) < 0 ||
                   PyModule_AddObjectRef(module, "default", default_case) < 0 ||
                   PyModule_AddObjectRef(module, "Selector", (PyObject *)&SelectorType) < 0
               ? -1
               : 0;
}

PyMethodDef select_functions[] = {
    {"refuse_stale", METHOD(core_refuse_stale), METH_FASTCALL,
     PyDoc_STR(
         "Raise RuntimeStopped if one of the objects is a handle, or a method of one, and no runtime runs.")},
    {"select", METHOD(core_select), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("select($module, /, *cases, timeout=None)\n--\n\n"
               "Wait until one of several operations is possible, and do that one: Go's select.\n\n"
               "Args:\n"
               "    cases: each a channel or its recv (receive), (ch.send, value) (send), a goroutine's "
               "handle or a WaitGroup\n"
               "        (ready when ended or at zero), (sem.acquire, n), a Timer, Ticker or Context, or "
               "default: chosen when no\n"
               "        other case is ready at that instant. Nil channels are never ready. Without a case it "
               "blocks for ever.\n"
               "    timeout: seconds to wait at most; None waits for ever.\n\n"
               "Returns:\n"
               "    Selected(index, value, ok): the case's place among the arguments, the received value, "
               "and True if there\n"
               "    was one (False: the channel is closed and drained, or the case was default).\n\n"
               "Raises:\n"
               "    ChanClosed: a send case was chosen whose channel is closed.\n"
               "    TimeoutError: time is up; nothing was done.\n"
               "    PickleError, OutOfSharedMemory: as send(); nothing was done.\n"
               "    TypeError, ValueError: an argument is no case.\n\n"
               "The choice is uniformly random among the ready cases, and one atomic step across all "
               "processes; a channel may\n"
               "be in several cases, and in selects at its other end.\n\n"
               "Cost: about 0.15 us for two ready cases; to block, about 0.1 us more a case than a receive. "
               "See Selector.")},
    {NULL, NULL, 0, NULL},
};
