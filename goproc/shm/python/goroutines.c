/* goroutines.c - goroutines as they are made at `go`: a handle, an outcome, and a task with the call. */
#include "python.h"

#include <unistd.h>

#define ID_BATCH 16u

uint64_t next_id(void) {
    static uint64_t at, end, run;
    if (run != gp.run || at == end) {
        at = atomic_fetch_add(&gp.head->next_id, ID_BATCH) + 1;
        end = at + ID_BATCH;
        run = gp.run;
    }
    return at++;
}

/* Make the handle, the outcome and the task block of a new goroutine. `labels`: bytes, or anything else for
 * none. */
static Handle *make(PyObject *type, PyObject *name, unsigned long site, unsigned long long parent,
                    PyObject *labels, gp_ref *task) {
    if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, &OutcomeType)) {
        PyErr_SetString(PyExc_TypeError, "the first argument must be a subclass of Outcome");
        return NULL;
    }
    Py_ssize_t n;
    const char *text = PyUnicode_AsUTF8AndSize(name, &n);
    if (!text) return NULL;
    Handle *h = (Handle *)handle_new((PyTypeObject *)type, GP_KIND_OUTCOME);
    if (!h) return NULL;
    size_t extra = labels && PyBytes_Check(labels) ? (size_t)PyBytes_GET_SIZE(labels) : 0;
    if (extra > GP_TASK_LABELS) extra = GP_TASK_LABELS;
    *task = alloc_for(GP_FOR_TASKS, sizeof(struct gp_task) + extra, GP_BLOCK_TASK);
    if (!*task) {
        Py_DECREF(h);
        raise_memory(sizeof(struct gp_task) + extra, "a goroutine");
        return NULL;
    }
    struct gp_object *o = gp_at(h->ref);
    struct gp_task *t = gp_task_at(*task);
    uint64_t id = next_id();
    gp_set(&o->id, id);
    o->task = *task;
    o->site = (gp_ref)site;
    t->id = id;
    /* a plain thread is no goroutine */
    t->parent = PyThread_get_thread_ident() == scheduler_thread ? parent : 0;
    t->object = h->ref;
    t->gen = h->gen;
    t->site = (gp_ref)site;
    t->creator = (uint16_t)gp.proc;
    t->pinned = GP_ANYWHERE;
    for (int i = 0; i < GP_TRACKERS; i++) gp_set(&t->tracker[i], 0);
    gp_set(&t->started, GP_UNMADE);
    if (n > (Py_ssize_t)GP_TASK_NAME - 1) n = GP_TASK_NAME - 1;
    memcpy(t->name, text, (size_t)n);
    t->name[n] = 0;
    memset(&t->call, 0, sizeof t->call);
    gp_set(&t->retries, 0);
    gp_set(&t->lost, 0);
    t->spare = 0;
    if (extra) memcpy(t + 1, PyBytes_AS_STRING(labels), extra);
    return h;
}

void task_free(gp_ref task) {
    gp_ref spare = gp_task_at(task)->spare;
    if (spare) gp_free(spare);
    gp_free(task);
}

/* nothing refers to the goroutine so far: its handle, object and task go */
static PyObject *give_up(Handle *h, gp_ref task) {
    task_free(task);
    gp_set(&((struct gp_object *)gp_at(h->ref))->state, GP_G_DEAD);
    Py_DECREF(h);
    return NULL;
}

/* The task is called off: no object is told of its end. Its place in a group is its creator's again. */
static void untrack(gp_ref task) {
    gp_set(&gp_task_at(task)->tracker[GP_TRACK_GROUP], 0);
    gp_order();
    gp_task_return_place(task);
    gp_task_leave(task);
}

static int count_in(gp_ref task, PyObject *group) {
    struct gp_object *o = handle_object((Handle *)group);
    if (o && gp_task_enter(task, o) == 0) return 0;
    if (o) PyErr_SetString(PyExc_OverflowError, "sync: WaitGroup counter overflow");
    return -1;
}

enum { GROUP_FLAGS = GP_TRACKERS, GROUP_ENDED, GROUP_FACTS };

/* A member: (WaitGroup, Semaphore, context, flags, mask). This process has a unit of the semaphore, which
 * becomes the member's. The flags are looked at once the member is counted: either a block that is left
 * meanwhile waits for it, or its flag is seen here. */
static int track_member(gp_ref task, PyObject *facts) {
    struct gp_object *objects[GROUP_FLAGS + 1];
    long ended = PyLong_AsLong(PyTuple_GET_ITEM(facts, GROUP_ENDED));
    if (ended == -1 && PyErr_Occurred()) return -1;
    for (int i = 0; i <= GROUP_FLAGS; i++) {
        PyObject *one = PyTuple_GET_ITEM(facts, i);
        objects[i] = PyObject_TypeCheck(one, &HandleType) ? handle_object((Handle *)one) : NULL;
        if (!objects[i] && !PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "a tracker is a handle");
        if (!objects[i]) return -1;
    }
    gp_set(&gp_task_at(task)->tracker[GP_TRACK_GROUP], gp_ref_of(objects[GP_TRACK_GROUP]));
    gp_order();
    if (count_in(task, PyTuple_GET_ITEM(facts, GP_TRACK_COUNT)) < 0) return -1;
    atomic_thread_fence(memory_order_seq_cst);
    if (gp_get(&objects[GROUP_FLAGS]->value) & ended) {
        untrack(task);
        PyErr_SetString(PyExc_RuntimeError, "go on a Group whose block has ended");
        return -1;
    }
    gp_task_take_place(task, objects[GP_TRACK_PLACE]);
    return 0;
}

/* None, a WaitGroup, which counts the goroutine from here on, or the facts of track_member(). 0, or -1 and an
 * exception. */
static int set_trackers(gp_ref task, PyObject *who) {
    if (who == Py_None) return 0;
    if (PyObject_TypeCheck(who, &WaitGroupType)) return count_in(task, who);
    if (PyTuple_Check(who) && PyTuple_GET_SIZE(who) == GROUP_FACTS &&
        PyObject_TypeCheck(PyTuple_GET_ITEM(who, 0), &WaitGroupType))
        return track_member(task, who);
    PyErr_SetString(PyExc_TypeError,
                    "trackers: None, a WaitGroup, or (WaitGroup, Semaphore, context, flags, mask)");
    return -1;
}

/* Give a task that may start again a block of its own for the outcome: its own block keeps the call until the
 * outcome is known. */
static int set_aside(gp_ref task) {
    gp_ref spare = alloc_for(GP_FOR_TASKS, sizeof(struct gp_message), 0);
    if (!spare) {
        raise_memory(sizeof(struct gp_message), "a goroutine with retries");
        return -1;
    }
    memset(gp_payload(spare), 0, sizeof(struct gp_message));
    gp_own(spare, GP_TAG(GP_TAG_PART, task));
    gp_task_at(task)->spare = spare;
    return 0;
}

static PyObject *task_new(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs < 6 || nargs > 10)
        return PyErr_Format(
            PyExc_TypeError,
            "task_new(type, call, name, site, parent, proc, labels, trackers, always, retries)");
    unsigned long site = PyLong_AsUnsignedLong(args[3]);
    unsigned long long parent = PyLong_AsUnsignedLongLong(args[4]);
    long proc = PyLong_AsLong(args[5]);
    unsigned long retries = nargs > 9 ? PyLong_AsUnsignedLong(args[9]) : 0;
    if (PyErr_Occurred() || handle_ready() < 0) return NULL;
    if (proc > (long)gp_workers()) return raise_death((uint32_t)proc);
    bool pinned = proc >= 0;
    struct gp_message call;
    if (message_encode_for(GP_FOR_TASKS, args[1], &call) < 0) return NULL;
    gp_ref task;
    Handle *h = make(args[0], args[2], site, parent, nargs > 6 ? args[6] : NULL, &task);
    if (!h) {
        gp_message_drop(&call);
        return NULL;
    }
    struct gp_task *t = gp_task_at(task);
    /* a part of the task, whichever process dies */
    if (call.block) gp_own(call.block, GP_TAG(GP_TAG_PART, task));
    t->call = call;
    bool always = nargs > 8 && args[8] == Py_True;
    t->pinned = always ? GP_PINNED_ALWAYS : pinned ? GP_PINNED : GP_ANYWHERE;
    if ((retries && set_aside(task) < 0) || (nargs > 7 && set_trackers(task, args[7]) < 0)) {
        gp_message_drop(&call);
        return give_up(h, task);
    }
    gp_set(&t->retries, (uint16_t)retries);
    gp_order();
    gp_set(&t->started, GP_UNSTARTED); /* COMMIT: from here on it will run */
    uint32_t place;
    uint64_t run = gp.run;
    int err;
    while ((err = gp_task_push(task, place = pinned ? (uint32_t)proc : gp_task_place(), pinned)) == -EAGAIN) {
        /* back pressure: let some of the tasks run that fill the ring */
        PyObject *r = PyThread_get_thread_ident() == scheduler_thread
                          ? PyObject_CallOneArg(hooks.offer_turn, Py_False)
                          : Py_NewRef(Py_None);
        Py_XDECREF(r);
        Py_BEGIN_ALLOW_THREADS
        usleep(100);
        Py_END_ALLOW_THREADS
        if (!r || PyErr_CheckSignals() < 0) break;
        if (run != gp.run || !gp.base) {
            raise_stopped("the goproc runtime stopped", run);
            return NULL;
        }
    }
    if (err < 0 || PyErr_Occurred()) {
        if (!PyErr_Occurred() && err == -ESRCH) raise_death(place);
        else if (!PyErr_Occurred()) raise_memory(GP_PAGE, "queueing a goroutine");
        gp_set(&t->started, GP_UNMADE);
        untrack(task);
        gp_message_drop(&call);
        return give_up(h, task);
    }
    gp_task_announce(place, pinned);
    return (PyObject *)h;
}

/* go.local: (handle, task) of a goroutine that its creator's scheduler starts itself */
static PyObject *task_local(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs < 4 || nargs > 6)
        return PyErr_Format(PyExc_TypeError, "task_local(type, name, site, parent, labels, trackers)");
    unsigned long site = PyLong_AsUnsignedLong(args[2]);
    unsigned long long parent = PyLong_AsUnsignedLongLong(args[3]);
    if (PyErr_Occurred() || handle_ready() < 0) return NULL;
    gp_ref task;
    Handle *h = make(args[0], args[1], site, parent, nargs > 4 ? args[4] : NULL, &task);
    if (!h) return NULL;
    struct gp_object *o = gp_at(h->ref);
    if (nargs > 5 && set_trackers(task, args[5]) < 0) return give_up(h, task);
    gp_task_at(task)->pinned = GP_LOCAL;
    gp_set(&gp_task_at(task)->started, GP_STARTED);
    gp_set(&o->proc, gp.proc + 1);
    task_count_started(1);
    return Py_BuildValue("(NkkK)", h, (unsigned long)task, (unsigned long)gp_ref_of(o),
                         (unsigned long long)gp_get(&o->id));
}

static PyObject *task_unmake(PyObject *Py_UNUSED(module), PyObject *block) {
    gp_ref ref = (gp_ref)PyLong_AsUnsignedLong(block);
    if (PyErr_Occurred()) return NULL;
    if (gp.base) untrack(ref);
    Py_RETURN_NONE;
}

/* ---- the state that a new goroutine inherits */

/* `go` asks it each time: True if the runtime runs and the creator's context has no values. */
static PyObject *context_empty(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (!gp.base) Py_RETURN_FALSE;
    PyObject *context = PyThreadState_Get()->context;
    if (!context) Py_RETURN_TRUE;
    Py_ssize_t n = PyObject_Size(context);
    return n < 0 ? NULL : PyBool_FromLong(n == 0);
}

PyMethodDef task_functions[] = {
    {"task_new", METHOD(task_new), METH_FASTCALL, PyDoc_STR("Queue a goroutine; return its handle.")},
    {"task_local", METHOD(task_local), METH_FASTCALL, PyDoc_STR("A goroutine of this process only.")},
    {"task_unmake", task_unmake, METH_O,
     PyDoc_STR("A task made by task_local does not come to run: its WaitGroup counts down, its unit is this "
               "process's again.")},
    {"context_empty", context_empty, METH_NOARGS,
     PyDoc_STR("True if a runtime runs and the current context is empty.")},
    {NULL, NULL, 0, NULL},
};
