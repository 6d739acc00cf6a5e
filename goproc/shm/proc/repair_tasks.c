/* repair_tasks.c - step 3: the goroutines of a dead process.
 *
 * Goroutines that had begun are lost: their outcome is an obituary, from which a reader makes WorkerDied. If
 * no handle can read the outcome, and the code that created the goroutine has kept none, it is a panic; if
 * the only handles died with the same process, it is not. Goroutines that had not begun run elsewhere, with
 * one exception: a pinned one runs on the replacement, and is lost if there is none.
 */
#include <stdlib.h>

#include "repair.h"

struct search {
    struct gp_dead *d;
    const struct gp_death *how;
    gp_ref *found;
    uint32_t n, room;
    bool short_of_memory, cancelled;
    uint64_t *waiting; /* numbers of the goroutines that were blocked, sorted; NULL: no memory for them */
    uint32_t n_waiting;
};

/* ---- the lost */

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void find_waiting(struct search *s) {
    uint32_t n = gp_waiters_used(gp_proc_at(s->d->proc));
    s->waiting = malloc((n + 1) * sizeof *s->waiting);
    for (uint32_t i = 0; s->waiting && i < n; i++) {
        const struct gp_waiter *w = gp_waiter_at(s->d->proc, i);
        if (GP_W_TAG(gp_get(&w->state)) != GP_W_IDLE) s->waiting[s->n_waiting++] = gp_get(&w->goroutine);
    }
    if (s->waiting) qsort(s->waiting, s->n_waiting, sizeof *s->waiting, compare);
}

static bool blocked(const struct search *s, uint64_t id) {
    return s->waiting && bsearch(&id, s->waiting, s->n_waiting, sizeof id, compare);
}

/* The text of a site ends with the word "statement" where the code drops the handle at once. */
static bool is_statement(gp_ref site) {
    static const char word[] = "\nstatement";
    uint64_t capacity, n;
    if (!site || !gp_block_check(site, &capacity) || GP_TAG_KIND(gp_tag(site)) != GP_TAG_DEFINITION)
        return false;
    n = gp_len(site);
    return n >= sizeof word - 1 &&
           memcmp(gp_payload(site) + n - (sizeof word - 1), word, sizeof word - 1) == 0;
}

static void panic(struct gp_dead *d, gp_ref ref) {
    if (d->panics) return;
    d->panics = true;
    d->panic = *gp_task_at(ref);
    uint64_t n = gp_len(ref) - sizeof(struct gp_task);
    if (n > sizeof d->labels - 1) n = sizeof d->labels - 1;
    memcpy(d->labels, gp_task_at(ref) + 1, n);
    d->labels[n] = 0;
}

/* True if the loss of the task is certainly a panic: its goroutine has no handle, and never had one outside
 * of the dead process. Nothing is changed, and no lock is waited for. */
static bool is_panic(gp_ref ref) {
    const struct gp_task *t = gp_task_at(ref);
    if (gp_get(&t->started) != GP_STARTED || gp_get(&t->retries) || gp_get(&t->tracker[GP_TRACK_GROUP]))
        return false;
    if (!is_statement(t->site) || !gp_object_check(t->object)) return false;
    struct gp_object *o = gp_at(t->object);
    bool its_own = gp_get(&o->gen) == t->gen && gp_get(&o->kind) == GP_KIND_OUTCOME;
    return its_own && gp_acquire(&o->state) < GP_G_OK && !gp_held(o);
}

static void find_panic(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    struct gp_dead *d = arg;
    if (d->panics || object || !(gp_block_flags(b) & GP_BLOCK_TASK) ||
        bytes < GP_BLOCK_HEAD + sizeof(struct gp_task))
        return;
    if (gp_get(&b->tag) == d->tag && is_panic(gp_ref_of(b))) panic(d, gp_ref_of(b));
}

bool gp_repair_panics(struct gp_dead *d) {
    gp_heap_each(find_panic, d);
    return d->panics;
}

static void set_outcome(struct gp_object *o, gp_ref ref, bool told, const struct search *s) {
    struct gp_task *t = gp_task_at(ref);
    struct gp_obituary obituary = {
        .death = s->d->death,
        .memory = s->how->memory,
        .pid = s->how->pid,
        .status = s->how->status,
        .task = ref,
        .proc = (uint16_t)s->d->proc,
        .timed_out = !s->how->timed_out             ? 0
                     : s->how->overdue == t->object ? 2
                                                    : 1,
        .unstarted = gp_get(&t->started) == GP_UNSTARTED,
    };
    memset(&t->call, 0, sizeof t->call);
    t->call.codec = GP_CODEC_DEATH;
    t->call.len = sizeof obituary;
    memcpy(t->call.data, &obituary, sizeof obituary);
    gp_own(ref, GP_TAG(GP_TAG_RESULT, gp_ref_of(o)));
    o->ring = ref;
    o->task = 0;
    if (told) gp_set(&o->value, 1); /* its group reports it, or its handles died: it need not be read */
    gp_release(&o->state, GP_G_FAILED); /* COMMIT */
    gp_repair_serve(o);
}

static struct gp_object *tracker(gp_ref ref, enum gp_kind kind) {
    return ref && gp_object_check(ref) && gp_get(&((struct gp_object *)gp_at(ref))->kind) == kind ? gp_at(ref)
                                                                                                  : NULL;
}

/* Tell the trackers of the goroutine's end. The tree of contexts is cancelled further when all goroutines are
 * done. A member that its group counts no longer had ended, and had noted its error: nothing is left to
 * cancel. */
static bool tell_trackers(const uint32_t refs[GP_TRACKERS], bool lost, struct search *s) {
    struct gp_object *place = tracker(refs[GP_TRACK_PLACE], GP_KIND_SEMAPHORE),
                     *count = tracker(refs[GP_TRACK_COUNT], GP_KIND_WAITGROUP),
                     *node = count ? tracker(refs[GP_TRACK_GROUP], GP_KIND_CHAN) : NULL;
    if (node && gp_get(&node->flags) & GP_OBJ_CONTEXT && !(gp_get(&node->flags) & GP_OBJ_CLOSED)) {
        if (!gp_repair_lock(node)) return false;
        bool first = !(gp_get(&node->flags) & GP_OBJ_CLOSED); /* else it has ended meanwhile, with its code */
        if (first) gp_set(&node->value, GP_CANCELED);
        if (first) atomic_fetch_or(&node->flags, GP_OBJ_CLOSED);
        gp_repair_serve(node);
        gp_repair_unlock(node);
        s->cancelled = true;
    }
    if (place) {
        if (!gp_repair_lock(place)) return false;
        gp_set(&place->tail, gp_get(&place->tail) - 1);
        gp_set(&place->value, gp_get(&place->value) + 1);
        gp_repair_serve(place);
        gp_repair_unlock(place);
    }
    if (count) {
        if (!gp_repair_lock(count)) return false;
        if (lost) gp_set(&count->head, s->d->death);
        if (lost) gp_set(&count->tail, gp_get(&count->tail) + 1);
        if (gp_get(&count->value) > 0) gp_set(&count->value, gp_get(&count->value) - 1);
        gp_repair_serve(count);
        gp_repair_unlock(count);
    }
    return true;
}

static void take_trackers(struct gp_task *t, uint32_t refs[GP_TRACKERS]) {
    for (int i = 0; i < GP_TRACKERS; i++) {
        refs[i] = gp_get(&t->tracker[i]);
        gp_set(&t->tracker[i], 0);
    }
}

/* Drop the content that the dead process had put into the spare block of a task, for an outcome that did not
 * come about. */
static void empty_spare(gp_ref ref, const struct search *s) {
    struct gp_task *t = gp_task_at(ref);
    uint64_t capacity;
    if (!t->spare || !gp_block_check(t->spare, &capacity) || gp_tag(t->spare) != GP_TAG(GP_TAG_PART, ref))
        return;
    struct gp_message *m = (struct gp_message *)gp_payload(t->spare);
    bool made = m->block && gp_block_check(m->block, &capacity) &&
                gp_tag(m->block) == GP_TAG(GP_TAG_RESULT, t->object);
    if (made) gp_own(m->block, s->d->tag); /* freed with all blocks of the dead process */
    m->block = 0;
}

static bool end_task(gp_ref ref, bool member, struct search *s);

static bool lose(gp_ref ref, struct search *s) {
    uint32_t refs[GP_TRACKERS]; /* the task belongs to the handles once its end is known */
    take_trackers(gp_task_at(ref), refs);
    return end_task(ref, refs[GP_TRACK_GROUP] != 0, s) && tell_trackers(refs, true, s);
}

static bool end_task(gp_ref ref, bool member, struct search *s) {
    struct gp_task *t = gp_task_at(ref);
    struct gp_object *o = gp_object_check(t->object) ? gp_at(t->object) : NULL;
    uint64_t bit = 1ULL << (s->d->proc % 64);
    if (t->call.block) gp_own(t->call.block, s->d->tag); /* freed with all blocks of the dead process */
    t->call.block = 0;
    empty_spare(ref, s);
    if (t->spare && gp_tag(t->spare) == GP_TAG(GP_TAG_PART, ref)) gp_own(t->spare, s->d->tag);
    t->spare = 0;
    if (!o || gp_get(&o->gen) != t->gen || gp_get(&o->kind) != GP_KIND_OUTCOME) {
        gp_own(ref, s->d->tag);
        return true;
    }
    if (!gp_repair_lock(o)) return false;
    uint64_t before = atomic_fetch_and(&o->holders[s->d->proc / 64], ~bit);
    if (gp_acquire(&o->state) >= GP_G_OK) {
        /* the goroutine had ended, and its process died before the end was complete */
        gp_own(ref, s->d->tag);
    } else if (gp_held(o)) {
        /* a handle may be on its way: the outcome can be read, but need not be */
        set_outcome(o, ref, member || gp_unheld(o), s);
    } else {
        if (!(before & bit) && !member && is_statement(t->site)) panic(s->d, ref);
        gp_own(ref, s->d->tag);
        gp_set(&o->state, GP_G_FAILED);
        gp_repair_unlock(o);
        gp_repair_free_object(o);
        return true;
    }
    gp_repair_unlock(o);
    return true;
}

/* ---- all of them */

static void find_tasks(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    struct search *s = arg;
    if (object || !(gp_block_flags(b) & GP_BLOCK_TASK) || bytes < GP_BLOCK_HEAD + sizeof(struct gp_task))
        return;
    if (gp_get(&b->tag) != s->d->tag) return;
    if (!gp_grow(&s->found, s->n, &s->room, 256, sizeof *s->found)) {
        s->short_of_memory = true;
        return;
    }
    s->found[s->n++] = gp_ref_of(b);
}

static bool is_pinned(const struct gp_task *t) {
    return t->pinned == GP_PINNED || t->pinned == GP_PINNED_ALWAYS;
}

/* Put a task that was taken out of a ring, and had not begun, into a ring again. */
static bool move(gp_ref ref, struct search *s) {
    bool pinned = is_pinned(gp_task_at(ref));
    int err = gp_task_push_again(ref, pinned ? s->d->proc : 0, pinned);
    if (err == -EINTR) return false;
    /* there is no memory for a place in the ring, or no process will take it from this one */
    return err == 0 || lose(ref, s);
}

/* End a task whose `go` had not returned. Its blocks are freed with all others of the dead process, but
 * trackers may count it already. */
static bool unmake(gp_ref ref, struct search *s) {
    uint32_t refs[GP_TRACKERS];
    take_trackers(gp_task_at(ref), refs);
    refs[GP_TRACK_GROUP] = 0;
    return tell_trackers(refs, false, s);
}

/* True if the goroutine is to start again: its creator has asked for that, and the goroutine has not
 * ended. */
static bool has_retries(const struct gp_task *t, const struct search *s) {
    if (gp_get(&t->retries) == 0 || !gp_object_check(t->object)) return false;
    if (s->how->timed_out && s->how->overdue == t->object) return false; /* its time is over */
    const struct gp_object *o = gp_at(t->object);
    return gp_get(&o->gen) == t->gen && gp_acquire(&o->state) < GP_G_OK;
}

static bool start_again(gp_ref ref, struct search *s) {
    struct gp_task *t = gp_task_at(ref);
    struct gp_object *o = gp_at(t->object);
    empty_spare(ref, s);
    /* if the process was killed for a time limit, another goroutine is to blame */
    if (!s->how->timed_out) gp_set(&t->retries, (uint16_t)(gp_get(&t->retries) - 1));
    gp_set(&t->lost, (uint16_t)(gp_get(&t->lost) + 1));
    t->lost_with = s->how->pid;
    gp_set(&t->started, GP_UNSTARTED);
    gp_set(&o->proc, 0);
    gp_release(&o->state, GP_G_QUEUED);
    return move(ref, s);
}

static bool end_one(gp_ref ref, struct search *s) {
    switch (gp_get(&gp_task_at(ref)->started)) {
    case GP_UNSTARTED: return move(ref, s);
    case GP_STARTED: return has_retries(gp_task_at(ref), s) ? start_again(ref, s) : lose(ref, s);
    default: return unmake(ref, s);
    }
}

/* Take the tasks that are pinned to a process without a replacement: they are lost. Its state shows by now
 * that it is gone, so that no more come. */
static bool take_pinned(const struct search *s) {
    struct gp_queue *q = &gp_proc_at(s->d->proc)->queue;
    for (;;) {
        if (!gp_repair_lock(q)) return false;
        uint32_t head = gp_get(&q->pinned_head);
        bool any = gp_task_queued(s->d->proc, true) > 0;
        gp_ref ref = any ? gp_task_slot(s->d->proc, true, head) : 0;
        if (any) gp_own(ref, s->d->tag);
        if (any) gp_set(&q->pinned_head, head + 1);
        gp_repair_unlock(q);
        if (!any) return true;
    }
}

/* Name all lost goroutines in the record before any outcome is set: the reader of an outcome looks there. */
static void list(const struct search *s) {
    for (uint32_t i = 0; i < s->n; i++) {
        struct gp_task *t = gp_task_at(s->found[i]);
        uint32_t started = gp_get(&t->started);
        bool lost = started == GP_STARTED || (started == GP_UNSTARTED && is_pinned(t) && !s->d->replaced);
        if (started == GP_STARTED && has_retries(t, s)) gp_death_again(s->d->death, t, blocked(s, t->id));
        else if (lost) gp_death_add(s->d->death, t, blocked(s, t->id));
        else if (started == GP_UNSTARTED) gp_death_moved(s->d->death);
    }
    gp_death_end(s->d->death);
}

bool gp_repair_tasks(struct gp_dead *d, const struct gp_death *how) {
    struct search s = {.d = d, .how = how};
    find_waiting(&s);
    bool goes_on = d->replaced || take_pinned(&s);
    bool listed = false;
    do { /* again if there was no memory for all: those that are done have another tag */
        s.n = 0;
        s.short_of_memory = false;
        gp_heap_each(find_tasks, &s);
        if (!listed) list(&s);
        listed = true;
        for (uint32_t i = 0; i < s.n && goes_on; i++) goes_on = end_one(s.found[i], &s);
    } while (s.short_of_memory && s.n > 0 && goes_on);
    free(s.found);
    free(s.waiting);
    if (goes_on && s.cancelled) goes_on = gp_repair_lock(&gp.head->tree) && gp_repair_tree();
    return goes_on;
}
