/* watch.c - waiting for any of many goroutines to end, again and again: the base of as_completed().
 *
 * A select queues at each of its n outcomes and leaves all of them when one has ended, so n ends cost n * n.
 * A Watch stays queued. Each outcome has a waiter of its own in it, in which no goroutine sleeps
 * (GP_WATCHED). The process that ends the goroutine fires that waiter as any other, and pushes it on the
 * stack of the Watch's one collecting waiter. The caller takes the whole stack at once. So an end costs O(1)
 * on either side, and ends that come while the caller is busy come as a batch.
 *
 *     end of a goroutine:  CAS waiter -> FIRED; push it; CAS collector -> FIRED; tell
 *     caller:              arm the collector; is the stack empty? sleep
 *
 * The first runs under the lock of the outcome. The argument that no end is missed is that of tell.c.
 *
 * A process that has popped a waiter takes the lock of its outcome once: then its teller is done with it and
 * with the collector, and both may be used again. The truth is in the state of the waiters. The stack is
 * complete but for tellers that have died between their CAS and their push: after a death this process looks
 * for these (gp_watched_again()).
 */
#include "python.h"

struct watched {
    Handle *handle;
    uint32_t waiter;
};

typedef struct {
    PyObject_HEAD
    uint64_t run;            /* of the runtime it belongs to */
    int64_t collector;       /* the waiter that the caller sleeps in; -1: none yet */
    struct watched *pending; /* waiters in the order of their `place` */
    Handle **ended;          /* taken from the stack, the oldest last; as much room as `pending` has */
    uint32_t n, n_ended, room;
    bool busy;
} Watch;

static bool live(const Watch *self) { return gp.base && self->run == gp.run; }

static struct gp_case case_of(const struct watched *w) {
    return (struct gp_case){
        .o = gp_at(w->handle->ref), .kind = GP_DONE, .sudog = gp_sudog_ref(gp.proc, w->waiter)};
}

/* ---- adding */

static int make_room(Watch *self) {
    if (self->n + self->n_ended < self->room) return 0;
    uint32_t room = self->room ? 2 * self->room : 16;
    struct watched *pending = PyMem_Realloc(self->pending, room * sizeof *pending);
    if (pending) self->pending = pending;
    Handle **ended = pending ? PyMem_Realloc(self->ended, room * sizeof *ended) : NULL;
    if (!ended) {
        PyErr_NoMemory();
        return -1;
    }
    self->ended = ended;
    self->room = room;
    return 0;
}

static int ready(Watch *self) {
    if (self->collector >= 0 && !live(self)) {
        PyErr_SetString(hooks.stopped, "the goproc runtime of these goroutines stopped");
        return -1;
    }
    if (self->collector >= 0) return 0;
    if (handle_ready() < 0) return -1;
    self->run = gp.run;
    int64_t slot = gp_waiter_alloc(false);
    if (slot < 0) {
        raise_no_waiter(slot, 1);
        return -1;
    }
    self->collector = slot;
    gp_set(&gp_waiter_at(gp.proc, (uint32_t)slot)->fired, 0);
    return 0;
}

static PyObject *watch_add(Watch *self, PyObject *handle) {
    if (!PyObject_TypeCheck(handle, &OutcomeType))
        return PyErr_Format(PyExc_TypeError, "add() takes the handle of a goroutine, not %.100s",
                            Py_TYPE(handle)->tp_name);
    if (tick() < 0) return NULL;
    struct gp_object *o = handle_object((Handle *)handle);
    if (!o || ready(self) < 0) return NULL;
    if (gp_is_done(o)) Py_RETURN_FALSE;
    if (make_room(self) < 0) return NULL;
    int64_t slot = gp_waiter_alloc(false);
    if (slot < 0) return raise_no_waiter(slot, 1);
    struct watched *w = &self->pending[self->n];
    struct gp_waiter *waiter = gp_waiter_at(gp.proc, (uint32_t)slot);
    *w = (struct watched){(Handle *)handle, (uint32_t)slot};
    waiter->place = self->n;
    gp_watched((uint32_t)slot, (uint32_t)self->collector);
    struct gp_case c = {.o = o, .kind = GP_DONE};
    if (gp_case_try_or_wait(&c, w->waiter) != GP_BLOCK) {
        gp_waiter_release(w->waiter);
        Py_RETURN_FALSE;
    }
    Py_INCREF(handle);
    self->n++;
    Py_RETURN_TRUE;
}

/* ---- taking */

static void collect(Watch *self) {
    struct gp_waiter *collector = gp_waiter_at(gp.proc, (uint32_t)self->collector);
    for (uint32_t top = atomic_exchange(&collector->fired, 0); top;) {
        struct gp_waiter *waiter = gp_waiter_at(gp.proc, top - 1);
        if (waiter->place >= self->n) gp_damaged("a place in a set of waiters", waiter->place);
        struct watched *w = &self->pending[waiter->place];
        top = gp_get(&waiter->next);
        struct gp_case c = case_of(w);
        gp_case_settled(&c, w->waiter, false);
        gp_waiter_release(w->waiter);
        self->ended[self->n_ended++] = w->handle;
        *w = self->pending[--self->n];
        gp_waiter_at(gp.proc, w->waiter)->place = (uint32_t)(w - self->pending);
    }
}

static bool any_ended(const Watch *self) {
    return self->n_ended ||
           (self->collector >= 0 && gp_get(&gp_waiter_at(gp.proc, (uint32_t)self->collector)->fired));
}

static int usable(Watch *self) { /* nothing added yet is no error */
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "another goroutine waits in this Watch");
        return -1;
    }
    return self->collector < 0 ? 0 : ready(self);
}

static PyObject *watch_ended(Watch *self, PyObject *Py_UNUSED(unused)) {
    return checkpoint() < 0 || usable(self) < 0 ? NULL : PyBool_FromLong(any_ended(self));
}

static PyObject *watch_take(Watch *self, PyObject *Py_UNUSED(unused)) {
    if (checkpoint() < 0 || usable(self) < 0) return NULL;
    if (self->n_ended == 0 && self->collector >= 0) collect(self);
    if (self->n_ended == 0) Py_RETURN_NONE;
    return (PyObject *)self->ended[--self->n_ended];
}

static PyObject *watch_wait(Watch *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *timeout;
    if (parse_timeout(args, nargs, kwnames, 0, "wait()", &timeout) < 0 || checkpoint() < 0 ||
        usable(self) < 0)
        return NULL;
    if (any_ended(self)) Py_RETURN_TRUE;
    if (ready(self) < 0) return NULL;
    struct wait_spec w = {.timeout = timeout, .reason = reason_completed};
    self->busy = true;
    int r = wait_fired((uint32_t)self->collector, &w);
    self->busy = false;
    return r < 0 ? NULL : PyBool_FromLong(r);
}

/* ---- the end */

static void leave_queues(Watch *self) {
    if (self->collector < 0 || !live(self)) return;
    for (uint32_t i = 0; i < self->n; i++) {
        struct gp_case c = case_of(&self->pending[i]);
        if (gp_waiter_cancel(self->pending[i].waiter)) gp_case_abandon(&c);
        else gp_case_settled(&c, self->pending[i].waiter, false);
        gp_waiter_release(self->pending[i].waiter);
    }
    gp_set(&gp_waiter_at(gp.proc, (uint32_t)self->collector)->fired, 0);
    gp_waiter_release((uint32_t)self->collector);
}

static int watch_clear(Watch *self) {
    leave_queues(self);
    struct watched *pending = self->pending; /* dropping a handle may run anything, also this again */
    Handle **ended = self->ended;
    uint32_t n = self->n, n_ended = self->n_ended;
    self->pending = NULL;
    self->ended = NULL;
    self->n = self->n_ended = self->room = 0;
    self->collector = -1;
    for (uint32_t i = 0; i < n; i++) Py_DECREF(pending[i].handle);
    for (uint32_t i = 0; i < n_ended; i++) Py_DECREF(ended[i]);
    PyMem_Free(pending);
    PyMem_Free(ended);
    return 0;
}

static PyObject *watch_close(Watch *self, PyObject *Py_UNUSED(unused)) {
    if (self->busy && live(self)) return usable(self) < 0 ? NULL : Py_NewRef(Py_None);
    watch_clear(self);
    Py_RETURN_NONE;
}

static int watch_traverse(Watch *self, visitproc visit, void *arg) {
    for (uint32_t i = 0; i < self->n; i++) Py_VISIT(self->pending[i].handle);
    for (uint32_t i = 0; i < self->n_ended; i++) Py_VISIT(self->ended[i]);
    return 0;
}

static void watch_dealloc(Watch *self) {
    PyObject_GC_UnTrack(self);
    watch_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *watch_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    if (PyTuple_GET_SIZE(args) || (kwargs && PyDict_GET_SIZE(kwargs)))
        return PyErr_Format(PyExc_TypeError, "Watch() takes no arguments");
    Watch *self = (Watch *)type->tp_alloc(type, 0);
    if (self) self->collector = -1;
    return (PyObject *)self;
}

static PyMethodDef watch_methods[] = {
    {"add", (PyCFunction)watch_add, METH_O,
     PyDoc_STR("Watch one more goroutine; False: it has ended, and is not watched.")},
    {"ended", (PyCFunction)watch_ended, METH_NOARGS, PyDoc_STR("True if take() has one to return.")},
    {"take", (PyCFunction)watch_take, METH_NOARGS,
     PyDoc_STR("The goroutine that ended first of those not taken yet, or None.")},
    {"wait", METHOD(watch_wait), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("Wait until take() has one to return; False: time is up.")},
    {"close", (PyCFunction)watch_close, METH_NOARGS, PyDoc_STR("Watch nothing any more.")},
    {NULL, NULL, 0, NULL},
};

PyTypeObject WatchType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.Watch",
    .tp_doc = PyDoc_STR(
        "Tells which of many goroutines have ended. One goroutine or thread at a time waits in it."),
    .tp_basicsize = sizeof(Watch),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = watch_new,
    .tp_dealloc = (destructor)watch_dealloc,
    .tp_traverse = (traverseproc)watch_traverse,
    .tp_clear = (inquiry)watch_clear,
    .tp_methods = watch_methods,
};
