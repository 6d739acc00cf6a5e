"""The greenlets that goroutines run on: making, keeping and ending them.

A finished greenlet is kept and runs further goroutines: making a greenlet and its C stack costs more than most
goroutines do.
"""

from __future__ import annotations

import weakref
from typing import Any

from greenlet import getcurrent, greenlet

from goproc.shm import _core

__goproc_frames__ = "scheduler"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from goproc._sched.g import G

KEPT = 256  # greenlets that wait for further goroutines
# The number of ended greenlets, 50 MB of saved stacks, from which on it pays to give their memory back to the system.
_TRIM_AFTER = 16_384

spare: list[Any] = []  # done with their goroutines, and kept
# The greenlet of main, or of the scheduler of a worker; the parent of all others.
root: Any = None
_greenlet_factory: Any = None
# The greenlet that the breeder started last; the breeder refers to it until the next one, so that it never ends
_youngest: Any = None
# A dead greenlet, which hands every switch on to its parent. A spare greenlet that switches through it refers to no
# greenlet that may end meanwhile.
_door: Any = None
_to_trim = 0  # greenlets that have ended since malloc gave their memory back
_ended: weakref.ref[Any] | None = None  # the greenlet that ended last


def start(body: Callable[[], None]) -> Any:
    """Begin with the calling greenlet as the root.

    Args:
        body: the function that every goroutine's greenlet runs.

    Returns:
        The door.
    """
    global root, _greenlet_factory, _door, _youngest
    root = getcurrent()
    _greenlet_factory = greenlet(_breed, root)
    _door = greenlet(_nothing, root)
    _door.switch()
    _core.untrack(_door)
    _youngest = None
    _greenlet_factory.switch(body)
    return _door


def stop() -> list[Any]:
    """Forget the greenlets that have no goroutine; return them."""
    global _youngest
    left = [*spare, _greenlet_factory]
    spare.clear()
    _youngest = None
    return left


def for_goroutine(g: G) -> Any:
    """Return the greenlet to switch to for the first turn of a goroutine."""
    if not spare:
        return _greenlet_factory
    g.greenlet = spare.pop()
    return g.greenlet


def _breed(run: Callable[[], None]) -> None:
    """Start greenlets. The body of the breeder, the one greenlet that starts others.

    A greenlet begins with the recursion depth of its starter. Goroutines that block start others. If each were the
    starter of the next, the depths would add up, and the two hundredth goroutine would not have a frame left.
    """
    global _youngest
    root.switch()
    body = _core.on_small_stack(run)
    while True:
        _youngest = greenlet(body, root)
        _youngest.switch()


def _nothing() -> None:
    """Do nothing. The body of the dead greenlet."""


def may_end(mine: greenlet) -> bool:
    """Return True if a greenlet that is done may end, as `KEPT` others are spare."""
    return mine is not _youngest


def end_into(mine: greenlet, g: G) -> None:
    """Have the greenlet of a goroutine go on when `mine` ends, right after this call.

    A greenlet that ends continues its parent. A dead greenlet keeps its parent, which may die in its turn: a
    reference to the first of such a chain keeps the whole chain, and freeing the chain recurses once for each
    greenlet. So the parent of the greenlet that ended before is set to the root again.
    """
    global _ended, _to_trim
    _to_trim += 1
    before = _ended() if _ended is not None else None
    if before is not None:  # something still refers to that greenlet
        before.parent = root
    if _door.parent is mine:
        _door.parent = root
    _ended = weakref.ref(mine)
    mine.parent = g.greenlet


def trim() -> None:
    """Give the memory of ended greenlets back to the system, if there is much."""
    global _to_trim
    if _to_trim >= _TRIM_AFTER:
        _to_trim = 0
        _core.trim()
