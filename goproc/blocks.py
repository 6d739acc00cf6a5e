"""Blocks that change what the goroutine in them may wait for: ``with timeout(5):``, deadline() and shield().

A deadline belongs to the goroutine, not to an operation: the scheduler holds every wait against it.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from goproc import scheduler
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from goproc.g import G

__all__ = ["deadline", "shield", "timeout"]


def check_time(t: Any, what: str) -> float:
    if not isinstance(t, (int, float)):
        raise TypeError(f"{what} takes seconds as a number, not {type(t).__name__}")
    if t != t:
        raise ValueError(f"{what} takes seconds, not NaN")
    return t


class _Block:
    """A ``with`` block that changes what the goroutine in it may wait for."""

    __slots__ = ("_g", "_until")

    def __init__(self, until: float | None) -> None:
        self._until = until
        self._g: list[
            tuple[G, float | None]
        ] = []  # where it was entered, and the deadline that was valid there

    def _time(self) -> float | None:
        return self._until

    def __enter__(self) -> None:
        g = _this_goroutine()
        outer = g.deadline
        until = self._time()
        self._g.append((g, outer))
        if until is not None and (outer is None or until < outer):
            g.deadline = until

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        g, outer = self._g.pop()
        g.deadline = outer


class _Timeout(_Block):
    """Counts from where the block is entered."""

    __slots__ = ()

    def _time(self) -> float | None:
        return None if self._until is None else monotonic() + self._until


class _Shield:
    __slots__ = ("_g",)

    def __init__(self) -> None:
        self._g: list[G] = []

    def __enter__(self) -> None:
        g = _this_goroutine()
        g.shielded += 1
        self._g.append(g)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._g.pop().shielded -= 1


def _this_goroutine() -> G:
    _core.ensure()
    if not _core.on_scheduler_thread():
        raise RuntimeError(
            "context.timeout(), deadline() and shield() are for goroutines: a thread of your own uses timeout= arguments"
        )
    return scheduler.current


def timeout(seconds: float) -> _Block:
    """``with timeout(5):``: goproc operations in the block that would block raise DeadlineExceeded after that time.

    Blocks nest: the earliest deadline counts, and leaving a block restores the outer one. What does not block is not
    interrupted, and neither is Python code; an operation may have its own ``timeout=`` as well.

    Args:
        seconds: counted from where the block is entered; infinity sets no limit.

    Raises:
        ValueError: it is NaN.
        RuntimeError: entered in a thread that is not a goroutine's.
    """
    seconds = check_time(seconds, "timeout()")
    return _Timeout(None if seconds == float("inf") else seconds)


def deadline(t: float) -> _Block:
    """``with deadline(t):``: as timeout(), until a time in ``time.monotonic()`` seconds."""
    t = check_time(t, "deadline()")
    return _Block(None if t == float("inf") else t)


def shield() -> _Shield:
    """``with shield():``: in the block, neither a deadline from outside it nor Goroutine.cancel() interrupts.

    For cleaning up. What was held back is raised by the first operation after the block that blocks.
    """
    return _Shield()
