"""G, the scheduler's record of a goroutine: as `g` in Go's runtime."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from typing import Any


class G:
    """A started goroutine of this process, as its scheduler sees it.

    Attributes:
        id: its number; main is 1.
        greenlet: what it runs on; None until its first turn.
        entry: what to run at its first turn.
        parked: it waits, and nobody has made it ready yet.
        gave: it has given its turn away since it began: it has blocked, yielded, or offered its turn after many operations.
        told: it was made ready by the operation it waits for, not by a timeout or an interrupt.
        ticket: counts its parks, so that a timer of an earlier one is recognised as stale.
        interrupt: an exception to be raised at its next blocking point.
        cancelled: cancel() has reached it.
        reason: what it waits for, in Go's words.
        waits_on: the channel or other handle it waits for, or None.
        since: when it parked last, in monotonic seconds.
        deadline: when its operations that block raise DeadlineExceeded, or None.
        shielded: while positive no interrupt reaches it.
        depth: of shields in which the deadline was set; in a further one it does not count.
        labels: what dumps and panics say about it, beside its name.
        whole: its slices do not end: it makes the calls of a map.
        object: ref of its outcome in shared memory; 0 for main, unless somebody asked for its handle.
        block: ref of its task in shared memory, kept until it ends.
        call: what to call, until its first turn.
        private: the globals that only its function runs over, if they came in its message.
        function: what it calls, if that came in a message; None before its first turn.
    """

    __slots__ = (
        "block",
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
        "object",
        "parent",
        "parked",
        "private",
        "reason",
        "shielded",
        "since",
        "site",
        "ticket",
        "told",
        "waits_on",
        "whole",
    )

    def __init__(self, id: int, name: str, entry: Callable[[G], None] | None = None) -> None:
        self.id = id
        self.name = name
        self.entry = entry
        self.greenlet: Any = None
        self.context: Context | None = None
        self.parked = False
        self.gave = False
        self.told = False
        self.ticket = 0
        self.interrupt: BaseException | None = None
        self.cancelled = False
        self.reason = ""
        self.waits_on: object = None
        self.object = 0
        self.block = 0
        self.call: Any = None
        self.function: Any = None
        self.private: dict[str, Any] | None = None
        self.parent = 0
        self.site = 0
        self.since = 0.0
        self.deadline: float | None = None
        self.shielded = 0
        self.depth = 0
        self.labels: dict[str, str] | None = None
        self.whole = False

    def limit(self) -> float | None:
        """The deadline that counts where it is now."""
        return self.deadline if self.shielded <= self.depth else None
