"""The state of a group in shared memory."""

from __future__ import annotations

from typing import Any

from goproc._record import Record
from goproc.sync import Atomic, Mutex, Semaphore, WaitGroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._channel import Chan
    from goproc._goroutine import Goroutine

ENDLESS = 1 << 60

# Bits of the flags; above them, the limit plus one, or 0 for none.
BLOCK = 1  # it is used as a with block
STOPPING = 2  # of a block: members are being cancelled, those that have not begun do not
ENDED = 4  # the block has been left
FLAG_BITS = 3


class Shared(Record):
    """The state of a group in shared memory. A member takes it along as a plain tuple, which needs no pickle."""

    members: WaitGroup  # counts the active ones
    free: Semaphore  # as many units as members may still start
    flags: Atomic  # and the limit
    errors: Chan[list[Goroutine[Any]]]  # of the Cell that holds a promise for each, and
    noting: Mutex  # its lock
    node: Chan[None]  # of the context


def trackers(shared: Shared) -> tuple[WaitGroup, Semaphore, Chan[None], Atomic, int]:
    """Return the objects by which the core counts a member and tells of its end. Refuse one if the block has ended."""
    return shared.members, shared.free, shared.node, shared.flags, ENDED
