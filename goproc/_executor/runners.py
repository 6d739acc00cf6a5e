"""The runners of a pool: goroutines that make its calls, each on a process, and how they are ended."""

from __future__ import annotations

import contextvars
import weakref
from time import monotonic
from typing import Any

from goproc._executor import processes, runner
from goproc._go import go
from goproc._sched import waits
from goproc.errors import RuntimeStopped
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._executor.pool import Setup

_BRIEFLY = 0.05  # seconds in which a goroutine that waits sees that it is cancelled

_live: weakref.WeakSet[Runners] = weakref.WeakSet()  # those of the pools that have begun


class Runners:
    """The runners of one pool."""

    def __init__(self, setup: Setup, name: str) -> None:
        self._setup = setup
        self._name = name
        self.procs: dict[Any, int] = {}  # the handle of each runner that has not ended, and its process
        self.started = 0
        self._tasks: Any = None
        self._slots: Any = None

    def begin(self, tasks: Any, slots: Any) -> None:
        """Note the channel of calls, and the semaphore of its places, that all runners get."""
        self._tasks, self._slots = tasks, slots
        _live.add(self)

    def start(self) -> Any:
        """Start a runner; return its handle."""
        self.started += 1
        setup = self._setup
        proc = processes.least_loaded()
        processes.load[proc] += 1
        start = go.opts(name=self._name).on(proc)
        args = self._tasks, setup.initializer, setup.initargs, setup.calls_at_most, self._slots
        try:
            # In an empty context: the calls to come are not those of the goroutine that makes the first.
            handle = contextvars.Context().run(start, runner.run, *args)
        except BaseException:
            self.started -= 1
            processes.load[proc] -= 1
            raise
        self.procs[handle] = proc
        return handle

    def pids(self) -> dict[int, int]:
        """Return the process ids of the runners that have begun, with the numbers of their processes."""
        until = monotonic() + processes.GRACE
        while any(handle._state == _core.G_QUEUED for handle in list(self.procs)) and monotonic() < until:
            waits.sleep(0.001)
        pids = _core.pids()
        return {pids[proc]: proc for proc in list(self.procs.values()) if pids[proc] > 0}

    def why_ended(self) -> str:
        """Return why one of the runners has ended; empty if all of them run, or have ended in order."""
        try:
            for handle, proc in list(self.procs.items()):
                if handle._state >= _core.G_OK and (error := handle.exception(0)) is not None:
                    return processes.reason(error, proc)
        except RuntimeStopped as stopped:
            return str(stopped)
        return ""

    def leave_waiting(self) -> None:
        """Forget the runners that wait for busy processes: when they begin they find no call, and end."""
        for handle, proc in list(self.procs.items()):
            if handle._state == _core.G_QUEUED:
                del self.procs[handle]
                processes.load[proc] -= 1

    def end(self, number: int, alone: bool) -> None:
        """Cancel the runners, and end the processes of those that compute.

        Args:
            number: the signal.
            alone: True to spare a process in which other goroutines run; its call goes on, and its result stays unread.
        """
        begun = [handle for handle in list(self.procs) if handle._state != _core.G_QUEUED]
        for handle in begun:
            handle.cancel()
        until = monotonic() + _BRIEFLY
        busy = [handle for handle in begun if not processes.ends(handle, until)]
        for handle in busy:
            proc = self.procs.get(handle)
            if proc and not (alone and processes.others(proc, handle.id)):
                killed = processes.send_signal(proc, number)
                processes.ends(handle, monotonic() + (processes.GRACE if killed else _BRIEFLY))
                _await_others(proc)


def _await_others(proc: int) -> None:
    """Wait until the death of a process is known of the runners of other pools that were on it: usable() asks them."""
    until = monotonic() + _BRIEFLY
    for runners in list(_live):
        for handle, where in list(runners.procs.items()):
            if where == proc:
                processes.ends(handle, until)
