/* cushion.c - address space set aside for switches of goroutines.
 *
 * At a switch greenlet copies the C stack of the goroutine that waits to the heap. If malloc fails there,
 * greenlet ends the process: half of a switch cannot be undone. So this process keeps a cushion, a mapping
 * that nobody touches. When Python's allocator finds no memory while the scheduler is at work, the cushion
 * goes back to the system, and the allocation is tried again.
 *
 * From then on no goroutine of this process may block, or be left at the end of its slice, until there is
 * room for a new cushion. A goroutine that wants to block gets a MemoryError. The check comes before each
 * switch, so a switch that has begun has the whole cushion.
 *
 * The end of a goroutine that failed may use the cushion, too (use_cushion).
 *
 * Every allocation of Python ends in the raw allocator, unless there is room in an arena. So the raw
 * allocator is wrapped, which costs a call for each allocation of more than 512 bytes. With
 * PYTHONMALLOC=malloc the others call malloc themselves, and are wrapped, too.
 *
 * Rejected: an attempt to allocate before each switch. Every switch would pay for it.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "python.h"

/* Room for the copy of a stack in each way in which glibc grows its heap: by 132 KiB, or by a mapping of
 * 1 MiB. An arena of pymalloc, of 1 MiB, may take the other half. */
#define CUSHION_BYTES (2u << 20)
#define DEEP_BYTES (128u << 10) /* of a stack: for the copy of a deeper one room is looked for first */

/* All of it is for the thread that runs goroutines, while that has the GIL. */
static void *cushion;               /* NULL: it was given back */
static uintptr_t bottom;            /* an address near the bottom of that thread's stack */
static unsigned ends;               /* calls of use_cushion() that run */
static PyObject *scheduling, *kept; /* names of the scheduler's variables */
static PyObject *none, *all;        /* values of `kept` */

static bool may_give(void) {
    if (PyThread_get_thread_ident() != scheduler_thread || !PyGILState_Check() || !cushion) return false;
    return ends > 0 || PyDict_GetItemWithError(hooks.scheduler, scheduling) == Py_True;
}

/* Set the number of spare greenlets that are kept. With `none` a greenlet ends with its goroutine: the switch
 * to the next one copies no stack. */
static void keep_greenlets(PyObject *number) {
    if (PyDict_SetItem(hooks.scheduler, kept, number) < 0) PyErr_Clear();
}

/* An allocation has failed. True if the cushion was given back for it: try again. */
bool cushion_give(void) {
    if (!may_give()) return false;
    munmap(cushion, CUSHION_BYTES);
    cushion = NULL;
    keep_greenlets(none);
    return true;
}

static bool fill(void) {
    void *at = mmap(NULL, CUSHION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return false;
    cushion = at;
    keep_greenlets(all);
    return true;
}

static bool has_room(size_t bytes) {
    void *volatile at = malloc(bytes);
    free(at);
    return at != NULL;
}

/* For the thread that runs goroutines: true if there is room for the stack of the goroutine that runs. */
bool cushion_ready(void) {
    if (GP_UNLIKELY(!cushion) && !fill()) return false;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    return GP_LIKELY(bottom < here + DEEP_BYTES) || has_room(bottom - here);
}

bool cushion_check(void) {
    if (GP_LIKELY(cushion_ready())) return true;
    PyErr_SetString(
        PyExc_MemoryError,
        "a goroutine cannot block: this process has no memory left for its stack; raise the limit on "
        "address space (RLIMIT_AS, ulimit -v), or let fewer goroutines wait at once");
    return false;
}

/* ---- the allocators of Python, wrapped */

/* The raw allocator as it was. With PYTHONMALLOC=malloc the others are the same. A thread without the GIL may
 * allocate while they are set, and call a new function with the old context: so the context stays. */
static PyMemAllocatorEx own;

static void *wrapped_malloc(void *ctx, size_t bytes) {
    void *at = own.malloc(ctx, bytes);
    return GP_LIKELY(at != NULL) || !cushion_give() ? at : own.malloc(ctx, bytes);
}

static void *wrapped_calloc(void *ctx, size_t n, size_t bytes) {
    void *at = own.calloc(ctx, n, bytes);
    return GP_LIKELY(at != NULL) || !cushion_give() ? at : own.calloc(ctx, n, bytes);
}

static void *wrapped_realloc(void *ctx, void *before, size_t bytes) {
    void *at = own.realloc(ctx, before, bytes);
    return GP_LIKELY(at != NULL) || !cushion_give() ? at : own.realloc(ctx, before, bytes);
}

static void wrap_allocators(void) {
    if (own.malloc) return;
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &own);
    PyMemAllocatorEx wrapped = {own.ctx, wrapped_malloc, wrapped_calloc, wrapped_realloc, own.free};
    for (PyMemAllocatorDomain d = PYMEM_DOMAIN_RAW; d <= PYMEM_DOMAIN_OBJ; d++) {
        PyMemAllocatorEx before;
        PyMem_GetAllocator(d, &before);
        if (before.malloc == own.malloc) PyMem_SetAllocator(d, &wrapped);
    }
}

/* The calling thread is to run goroutines: 0, or -1 and an exception. */
int cushion_begin(void) {
    bottom = (uintptr_t)__builtin_frame_address(0);
    if (!scheduling && (!(none = PyLong_FromLong(0)) || !(kept = PyUnicode_InternFromString("kept")) ||
                        !(all = PyObject_GetItem(hooks.scheduler, kept)) ||
                        !(scheduling = PyUnicode_InternFromString("scheduling"))))
        return -1;
    wrap_allocators();
    if (!cushion) fill();
    return 0;
}

static PyObject *use_cushion(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs < 1) return PyErr_Format(PyExc_TypeError, "use_cushion(function, *args)");
    ends++;
    PyObject *r = PyObject_Vectorcall(args[0], args + 1, (size_t)nargs - 1, NULL);
    ends--;
    return r;
}

PyMethodDef cushion_functions[] = {
    {"use_cushion", METHOD(use_cushion), METH_FASTCALL,
     PyDoc_STR("use_cushion(function, *args): call a function that must not fail for want of memory.")},
    {NULL, NULL, 0, NULL},
};
