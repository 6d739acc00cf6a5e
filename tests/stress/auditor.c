/* auditor.c - looks at the segment of a running program from outside, and checks its invariants.
 *
 *     auditor SEGMENT SECONDS PATIENCE FINDINGS
 *
 * SEGMENT is /proc/PID/fd/N of the host. The auditor ends after SECONDS, or at so many FINDINGS.
 *
 * The segment is mapped read-only, so the program does not notice. Two invariants hold between any two instructions, and are
 * checked at once: the counts of a channel, and that a lock has a living owner or one whose death is not repaired. The others
 * hold whenever an operation ends or a death is repaired. A single look from outside has no instant of its own: it may see
 * the middle of an operation. So what contradicts these must be there in each look, with the same value, for PATIENCE seconds
 * and LEAST_LOOKS looks. For a lock the time does not count in which its owner waits for a CPU.
 *
 * The letters I1 ... are those of the invariants in docs/recovery.md's terms: I1 owners of locks, I2 journals, I3 counts of
 * channels, I4 queues of waiters, I5 links, I8 owners of blocks, I9 and I10 wake-ups.
 *
 * Prints a line for each finding, and at the end: looks, objects, blocks, deaths. The status is 1 if there were findings.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "chan/chan.h"
#include "mem/pages.h"
#include "proc/proc.h"
#include "proc/repair.h"

#define LOOK_NS 20000000L
#define MOST 65536u
#define NS 1000000000ULL
#define LEAST_LOOKS 10u /* fewer: a machine that stands still would make findings */

/* Of the process that has a lock. Zero if no lock is suspected, or the process has ended. */
struct owner {
    uint64_t ran; /* ns that its threads had a CPU */
    bool ready;   /* a thread has a CPU, or waits for one */
};

struct suspicion {
    const char *what;
    uint64_t where, value;
    uint64_t since; /* time in which the owner waited for a CPU is added */
    uint32_t looks;
    struct owner owner;
};
static struct suspicion before[MOST], now_seen[MOST];
static uint32_t before_n, now_n, findings;
static uint64_t look_at, last_look_at, patience;
static uint64_t looks, objects, blocks, definitions;

static void report(const char *what, uint64_t where, uint64_t value) {
    printf("%s: at %#" PRIx64 ", value %#" PRIx64 "\n", what, where, value);
    fflush(stdout);
    findings++;
}

static void suspect_of(struct owner owner, const char *what, uint64_t where, uint64_t value) {
    struct suspicion s = {what, where, value, look_at, 0, owner};
    for (uint32_t i = 0; i < before_n; i++) {
        struct suspicion *b = &before[i];
        if (b->what != what || b->where != where || b->value != value) continue;
        uint64_t ran = owner.ran - b->owner.ran, passed = look_at - last_look_at;
        s.since = b->since + (owner.ready && ran < passed ? passed - ran : 0);
        s.looks = b->looks + 1;
    }
    if (look_at > s.since + patience && s.looks >= LEAST_LOOKS) report(what, where, value);
    else if (now_n < MOST) now_seen[now_n++] = s;
}

static void suspect(const char *what, uint64_t where, uint64_t value) {
    suspect_of((struct owner){0, false}, what, where, value);
}

/* ---- I1, I2: locks */

/* Read up to 511 bytes of /proc/PID/task/TID/NAME. The text is empty if there is none. */
static const char *text_of(int pid, const char *tid, const char *name) {
    static char text[512];
    char path[300];
    snprintf(path, sizeof path, "/proc/%d/task/%s/%s", pid, tid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    if (fd >= 0) close(fd);
    return text;
}

static void each_thread(int pid, void (*call)(int pid, const char *tid, void *arg), void *arg) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *threads = pid > 0 ? opendir(path) : NULL;
    for (struct dirent *t; threads && (t = readdir(threads));)
        if (t->d_name[0] != '.') call(pid, t->d_name, arg);
    if (threads) closedir(threads);
}

static void add_thread(int pid, const char *tid, void *arg) {
    struct owner *owner = arg;
    owner->ran += strtoull(text_of(pid, tid, "schedstat"), NULL, 10);
    const char *state = strrchr(text_of(pid, tid, "stat"), ')');
    if (state && state[1] && state[2] == 'R') owner->ready = true;
}

static struct owner owner_now(int pid) {
    struct owner owner = {0, false};
    each_thread(pid, add_thread, &owner);
    return owner;
}

static void show_thread(int pid, const char *tid, void *arg) {
    (void)arg;
    const char *names[] = {"schedstat", "stat", "wchan", "syscall"};
    for (unsigned i = 0; i < 4; i++) printf("  thread %s, %s: %s\n", tid, names[i], text_of(pid, tid, names[i]));
    fflush(stdout);
}

static bool same_incarnation(uint32_t word, uint32_t proc) {
    return (word >> 10 & 0x1fffff) == (gp_acquire(&gp_proc_at(proc)->incarnation) & 0x1fffff);
}

static bool journal_has(uint32_t proc, gp_ref line) {
    struct gp_journal *j = &gp_proc_at(proc)->journal;
    uint32_t n = gp_acquire(&j->nlocks);
    if (gp_get(&j->spill)) return true; /* a select over many channels lists them in a block of its own */
    for (uint32_t i = 0; i < n && i < GP_JOURNAL_LOCKS; i++)
        if (gp_get(&j->locks[i]) == line) return true;
    return false;
}

static void check_lock(_Atomic uint32_t *word, gp_ref line) {
    uint32_t owner = gp_acquire(word);
    if ((owner & ~GP_LOCK_WAITERS) == 0) return;
    if ((owner & ~GP_LOCK_WAITERS) == GP_CORONER_WORD) { /* during a repair */
        suspect("I11: the coroner does not release a lock", (uint64_t)((char *)word - gp.base), owner);
        return;
    }
    uint32_t proc = (owner & 0x3ff) - 1;
    if (proc >= gp_places()) {
        report("I1: a lock has no owner", (uint64_t)((char *)word - gp.base), owner);
        return;
    }
    bool current = same_incarnation(owner, proc), listed = !line || journal_has(proc, line);
    if (!current) suspect("I1: the owner of a lock is gone", (uint64_t)((char *)word - gp.base), owner);
    if (!listed) suspect("I2: a lock is not in its owner's journal", (uint64_t)((char *)word - gp.base), owner);
    int pid = gp_get(&gp_proc_at(proc)->pid);
    uint32_t found = findings;
    suspect_of(owner_now(pid), "I11: a lock is not released", (uint64_t)((char *)word - gp.base), owner);
    if (findings > found) each_thread(pid, show_thread, NULL);
}

/* ---- I3, I4, I5: channels and queues */

static void check_counts(struct gp_object *o) {
    uint32_t gen = gp_acquire(&o->gen), cap = o->cap;
    uint64_t tail = gp_acquire(&o->tail), head = gp_acquire(&o->head), later = gp_acquire(&o->tail);
    if (gp_acquire(&o->kind) != GP_KIND_CHAN || gp_acquire(&o->gen) != gen) return; /* it went meanwhile */
    if (cap == 0 || gp_get(&o->flags) & (GP_OBJ_LAZY | GP_OBJ_ONCE)) return;
    if (head > later || (tail > head && tail - head > cap)) report("I3: the counts of a channel", gp_ref_of(o), tail - head);
}

/* Return how many waiters of a queue are WAITING. */
static uint32_t check_queue(struct gp_object *o, uint32_t first) {
    uint32_t waiting = 0, length = 0;
    for (uint32_t sd = first; sd; length++) {
        if (!gp_sudog_check(sd) || length > 1000000) {
            suspect("I5: a queue of waiters", gp_ref_of(o), sd);
            break;
        }
        struct gp_sudog *s = gp_sudog_at(sd);
        uint32_t proc = s->proc, index = s->waiter;
        if (s->object != gp_ref_of(o)) suspect("I5: a foreign waiter in a queue", gp_ref_of(o), sd);
        if (proc < gp_places() && index < gp.waiters) {
            uint64_t state = gp_acquire(&gp_waiter_at(proc, index)->state);
            waiting += GP_W_TAG(state) == GP_W_WAITING && GP_W_EPOCH(state) == s->epoch;
        }
        sd = gp_acquire(&s->next);
    }
    return waiting;
}

static void check_channel(struct gp_object *o) {
    uint64_t moves = gp_acquire(&o->head) << 32 ^ gp_acquire(&o->tail);
    uint32_t receivers = check_queue(o, gp_get(&o->recvq_first)), senders = 0;
    uint16_t flags = gp_get(&o->flags);
    if (!(flags & GP_OBJ_CONTEXT)) senders = check_queue(o, gp_get(&o->sendq_first));
    if (flags & (GP_OBJ_LAZY | GP_OBJ_ONCE)) return;
    if (receivers && gp_get(&o->tail) > gp_get(&o->head)) suspect("I4: a receiver waits, and there is a value", gp_ref_of(o), moves);
    if (senders && gp_get(&o->tail) - gp_get(&o->head) < o->cap) suspect("I4: a sender waits, and there is room", gp_ref_of(o), moves);
    if ((flags & GP_OBJ_CLOSED) && (receivers || senders)) suspect("I4: somebody waits on a closed channel", gp_ref_of(o), moves);
    if (o->cap == 0 && receivers && senders && receivers + senders > 2)
        suspect("I4: senders and receivers wait", gp_ref_of(o), (uint64_t)receivers << 32 | senders);
}

/* ---- I8: owners of blocks */

static void check_owner(struct gp_block *b) {
    uint64_t tag = gp_acquire(&b->tag), value = GP_TAG_VALUE(tag);
    switch (GP_TAG_KIND(tag)) {
    case GP_TAG_PROC: {
        uint32_t proc = (uint32_t)(value & 0xffff) - 1;
        if (proc >= gp_places()) suspect("I8: a block of no process", gp_ref_of(b), tag);
        else if ((uint32_t)(value >> 16) != gp_acquire(&gp_proc_at(proc)->incarnation))
            suspect("I8: a block of the dead", gp_ref_of(b), tag);
        break;
    }
    case GP_TAG_CHAN:
    case GP_TAG_RESULT: {
        struct gp_object *o = gp_at((gp_ref)value);
        if (!gp_object_check((gp_ref)value)) suspect("I8: a block of no object", gp_ref_of(b), tag);
        else if (gp_acquire(&o->kind) == 0)
            suspect("I8: a block of an object that is gone", gp_ref_of(b), tag);
        break;
    }
    case GP_TAG_PART:
        if (gp_tag((gp_ref)value) == 0) suspect("I8: a part of no block", gp_ref_of(b), tag);
        break;
    case GP_TAG_FREE: case GP_TAG_QUEUE: case GP_TAG_DEFINITION: break;
    default: suspect("I8: no owner has this tag", gp_ref_of(b), tag);
    }
}

/* The core ends a process that reads a reference which cannot be. This one takes no lock, so such a reference may be of a
 * block that was freed meanwhile: it goes on behind what it was looking at. */
static jmp_buf *behind;
static uint64_t cannot_be;

_Noreturn void __wrap_gp_damaged(const char *what, uint64_t value) {
    (void)what;
    cannot_be = value;
    longjmp(*behind, 1);
}

static void guarded(void (*check)(void *at, bool object), void *at, bool object, uint64_t where) {
    jmp_buf here, *outer = behind;
    behind = &here;
    if (setjmp(here)) suspect("a reference that cannot be", where, cannot_be);
    else check(at, object);
    behind = outer;
}

static void check_block(void *at, bool object) {
    struct gp_block *b = at;
    if (!object) {
        if (GP_TAG_KIND(gp_acquire(&b->tag)) == GP_TAG_DEFINITION) definitions++;
        else blocks++;
        check_owner(b);
        return;
    }
    struct gp_object *o = (struct gp_object *)b;
    objects++;
    check_lock(&o->lock, gp_ref_of(o));
    if (gp_acquire(&o->kind) == GP_KIND_CHAN) {
        check_counts(o);
        check_channel(o);
    }
}

static void visit(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    (void)bytes;
    (void)arg;
    guarded(check_block, b, object, gp_ref_of(b));
}

/* ---- I9, I10: wake-ups */

static void check_wakeups(void *at, bool object) {
    (void)object;
    struct gp_proc *proc = at;
    uint32_t p = (uint32_t)((uint64_t)((char *)proc - (char *)gp_proc_at(0)) / GP_PROC_BYTES);
    if (gp_acquire(&proc->state) != GP_P_LIVE) return;
    bool parked = gp_acquire(&proc->park) == GP_PARKED;
    uint64_t act = gp_acquire(&proc->act), inbox = gp_acquire(&proc->inbox);
    if (parked && inbox) suspect("I10: a process sleeps, and its inbox is not empty", p, act);
    uint32_t used = gp_acquire(&proc->waiters_used);
    for (uint32_t i = 0; parked && i < used && i < gp.waiters; i++) {
        struct gp_waiter *w = gp_waiter_at(p, i);
        uint64_t state = gp_acquire(&w->state);
        if (gp_get(&w->thread) == GP_GOROUTINE && (GP_W_TAG(state) == GP_W_FIRED || GP_W_TAG(state) == GP_W_CLOSED))
            suspect("I9: a goroutine was not woken", (uint64_t)p << 32 | i, state ^ act << 32);
    }
    if (gp_get(&proc->missed)) suspect("a wake-up was missed", p, gp_get(&proc->missed));
}

static void check_heap(void *at, bool object) {
    (void)at;
    (void)object;
    gp_heap_each(visit, NULL);
}

static void look(void) {
    objects = blocks = definitions = 0;
    now_n = 0;
    look_at = gp_now();
    check_lock(&gp.head->tree.lock, gp_ref_of(&gp.head->tree));
    _Atomic uint32_t *words[] = {&gp.head->collecting, &gp.head->reclaiming, &gp.head->dumping};
    for (unsigned i = 0; i < 3; i++) check_lock(words[i], 0);
    for (uint32_t p = 0; p < gp_places(); p++) {
        check_lock(&gp_proc_at(p)->queue.lock, gp_ref_of(&gp_proc_at(p)->queue));
        guarded(check_wakeups, gp_proc_at(p), false, p);
    }
    guarded(check_heap, NULL, false, 0);
    memcpy(before, now_seen, now_n * sizeof *before);
    before_n = now_n;
    last_look_at = look_at;
    looks++;
}

static void map(const char *path) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) exit((perror(path), 2));
    gp.bytes = (uint64_t)st.st_size;
    gp.base = mmap(NULL, gp.bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (gp.base == MAP_FAILED) exit((perror("mmap"), 2));
    close(fd);
    struct gp_header *h = gp.head = (struct gp_header *)gp.base;
    if (h->magic != GP_MAGIC || h->abi != GP_ABI) exit((fprintf(stderr, "%s: no segment of this ABI\n", path), 2));
    gp.room = h->room;
    gp.arena_bytes = h->arena_bytes;
    gp.heap_at = h->heap_at;
    gp.part_bytes = h->part_bytes;
    gp.parts_at = h->parts_at;
    gp.waiters = h->waiters;
    gp.selects = h->selects;
    gp.sudogs_at = gp_part_sudogs(h->waiters);
    gp.proc = GP_OBSERVER;
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    map(argv[1]);
    uint64_t end = gp_now() + (uint64_t)(atof(argv[2]) * 1e9);
    patience = (uint64_t)(atof(argv[3]) * 1e9);
    uint32_t most = (uint32_t)atoi(argv[4]);
    struct timespec pause = {0, LOOK_NS};
    while (gp_now() < end && findings < most && !gp_get(&gp.head->stop)) {
        look();
        nanosleep(&pause, NULL);
    }
    printf("%" PRIu64 " looks, %" PRIu64 " objects, %" PRIu64 " blocks, %" PRIu64 " deaths, %u findings\n", looks, objects,
           blocks, gp_get(&gp.head->deaths), findings);
    return findings != 0;
}
