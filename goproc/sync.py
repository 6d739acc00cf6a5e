"""Synchronisation across processes, beside channels."""

from __future__ import annotations

from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ParamSpec

    from goproc.goroutine import Goroutine

    P = ParamSpec("P")


class WaitGroup(_core.WaitGroup):
    """Waits for a number of goroutines to finish, as Go's `sync.WaitGroup`.

    ``add()`` before each goroutine, ``done()`` at its end, ``wait()`` until all have; or ``wg.go(f, ...)``, which does
    the first two. It can be used again once it has reached zero.
    """

    __slots__ = ()
    __goproc_handle__ = True

    def go(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Goroutine[None]:
        """Run ``f(*args, **kwargs)`` as a goroutine that this group waits for.

        If it panics the counter is left alone, so that wait() cannot return before the program ends.
        """
        from goproc.goroutine import spawn_tracked

        handle: Goroutine[None] = spawn_tracked(self, f, args, kwargs)
        return handle

    def __repr__(self) -> str:
        try:
            return f"<WaitGroup {self._ref:#x} count={self.count}>"
        except RuntimeError:
            return "<WaitGroup of a runtime that stopped>"


class Atomic(_core.Atomic):
    """An int of 64 bits, or a bool, shared by all processes; every operation is one indivisible step.

    ``Atomic(0)`` holds an int, ``Atomic(False)`` a bool. Sequentially consistent, as Go's `sync/atomic`.
    Cost: about 0.05 us, and a cache miss when another process used it last.
    """

    __slots__ = ()
    __goproc_handle__ = True

    def __repr__(self) -> str:
        try:
            return f"<Atomic {self.load()}>"
        except RuntimeError:
            return "<Atomic of a runtime that stopped>"


_core.connect(waitgroup=WaitGroup, atomic=Atomic)
