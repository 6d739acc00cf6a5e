"""The two ways in which a context ends: by its node of the tree, and by a context of another class above it."""

from __future__ import annotations

from typing import Any

from goproc._channel import nil
from goproc._context import CANCELED, DEADLINE, SELF, STOPPED, Context, cause, check_parent
from goproc._pickling import failure
from goproc._spawn import origin, spawn_local
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from goproc._channel import Chan
    from goproc._context import AnyContext


def _new_node(parent: Chan[None] | None, until: float | None) -> Chan[None]:
    _core.ensure()
    return _core.context_new(parent, until)  # type: ignore[no-any-return]


def hang(
    parent: AnyContext, until: float | None, frame: FrameType
) -> tuple[Chan[None], BaseException | None]:
    """Make a node below that of `parent`; return it, with the cause to report if the deadline of `parent` ends it."""
    check_parent(parent)
    known = _known(parent)
    if known is not None:
        if known._node is not None and not _core.attached():
            _ = known._node.closed  # raises: it is of a runtime that has stopped, and must not start another
        return _new_node(known._node, until), known._why
    foreign = parent._foreign if isinstance(parent, Context) else parent
    assert foreign is not None
    node = _new_node(None, until)
    done = foreign.done()
    if done is None or done == nil:
        return node, None
    if foreign.err() is not None:
        _follow(foreign, node)
        return node, None
    register = getattr(foreign, "after_func", None)
    if register is not None:
        _keep(node, register(lambda: _follow(foreign, node)))
    else:
        spawn_local(_watch, (foreign, done, node), {}, "context.propagate", origin(frame))
    return node, None


def _known(ctx: AnyContext) -> Context | None:
    """Return the context of this module that is done exactly when ``ctx`` is, if there is one."""
    if isinstance(ctx, Context) and (ctx._node is not None or ctx._foreign is None):
        return ctx
    inside = ctx.value(SELF)
    if isinstance(inside, Context) and inside.done() == ctx.done():
        return inside
    return None


def can_end(ctx: AnyContext) -> bool:
    done = ctx.done()
    return done is not None and done != nil


def _follow(foreign: AnyContext, node: Chan[None]) -> None:
    """End the node below a context of another class that has ended."""
    _stops.pop(node, None)
    by_time = isinstance(foreign.err(), TimeoutError)
    why = cause(foreign)
    _core.context_cancel(
        node, DEADLINE if by_time else CANCELED, failure.pack(why) if why is not None else None
    )


def _watch(foreign: AnyContext, done: Chan[Any], node: Chan[None]) -> None:
    from goproc._select import select

    if select(done, node).index == 0:
        _follow(foreign, node)


def wait_and_run(node: Chan[None], f: Callable[[], Any]) -> None:
    node.recv_ok()
    if _core.context_state(node) != STOPPED:
        f()


def end(node: Chan[None], code: int, packed: object) -> bool:
    first = _core.context_cancel(node, code, packed)
    stop = _stops.pop(node, None)
    if stop is not None:
        stop()
    return first


# Registrations with after_func methods of other classes, to be taken back when the node ends first. Other processes
# cannot do that, and a deadline calls no function. So registrations of nodes that ended by themselves are dropped when
# the table has doubled.
_stops: dict[Chan[None], Callable[[], Any]] = {}
_stops_full = 64


def _keep(node: Chan[None], stop: Callable[[], Any]) -> None:
    global _stops_full
    _stops[node] = stop
    if _core.context_state(node):  # the node ended during the registration, or by its deadline
        _stops.pop(node, None)
        stop()
    if len(_stops) > _stops_full:
        for old in [n for n in _stops if _ended(n)]:
            undo = _stops.pop(old, None)
            if undo is not None:
                undo()
        _stops_full = max(64, 2 * len(_stops))


def _ended(node: Chan[None]) -> bool:
    try:
        return bool(_core.context_state(node))
    except RuntimeError:  # of a runtime that stopped
        return True
