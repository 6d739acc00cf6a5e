"""The greenlets that goroutines run on: where new ones come from, and where those go that are done.

A finished greenlet is kept and runs further goroutines: creating one and its C stack costs more than what most
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
# Greenlets that end, 50 MB of saved stacks: then it pays to give them back to the system.
_TRIM_AFTER = 16_384

spare: list[Any] = []  # done with their goroutines, and kept
root: Any = None  # the greenlet of main, or of the scheduler of a worker: the parent of all
_breeder: Any = None
_youngest: Any = None  # the breeder started it last, and refers to it until it starts another: it never ends
# A dead greenlet, which hands every switch on to its parent: a spare one that switches through it refers to no greenlet that
# may end meanwhile.
_door: Any = None
_to_trim = 0  # greenlets that ended since malloc gave their memory back
_ended: weakref.ref[Any] | None = None  # the greenlet that ended last


def start(body: Callable[[], None]) -> Any:
    """Begin with the calling greenlet as the root.

    Args:
        body: of every goroutine's greenlet.

    Returns:
        The door.
    """
    global root, _breeder, _door, _youngest
    root = getcurrent()
    _breeder = greenlet(_breed, root)
    _door = greenlet(_nothing, root)
    _door.switch()
    _core.untrack(_door)
    _youngest = None
    _breeder.switch(body)
    return _door


def stop() -> list[Any]:
    """Forget the greenlets that no goroutine has; return them."""
    global _youngest
    left = [*spare, _breeder]
    spare.clear()
    _youngest = None
    return left


def for_goroutine(g: G) -> Any:
    """Return what to switch to for the first turn of a goroutine."""
    if not spare:
        return _breeder
    g.greenlet = spare.pop()
    return g.greenlet


def _breed(run: Callable[[], None]) -> None:
    """The body of the one greenlet that starts others.

    A greenlet begins with the recursion depth of the one that starts it. Goroutines which block start others; started
    from there each would stand on all its predecessors, and the two hundredth would not have a frame left.
    """
    global _youngest
    root.switch()
    body = _core.on_small_stack(run)
    while True:
        _youngest = greenlet(body, root)
        _youngest.switch()


def _nothing() -> None:
    """The body of the greenlet that is dead from the first."""


def may_end(mine: greenlet) -> bool:
    """Return True if a greenlet that is done may end, as `KEPT` others are spare."""
    return mine is not _youngest


def end_into(mine: greenlet, g: G) -> None:
    """Have the greenlet of a goroutine go on when `mine` ends, which the caller is about to do.

    A greenlet that ends continues its parent. A dead one would keep that parent, which may die in its turn: whoever
    refers to the first of such a chain keeps all of it, and freeing the chain recurses once for each. So the parent of
    the one that ended before is the root again.
    """
    global _ended, _to_trim
    _to_trim += 1
    before = _ended() if _ended is not None else None
    if before is not None:  # anybody still refers to it
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
