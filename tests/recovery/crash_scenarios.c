/* crash_scenarios.c - the operations that are stepped through, and what the peer and the host have done before. */
#define _GNU_SOURCE
#include <unistd.h>

#include "crash_image.h"

static void chans(int n, uint32_t cap) {
    for (int i = 0; i < n; i++) shared->object[i] = new_object(GP_KIND_CHAN, cap);
}
static void nothing(void) {}
static void one_unbuffered(void) { chans(1, 0); }
static void one_buffered(void) { chans(1, 2); }
static void three_unbuffered(void) { chans(3, 0); }
static void three_buffered(void) { chans(3, 2); }
static void many_unbuffered(void) { chans(MANY, 0); }
static void full(void) {
    chans(1, 2);
    put(0);
    put(0);
}
static void half(void) {
    chans(1, 2);
    put(0);
}
static void peer_receives(void) { wait_for(0, GP_RECV, 0); }
static void peer_sends(void) { wait_for(0, GP_SEND, 0); }
static void peer_sleeps(void) {
    peer_receives();
    gp_set(&gp.my->park, GP_PARKED);
    shared->sleeps = true;
}
static void peers_receive(void) {
    for (int i = 0; i < 3; i++) peer_receives();
}
static void peers_send(void) {
    for (int i = 0; i < 3; i++) peer_sends();
}
static void peer_gave_up(void) { /* its select was decided elsewhere: its place in the queue is stale */
    peer_receives();
    gp_waiter_cancel(shared->waiter[0]);
    peer_receives();
}
static void peer_selects_receive(void) { select_for(GP_RECV, 3); }
static void peer_selects_send(void) { select_for(GP_SEND, 3); }
static void send_once(void) {
    struct gp_message m = message();
    gp_chan_send(object(0), &m);
}
static void receive_once(void) {
    struct gp_message m;
    gp_chan_recv(object(0), &m);
}
static void receive_and_drop(void) {
    struct gp_message m;
    if (gp_chan_recv(object(0), &m) == GP_OK) gp_message_drop(&m);
}
static void wait_to_receive(void) { wait_for(0, GP_RECV, 0); }
static void wait_to_send(void) { wait_for(0, GP_SEND, 0); }
static void close_it(void) { gp_chan_close(object(0)); }
static void select_receive(void) { select_for(GP_RECV, 3); }
static void select_send(void) { select_for(GP_SEND, 3); }
static void select_many(void) { select_for(GP_RECV, MANY); }

static void a_cell(void) {
    half();
    shared->cell = true;
}
static void a_cell_of_two(void) { /* its owner has died in between */
    full();
    shared->cell = true;
}
static void set_cell(void) {
    struct gp_message m = message(), old[2];
    for (unsigned n = gp_cell_set(object(0), &m, old); n > 0; n--) gp_message_drop(&old[n - 1]);
}

static struct gp_case *mine;
static uint32_t my_waiter;
static void queue_mine(void) {
    mine = calloc(1, sizeof *mine);
    *mine = (struct gp_case){.o = object(0), .kind = GP_RECV};
    wait_in(mine, 1);
    my_waiter = shared->waiter[shared->peers - 1];
}
static void give_up_mine(void) {
    if (gp_case_cancel(mine, my_waiter)) gp_case_abandon(mine);
    gp_waiter_release(my_waiter);
}
static void in_the_middle(void) { /* of a queue, which others leave and enter */
    queue_mine();
}

/* sync */
static void make_sync(enum gp_kind kind, uint32_t cap) { shared->object[0] = new_object(kind, cap); }
static void a_waitgroup(void) {
    int64_t now;
    make_sync(GP_KIND_WAITGROUP, 0);
    gp_waitgroup_add(object(0), 1, &now);
}
static void peers_wait(void) {
    for (int i = 0; i < 3; i++) wait_for(0, GP_DONE, 0);
}
static void wg_done(void) {
    int64_t now;
    gp_waitgroup_add(object(0), -1, &now);
}
static void a_mutex(void) { make_sync(GP_KIND_MUTEX, 0); }
static void a_rwmutex(void) { make_sync(GP_KIND_RWMUTEX, 0); }
static void a_semaphore(void) { make_sync(GP_KIND_SEMAPHORE, 5); }
static void a_cond(void) { make_sync(GP_KIND_COND, 0); }
static void a_barrier(void) { make_sync(GP_KIND_BARRIER, 3); }
static void take(enum gp_op_kind kind, uint64_t n) {
    struct gp_case c = {.o = object(0), .kind = (uint8_t)kind, .n = n};
    gp_case_try(&c);
}
static void lock_it(void) { take(GP_LOCK, 0); }
static void unlock_it(void) { gp_mutex_unlock(object(0)); }
static void locked_by_victim(void) { lock_it(); }
static void queue_lockers(void) { /* once the victim has it */
    for (int i = 0; i < 2; i++) wait_for(0, GP_LOCK, 0);
}
static void unlock_starving(void) {
    usleep(2000);
    gp_mutex_unlock(object(0));
}
static void read_lock(void) { take(GP_RLOCK, 0); }
static void read_unlock(void) { gp_rwmutex_unlock(object(0), true); }
static void write_unlock(void) { gp_rwmutex_unlock(object(0), false); }
static void queue_readers(void) {
    for (int i = 0; i < 2; i++) wait_for(0, GP_RLOCK, 0);
}
static void acquire_it(void) { take(GP_ACQUIRE, 3); }
static void acquire_all(void) { take(GP_ACQUIRE, 5); }
static void release_it(void) { gp_semaphore_release(object(0), 3); }
static void release_all(void) { gp_semaphore_release(object(0), 5); }
static void queue_acquirers(void) {
    wait_for(0, GP_ACQUIRE, 2);
    wait_for(0, GP_ACQUIRE, 1);
}
static void peers_wait_cond(void) {
    for (int i = 0; i < 2; i++) wait_for(0, GP_SIGNAL, 0);
}
static void signal_it(void) { gp_cond_signal(object(0), false); }
static void broadcast_it(void) { gp_cond_signal(object(0), true); }
static void peers_arrive(void) {
    for (int i = 0; i < 2; i++) wait_for(0, GP_ARRIVE, 0);
}
static void arrive_it(void) { wait_for(0, GP_ARRIVE, 0); }

/* tasks */
static void push_task(void) {
    gp_ref task = new_task(false);
    gp_task_push(task, PEER, false);
}
static void push_pinned(void) {
    gp_ref task = new_task(true);
    gp_task_push(task, VICTIM, true);
}
static void three_tasks(void) {
    for (int i = 0; i < 3; i++) gp_task_push(new_task(false), 0, false);
    shared->tasks = 3;
}
static void many_tasks(void) {
    for (int i = 0; i < 40; i++) gp_task_push(new_task(false), 0, false);
    shared->tasks = 40;
}
static void tasks_of_mine(void) {
    for (int i = 0; i < 3; i++) gp_task_push(new_task(i == 2), VICTIM, i == 2);
    shared->tasks = 3;
}
static void steal(void) { gp_task_steal(); }
static void pop(void) {
    gp_task_pop(false);
    gp_task_pop(false);
}
static void pop_newest(void) {
    gp_task_pop(true);
    gp_task_pop(true);
}
static void counted(void) {
    a_waitgroup();
    shared->counted = true;
}
static void enter_and_leave(void) {
    gp_ref task = new_task(false);
    gp_task_enter(task, object(0));
    gp_task_leave(task);
}
static void places(void) {
    make_sync(GP_KIND_SEMAPHORE, 3);
    shared->places = true;
}
static void two_unmade_tasks(void) {
    for (int i = 0; i < 2; i++) {
        shared->task[i] = new_task(false);
        gp_set(&((struct gp_task *)gp_payload(shared->task[i]))->started, GP_UNMADE);
    }
}
static void take_place_and_leave(void) {
    acquire_it();
    gp_task_take_place(shared->task[0], object(0));
    gp_task_return_place(shared->task[0]);
    gp_task_take_place(shared->task[1], object(0));
    gp_task_leave(shared->task[1]);
}
static void take_places(void) {
    for (int i = 0; i < 3; i++) {
        take(GP_ACQUIRE, 1);
        gp_task_take_place(shared->task[i] = new_task(false), object(0));
    }
}
static void leave_places(void) {
    gp_task_leave(shared->task[0]);
    gp_task_leave(shared->task[1]);
}
static void limited(void) {
    places();
    shared->places = false;
    gp_semaphore_limit(object(0), 3, 0);
}
static void set_limit(void) {
    gp_semaphore_limit(object(0), 0, 2);
    gp_semaphore_limit(object(0), 2, 1); /* refused: a unit is taken */
}

/* memory */
static void alloc_free(void) {
    gp_ref a = gp_alloc(10, 0), b = gp_alloc(3000, 0), c = gp_alloc(200000, 0);
    gp_free(b);
    gp_free(c);
    gp_free(a);
    gp_alloc(100000, 0);
    gp_object_free(gp_at(gp_object_alloc(GP_KIND_ATOMIC)));
    gp_object_alloc(GP_KIND_ATOMIC);
}
static void some_garbage(void) {
    for (int i = 0; i < 3; i++) {
        gp_ref ref = new_object(GP_KIND_CHAN, 2);
        shared->object[0] = ref;
        put(0);
        gp_set(&((struct gp_object *)gp_at(ref))->holders[0], 0);
    }
    shared->object[0] = new_object(GP_KIND_CHAN, 2);
}
void keep_outcome(struct gp_object *o) { (void)o; }
static void collect(void) { gp_collect(keep_outcome); }
static void free_pages(void) {
    gp_ref refs[40];
    for (int i = 0; i < 40; i++) refs[i] = gp_alloc(20000, 0);
    gp_ref large = gp_alloc(200000, 0);
    for (int i = 0; i < 40; i++) gp_free(refs[i]);
    gp_free(large);
    chans(1, 2);
}
static void reclaim(void) { gp_heap_reclaim(); }

/* contexts */
static void tree_of_contexts(void) {
    for (int i = 0; i < 4; i++) {
        shared->object[i] = new_object(GP_KIND_CHAN, 0);
        gp_context_link(object(i), i ? object((i - 1) / 2) : NULL, 0);
        gp_set(&object(i)->flags, GP_OBJ_CONTEXT | GP_OBJ_SHARED);
    }
}
static void peer_waits_for_end(void) { wait_for(3, GP_RECV, 0); }
static void cancel_tree(void) { gp_context_cancel(object(0), GP_CANCELED, 0); }
static void link_context(void) {
    gp_ref ref = gp_object_alloc(GP_KIND_CHAN);
    gp_context_link(gp_at(ref), object(1), 0);
    gp_context_unlink(gp_at(ref));
}
static void a_timer(void) {
    chans(1, 0);
    gp_set(&object(0)->flags, GP_OBJ_TIMER | GP_OBJ_SHARED);
}
static void set_timer(void) { gp_timer_set(object(0), (int64_t)gp_now() + 1000000000, 0); }
static void an_outcome(void) {
    gp_ref task = new_task(false);
    shared->task[0] = task;
    shared->object[0] = ((struct gp_task *)((char *)gp_at(task) + GP_BLOCK_HEAD))->object;
    gp_task_push(task, VICTIM, true);
}
static void begin_it(void) {
    gp_ref task = gp_task_pop(false);
    gp_set(&((struct gp_task *)((char *)gp_at(task) + GP_BLOCK_HEAD))->started, GP_STARTED);
}
static void end_it(void) { gp_outcome_set(object(0), GP_G_OK, shared->task[0]); }

/* As promises.c, new_promise(), has it. */
static void a_promise(void) {
    shared->object[0] = new_object(GP_KIND_OUTCOME, 0);
    gp_ref block = gp_alloc(sizeof(struct gp_message), 0);
    memset(gp_payload(block), 0, sizeof(struct gp_message));
    gp_own(block, GP_TAG(GP_TAG_RESULT, gp_ref_of(object(0))));
    gp_set(&object(0)->value, 1);
    object(0)->task = block;
    atomic_fetch_or(&object(0)->flags, GP_OBJ_PROMISE);
}
static void claim_and_keep(void) {
    struct gp_message none = {.codec = GP_CODEC_NONE};
    if (gp_promise_claim(object(0))) gp_promise_keep(object(0), GP_G_OK, &none);
}

/* Of a goroutine that starts again where it is lost: task_life.c, task_done() */
static void an_outcome_with_a_spare(void) {
    an_outcome();
    gp_ref task = shared->task[0], spare = gp_alloc(sizeof(struct gp_message), 0);
    struct gp_task *t = (struct gp_task *)((char *)gp_at(task) + GP_BLOCK_HEAD);
    memset(gp_payload(spare), 0, sizeof(struct gp_message));
    gp_own(spare, GP_TAG(GP_TAG_PART, task));
    t->spare = spare;
    gp_set(&t->retries, 1);
    shared->again = true;
}
static void end_with_a_spare(void) {
    gp_ref task = shared->task[0];
    struct gp_task *t = (struct gp_task *)((char *)gp_at(task) + GP_BLOCK_HEAD);
    struct gp_message m = message(), call;
    memcpy(gp_payload(t->spare), &m, sizeof m);
    gp_order();
    gp_own(m.block, GP_TAG(GP_TAG_RESULT, gp_ref_of(object(0))));
    gp_outcome_set(object(0), GP_G_OK, t->spare);
    gp_set(&t->retries, 0);
    call = t->call;
    gp_own(call.block, gp_my_tag());
    t->call.block = 0;
    gp_message_drop(&call);
    t->spare = 0;
    gp_free(task);
}

/* a buffer that was received becomes a copy: references.c, give_block() */
static gp_ref buffer;
static void receive_buffer(void) { buffer = gp_alloc(9000, GP_BLOCK_ALIGNED); }
static void copy_it(void) {
    gp_ref ref = gp_object_alloc(GP_KIND_COPY), block = gp_alloc(sizeof(struct gp_message), 0);
    struct gp_object *o = gp_at(ref);
    struct gp_message m = {.codec = GP_CODEC_BYTES, .block = buffer};
    atomic_fetch_or(&o->holders[0], 1 << VICTIM);
    gp_copy_begin(o, block);
    gp_own(buffer, GP_TAG(GP_TAG_RESULT, ref));
    gp_copy_fill(o, &m, 9000);
}

/* The peer collects ends, as as_completed() does. */
static void watch_all(int n) {
    shared->collector = (uint32_t)gp_waiter_alloc(false);
    gp_set(&gp_waiter_at(PEER, shared->collector)->fired, 0);
    gp_waiter_arm(shared->collector);
    for (int i = 0; i < n; i++) {
        struct gp_case c = {.o = object(0), .kind = GP_DONE};
        uint32_t waiter = (uint32_t)gp_waiter_alloc(false);
        gp_watched(waiter, shared->collector);
        gp_case_try_or_wait(&c, waiter);
    }
    shared->watches = true;
}
static void peer_watches(void) { watch_all(1); }
static void peer_watches_three(void) { watch_all(3); }

/* Plain threads of the peer wait. */
static void threads_receive(void) {
    peers_receive();
    for (int i = 0; i < 3; i++) {
        struct gp_waiter *w = gp_waiter_at(PEER, shared->waiter[i]);
        gp_set(&w->thread, GP_THREAD);
        gp_thread_blocks(w);
    }
    shared->threads = true;
}

const struct scenario scenarios[] = {
    {"send, buffered", one_buffered, nothing, nothing, send_once},
    {"send to a receiver", one_buffered, peer_receives, nothing, send_once},
    {"send to a receiver, unbuffered", one_unbuffered, peers_receive, nothing, send_once},
    {"send to one that sleeps", one_unbuffered, peer_sleeps, nothing, send_once},
    {"send past one that gave up", one_unbuffered, peer_gave_up, nothing, send_once},
    {"send to a select", three_unbuffered, peer_selects_receive, nothing, send_once},
    {"send and wait", one_unbuffered, nothing, nothing, wait_to_send},
    {"send and wait, full", full, peer_sends, nothing, wait_to_send},
    {"receive, buffered", half, nothing, nothing, receive_and_drop},
    {"receive and promote", full, peers_send, nothing, receive_and_drop},
    {"receive from a sender", one_unbuffered, peers_send, nothing, receive_once},
    {"receive from a select", three_unbuffered, peer_selects_send, nothing, receive_once},
    {"receive and wait", one_unbuffered, nothing, nothing, wait_to_receive},
    {"receive and wait behind others", one_buffered, peers_receive, nothing, wait_to_receive},
    {"give up", one_unbuffered, nothing, queue_mine, give_up_mine},
    {"give up in the middle", one_buffered, peers_receive, in_the_middle, give_up_mine},
    {"close, receivers", one_unbuffered, peers_receive, nothing, close_it},
    {"close, senders", full, peers_send, nothing, close_it},
    {"select, nothing ready", three_unbuffered, nothing, nothing, select_receive},
    {"select, receivers wait", three_unbuffered, peer_selects_receive, nothing, select_send},
    {"select, senders wait", three_unbuffered, peer_selects_send, nothing, select_receive},
    {"select, buffered", three_buffered, nothing, nothing, select_send},
    {"select over 70", many_unbuffered, nothing, nothing, select_many},
    {"wait group", a_waitgroup, peers_wait, nothing, wg_done},
    {"mutex, lock", a_mutex, nothing, nothing, lock_it},
    {"mutex, unlock", a_mutex, nothing, locked_by_victim, unlock_it},
    {"rwmutex, rlock", a_rwmutex, nothing, nothing, read_lock},
    {"rwmutex, runlock", a_rwmutex, nothing, read_lock, read_unlock},
    {"rwmutex, lock", a_rwmutex, nothing, nothing, lock_it},
    {"semaphore, acquire", a_semaphore, nothing, nothing, acquire_it},
    {"semaphore, release", a_semaphore, nothing, acquire_it, release_it},
    {"cond, signal", a_cond, peers_wait_cond, nothing, signal_it},
    {"cond, broadcast", a_cond, peers_wait_cond, nothing, broadcast_it},
    {"barrier, last", a_barrier, peers_arrive, nothing, arrive_it},
    {"barrier, first", a_barrier, nothing, nothing, arrive_it},
    {"task, push", nothing, nothing, nothing, push_task},
    {"task, push pinned", nothing, nothing, nothing, push_pinned},
    {"task, steal", three_tasks, nothing, nothing, steal},
    {"task, steal many", many_tasks, nothing, nothing, steal},
    {"task, pop", tasks_of_mine, nothing, nothing, pop},
    {"task, pop the newest", tasks_of_mine, nothing, nothing, pop_newest},
    {"task, counted", counted, nothing, nothing, enter_and_leave},
    {"place", places, nothing, two_unmade_tasks, take_place_and_leave},
    {"limit", limited, queue_acquirers, nothing, set_limit},
    {"outcome", an_outcome, peers_wait, begin_it, end_it},
    {"outcome, or again", an_outcome_with_a_spare, peers_wait, begin_it, end_with_a_spare},
    {"promise", a_promise, peers_wait, nothing, claim_and_keep},
    {"send to a thread", one_unbuffered, threads_receive, nothing, send_once},
    {"close, threads", one_unbuffered, threads_receive, nothing, close_it},
    {"outcome, watched", an_outcome, peer_watches, begin_it, end_it},
    {"outcome, watched by three", an_outcome, peer_watches_three, begin_it, end_it},
    {"memory", one_buffered, nothing, nothing, alloc_free},
    {"collect", some_garbage, nothing, nothing, collect},
    {"reclaim", free_pages, nothing, nothing, reclaim},
    {"context, cancel", tree_of_contexts, peer_waits_for_end, nothing, cancel_tree},
    {"context, link", tree_of_contexts, nothing, nothing, link_context},
    {"copy", nothing, nothing, receive_buffer, copy_it},
    {"cell, set", a_cell, nothing, nothing, set_cell},
    {"cell, set after a death", a_cell_of_two, nothing, nothing, set_cell},
    {"timer, set", a_timer, peer_receives, nothing, set_timer},
    /* the peer waits for what the victim has: it is made to after the victim took it */
    {"give up in front", one_unbuffered, peers_receive, queue_mine, give_up_mine},
    {"mutex, unlock, others wait", a_mutex, queue_lockers, locked_by_victim, unlock_it},
    {"mutex, hand over", a_mutex, queue_lockers, locked_by_victim, unlock_starving},
    {"rwmutex, unlock, readers wait", a_rwmutex, queue_readers, lock_it, write_unlock},
    {"rwmutex, unlock, writers wait", a_rwmutex, queue_lockers, lock_it, write_unlock},
    {"rwmutex, runlock, writers wait", a_rwmutex, queue_lockers, read_lock, read_unlock},
    {"semaphore, release, others wait", a_semaphore, queue_acquirers, acquire_all, release_all},
    {"place, others wait", places, queue_acquirers, take_places, leave_places},
};
const int n_scenarios = sizeof scenarios / sizeof scenarios[0], first_late = 60;
