"""Blocks that limit how long a goroutine may wait: ``with timeout(5):``, deadline() and shield().

A deadline belongs to the goroutine, not to an operation: the scheduler compares every wait with it.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from goproc._sched import scheduler
from goproc._tracebacks import ends_at_user
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from goproc._sched.g import G

__all__ = ["deadline", "shield", "timeout"]

FOR_EVER = 4e9  # seconds: a longer time is none. It fits into the core's nanoseconds, which end at 9.2e9 s


def check_time(t: Any, what: str) -> float:
    if not isinstance(t, (int, float)):
        raise TypeError(f"{what} takes seconds as a number, not {type(t).__name__}")
    if t != t:
        raise ValueError(f"{what} takes seconds, not NaN")
    return t


class _Entered:
    """The saved state of every goroutine that is inside a ``with`` over this object."""

    __slots__ = ("_inside",)

    def __init__(self) -> None:
        self._inside: list[
            tuple[G, float | None, int]
        ] = []  # the goroutine, and its deadline and depth outside

    def _leave(self) -> tuple[G, float | None, int]:
        """Pop the entry of the leaving goroutine. If it has none (a generator closed by another), pop the newest."""
        g = scheduler.current
        entries = self._inside
        last = next((i for i in reversed(range(len(entries))) if entries[i][0] is g), -1)
        return entries.pop(last)


class _Block(_Entered):
    """A ``with`` block that limits how long the goroutine in it may wait."""

    __slots__ = ("_until",)

    def __init__(self, until: float | None) -> None:
        super().__init__()
        self._until = until

    def _time(self) -> float | None:
        return self._until

    def __enter__(self) -> None:
        g = _this_goroutine()
        until, outer = self._time(), g.limit()
        self._inside.append((g, g.deadline, g.depth))
        if until is not None and (outer is None or until < outer):
            g.deadline, g.depth = until, g.shielded

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        g, deadline, depth = self._leave()
        g.deadline, g.depth = deadline, depth


class _Timeout(_Block):
    """A block whose time begins when a goroutine enters it."""

    __slots__ = ()

    def _time(self) -> float | None:
        return None if self._until is None else monotonic() + self._until


class _Shield(_Entered):
    __slots__ = ()

    def __enter__(self) -> None:
        g = _this_goroutine()
        g.shielded += 1
        self._inside.append((g, None, 0))

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        g, _, _ = self._leave()
        g.shielded -= 1


def _this_goroutine() -> G:
    _core.ensure()
    if not _core.on_scheduler_thread():
        raise RuntimeError(
            "context.timeout(), deadline() and shield() are for goroutines: a thread of your own uses timeout= arguments"
        )
    return scheduler.current


@ends_at_user
def timeout(seconds: float) -> _Block:
    """``with timeout(5):``: goproc operations in the block that would block raise DeadlineExceeded after that time.

    Blocks nest: the earliest deadline counts, and leaving a block restores the outer one. An operation that need not
    wait is not interrupted, and neither is Python code. An operation may have its own ``timeout=`` as well.

    Args:
        seconds: counted from where the block is entered; infinity sets no limit.

    Raises:
        TypeError: seconds is no number.
        ValueError: seconds is NaN.
        RuntimeError: the block is entered in a thread of the program's own.
    """
    seconds = check_time(seconds, "timeout()")
    return _Timeout(None if seconds == float("inf") else seconds)


@ends_at_user
def deadline(t: float) -> _Block:
    """``with deadline(t):``: as timeout(), until the time `t` in ``time.monotonic()`` seconds.

    Args:
        t: the deadline; infinity sets no limit.

    Raises:
        TypeError, ValueError, RuntimeError: as timeout().
    """
    t = check_time(t, "deadline()")
    return _Block(None if t == float("inf") else t)


def shield() -> _Shield:
    """``with shield():``: in the block, neither a deadline from outside it nor Goroutine.cancel() interrupts.

    For cleaning up. The first operation after the block that blocks raises the exception that was held back. A
    timeout() or deadline() inside the block counts: ``with shield(), timeout(1):`` cleans up for a second at most.
    """
    return _Shield()
