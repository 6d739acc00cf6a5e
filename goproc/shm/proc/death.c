/* death.c - the report on a worker that died: how, and which goroutines are lost with it. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>

#include "proc/proc.h"

#define REPORT_GOROUTINES 32

void gp_text_add(struct gp_text *t, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int n = vsnprintf(t->at, (size_t)(t->end - t->at), format, values);
    va_end(values);
    if (n > 0) t->at += n < t->end - t->at ? n : t->end - t->at - 1;
}

struct census {
    uint64_t owner, queue; /* tags: of its goroutines, and of the tasks in its queues */
    uint32_t lost;
    struct gp_text *text;
};

static void list_goroutine(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    struct census *c = arg;
    (void)bytes;
    if (object || !(gp_block_flags(b) & GP_BLOCK_TASK)) return;
    const struct gp_task *task = (const struct gp_task *)((char *)b + GP_BLOCK_HEAD);
    uint64_t tag = gp_get(&b->tag);
    bool waits = tag == c->queue && task->pinned; /* others would be taken by another proc */
    if (tag != c->owner && !waits) return;
    if (c->lost++ < REPORT_GOROUTINES)
        gp_text_add(c->text, "    goroutine %llu: %.*s%s\n", (unsigned long long)task->id, (int)GP_TASK_NAME,
                    task->name, waits ? " (not started)" : "");
}

static const char *signal_name(int sig) {
    switch (sig) {
    case SIGHUP: return "SIGHUP";
    case SIGINT: return "SIGINT";
    case SIGQUIT: return "SIGQUIT";
    case SIGILL: return "SIGILL";
    case SIGTRAP: return "SIGTRAP";
    case SIGABRT: return "SIGABRT";
    case SIGBUS: return "SIGBUS";
    case SIGFPE: return "SIGFPE";
    case SIGKILL: return "SIGKILL";
    case SIGSEGV: return "SIGSEGV";
    case SIGPIPE: return "SIGPIPE";
    case SIGALRM: return "SIGALRM";
    case SIGTERM: return "SIGTERM";
    case SIGSYS: return "SIGSYS";
    case SIGXCPU: return "SIGXCPU";
    case SIGXFSZ: return "SIGXFSZ";
    case SIGUSR1: return "SIGUSR1";
    case SIGUSR2: return "SIGUSR2";
    default: return "see signal(7)";
    }
}

static void say_how(struct gp_text *t, uint32_t proc, pid_t pid, int status) {
    gp_text_add(t, "fatal error: proc %u (pid %d) ", proc, (int)pid);
    if (status < 0) {
        gp_text_add(t, "ended; how is not known, as its parent process does not answer");
    } else if (WIFSIGNALED(status)) {
        int sig = WTERMSIG(status);
        gp_text_add(t, "was killed by signal %d (%s)", sig, signal_name(sig));
        if (sig == SIGKILL)
            gp_text_add(t, "; if nobody sent it, the kernel did for want of memory (see dmesg)");
    } else {
        gp_text_add(t, "ended by itself with status %d", WEXITSTATUS(status));
    }
}

void gp_end_text(struct gp_text *t, int status) {
    if (status < 0) {
        gp_text_add(t, "ended; how is not known");
    } else if (WIFSIGNALED(status)) {
        gp_text_add(t, "was killed by signal %d (%s)", WTERMSIG(status), signal_name(WTERMSIG(status)));
    } else {
        gp_text_add(t, "ended by itself with status %d", WEXITSTATUS(status));
    }
}

/* The place where a goroutine was created: "function\nplace\n..." */
static void say_site(struct gp_text *t, gp_ref site, uint64_t parent) {
    uint64_t capacity;
    if (!site || !gp_block_check(site, &capacity)) return;
    const char *function = gp_payload(site), *end = function + gp_len(site);
    const char *place = memchr(function, '\n', (size_t)(end - function));
    if (!place) return;
    const char *last = memchr(place + 1, '\n', (size_t)(end - place - 1));
    static const char module[] = "<module>";
    bool main =
        (size_t)(place - function) == sizeof module - 1 && memcmp(function, module, sizeof module - 1) == 0;
    gp_text_add(t, "created by %.*s", main ? 4 : (int)(place - function), main ? "main" : function);
    if (parent) gp_text_add(t, " in goroutine %llu", (unsigned long long)parent);
    gp_text_add(t, "\n\t%.*s\n", (int)((last ? last : end) - place - 1), place + 1);
}

void gp_panic_text(struct gp_text *t, const struct gp_death *how, const struct gp_task *task,
                   const char *labels) {
    gp_text_add(t, "panic: goproc.errors.WorkerDied: proc %u (pid %d) ", how->proc, (int)how->pid);
    gp_end_text(t, how->status);
    gp_text_add(t,
                "\n\n"
                "goroutine %llu [lost with its process]%s:\n"
                "\t%.*s\n",
                (unsigned long long)task->id, labels, (int)GP_TASK_NAME, task->name);
    say_site(t, task->site, task->parent);
}

void gp_again_text(struct gp_text *t, unsigned times) {
    gp_text_add(
        t, "It is the %uth time in a row that this worker has ended before it could begin a goroutine.\n",
        times);
}

void gp_last_text(struct gp_text *t) {
    gp_text_add(t, "all workers have died, and on_death=continue does not replace them\n");
}

void gp_death_text(struct gp_text *t, uint32_t proc, pid_t pid, int status) {
    static char goroutines[6144]; /* the coroner alone comes here */
    struct gp_text list = {goroutines, goroutines + sizeof goroutines};
    struct census c = {gp_tag_of(proc), GP_TAG(GP_TAG_QUEUE, proc + 1), 0, &list};
    goroutines[0] = 0;
    gp_heap_each(list_goroutine, &c);
    say_how(t, proc, pid, status);
    if (c.lost == 0) gp_text_add(t, "\nno goroutine was running on it\n");
    else
        gp_text_add(t, "\n%u goroutine%s lost with it:\n%s", c.lost, c.lost == 1 ? " was" : "s were",
                    goroutines);
    if (c.lost > REPORT_GOROUTINES) gp_text_add(t, "    and %u more\n", c.lost - REPORT_GOROUTINES);
}
