/* stacks.c - small stacks for the Python frames of goroutines.
 *
 * CPython gives a greenlet a chunk of 16 KiB for its frames, of pages of its own: a parked goroutine, whose
 * frames take a KiB, costs a page of 4 KiB and two system calls. So a goroutine's greenlet begins on a chunk
 * from malloc, and CPython adds one of 16 KiB when it is used up. If a function is called at just that point
 * again and again, each call takes that chunk and gives it back; so a few are kept.
 *
 * The chunk is CPython's, with a smaller size in its head. CPython never frees the first chunk of a stack,
 * and greenlet finds none: it is taken away before the greenlet ends.
 */
#include "python.h"

#define SMALL_BYTES 944u
#define CHUNK_BYTES 16384u /* CPython's; arenas of objects, which come from the same allocator, are larger */
#define CHUNK_MOST 131072u /* the largest chunk that is told from an arena */
#define KEPT 16u

#if PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED)

/* ---- large chunks are kept */

static PyObjectArenaAllocator system_arenas;
static _Thread_local struct {
    void *chunk[KEPT];
    uint32_t n;
} kept;

static void *arena_alloc(void *ctx, size_t bytes) {
    if (bytes == CHUNK_BYTES && kept.n > 0) return kept.chunk[--kept.n];
    void *at = system_arenas.alloc(ctx, bytes);
    if (GP_LIKELY(at != NULL) || bytes > CHUNK_MOST) return at;
    if (cushion_give()) at = system_arenas.alloc(ctx, bytes);
    if (!at) PyErr_NoMemory(); /* CPython sets no exception, and raises a SystemError for that */
    return at;
}

static void arena_free(void *ctx, void *at, size_t bytes) {
    /* the thread that runs goroutines lives as long as the program: no other thread leaves any behind */
    if (bytes == CHUNK_BYTES && kept.n < KEPT && PyThread_get_thread_ident() == scheduler_thread)
        kept.chunk[kept.n++] = at;
    else system_arenas.free(ctx, at, bytes);
}

static void keep_chunks(void) {
    if (system_arenas.alloc) return;
    PyObject_GetArenaAllocator(&system_arenas);
    PyObjectArenaAllocator arenas = {system_arenas.ctx, arena_alloc, arena_free};
    PyObject_SetArenaAllocator(&arenas);
}

/* ---- the first chunk of a goroutine's greenlet */

static PyObject *run(PyObject *body, PyObject *Py_UNUSED(unused)) {
    PyThreadState *t = PyThreadState_Get();
    if (t->datastack_chunk) return PyObject_CallNoArgs(body); /* no greenlet that begins */
    char *memory = PyMem_RawMalloc(SMALL_BYTES + 16);
    if (!memory) return PyObject_CallNoArgs(body);
    /* never at the beginning of a page: greenlet unmaps the chunk of a thread that is gone, which does
     * nothing then */
    _PyStackChunk *chunk = (_PyStackChunk *)(memory + ((uintptr_t)memory % 4096 ? 0 : 16));
    chunk->previous = NULL;
    chunk->size = SMALL_BYTES;
    chunk->top = 0;
    t->datastack_chunk = chunk;
    /* CPython skips the first item, too: so it never takes the chunk for empty */
    t->datastack_top = &chunk->data[1];
    t->datastack_limit = (PyObject **)((char *)chunk + SMALL_BYTES);
    PyObject *r = PyObject_CallNoArgs(body);
    t = PyThreadState_Get();
    if (t->datastack_chunk == chunk) {
        t->datastack_chunk = NULL;
        t->datastack_top = t->datastack_limit = NULL;
        PyMem_RawFree(memory);
    }
    return r;
}

static PyMethodDef run_method = {"run", run, METH_NOARGS, NULL};

static PyObject *on_small_stack(PyObject *Py_UNUSED(module), PyObject *body) {
    keep_chunks();
    return PyCFunction_New(&run_method, body);
}

#else

static PyObject *on_small_stack(PyObject *Py_UNUSED(module), PyObject *body) { return Py_NewRef(body); }

#endif

PyMethodDef stack_functions[] = {
    {"on_small_stack", on_small_stack, METH_O,
     PyDoc_STR("The function to run in a greenlet in place of another: the same one, on a small stack.")},
    {NULL, NULL, 0, NULL},
};
