"""Programs whose workers are replaced, added or taken away while they run."""

from __future__ import annotations

from programs import Run, ok

HEAD = """
    import atexit, os, signal, threading, time
    import goproc
    from goproc import Atomic, WorkerDied, chan, go, kill, procs, recycle, runtime, sleep, workers
    from goproc.shm import _core

    def hold(ready, gate):
        ready.send(1)
        return gate.recv()

    def pids(): return [go.on(p)(os.getpid).result() for p in workers()]

    def lives(pid):
        try: os.kill(pid, 0)
        except ProcessLookupError: return False
        return True
"""
STARTED = f"{HEAD}\n    procs()\n"


def output(run: Run, text: str, **options: object) -> str:
    """Run a program in which the workers are there already; return its output."""
    return ok(run(STARTED + text, **options))
