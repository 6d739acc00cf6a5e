"""The processes that the runners of an Executor are on: which to take, whether they end, and how to end them."""

from __future__ import annotations

import os
import signal
from collections import Counter
from time import monotonic
from typing import Any, NamedTuple

from goproc import _runtime
from goproc._executor import runner
from goproc._raised import described
from goproc.errors import WorkerDied
from goproc.shm import _core

GRACE = 10.0  # seconds that a killed process takes to end, at most, on a machine that has much to do

load: Counter[int] = Counter()  # runners of this process's pools, by the process they run on


class Process(NamedTuple):
    """A process that makes calls, with the attributes that other libraries read in ProcessPoolExecutor._processes."""

    pid: int

    def terminate(self) -> None:
        """Send SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)


def ends(handle: Any, until: float) -> bool:
    """Return True if a runner ends before a time."""
    try:
        handle.join(max(0.0, until - monotonic()))
    except TimeoutError:
        return False
    return True


def others(proc: int, runner_id: int) -> bool:
    """Return True if goroutines other than a runner have begun on a process."""
    return any(
        where == proc and started and id_ != runner_id
        for id_, _, _, where, started, _, _ in _core.goroutines()
    )


def send_signal(proc: int, number: int) -> bool:
    """Send a signal to a process of the runtime; return False if there is none: it starts, or has just died."""
    if number == signal.SIGKILL:
        return _core.end(proc)
    pid = _core.pids()[proc]
    if pid <= 0:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def least_loaded() -> int:
    """Return the process for a runner: a worker with the fewest of them; the host where there are no workers."""
    workers = _runtime.workers() or range(1)
    here = _core.proc()
    return min(workers, key=lambda proc: (load[proc], (proc - here - 1) % len(workers)))


def reason(exc: BaseException, proc: int) -> str:
    if isinstance(exc, WorkerDied):
        return f"{exc}; the calls of the Executor are lost"
    if isinstance(exc, runner.InitializerFailed):
        return f"the initializer of the Executor failed on worker {proc}: {exc}"
    return f"the Executor's goroutine on worker {proc} ended: {described(exc)}"
