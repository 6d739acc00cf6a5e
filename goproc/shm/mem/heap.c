/* heap.c - blocks, extents and objects.
 *
 * Every proc allocates from its own arena only, so there is no lock and nothing to journal: the store of an
 * owner tag is the allocation, and the store of FREE, by the block's owner at that time, is the release.
 * There are no remote free lists. When a proc runs out of known free blocks of a class, it sweeps the tags of
 * its pages of that class, as a lazily sweeping collector does. Page descriptors and tags suffice to rebuild
 * all private tables here.
 *
 * Size classes step by about a third (64 ... 32768 bytes); larger blocks are extents, runs of whole 64 KiB
 * pages. A page whose blocks are all FREE can get any other use. Any process may have given it to the system
 * meanwhile (reclaim.c). So a known free block is taken only if its page still has the class, and a pool
 * forgets the blocks of a page before that page gets a new use.
 */
#include <stdlib.h>

#include "pages.h"

/* by class: none, objects, and the size classes from GP_CLASS_FIRST on */
const uint32_t gp_class_bytes[GP_CLASS_COUNT] = {0,    128,  64,    128,   192,   256,  384,
                                                 512,  768,  1024,  1536,  2048,  3072, 4096,
                                                 6144, 8192, 12288, 16384, 24576, 32768};
_Static_assert(GP_CLASS_OBJECT == 1 && sizeof(struct gp_object) == 128, "the size of objects");
_Static_assert(GP_CLASS_FIRST + 18 == GP_CLASS_COUNT, "a size for each class");
/* Pages that were never used are taken up to this number, or up to an eighth of the pages in use. Then the
 * pages of all classes are searched for some that have become free. */
#define FRESH_MOST 64u

#define RESERVED_MOST (256u << 10) /* bytes: nothing larger comes from the reserve */

struct pool {            /* one size class of my arena */
    gp_ref *free;        /* blocks that were FREE. The last one is taken first: it is still in the cache */
    uint32_t n, cap;
    uint32_t *pages;     /* the pages of this class; another process may have taken some of them */
    uint32_t npages, pages_cap;
    uint32_t cursor;     /* next page to sweep */
    /* pages to sweep before a new one is taken: doubles when sweeping pays, halves when not */
    uint32_t budget;
};

static struct pool pools[GP_CLASS_COUNT];
static uint8_t class_of[GP_LARGEST / GP_LINE + 1];

static bool room_for_page(struct pool *p) {
    return gp_grow(&p->pages, p->npages, &p->pages_cap, 16, sizeof *p->pages);
}

/* A page of an earlier incarnation. All of its pages are swept before a new one is taken: each replacement
 * would else take a new page where the first pages are nearly full. */
static bool add_page(uint32_t page, uint32_t cls) {
    struct pool *p = &pools[cls];
    if (cls == 0 || cls >= GP_CLASS_COUNT) return false;
    if (!room_for_page(p)) return false; /* the page stays as it is until the runtime stops */
    p->pages[p->npages++] = page;
    p->budget = p->npages;
    return true;
}

void gp_heap_attach(void) {
    for (unsigned c = GP_CLASS_FIRST, i = 0; c < GP_CLASS_COUNT; c++)
        for (; i <= gp_class_bytes[c] / GP_LINE; i++) class_of[i] = (uint8_t)c;
    for (unsigned c = 0; c < GP_CLASS_COUNT; c++) pools[c].budget = 1;
    gp_pages_attach();
    /* an earlier incarnation has left its arena */
    if (gp_word_incarnation(gp.me) > 1) gp_pages_inherit(add_page);
    gp_reclaim_attach();
}

void gp_heap_detach(void) {
    for (unsigned c = 0; c < GP_CLASS_COUNT; c++) {
        free(pools[c].free);
        free(pools[c].pages);
    }
    memset(pools, 0, sizeof pools);
    gp_definitions_detach();
    gp_pages_detach();
}

/* ---- pages */

static struct gp_page *page_of_mine(gp_ref ref) {
    return gp_page_at(gp.arena, (uint32_t)(((uint64_t)ref * GP_LINE - gp.arena) / GP_PAGE));
}

/* A page of `cls` whose blocks are all FREE becomes IDLE. */
static bool retire(uint32_t page, uint32_t cls, bool objects) {
    struct gp_page *d = gp_page_at(gp.arena, page);
    uint32_t seen = cls;
    if ((cls == GP_CLASS_OBJECT && !objects) || gp_acquire(&d->cls) != cls ||
        !gp_page_empty(gp.arena, page, cls))
        return false;
    if (cls == GP_CLASS_OBJECT) gp_page_keep_gen(gp.arena, page);
    return atomic_compare_exchange_strong(&d->cls, &seen, GP_CLASS_IDLE);
}

static void forget_blocks(struct pool *p, uint32_t cls) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n; i++)
        if (gp_acquire(&page_of_mine(p->free[i])->cls) == cls) p->free[n++] = p->free[i];
    p->n = n;
}

/* Pages of a pool become free runs if no block lives there any more, or another process has given them to the
 * system. */
static void regain_pool(unsigned cls, bool objects) {
    struct pool *p = &pools[cls];
    uint32_t kept = p->npages;
    for (uint32_t i = 0; i < kept;) { /* those that go move to the end */
        uint32_t page = p->pages[i];
        if (!retire(page, cls, objects) && gp_acquire(&gp_page_at(gp.arena, page)->cls) != GP_CLASS_HOLE) {
            i++;
            continue;
        }
        p->pages[i] = p->pages[--kept];
        p->pages[kept] = page;
    }
    if (kept == p->npages) return;
    forget_blocks(p, cls);
    for (uint32_t i = kept; i < p->npages; i++)
        gp_pages_free(p->pages[i], 1, gp_acquire(&gp_page_at(gp.arena, p->pages[i])->cls) == GP_CLASS_HOLE);
    p->npages = kept;
    p->cursor = 0;
}

static void regain(void) {
    bool objects = gp_collect_lock();
    for (unsigned c = GP_CLASS_OBJECT; c < GP_CLASS_COUNT; c++) regain_pool(c, objects);
    if (objects) gp_collect_unlock();
    gp_pages_seen();
}

static enum gp_content take_pages(uint32_t pages, uint32_t *page) {
    enum gp_content content;
    gp_heap_moved();
    gp_pages_harvest(false);
    if ((content = gp_pages_reuse(pages, page))) return content;
    uint32_t most = gp_pages_used() / 8;
    if (gp_pages_fresh() > (most > FRESH_MOST ? most : FRESH_MOST)) {
        regain();
        if ((content = gp_pages_reuse(pages, page))) return content;
    }
    if (gp_pages_grow(pages, page)) return GP_ZERO;
    gp_pages_harvest(true); /* memory is short: look at everything, and let no free run stay unused */
    regain();
    if ((content = gp_pages_reuse(pages, page))) return content;
    gp_pages_return();
    if ((content = gp_pages_reuse(pages, page))) return content;
    return gp_pages_grow(pages, page) ? GP_ZERO : GP_NOTHING;
}

/* ---- blocks */

static bool push_free(struct pool *p, gp_ref ref) {
    /* without memory for the list, a later sweep finds the block again */
    if (!gp_grow(&p->free, p->n, &p->cap, 256, sizeof *p->free)) return false;
    p->free[p->n++] = ref;
    return true;
}

static uint32_t sweep_page(struct pool *p, unsigned cls, uint32_t page) {
    if (gp_acquire(&gp_page_at(gp.arena, page)->cls) != cls) return 0; /* another process takes it */
    char *start = gp_page_start(gp.arena, page);
    uint32_t found = 0, bytes = gp_class_bytes[cls];
    /* backwards: the stack then hands out ascending addresses */
    for (uint32_t at = GP_PAGE / bytes * bytes; at > 0;) {
        at -= bytes;
        if (gp_acquire((_Atomic uint64_t *)(start + at)) == 0 && push_free(p, gp_ref_of(start + at))) found++;
    }
    return found;
}

/* Every block of a new page is FREE. */
static void clear_page(uint32_t page, unsigned cls, enum gp_content content) {
    char *start = gp_page_start(gp.arena, page);
    uint32_t gen = gp_get(&gp_page_at(gp.arena, page)->gen);
    if (content == GP_OLD) memset(start, 0, GP_PAGE);
    if (cls != GP_CLASS_OBJECT || gen == 0) return;
    for (uint32_t at = 0; at < GP_PAGE; at += sizeof(struct gp_object))
        gp_set(&((struct gp_object *)(start + at))->gen, gen);
}

static bool new_page(struct pool *p, unsigned cls) {
    uint32_t page;
    if (!room_for_page(p)) return false;
    enum gp_content content = take_pages(1, &page);
    if (content == GP_NOTHING) return false;
    clear_page(page, cls, content);
    gp_release(&gp_page_at(gp.arena, page)->cls, cls);
    p->pages[p->npages++] = page;
    return sweep_page(p, cls, page) > 0;
}

/* Find free blocks for a pool that knows none. False: out of memory. */
static bool refill(struct pool *p, unsigned cls) {
    uint32_t bytes = gp_class_bytes[cls], enough = GP_PAGE / bytes / 8 + 1, found = 0;
    gp_heap_moved();
    for (uint32_t i = 0; i < p->npages && i < p->budget && found < enough; i++) {
        p->cursor = p->cursor + 1 < p->npages ? p->cursor + 1 : 0;
        found += sweep_page(p, cls, p->pages[p->cursor]);
    }
    if (found >= enough) {
        if (p->budget < 1024) p->budget *= 2;
        return true;
    }
    if (p->budget > 1) p->budget /= 2;
    if (new_page(p, cls) || p->n > 0) return true;
    for (uint32_t i = 0; i < p->npages; i++) sweep_page(p, cls, p->pages[i]);
    return p->n > 0;
}

/* Take a block, with the tag of this process; 0: out of memory. See reclaim.c for the two looks at the
 * class. */
static gp_ref take(unsigned cls) {
    struct pool *p = &pools[cls];
    uint64_t tag = gp_my_tag();
    for (;;) {
        if (GP_UNLIKELY(p->n == 0) && !refill(p, cls)) return 0;
        gp_ref ref = p->free[--p->n];
        struct gp_page *d = page_of_mine(ref);
        struct gp_block *b = gp_at(ref);
        if (GP_UNLIKELY(gp_get(&d->cls) != cls)) continue;
        if (cls != GP_CLASS_OBJECT) gp_set(&b->len, 0); /* no flags of an earlier use */
        gp_release(&b->tag, tag); /* COMMIT of the allocation */
        gp_order();
        if (GP_LIKELY(gp_get(&d->cls) == cls)) return ref;
        gp_set(&b->tag, 0);
    }
}

static gp_ref extent(uint64_t total) {
    uint64_t pages = (total + GP_PAGE - 1) / GP_PAGE;
    uint32_t page;
    gp.shortage = GP_SHORT_ARENA;
    if (pages > gp.arena_bytes / GP_PAGE || take_pages((uint32_t)pages, &page) == GP_NOTHING) return 0;
    struct gp_page *d = gp_page_at(gp.arena, page);
    if (!gp_extent_note(page, (uint32_t)pages)) {
        for (uint64_t i = 0; i < pages; i++) gp_release(&d[i].cls, GP_CLASS_IDLE);
        gp_pages_free(page, (uint32_t)pages, false);
        return 0;
    }
    /* Old payload may lie where the tag goes. So the tag is stored before the descriptor: a sweep must not
     * take old payload for an owner, and no process may take the extent for a FREE one. */
    struct gp_block *b = (struct gp_block *)gp_page_start(gp.arena, page);
    gp_set(&b->len, 0);
    gp_release(&b->tag, gp_my_tag());
    gp_set(&d->pages, (uint32_t)pages);
    gp_release(&d->cls, GP_CLASS_EXTENT);
    return gp_ref_of(b);
}

gp_ref gp_alloc(uint64_t payload, unsigned flags) {
    uint64_t total = payload + gp_head_bytes(flags);
    gp_ref ref;
    if (total <= GP_LARGEST) {
        ref = take(class_of[(total + GP_LINE - 1) / GP_LINE]);
    } else {
        flags |= GP_BLOCK_ALIGNED;
        enum gp_purpose purpose = gp_purpose;
        /* the reserve is for small blocks */
        if (purpose == GP_FOR_TASKS || payload > RESERVED_MOST) gp_purpose = GP_FOR_VALUES;
        ref = extent(payload + gp_head_bytes(flags));
        gp_purpose = purpose;
    }
    if (!ref) return 0;
    gp_set(&((struct gp_block *)gp_at(ref))->len, (uint64_t)flags << GP_BLOCK_FLAGS_AT | payload);
    return ref;
}

static bool mine(gp_ref ref) {
    uint64_t at = (uint64_t)ref * GP_LINE;
    return at >= gp.arena && at < gp.arena + gp.arena_bytes;
}

void gp_free(gp_ref ref) {
    gp_check_lines(ref, 0);
    struct gp_block *b = gp_at(ref);
    /* an observer has no gp_proc */
    if (GP_LIKELY(gp.my != NULL)) gp_set(&gp.my->heap_freed, gp_get(&gp.my->heap_freed) + 1);
    gp_release(&b->tag, 0); /* COMMIT of the release; after it another proc may reuse the block */
    if (!mine(ref)) return;
    uint32_t cls = gp_get(&page_of_mine(ref)->cls);
    if (cls < GP_CLASS_COUNT) push_free(&pools[cls], ref);
}

gp_ref gp_object_alloc(enum gp_kind kind) {
    gp_ref ref = take(GP_CLASS_OBJECT);
    if (!ref) return 0;
    struct gp_object *o = gp_at(ref);
    o->cap = 0;
    gp_set(&o->head, 0);
    gp_set(&o->tail, 0);
    gp_set(&o->recvq_first, 0);
    gp_set(&o->recvq_last, 0);
    gp_set(&o->sendq_first, 0);
    gp_set(&o->sendq_last, 0);
    o->ring = 0;
    gp_set(&o->state, 0);
    for (unsigned i = 0; i < GP_MAX_PROCS / 64; i++) gp_set(&o->holders[i], 0);
    gp_set(&o->value, 0);
    gp_set(&o->id, 0);
    o->task = 0;
    gp_set(&o->proc, 0);
    o->site = 0;
    gp_order();
    gp_set(&o->kind, kind); /* a collector skips it before this store */
    return ref;
}

void gp_object_end(struct gp_object *o) {
    uint32_t kind = gp_get(&o->kind);
    if ((kind == GP_KIND_SEMAPHORE || kind == GP_KIND_RWMUTEX) && o->ring) gp_free(o->ring);
    gp_set(&o->tag, gp_my_tag()); /* if this process dies before the end, the coroner frees the object */
    gp_order();
    gp_set(&o->gen, gp_get(&o->gen) + 1); /* stale handles fail from here on */
    gp_set(&o->kind, 0);
    gp_set(&o->flags, 0);
    gp_order();
}

void gp_object_free(struct gp_object *o) {
    gp_object_end(o);
    gp_free(gp_ref_of(o));
}

/* ---- checks of refs that come from shared memory */

static struct gp_page *page_of(gp_ref ref, uint64_t *offset) {
    uint64_t at = (uint64_t)ref * GP_LINE;
    if (at < gp.heap_at || at >= gp.bytes) return NULL;
    uint64_t arena = gp.heap_at + (at - gp.heap_at) / gp.arena_bytes * gp.arena_bytes;
    uint32_t page = (uint32_t)((at - arena) / GP_PAGE);
    if (page < gp_first_page()) return NULL;
    *offset = (at - arena) % GP_PAGE;
    return gp_page_at(arena, page);
}

bool gp_block_check(gp_ref ref, uint64_t *capacity) {
    uint64_t offset;
    struct gp_page *d = page_of(ref, &offset);
    if (!d) return false;
    uint32_t cls = gp_page_class(d);
    uint64_t total;
    if (cls == GP_CLASS_EXTENT) {
        if (offset != 0) return false;
        total = (uint64_t)gp_get(&d->pages) * GP_PAGE;
        if ((uint64_t)ref * GP_LINE + total > gp.bytes) return false;
    } else {
        if (cls < GP_CLASS_FIRST || cls >= GP_CLASS_COUNT || offset % gp_class_bytes[cls] != 0) return false;
        total = gp_class_bytes[cls];
        if (offset + total > GP_PAGE) return false;
    }
    uint64_t head = gp_head_bytes(gp_flags(ref));
    if (total < head || gp_len(ref) > total - head || gp_tag(ref) == 0) return false;
    *capacity = total - head;
    return true;
}

bool gp_object_check(gp_ref ref) {
    uint64_t offset;
    struct gp_page *d = page_of(ref, &offset);
    return d && gp_page_class(d) == GP_CLASS_OBJECT && offset % sizeof(struct gp_object) == 0;
}

/* The owner of a page may give the page another use during a scan. Then the word at `b` is in the middle of
 * another block, and no tag. That does no harm: scans look for tags of a dead process, or of blocks that
 * nobody can free meanwhile. */
static uint64_t scanned_tag(const struct gp_block *b) { return gp_acquire(&b->tag); }

void gp_heap_each_in(uint32_t proc, void (*visit)(struct gp_block *b, bool object, uint64_t bytes, void *arg),
                     void *arg) {
    uint64_t arena = gp_arena_at(proc);
    for (uint32_t page = gp_first_page(); page < gp.arena_bytes / GP_PAGE; page++) {
        uint32_t cls = gp_page_class(gp_page_at(arena, page));
        if (cls == 0) break; /* pages are taken in order */
        char *start = gp_page_start(arena, page);
        uint32_t step = cls < GP_CLASS_COUNT ? gp_class_bytes[cls] : GP_PAGE;
        bool begins = cls < GP_CLASS_COUNT || cls == GP_CLASS_EXTENT;
        for (uint32_t at = 0; begins && at + step <= GP_PAGE; at += step) {
            struct gp_block *b = (struct gp_block *)(start + at);
            if (scanned_tag(b) == 0) continue;
            visit(b, cls == GP_CLASS_OBJECT,
                  cls == GP_CLASS_EXTENT ? (uint64_t)gp_get(&gp_page_at(arena, page)->pages) * GP_PAGE : step,
                  arg);
        }
    }
}

void gp_heap_each(void (*visit)(struct gp_block *b, bool object, uint64_t bytes, void *arg), void *arg) {
    for (uint32_t p = 0; p < gp_places(); p++) gp_heap_each_in(p, visit, arg);
}

static void count(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    struct gp_heap_stats *out = arg;
    if (object) out->objects++;
    else if (GP_TAG_KIND(gp_get(&b->tag)) == GP_TAG_DEFINITION) out->definitions++;
    else out->blocks++;
    out->bytes += bytes;
}

void gp_heap_census(struct gp_heap_stats *out) {
    memset(out, 0, sizeof *out);
    gp_heap_each(count, out);
}
