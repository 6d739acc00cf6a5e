"""The parts of goproc.futures.Executor.

    Executor ── Pool ──── tasks: chan ────► runner goroutines, one on each process
                 │  │                            │
                 │  └─ Future: a promise ◄───────┘  claims it, calls, keeps it
                 └─ watcher thread: callbacks, deaths, what does not fit into the channel

A Future is a promise in shared memory. Whoever waits for one in a goroutine parks at the promise itself, so that submit()
and result() need no thread. The watcher is for all that must happen although nobody waits: callbacks, the waiters of
concurrent.futures and asyncio, and the death of a runner.
"""
