/* memory.c - allocation for the Python half: garbage goes first, and a failure names the limit that was
 * reached.
 *
 * Objects that must not fail, above all the end of a goroutine, are written with the purpose GP_FOR_ENDS. It
 * may use the reserve beyond the limit, so that messages which fill the memory leave room for reports and
 * failures.
 */
#include "python.h"

static gp_ref try_alloc(enum gp_kind kind, uint64_t payload, unsigned flags) {
    return kind ? gp_object_alloc(kind) : gp_alloc(payload, flags);
}

/* Allocate an object if there is a kind, else a block, once more after all that can be freed was freed. */
static gp_ref under_pressure(enum gp_purpose purpose, enum gp_kind kind, uint64_t payload, unsigned flags) {
    enum gp_purpose before = gp_purpose;
    if (before < purpose) gp_purpose = purpose;
    gp_heap_reclaim(); /* or wait for another process that does it */
    gp_ref ref = try_alloc(kind, payload, flags);
    if (!ref) {
        collect_surely(); /* a process that has the lock may only look for free pages, as this one did */
        gp_heap_reclaim();
        ref = try_alloc(kind, payload, flags);
    }
    gp_purpose = before;
    return ref;
}

gp_ref alloc_for(enum gp_purpose purpose, uint64_t payload, unsigned flags) {
    gp_ref ref = gp_alloc(payload, flags);
    return GP_LIKELY(ref != 0) ? ref : under_pressure(purpose, 0, payload, flags);
}

/* smaller blocks are asked for in the midst of operations, where no code of the program may run */
#define LARGE_PAYLOAD 65536

/* True if another look at the heap is worth it: Python looks for garbage here and in the other processes. */
static bool look_for_garbage(long attempt) {
    enum gp_purpose before = gp_purpose;
    gp_purpose = GP_FOR_VALUES; /* of finalizers that run now */
    PyObject *again = hooks.full ? PyObject_CallFunction(hooks.full, "l", attempt) : NULL;
    bool yes = again == Py_True;
    if (!again && hooks.full) {
        bool interrupted = PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
        if (!interrupted) PyErr_WriteUnraisable(hooks.full);
        PyErr_Clear();
        if (interrupted) PyErr_SetInterrupt(); /* once more, where it can be raised */
    }
    Py_XDECREF(again);
    gp_purpose = before;
    return yes;
}

gp_ref alloc_or_collect(uint64_t payload, unsigned flags) {
    gp_ref ref = alloc_for(GP_FOR_VALUES, payload, flags);
    bool may_run = payload >= LARGE_PAYLOAD && gp_purpose <= GP_FOR_TASKS;
    for (long attempt = 0; !ref && may_run && look_for_garbage(attempt); attempt++)
        ref = alloc_for(GP_FOR_VALUES, payload, flags);
    return ref;
}

gp_ref object_for(enum gp_purpose purpose, enum gp_kind kind) {
    gp_ref ref = gp_object_alloc(kind);
    return GP_LIKELY(ref != 0) ? ref : under_pressure(purpose, kind, 0, 0);
}

int message_encode_for(enum gp_purpose purpose, PyObject *v, struct gp_message *m) {
    enum gp_purpose before = gp_purpose;
    gp_purpose = purpose;
    int r = message_encode(v, m);
    gp_purpose = before;
    return r;
}

PyObject *memory_for_end(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs < 1) return PyErr_Format(PyExc_TypeError, "for_end(function, *args)");
    enum gp_purpose before = gp_purpose;
    gp_purpose = GP_FOR_ENDS;
    PyObject *r = PyObject_Vectorcall(args[0], args + 1, (size_t)nargs - 1, NULL);
    gp_purpose = before;
    return r;
}

bool only_memory_is_short(void) {
    if (!PyErr_ExceptionMatches(hooks.out_of_memory)) return false;
    PyErr_Clear();
    return true;
}

#define RAISE_LIMIT "raise the limit with --memory, GOPROC_MEMORY or runtime(memory=...)"

static PyObject *limit_text(unsigned long long asked, const char *what) {
    uint64_t used = gp_committed(), limit = gp.head->memory;
    /* memory is handed out by pages */
    uint64_t pages = used < limit ? (limit - used) / GP_PAGE * GP_PAGE : 0;
    return PyUnicode_FromFormat("%s needs %llu bytes of shared memory; %llu of %llu are free (" RAISE_LIMIT
                                ")",
                                what, asked, (unsigned long long)pages, (unsigned long long)limit);
}

PyObject *raise_memory(uint64_t asked, const char *what) {
    unsigned long long n = asked;
    PyObject *text = NULL;
    bool within = gp_committed() + asked <= gp.head->memory; /* else it is the limit that matters */
    switch (gp.shortage == GP_SHORT_ARENA && !within ? GP_SHORT_LIMIT : gp.shortage) {
    case GP_SHORT_LIMIT: text = limit_text(n, what); break;
    case GP_SHORT_SYSTEM:
        text = PyUnicode_FromFormat(
            "%s needs %llu bytes of shared memory, and the system has no more memory to give", what, n);
        break;
    case GP_SHORT_ARENA:
        text = PyUnicode_FromFormat("%s needs %llu bytes of shared memory in one piece; each process has "
                                    "%llu bytes of address space for what it sends, "
                                    "and this one has no free piece of that size (use fewer processes, or "
                                    "raise RLIMIT_AS and RLIMIT_FSIZE where they "
                                    "are set: ulimit -v, -f)",
                                    what, n, (unsigned long long)gp.arena_bytes);
        break;
    case GP_SHORT_DESCRIPTOR:
        text = PyUnicode_FromFormat("%s needs %llu bytes of shared memory; before Linux 5.14 these come by "
                                    "goproc's descriptor, and the program has "
                                    "closed that (os.closerange()?)",
                                    what, n);
    }
    if (text) PyErr_SetObject(hooks.out_of_memory, text);
    Py_XDECREF(text);
    return NULL;
}

/* ---- results */

/* Put the content that an object is to keep, an outcome or a cause, into the block that was set aside for
 * it. */
void result_store(gp_ref block, gp_ref object, const struct gp_message *m) {
    /* copied first: if this process dies before the next store, the message goes with it */
    memcpy(gp_payload(block), m, sizeof *m);
    gp_order();
    if (m->block) gp_own(m->block, GP_TAG(GP_TAG_RESULT, object));
}

void result_drop(gp_ref block) {
    gp_message_drop((struct gp_message *)gp_payload(block));
    gp_free(block);
}
