/* definitions.c - the definitions that the processes of one number have stored.
 *
 * A definition stays for the life of the segment, since any process may have its reference. The replacement
 * of a worker stores mostly the definitions that its predecessors have stored: it finds those in the arena
 * that it inherits, by their bytes.
 */
#include <stdlib.h>

#include "mem/mem.h"

#define MOST 8192u /* definitions of a number; beyond them a replacement stores no others */

static struct {
    gp_ref *v;       /* open addressing; 0: no definition */
    uint32_t n, cap; /* cap: 0, or a power of two */
} known;

static bool inherits(void) { return gp_word_incarnation(gp.me) > 1; }

static uint32_t hash(const char *data, uint64_t len) { /* FNV-1a */
    uint32_t h = 2166136261u;
    for (uint64_t i = 0; i < len; i++) h = (h ^ (uint8_t)data[i]) * 16777619u;
    return h;
}

/* The slot of a definition, or the free slot where it belongs. */
static gp_ref *slot_of(const char *data, uint64_t len) {
    for (uint32_t i = hash(data, len);; i++) {
        gp_ref *slot = &known.v[i & (known.cap - 1)];
        if (*slot == 0 || (gp_len(*slot) == len && memcmp(gp_payload(*slot), data, len) == 0)) return slot;
    }
}

static bool room_for_one(void) {
    if (known.cap > 0 && known.n < known.cap / 2) return true;
    uint32_t cap = known.cap ? 2 * known.cap : 256, old = known.cap;
    gp_ref *v = calloc(cap, sizeof *v), *before = known.v;
    if (!v) return false;
    known.v = v;
    known.cap = cap;
    for (uint32_t i = 0; i < old; i++)
        if (before[i]) *slot_of(gp_payload(before[i]), gp_len(before[i])) = before[i];
    free(before);
    return true;
}

static void note(gp_ref ref) {
    if (!room_for_one()) return; /* the next process of this number finds it */
    gp_ref *slot = slot_of(gp_payload(ref), gp_len(ref));
    known.n += *slot == 0;
    *slot = ref;
}

static void note_left(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    (void)bytes, (void)arg;
    uint64_t capacity;
    bool is = !object && GP_TAG_KIND(gp_acquire(&b->tag)) == GP_TAG_DEFINITION;
    if (is && gp_block_check(gp_ref_of(b), &capacity)) note(gp_ref_of(b));
}

bool gp_definition_find(const char *data, uint64_t len, gp_ref *ref) {
    if (!inherits()) return *ref = 0, true;
    if (known.cap == 0) gp_heap_each_in(gp.proc, note_left, NULL);
    *ref = known.cap ? *slot_of(data, len) : 0;
    return *ref != 0 || known.n < MOST;
}

void gp_definition_keep(gp_ref ref) {
    gp_own(ref, GP_TAG(GP_TAG_DEFINITION, gp.proc + 1));
    if (inherits()) note(ref);
}

void gp_definitions_detach(void) {
    free(known.v);
    memset(&known, 0, sizeof known);
}
