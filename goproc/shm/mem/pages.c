/* pages.c - free pages of my arena, the extents I have handed out, and pages that were never used.
 *
 * The lists are private and can be rebuilt from the page descriptors, which are the truth: another process
 * may have made a free page a hole meanwhile. So `hole` of a run is a hint, and a run is claimed page by
 * page.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <unistd.h>

#include "pages.h"

#define KEEP_BYTES (64ULL << 20) /* free pages that stay backed by memory while the process runs */
#define AHEAD_MOST 32u           /* pages that are backed at once beyond those asked for */
#define STUCK_LOOKS 2000u        /* of 50 us, at a page that another process is taking */

struct run { /* pages of my arena */
    uint32_t page, pages;
    bool hole; /* all of it was certainly given back to the system; false: parts may have been */
};
struct runs {
    struct run *v;
    uint32_t n, cap;
};

static struct {
    struct runs used;   /* extents handed out; any of them may have become FREE meanwhile */
    struct runs free;   /* sorted by page, neighbours merged */
    uint32_t next_page, last_page;
    uint64_t described; /* bytes of descriptors that have memory */
    uint64_t kept;      /* bytes of free runs that are not known as holes */
    uint32_t since_harvest, fresh;
} heap;

static bool push(struct runs *r, struct run x) {
    if (!gp_grow(&r->v, r->n, &r->cap, 64, sizeof *r->v)) return false;
    r->v[r->n++] = x;
    return true;
}

static void erase(struct runs *r, uint32_t i) {
    memmove(r->v + i, r->v + i + 1, (r->n - i - 1) * sizeof *r->v);
    r->n--;
}

void gp_pages_attach(void) {
    memset(&heap, 0, sizeof heap);
    heap.last_page = (uint32_t)(gp.arena_bytes / GP_PAGE);
    heap.next_page = gp_first_page();
}

void gp_pages_detach(void) {
    free(heap.used.v);
    free(heap.free.v);
    memset(&heap, 0, sizeof heap);
}

uint32_t gp_pages_fresh(void) { return heap.fresh; }
void gp_pages_seen(void) { heap.fresh = 0; }
uint32_t gp_pages_used(void) { return heap.next_page - gp_first_page(); }
bool gp_extent_note(uint32_t page, uint32_t pages) {
    return push(&heap.used, (struct run){page, pages, false});
}

static uint64_t bytes_of(const struct run *r) { return (uint64_t)r->pages * GP_PAGE; }

static void set_class(uint32_t page, uint32_t pages, uint32_t cls) { /* the first last: a scan begins there */
    for (uint32_t i = pages; i-- > 0;) gp_release(&gp_page_at(gp.arena, page + i)->cls, cls);
}

/* ---- an arena whose last owner has died */

void gp_pages_inherit(bool (*small)(uint32_t page, uint32_t cls)) {
    for (uint32_t page = heap.next_page, n; page < heap.last_page; page += n) {
        struct gp_page *d = gp_page_at(gp.arena, page);
        uint32_t cls = gp_page_class(d);
        n = cls == GP_CLASS_EXTENT ? gp_extent_pages(gp.arena, page) : 1;
        if (cls == 0) break; /* pages are taken in order */
        if (cls == GP_CLASS_INNER) set_class(page, 1, cls = GP_CLASS_IDLE); /* claimed, and not used yet */
        if (cls == GP_CLASS_EXTENT) gp_extent_note(page, n);
        else if (cls == GP_CLASS_IDLE || cls == GP_CLASS_HOLE) gp_pages_free(page, n, cls == GP_CLASS_HOLE);
        else small(page, cls);
        heap.next_page = page + n;
    }
    heap.described = gp_pages_described(heap.next_page);
}

/* ---- free runs */

void gp_pages_free(uint32_t page, uint32_t pages, bool hole) {
    struct run x = {page, pages, hole};
    uint32_t lo = 0, hi = heap.free.n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (heap.free.v[mid].page < x.page) lo = mid + 1;
        else hi = mid;
    }
    if (!x.hole) heap.kept += bytes_of(&x);
    struct run *v = heap.free.v;
    bool left = lo > 0 && v[lo - 1].hole == x.hole && v[lo - 1].page + v[lo - 1].pages == x.page;
    bool right = lo < heap.free.n && v[lo].hole == x.hole && x.page + x.pages == v[lo].page;
    if (left && right) {
        v[lo - 1].pages += x.pages + v[lo].pages;
        erase(&heap.free, lo);
    } else if (left) {
        v[lo - 1].pages += x.pages;
    } else if (right) {
        v[lo].page = x.page;
        v[lo].pages += x.pages;
    } else if (push(&heap.free, x)) {
        v = heap.free.v;
        memmove(v + lo + 1, v + lo, (heap.free.n - 1 - lo) * sizeof *v);
        v[lo] = x;
    } else if (!x.hole) {
        heap.kept -= bytes_of(&x); /* no memory for the list: this run is lost until the runtime stops */
    }
}

static void give(struct run *r) {
    if (r->hole) return;
    gp_reclaim_idle(gp.proc, r->page, r->pages);
    for (uint32_t i = 0; i < r->pages; i++) /* the system may have left some: locked memory, say */
        if (gp_acquire(&gp_page_at(gp.arena, r->page + i)->cls) != GP_CLASS_HOLE) return;
    r->hole = true;
    heap.kept -= bytes_of(r);
}

static void merge(void) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < heap.free.n; i++) {
        struct run *last = n ? &heap.free.v[n - 1] : NULL, x = heap.free.v[i];
        if (!last || last->page + last->pages != x.page) {
            heap.free.v[n++] = x;
            continue;
        }
        if (last->hole != x.hole) heap.kept += last->hole ? bytes_of(last) : bytes_of(&x);
        last->pages += x.pages;
        last->hole = last->hole && x.hole;
    }
    heap.free.n = n;
}

void gp_pages_return(void) {
    for (uint32_t i = 0; i < heap.free.n; i++) give(&heap.free.v[i]);
    merge();
}

/* Make IDLE pages mine by a CAS; holes stay, and get memory later. False: another process keeps a page for
 * too long. */
static bool claim_idle(uint32_t page, uint32_t pages) {
    uint32_t looks = 0;
    for (uint32_t i = 0; i < pages;) {
        struct gp_page *d = gp_page_at(gp.arena, page + i);
        uint32_t cls = gp_acquire(&d->cls);
        if (cls == GP_CLASS_HOLE ||
            (cls == GP_CLASS_IDLE && atomic_compare_exchange_strong(&d->cls, &cls, GP_CLASS_INNER)))
            i++;
        else if (++looks > STUCK_LOOKS) return false;
        else usleep(50);
    }
    return true;
}

static bool back_holes(uint32_t page, uint32_t pages, bool *old) {
    for (uint32_t i = 0, n; i < pages; i += n) {
        bool hole = gp_acquire(&gp_page_at(gp.arena, page + i)->cls) == GP_CLASS_HOLE;
        for (n = 1; i + n < pages &&
                    (gp_acquire(&gp_page_at(gp.arena, page + i + n)->cls) == GP_CLASS_HOLE) == hole;)
            n++;
        if (!hole) *old = true;
        else if (gp_commit_for(gp_purpose, gp.arena + (uint64_t)(page + i) * GP_PAGE, (uint64_t)n * GP_PAGE) <
                 0)
            return false;
        else set_class(page + i, n, GP_CLASS_INNER);
    }
    return true;
}

static enum gp_content claim(uint32_t page, uint32_t pages) {
    bool old = false;
    if (claim_idle(page, pages) && back_holes(page, pages, &old)) return old ? GP_OLD : GP_ZERO;
    for (uint32_t i = 0; i < pages; i++) {
        struct gp_page *d = gp_page_at(gp.arena, page + i);
        if (gp_acquire(&d->cls) == GP_CLASS_INNER) gp_release(&d->cls, GP_CLASS_IDLE);
    }
    return GP_NOTHING;
}

/* best fit; runs that are still backed come first */
enum gp_content gp_pages_reuse(uint32_t pages, uint32_t *page) {
    struct run *best = NULL;
    for (uint32_t i = 0; i < heap.free.n; i++) {
        struct run *r = &heap.free.v[i];
        if (r->pages >= pages &&
            (!best || r->hole < best->hole || (r->hole == best->hole && r->pages < best->pages)))
            best = r;
    }
    enum gp_content content = best ? claim(best->page, pages) : GP_NOTHING;
    if (content == GP_NOTHING) return content;
    if (!best->hole) heap.kept -= (uint64_t)pages * GP_PAGE;
    *page = best->page;
    best->page += pages;
    best->pages -= pages;
    if (best->pages == 0) erase(&heap.free, (uint32_t)(best - heap.free.v));
    return content;
}

/* ---- pages that were never used */

bool gp_pages_grow(uint32_t pages, uint32_t *page) {
    uint32_t ahead = gp_pages_used() / 2 < AHEAD_MOST ? gp_pages_used() / 2 : AHEAD_MOST;
    uint64_t first = heap.next_page, room = heap.last_page - first, at = gp.arena + first * GP_PAGE;
    gp.shortage = GP_SHORT_ARENA;
    if (pages > room) return false;
    if (pages + ahead > room || gp_purpose != GP_FOR_VALUES) ahead = 0;
    /* the descriptors first; to back all of them at once would cost 4 MiB for each proc */
    if (gp_commit_upto(gp.arena, &heap.described, (first + pages + ahead) * sizeof(struct gp_page),
                       gp.arena_bytes / GP_PAGE * sizeof(struct gp_page)) < 0)
        return false;
    if (gp_commit_for(gp_purpose, at, (uint64_t)(pages + ahead) * GP_PAGE) < 0) {
        if (ahead == 0 || gp_commit_for(gp_purpose, at, (uint64_t)pages * GP_PAGE) < 0) return false;
        ahead = 0;
    }
    /* in order: a scan of pages ends at the first that was never used */
    for (uint32_t i = 0; i < pages + ahead; i++)
        gp_release(&gp_page_at(gp.arena, (uint32_t)first + i)->cls,
                   i < pages ? GP_CLASS_INNER : GP_CLASS_IDLE);
    heap.next_page += pages + ahead;
    heap.fresh += pages + ahead;
    if (ahead) gp_pages_free((uint32_t)first + pages, ahead, false);
    *page = (uint32_t)first;
    return true;
}

/* ---- extents that their receivers have released */

static bool over_limit(void) { return gp_committed() > gp.head->memory; } /* the reserve is in use */

void gp_pages_harvest(bool all) {
    if (!all && heap.used.n > 64 && ++heap.since_harvest <= heap.used.n / 4) return;
    for (uint32_t i = 0; i < heap.used.n;) {
        struct run x = heap.used.v[i];
        struct gp_page *d = gp_page_at(gp.arena, x.page);
        x.hole = gp_acquire(&d->cls) == GP_CLASS_HOLE;
        if (!x.hole && !gp_extent_take(d, (struct gp_block *)gp_page_start(gp.arena, x.page))) {
            i++;
            continue;
        }
        if (!x.hole) set_class(x.page, x.pages, GP_CLASS_IDLE);
        heap.used.v[i] = heap.used.v[--heap.used.n];
        gp_pages_free(x.page, x.pages, x.hole);
    }
    for (uint32_t i = heap.free.n; i-- > 0 && (heap.kept > KEEP_BYTES || (heap.kept > 0 && over_limit()));)
        give(&heap.free.v[i]);
    heap.since_harvest = 0;
}
