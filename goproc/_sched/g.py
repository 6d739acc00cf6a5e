"""G, the scheduler's record of a goroutine; Go's runtime calls its own `g`, too."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from typing import Any


class G:
    """A started goroutine of this process, as its scheduler sees it."""

    __slots__ = (
        "call",
        "cancelled",
        "context",
        "deadline",
        "depth",
        "entry",
        "function",
        "gave",
        "greenlet",
        "id",
        "interrupt",
        "labels",
        "name",
        "notified",
        "object",
        "parent",
        "parked",
        "private",
        "reason",
        "shielded",
        "since",
        "site",
        "task",
        "ticket",
        "waits_on",
        "whole",
    )

    def __init__(self, id: int, name: str, entry: Callable[[G], None] | None = None) -> None:
        self.id = id  # main has 1
        self.name = name  # the name given to go.opts(), else the function's
        self.entry = entry  # the function of its first turn
        self.greenlet: Any = None  # None until its first turn
        self.context: Context | None = None  # the contextvars of the goroutine
        self.labels: dict[str, str] | None = None  # shown by dumps and panics beside the name
        # -- its wait
        self.parked = False  # True while it waits and nothing has made it ready
        self.gave = False  # True once it has blocked, yielded, or offered its turn
        self.notified = False  # True if its operation made it ready, not a timeout or an interrupt
        self.ticket = 0  # counts its parks, so that the timer of an earlier park is recognised as stale
        self.reason = ""  # the reason of its wait, in Go's words
        self.waits_on: object = None  # the channel or other handle of its wait
        self.since = 0.0  # the monotonic time at which it parked last
        # -- the ends of its waits
        self.interrupt: BaseException | None = None  # raised at its next blocking point
        self.cancelled = False  # True once cancel() has reached it
        self.deadline: float | None = None  # from this time on, operations that block raise DeadlineExceeded
        self.shielded = 0  # while positive, no interrupt reaches it
        # the number of shields in which the deadline was set; inside a further shield the deadline does not count
        self.depth = 0
        # -- its parts in shared memory, each a ref
        self.object = 0  # the ref of its outcome; 0 for main, unless the program has asked for main's handle
        self.task = 0  # the ref of its task, kept until it ends
        self.site = 0  # the ref of the place where it was created
        self.parent = 0  # the id of its creator
        # -- its call
        self.call: Any = None  # its call, until its first turn
        self.function: Any = None  # its function, from the first turn on, if the function came in a message
        # the globals of its function alone, if they came in its message
        self.private: dict[str, Any] | None = None
        self.whole = False  # True if no slice of it ends: it makes the calls of a map

    def limit(self) -> float | None:
        """Return the deadline that counts inside the present shields."""
        return self.deadline if self.shielded <= self.depth else None
