"""Goroutines with a limit of time: ``go.opts(timeout=s, grace=g)``.

After `timeout` seconds the scheduler cancels the goroutine, as Goroutine.cancel() does. The goroutine has `grace`
seconds to clean up. If it computes or hangs in C code, it keeps its process, and the scheduler gets no turn. So the
process asks the coroner, a thread of the host, to kill it at a given time, and takes the request back when the
goroutine ends.

A process has one such request, for the goroutine that runs. While that goroutine waits, another may run for long, and
must not be killed for the first: so the request is taken back whenever the goroutine gives its turn away.
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import Any

from goproc._sched import scheduler, timers
from goproc.errors import Cancelled, TaskTimeout, WorkerDied
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from goproc._call_options import Limits
    from goproc._sched.g import G


class Clock:
    """The time limit of one goroutine, from its start to its end.

    Attributes:
        interrupt: the exception that has cancelled the goroutine; None before its time is over.
    """

    __slots__ = ("_alarm", "_g", "_grace", "_last", "interrupt")

    def __init__(self, g: G, limits: Limits) -> None:
        now = monotonic()
        self._g = g
        self._grace = limits.grace
        self._last = now + limits.timeout + limits.grace  # when the process is killed
        self._alarm: timers.Alarm | None = timers.call_at(now + limits.timeout, self._cancel)
        self.interrupt: Cancelled | None = None

    def run(self) -> None:
        """Ask for the kill after the last moment: the goroutine has its turn, and may keep the process."""
        if self._last != inf and _core.proc() != 0:
            _core.kill_at(self._last, self._g.object)

    def pause(self) -> None:
        """Take the request back: the goroutine gives its turn away."""
        if self._last != inf and _core.proc() != 0:
            _core.kill_at(0.0, 0)

    def end(self) -> None:
        """End the limit with its goroutine."""
        if self._alarm is not None:
            self._alarm.cancel()
        self.pause()
        if self.interrupt is not None and self._g.interrupt is self.interrupt:
            self._g.interrupt = None  # the goroutine has ended before it met a blocking point

    def _cancel(self) -> None:
        """Cancel the goroutine, as its time is over. The scheduler calls this in any goroutine's turn."""
        self.interrupt = Cancelled()
        self._alarm = None
        if self._grace != inf:
            self._last = monotonic() + self._grace
            self._alarm = timers.call_at(self._last, self._kill)
        if scheduler.clock is self:
            self.run()
        scheduler.interrupt(self._g, self.interrupt)

    def _kill(self) -> None:
        """Kill the process of a goroutine that waits although it was cancelled: its clean-up does not end."""
        self._alarm = None
        if _core.proc() != 0:
            _core.kill_at(monotonic(), self._g.object)


def _refuse_lost(pid: int, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
    """Raise WorkerDied if a goroutine that starts again was to work on one that was lost with the same process.

    Args:
        pid: of that process.
    """
    named = [(f"argument {place}", value) for place, value in enumerate(args, 1)]
    named += [(f"argument {name}", value) for name, value in (kwargs or {}).items()]
    for what, value in named:
        for handle in _handles_in(value, _DEPTH):
            died = handle.exception() if handle._state == _core.G_FAILED else None
            if isinstance(died, WorkerDied) and died.pid == pid:
                raise _not_again(what, handle, died)


_DEPTH = 3  # of tuples, lists and dicts in an argument that are looked into


def _handles_in(value: Any, depth: int) -> Iterator[Any]:
    if isinstance(value, _core.Outcome):
        yield value
    elif depth and type(value) in (tuple, list, dict):
        for item in value.values() if type(value) is dict else value:
            yield from _handles_in(item, depth - 1)


def _not_again(what: str, handle: Any, died: WorkerDied) -> WorkerDied:
    g = scheduler.current
    return WorkerDied(
        f"goroutine {g.id} ({g.name}) was lost with its process and does not start again, although it has retries: "
        f"{what} is a handle of goroutine {handle.id}, which was lost with it (proc {died.proc}, pid {died.pid}, {died.reason})",
        proc=died.proc,
        pid=died.pid,
        signal=died.signal,
        status=died.status,
        reason=died.reason,
        memory=died.memory,
        goroutines=died.goroutines,
        timed_out=died.timed_out,
    )


def run(limits: Limits, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
    """Run the call of a goroutine with limits. The body of that goroutine."""
    if limits.retries and (pid := _core.task_lost(scheduler.current.task)):
        _refuse_lost(pid, f, args, kwargs)
    if limits.timeout == inf:
        return f(*args, **(kwargs or {}))
    g = scheduler.current
    clock = scheduler.clock = Clock(g, limits)
    clock.run()
    try:
        return f(*args, **(kwargs or {}))
    except Cancelled as exc:
        if clock.interrupt is None:
            raise
        raise TaskTimeout(
            f"goroutine {g.id} ({g.name}) had not ended after {limits.timeout:g} s (go.opts(timeout=...)) "
            "and was cancelled"
        ) from exc
    finally:
        scheduler.clock = None
        clock.end()
