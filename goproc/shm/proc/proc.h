/* proc.h - the floor of processes: what they run, how they sleep, and what is done when one dies. */
#ifndef GP_PROC_H
#define GP_PROC_H

#include "chan/chan.h"

/* ---- idle.c */
void gp_idle_attach(void);
bool gp_something_to_do(void);             /* for the scheduler of this process */
void gp_idle(uint64_t until_ns);           /* sleep until there may be something to do. No GIL needed */
uint32_t gp_patience(void);                /* for how long gp_idle() has left tasks to other workers, in its units */
void gp_patience_over(void);               /* one was taken */
bool gp_anybody_searches(void);            /* for tasks, or is being woken to */
void gp_searches(uint32_t proc, bool yes);

/* ---- deadlock.c */
bool gp_all_asleep(void);                  /* nothing in any process can ever run again, by itself */
bool gp_others_asleep(bool again);         /* nor in another one, as this one runs; again: and has not since the last call */
void gp_report_if_asleep(void);            /* have the host report it if all are asleep */
bool gp_threads_run(uint32_t proc);        /* has it Python threads, beside the scheduler's, that no operation blocks? */

/* ---- threads.c */
enum gp_own_thread { GP_OWN_MONITOR, GP_OWN_CORONER, GP_OWN_LOOK, GP_OWN_THREADS };
void gp_own_thread(enum gp_own_thread which, bool runs); /* the calling thread is goproc's: it wakes no other of this process */
bool gp_threads_asleep(void);              /* was there an instant in this call when all threads but the caller slept for ever? */
long gp_idle_wait(uint64_t until_ns);      /* futex wait for my park word; meanwhile look at the threads and publish the result */

/* ---- monitor.c: a thread that asks a goroutine which keeps its process for long to let others run */
int gp_monitor_start(int signal, void (*request)(int signal), bool (*wanted)(void)); /* for the calling thread */
void gp_monitor_stop(void);
void gp_monitor_wake(void);                /* the process goes on after it was idle */
void gp_monitor_interrupt(void);           /* have the handler called now, from any thread */
void gp_slice_refused(void);               /* the goroutine cannot be left here: ask again later */
void gp_slice_quiet(uint64_t until_ns);    /* nothing else can run; no timer is due before that */
bool gp_slice_ticked(void);                /* has the kernel's clock ticked since gp_slice_noted()? */
void gp_slice_noted(void);
bool gp_slice_timers(void);                /* may one be due? */
bool gp_slice_inherit(void);               /* may a goroutine go on in the slice of the one that made it ready? */
extern _Atomic uint32_t gp_polls;          /* +1 whenever the scheduler looks for what to run */
extern _Atomic uint32_t gp_slices;         /* +1 whenever that begins a slice of its own */

/* ---- collector.c */
bool gp_dropped(struct gp_object *o);                         /* my last handle of a shared object went; true: collect now */
uint32_t gp_collect(void (*ended)(struct gp_object *o));      /* objects freed; `ended` takes the outcome of each goroutine */
void gp_unread_each(void (*found)(struct gp_object *o, void *arg), void *arg); /* of those that this process holds, or none */

/* ---- tasks.c */
/* The host leaves them to its workers, and one that retires to the others. */
static inline bool gp_takes_tasks(void) { return (gp.proc != 0 && !gp_get(&gp.my->retire)) || gp.nprocs == 1; }
void gp_task_retire(uint32_t proc);                         /* others take what is queued there */
extern bool gp_reserved; /* this process makes a call that has it to itself: see tasks.c */
uint32_t gp_task_place(void);                               /* the proc whose ring a new task goes to */
int gp_task_push(gp_ref task, uint32_t proc, bool pinned);  /* 0; -EAGAIN: the ring is full; -ESRCH: the proc is gone */
int gp_task_push_again(gp_ref task, uint32_t proc, bool pinned); /* the coroner's: 0, -errno; -EINTR: the runtime ends */
gp_ref gp_task_slot(uint32_t proc, bool pinned, uint32_t n); /* under the lock of the queue: the n-th task */
int gp_task_enter(gp_ref task, struct gp_object *count);    /* a wait group counts the task: 0, -EOVERFLOW */
int gp_task_leave(gp_ref task);                             /* its trackers are told of its end; -ERANGE: it was not counted */
void gp_task_announce(uint32_t proc, bool pinned);          /* after the push: wake the proc that is to take it */
gp_ref gp_task_pop(bool newest);                            /* claimed for this proc; 0: none */
bool gp_task_steal(void);                                   /* moves tasks of another ring to mine */
uint32_t gp_task_count(void);                               /* in my rings, for me to run */
bool gp_task_in_reach(void);                                /* true if gp_task_steal() would find a task */
bool gp_task_elsewhere(void);                               /* in any ring that I may steal from, in reach or not */
void gp_wake_one(void);                                     /* an idle worker, if nobody is searching and a core is free */
void gp_task_hand_over(void);                               /* wake workers for the tasks that are left: I sleep now */
void gp_task_watch(void);                                   /* wake workers for tasks that nobody has taken since the last call */

/* ---- death.c */
struct gp_text {             /* a text that grows up to `end` */
    char *at, *end;
};
void gp_panic_text(struct gp_text *t, const struct gp_death *how, const struct gp_task *task, const char *labels);
void gp_end_text(struct gp_text *t, int status); /* how a process ended */
void gp_again_text(struct gp_text *t, unsigned times); /* so often in a row, before it could begin a goroutine */
void gp_last_text(struct gp_text *t);                  /* and so had all others before */
void gp_death_text(struct gp_text *t, uint32_t proc, pid_t pid, int status); /* a report; status as of wait(), -1: not known */

/* ---- deaths.c */
struct gp_death *gp_death_at(uint64_t death);          /* the record of that number, or of a later one: see its own */

/* ---- shortform.c: `name(arguments)`, from the first n bytes of the message that a task began with */
void gp_short_form(struct gp_text *t, const char *name, const uint8_t *bytes, uint32_t n);
void gp_task_short_form(struct gp_text *t, const struct gp_task *task); /* of a task that has begun */
uint32_t gp_call_begin(const struct gp_message *m, const uint8_t **at); /* at most GP_INLINE bytes; 0: it is not plain */

/* ---- coroner.c */
#define GP_BY_SIGNAL 0x100 /* a status: the process is to end by the signal whose number stands beside this */
_Noreturn void gp_leave(int status);
int gp_coroner_start(int control, int zygote_pid, int keeper_pid); /* again: the zygote that takes the place of one that died */
void gp_coroner_give_up(void);                               /* there is no other zygote to be had */
void gp_coroner_stop(void);                                  /* the zygote has ended, or the runtime is lost */
bool gp_coroner_tell(const char *order);                     /* a letter to the zygote; false: it cannot be told */
bool gp_fatal_claim(const char *reason);                     /* true for the first caller, which then reports and ends the program */
void gp_fatal_exit(int status);                              /* after gp_fatal_claim: ends every process; a host that survives: the others */
void gp_interrupted_exit(const char *text, size_t n);        /* from a signal's handler; returns if that is not to be */
int gp_die_with_parent(int ppid, int keeper);                /* keeper: it goes on with that as its parent; 0: there is none */
void gp_still_die_with_parent(void);                         /* a change of the user undoes it, for each thread */

#endif
