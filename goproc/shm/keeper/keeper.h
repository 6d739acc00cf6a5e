/* keeper.h - the parts of the keeper, a process between the host and the zygote:
 *
 *     keeper.c   the idea, and the keeper while the zygote runs
 *     start.c    the start of the keeper and of the zygote
 *     module.c   the extension module goproc.shm._keeper
 *
 * The keeper is an extension module of its own, because `goproc run` needs it before the script, and nothing
 * of the core.
 */
#ifndef GP_KEEPER_H
#define GP_KEEPER_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define KEEPER_STACK 65536u
#define KEEPER_FAILED 70 /* the status of a keeper whose zygote did not end in order, or was not started */

struct start {
    const char *path;
    char **argv, **envp;
    int control, source;
    int *close; /* descriptors that the zygote is not to inherit */
    size_t n_close;
    int highest; /* descriptor that is open */
    unsigned null; /* bits: standard streams that lead to /dev/null */
    pid_t host, keeper, zygote;
    int error;
    /* The kernel clears each of these two words when its process ends, and the second one also at its
     * exec. */
    _Atomic uint32_t keeper_starts;  /* the keeper has neither started the zygote nor failed to */
    _Atomic uint32_t zygote_borrows; /* the zygote runs in this memory */
    /* the keeper itself has cleared the first word: it was not killed before */
    bool ready;
    _Atomic uint32_t spawned;        /* the thread that starts the keeper has done so, or failed to */
    _Atomic uint32_t finished;       /* the thread may end */
    bool threaded;                   /* a thread of its own is the keeper's parent */
    pthread_t thread;
    struct start *next;
    char keeper_stack[KEEPER_STACK] __attribute__((aligned(64)));
    char zygote_stack[KEEPER_STACK] __attribute__((aligned(64)));
};

/* ---- keeper.c */
/* watch over the zygote, then over its workers, and end the process */
_Noreturn void keeper_watch(pid_t zygote, pid_t host);

/* ---- start.c */
void keeper_start(struct start *s);           /* by this thread; s->error: 0 or errno */
/* by a thread that lives as long as the keeper, see keeper_discard() */
void keeper_start_in_thread(struct start *s);
void keeper_discard(struct start *s);         /* the keeper has ended, or did not start */

/* ---- system calls without the C library */

static inline long call5(long number, long a, long b, long c, long d, long e) {
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
#else
#error "goproc runs on x86-64 and AArch64"
#endif
}

static inline long call(long number, long a, long b, long c, long d) { return call5(number, a, b, c, d, 0); }

#endif
