/* trackers.c - the objects that are told of a goroutine's end: a wait group counts down, a semaphore gets its
 * unit back.
 *
 * The change of the count and that of the task are one step for the coroner, which tells in place of a dead
 * process, and must not tell twice.
 */
#include "proc/proc.h"

/* Under the lock of the wait group or semaphore: store its new count, and the tracker that the task has
 * then. */
static void track(gp_ref task, enum gp_tracker which, struct gp_object *o, uint64_t count, gp_ref then) {
    gp_intent_track(gp_ref_of(o), which, task, count, then);
    if (which == GP_TRACK_PLACE) gp_set(&o->tail, count); /* COMMIT */
    else gp_set(&o->value, (int64_t)count);               /* COMMIT */
    gp_order();
    gp_set(&gp_task_at(task)->tracker[which], then);
    gp_done();
}

static int count(gp_ref task, struct gp_object *o, int64_t change, gp_ref then) {
    int err = 0;
    int64_t value;
    gp_lock(o);
    if (__builtin_add_overflow(gp_get(&o->value), change, &value)) err = -EOVERFLOW;
    else if (value < 0) err = -ERANGE;
    if (err == 0) {
        track(task, GP_TRACK_COUNT, o, (uint64_t)value, then);
        if (value == 0) gp_fire_all(o, GP_W_CLOSED, false);
    }
    gp_unlock(o);
    gp_ring();
    return err;
}

int gp_task_enter(gp_ref task, struct gp_object *o) { return count(task, o, 1, gp_ref_of(o)); }

static struct gp_object *tracker_at(gp_ref task, enum gp_tracker which) {
    gp_ref ref = gp_get(&gp_task_at(task)->tracker[which]);
    if (GP_UNLIKELY(ref && !gp_object_check(ref))) gp_damaged("a tracker of a task", ref);
    return ref ? gp_at(ref) : NULL;
}

/* A place leaves the share of its process after it has become the task's, and comes back to the share before
 * anybody can take it. If the process dies in between, `value` is computed anew from `tail` and the shares of
 * the living. */

void gp_task_take_place(gp_ref task, struct gp_object *places) {
    gp_lock(places);
    track(task, GP_TRACK_PLACE, places, gp_get(&places->tail) + 1, gp_ref_of(places));
    gp_share_take(places, 1);
    gp_unlock(places);
}

void gp_task_return_place(gp_ref task) {
    struct gp_object *places = tracker_at(task, GP_TRACK_PLACE);
    if (!places) return;
    gp_lock(places);
    track(task, GP_TRACK_PLACE, places, gp_get(&places->tail) - 1, 0);
    gp_share_add(places, 1);
    gp_unlock(places);
}

static void free_place(gp_ref task, struct gp_object *places) {
    gp_lock(places);
    track(task, GP_TRACK_PLACE, places, gp_get(&places->tail) - 1, 0);
    gp_set(&places->value, gp_get(&places->value) + 1);
    gp_sync_serve(places);
    gp_unlock(places);
    gp_ring();
}

int gp_task_leave(gp_ref task) {
    struct gp_object *places = tracker_at(task, GP_TRACK_PLACE), *counter = tracker_at(task, GP_TRACK_COUNT);
    if (places) free_place(task, places);
    return counter ? count(task, counter, -1, 0) : 0;
}
