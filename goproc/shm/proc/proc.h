/* proc.h - the floor of processes: their tasks, their sleep, and the repair after a death. */
#ifndef GP_PROC_H
#define GP_PROC_H

#include <pthread.h>

#include "chan/chan.h"

/* ---- idle.c */
void gp_idle_attach(void);
bool gp_something_to_do(void);             /* true if the scheduler of this process has work */
void gp_idle(uint64_t until_ns);           /* sleep until there may be work. Needs no GIL */
/* the time for which gp_idle() has left tasks to other workers, in its own units */
uint32_t gp_patience(void);
void gp_patience_over(void);               /* a task was taken: begin anew */
bool gp_anybody_searches(void);            /* true if a proc searches for tasks, or is being woken to */
void gp_searches(uint32_t proc, bool yes);

/* ---- deadlock.c */
/* true if no goroutine of any process can ever run again by itself */
bool gp_all_asleep(void);
/* the same for the other processes, while this one runs; again: and nothing has changed since the last
 * call */
bool gp_others_asleep(bool again);
void gp_report_if_asleep(void);            /* have the host report it if all are asleep */
/* true if the proc has Python threads, beside the scheduler's, that no operation blocks */
bool gp_threads_run(uint32_t proc);

/* ---- threads.c */
enum gp_own_thread {
    GP_OWN_MONITOR,
    GP_OWN_CORONER,
    GP_OWN_SUCCESSOR,
    GP_OWN_LIFELINE,
    GP_OWN_LOOK,
    GP_OWN_THREADS
};
/* the calling thread is goproc's: it never wakes another thread of this process */
void gp_own_thread(enum gp_own_thread which, bool runs);
/* a thread that takes no signals: 0, -errno */
int gp_thread_start(pthread_t *thread, void *(*run)(void *), void *arg);

#define GP_MOST_IGNORED 64
/* Threads that wake no goroutine, whatever they wait in. For the scheduler's thread. */
void gp_ignore_threads(const pid_t *tids, int n);
/* true if at some instant of this call all threads but the caller slept for ever */
bool gp_threads_asleep(void);
/* futex wait for my park word; meanwhile look at the threads and publish the result */
long gp_idle_wait(uint64_t until_ns);

/* ---- monitor.c: a thread that ends the slice of a goroutine which keeps its process for long */
#define GP_SLICE_NS 10000000ULL
/* for the calling thread */
int gp_monitor_start(int signal, void (*request)(int signal), bool (*wanted)(void));
void gp_monitor_stop(void);
void gp_monitor_wake(void);                /* the process goes on after it was idle */
void gp_monitor_interrupt(void);           /* have the handler called now, from any thread */
void gp_slice_refused(void);               /* the goroutine cannot be left here: ask again later */
void gp_slice_quiet(uint64_t until_ns);    /* nothing else can run, and no timer is due before until_ns */
bool gp_slice_ticked(void);                /* true if the kernel's clock has ticked since gp_slice_noted() */
void gp_slice_noted(void);
bool gp_slice_timers(void);                /* true if a timer may be due */
/* true if a goroutine may go on in the slice of the goroutine that made it ready */
bool gp_slice_inherit(void);
extern _Atomic uint32_t gp_polls;          /* +1 whenever the scheduler looks for a goroutine to run */
extern _Atomic uint32_t gp_slices;         /* +1 whenever such a goroutine begins a slice of its own */

/* ---- collector.c */
/* my last handle of a shared object went; true: collect now */
bool gp_dropped(struct gp_object *o);
/* the number of objects freed; `ended` takes the outcome of each goroutine */
uint32_t gp_collect(void (*ended)(struct gp_object *o));
/* the same, also if that means to wait for another process that collects */
uint32_t gp_collect_surely(void (*ended)(struct gp_object *o));
/* call `found` for unread outcomes that this process holds, or that no process holds */
void gp_unread_each(void (*found)(struct gp_object *o, void *arg), void *arg);

/* ---- tasks.c: the rings */
static inline struct gp_task *gp_task_at(gp_ref task) {
    return (struct gp_task *)((char *)gp_at(task) + GP_BLOCK_HEAD);
}
/* Nothing more is pinned to the proc. It may still run the tasks that were. */
static inline bool gp_is_closed(uint32_t proc) {
    const struct gp_proc *p = gp_proc_at(proc);
    return gp_get(&p->state) == GP_P_GONE || atomic_load(&p->drop);
}
/* 0; -EAGAIN: later; -ESRCH: the proc is closed */
int gp_task_push(gp_ref task, uint32_t proc, bool pinned);
/* for the coroner: 0, -errno; -EINTR: the runtime ends */
int gp_task_push_again(gp_ref task, uint32_t proc, bool pinned);
gp_ref gp_task_slot(uint32_t proc, bool pinned, uint32_t n); /* under the lock of the queue: the n-th task */
uint32_t gp_task_queued(uint32_t proc, bool pinned);        /* the same: how many there are */
/* of a closed proc: true if no pinned task is left */
bool gp_task_none_pinned(uint32_t proc);

/* ---- placing.c: where a new task goes, and who is woken for it */
uint32_t gp_task_place(void);                               /* the proc whose ring a new task goes to */
/* after the push: wake the proc that is to take the task */
void gp_task_announce(uint32_t proc, bool pinned);
/* wake an idle worker, if none searches and a core is free */
void gp_wake_one(void);
/* wake workers for the remaining tasks: I sleep now */
void gp_task_hand_over(void);
/* wake workers for tasks that no proc has taken since the last call */
void gp_task_watch(void);
/* wake a worker to take the tasks queued on the proc */
void gp_task_retire(uint32_t proc);

/* ---- taking.c: out of the rings */
/* The host leaves tasks to its workers, and a retiring worker leaves them to the others. */
static inline bool gp_takes_tasks(void) { return (gp.proc != 0 && !gp_get(&gp.my->retire)) || gp.room == 1; }
extern bool gp_reserved; /* the process makes a call that has it to itself: see taking.c */
gp_ref gp_task_pop(bool newest);                            /* claimed for this proc; 0: none */
bool gp_task_steal(void);                                   /* move tasks of another ring to mine */
uint32_t gp_task_count(void);                               /* the tasks in my rings that this proc may run */
bool gp_task_in_reach(void);                                /* true if gp_task_steal() would find a task */
/* true if any ring that I may steal from has a task, in reach or not */
bool gp_task_elsewhere(void);

/* ---- trackers.c: the objects that are told of a goroutine's end */
int gp_task_enter(gp_ref task, struct gp_object *count);    /* a wait group counts the task: 0, -EOVERFLOW */
/* the unit in this process's share becomes the task's; the task's becomes this process's again */
void gp_task_take_place(gp_ref task, struct gp_object *places);
void gp_task_return_place(gp_ref task);
/* tell the task's trackers of its end; -ERANGE: the wait group did not count it */
int gp_task_leave(gp_ref task);

/* ---- resize.c: for the host */
/* 0, or -errno: no memory for a place. There is room for so many */
int gp_resize(uint32_t workers);
bool gp_resized(void);                     /* make the places follow; true: all are as wanted */
/* a worker that could not be forked for that, if there is one */
bool gp_unborn(uint32_t *proc, uint32_t *error);

/* ---- death.c */
struct gp_text {             /* a text that grows up to `end` */
    char *at, *end;
};
void gp_text_add(struct gp_text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void gp_panic_text(struct gp_text *t, const struct gp_death *how, const struct gp_task *task,
                   const char *labels);
void gp_end_text(struct gp_text *t, int status); /* the way in which a process ended */
/* the number of times in a row that it ended before it could begin a goroutine */
void gp_again_text(struct gp_text *t, unsigned times);
void gp_last_text(struct gp_text *t);                  /* all other workers have ended in the same way */
/* a report; status as of wait(), -1: not known */
void gp_death_text(struct gp_text *t, uint32_t proc, pid_t pid, int status);

/* ---- deaths.c */
/* the record of that number, or of a later death in its place: see its own number */
struct gp_death *gp_death_at(uint64_t death);

/* ---- shortform.c: `name(arguments)`, from the first n bytes of the message with which a task began */
void gp_short_form(struct gp_text *t, const char *name, const uint8_t *bytes, uint32_t n);
void gp_task_short_form(struct gp_text *t, const struct gp_task *task); /* of a task that has begun */
/* at most GP_INLINE bytes; 0: it is not plain */
uint32_t gp_call_begin(const struct gp_message *m, const uint8_t **at);

/* ---- coroner.c */
/* wait for the end of the thread whose zygote has died: then gp_coroner_start() starts one for another
 * zygote */
void gp_coroner_await_end(void);
int gp_coroner_start(int control, int zygote_pid, int keeper_pid);
void gp_coroner_give_up(void);                               /* no other zygote is to be had */
/* the zygote has ended, or the runtime is lost */
void gp_coroner_stop(void);

/* ---- records.c */
/* send a letter to the zygote; false: it cannot be told */
bool gp_coroner_tell(const char *order);

/* ---- ending.c */
/* in a status: the process is to end by the signal whose number stands beside this */
#define GP_BY_SIGNAL 0x100
_Noreturn void gp_leave(int status);
/* true for the first caller, which then reports and ends the program */
bool gp_fatal_claim(const char *reason);
/* after gp_fatal_claim: end every process; in a host that survives: all others */
void gp_fatal_exit(int status);
/* the end of a program whose segment is damaged, for gp_damage_ends; does not return */
void gp_damage_exit(const char *text, size_t n);
/* from a signal's handler; returns if the host survives, or the coroner ends the program */
void gp_interrupted_exit(const char *text, size_t n);

/* ---- successor.c */
int gp_successor_start(void (*start_zygote)(void)); /* before the coroner */
void gp_successor_call(void);                       /* the zygote is dead: have the function called */
/* wait for the end of a call that is under way; no further one begins */
void gp_successor_stop(void);

/* ---- lifeline.c */
/* descriptors for a zygote; false: the system does not allow that */
bool gp_lifeline_open(int *to_continue, int *to_end);
void gp_lifeline_stop(void);

/* ---- parent.c */
/* keeper: the process goes on while that is its parent; 0: there is no keeper */
int gp_die_with_parent(int ppid, int keeper);
/* for each thread, now and then: a change of the user id cancels the request to the kernel */
void gp_still_die_with_parent(void);

#endif
