/* segment.c - creating and mapping the shared segment.
 *
 * A memfd has no name (nothing to leak, no /dev/shm limit), and the kernel frees it with its last user. It is
 * created sparse and sealed against resizing.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "mem/mem.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

struct gp_self gp = {.memfd = -1};

#define GP_MAX_BYTES (256ULL << 30) /* the reach of a 32-bit ref */
#define GP_MAX_ARENA (16ULL << 30)
#define GP_MIN_ARENA (64ULL << 20)  /* of address space */
/* places that there is room for, if the address space allows it: the host and 32 workers, each with two
 * million cases of selects */
#define ROOM_MOST 33u
#define GP_PARTS_AT ((GP_DEATHS_AT + GP_DEATHS * GP_DEATH_BYTES + GP_PAGE - 1) / GP_PAGE * GP_PAGE)

uint64_t gp_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

static uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }
static uint64_t lesser(uint64_t a, uint64_t b) { return a < b ? a : b; }

static int open_memfd(void) {
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = (int)syscall(SYS_memfd_create, "goproc", flags | MFD_NOEXEC_SEAL);
    /* before Linux 6.3 */
    if (fd < 0 && errno == EINVAL) fd = (int)syscall(SYS_memfd_create, "goproc", flags);
    return fd < 0 ? -errno : fd;
}

static void in_forked_child(void) {
    if (!gp.base) return;
    gp.forked = true; /* MADV_DONTFORK: the mapping is not here */
    gp.base = NULL;
    gp.my = NULL;
    gp.head = NULL;
}

static int map(int fd, uint64_t bytes) {
    struct stat st;
    if (fstat(fd, &st) < 0) return -errno;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (p == MAP_FAILED) return -errno;
    madvise(p, bytes, MADV_DONTFORK);
    madvise(p, bytes, MADV_DONTDUMP);
    static bool hooked;
    if (!hooked) {
        pthread_atfork(NULL, NULL, in_forked_child);
        gp_held_start();
        hooked = true;
    }
    struct gp_mapping *m = calloc(1, sizeof *m);
    if (!m) {
        munmap(p, bytes);
        return -ENOMEM;
    }
    m->base = p;
    m->bytes = bytes;
    m->users = 1;
    gp.mapping = m;
    gp.base = p;
    gp.bytes = bytes;
    gp.memfd = fd;
    gp.memfd_dev = st.st_dev;
    gp.memfd_ino = st.st_ino;
    gp.head = p;
    return 0;
}

void gp_mapping_release(struct gp_mapping *m) {
    if (--m->users > 0 || gp.forked || m->inherited) return;
    munmap(m->base, m->bytes);
    if (m->image) munmap(m->image, m->bytes);
    free(m);
}

static void unmap(void) {
    if (!gp.base) return;
    gp.base = NULL;
    gp_mapping_release(gp.mapping);
    gp.mapping = NULL;
}

/* The kernel sends SIGXFSZ beside EFBIG, so the limit is looked at first. */
static int resize(int fd, uint64_t bytes) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && bytes > limit.rlim_cur)
        return -EFBIG;
    return ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
}

/* The parts of a segment. */
struct shape {
    uint32_t waiters, selects, ring_tasks;
    uint64_t part_bytes, heap_at, arena;
};

/* The entries that a table of each proc has: `most` up to `full_for` procs, fewer with more procs, and half
 * as many for each halving. */
static uint32_t entries(uint32_t most, uint32_t full_for, uint32_t nprocs, unsigned halvings) {
    uint64_t n = nprocs > full_for ? (uint64_t)most * full_for / nprocs : most;
    n = n >> halvings;
    return n < GP_LEAST ? GP_LEAST : (uint32_t)(n / GP_INBOX_LINE * GP_INBOX_LINE);
}

static struct shape shape_of(uint32_t nprocs, unsigned halvings) {
    struct shape s = {
        /* with 256 procs the tables of all take 50 GiB of the 256 */
        .waiters = entries(GP_WAITERS, 64, nprocs, halvings),
        .selects = entries(GP_SELECTS, 8, nprocs, halvings),
        .ring_tasks = halvings < 5 ? GP_RING_TASKS >> halvings : GP_LEAST,
    };
    s.part_bytes = round_up(gp_part_end(s.waiters, s.selects, s.ring_tasks), GP_PAGE);
    s.heap_at = round_up(GP_PARTS_AT + s.part_bytes * nprocs, GP_PAGE);
    uint64_t arena = (GP_MAX_BYTES - s.heap_at) / nprocs / GP_PAGE * GP_PAGE;
    if (arena > GP_MAX_ARENA) arena = GP_MAX_ARENA;
    arena = round_up(arena >> halvings, GP_PAGE);
    s.arena = arena < GP_MIN_ARENA ? GP_MIN_ARENA : arena;
    return s;
}

static uint64_t bytes_of(const struct shape *s, uint32_t nprocs) { return s->heap_at + s->arena * nprocs; }

uint64_t gp_least_bytes(uint32_t nprocs) {
    struct shape s = shape_of(nprocs, 0);
    for (unsigned halvings = 1; s.arena > GP_MIN_ARENA; halvings++) s = shape_of(nprocs, halvings);
    return bytes_of(&s, nprocs);
}

/* The places that a segment has room for. A program may get more workers than it has begun with (resize.c).
 * There is room for as many as leave each proc an arena that can hold all the memory of the program. */
static uint32_t room_for(uint32_t nprocs, uint64_t memory) {
    uint64_t now = shape_of(nprocs, 0).arena, enough = memory < now ? memory : now;
    uint32_t room = nprocs > 1 && nprocs < ROOM_MOST ? ROOM_MOST : nprocs;
    while (room > nprocs && shape_of(room, 0).arena < enough) room--;
    return room;
}

static int create(uint32_t nprocs, uint32_t room, uint64_t memory, uint32_t ncpu) {
    struct shape s;
    int fd = open_memfd();
    if (fd < 0) return fd;
    int err;
    /* smaller tables and arenas fit under limits on address space and on files (ulimit -v, -f; some
     * containers) */
    for (unsigned halvings = 0;; halvings++) {
        s = shape_of(room, halvings);
        if (room > nprocs) s.arena = lesser(s.arena, round_up(2 * memory + GP_MIN_ARENA, GP_PAGE));
        uint64_t bytes = bytes_of(&s, room);
        if ((err = resize(fd, bytes)) < 0) {
            if (err != -EFBIG && err != -EINVAL) break;
        } else if ((err = map(fd, bytes)) == 0 || err != -ENOMEM) {
            break;
        }
        if (room > nprocs) {
            room = nprocs;
            halvings = -1u; /* again from the start, without room for more */
        } else if (s.arena <= GP_MIN_ARENA) {
            break;
        }
    }
    if (err == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) err = -errno;
    if (err == 0) err = gp_back(0, GP_PROCS_AT + (uint64_t)nprocs * GP_PROC_BYTES);
    if (err < 0) {
        unmap();
        gp.memfd = -1;
        close(fd);
        return err;
    }
    struct gp_header *h = gp.head;
    h->abi = GP_ABI;
    gp_set(&h->nprocs, nprocs);
    gp_set(&h->workers, nprocs - 1);
    h->room = room;
    h->bytes = gp.bytes;
    h->procs_at = GP_PROCS_AT;
    h->parts_at = GP_PARTS_AT;
    h->part_bytes = s.part_bytes;
    h->heap_at = s.heap_at;
    h->arena_bytes = s.arena;
    h->waiters = s.waiters;
    h->selects = s.selects;
    h->ring_tasks = s.ring_tasks;
    h->memory = memory;
    h->ncpu = ncpu;
    gp_set(&h->next_id, 1);
    for (uint32_t p = 0; p < nprocs; p++) gp_set(&gp_proc_at(p)->state, p ? GP_P_STARTING : GP_P_FREE);
    h->magic = GP_MAGIC;
    unmap(); /* gp_attach maps it again: one way in for host and workers */
    return fd;
}

int gp_create(uint32_t nprocs, uint64_t memory, uint32_t ncpu) {
    return create(nprocs, nprocs, memory, ncpu);
}
int gp_create_with_room(uint32_t nprocs, uint64_t memory, uint32_t ncpu) {
    return create(nprocs, room_for(nprocs, memory), memory, ncpu);
}

int gp_back_place(uint32_t proc) {
    return gp_back(GP_PROCS_AT + (uint64_t)proc * GP_PROC_BYTES, GP_PROC_BYTES);
}

/* True if the header can be right. A process may attach late, when the number of places has grown. */
static bool is_sound(const struct gp_header *h) {
    return h->bytes == gp.bytes && gp_get(&h->nprocs) >= 1 && gp_get(&h->nprocs) <= h->room &&
           h->room <= GP_MAX_PROCS && h->waiters <= GP_WAITERS && h->selects <= GP_SELECTS &&
           h->ring_tasks <= GP_RING_TASKS &&
           gp_part_end(h->waiters, h->selects, h->ring_tasks) <= h->part_bytes &&
           h->procs_at == GP_PROCS_AT && h->parts_at == GP_PARTS_AT && h->arena_bytes >= GP_PAGE &&
           h->arena_bytes <= GP_MAX_ARENA && h->part_bytes <= GP_MAX_BYTES && h->heap_at % GP_PAGE == 0 &&
           h->arena_bytes % GP_PAGE == 0 && h->parts_at + h->part_bytes * h->room <= h->heap_at &&
           h->heap_at + h->arena_bytes * h->room <= h->bytes;
}

static int adopt(int memfd, uint32_t proc) {
    struct stat st;
    if (fstat(memfd, &st) < 0) return -errno;
    int err = map(memfd, (uint64_t)st.st_size);
    if (err < 0) return err;
    struct gp_header *h = gp.head;
    if (h->magic != GP_MAGIC || h->abi != GP_ABI || !is_sound(h) ||
        (proc >= h->nprocs && proc != GP_OBSERVER)) {
        unmap();
        return -EPROTO;
    }
    gp.run++;
    gp.proc = proc;
    gp.room = h->room;
    gp.ncpu = h->ncpu;
    gp.parts_at = h->parts_at;
    gp.part_bytes = h->part_bytes;
    gp.waiters = h->waiters;
    gp.selects = h->selects;
    gp.ring_tasks = h->ring_tasks;
    gp.sudogs_at = gp_part_sudogs(gp.waiters);
    gp.tasks_at = gp_part_tasks(gp.waiters, gp.selects);
    gp.pinned_at = gp_part_pinned(gp.waiters, gp.selects, gp.ring_tasks);
    gp.heap_at = h->heap_at;
    gp.heap_first = (uint32_t)(h->heap_at / GP_LINE);
    gp.heap_lines = (uint32_t)((h->bytes - h->heap_at) / GP_LINE);
    gp.arena_bytes = h->arena_bytes;
    gp.forked = false;
    return 0;
}

int gp_observe(int memfd) {
    int err = adopt(memfd, GP_OBSERVER);
    if (err < 0) return err;
    gp.arena = gp.bytes; /* no block is mine */
    gp.me = gp_word(1, GP_OBSERVER);
    return 0;
}

uint32_t gp_zygote;

/* False: the zygote that has forked this worker has died since, and the place is for a worker of another
 * one. */
static bool claim_place(void) {
    uint64_t none = (uint64_t)gp_zygote << 32, mine = none | (uint32_t)getpid();
    if (gp_zygote == 0) return true; /* a process that no zygote has forked */
    return atomic_compare_exchange_strong(&gp.my->claim, &none, mine);
}

int gp_attach(int memfd, uint32_t proc) {
    int err = adopt(memfd, proc);
    if (err < 0) return err;
    gp.arena = gp.heap_at + proc * gp.arena_bytes;
    gp.my = gp_proc_at(proc);
    if (!claim_place()) _exit(0);
    gp.part = gp_part_at(proc);
    atomic_store(&gp.lost, false);
    uint32_t incarnation = gp_get(&gp.my->incarnation) + 1;
    gp_set(&gp.my->incarnation, incarnation);
    gp.me = gp_word(incarnation, proc);
    gp_spin_attach();
    gp_heap_attach();
    return 0;
}

void gp_go_live(void) {
    gp.attached = gp_now();
    gp_set(&gp.my->pid, getpid());
    atomic_fetch_add(&gp.head->live, 1);
    gp_set(&gp.my->grown, 0);
    gp_release(&gp.my->state, GP_P_LIVE);
}

void gp_detach(void) {
    if (!gp.base) return;
    gp_set(&gp.my->state, GP_P_GONE);
    gp_heap_detach();
    if (gp_memfd_valid()) close(gp.memfd); /* the program may have put a file of its own there */
    gp.memfd = -1;
    gp.my = NULL;
    gp.head = NULL;
    unmap();
}
