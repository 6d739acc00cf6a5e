"""The protocol model: what the C core does to shared memory, one access a step, in every order and with deaths at every step.

To read it begin with channels.py beside goproc/shm/chan/channel.c. A function of the model has the name of the function of C that
it stands for, and its accesses in the same order; each `yield` is one. A function that is static in C keeps its name, too.

    memory.py, world.py   mem/mem.h (locks, journal), layout.h
    queues.py             chan/queue.c, gp_tell of chan/tell.c
    channels.py           chan/channel.c, chan/timer.c
    sync_objects.py, rwmutex.py   chan/sync.c, gp_waitgroup_add of chan/outcome.c; what proc/repair_locks.c and repair_heap.c
                          do for these objects
    waiting.py            chan/select.c, chan/waiter.c; python/wait.c; core_drain of python/scheduler_calls.c
    tasks.py              proc/tasks.c, taking.c, trackers.c, repair_tasks.c; python/goroutines.c, task_life.c; gp_outcome_set of chan/outcome.c
    promises.py           gp_promise_claim, gp_promise_keep of chan/outcome.c, break_promise of proc/repair_heap.c
    contexts.py           chan/context.c, proc/repair_tree.c
    futex_lock.py         gp_lock, gp_unlock, mem/lock.c, let_go of proc/repair_locks.c
    doorbell.py           chan/tell.c, proc/idle.c, gp_repair_ring of proc/repair.c
    watching.py           tell_collector, gp_watched_again of chan/tell.c, python/await.c, awaited.c
    detector.py           proc/deadlock.c, and the counts of threads of chan/tell.c
    collection.py         python/handles.c, proc/collector.c, objects in proc/repair_heap.c
    extents.py            mem/heap.c, mem/pages.c, mem/reclaim.c, restore_pages of proc/repair_heap.c
    repair.py             proc/verdict.c, proc/repair.c, repair_locks.c, repair_queues.c, repair_heap.c

    explorer.py           finds all states
    programs.py           goroutines that use the objects, and what they write down
    checks.py             what must hold where nobody can go on
    building.py, *_cases.py, cases.py   the configurations; futex_lock.py and those below it have their own
    rules.py              what the protocol rests on: without any of these rules some configuration goes wrong

What is simpler than in C: memory is sequentially consistent but in extents.py (tests/torture has ThreadSanitizer for the
rest). A process has one goroutine at a time. References are small numbers, and there are no generations but in collection.py.
The operands of a journal record are stored in one step, as they mean nothing before its `op` is. An epoch or a count does not
wrap.

`python -m model` in tests/ explores the configurations whose names contain its first argument. Further arguments are rules
that are taken out.
"""
