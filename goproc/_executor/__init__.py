"""The parts of goproc.futures.Executor.

    Executor ── Pool ──── tasks: chan ────► runner goroutines, one on each process
                 │  │                            │
                 │  └─ Future: a promise ◄───────┘  claims it, calls, keeps it
                 └─ watcher thread: callbacks, deaths, calls that do not fit into the channel

A Future is a promise in shared memory. A goroutine that waits for one parks at the promise itself, so that submit() and
result() need no thread. The watcher thread does the work that no goroutine waits for: callbacks, the waiters of
concurrent.futures and asyncio, and the death of a runner.
"""
