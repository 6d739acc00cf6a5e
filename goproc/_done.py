"""``done``, the first argument of the patterns: a channel that is closed to stop a stage, or a context."""

from __future__ import annotations

from typing import Any, TypeVar

from goproc._channel import nil
from goproc._select import select
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from goproc._channel import Chan, RecvChan
    from goproc.context import AnyContext

    Done: TypeAlias = RecvChan[Any] | AnyContext | None

T = TypeVar("T")


def done_of(done: Done) -> RecvChan[Any]:
    if done is None:
        return nil
    if isinstance(done, _core.Channel):
        return done
    if not hasattr(done, "done"):
        raise TypeError(f"done is a channel, a context, or None, not {type(done).__name__}")
    return done.done()  # type: ignore[no-any-return]


def put(done: RecvChan[Any], out: Chan[T], value: T) -> bool:
    """Send, unless done closes first: then False."""
    return select(done, (out.send, value)).index == 1
