"""runtime.resize(): more or fewer workers while the program runs. shm/proc/resize.c says how a worker comes and goes."""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, Any

from goproc._proc import topology
from goproc._proc.letters import WAKE
from goproc._sched import waits
from goproc._timeouts import check_time
from goproc.errors import GoprocError
from goproc.shm import _core

if TYPE_CHECKING:
    from goproc._setup import Setup

__goproc_frames__ = "machinery"

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05  # seconds between two looks whether all workers have come, or gone


def check_number(procs: Any) -> int:
    """Return the number of workers to have, if it is one.

    Raises:
        TypeError, ValueError: it is not.
    """
    if not isinstance(procs, int) or isinstance(procs, bool):
        raise TypeError(f"resize() takes the number of workers, not {type(procs).__name__}")
    if procs > topology.MAX_PROCS:
        raise ValueError(f"resize({procs}): goproc can have at most {topology.MAX_PROCS} workers")
    if procs < 1:
        raise ValueError(f"resize({procs}): a runtime keeps at least 1 worker")
    return procs


def check_room(procs: int, setup: Setup) -> None:
    """Refuse more workers than there is room for.

    Raises:
        ValueError: there is none.
        RuntimeError: the runtime has no workers at all.
    """
    most = _core.room() - 1
    if most == 0:
        raise RuntimeError(
            f"resize({procs}): this runtime has no workers (--procs 0), and gets none; start it with at least 1"
        )
    if procs > most:
        raise ValueError(
            f"resize({procs}): this runtime has room for at most {most} workers; start it with --procs {procs}, "
            f"GOPROC_PROCS={procs} or runtime(procs={procs}), and resize to fewer"
        )
    setup.check_room(procs)


class Resize:
    """One change of the number of workers.

    Args:
        procs: how many there are to be; checked.
        pin: bind workers to CPUs, where there is one for each.
    """

    def __init__(self, procs: int, pin: bool) -> None:
        self.procs = procs
        self.pin = pin
        self.before = _core.procs() - 1

    def begin(self) -> None:
        """Have the workers come and go. Returns at once."""
        _core.resize(self.procs)
        cpus = topology.spread_cpus(topology.allowed_cpus()) if self.pin else []
        plan = topology.plan_pinning(self.procs, cpus, topology.cpu_quota())
        for proc in range(1, 1 + self.procs):
            _core.set_cpu(proc, plan[proc])
            _core.nudge(proc)
        _core.tell_zygote(WAKE)

    def wait(self, timeout: float | None) -> None:
        """Wait until all workers have come, or gone.

        Raises:
            TimeoutError: some have not.
            GoprocError: one could not be forked. There are as many as before.
        """
        until = None if timeout is None else monotonic() + timeout
        pause = _FIRST_PAUSE
        while not _core.resized():
            failed = _core.unborn()
            if failed is not None:
                self._give_up(*failed)
            if until is not None and monotonic() >= until:
                raise TimeoutError(self._late())
            waits.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            _core.tell_zygote(WAKE)  # the last letter may have met a zygote that has died since

    def _give_up(self, proc: int, error: int) -> None:
        self.procs = self.before
        self.begin()
        raise GoprocError(
            f"resize(): proc {proc} could not be started: fork: {os.strerror(error)}; raise the limit on processes "
            f"(ulimit -u). There are {self.before} workers, as before"
        )

    def _late(self) -> str:
        if self.procs < self.before:
            return f"resize({self.procs}): goroutines that workers beyond that have begun have not ended: timed out"
        return f"resize({self.procs}): the new workers have not started: timed out"


def checked_timeout(timeout: Any) -> float | None:
    return None if timeout is None else check_time(timeout, "resize(timeout=...)")


def follow() -> None:
    """Something has changed where workers are: go on with a resize, if one is under way."""
    if not _core.resized():
        _core.tell_zygote(WAKE)
