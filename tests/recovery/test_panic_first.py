"""The end of a program by a death has one report, also where somebody meets what the dead worker held before that is out."""

from __future__ import annotations

import pytest
from programs import Run

# Main takes the lock again and again: in the moment in which it is given back it is main that gets OwnerDied.
SCRIPT = """
    import os
    from goproc import Mutex, chan, go, runtime
    def hold(m, ready):
        m.lock()
        ready.send(os.getpid())
        chan().recv()
    m, ready = Mutex(), chan()
    go.on(1)(hold, m, ready)
    os.kill(ready.recv(), 9)
    while not m.try_lock():
        pass
    raise SystemExit("nobody holds the lock any more")
"""


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("policy", ["restart", "continue"])
def test_the_panic_is_told_and_not_the_dead_owner(run: Run, policy: str, turn: int) -> None:
    done = run(SCRIPT, "--procs", "2", "--on-death", policy)
    assert done.status == 2 and done.err.startswith("panic: goproc.errors.WorkerDied: proc 1 "), done
    assert "hold" in done.err and "SIGKILL" in done.err and "OwnerDied" not in done.err, done


def test_the_last_worker_is_told_and_not_the_dead_owner(run: Run) -> None:
    """With a handle it is no panic: the program ends because nobody is left to run goroutines."""
    script = SCRIPT.replace("    go.on(1)(hold", "    g = go.on(1)(hold")
    done = run(script, "--procs", "1", "--on-death", "continue")
    assert done.status == 2 and done.err.startswith("fatal error: "), done
    assert "all workers have died" in done.err and "OwnerDied" not in done.err, done
