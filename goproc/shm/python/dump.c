/* dump.c - shared memory for reports: the processes that are there, and the answers of other processes.
 *
 * The process that asks for a dump of all goroutines puts it together. Only a process itself knows the stacks
 * of its goroutines. So each writes its part and publishes it in its gp_proc; the requester takes it from
 * there. The number of the request goes with it in one word, so that a late answer to an earlier request is
 * never taken for one to this. No process waits for another without a limit: a process that computes in C
 * code, or is stopped, is reported as such, with the facts in its task blocks.
 *
 * The requester is a process of the program, or an observer: a command that maps the segment and is no proc.
 * It stores only into the words of requests and answers, `rescan` and `park`, and frees the blocks that it
 * takes. If it is killed, its request stands until the next one, which waits for it as for any other, a
 * second at most.
 *
 *     requester:  dump_wanted = n; signal
 *     process:    n = dump_wanted; write; dump = n << 32 | block (it frees the block of an earlier request)
 *     requester:  poll: number == n? block = exchange(dump, 0)
 */
#include "python.h"

/* ---- the processes that are there */

static bool live_task(struct gp_block *b, bool object) {
    if (object || !(gp_block_flags(b) & GP_BLOCK_TASK)) return false;
    unsigned kind = GP_TAG_KIND(gp_get(&b->tag));
    return kind == GP_TAG_PROC || kind == GP_TAG_QUEUE;
}

static void count(struct gp_block *b, bool object, uint64_t Py_UNUSED(bytes), void *arg) {
    if (live_task(b, object)) ++*(uint64_t *)arg;
}

static PyObject *num_goroutine(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (!gp.base) return PyLong_FromLong(gp.forked ? 0 : 1);
    uint64_t n = gp_get(&gp.head->main_gone) ? 0 : 1;
    gp_heap_each(count, &n);
    return PyLong_FromUnsignedLongLong(n);
}

static void list(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    PyObject **all = arg;
    if (!*all || !live_task(b, object) || bytes < GP_BLOCK_HEAD + sizeof(struct gp_task)) return;
    uint64_t tag = gp_get(&b->tag), len = gp_block_len(b), room = bytes - GP_BLOCK_HEAD;
    struct gp_task task; /* copied once, then used: it may be freed meanwhile, even used again */
    memcpy(&task, (char *)b + GP_BLOCK_HEAD, sizeof task);
    task.name[GP_TASK_NAME - 1] = 0;
    if (len > room) len = room;
    long proc = GP_TAG_KIND(tag) == GP_TAG_PROC ? (long)gp_tag_proc(tag) : -1;
    PyObject *name = PyUnicode_DecodeUTF8(task.name, (Py_ssize_t)strlen(task.name), "ignore");
    PyObject *labels =
        PyUnicode_DecodeUTF8((char *)b + GP_BLOCK_HEAD + sizeof task,
                             len > sizeof task ? (Py_ssize_t)(len - sizeof task) : 0, "ignore");
    PyObject *one = name && labels ? Py_BuildValue("(KKklIOO)", (unsigned long long)task.id,
                                                   (unsigned long long)task.parent, (unsigned long)task.site,
                                                   proc, gp_get(&task.started), name, labels)
                                   : NULL;
    if (!one || PyList_Append(*all, one) < 0) Py_CLEAR(*all);
    Py_XDECREF(one);
    Py_XDECREF(name);
    Py_XDECREF(labels);
}

static PyObject *goroutines(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    PyObject *all = PyList_New(0);
    if (gp.base && all) gp_heap_each(list, &all);
    return all;
}

static PyObject *proc_facts(PyObject *Py_UNUSED(module), PyObject *arg) {
    unsigned long p = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred() || handle_ready() < 0) return NULL;
    if (p >= gp_places()) return PyErr_Format(PyExc_ValueError, "no proc %lu", p);
    struct gp_proc *proc = gp_proc_at((uint32_t)p);
    return Py_BuildValue("(iIIN)", (int)gp_get(&proc->pid), gp_get(&proc->state), gp_get(&proc->park),
                         PyBool_FromLong(gp_acquire(&proc->dumps) != 0));
}

static PyObject *running_in(PyObject *Py_UNUSED(module), PyObject *arg) {
    unsigned long p = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred() || handle_ready() < 0) return NULL;
    if (p >= gp_places()) return PyErr_Format(PyExc_ValueError, "no proc %lu", p);
    return PyLong_FromUnsignedLongLong(gp_get(&gp_proc_at((uint32_t)p)->running));
}

static PyObject *waiting(PyObject *Py_UNUSED(module), PyObject *handle) {
    if (!PyObject_TypeCheck(handle, &HandleType))
        return PyErr_Format(PyExc_TypeError, "a channel, a goroutine or a sync object, not %.100s",
                            Py_TYPE(handle)->tp_name);
    /* nil has no queue, so no goroutine is woken by it */
    if (!((Handle *)handle)->ref) return Py_BuildValue("(II)", 0u, 0u);
    struct gp_object *o = handle_object((Handle *)handle);
    if (!o) return NULL;
    gp_lock(o);
    uint32_t receivers = gp_queued(o, false), senders = gp_queued(o, true);
    gp_unlock(o);
    return Py_BuildValue("(II)", receivers, senders);
}

/* ---- requests and answers */

/* True if the word is that of an observer that was killed: observers exclude each other by a lock of the
 * file. */
static bool abandoned(uint32_t word) { return gp.proc == GP_OBSERVER && word == gp.me; }

static PyObject *observe(PyObject *Py_UNUSED(module), PyObject *fd) {
    long memfd = PyLong_AsLong(fd);
    if (memfd == -1 && PyErr_Occurred()) return NULL;
    if (gp.base) return PyErr_Format(PyExc_RuntimeError, "a runtime is attached already");
    int err = gp_observe((int)memfd);
    if (err == 0) Py_RETURN_NONE;
    errno = -err;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *dump_begin(PyObject *Py_UNUSED(module), PyObject *force) {
    if (handle_ready() < 0) return NULL;
    struct gp_header *h = gp.head;
    uint32_t free_word = 0;
    if (force == Py_True) gp_set(&h->dumping, gp.me);
    else if (!atomic_compare_exchange_strong(&h->dumping, &free_word, gp.me) && !abandoned(free_word))
        return PyLong_FromLong(0);
    uint32_t n = atomic_fetch_add(&h->dump_last, 1) + 1;
    if (n == 0) n = atomic_fetch_add(&h->dump_last, 1) + 1;
    atomic_store(&h->dump_wanted, n);
    return PyLong_FromUnsignedLong(n);
}

static PyObject *dump_end(PyObject *Py_UNUSED(module), PyObject *arg) {
    unsigned long n = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred()) return NULL;
    if (!gp.base) Py_RETURN_NONE;
    uint32_t wanted = (uint32_t)n, me = gp.me;
    /* a nested dump may be the current one */
    if (atomic_compare_exchange_strong(&gp.head->dump_wanted, &wanted, 0))
        atomic_compare_exchange_strong(&gp.head->dumping, &me, 0);
    Py_RETURN_NONE;
}

static PyObject *dump_wanted(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromUnsignedLong(gp.base ? atomic_load(&gp.head->dump_wanted) : 0);
}

static PyObject *dump_ready(PyObject *Py_UNUSED(module), PyObject *flag) {
    if (gp.base) gp_release(&gp.my->dumps, flag == Py_True ? 1 : 0);
    Py_RETURN_NONE;
}

static void drop(uint64_t word) {
    gp_ref ref = (gp_ref)word;
    uint64_t capacity;
    if (!ref || !gp_block_check(ref, &capacity)) return;
    gp_own(ref, gp_my_tag());
    gp_free(ref);
}

/* A signal's handler may have answered a newer request meanwhile: that answer stays. */
static void publish(uint64_t answer) {
    _Atomic uint64_t *word = &gp.my->dump;
    uint64_t old = atomic_load(word);
    do {
        if (old && (int32_t)((uint32_t)(old >> 32) - (uint32_t)(answer >> 32)) > 0) {
            drop(answer);
            return;
        }
    } while (!atomic_compare_exchange_weak(word, &old, answer)); /* COMMIT: the requester's now */
    drop(old);
}

static PyObject *dump_answer(PyObject *Py_UNUSED(module), PyObject *args) {
    unsigned n;
    const char *text;
    Py_ssize_t len;
    if (!PyArg_ParseTuple(args, "Iy#:dump_answer", &n, &text, &len)) return NULL;
    if (!gp.base) Py_RETURN_FALSE;
    gp_ref ref = alloc_for(GP_FOR_ENDS, (uint64_t)len, 0);
    if (ref) memcpy(gp_payload(ref), text, (size_t)len);
    publish((uint64_t)n << 32 | ref);
    return PyBool_FromLong(ref != 0);
}

/* None: no answer so far; b"": the process had no memory to write one. An answer to another request is left
 * where it is: that may be the current one, which was made by force beside this one. */
static PyObject *dump_take(PyObject *Py_UNUSED(module), PyObject *args) {
    unsigned p, n;
    if (!PyArg_ParseTuple(args, "II:dump_take", &p, &n)) return NULL;
    if (!gp.base || p >= gp_places()) Py_RETURN_NONE;
    _Atomic uint64_t *word = &gp_proc_at(p)->dump;
    uint64_t got = gp_acquire(word);
    if (got >> 32 != n || !atomic_compare_exchange_strong(word, &got, 0)) Py_RETURN_NONE;
    gp_ref ref = (gp_ref)got;
    uint64_t capacity;
    bool text = ref && gp_block_check(ref, &capacity) && gp_len(ref) <= capacity;
    PyObject *answer =
        text ? PyBytes_FromStringAndSize(gp_payload(ref), (Py_ssize_t)gp_len(ref)) : PyBytes_FromString("");
    drop(got);
    return answer;
}

static PyObject *nudge(PyObject *Py_UNUSED(module), PyObject *arg) {
    unsigned long p = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred()) return NULL;
    if (gp.base && p < gp_places()) gp_nudge((uint32_t)p);
    Py_RETURN_NONE;
}

PyMethodDef dump_functions[] = {
    {"num_goroutine", num_goroutine, METH_NOARGS,
     PyDoc_STR(
         "num_goroutine($module, /)\n"
         "--\n\n"
         "How many goroutines of all processes have not ended, main included.\n\n"
         "One more than it seems at times: a goroutine counts until its process has cleaned up after it.\n"
         "Cost: it looks at every block of shared memory, 1 ms for some 100 000 messages and goroutines.")},
    {"goroutines", goroutines, METH_NOARGS,
     PyDoc_STR("(id, parent, site, proc or -1, started, name, labels as text) of every goroutine but main.")},
    {"waiting", waiting, METH_O,
     PyDoc_STR("The numbers of goroutines and threads of all processes that are blocked on an object: "
               "(receivers, senders).")},
    {"observe", observe, METH_O,
     PyDoc_STR("observe(memfd): map the segment of another program, for the functions of reports only.")},
    {"proc_facts", proc_facts, METH_O,
     PyDoc_STR("(pid, state, park word, True if a signal makes it answer) of a proc.")},
    {"running_in", running_in, METH_O,
     PyDoc_STR("The number of the goroutine that runs in a proc; 0: none, or not known.")},
    {"dump_begin", dump_begin, METH_O,
     PyDoc_STR("dump_begin(force): the number of a new request; 0: another is being answered.")},
    {"dump_end", dump_end, METH_O, PyDoc_STR("The request of this number is over.")},
    {"dump_wanted", dump_wanted, METH_NOARGS,
     PyDoc_STR("The number of the request that waits for answers, else 0.")},
    {"dump_ready", dump_ready, METH_O, PyDoc_STR("Set if a signal makes this process answer, from now on.")},
    {"dump_answer", dump_answer, METH_VARARGS,
     PyDoc_STR("dump_answer(request, bytes): publish; False: no memory.")},
    {"dump_take", dump_take, METH_VARARGS,
     PyDoc_STR("dump_take(proc, request): its answer, or None while there is none.")},
    {"nudge", nudge, METH_O, PyDoc_STR("Make a proc's scheduler look around.")},
    {NULL, NULL, 0, NULL},
};
