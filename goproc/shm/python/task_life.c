/* task_life.c - tasks in the process that runs them: claimed, started, ended with an outcome. */
#include "python.h"

/* For the report on a death: the first bytes of the call stay in the task. */
static void show_call(struct gp_task *t, const struct gp_message *call) {
    const uint8_t *at;
    uint32_t n = gp_call_begin(call, &at);
    if (n && call->block) memcpy(t->call.data, at, n);
    t->call.len = (uint8_t)n;
}

static PyObject *task_next(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 3 || !PyList_Check(args[0]))
        return PyErr_Format(PyExc_TypeError, "task_next(list, newest, steal)");
    if (!gp.base) Py_RETURN_FALSE;
    gp_ref ref = gp_task_pop(args[1] == Py_True);
    if (!ref && (args[2] != Py_True || !gp_task_steal() || !(ref = gp_task_pop(false)))) Py_RETURN_FALSE;
    uint64_t capacity;
    if (!gp_block_check(ref, &capacity) || capacity < sizeof(struct gp_task))
        return PyErr_Format(PyExc_RuntimeError, "a task queue in shared memory is damaged");
    struct gp_task *t = gp_task_at(ref);
    struct gp_message call = t->call;
    if (!gp_object_check(t->object)) gp_damaged("the outcome of a task", t->object);
    struct gp_object *o = gp_at(t->object);
    bool keep = gp_get(&t->retries) > 0;
    gp_set(&t->started, GP_STARTED); /* COMMIT: if this process dies, it is lost, or starts again */
    gp_order();
    if (!keep) {
        if (call.block) gp_own(call.block, gp_my_tag());
        gp_order();
        t->call.codec = GP_CODEC_NONE;
        t->call.block = 0;
        show_call(t, &call);
    }
    gp_set(&gp.my->running, t->id);
    task_count_started(1);
    gp_set(&o->proc, gp.proc + 1);
    gp_release(&o->state, GP_G_RUNNING);
    PyObject *payload = message_decode(&call, keep), *error = Py_NewRef(Py_None);
    if (!payload) { /* the goroutine has been created: the error is its outcome, not the scheduler's */
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        PyErr_NormalizeException(&type, &value, &trace);
        if (trace) PyException_SetTraceback(value, trace);
        Py_DECREF(error);
        error = value;
        payload = Py_NewRef(Py_None);
        Py_XDECREF(type);
        Py_XDECREF(trace);
    }
    char name[GP_TASK_NAME];
    memcpy(name, t->name, sizeof name);
    name[sizeof name - 1] = 0;
    PyObject *text = PyUnicode_DecodeUTF8(name, (Py_ssize_t)strlen(name), "ignore");
    PyObject *task =
        Py_BuildValue("(kkKKkNNN)", (unsigned long)ref, (unsigned long)t->object, (unsigned long long)t->id,
                      (unsigned long long)t->parent, (unsigned long)t->site, text, payload, error);
    /* into the caller's list, not returned: a signal's handler that raises there could lose it */
    int r = task ? PyList_Append(args[0], task) : -1;
    Py_XDECREF(task);
    return r < 0 ? NULL : Py_NewRef(Py_True);
}

int encode_outcome(PyObject *value, bool failed, struct gp_message *m) {
    message_keeps = true;
    int r = failed ? message_encode_for(GP_FOR_ENDS, value, m) : message_encode(value, m);
    message_keeps = false;
    return r < 0 ? -1 : 0;
}

static bool has_call(const struct gp_task *t) { return gp_get(&t->retries) > 0 || t->call.block; }

/* The call of a task that could have run again. */
static void drop_call(struct gp_task *t) {
    if (!has_call(t)) return;
    gp_set(&t->retries, 0); /* COMMIT: it does not start again */
    gp_order();
    struct gp_message call = t->call;
    if (call.block) gp_own(call.block, gp_my_tag());
    gp_order();
    t->call.codec = GP_CODEC_NONE;
    t->call.block = 0;
    gp_message_drop(&call);
}

static PyObject *task_lost(PyObject *Py_UNUSED(module), PyObject *task) {
    gp_ref ref = (gp_ref)PyLong_AsUnsignedLong(task);
    if (PyErr_Occurred()) return NULL;
    return PyLong_FromLong(gp.base && ref && gp_get(&gp_task_at(ref)->lost) ? gp_task_at(ref)->lost_with : 0);
}

static PyObject *task_started(PyObject *Py_UNUSED(module), PyObject *object) {
    gp_ref ref = (gp_ref)PyLong_AsUnsignedLong(object);
    if (PyErr_Occurred()) return NULL;
    if (!gp.base) Py_RETURN_NONE;
    struct gp_object *o = gp_at(ref);
    gp_set(&gp.my->running, gp_get(&o->id));
    gp_release(&o->state, GP_G_RUNNING);
    Py_RETURN_NONE;
}

static PyObject *task_leave(PyObject *Py_UNUSED(module), PyObject *block) {
    gp_ref ref = (gp_ref)PyLong_AsUnsignedLong(block);
    if (PyErr_Occurred()) return NULL;
    if (gp.base && gp_task_leave(ref) < 0)
        return PyErr_Format(PyExc_ValueError, "sync: negative WaitGroup counter");
    Py_RETURN_NONE;
}

static PyObject *task_wanted(PyObject *Py_UNUSED(module), PyObject *object) {
    gp_ref ref = (gp_ref)PyLong_AsUnsignedLong(object);
    if (PyErr_Occurred()) return NULL;
    return PyBool_FromLong(gp.base && gp_held(gp_at(ref)));
}

static PyObject *task_cancelled(PyObject *Py_UNUSED(module), PyObject *object) {
    gp_ref ref = (gp_ref)PyLong_AsUnsignedLong(object);
    if (PyErr_Occurred()) return NULL;
    return PyBool_FromLong(gp.base && (gp_get(&((struct gp_object *)gp_at(ref))->flags) & GP_OBJ_CANCEL));
}

static PyObject *task_done(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 5) return PyErr_Format(PyExc_TypeError, "task_done(task, object, failed, value, quiet)");
    gp_ref task = (gp_ref)PyLong_AsUnsignedLong(args[0]), object = (gp_ref)PyLong_AsUnsignedLong(args[1]);
    int failed = PyObject_IsTrue(args[2]);
    if (PyErr_Occurred()) return NULL;
    if (!gp.base) Py_RETURN_TRUE;
    struct gp_object *o = gp_at(object);
    bool keeps = args[3] != Py_None && gp_held(o);
    struct gp_message m;
    if (keeps && encode_outcome(args[3], failed, &m) < 0) {
        if (!has_call(gp_task_at(task)) || !PyErr_ExceptionMatches(PyExc_MemoryError)) return NULL;
        PyErr_Clear();
        drop_call(gp_task_at(task)); /* in the memory of its arguments there may be room */
        if (encode_outcome(args[3], failed, &m) < 0) return NULL;
    }
    gp_ref spare = gp_task_at(task)->spare, block = !keeps ? 0 : spare ? spare : task;
    if (keeps) result_store(block, object, &m);
    if (args[4] == Py_True) atomic_store(&o->value, 1);
    task_count_started(-1); /* before the tellers, which may start the next one at once */
    bool wanted = gp_outcome_set(o, failed ? GP_G_FAILED : GP_G_OK, block);
    if (spare) drop_call(gp_task_at(task)); /* late: until now it starts again should this process die */
    /* freed first: if this process dies now, its task still leads to the object */
    if (!wanted) gp_object_free(o);
    if (!wanted && keeps) result_drop(block);
    if (keeps && spare) gp_task_at(task)->spare = 0; /* it is the handles', or gone */
    if (block != task) task_free(task);           /* else that is */
    /* the handle was in a message once, and is gone: the failure may stay unread for ever */
    if (wanted && failed && gp_outcome_unread(o) && gp_unheld(o)) collect_surely();
    return PyBool_FromLong(wanted);
}

static PyObject *core_reserve(PyObject *Py_UNUSED(module), PyObject *flag) {
    int reserved = PyObject_IsTrue(flag);
    if (reserved < 0) return NULL;
    gp_reserved = reserved;
    Py_RETURN_NONE;
}

/* ---- handles on goroutines that run */

static PyObject *task_handle(PyObject *Py_UNUSED(module), PyObject *object) {
    gp_ref ref = (gp_ref)PyLong_AsUnsignedLong(object);
    if (PyErr_Occurred() || handle_ready() < 0) return NULL;
    if (!gp_object_check(ref)) return PyErr_Format(PyExc_RuntimeError, "no such goroutine");
    return handle_for(ref, gp_get(&((struct gp_object *)gp_at(ref))->gen), GP_KIND_OUTCOME, DIR_BOTH);
}

PyMethodDef task_life_functions[] = {
    {"reserve", core_reserve, METH_O,
     PyDoc_STR("Begin to keep this process for the running goroutine, and the goroutines that it creates; or "
               "end that.")},
    {"task_next", METHOD(task_next), METH_FASTCALL,
     PyDoc_STR("task_next(list, newest, steal): claim an unstarted goroutine into the list; True if there "
               "was one.")},
    {"task_started", task_started, METH_O, PyDoc_STR("A goroutine made by task_local has its first turn.")},
    {"task_leave", task_leave, METH_O,
     PyDoc_STR("Tell a running task's trackers of its end: a WaitGroup counts down, a Semaphore gets a unit "
               "back.")},
    {"task_lost", task_lost, METH_O,
     PyDoc_STR("Pid of the process with which this task was lost last; 0: it was not.")},
    {"task_wanted", task_wanted, METH_O,
     PyDoc_STR("True if some process may have a handle that can read this outcome.")},
    {"task_cancelled", task_cancelled, METH_O, PyDoc_STR("True if cancel() was called on this goroutine.")},
    {"task_done", METHOD(task_done), METH_FASTCALL,
     PyDoc_STR("Store an outcome; False: no process has a handle. Quiet: no panic if it is never read.")},
    {"task_handle", task_handle, METH_O,
     PyDoc_STR("A handle on a goroutine of this process, which has not ended.")},
    {NULL, NULL, 0, NULL},
};
