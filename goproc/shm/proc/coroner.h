/* coroner.h - the parts of the coroner, a thread of the host that waits for deaths:
 *
 *     coroner.c   the thread; processes, as the kernel reports them
 *     records.c   letters from and to the zygote; the zygote's death
 *     verdict.c   after a death: the program goes on, or ends
 *     ending.c    the end of the program
 */
#ifndef GP_CORONER_H
#define GP_CORONER_H

#include <poll.h>
#include <pthread.h>

#include "proc/repair.h"

enum { STARTED = 1, DIED = 2, FORK_FAILED = 3, MEMORY = 4, STACK = 5, WOKEN = 6 };
struct record {
    uint32_t kind, proc;
    int32_t pid, value;
};
#define GP_STACK 8192 /* bytes of text after a STACK record */
#define STARTS_MOST 5 /* the times in a row that a worker, or a zygote, may end before it was of use */

struct coroner {
    pthread_t thread;
    bool running;
    struct gp_fd control;
    pid_t zygote, keeper;         /* the keeper is the parent of the zygote and ends after it */
    _Atomic uint32_t ready, stop; /* ready: the thread has its descriptors; stop: it is to end */
    /* it is to end, as a thread with the control socket of another zygote takes its place */
    _Atomic uint32_t next;
    _Atomic uint32_t given_up;    /* there is no other zygote to be had */
    _Atomic uint32_t dead;        /* the zygote is dead */
};
extern struct coroner gp_coroner;

/* A process, as this thread knows it. All zero: the place has no process that has started, or its death is
 * repaired. */
struct process {
    pid_t pid;
    bool adopted; /* its zygote has died: no report tells how it ends */
    bool told;    /* the zygote has reported its death, with this status: */
    int status;
    uint64_t gone;   /* ns; the time at which it was seen to have ended without a report; 0: it was not */
    uint64_t memory; /* the most bytes that it had; 0: not known */
};

/* A place for a worker, whichever process has it */
struct place {
    struct process process;
    bool noted;      /* the process has died, and step 1 of its repair is done */
    bool owed;       /* a replacement is due, but the zygote could not be told to fork it */
    /* a worker that this thread has found by its claim; 0 once the zygote has told of its start */
    pid_t met;
    unsigned starts; /* deaths in a row before the worker could begin a goroutine */
    uint64_t took;   /* ns; the time that the repair has taken so far */
};

/* State of the coroner's thread alone */
struct watch {
    bool own_table;
    int proc_folder;                     /* /proc, which a chroot would hide; -1: none */
    /* the control socket, the zygote, and at 2 + proc a worker; a negative fd: none */
    struct pollfd fds[2 + GP_MAX_PROCS];
    struct place places[GP_MAX_PROCS];
    char stack[GP_STACK]; /* lines of text: of the last reported crash, in this process: */
    pid_t stack_of;
    bool over;          /* the watch is over */
    /* a death that waits for the report of another worker, until `late_until`; kind 0: none */
    struct record late;
    uint64_t late_until;
    bool alone;           /* the zygote has died, and there is no other one yet */
    uint64_t since;       /* ns; the time at which the thread began to watch this zygote */
    unsigned short_lives; /* zygotes in a row that died soon, without a fork */
    /* the death because of which the program ends: that is claimed, and is to be reported */
    struct gp_dead end;
};
extern struct watch gp_watch;

/* ---- coroner.c */
void gp_coroner_close_pidfd(uint32_t proc);
void gp_coroner_forget(uint32_t proc);                    /* no process is known there any more */
void gp_coroner_follow(uint32_t proc, pid_t pid);         /* the place has this process now */
/* the same of a worker that the keeper may have reaped already */
void gp_coroner_follow_adopted(uint32_t proc, pid_t pid);
/* look for further deaths in the midst of a repair; false: it ends */
bool gp_coroner_notice(void);

/* ---- records.c */
bool gp_coroner_tell_bytes(const void *order, size_t n);
bool gp_coroner_read_records(void); /* false: the watch is over */

/* ---- verdict.c */
bool gp_coroner_retired(uint32_t proc);
bool gp_coroner_carries_on(uint32_t proc);        /* true if the program goes on after a death there */
void gp_coroner_note(uint32_t proc);              /* the process there has died: step 1 of its repair */
void gp_coroner_replace(uint32_t proc);           /* have the zygote fork a worker for the place */
void gp_coroner_begin_wanted(uint32_t proc);      /* the same if a resize wants one there */
bool gp_coroner_on_death(const struct record *r); /* false: the watch is over */
/* the workers cannot be watched any more, as `say` reports */
void gp_coroner_on_lost(void (*say)(void));

/* ---- ending.c */
uint32_t gp_coroner_claim(void); /* 0: the coroner is to report the end; else the former value of `fatal` */
void gp_coroner_kill_zygote(void);
void gp_coroner_kill_workers_of(uint32_t zygote);
void gp_coroner_kill_workers(void);
void gp_coroner_add_stack(struct gp_text *t, pid_t pid); /* if that process has crashed: its stack */
void gp_coroner_report_death(const struct record *r);
void gp_coroner_report_panic(const struct gp_dead *d, const struct gp_death *how);
void gp_coroner_report_zygote(void);
void gp_coroner_report_socket(void);
void gp_coroner_leave(int status); /* returns if the host survives */

#endif
