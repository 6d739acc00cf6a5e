/* fuzz_segment.c - words of a segment are spoiled, then it is repaired and used: that ends in order, one way or the other.
 *
 *     fuzz_segment CASES [SEED]         so many, random; prints each finding
 *     fuzz_segment FILE                 the cases of a file, a line each: SCENARIO;INSTRUCTION;SEED
 *
 * The situations are those of crash_image.c: a victim is stopped in the midst of an operation, and a peer waits. A child process
 * gets a copy of the segment, spoils some words of it, and then does as the coroner, the host, and a replacement of the victim do.
 * It may find the damage, and end with a report; or go on to its end. A signal, a report of AddressSanitizer, or no end within some
 * seconds is a finding. All that a reference or an index could reach lies in a range of addresses where nothing else is.
 */
#define main crash_image_main
#include "../recovery/crash_image.c"
#undef main

#include <errno.h>
#include <sys/resource.h>

enum { CPU_S = 4, WALL_S = 30, MOST_WALLS = 10, MOST_SPOILED = 4, STEPS_MOST = 400, CASES_OF_A_STOP = 12, WORDS = 4096 };
enum { DAMAGED = 2, ENDLESS = 3 }; /* how a case ends, if not with 0 */
#define ROOM (4ULL << 40)

static char *room;             /* nothing else is there */
static uint64_t draws;

static uint64_t draw(uint64_t below_) { /* splitmix64 */
    uint64_t z = (draws += 0x9E3779B97F4A7C15ULL);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
    return (z ^ z >> 31) % below_;
}

/* ---- what can be spoiled */

static uint32_t *words[WORDS];
static uint32_t n_words;
static gp_ref refs[WORDS];
static uint32_t n_refs;

static void add(void *at, uint64_t bytes) {
    for (uint64_t i = 0; i + 4 <= bytes && n_words < WORDS; i += 4) words[n_words++] = (uint32_t *)((char *)at + i);
}

static void add_block(struct gp_block *b, bool is_object, uint64_t bytes, void *arg) {
    (void)arg;
    if (n_refs < WORDS) refs[n_refs++] = gp_ref_of(b);
    add(b, is_object ? sizeof(struct gp_object) : bytes < 256 ? bytes : 256);
}

static void add_waiters(uint32_t proc) {
    uint32_t waiters = gp_get(&gp_proc_at(proc)->waiters_used), selects = gp_get(&gp_proc_at(proc)->sudogs_used);
    for (uint32_t i = 0; i < waiters && i < 6; i++) {
        add(gp_waiter_at(proc, i), 40);
        add(gp_sudog_at(gp_sudog_ref(proc, i)), sizeof(struct gp_sudog));
    }
    for (uint32_t i = 0; i < selects && i < 6; i++) add(gp_sudog_at(gp_sudog_ref(proc, gp.waiters + i)), sizeof(struct gp_sudog));
}

static void add_tables(uint32_t proc) {
    const struct gp_queue *q = &gp_proc_at(proc)->queue;
    if (gp_get(&q->slots[0])) add(gp_part_at(proc) + gp.tasks_at, 64);
    if (gp_get(&q->slots[1])) add(gp_part_at(proc) + gp.pinned_at, 64);
    add(gp_page_at(gp_arena_at(proc), gp_first_page()), 8 * sizeof(struct gp_page));
}

/* One of the kinds of things that a segment has, so that the many words of some do not leave the others alone. */
static void choose_words(void) {
    n_words = 0;
    switch (draw(8)) {
    case 0: add(&gp.head->crash_epoch, sizeof *gp.head - offsetof(struct gp_header, crash_epoch) - GP_REASON); break;
    case 1: add(gp_proc_at((uint32_t)draw(PROCS)), offsetof(struct gp_proc, journal)); break;
    case 2: add(&gp_proc_at(VICTIM)->journal, 256); break;
    case 3: add(&gp_proc_at((uint32_t)draw(PROCS))->queue, sizeof(struct gp_queue)); break;
    case 4: add_tables((uint32_t)draw(PROCS)); break;
    case 5: add_waiters(draw(2) ? PEER : VICTIM); break;
    default: break;
    }
    n_refs = 0;
    uint32_t n = n_words;
    gp_heap_each(add_block, NULL); /* also for the references */
    if (n) n_words = n;
}

static uint32_t value_for(uint32_t now) {
    static const uint32_t odd[] = {0, 1, 2, 3, 63, 64, 255, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
    uint32_t proc = (uint32_t)draw(PROCS);
    switch (draw(12)) {
    case 0: return odd[draw(sizeof odd / sizeof odd[0])];
    case 1:
    case 2: return now ^ 1u << draw(32);
    case 3: return now + (uint32_t)draw(7) - 3;
    case 4:
    case 5: return n_refs ? refs[draw(n_refs)] : 0;
    case 6: return (uint32_t)draw(gp.bytes / GP_LINE);
    case 7: return gp_sudog_ref(proc, (uint32_t)draw(6));
    case 8: return gp_sudog_ref(proc, gp.waiters + (uint32_t)draw(6));
    case 9: return (gp_get(&gp_proc_at(proc)->incarnation) & 0x1fffff) << 10 | (proc + 1);
    case 10: return *words[draw(n_words)];
    default: return (uint32_t)draw(1ULL << 32);
    }
}

static void spoil(void) {
    for (uint64_t n = 1 + draw(MOST_SPOILED); n > 0; n--) {
        do choose_words();
        while (n_words == 0); /* there is no block yet, say */
        uint32_t *at = words[draw(n_words)], value = value_for(*at);
        if (getenv("SHOW")) fprintf(stderr, "offset %llx: %x becomes %x\n", (unsigned long long)((char *)at - gp.base), *at, value);
        *at = value;
    }
}

/* ---- what is done then. Handles are private: what a process has of them is as it was. */

static struct known {
    gp_ref ref;
    enum gp_kind kind;
    uint16_t flags;
} objects[MANY + 8];
static uint32_t n_objects;

static void note_objects(void) {
    n_objects = 0;
    for (int i = 0; i < MANY && shared->object[i]; i++)
        objects[n_objects++] = (struct known){shared->object[i], gp_get(&object(i)->kind), gp_get(&object(i)->flags)};
}

static bool never_twice(void) { return true; }

static void wait_and_give_up(struct gp_case *c) {
    int64_t waiter = gp_waiter_alloc(false);
    if (waiter < 0) return;
    enum gp_result r = gp_case_try_or_wait(c, (uint32_t)waiter);
    if (r == GP_BLOCK && gp_case_cancel(c, (uint32_t)waiter)) gp_case_abandon(c);
    else if (r == GP_BLOCK) gp_case_settled(c, (uint32_t)waiter, false);
    else gp_case_undo(c);
    gp_waiter_release((uint32_t)waiter);
}

static void use_channel(struct gp_object *o) {
    struct gp_message m;
    struct gp_case receive = {.o = o, .kind = GP_RECV}, send = {.o = o, .kind = GP_SEND};
    for (int i = 0; i < 20 && gp_chan_recv(o, &m) == GP_OK; i++) gp_message_drop(&m);
    for (int i = 0; i < 4; i++) {
        m = (struct gp_message){.codec = GP_CODEC_BYTES, .block = gp_alloc(100, 0)};
        if (m.block && gp_chan_send(o, &m) != GP_OK) gp_message_drop(&m);
    }
    wait_and_give_up(&receive);
    send.m = (struct gp_message){.codec = GP_CODEC_INT};
    wait_and_give_up(&send);
    if (draw(2)) gp_chan_close(o);
    if (draw(4) == 0) gp_chan_drop(o);
}

static void use_context(struct gp_object *o) {
    gp_context_expire(o);
    gp_context_origin(o);
    gp_ref child = gp_object_alloc(GP_KIND_CHAN);
    if (child) gp_context_link(gp_at(child), o, gp_now() + 1000);
    gp_context_cancel(o, GP_CANCELED, 0);
    gp_context_unlink(o);
}

static void use_goroutine(struct gp_object *o) {
    struct gp_case c = {.o = o, .kind = GP_DONE};
    wait_and_give_up(&c);
    gp_outcome_set(o, GP_G_OK, 0);
    if (gp_outcome_release(o)) gp_outcome_drop(o);
}

static void use_lock(struct gp_object *o, enum gp_op_kind kind, uint64_t n) {
    struct gp_case c = {.o = o, .kind = (uint8_t)kind, .n = n};
    wait_and_give_up(&c);
}

static void use_object(const struct known *k) {
    struct gp_object *o = gp_at(k->ref);
    int64_t now;
    switch (k->kind) {
    case GP_KIND_CHAN:
        if (k->flags & GP_OBJ_TIMER) gp_timer_set(o, (int64_t)gp_now() + 1000, draw(2) * 1000);
        if (k->flags & GP_OBJ_CONTEXT) use_context(o);
        else use_channel(o);
        break;
    case GP_KIND_WAITGROUP:
        gp_waitgroup_add(o, 1, &now);
        use_lock(o, GP_DONE, 0);
        gp_waitgroup_add(o, -1, &now);
        break;
    case GP_KIND_OUTCOME: use_goroutine(o); break;
    case GP_KIND_MUTEX:
        use_lock(o, GP_LOCK, 0);
        gp_mutex_pass(o);
        break;
    case GP_KIND_RWMUTEX:
        use_lock(o, GP_LOCK, 0);
        use_lock(o, GP_RLOCK, 0);
        break;
    case GP_KIND_SEMAPHORE:
        use_lock(o, GP_ACQUIRE, 1 + draw(3));
        gp_semaphore_release(o, 1);
        break;
    case GP_KIND_COND:
        gp_cond_signal(o, false);
        gp_cond_signal(o, true);
        break;
    case GP_KIND_BARRIER: use_lock(o, GP_ARRIVE, 0); break;
    case GP_KIND_COPY: gp_outcome_drop(o); break;
    default: break;
    }
}

static void select_all(void) {
    struct gp_case cases[MANY] = {0};
    uint32_t poll[MANY], lock[MANY], n = 0;
    for (uint32_t i = 0; i < n_objects && n < 5; i++)
        if (objects[i].kind == GP_KIND_CHAN) {
            int64_t sudog = gp_sudog_alloc();
            if (sudog < 0) return;
            cases[n] = (struct gp_case){.o = gp_at(objects[i].ref), .kind = GP_RECV};
            cases[n++].sudog = (uint32_t)sudog;
        }
    if (n < 2) return;
    struct gp_select s = {.cases = cases, .n = n, .poll = poll, .lock = lock};
    enum gp_result r;
    int64_t waiter = gp_waiter_alloc(false);
    if (waiter < 0) return;
    int64_t chosen = gp_select(&s, waiter, &r);
    if (chosen >= 0) gp_case_undo(&cases[chosen]);
    else if (gp_waiter_cancel((uint32_t)waiter))
        for (uint32_t i = 0; i < n; i++) gp_case_abandon(&cases[i]);
}

static void use_tasks(void) {
    for (int i = 0; i < 10; i++) {
        gp_ref task = gp_task_pop(draw(2));
        if (!task && !gp_task_steal()) break;
        if (!task) continue;
        gp_task_leave(task);
        gp_free(task);
    }
    gp_ref task = new_task(false);
    uint32_t proc = gp_task_place();
    gp_task_push(task, proc, false);
    gp_task_announce(proc, false);
    gp_task_watch();
    gp_task_hand_over();
}

static void use_memory(void) {
    gp_ref kept[24];
    struct gp_heap_stats stats;
    for (int i = 0; i < 24; i++) kept[i] = gp_alloc(1ULL << draw(18), 0);
    for (int i = 0; i < 24; i++)
        if (kept[i]) gp_free(kept[i]);
    gp_heap_census(&stats);
}

static void look_around(void) {
    uint32_t out[GP_INBOX_LINE * 2];
    gp_drain(out, GP_INBOX_LINE * 2);
    gp_threads_recount();
    gp_all_asleep();
    gp_something_to_do();
}

static void found_unread(struct gp_object *o, void *arg) {
    (void)o;
    (void)arg;
}

static void use_all(void) {
    for (int i = 0; i < 8; i++)
        switch (draw(9)) {
        case 0: use_tasks(); break;
        case 1: use_memory(); break;
        case 2: gp_collect(keep_outcome); break;
        case 3: gp_heap_reclaim(); break;
        case 4: look_around(); break;
        case 5: select_all(); break;
        case 6: gp_unread_each(found_unread, NULL); break;
        default:
            for (uint32_t k = 0; k < n_objects; k++) use_object(&objects[k]);
        }
}

static void die_and_be_repaired(uint32_t proc) {
    struct gp_death how = {.proc = proc, .pid = 1, .status = SIGKILL};
    struct gp_dead d = {.replaced = draw(4) != 0};
    gp_repair_panics(&d);
    gp_repair(&d, &how, never_twice);
}

static void attach_as(uint32_t proc) {
    see(gp.base, proc);
    gp_set(&gp.my->incarnation, gp_get(&gp.my->incarnation) + 1);
    see(gp.base, proc);
    gp_heap_detach();
    gp_heap_attach();
    if (gp_waiters_attach() < 0) _exit(0);
    gp_tell_attach();
    gp_idle_attach();
    gp_release(&gp.my->state, GP_P_LIVE);
}

static void live_on(void) {
    bool both = draw(2);
    note_objects();
    spoil();
    see(gp.base, 0);
    gp_repair_note(VICTIM);
    if (both) gp_repair_note(PEER);
    die_and_be_repaired(VICTIM);
    if (both) die_and_be_repaired(PEER);
    gp_repair_over();
    if (draw(2)) use_all();
    attach_as(draw(3) && both ? PEER : VICTIM);
    use_all();
}

/* ---- a case */

static int memfd_of(void) { return gp.memfd; }

void __sanitizer_print_stack_trace(void);

static void has_no_end(int number) {
    fprintf(stderr, "no end: signal %d\n", number);
    __sanitizer_print_stack_trace();
    _exit(ENDLESS);
}

static clock_t at_alarm; /* CPU time of the process */
static int alarms;

/* A process beside busy ones computes little in WALL_S. Its limit is that of CPU time; one that computes nothing waits, and so does
 * one that only wakes now and then. */
static void on_alarm(int number) {
    clock_t now = clock();
    if (now - at_alarm < CLOCKS_PER_SEC / 1000 || ++alarms == MOST_WALLS) has_no_end(number);
    at_alarm = now;
    alarm(WALL_S);
}

static void be_case(uint64_t seed) {
    struct rlimit cpu = {CPU_S, CPU_S + 2}, core = {0, 0};
    setrlimit(RLIMIT_CPU, &cpu);
    setrlimit(RLIMIT_CORE, &core);
    signal(SIGXCPU, has_no_end);
    signal(SIGALRM, on_alarm);
    at_alarm = clock();
    alarm(WALL_S);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char *image = mmap(room, gp.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, memfd_of(), 0);
    if (image == MAP_FAILED) abort();
    draws = seed;
    see(image, 0);
    gp.memfd = -1;
    failures = 2000; /* what crash_image.c holds for wrong is of no interest here */
    live_on();
    _exit(0);
}

static long cases, findings, damaged;

/* The memory of a copy is small, unless a damaged word says otherwise. */
int fuzz_madvise(void *at, size_t bytes, int advice);
int fuzz_madvise(void *at, size_t bytes, int advice) {
    if (advice == 23 && bytes > 64 << 20) {
        errno = ENOMEM;
        return -1;
    }
    return (int)syscall(SYS_madvise, at, bytes, advice);
}

static void try_case(uint64_t seed) {
    cases++;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) be_case(seed);
    int status;
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == DAMAGED) damaged++;
    if (WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == DAMAGED)) return;
    findings++;
    printf("FINDING %x %s;%ld;%llu\n", status, scenario_name, instruction, (unsigned long long)seed);
}

/* ---- stops of a victim */

static bool step(pid_t pid) {
    if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0 || stopped(pid, SIGTRAP)) return false;
    instruction++;
    return true;
}

/* Begin a scenario, and let its victim do so many instructions, or as many as there are. */
static void begin(int index, long instructions, pid_t pids[PROCS]) {
    const struct scenario *s = &scenarios[index];
    scenario_name = s->name;
    instruction = 0;
    memset(shared, 0, sizeof *shared);
    int memfd = gp_create(PROCS, 64 << 20, 1);
    if (memfd < 0 || !attach(memfd, 0)) abort();
    s->host();
    for (int i = 0; i < 2; i++) {
        uint32_t proc = (i == 0) == (index >= first_late) ? VICTIM : PEER;
        pids[proc] = spawn(memfd, proc, s);
        if (stopped(pids[proc], SIGSTOP)) abort();
    }
    while (instruction < instructions && step(pids[VICTIM])) continue;
}

static void end(pid_t pids[PROCS]) {
    for (int i = 1; i < PROCS; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    gp_detach();
}

static void random_cases(long most) {
    uint64_t next = draws;
    while (cases < most) {
        pid_t pids[PROCS];
        draws = next++;
        begin((int)draw((uint64_t)n_scenarios), (long)draw(draw(3) ? 200 : STEPS_MOST), pids);
        for (int i = 0; i < CASES_OF_A_STOP && cases < most; i++) try_case(draw(UINT64_MAX));
        end(pids);
    }
}

static void cases_of(FILE *file) {
    char line[256];
    while (fgets(line, sizeof line, file)) {
        pid_t pids[PROCS];
        char *where = strchr(line, ';'), *seed = where ? strchr(where + 1, ';') : NULL;
        if (!seed) continue;
        *where = 0;
        for (int i = 0; i < n_scenarios; i++) {
            if (strcmp(scenarios[i].name, line) != 0) continue;
            begin(i, atol(where + 1), pids);
            try_case(strtoull(seed + 1, NULL, 10));
            end(pids);
        }
    }
}

static double cpu_seconds(void) {
    struct rusage used[2];
    double sum = 0;
    getrusage(RUSAGE_SELF, &used[0]);
    getrusage(RUSAGE_CHILDREN, &used[1]);
    for (int i = 0; i < 2; i++)
        sum += (double)(used[i].ru_utime.tv_sec + used[i].ru_stime.tv_sec) + (double)(used[i].ru_utime.tv_usec + used[i].ru_stime.tv_usec) / 1e6;
    return sum;
}

int main(int argc, char **argv) {
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    room = mmap(NULL, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) abort();
    FILE *file = argc > 1 ? fopen(argv[1], "r") : NULL;
    draws = argc > 2 ? strtoull(argv[2], NULL, 10) : gp_now();
    if (file) cases_of(file);
    else random_cases(argc > 1 ? atol(argv[1]) : 100);
    printf("%ld cases, %ld ended with a report, %.0f s of CPU, %ld findings\n", cases, damaged, cpu_seconds(), findings);
    return findings != 0;
}
