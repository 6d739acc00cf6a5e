/* pages.h - pages of an arena, for heap.c, pages.c and reclaim.c, and the rules for changing their use.
 *
 * A page's `cls` tells every process how the page is used. The page's owner, the proc of the arena, moves it
 * between uses. Any proc may give a free page back to the system:
 *
 *     IDLE -> INNER, a size class, EXTENT      owner: hands it out
 *     HOLE -> the same                         owner: backs it with memory first
 *     a size class -> IDLE                     owner: all its blocks are FREE
 *     EXTENT -> TAKING -> IDLE                 owner: it is FREE
 *     IDLE, a size class, EXTENT -> TAKING -> HOLE, or the former class     any process, see reclaim.c
 *
 * All but the second begin with a CAS of `cls`: a tag belongs to a page only while the class stays. A page of
 * objects changes its use only under the collector's lock (header.collecting): so a scan of objects meets
 * only objects there.
 */
#ifndef GP_PAGES_H
#define GP_PAGES_H

#include "mem/mem.h"

#define GP_CLASS_COUNT 20u
#define GP_LARGEST 32768u                          /* bytes of the largest block that is no extent */
extern const uint32_t gp_class_bytes[GP_CLASS_COUNT];

#define GP_TAKING(origin) (GP_CLASS_TAKING | (uint32_t)(origin) << 8 | (gp.proc + 1) << 16)

static inline uint32_t gp_first_page(void) { /* the descriptors lie before it */
    return (uint32_t)((gp.arena_bytes / GP_PAGE * sizeof(struct gp_page) + GP_PAGE - 1) / GP_PAGE);
}
static inline uint64_t gp_arena_at(uint32_t proc) { return gp.heap_at + proc * gp.arena_bytes; }
static inline struct gp_page *gp_page_at(uint64_t arena, uint32_t page) {
    return (struct gp_page *)(gp.base + arena) + page;
}
static inline char *gp_page_start(uint64_t arena, uint32_t page) {
    return gp.base + arena + (uint64_t)page * GP_PAGE;
}
/* The class of a page, or its class before a process began to take it: blocks may still live there. */
static inline uint32_t gp_page_class(const struct gp_page *d) {
    uint32_t cls = gp_acquire(&d->cls);
    return (cls & 0xff) == GP_CLASS_TAKING ? cls >> 8 & 0xff : cls;
}

/* the length of the extent that begins there */
static inline uint32_t gp_extent_pages(uint64_t arena, uint32_t page) {
    uint32_t pages = gp_get(&gp_page_at(arena, page)->pages);
    if (GP_UNLIKELY(pages == 0 || pages > gp.arena_bytes / GP_PAGE - page))
        gp_damaged("an extent's length", pages);
    return pages;
}

/* ---- pages.c: for this process's own arena */
/* the content of pages that were taken; NOTHING: there were no pages */
enum gp_content { GP_NOTHING, GP_OLD, GP_ZERO };
void gp_pages_attach(void);
void gp_pages_detach(void);
/* take a free run; its pages are INNER then */
enum gp_content gp_pages_reuse(uint32_t pages, uint32_t *page);
/* take pages that were never used: they hold zeros */
bool gp_pages_grow(uint32_t pages, uint32_t *page);
/* at attach: take over the pages in use; `small` takes those of the size classes */
void gp_pages_inherit(bool (*small)(uint32_t page, uint32_t cls));
static inline uint64_t gp_pages_described(uint32_t page) { /* bytes of the descriptors of all pages before */
    return ((uint64_t)page * sizeof(struct gp_page) + 4095) / 4096 * 4096;
}
void gp_pages_free(uint32_t page, uint32_t pages, bool hole);   /* make pages IDLE, or HOLE */
/* make FREE extents free runs; not all: only now and then */
void gp_pages_harvest(bool all);
void gp_pages_return(void);                        /* give free runs back to the system, and merge them */
/* note an extent that is handed out; false: no memory to note it */
bool gp_extent_note(uint32_t page, uint32_t pages);
/* pages taken by gp_pages_grow() since the last call of gp_pages_seen() */
uint32_t gp_pages_fresh(void);
void gp_pages_seen(void);
uint32_t gp_pages_used(void);                      /* pages that were ever used */

/* ---- reclaim.c */
/* make a FREE extent TAKING, and the caller's */
bool gp_extent_take(struct gp_page *d, const struct gp_block *b);
bool gp_page_empty(uint64_t arena, uint32_t page, uint32_t cls); /* true if all blocks of the page are FREE */
/* of a page of objects: let its next objects begin with the highest gen */
void gp_page_keep_gen(uint64_t arena, uint32_t page);
/* take header.collecting; false: a process collects already, perhaps this one, or a dead one is repaired */
bool gp_collect_lock(void);
void gp_collect_unlock(void);
/* make IDLE pages holes; return the bytes */
uint64_t gp_reclaim_idle(uint32_t proc, uint32_t page, uint32_t pages);

static inline void gp_heap_moved(void) { gp_set(&gp.my->heap_moves, gp_get(&gp.my->heap_moves) + 1); }

#endif
