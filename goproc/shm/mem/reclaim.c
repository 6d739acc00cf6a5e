/* reclaim.c - free memory goes back to the system, in any process's arena.
 *
 * That happens under pressure, before an allocation fails, and when a process is idle. Only the owner of an
 * arena allocates there, and the owner may be computing, or stopped: so it is not asked. A process that
 * reclaims marks a page TAKING, checks that no block lives there, and gives the page back.
 *
 * The owner allocates a small block by one store, its tag, and then looks at the class of the page once more.
 * With the taker's side that is Dekker's:
 *
 *     owner: tag = mine; read class      taker: class = TAKING; fence of all; read tags
 *
 * One of the two sees the other: the owner gives way, and takes another block, or the taker does, and
 * restores the class. The owner pays no fence for it. The taker makes the kernel put one into every process
 * (membarrier), once for many pages; where the kernel cannot, small blocks are taken only in the process's
 * own arena.
 */
#define _GNU_SOURCE
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pages.h"

#define WINDOW 1024u           /* pages that are looked at before those found are given back */
#define TRIM_NS 300000000ULL   /* an arena that was little used for so long gives its free memory back */
#define IN_USE 16u             /* little: one move at most for so many of its pages; of a small arena, none */
#define LOCK_LOOKS 100u        /* of 1 ms, at the lock of a process that collects */
#define WAIT_LOOKS 1000u       /* of 1 ms, at that of a process that reclaims */

static long barrier(int command) { return syscall(SYS_membarrier, command, 0, 0); }

void gp_reclaim_attach(void) {
    gp_set(&gp.my->fenced, barrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) == 0);
    gp_set(&gp.my->searched, gp_get(&gp.head->full)); /* a new process has no garbage */
}

/* ---- finding free pages */

/* A FREE extent belongs to the process that first makes its class TAKING. By then the page may begin another
 * extent, which is in use: so the tag is read again. The tag is not written: by then the page may lie in the
 * middle of a payload. */
bool gp_extent_take(struct gp_page *d, const struct gp_block *b) {
    uint32_t cls = gp_acquire(&d->cls);
    if (cls != GP_CLASS_EXTENT || gp_acquire(&b->tag) != 0 ||
        !atomic_compare_exchange_strong(&d->cls, &cls, GP_TAKING(GP_CLASS_EXTENT)))
        return false;
    if (gp_acquire(&b->tag) == 0) return true;
    gp_release(&d->cls, GP_CLASS_EXTENT);
    return false;
}

bool gp_page_empty(uint64_t arena, uint32_t page, uint32_t cls) {
    const char *start = gp_page_start(arena, page);
    uint32_t bytes = gp_class_bytes[cls];
    for (uint32_t at = 0; at + bytes <= GP_PAGE; at += bytes)
        if (gp_acquire((const _Atomic uint64_t *)(start + at)) != 0) return false;
    return true;
}

void gp_page_keep_gen(uint64_t arena, uint32_t page) {
    const char *start = gp_page_start(arena, page);
    struct gp_page *d = gp_page_at(arena, page);
    uint32_t most = gp_get(&d->gen);
    for (uint32_t at = 0; at < GP_PAGE; at += sizeof(struct gp_object)) {
        uint32_t gen = gp_get(&((const struct gp_object *)(start + at))->gen);
        if ((int32_t)(gen - most) > 0) most = gen;
    }
    gp_set(&d->gen, most);
}

/* ---- the collector's lock */

/* Pages of objects change under this lock. The coroner writes into objects that it finds, so nobody has the
 * lock while it repairs. It makes crash_epoch odd, and then looks at the lock: one of the two sees the
 * other. */
bool gp_collect_lock(void) {
    uint32_t free_word = 0;
    if (!atomic_compare_exchange_strong(&gp.head->collecting, &free_word, gp.me)) return false;
    if (!(atomic_load(&gp.head->crash_epoch) & 1)) return true;
    gp_collect_unlock();
    return false;
}

void gp_collect_unlock(void) { gp_release(&gp.head->collecting, 0); }

/* Memory that another process is giving back counts as taken until it is given back: wait for that. */
static bool wait_for_reclaimer(void) {
    for (uint32_t i = 0; i < WAIT_LOOKS; i++) {
        uint32_t free_word = 0;
        if (atomic_compare_exchange_strong(&gp.head->reclaiming, &free_word, gp.me)) return true;
        usleep(1000);
    }
    return false;
}

static bool wait_for_collector(void) {
    for (uint32_t i = 0; i < LOCK_LOOKS; i++) {
        if (gp_collect_lock()) return true;
        /* this process is in the middle of a collection */
        if (gp_get(&gp.head->collecting) == gp.me) return false;
        usleep(1000);
    }
    return false;
}

/* ---- taking */

struct window {
    uint32_t proc;
    uint64_t arena;
    uint32_t from, to;
    bool small, objects; /* may be looked at */
};

static uint32_t length(const struct window *w, uint32_t page, uint32_t origin) {
    return origin == GP_CLASS_EXTENT ? gp_extent_pages(w->arena, page) : 1;
}

/* Mark the pages that seem free. `to` ends behind the last extent, or where no page was ever used. True if
 * there are small blocks. */
static bool mark(struct window *w) {
    bool small = false;
    for (uint32_t page = w->from; page < w->to; page++) {
        struct gp_page *d = gp_page_at(w->arena, page);
        uint32_t cls = gp_acquire(&d->cls);
        if (cls == 0) {
            w->to = page;
        } else if (cls == GP_CLASS_IDLE) {
            atomic_compare_exchange_strong(&d->cls, &cls, GP_TAKING(cls));
        } else if (cls == GP_CLASS_EXTENT &&
                   gp_extent_take(d, (struct gp_block *)gp_page_start(w->arena, page))) {
            page += length(w, page, cls) - 1;
            if (page >= w->to) w->to = page + 1;
        } else if (cls < GP_CLASS_COUNT && (cls == GP_CLASS_OBJECT ? w->objects : w->small) &&
                   gp_page_empty(w->arena, page, cls)) {
            small |= atomic_compare_exchange_strong(&d->cls, &cls, GP_TAKING(cls));
        }
    }
    return small;
}

static void restore(const struct window *w, uint32_t page, uint32_t origin) {
    gp_release(&gp_page_at(w->arena, page)->cls, origin);
}

/* Make pages holes that this process is taking; if the system does not take them, give them their former
 * class. */
static uint64_t give(const struct window *w, uint32_t page, uint32_t end) {
    uint64_t bytes = (uint64_t)(end - page) * GP_PAGE;
    if (bytes == 0) return 0;
    if (gp_unback(w->arena + (uint64_t)page * GP_PAGE, bytes)) {
        atomic_fetch_sub(&gp_proc_at(w->proc)->committed, bytes);
        /* an extent's first page last */
        while (end-- > page) gp_release(&gp_page_at(w->arena, end)->cls, GP_CLASS_HOLE);
        return bytes;
    }
    for (uint32_t n; page < end; page += n) {
        uint32_t origin = gp_page_class(gp_page_at(w->arena, page));
        n = length(w, page, origin);
        restore(w, page, origin);
    }
    return 0;
}

static uint64_t give_marked(const struct window *w) {
    uint64_t bytes = 0;
    uint32_t start = w->from, page = w->from; /* [start, page) is to be given */
    while (page < w->to) {
        struct gp_page *d = gp_page_at(w->arena, page);
        uint32_t origin = gp_page_class(d), n = 1;
        bool mine = gp_acquire(&d->cls) == GP_TAKING(origin);
        if (mine && origin < GP_CLASS_COUNT && !gp_page_empty(w->arena, page, origin)) {
            restore(w, page, origin); /* the owner was first */
            mine = false;
        } else if (mine) {
            n = length(w, page, origin);
            if (origin == GP_CLASS_OBJECT) gp_page_keep_gen(w->arena, page);
        }
        if (!mine) {
            bytes += give(w, start, page);
            start = page + n;
        }
        page += n;
    }
    return bytes + give(w, start, page);
}

static uint64_t reclaim(struct window w, uint32_t from, uint32_t end, bool (*enough)(void)) {
    uint64_t bytes = 0;
    for (; from < end && !(enough && enough()); from = w.to) {
        w.from = from;
        w.to = end - from < WINDOW ? end : from + WINDOW;
        if (mark(&w)) barrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED);
        if (w.from == w.to) break;
        bytes += give_marked(&w);
    }
    return bytes;
}

uint64_t gp_reclaim_idle(uint32_t proc, uint32_t page, uint32_t pages) {
    return reclaim((struct window){.proc = proc, .arena = gp_arena_at(proc)}, page, page + pages, NULL);
}

static void reclaim_arena(uint32_t proc, bool objects, bool (*enough)(void)) {
    bool small = proc == gp.proc || (gp_get(&gp.my->fenced) && gp_get(&gp_proc_at(proc)->fenced));
    struct window w = {.proc = proc, .arena = gp_arena_at(proc), .small = small, .objects = small && objects};
    reclaim(w, gp_first_page(), (uint32_t)(gp.arena_bytes / GP_PAGE), enough);
}

void gp_heap_reclaim(void) {
    if (!wait_for_reclaimer()) return;
    bool objects = wait_for_collector();
    for (uint32_t p = 0; p < gp_places(); p++) reclaim_arena(p, objects, NULL);
    if (objects) gp_collect_unlock();
    gp_release(&gp.head->reclaiming, 0);
}

/* ---- when idle. One process looks at the arenas of all: the others may be busy, or sleep in calls of the
 * program. */

static uint64_t next_look;
static bool look_again;

static uint64_t changes(void) {
    uint64_t sum = 1 + gp_get(&gp.head->collect); /* 0: no memory was ever given back */
    for (uint32_t p = 0; p < gp_places(); p++)
        sum += gp_get(&gp_proc_at(p)->heap_moves) + gp_get(&gp_proc_at(p)->heap_freed);
    return sum;
}

uint64_t gp_heap_patience(uint64_t now) {
    if (changes() == gp_get(&gp.head->heap_changes)) return UINT64_MAX;
    return now < next_look && next_look - now < TRIM_NS ? next_look - now : TRIM_NS;
}

bool gp_heap_look(void) {
    struct gp_header *h = gp.head;
    uint64_t now = gp_now(), last = gp_get(&h->heap_trimmed);
    if (look_again) {
        look_again = false;
        return true;
    }
    if (now < next_look || gp_get(&h->stop)) return false;
    next_look = now + TRIM_NS;
    return changes() != gp_get(&h->heap_changes) && now - last >= TRIM_NS * 3 / 4 &&
           atomic_compare_exchange_strong(&h->heap_trimmed, &last, now); /* one process looks for all */
}

void gp_heap_look_again(void) { look_again = true; }

bool gp_collection_due(void) {
    struct gp_header *h = gp.head;
    uint64_t drops = gp_get(&h->collect), seen = gp_get(&h->collect_seen);
    gp_set(&h->collect_seen, drops);
    return drops == seen && drops != gp_get(&h->collected);
}

void gp_heap_trim(bool (*enough)(void)) {
    struct gp_header *h = gp.head;
    uint64_t sum = changes();
    uint32_t free_word = 0;
    if (!atomic_compare_exchange_strong(&h->reclaiming, &free_word, gp.me)) return;
    bool objects = gp_collect_lock(), quiet = objects && gp_get(&h->collected) == gp_get(&h->collect);
    for (uint32_t p = 0; p < gp_places(); p++) {
        struct gp_proc *proc = gp_proc_at(p);
        uint64_t moves = gp_get(&proc->heap_moves), since = moves - gp_get(&proc->heap_moves_seen);
        if (since <= gp_get(&proc->committed) / GP_PAGE / IN_USE) reclaim_arena(p, objects, enough);
        if (since > 0) quiet = false;
        gp_set(&proc->heap_moves_seen, moves);
    }
    if (objects) gp_collect_unlock();
    gp_release(&h->reclaiming, 0);
    if (quiet && !enough()) gp_set(&h->heap_changes, sum);
}
