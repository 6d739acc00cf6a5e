/* chan.h - the floor of channels: waiters, their cases, and the ways to tell them. It knows no process but as
 * the address of gp_tell(). */
#ifndef GP_CHAN_H
#define GP_CHAN_H

#include "mem/mem.h"

/* ---- waiter.c, tell.c */
/* gp_waiter_at() and gp_sudog_at() check a number that was read from the segment. gp_waiter_known() and
 * gp_sudog_known() are for numbers of this process, and for those that were checked just before. */
static inline struct gp_waiter *gp_waiter_known(uint32_t proc, uint32_t i) {
    return (struct gp_waiter *)(gp_part_at(proc) + GP_PART_WAITERS) + i;
}
static inline struct gp_waiter *gp_waiter_at(uint32_t proc, uint32_t i) {
    if (GP_UNLIKELY(proc >= gp.room || i >= gp.waiters)) gp_damaged("a waiter", (uint64_t)proc << 32 | i);
    return gp_waiter_known(proc, i);
}
static inline uint32_t gp_sudog_ref(uint32_t proc, uint32_t i) { return proc << GP_SUDOG_BITS | (i + 1); }
static inline bool gp_sudog_check(uint32_t sd) {
    uint32_t i = sd & ((1u << GP_SUDOG_BITS) - 1);
    return (sd >> GP_SUDOG_BITS) < gp.room && i - 1 < gp.waiters + gp.selects;
}
static inline struct gp_sudog *gp_sudog_known(uint32_t sd) { /* sd: a sudog reference, not 0 */
    return (struct gp_sudog *)(gp_part_at(sd >> GP_SUDOG_BITS) + gp.sudogs_at) +
           (sd & ((1u << GP_SUDOG_BITS) - 1)) - 1;
}
static inline struct gp_sudog *gp_sudog_at(uint32_t sd) {
    if (GP_UNLIKELY(!gp_sudog_check(sd))) gp_damaged("a place in a queue", sd);
    return gp_sudog_known(sd);
}
/* Count the steps along a queue, which is not longer than the number of all sudogs. */
static inline void gp_count_step(uint64_t *steps) {
    if (GP_UNLIKELY(++*steps > (uint64_t)gp.room * (gp.waiters + gp.selects)))
        gp_damaged("a queue without an end", *steps);
}

/* The numbers of records of a partition that were ever in use. */
static inline uint32_t gp_waiters_used(const struct gp_proc *p) {
    uint32_t n = gp_get(&p->waiters_used);
    if (GP_UNLIKELY(n > gp.waiters)) gp_damaged("a number of waiters", n);
    return n;
}
static inline uint32_t gp_sudogs_used(const struct gp_proc *p) {
    uint32_t n = gp_get(&p->sudogs_used);
    if (GP_UNLIKELY(n > gp.selects)) gp_damaged("a number of cases", n);
    return n;
}

int64_t gp_waiter_alloc(bool thread);      /* index, or -ENOMEM, or -ENOSPC: all gp.waiters are in use */
void gp_waiter_release(uint32_t i);
/* a reference, or an error as above; for selects: each waiter has one sudog of its own */
int64_t gp_sudog_alloc(void);
void gp_sudog_release(uint32_t sd);
/* a plain thread is about to sleep until it is told, maybe for ever */
void gp_thread_blocks(struct gp_waiter *w);
void gp_thread_runs(struct gp_waiter *w);  /* the thread goes on, told or not */
void gp_waiter_arm(uint32_t i);            /* a new epoch, WAITING; before any sudog is linked */
bool gp_waiter_cancel(uint32_t i);         /* WAITING -> CANCELLED; false: the waiter was fired first */
/* after a CAS of the state: set the inbox bit of the waiter, or note its thread; gp_ring() then wakes the
 * process or thread */
void gp_tell(uint32_t proc, uint32_t i);
void gp_threads_recount(void);              /* a process has died: count my blocked threads again */
/* my waiter i is watched: its end is passed to `collector` */
void gp_watched(uint32_t i, uint32_t collector);
/* a process has died: push my waiter i if it was fired and not pushed */
void gp_watched_again(uint32_t i);
bool gp_word_died(uint32_t word);          /* true for the lock word of a dead process */
void gp_tell_now(uint32_t proc, uint32_t i); /* gp_tell() and gp_ring() in one: for the coroner's thread */
/* take back the bit of my waiter, which was fired while it did not wait for the bit: else its next use would
 * find the bit */
void gp_untell(uint32_t i);
/* wake the processes that gp_tell() noted; call it without locks */
void gp_ring(void);
/* the only waiter of this process that it has told itself since the last call, or -1 */
int64_t gp_direct_wakee(void);
void gp_ring_proc(uint32_t proc);
void gp_nudge(uint32_t proc);              /* set `rescan` of a proc: its scheduler looks around */
int gp_drain(uint32_t *out, int max);      /* own inbox: waiter indices that were told */
bool gp_inbox_pending(void);
/* wait until state leaves WAITING; false: time is up. Needs no GIL */
bool gp_thread_wait(struct gp_waiter *w, uint64_t until_ns);
void gp_release_threads(void);             /* wake all threads of this process: the runtime stops */
int gp_waiters_attach(void);               /* 0 or -errno */
void gp_tell_attach(void);

/* ---- queue.c: FIFO of sudogs of one object, under its lock */
void gp_enqueue(struct gp_object *o, uint32_t sd, bool send);
void gp_enqueue_first(struct gp_object *o, uint32_t sd); /* on recvq, before all others */
void gp_unlink(struct gp_object *o, uint32_t sd);
/* the number of waiters; a select that another case ended does not count */
uint32_t gp_queued(const struct gp_object *o, bool send);
/* the one CAS of a waiter; unlinks in either case */
bool gp_fire(struct gp_object *o, uint32_t sd, unsigned tag);
/* a whole step: journal, fire, unlink, tell; false: it was fired already */
bool gp_fire_one(struct gp_object *o, uint32_t sd, unsigned tag);
/* Fire every waiter of the object with `tag`. Call and return with the lock held. `pausing`: release the lock
 * now and then, where newcomers cannot queue any more. The process must be a holder then */
void gp_fire_all(struct gp_object *o, unsigned tag, bool pausing);
void gp_add_share(struct gp_object *o, const struct gp_sudog *s);
/* fire, and set the object's value to `value` */
bool gp_grant(struct gp_object *o, uint32_t sd, int64_t value);

/* ---- select.c: one operation on one object is a case; to block is to wait for the first of some cases */
enum gp_result { GP_BLOCK, GP_OK, GP_CLOSED, GP_OWNER_DIED };
enum gp_op_kind {
    GP_SEND,
    GP_RECV,
    GP_DONE,      /* wait group at zero, or goroutine ended */
    GP_LOCK,      /* mutex; rwmutex: for writing */
    GP_RLOCK,     /* rwmutex: for reading */
    GP_ACQUIRE,   /* n units of a semaphore */
    GP_SIGNAL,    /* cond */
    GP_ARRIVE,    /* barrier; n is then its place */
    GP_FOREVER,   /* no object */
};
struct gp_case {
    struct gp_object *o;     /* NULL: never ready */
    uint32_t sudog;          /* the sudog of the case while it waits */
    uint8_t kind;            /* enum gp_op_kind */
    bool woken;              /* mutex: it was told to try again, and has not tried */
    uint64_t n, since;
    /* send: the message offered; receive: the message that came, owned by the caller */
    struct gp_message m;
};
struct gp_select {
    struct gp_case *cases;
    uint32_t n;
    uint32_t *poll, *lock;   /* room for n each: the orders of examining and of locking */
    gp_ref spill;            /* block with room for n refs, if n >= GP_JOURNAL_LOCKS */
    bool sorted;             /* `lock` is in order */
};
enum gp_result gp_case_try(struct gp_case *c);                  /* non-blocking */
enum gp_result gp_case_try_or_wait(struct gp_case *c, uint32_t waiter); /* GP_BLOCK: the case is queued */
/* try the cases in a random order: the position of the one that happened, with *r GP_OK or GP_CLOSED; -1:
 * none is ready, and with a waiter all are queued now */
int64_t gp_select(struct gp_select *s, int64_t waiter, enum gp_result *r);
/* all cases are queued: take the value of a timer that is due, and return its position; -1: none is due */
int64_t gp_select_due(struct gp_select *s, uint32_t waiter);
/* which of the n cases of a select happened, by the state of its waiter */
static inline uint32_t gp_won(uint64_t state, uint32_t n) {
    uint32_t k = n == 1 ? 0 : GP_W_CASE(state);
    if (GP_UNLIKELY(k >= n)) gp_damaged("a case of a select", k);
    return k;
}
/* after a park: the caller's waiter has left WAITING, or the caller won gp_waiter_cancel() */
/* notified: the inbox says that the case was fired. !notified: rule O2 */
void gp_case_settled(struct gp_case *c, uint32_t waiter, bool notified);
/* true if a timer is among the cases: a timer may tell the waiter without firing it, and then `notified`
 * means nothing */
bool gp_select_rethinks(const struct gp_select *s);
/* the operation of the waiter gives up; false: a case of it was fired before */
bool gp_case_cancel(struct gp_case *c, uint32_t waiter);
/* take the case out of its queue, if it is still in it */
void gp_case_abandon(struct gp_case *c);
/* the operation happened but was not wanted: give back its object or drop its message */
void gp_case_undo(struct gp_case *c);
/* ns: the time at which the clock alone may make it ready; 0: never */
uint64_t gp_case_due(const struct gp_case *c);
uint32_t gp_random(uint32_t below);

/* ---- channel.c */
static inline struct gp_message *gp_slots(const struct gp_object *c) { /* message n is in slot n % cap */
    gp_check_lines(c->ring, c->cap);
    return (struct gp_message *)((char *)gp_at(c->ring) + GP_LINE); /* the block is GP_BLOCK_ALIGNED */
}
static inline uint64_t gp_buffered(const struct gp_object *c) { /* under the lock */
    uint64_t used = gp_get(&c->tail) - gp_get(&c->head);
    if (GP_UNLIKELY(used > c->cap)) gp_damaged("a number of messages", used);
    return used;
}
enum gp_result gp_chan_send(struct gp_object *c, const struct gp_message *m);  /* non-blocking */
/* non-blocking; the caller owns m */
enum gp_result gp_chan_recv(struct gp_object *c, struct gp_message *m);
/* the same under the lock, without gp_ring() */
enum gp_result gp_chan_put(struct gp_object *c, const struct gp_message *m);
enum gp_result gp_chan_take(struct gp_object *c, struct gp_message *m);
/* without the lock; false: there may be a message */
bool gp_chan_seems_empty(const struct gp_object *c);
uint64_t gp_chan_len(struct gp_object *c); /* the messages in its buffer, at one instant */
bool gp_chan_close(struct gp_object *c);                                      /* false: was closed */
/* true: a case may be ready, so try again */
bool gp_spin_until(const struct gp_case *cases, uint32_t n);
/* free ring and messages of a dead channel */
void gp_chan_drop(struct gp_object *c);
/* free the outcome of a goroutine, promise or context */
void gp_outcome_drop(struct gp_object *o);
/* a copy: the message stays in the cell */
void gp_cell_get(struct gp_object *c, struct gp_message *m);
/* replace the message; the number of old messages, which the caller drops */
unsigned gp_cell_set(struct gp_object *c, const struct gp_message *m, struct gp_message old[2]);
void gp_message_drop(const struct gp_message *m);
/* the message that an outcome, a copy or a cause is kept in */
static inline struct gp_message *gp_stored(gp_ref block) {
    gp_check_lines(block, 1);
    return (struct gp_message *)gp_payload(block);
}

/* ---- timer.c: channels that the clock sends on */
enum gp_result gp_timer_take(struct gp_object *c, struct gp_message *m);      /* under the lock */
/* 0 stops; true: it was active */
bool gp_timer_set(struct gp_object *c, int64_t when, uint64_t period);

/* ---- context.c */
void gp_context_link(struct gp_object *c, struct gp_object *parent, uint64_t due);
/* the tree below, too; false: it was done already */
bool gp_context_cancel(struct gp_object *c, int64_t code, gp_ref cause);
/* fire a deadline that has passed; true: it is done */
bool gp_context_expire(struct gp_object *c);
/* before it is freed, as a channel; false: it has children */
bool gp_context_unlink(struct gp_object *c);
/* the context in which the end of c began */
struct gp_object *gp_context_origin(struct gp_object *c);

/* ---- sync.c: under the lock */
enum gp_result gp_sync_step(struct gp_object *o, struct gp_case *c);
/* a waiter has left: grant to the ones behind it */
void gp_sync_serve(struct gp_object *o);
/* of a semaphore or rwmutex; NULL: the shares of procs are not counted */
static inline _Atomic int64_t *gp_shares(const struct gp_object *o) {
    if (!o->ring) return NULL;
    gp_check_lines(o->ring, (GP_BLOCK_HEAD + sizeof(int64_t) * gp.room) / GP_LINE);
    /* the block is not GP_BLOCK_ALIGNED */
    return (_Atomic int64_t *)((char *)gp_at(o->ring) + GP_BLOCK_HEAD);
}
int64_t gp_shares_sum(const struct gp_object *o);
void gp_share_add(struct gp_object *o, int64_t n);                            /* to this proc's share */
/* from this proc's share; the rest from others' */
void gp_share_take(struct gp_object *o, int64_t n);
/* whole operations; false: not locked, or more units than were taken */
bool gp_mutex_unlock(struct gp_object *o);
/* the caller was told to try again, and will not */
void gp_mutex_pass(struct gp_object *o);
bool gp_rwmutex_unlock(struct gp_object *o, bool reader);
bool gp_semaphore_release(struct gp_object *o, uint64_t n);
/* false: it has not `old` free units */
bool gp_semaphore_limit(struct gp_object *o, int64_t old, int64_t limit);
void gp_cond_signal(struct gp_object *o, bool all);

/* ---- outcome.c: outcomes of goroutines, promises and copies; wait groups */
/* of a wait group or goroutine */
bool gp_is_done(const struct gp_object *o);
/* 0, -ERANGE negative, -EOVERFLOW */
int gp_waitgroup_add(struct gp_object *o, int64_t n, int64_t *now);
/* true if a handle exists anywhere, or may exist */
bool gp_held(struct gp_object *o);
/* no process has a handle; a message may have one */
bool gp_unheld(struct gp_object *o);
/* failed, and the failure is unread */
bool gp_outcome_unread(const struct gp_object *o);
/* once after a dropped message held the last reference to a copy, or to a failed goroutine with an unread
 * outcome */
enum gp_garbage { GP_NO_GARBAGE, GP_A_COPY, GP_A_FAILURE };
enum gp_garbage gp_garbage_dropped(void);
/* false: no handle is left */
bool gp_outcome_set(struct gp_object *o, enum gp_goroutine_state state, gp_ref block);
/* the block is to hold the copy's message */
void gp_copy_begin(struct gp_object *o, gp_ref block);
/* `bytes`: the memory of the copy */
void gp_copy_fill(struct gp_object *o, const struct gp_message *m, uint64_t bytes);
/* true: it was queued, and the caller alone may keep it (but it can be broken) */
bool gp_promise_claim(struct gp_object *o);
/* m: the outcome, or NULL. false: it has an outcome already, and the message stays the caller's */
bool gp_promise_keep(struct gp_object *o, enum gp_goroutine_state state, const struct gp_message *m);
/* no goroutine refers to it: the goroutine has ended, or there was none */
bool gp_outcome_over(const struct gp_object *o);
/* the caller's last handle went; true: the object is ended, and the caller frees it */
bool gp_outcome_release(struct gp_object *o);

#endif
