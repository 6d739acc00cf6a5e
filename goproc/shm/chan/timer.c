/* timer.c - timers: channels on which the clock sends.
 *
 * No thread runs for a timer. Its channel holds the time at which it is due, and a receive at or after that
 * time takes it. A goroutine that blocks on it parks until then (gp_case_due), in its own process. So a timer
 * without a waiter costs nothing and needs no stop, a busy maker does not make it late, and it outlives its
 * maker. The channel looks unbuffered, and there is never a stale value, as since Go 1.23: stop and reset
 * change `value` under the lock.
 */
#include "chan/chan.h"

enum gp_result gp_timer_take(struct gp_object *c, struct gp_message *m) {
    int64_t when = gp_get(&c->value), now = (int64_t)gp_now();
    if (when == 0 || now < when) return GP_BLOCK;
    int64_t period = (int64_t)gp_get(&c->period);
    double seconds = (double)when / 1e9;
    m->codec = GP_CODEC_FLOAT;
    m->len = 8;
    m->flags = 0;
    m->block = 0;
    memcpy(m->data, &seconds, 8);
    /* a slow reader loses ticks: one is pending, and the next comes on the grid after now */
    gp_set(&c->value, period ? when + period * ((now - when) / period + 1) : 0); /* COMMIT */
    return GP_OK;
}

/* Goroutines that wait for the timer go on waiting, each in its place of every queue: they only learn of the
 * new time. A plain thread, which sleeps on the state of its waiter, looks again from the start. */
static void tell_all(struct gp_object *c) {
    uint64_t steps = 0;
    for (uint32_t next, sd = gp_get(&c->recvq_first); sd; sd = next) {
        gp_count_step(&steps);
        struct gp_sudog *s = gp_sudog_at(sd);
        struct gp_waiter *w = gp_waiter_at(s->proc, s->waiter);
        next = gp_get(&s->next);
        if (!gp_get(&w->thread)) {
            atomic_store(&w->rethink, 1);
            gp_tell(s->proc, s->waiter);
            continue;
        }
        gp_fire_one(c, sd, GP_W_RETRY);
    }
}

bool gp_timer_set(struct gp_object *c, int64_t when, uint64_t period) {
    gp_lock(c);
    bool active = gp_get(&c->value) != 0;
    gp_set(&c->period, period);
    gp_set(&c->value, when); /* COMMIT */
    tell_all(c);
    gp_unlock(c);
    gp_ring();
    uint32_t owner = gp_get(&c->owner);
    if (gp_get(&c->flags) & GP_OBJ_FUNC && owner - 1 < gp_places() && owner - 1 != gp.proc)
        gp_nudge(owner - 1);
    return active;
}
