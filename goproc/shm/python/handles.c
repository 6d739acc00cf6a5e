/* handles.c - Python's references to objects in the segment.
 *
 * There is one Python object for each shared object in a process, so `is` and identity survive a round trip.
 * Its life is the process's holder bit: set when the handle is made, cleared when it dies. An object that was
 * never put into a message is freed with its handle. One that was may be in flight, so it is left to the
 * collector.
 */
#include "python.h"

struct gp_hooks hooks;

/* ref -> its Handle in this process, borrowed; open addressing, backward-shift deletion */
static struct {
    Handle **slot;
    uint32_t mask, used;
} table;

static uint32_t slot_of(gp_ref ref) { return (ref * 2654435761u) & table.mask; }

static Handle *find(gp_ref ref) {
    if (!table.slot) return NULL;
    for (uint32_t i = slot_of(ref); table.slot[i]; i = (i + 1) & table.mask)
        if (table.slot[i]->ref == ref) return table.slot[i];
    return NULL;
}

static void put(Handle *h) {
    uint32_t i = slot_of(h->ref);
    while (table.slot[i]) i = (i + 1) & table.mask;
    table.slot[i] = h;
    table.used++;
}

static int insert(Handle *h) {
    if (!table.slot || 2 * (table.used + 1) > table.mask + 1) {
        uint32_t old_size = table.slot ? table.mask + 1 : 0, size = old_size ? 2 * old_size : 256;
        Handle **old = table.slot, **fresh = PyMem_Calloc(size, sizeof *fresh);
        if (!fresh) {
            PyErr_NoMemory();
            return -1;
        }
        table.slot = fresh;
        table.mask = size - 1;
        table.used = 0;
        for (uint32_t i = 0; i < old_size; i++)
            if (old[i]) put(old[i]);
        PyMem_Free(old);
    }
    put(h);
    return 0;
}

static void erase(Handle *h) {
    uint32_t i = slot_of(h->ref);
    while (table.slot[i] != h) i = (i + 1) & table.mask;
    for (uint32_t j = i;;) {
        j = (j + 1) & table.mask;
        if (!table.slot[j]) break;
        uint32_t k = slot_of(table.slot[j]->ref);
        if (((j - k) & table.mask) >= ((j - i) & table.mask)) {
            table.slot[i] = table.slot[j];
            i = j;
        }
    }
    table.slot[i] = NULL;
    table.used--;
}

/* the reason why the last runtime ended by itself, for a use of its objects */
static struct {
    uint64_t run;
    char reason[GP_REASON];
} lost;

void handles_forget(void) {
    PyMem_Free(table.slot);
    memset(&table, 0, sizeof table);
    if (!atomic_load(&gp.lost)) return;
    lost.run = gp.run;
    memcpy(lost.reason, gp.head->reason, GP_REASON);
    lost.reason[GP_REASON - 1] = 0;
}

void raise_stopped(const char *what, uint64_t run) {
    bool known = run && run == lost.run && lost.reason[0];
    PyErr_Format(hooks.stopped, "%s%s%s", what, known ? ": " : "", known ? lost.reason : "");
}

uint32_t handles_live(void) { return table.used; }

int handles_connect(void) {
    if (GP_LIKELY(hooks.start != NULL)) return 0;
    PyObject *module = PyImport_ImportModule("goproc._wiring");
    Py_XDECREF(module);
    return module ? 0 : -1;
}

int handles_begin(void) {
    if (GP_LIKELY(hooks.start != NULL)) return 0;
    PyObject *module = PyImport_ImportModule("goproc._proc.begin");
    PyObject *r = module ? PyObject_CallMethod(module, "begin", NULL) : NULL;
    Py_XDECREF(module);
    Py_XDECREF(r);
    return r ? 0 : -1;
}

int handle_ready(void) {
    if (GP_LIKELY(gp.base != NULL && !atomic_load_explicit(&gp.lost, memory_order_relaxed))) return 0;
    if (gp.forked) {
        PyErr_SetString(
            PyExc_RuntimeError,
            "goproc cannot be used in a process made by os.fork(): start it with subprocess, or use go()");
        return -1;
    }
    if (handles_begin() < 0) return -1;
    PyObject *r = PyObject_CallNoArgs(hooks.start);
    if (!r) return -1;
    Py_DECREF(r);
    if (gp.base) return 0;
    PyErr_SetString(hooks.stopped, "the goproc runtime did not start");
    return -1;
}

struct gp_object *handle_object(Handle *h) {
    if (GP_UNLIKELY(h->run != gp.run || !gp.base)) {
        if (gp.forked) handle_ready();
        else {
            char what[128];
            PyOS_snprintf(what, sizeof what, "%.50s used after the goproc runtime it belongs to stopped",
                          Py_TYPE(h)->tp_name);
            raise_stopped(what, h->run);
        }
        return NULL;
    }
    struct gp_object *o = gp_at(h->ref);
    if (GP_UNLIKELY(gp_get(&o->gen) != h->gen)) {
        PyErr_Format(PyExc_RuntimeError, "%s no longer exists in shared memory (this is a bug in goproc)",
                     Py_TYPE(h)->tp_name);
        return NULL;
    }
    return o;
}

static void hold(struct gp_object *o) {
    atomic_fetch_or_explicit(&o->holders[gp.proc / 64], 1ULL << (gp.proc % 64), memory_order_acq_rel);
    atomic_fetch_add_explicit(&o->holders_version, 1, memory_order_acq_rel);
}

static PyObject *make(PyTypeObject *type, gp_ref ref, uint32_t gen, enum gp_kind kind) {
    Handle *h = (Handle *)type->tp_alloc(type, 0);
    if (!h) return NULL;
    h->ref = ref;
    h->gen = gen;
    h->run = ref ? gp.run : 0;
    h->kind = (uint8_t)kind;
    h->dir = DIR_BOTH;
    if (ref) {
        if (insert(h) < 0) {
            Py_DECREF(h);
            return NULL;
        }
        h->counted = true;
        hold(gp_at(ref));
    }
    return (PyObject *)h;
}

PyObject *handle_new(PyTypeObject *type, enum gp_kind kind) {
    if (handle_ready() < 0) return NULL;
    gp_ref ref = object_for(kind == GP_KIND_OUTCOME ? GP_FOR_TASKS : GP_FOR_VALUES, kind);
    if (!ref) return raise_memory(GP_PAGE, "a new channel or sync object");
    PyObject *h = make(type, ref, gp_get(&((struct gp_object *)gp_at(ref))->gen), kind);
    if (!h) gp_object_free(gp_at(ref));
    return h;
}

static PyObject *view_of(PyObject *whole, unsigned dir) {
    PyTypeObject *type = (PyTypeObject *)hooks.views[dir];
    Handle *v = (Handle *)type->tp_alloc(type, 0), *h = (Handle *)whole;
    if (!v) return NULL;
    v->ref = h->ref;
    v->gen = h->gen;
    v->run = h->run;
    v->kind = h->kind;
    v->dir = (uint8_t)dir;
    v->whole = Py_NewRef(whole);
    return (PyObject *)v;
}

PyObject *handle_for(gp_ref ref, uint32_t gen, enum gp_kind kind, unsigned dir) {
    PyObject *whole;
    if (ref == 0 && kind == GP_KIND_CHAN && hooks.nil) {
        if (dir == DIR_BOTH) return Py_NewRef(hooks.nil);
        return view_of(hooks.nil, dir);
    }
    Handle *known = ref ? find(ref) : NULL;
    if (known && known->gen == gen) {
        whole = Py_NewRef((PyObject *)known);
    } else {
        struct gp_object *o = gp_at(ref);
        if (kind >= GP_KINDS || !hooks.types[kind] ||
            (ref && (!gp_object_check(ref) || gp_get(&o->gen) != gen || gp_get(&o->kind) != kind || known))) {
            PyErr_SetString(PyExc_RuntimeError,
                            "a message names a channel or sync object that does not exist");
            return NULL;
        }
        whole = make((PyTypeObject *)hooks.types[kind], ref, gen, kind);
    }
    if (!whole || dir == DIR_BOTH || kind != GP_KIND_CHAN) return whole;
    PyObject *v = view_of(whole, dir);
    Py_DECREF(whole);
    return v;
}

/* An ended goroutine's object goes: its result with it, and an unread exception becomes a panic. A copy's
 * object goes with its value, which is kept like a result. */
static void drop_outcome(struct gp_object *o) {
    if (gp_get(&o->kind) == GP_KIND_OUTCOME && gp_get(&o->state) == GP_G_FAILED && gp_get(&o->value) == 0) {
        PyObject *failure = o->ring ? message_decode(gp_stored(o->ring), true) : Py_NewRef(Py_None);
        PyObject *r = failure ? PyObject_CallFunction(hooks.unread, "KOk", (unsigned long long)gp_get(&o->id),
                                                      failure, (unsigned long)o->site)
                              : NULL;
        if (!r) PyErr_WriteUnraisable(NULL);
        Py_XDECREF(r);
        Py_XDECREF(failure);
    }
    gp_outcome_drop(o);
}

static void hold_unread(struct gp_object *o, void *list) {
    PyObject *h =
        PyErr_Occurred() ? NULL : handle_for(gp_ref_of(o), gp_get(&o->gen), GP_KIND_OUTCOME, DIR_BOTH);
    if (h) PyList_Append(list, h);
    Py_XDECREF(h);
}

PyObject *handles_unread(void) {
    PyObject *list = PyList_New(0), *held = PyList_New(0);
    if (held) gp_unread_each(hold_unread, held);
    if (!held || PyErr_Occurred()) Py_CLEAR(list);
    for (Py_ssize_t i = 0; list && i < PyList_GET_SIZE(held); i++) {
        struct gp_object *o = gp_at(((Handle *)PyList_GET_ITEM(held, i))->ref);
        if (!gp_outcome_unread(o)) continue;
        PyObject *failure = o->ring ? message_decode(gp_stored(o->ring), true) : Py_NewRef(Py_None);
        PyObject *entry = failure ? Py_BuildValue("(KNk)", (unsigned long long)gp_get(&o->id), failure,
                                                  (unsigned long)o->site)
                                  : NULL;
        if (!entry || PyList_Append(list, entry) < 0) Py_CLEAR(list);
        Py_XDECREF(entry);
    }
    Py_XDECREF(held);
    return list;
}

static uint32_t collect(bool wait) {
    uint32_t freed = 0, more;
    enum gp_garbage garbage;
    do {
        freed += more = wait ? gp_collect_surely(drop_outcome) : gp_collect(drop_outcome);
        garbage = gp_garbage_dropped(); /* a freed object may have held the last message with a handle */
        wait = garbage == GP_A_FAILURE;
    } while (garbage != GP_NO_GARBAGE && more);
    return freed;
}

uint32_t collect_now(void) { return collect(false); }
uint32_t collect_surely(void) { return collect(true); }

/* Nudge the other holders of a copy. A process that keeps one for messages to come checks if any could still
 * send one. */
static void nudge_readers(struct gp_object *o) {
    for (uint32_t p = 0; p < gp_places(); p++)
        if (p != gp.proc && atomic_load(&o->holders[p / 64]) >> (p % 64) & 1) gp_nudge(p);
}

static bool is_counted(const Handle *h) { return h->counted && h->run == gp.run && gp.base; }

static void handle_dealloc(Handle *h) {
    PyObject_GC_UnTrack(h);
    /* first: a callback of a weak reference may receive the object, and then gets a handle of its own, which
     * takes the holder bit over */
    if (is_counted(h)) erase(h);
    if (h->weak) PyObject_ClearWeakRefs((PyObject *)h);
    if (is_counted(h) && !find(h->ref)) {
        struct gp_object *o = gp_at(h->ref);
        PyObject *type_, *value, *trace;
        PyErr_Fetch(&type_, &value, &trace);
        if (gp_get(&o->flags) & GP_OBJ_SHARED) {
            atomic_fetch_and_explicit(&o->holders[gp.proc / 64], ~(1ULL << (gp.proc % 64)),
                                      memory_order_acq_rel);
            if (h->kind == GP_KIND_COPY) nudge_readers(o);
            bool due = !h->passed_on && gp_dropped(o);
            if (gp_outcome_unread(o) && gp_unheld(o)) collect_surely();
            else if (due) collect_now();
        } else if (h->kind == GP_KIND_OUTCOME) {
            if (gp_outcome_release(o)) {
                drop_outcome(o);
                gp_object_free(o);
            }
        } else if (gp_get(&o->flags) & GP_OBJ_CONTEXT && h->kind == GP_KIND_CHAN && !gp_context_unlink(o)) {
            atomic_fetch_and_explicit(&o->holders[gp.proc / 64], ~(1ULL << (gp.proc % 64)),
                                      memory_order_acq_rel);
            atomic_fetch_or(&o->flags, GP_OBJ_SHARED); /* it has children: the collector's, after them */
            if (gp_dropped(o)) collect_now();
        } else {
            if (h->kind == GP_KIND_CHAN) gp_chan_drop(o);
            else if (h->kind == GP_KIND_COPY) drop_outcome(o);
            gp_object_free(o);
        }
        enum gp_garbage garbage = gp_garbage_dropped();
        if (GP_UNLIKELY(garbage != GP_NO_GARBAGE)) collect(garbage == GP_A_FAILURE);
        PyErr_Restore(type_, value, trace);
    }
    Py_CLEAR(h->whole);
    Py_TYPE(h)->tp_free(h);
}

static int handle_traverse(Handle *h, visitproc visit, void *arg) {
    Py_VISIT(h->whole);
    return 0;
}
static int handle_clear(Handle *h) {
    Py_CLEAR(h->whole);
    return 0;
}

static Py_hash_t handle_hash(Handle *h) {
    Py_hash_t x = (Py_hash_t)(h->run * 1000003u ^ ((uint64_t)h->gen << 32 | h->ref));
    return x == -1 ? -2 : x;
}

static PyObject *handle_compare(PyObject *a, PyObject *b, int op) {
    if ((op != Py_EQ && op != Py_NE) || !PyObject_TypeCheck(b, &HandleType)) Py_RETURN_NOTIMPLEMENTED;
    Handle *x = (Handle *)a, *y = (Handle *)b;
    bool same = x->ref == y->ref && x->gen == y->gen && (x->run == y->run || !x->ref);
    return PyBool_FromLong(same == (op == Py_EQ));
}

static PyObject *handle_reduce(Handle *h, PyObject *Py_UNUSED(unused)) {
    if (h->ref && !handle_object(h)) return NULL;
    if (h->ref && !message_log_handle(h)) {
        PyErr_Format(PyExc_TypeError,
                     "cannot pickle %s by itself: it lives in shared memory; pass it to go() or send it over "
                     "a channel",
                     Py_TYPE(h)->tp_name);
        return NULL;
    }
    PyObject *module = PyImport_ImportModule("goproc.shm._core");
    PyObject *f = module ? PyObject_GetAttrString(module, "_handle") : NULL;
    Py_XDECREF(module);
    return f ? Py_BuildValue("N(IIII)", f, (unsigned)h->ref, (unsigned)h->gen, (unsigned)h->kind,
                             (unsigned)h->dir)
             : NULL;
}

PyObject *handle_view(Handle *h, unsigned dir) {
    if (h->dir == dir) return Py_NewRef((PyObject *)h);
    if (h->dir == DIR_BOTH) return view_of((PyObject *)h, dir);
    PyErr_SetString(PyExc_TypeError, dir == DIR_SEND ? "cannot send to receive-only channel"
                                                     : "receive from send-only channel");
    return NULL;
}

static PyObject *handle_ref(Handle *h, void *Py_UNUSED(unused)) { return PyLong_FromUnsignedLong(h->ref); }

static PyGetSetDef handle_getset[] = {
    {"_ref", (getter)handle_ref, NULL, PyDoc_STR("Where the object is in the segment; 0: the nil channel."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyMethodDef handle_methods[] = {
    {"__reduce__", (PyCFunction)handle_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyTypeObject HandleType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.Handle",
    .tp_doc = PyDoc_STR("A reference to an object in shared memory: equal and hashable by identity."),
    .tp_basicsize = sizeof(Handle),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_dealloc = (destructor)handle_dealloc,
    .tp_traverse = (traverseproc)handle_traverse,
    .tp_clear = (inquiry)handle_clear,
    .tp_hash = (hashfunc)handle_hash,
    .tp_richcompare = handle_compare,
    .tp_weaklistoffset = offsetof(Handle, weak),
    .tp_methods = handle_methods,
    .tp_getset = handle_getset,
};
