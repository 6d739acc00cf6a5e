/* heap.c - blocks, extents and objects.
 *
 * Every proc allocates from its own arena only, so there is no lock and nothing to journal: the store of an owner
 * tag is the allocation, and the store of FREE, by whoever owns the block then, is the release. There are no remote
 * free lists: when a proc runs out of known free blocks of a class it sweeps the tags of its pages of that class,
 * as a lazily sweeping collector does. All that is private here can be rebuilt from page descriptors and tags.
 *
 * Size classes step by about a third (64 ... 32768 bytes); larger blocks are extents, runs of whole 64 KiB pages,
 * kept for reuse (their pages are then already mapped on both sides) and given back to the system beyond a limit.
 */
#include <stdlib.h>

#include "core.h"

static const uint32_t class_bytes[] = {
    [GP_CLASS_OBJECT] = sizeof(struct gp_object),
    64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768,
};
#define CLASSES (sizeof class_bytes / sizeof class_bytes[0])
#define LARGEST 32768u
#define KEEP_BYTES (64ULL << 20) /* free extents that stay backed by memory */

struct pool {            /* one size class of my arena */
    gp_ref *free;        /* known free blocks; last released first, it is still in the cache */
    uint32_t n, cap;
    uint32_t *pages;
    uint32_t npages, pages_cap;
    uint32_t cursor;     /* next page to sweep */
    uint32_t budget;     /* pages to sweep before a new one is taken: doubles when sweeping pays, halves when not */
};
struct run { /* pages of my arena */
    uint32_t page, pages;
    bool hole; /* given back to the system: commit before use */
};
struct runs {
    struct run *v;
    uint32_t n, cap;
};

static struct {
    struct pool pool[CLASSES];
    struct runs used; /* extents handed out; any of them may have become FREE meanwhile */
    struct runs free; /* sorted by page, neighbours merged */
    uint32_t next_page, last_page;
    uint64_t committed; /* prefix of the arena */
    uint64_t kept;      /* bytes of free runs that are not holes */
    uint32_t since_harvest;
    uint8_t class_of[LARGEST / GP_LINE + 1];
} heap;

static uint32_t first_page(void) { /* the descriptors come before it */
    return (uint32_t)((gp.arena_bytes / GP_PAGE * sizeof(struct gp_page) + GP_PAGE - 1) / GP_PAGE);
}
static struct gp_page *page_at(uint64_t arena, uint32_t page) { return (struct gp_page *)(gp.base + arena) + page; }

static bool push_run(struct runs *r, struct run x) {
    if (r->n == r->cap) {
        uint32_t cap = r->cap ? 2 * r->cap : 64;
        struct run *v = realloc(r->v, cap * sizeof *v);
        if (!v) return false;
        r->v = v;
        r->cap = cap;
    }
    r->v[r->n++] = x;
    return true;
}

void gp_heap_attach(void) {
    uint64_t pages = gp.arena_bytes / GP_PAGE;
    heap.last_page = (uint32_t)pages;
    heap.next_page = first_page();
    for (unsigned c = GP_CLASS_FIRST, i = 0; c < CLASSES; c++)
        for (; i <= class_bytes[c] / GP_LINE; i++) heap.class_of[i] = (uint8_t)c;
    for (unsigned c = 0; c < CLASSES; c++) heap.pool[c].budget = 1;
}

void gp_heap_detach(void) {
    for (unsigned c = 0; c < CLASSES; c++) {
        free(heap.pool[c].free);
        free(heap.pool[c].pages);
    }
    free(heap.used.v);
    free(heap.free.v);
    memset(&heap, 0, sizeof heap);
}

/* ---- pages */

static bool commit_pages(uint32_t page, uint32_t pages) {
    /* descriptors first: they are the start of the arena, but committing all of them at once would cost 2 MiB a proc */
    static uint64_t described;
    static uint64_t run;
    if (run != gp.run) {
        run = gp.run;
        described = 0;
    }
    uint64_t descriptors = gp.arena_bytes / GP_PAGE * sizeof(struct gp_page);
    if (gp_commit_upto(gp.arena, &described, (uint64_t)(page + pages) * sizeof(struct gp_page), descriptors) < 0)
        return false;
    uint64_t first = (uint64_t)first_page() * GP_PAGE, want = (uint64_t)(page + pages) * GP_PAGE - first;
    if (want <= heap.committed) return true;
    if (gp_commit_for(gp_purpose, gp.arena + first + heap.committed, want - heap.committed) < 0) return false;
    heap.committed = want;
    return true;
}

static void give_back(struct run *r) {
    uint64_t bytes = (uint64_t)r->pages * GP_PAGE;
    if (!gp_unback(gp.arena + (uint64_t)r->page * GP_PAGE, bytes)) return;
    r->hole = true;
    heap.kept -= bytes;
    atomic_fetch_sub(&gp.my->committed, bytes);
}

static void add_free_run(struct run x) {
    uint32_t lo = 0, hi = heap.free.n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (heap.free.v[mid].page < x.page) lo = mid + 1;
        else hi = mid;
    }
    if (!x.hole) heap.kept += (uint64_t)x.pages * GP_PAGE;
    struct run *v = heap.free.v;
    bool left = lo > 0 && v[lo - 1].hole == x.hole && v[lo - 1].page + v[lo - 1].pages == x.page;
    bool right = lo < heap.free.n && v[lo].hole == x.hole && x.page + x.pages == v[lo].page;
    if (left && right) {
        v[lo - 1].pages += x.pages + v[lo].pages;
        memmove(v + lo, v + lo + 1, (heap.free.n - lo - 1) * sizeof *v);
        heap.free.n--;
    } else if (left) {
        v[lo - 1].pages += x.pages;
    } else if (right) {
        v[lo].page = x.page;
        v[lo].pages += x.pages;
    } else if (push_run(&heap.free, x)) {
        v = heap.free.v;
        memmove(v + lo + 1, v + lo, (heap.free.n - 1 - lo) * sizeof *v);
        v[lo] = x;
    } else if (!x.hole) {
        heap.kept -= (uint64_t)x.pages * GP_PAGE; /* no memory for the list: this run is lost until the runtime stops */
    }
}

static struct gp_block *extent_at(uint64_t arena, uint32_t page) {
    return (struct gp_block *)(gp.base + arena + (uint64_t)page * GP_PAGE);
}

/* A FREE extent belongs to whoever stores TAKEN first. Its owner may have handed it out meanwhile, with its tag before its
 * class: so the class is looked at after the tag was stored, and then the tag again. */
static bool take_extent(struct gp_page *d, struct gp_block *b) {
    uint64_t free_tag = 0, taken = GP_TAG(GP_TAG_TAKEN, gp.proc + 1);
    if (gp_acquire(&d->cls) != GP_CLASS_EXTENT || gp_acquire(&b->tag) != 0 ||
        !atomic_compare_exchange_strong(&b->tag, &free_tag, taken))
        return false;
    if (gp_acquire(&d->cls) == GP_CLASS_EXTENT && gp_acquire(&b->tag) == taken) return true;
    atomic_compare_exchange_strong(&b->tag, &taken, 0);
    return false;
}

uint64_t gp_heap_reclaim(void) {
    uint64_t bytes = 0;
    for (uint32_t p = 0; p < gp.nprocs; p++) {
        uint64_t arena = gp.heap_at + p * gp.arena_bytes;
        for (uint32_t page = first_page(); p != gp.proc && page < gp.arena_bytes / GP_PAGE; page++) {
            struct gp_page *d = page_at(arena, page);
            if (gp_acquire(&d->cls) == 0) break; /* pages are taken in order */
            if (!take_extent(d, extent_at(arena, page))) continue;
            uint64_t size = (uint64_t)gp_get(&d->pages) * GP_PAGE;
            gp_release(&d->cls, GP_CLASS_TAKING);
            bool given = gp_unback(arena + (uint64_t)page * GP_PAGE, size);
            if (given) {
                atomic_fetch_sub(&gp_proc_at(p)->committed, size);
                bytes += size;
            } else {
                gp_set(&extent_at(arena, page)->tag, 0);
            }
            gp_release(&d->cls, given ? GP_CLASS_HOLE : GP_CLASS_EXTENT);
        }
    }
    return bytes;
}

static void harvest(void) {
    for (uint32_t i = 0; i < heap.used.n;) {
        struct run *r = &heap.used.v[i];
        struct gp_page *d = page_at(gp.arena, r->page);
        bool hole = gp_acquire(&d->cls) == GP_CLASS_HOLE;
        if (!hole && !take_extent(d, extent_at(gp.arena, r->page))) {
            i++;
            continue;
        }
        gp_release(&d->cls, GP_CLASS_INNER); /* no block begins here until it is handed out again */
        struct run x = *r;
        x.hole = hole;
        *r = heap.used.v[--heap.used.n];
        add_free_run(x);
    }
    for (uint32_t i = heap.free.n; i-- > 0 && heap.kept > KEEP_BYTES;)
        if (!heap.free.v[i].hole) give_back(&heap.free.v[i]);
    heap.since_harvest = 0;
}

/* best fit; runs that are still backed come first */
static bool take_free_run(uint32_t pages, uint32_t *page) {
    struct run *best = NULL;
    for (uint32_t i = 0; i < heap.free.n; i++) {
        struct run *r = &heap.free.v[i];
        if (r->pages >= pages && (!best || r->hole < best->hole || (r->hole == best->hole && r->pages < best->pages)))
            best = r;
    }
    if (!best) return false;
    uint64_t at = gp.arena + (uint64_t)best->page * GP_PAGE, bytes = (uint64_t)pages * GP_PAGE;
    if (best->hole && gp_commit(at, bytes) < 0) return false;
    if (!best->hole) heap.kept -= bytes;
    *page = best->page;
    best->page += pages;
    best->pages -= pages;
    if (best->pages == 0) {
        uint32_t i = (uint32_t)(best - heap.free.v);
        memmove(best, best + 1, (heap.free.n - i - 1) * sizeof *best);
        heap.free.n--;
    }
    return true;
}

static bool take_pages(uint32_t pages, uint32_t *page) {
    if (heap.used.n <= 64 || ++heap.since_harvest > heap.used.n / 4) harvest();
    if (take_free_run(pages, page)) return true;
    if ((uint64_t)heap.next_page + pages <= heap.last_page && commit_pages(heap.next_page, pages)) {
        *page = heap.next_page;
        heap.next_page += pages;
        return true;
    }
    harvest(); /* memory is short: look at everything, and let no free run stay unused */
    for (uint32_t i = 0; i < heap.free.n; i++)
        if (!heap.free.v[i].hole && heap.free.v[i].pages < pages) give_back(&heap.free.v[i]);
    if (take_free_run(pages, page)) return true;
    if ((uint64_t)heap.next_page + pages > heap.last_page || !commit_pages(heap.next_page, pages)) return false;
    *page = heap.next_page;
    heap.next_page += pages;
    return true;
}

/* ---- blocks */

static bool push_free(struct pool *p, gp_ref ref) {
    if (p->n == p->cap) {
        uint32_t cap = p->cap ? 2 * p->cap : 256;
        gp_ref *v = realloc(p->free, cap * sizeof *v);
        if (!v) return false; /* found again by a later sweep */
        p->free = v;
        p->cap = cap;
    }
    p->free[p->n++] = ref;
    return true;
}

static uint32_t sweep_page(struct pool *p, uint32_t bytes, uint32_t page) {
    char *start = gp.base + gp.arena + (uint64_t)page * GP_PAGE;
    uint32_t found = 0;
    for (uint32_t at = GP_PAGE / bytes * bytes; at > 0;) { /* backwards: the stack then hands out ascending addresses */
        at -= bytes;
        if (gp_acquire((_Atomic uint64_t *)(start + at)) == 0 && push_free(p, gp_ref_of(start + at))) found++;
    }
    return found;
}

static bool new_page(struct pool *p, unsigned cls) {
    uint32_t page;
    if (p->npages == p->pages_cap) {
        uint32_t cap = p->pages_cap ? 2 * p->pages_cap : 16;
        uint32_t *v = realloc(p->pages, cap * sizeof *v);
        if (!v) return false;
        p->pages = v;
        p->pages_cap = cap;
    }
    /* fresh pages only: an object's gen and a stale reference must never meet another class */
    if ((uint64_t)heap.next_page + 1 > heap.last_page || !commit_pages(heap.next_page, 1)) return false;
    page = heap.next_page++;
    gp_release(&page_at(gp.arena, page)->cls, cls);
    p->pages[p->npages++] = page;
    return sweep_page(p, class_bytes[cls], page) > 0;
}

static bool refill(struct pool *p, unsigned cls) {
    uint32_t bytes = class_bytes[cls], enough = GP_PAGE / bytes / 8 + 1, found = 0;
    for (uint32_t i = 0; i < p->npages && i < p->budget && found < enough; i++) {
        p->cursor = p->cursor + 1 < p->npages ? p->cursor + 1 : 0;
        found += sweep_page(p, bytes, p->pages[p->cursor]);
    }
    if (found >= enough) {
        if (p->budget < 1024) p->budget *= 2;
        return true;
    }
    if (p->budget > 1) p->budget /= 2;
    if (new_page(p, cls) || found) return true;
    for (uint32_t i = 0; i < p->npages; i++) found += sweep_page(p, bytes, p->pages[i]);
    return found > 0;
}

static gp_ref take(unsigned cls) {
    struct pool *p = &heap.pool[cls];
    if (GP_UNLIKELY(p->n == 0) && !refill(p, cls)) return 0;
    return p->free[--p->n];
}

static gp_ref extent(uint64_t total) {
    uint64_t pages = (total + GP_PAGE - 1) / GP_PAGE;
    uint32_t page;
    if (pages > heap.last_page || !take_pages((uint32_t)pages, &page)) return 0;
    struct run r = {page, (uint32_t)pages, false};
    if (!push_run(&heap.used, r)) {
        add_free_run(r);
        return 0;
    }
    struct gp_page *d = page_at(gp.arena, page);
    /* old payload may lie where the tag goes: a sweep that sees the descriptor must not take it for an owner, and nobody
     * may take the extent for a FREE one */
    struct gp_block *b = extent_at(gp.arena, page);
    gp_set(&b->len, 0);
    gp_release(&b->tag, gp_my_tag());
    for (uint64_t i = 1; i < pages; i++) gp_set(&d[i].cls, GP_CLASS_INNER);
    gp_set(&d->pages, (uint32_t)pages);
    gp_release(&d->cls, GP_CLASS_EXTENT);
    return gp_ref_of(gp.base + gp.arena + (uint64_t)page * GP_PAGE);
}

gp_ref gp_alloc(uint64_t payload, unsigned flags) {
    uint64_t total = payload + (flags & GP_BLOCK_ALIGNED ? 64 : GP_BLOCK_HEAD);
    gp_ref ref;
    if (total <= LARGEST) {
        ref = take(heap.class_of[(total + GP_LINE - 1) / GP_LINE]);
    } else {
        flags |= GP_BLOCK_ALIGNED;
        ref = extent(payload + 64);
    }
    if (!ref) return 0;
    struct gp_block *b = gp_at(ref);
    gp_set(&b->len, (uint64_t)flags << 56 | payload);
    gp_order();
    gp_set(&b->tag, gp_my_tag()); /* COMMIT of the allocation */
    return ref;
}

static bool mine(gp_ref ref) {
    uint64_t at = (uint64_t)ref * GP_LINE;
    return at >= gp.arena && at < gp.arena + gp.arena_bytes;
}

void gp_free(gp_ref ref) {
    struct gp_block *b = gp_at(ref);
    gp_release(&b->tag, 0); /* COMMIT of the release; after it another proc may reuse the block */
    if (!mine(ref)) return;
    uint32_t page = (uint32_t)(((uint64_t)ref * GP_LINE - gp.arena) / GP_PAGE);
    uint32_t cls = gp_get(&page_at(gp.arena, page)->cls);
    if (cls < CLASSES) push_free(&heap.pool[cls], ref);
}

gp_ref gp_object_alloc(enum gp_kind kind) {
    gp_ref ref = take(GP_CLASS_OBJECT);
    if (!ref) return 0;
    struct gp_object *o = gp_at(ref);
    gp_set(&o->kind, kind);
    gp_set(&o->flags, 0);
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
    gp_set(&o->tag, gp_my_tag());
    return ref;
}

void gp_object_free(struct gp_object *o) {
    gp_set(&o->gen, gp_get(&o->gen) + 1); /* stale handles fail from here on */
    gp_set(&o->kind, 0);
    gp_order();
    gp_free(gp_ref_of(o));
}

/* ---- checks of what came out of shared memory */

static struct gp_page *page_of(gp_ref ref, uint64_t *offset) {
    uint64_t at = (uint64_t)ref * GP_LINE;
    if (at < gp.heap_at || at >= gp.bytes) return NULL;
    uint64_t arena = gp.heap_at + (at - gp.heap_at) / gp.arena_bytes * gp.arena_bytes;
    uint32_t page = (uint32_t)((at - arena) / GP_PAGE);
    if (page < first_page()) return NULL;
    *offset = (at - arena) % GP_PAGE;
    return page_at(arena, page);
}

bool gp_block_check(gp_ref ref, uint64_t *capacity) {
    uint64_t offset;
    struct gp_page *d = page_of(ref, &offset);
    if (!d) return false;
    uint32_t cls = gp_acquire(&d->cls);
    uint64_t total;
    if (cls == GP_CLASS_EXTENT) {
        if (offset != 0) return false;
        total = (uint64_t)gp_get(&d->pages) * GP_PAGE;
        if ((uint64_t)ref * GP_LINE + total > gp.bytes) return false;
    } else {
        if (cls < GP_CLASS_FIRST || cls >= CLASSES || offset % class_bytes[cls] != 0) return false;
        total = class_bytes[cls];
        if (offset + total > GP_PAGE) return false;
    }
    uint64_t head = gp_flags(ref) & GP_BLOCK_ALIGNED ? 64 : GP_BLOCK_HEAD;
    if (total < head || gp_len(ref) > total - head || gp_tag(ref) == 0) return false;
    *capacity = total - head;
    return true;
}

bool gp_object_check(gp_ref ref) {
    uint64_t offset;
    struct gp_page *d = page_of(ref, &offset);
    return d && gp_acquire(&d->cls) == GP_CLASS_OBJECT && offset % sizeof(struct gp_object) == 0;
}

void gp_heap_each(void (*visit)(struct gp_block *b, bool object, uint64_t bytes, void *arg), void *arg) {
    for (uint32_t p = 0; p < gp.nprocs; p++) {
        uint64_t arena = gp.heap_at + p * gp.arena_bytes;
        for (uint32_t page = first_page(); page < gp.arena_bytes / GP_PAGE; page++) {
            uint32_t cls = gp_acquire(&page_at(arena, page)->cls);
            if (cls == 0) break; /* pages are taken in order */
            char *start = gp.base + arena + (uint64_t)page * GP_PAGE;
            uint32_t step = cls < CLASSES ? class_bytes[cls] : GP_PAGE;
            bool begins = cls < CLASSES || cls == GP_CLASS_EXTENT;
            for (uint32_t at = 0; begins && at + step <= GP_PAGE; at += step) {
                struct gp_block *b = (struct gp_block *)(start + at);
                if (gp_acquire(&b->tag) == 0) continue;
                visit(b, cls == GP_CLASS_OBJECT,
                      cls == GP_CLASS_EXTENT ? (uint64_t)gp_get(&page_at(arena, page)->pages) * GP_PAGE : step, arg);
            }
        }
    }
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
