/* crash_image.c - a process dies at every instruction of an operation, and each state that it would leave is repaired.
 *
 *     crash_image SCENARIO...      all of them without arguments; prints a line each, and what is wrong
 *
 * A victim (proc 1) runs one operation under ptrace, one instruction at a time. A peer (proc 2) has been made to wait, and
 * sleeps. After each instruction this process, which is the host, sees the segment through a private mapping: a copy, as
 * far as it writes there. On it the coroner's repair runs as if the victim had died just then; the result is checked
 * against the invariants, and used: by the host, and by a replacement of the victim. Then the copy is thrown away.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crash_image.h"

struct shared *shared;
int failures;
static long images;
static const char *scenario_name;
static long instruction;

void wrong(const char *format, ...) {
    va_list args;
    if (failures++ >= 2000) return;
    printf("WRONG %s, instruction %ld: ", scenario_name, instruction);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
    if (getenv("FIRST")) _exit(1); /* the first one will do; the children die with this process */
}

static const _Atomic uint32_t *woken; /* the last word that was woken */
void __real_gp_futex_wake(_Atomic uint32_t *word, int count);
void __wrap_gp_futex_wake(_Atomic uint32_t *word, int count) {
    woken = word;
    __real_gp_futex_wake(word, count);
}

/* The time by a system call, which is one step. The C library reads a page of the kernel's, and begins again when the kernel
 * has written there meanwhile: a process that is stepped may not come to an end of that. */
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time) { return (int)syscall(SYS_clock_gettime, clock, time); }

/* ---- what the processes do */

gp_ref new_object(enum gp_kind kind, uint32_t cap) {
    gp_ref ref = gp_object_alloc(kind);
    struct gp_object *o = gp_at(ref);
    atomic_fetch_or(&o->holders[0], 7); /* all three have a handle */
    gp_set(&o->flags, GP_OBJ_SHARED);
    o->cap = cap;
    if (kind == GP_KIND_CHAN && cap) {
        o->ring = gp_alloc(cap * sizeof(struct gp_message), GP_BLOCK_ALIGNED);
        gp_own(o->ring, GP_TAG(GP_TAG_CHAN, ref));
    }
    if (kind == GP_KIND_SEMAPHORE || kind == GP_KIND_RWMUTEX) {
        o->ring = gp_alloc(PROCS * sizeof(int64_t), 0);
        memset(gp_payload(o->ring), 0, PROCS * sizeof(int64_t));
        gp_own(o->ring, GP_TAG(GP_TAG_CHAN, ref));
    }
    if (kind == GP_KIND_SEMAPHORE) {
        gp_set(&o->size, cap);
        gp_set(&o->value, cap);
    }
    return ref;
}

struct gp_message message(void) {
    struct gp_message m = {.codec = GP_CODEC_BYTES};
    m.block = gp_alloc(8, 0);
    uint64_t id = ++shared->ids;
    memcpy(gp_payload(m.block), &id, 8);
    return m;
}

void put(int i) {
    struct gp_message m = message();
    if (gp_chan_send(object(i), &m) != GP_OK) abort();
}

void wait_in(struct gp_case *cases, uint32_t n) {
    uint32_t poll[MANY], lock[MANY];
    struct gp_select s = {.cases = cases, .n = n, .poll = poll, .lock = lock};
    enum gp_result r;
    int64_t waiter = gp_waiter_alloc(false);
    if (n >= GP_JOURNAL_LOCKS) s.spill = gp_alloc(4 * n, 0);
    if (n == 1) {
        gp_case_try_or_wait(cases, (uint32_t)waiter);
    } else {
        for (uint32_t i = 0; i < n; i++) cases[i].sudog = (uint32_t)gp_sudog_alloc();
        gp_select(&s, waiter, &r);
    }
    shared->waiter[shared->peers++] = (uint32_t)waiter;
}

void wait_for(int i, enum gp_op_kind kind, uint64_t n) {
    struct gp_case *c = calloc(1, sizeof *c);
    *c = (struct gp_case){.o = object(i), .kind = (uint8_t)kind, .n = n};
    if (kind == GP_SEND) c->m = message();
    wait_in(c, 1);
}

void select_for(enum gp_op_kind kind, uint32_t n) {
    struct gp_case *c = calloc(n, sizeof *c);
    for (uint32_t i = 0; i < n; i++) {
        c[i] = (struct gp_case){.o = object((int)i), .kind = (uint8_t)kind};
        if (kind == GP_SEND) c[i].m = message();
    }
    wait_in(c, n);
}

gp_ref new_task(bool pinned) {
    gp_ref ref = gp_alloc(sizeof(struct gp_task), GP_BLOCK_TASK), o = new_object(GP_KIND_OUTCOME, 0);
    struct gp_task *t = (struct gp_task *)((char *)gp_at(ref) + GP_BLOCK_HEAD);
    memset(t, 0, sizeof *t);
    gp_set(&t->started, GP_UNMADE);
    t->object = o;
    t->gen = gp_get(&((struct gp_object *)gp_at(o))->gen);
    ((struct gp_object *)gp_at(o))->task = ref;
    t->pinned = pinned;
    t->call.codec = GP_CODEC_BYTES;
    t->call.block = gp_alloc(8, 0);
    gp_own(t->call.block, GP_TAG(GP_TAG_PART, ref));
    gp_set(&t->started, GP_UNSTARTED);
    return ref;
}

/* ---- the image: this process sees it, and may write */

static void see(char *base, uint32_t proc) {
    gp.base = base;
    gp.head = (struct gp_header *)base;
    gp.proc = proc;
    gp.my = gp_proc_at(proc);
    gp.part = gp_part_at(proc);
    gp.arena = gp.heap_at + proc * gp.arena_bytes;
    gp.me = (gp_get(&gp.my->incarnation) & 0x1fffff) << 10 | (proc + 1);
}

static bool never(void) {
    wrong("the repair waits for a lock");
    return false;
}

/* A replacement attaches to the image, as gp_attach() has it. */
static void be_replacement(char *image) {
    see(image, VICTIM);
    uint32_t incarnation = gp_get(&gp.my->incarnation) + 1;
    gp_set(&gp.my->incarnation, incarnation);
    gp.me = (incarnation & 0x1fffff) << 10 | (VICTIM + 1);
    gp.memfd = -1;
    gp_heap_detach();
    if (gp_waiters_attach() < 0) wrong("no replacement can attach");
    gp_tell_attach();
    gp_idle_attach();
    gp_heap_attach();
    gp_release(&gp.my->state, GP_P_LIVE);
    for (int i = 0; i < 200; i++) {
        gp_ref small = gp_alloc(100, 0), large = i % 20 ? 0 : gp_alloc(100000, 0);
        if (!small || gp_tag(small) != gp_my_tag()) wrong("the replacement cannot allocate");
        if (i % 2 && small) gp_free(small);
        if (large) gp_free(large);
    }
    while (gp_task_pop(false));
    use(true);
    if (gp_waiter_alloc(false) < 0) wrong("no waiter for the replacement");
    _exit(failures ? 1 : 0);
}

/* The peer looks at its waiters, as look_at_waiters() in scheduler_calls.c does: each that was fired is in the stack, once. */
static void check_passed(char *image) {
    struct gp_object *o = object(0);
    bool free = gp_get(&o->value) == 0 || gp_repair_died(gp_get(&o->owner));
    uint32_t first = gp_get(&o->recvq_first);
    see(image, PEER);
    if (!free || !first || !(gp_get(&o->flags) & GP_OBJ_WOKEN)) return;
    gp_mutex_pass(o); /* the one that was woken gives up: the next one is */
    if (gp_get(&o->recvq_first) == first) wrong("nobody is woken in place of one that has given up");
}

static void check_watched(char *image) {
    uint32_t fired = 0, pushed = 0;
    see(image, PEER);
    for (uint32_t i = 0; i < gp_get(&gp.my->waiters_used); i++) {
        struct gp_waiter *w = gp_waiter_at(PEER, i);
        if (gp_get(&w->thread) != GP_WATCHED || GP_W_TAG(gp_get(&w->state)) <= GP_W_WAITING) continue;
        gp_watched_again(i);
        fired++;
    }
    struct gp_waiter *c = gp_waiter_at(PEER, shared->collector);
    for (uint32_t at = gp_get(&c->fired); at && pushed < 100; at = gp_get(&gp_waiter_at(PEER, at - 1)->next)) pushed++;
    if (pushed != fired) wrong("%u ended, %u are in the stack", fired, pushed);
    if (fired && GP_W_TAG(gp_get(&c->state)) != GP_W_FIRED) wrong("nobody collects what has ended");
}

static void check_threads(char *image) {
    uint32_t blocked = 0;
    see(image, PEER);
    gp_threads_recount();
    for (uint32_t i = 0; i < gp_get(&gp.my->waiters_used); i++)
        blocked += gp_get(&gp_waiter_at(PEER, i)->thread) == GP_THREAD_BLOCKED;
    if ((uint32_t)gp_get(&gp.my->threads) != blocked) wrong("%u threads of %u count as blocked", (uint32_t)gp_get(&gp.my->threads), blocked);
}

static void examine(char *real, char *image, uint64_t bytes, bool replace) {
    images++;
    madvise(image, bytes, MADV_DONTNEED); /* what an earlier repair wrote */
    struct gp_self self = gp;
    see(image, 0);
    gp.memfd = -1;
    uint64_t dead = GP_TAG(GP_TAG_PROC, (uint64_t)(gp_get(&gp_proc_at(VICTIM)->incarnation) & 0x1fffff) << 16 | (VICTIM + 1));
    struct gp_death how = {.proc = VICTIM, .pid = 1, .status = SIGKILL};
    struct gp_dead d = {.replaced = true};
    woken = NULL;
    gp_repair_note(VICTIM);
    if (shared->sleeps && woken != &gp_proc_at(PEER)->park) wrong("the peer sleeps on");
    if (!gp_repair(&d, &how, never)) wrong("the repair has ended early");
    gp_repair_over();
    check(dead);
    if (replace) {
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            failures = 0;
            be_replacement(image);
        }
        int status;
        waitpid(pid, &status, 0);
        if (status) wrong("the replacement ended with status %x", status);
    }
    if (gp_get(&object(0)->kind) == GP_KIND_MUTEX) check_passed(image);
    if (shared->watches) check_watched(image);
    if (shared->threads) check_threads(image);
    see(image, 0);
    use(false); /* what is private to this process, its free lists say, is for the real segment */
    gp = self;
    (void)real;
}

/* ---- running one */

/* As module.c has it. */
static bool attach(int memfd, uint32_t proc) {
    if (gp_attach(memfd, proc) < 0 || gp_waiters_attach() < 0) return false;
    gp_tell_attach();
    gp_idle_attach();
    gp_go_live();
    return true;
}

/* Memory that the victim takes from the system for the first time would be most of its steps. */
static void warm(void) {
    gp_ref refs[] = {gp_alloc(8, 0), gp_alloc(90, 0), gp_alloc(150, 0), gp_alloc(300, 0)};
    for (unsigned i = 0; i < sizeof refs / sizeof refs[0]; i++) gp_free(refs[i]);
    gp_object_free(gp_at(gp_object_alloc(GP_KIND_ATOMIC)));
    gp_waiter_release((uint32_t)gp_waiter_alloc(false));
    gp_sudog_release((uint32_t)gp_sudog_alloc());
    gp_random(2);
    usleep(1);
}

static pid_t spawn(int memfd, uint32_t proc, const struct scenario *s) {
    pid_t pid = fork();
    if (pid) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    gp_heap_detach(); /* the lists of the host, for its arena */
    memset(&gp, 0, sizeof gp);
    gp.memfd = memfd;
    if (!attach(memfd, proc)) abort();
    if (proc == PEER) {
        s->peer();
        raise(SIGSTOP);
        for (;;) pause();
    }
    warm();
    s->before();
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    s->op();
    raise(SIGSTOP);
    _exit(0);
}

static int stopped(pid_t pid, int number) { /* 0, or how it ended instead */
    int status;
    if (waitpid(pid, &status, WUNTRACED) != pid) return -1;
    return WIFSTOPPED(status) && WSTOPSIG(status) == number ? 0 : status;
}

static void run(const struct scenario *s, bool late, long every) {
    scenario_name = s->name;
    instruction = 0;
    memset(shared, 0, sizeof *shared);
    int memfd = gp_create(PROCS, 64 << 20, 1);
    if (memfd < 0 || !attach(memfd, 0)) {
        wrong("no segment: %d", memfd);
        return;
    }
    struct stat st;
    fstat(memfd, &st);
    s->host();
    pid_t pids[PROCS] = {0};
    for (int i = 0; i < 2; i++) {
        uint32_t proc = (i == 0) == late ? VICTIM : PEER;
        pids[proc] = spawn(memfd, proc, s);
            int how = stopped(pids[proc], SIGSTOP);
        if (how) wrong("proc %u did not come up: %x", proc, how);
    }
    char *real = gp.base, *image = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, memfd, 0);
    long before = images;
    for (;;) {
        if (ptrace(PTRACE_SINGLESTEP, pids[VICTIM], NULL, NULL) < 0) break;
        if (stopped(pids[VICTIM], SIGTRAP)) break;
        instruction++;
        if (instruction % every == 0) examine(real, image, (uint64_t)st.st_size, instruction % (37 * every) == 0);
    }
    printf("%-36s %6ld images\n", s->name, images - before);
    fflush(stdout);
    munmap(image, (size_t)st.st_size);
    for (int i = 1; i < PROCS; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    gp_detach();
}

int main(int argc, char **argv) {
    long every = getenv("EVERY") ? atol(getenv("EVERY")) : 1;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < n_scenarios; i++) {
        bool wanted = argc == 1;
        for (int k = 1; k < argc; k++) wanted = wanted || strcmp(argv[k], scenarios[i].name) == 0;
        if (wanted) run(&scenarios[i], i >= first_late, every);
    }
    printf("%ld images, %d wrong\n", images, failures);
    return failures ? 1 : 0;
}
