"""The facts about a group in one process: the members that it has started in a block, and the body."""

from __future__ import annotations

import sys
from typing import Any
from weakref import WeakValueDictionary

from goproc import _deaths
from goproc._goroutine import Goroutine
from goproc._group_state import ENDED, STOPPING, Shared
from goproc._sched import scheduler
from goproc._spawn import spawn_local
from goproc.errors import Cancelled, WorkerDied
from goproc.shm import _core
from goproc.sync import WaitGroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._sched.g import G


class Here:
    """The facts about a group in one process: the members that it started in a block, and the body if it runs here.

    Attributes:
        body: the goroutine in the body of the block.
        interrupt: the exception that interrupts the body.
        raised: the exception of wait(), which is not counted again if it leaves the block.
    """

    __slots__ = (
        "__weakref__",
        "_full",
        "_members",
        "_shared",
        "_stopped",
        "_watcher",
        "body",
        "interrupt",
        "raised",
    )

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._members: list[Goroutine[Any]] = []
        self._full = 64
        self._stopped = False
        self._watcher: Goroutine[None] | None = None
        self.body: G | None = None
        self.interrupt: BaseException | None = None
        self.raised: BaseException | None = None

    def add(self, member: Goroutine[Any]) -> None:
        if len(self._members) >= self._full:  # those that have ended go when they may be half of all
            self._members = [m for m in self._members if m._state < _core.G_OK]
            self._full = max(64, 2 * len(self._members))
        self._members.append(member)
        self.watch()
        if self._stopped:
            member.cancel()

    def watch(self) -> None:
        if self._watcher is None:
            self._watcher = spawn_local(self._watch, (), {}, "goproc.Group", sys._getframe())

    def _watch(self) -> None:
        shared = self._shared
        shared.node.recv_ok()
        if shared.flags.load() & ENDED or (shared.members.count == 0 and self.body is None):
            return
        shared.flags.or_(STOPPING)
        self.cancel()

    def cancel(self) -> None:
        """Cancel the members that this process started, and interrupt the body."""
        self._stopped = True
        for member in self._members:
            member.cancel()
        body = self.body
        if body is not None and self.interrupt is None and body.interrupt is None:
            self.interrupt = Cancelled()
            scheduler.interrupt(body, self.interrupt)

    def lost(self) -> list[BaseException]:
        """Return a WorkerDied for each member that was lost with its process; in full for those of this process."""
        death, count = self._shared.members._lost
        if not count:
            return []
        ended = [m for m in self._members if m._state == _core.G_FAILED]
        known = [exc for m in ended if isinstance(exc := m.exception(), WorkerDied)][:count]
        return [*known, *(_deaths.of_a_member(death) for _ in range(count - len(known)))]

    def leave(self) -> None:
        """Wait for the remaining members and the watcher: the block is over, and its context has ended."""
        for member in self._members:
            member.join()
        self._members = []
        if self._watcher is not None:
            self._watcher.join()


_known: WeakValueDictionary[WaitGroup, Here] = WeakValueDictionary()


def here_of(shared: Shared) -> Here:
    """Return the Here that all copies of the group in this process share."""
    here = _known.get(shared.members)
    if here is None:
        here = _known[shared.members] = Here(shared)
    return here
