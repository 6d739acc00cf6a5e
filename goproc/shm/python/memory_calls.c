/* memory_calls.c - shared memory as Python sees it: its use, the search for garbage, definitions of functions
 * in it. */
#include "python.h"

static PyObject *core_census(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (handle_ready() < 0) return NULL;
    struct gp_heap_stats s;
    gp_heap_census(&s);
    uint64_t missed = 0, queued = 0;
    for (uint32_t p = 0; p < gp_places(); p++) {
        struct gp_queue *q = &gp_proc_at(p)->queue;
        missed += gp_get(&gp_proc_at(p)->missed);
        queued += gp_get(&q->tail) - gp_get(&q->head) + gp_get(&q->pinned_tail) - gp_get(&q->pinned_head);
    }
    return Py_BuildValue("{s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:I}", "blocks", (unsigned long long)s.blocks,
                         "objects", (unsigned long long)s.objects, "definitions",
                         (unsigned long long)s.definitions, "bytes", (unsigned long long)s.bytes, "committed",
                         (unsigned long long)gp_committed(), "missed_wakeups", (unsigned long long)missed,
                         "queued", (unsigned long long)queued, "handles", handles_live());
}

static PyObject *core_memory_use(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (handle_ready() < 0) return NULL;
    return PyFloat_FromDouble((double)gp_committed() / (double)gp.head->memory);
}

static PyObject *core_full(PyObject *Py_UNUSED(module), PyObject *tell) {
    if (!gp.base) return PyLong_FromLong(0);
    if (tell != Py_True) return PyLong_FromUnsignedLong(gp_get(&gp.head->full));
    uint32_t count = atomic_fetch_add(&gp.head->full, 1) + 1;
    for (uint32_t p = 0; p < gp_places(); p++)
        if (p != gp.proc) gp_nudge(p);
    return PyLong_FromUnsignedLong(count);
}

/* This process has looked for garbage because of a request, the number that core_full() returned. */
static PyObject *core_searched(PyObject *Py_UNUSED(module), PyObject *request) {
    unsigned long count = PyLong_AsUnsignedLong(request);
    if (PyErr_Occurred()) return NULL;
    if (gp.base) gp_release(&gp.my->searched, (uint32_t)count);
    Py_RETURN_NONE;
}

/* True if each other process that runs has looked for garbage because of this request or of a later one. */
static PyObject *core_all_searched(PyObject *Py_UNUSED(module), PyObject *request) {
    unsigned long count = PyLong_AsUnsignedLong(request);
    if (PyErr_Occurred()) return NULL;
    for (uint32_t p = 0; gp.base && p < gp_places(); p++) {
        struct gp_proc *other = gp_proc_at(p);
        if (p == gp.proc || gp_get(&other->state) != GP_P_LIVE) continue;
        if ((int32_t)(gp_acquire(&other->searched) - (uint32_t)count) < 0) Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

static PyObject *core_collect(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (handle_ready() < 0) return NULL;
    return PyLong_FromUnsignedLong(collect_now());
}

static PyObject *core_unread(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return gp.base ? handles_unread() : PyList_New(0);
}

static PyObject *definition_put(PyObject *Py_UNUSED(module), PyObject *blob) {
    if (!PyBytes_Check(blob)) return PyErr_Format(PyExc_TypeError, "definition_put(bytes)");
    if (handle_ready() < 0) return NULL;
    uint64_t bytes = (uint64_t)PyBytes_GET_SIZE(blob);
    gp_ref ref;
    if (!gp_definition_find(PyBytes_AS_STRING(blob), bytes, &ref)) return PyLong_FromLong(0);
    if (ref) return PyLong_FromUnsignedLong(ref);
    ref = alloc_for(GP_FOR_TASKS, bytes, 0);
    if (!ref) return raise_memory(bytes, "a definition");
    memcpy(gp_payload(ref), PyBytes_AS_STRING(blob), bytes);
    gp_definition_keep(ref);
    return PyLong_FromUnsignedLong(ref);
}

static PyObject *definition_get(PyObject *Py_UNUSED(module), PyObject *arg) {
    unsigned long ref = PyLong_AsUnsignedLong(arg);
    uint64_t capacity;
    if (PyErr_Occurred() || handle_ready() < 0) return NULL;
    if (ref > UINT32_MAX || !gp_block_check((gp_ref)ref, &capacity) ||
        GP_TAG_KIND(gp_tag((gp_ref)ref)) != GP_TAG_DEFINITION)
        return PyErr_Format(PyExc_RuntimeError, "a message names a definition that does not exist");
    return PyBytes_FromStringAndSize(gp_payload((gp_ref)ref), (Py_ssize_t)gp_len((gp_ref)ref));
}

PyMethodDef memory_functions[] = {
    {"census", core_census, METH_NOARGS,
     PyDoc_STR("Live blocks, objects and bytes of the segment, and counters.")},
    {"memory_use", core_memory_use, METH_NOARGS,
     PyDoc_STR("The part of the memory limit that is taken, from 0 to 1.")},
    {"full", core_full, METH_O,
     PyDoc_STR("How often a process had no memory left. True: once more; have the others look for garbage.")},
    {"searched", core_searched, METH_O,
     PyDoc_STR("This process has looked for garbage because of that request.")},
    {"all_searched", core_all_searched, METH_O,
     PyDoc_STR("True if the other processes have looked for garbage because of that request.")},
    {"collect", core_collect, METH_NOARGS,
     PyDoc_STR("Free shared objects without a reference; return their number.")},
    {"unread", core_unread, METH_NOARGS,
     PyDoc_STR("(id, failure, site) of failed goroutines with an unread failure and a handle here, or in no "
               "process.")},
    {"definition_put", definition_put, METH_O,
     PyDoc_STR("Keep bytes for the life of the runtime; return a reference. 0: the earlier processes of this "
               "number have kept too many, and nothing is kept.")},
    {"definition_get", definition_get, METH_O, PyDoc_STR("The bytes of a reference.")},
    {NULL, NULL, 0, NULL},
};
