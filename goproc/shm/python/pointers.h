/* pointers.h - a set of pointers: open addressing, backward-shift deletion; with a number for each. */
#ifndef GP_POINTERS_H
#define GP_POINTERS_H

#include "python.h"

struct pointers {
    struct pointer {
        void *key;
        uint64_t value;
        uint32_t users;
    } *slot;
    size_t mask, used;
};

static inline size_t pointer_home(const struct pointers *t, const void *key) {
    return (size_t)(((uintptr_t)key >> 4) * 0x9E3779B97F4A7C15ULL >> 20) & t->mask;
}

static inline struct pointer *pointer_find(const struct pointers *t, const void *key) {
    if (!t->used) return NULL;
    for (size_t i = pointer_home(t, key); t->slot[i].key; i = (i + 1) & t->mask)
        if (t->slot[i].key == key) return &t->slot[i];
    return NULL;
}

static inline struct pointer *pointer_put(struct pointers *t, void *key) {
    if (!t->slot || 2 * (t->used + 1) > t->mask + 1) {
        size_t size = t->slot ? 2 * (t->mask + 1) : 64;
        struct pointers fresh = {PyMem_RawCalloc(size, sizeof *fresh.slot), size - 1, t->used};
        if (!fresh.slot) {
            PyErr_NoMemory();
            return NULL;
        }
        for (size_t i = 0; t->slot && i <= t->mask; i++) {
            if (!t->slot[i].key) continue;
            size_t at = pointer_home(&fresh, t->slot[i].key);
            while (fresh.slot[at].key) at = (at + 1) & fresh.mask;
            fresh.slot[at] = t->slot[i];
        }
        PyMem_RawFree(t->slot);
        *t = fresh;
    }
    size_t i = pointer_home(t, key);
    while (t->slot[i].key) i = (i + 1) & t->mask;
    t->slot[i] = (struct pointer){.key = key};
    t->used++;
    return &t->slot[i];
}

static inline void pointer_remove(struct pointers *t, struct pointer *p) {
    size_t i = (size_t)(p - t->slot);
    for (size_t j = i;;) {
        j = (j + 1) & t->mask;
        if (!t->slot[j].key) break;
        size_t k = pointer_home(t, t->slot[j].key);
        if (((j - k) & t->mask) >= ((j - i) & t->mask)) {
            t->slot[i] = t->slot[j];
            i = j;
        }
    }
    t->slot[i].key = NULL;
    t->used--;
}

static inline void pointers_free(struct pointers *t) {
    PyMem_RawFree(t->slot);
    memset(t, 0, sizeof *t);
}

#endif
