"""Contexts: cancellation, deadlines and request-scoped values that follow a call across goroutines and processes.

A context is a value that refers to a node of the cancellation tree in shared memory. The node of a derived context is
below its parent's node. Cancelling a context marks and closes every node below before the call returns, for waiters in
any process. The node is also the channel that done() returns, and checking whether it is done is one load. Values, and
the text of a context, are no part of the tree: they are a chain of layers in Python, of which a sent context takes a
copy along.

No process watches deadlines. A node knows its deadline. An operation that looks at the node or waits for it acts on a
deadline that has passed. So this operation cannot deliver the cause of the deadline: the cause travels with the
contexts below the deadline, and cause() picks it when the core says that a deadline, and nothing else, ended the
context.

Any object with the methods done, err, deadline and value is a context, too. One that passes on the done channel of a
context from here is its equal; for others a goroutine, or their own method after_func, hands their end on.

``with timeout(5):`` and its like, which bound every goproc operation in a block, are in goproc/_timeouts.py.
"""

from __future__ import annotations

import sys
from time import monotonic
from typing import Any

from goproc._context import (
    CANCEL,
    CANCELED,
    FREE,
    ROOT,
    STOPPED,
    UNTIL,
    VALUE,
    AnyContext,
    Context,
    cause,
    check_cause,
    check_parent,
    derived,
    foreign_layer,
    make,
    new_id,
)
from goproc._misuse import not_callable
from goproc._pickling import failure
from goproc._propagation import can_end, end, hang, wait_and_run
from goproc._spawn import origin, spawn_local
from goproc._timeouts import FOR_EVER, check_time, deadline, shield, timeout
from goproc._tracebacks import ends_at_user, user_line
from goproc.errors import Canceled, DeadlineExceeded
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from goproc._channel import Chan

__all__ = [
    "AnyContext",
    "CancelCauseFunc",
    "CancelFunc",
    "Canceled",
    "Context",
    "DeadlineExceeded",
    "StopFunc",
    "after_func",
    "background",
    "cause",
    "deadline",
    "shield",
    "timeout",
    "todo",
    "with_cancel",
    "with_cancel_cause",
    "with_deadline",
    "with_timeout",
    "with_value",
    "without_cancel",
]


# -- roots ---------------------------------------------------------------------------------------------------

_background = make(None, None, (None, ROOT, "context.Background", None), None, "background")
_todo = make(None, None, (None, ROOT, "context.TODO", None), None, "todo")


def background() -> Context:
    """Return the context that is never done, has no deadline and no values: the root of other contexts."""
    return _background


def todo() -> Context:
    """Return a context like background(), for where it is not clear yet which one to use."""
    return _todo


# -- derived contexts ----------------------------------------------------------------------------------------


class CancelFunc:
    """Cancels a context, and all contexts derived from it, before it returns; further calls do nothing.

    It can be sent to goroutines and called in any process.
    """

    __slots__ = ("_node", "_parent")  # in this order, as in Context

    def __init__(self, node: Chan[None], parent: AnyContext | None = None) -> None:
        self._node = node
        self._parent = parent

    def __call__(self) -> None:
        end(self._node, CANCELED, None)

    def __reduce__(self) -> Any:
        return type(self), (self._node,)


class CancelCauseFunc(CancelFunc):
    """A CancelFunc that also says why: ``cancel(cause)``."""

    __slots__ = ()

    @ends_at_user
    def __call__(self, cause: BaseException | None = None) -> None:
        """Cancel.

        Args:
            cause: the exception that cause() of the context returns from now on; None: a Canceled.
        """
        check_cause(cause)
        end(self._node, CANCELED, None if cause is None else failure.pack(cause))


class StopFunc:
    """Takes back an after_func(). It can be sent to goroutines and called in any process."""

    __slots__ = ("_node", "_parent")  # in this order, as in Context

    def __init__(self, node: Chan[None], parent: AnyContext | None = None) -> None:
        self._node = node
        self._parent = parent

    def __call__(self) -> bool:
        """Return True if this call kept the function from running; False if it runs, has run or was stopped before."""
        return end(self._node, STOPPED, None)

    def __reduce__(self) -> Any:
        return type(self), (self._node,)


def with_cancel(parent: AnyContext) -> tuple[Context, CancelFunc]:
    """Derive a context that is done when its cancel function is called or its parent is done.

    Args:
        parent: the context from which the new one is derived.

    Returns:
        The context, and the function that cancels it.

    Raises:
        ValueError: ``cannot create context from nil parent``.

    Cost: about 1 us, and as much for cancelling it.
    """
    with user_line:
        node, why = hang(parent, None, sys._getframe(1))
    return derived(parent, node, CANCEL, None, why), CancelFunc(node, parent)


def with_cancel_cause(parent: AnyContext) -> tuple[Context, CancelCauseFunc]:
    """As with_cancel(), with a cancel function that takes the cause.

    Args:
        parent: the context from which the new one is derived.

    Returns:
        The context, and the function that cancels it: ``cancel(cause)`` takes the exception that cause() returns.

    Raises:
        ValueError: ``cannot create context from nil parent``.
    """
    with user_line:
        node, why = hang(parent, None, sys._getframe(1))
    return derived(parent, node, CANCEL, None, why), CancelCauseFunc(node, parent)


def with_deadline(
    parent: AnyContext, t: float, cause: BaseException | None = None
) -> tuple[Context, CancelFunc]:
    """Derive a context that is done at a certain time, if not before.

    Args:
        parent: the context from which the new one is derived. If its deadline is earlier, the result is that of
            with_cancel().
        t: the deadline in ``time.monotonic()`` seconds. After a time that has passed the context is done already.
        cause: the exception that cause() returns if this deadline ends the context; None: a DeadlineExceeded.

    Returns:
        The context, and the function that cancels it.

    Raises:
        ValueError: ``cannot create context from nil parent``, or t is NaN.
    """
    with user_line:
        return _until(parent, check_time(t, "with_deadline()"), cause, sys._getframe(1))


def with_timeout(
    parent: AnyContext, seconds: float, cause: BaseException | None = None
) -> tuple[Context, CancelFunc]:
    """As with_deadline(), with the time counted from now.

    Args:
        parent: the context from which the new one is derived.
        seconds: from now until the context is done; infinity sets no limit.
        cause: as for with_deadline().

    Returns:
        The context, and the function that cancels it.

    Raises:
        ValueError: ``cannot create context from nil parent``, or seconds is NaN.
    """
    with user_line:
        return _until(parent, monotonic() + check_time(seconds, "with_timeout()"), cause, sys._getframe(1))


@ends_at_user
def with_value(parent: AnyContext, key: Any, value: Any) -> Context:
    """Derive a context in which a key has a value. For data of a request, not for optional arguments.

    Args:
        parent: the context from which the new one is derived.
        key: anything hashable but None. Keys of different types differ: a class of one's own keeps out of the way.
        value: it is copied when the context is sent to another goroutine.

    Raises:
        ValueError: ``cannot create context from nil parent``, ``nil key``.
        TypeError: ``key is not comparable``.
    """
    check_parent(parent)
    if key is None:
        raise ValueError("nil key")
    try:
        hash(key)
    except TypeError:
        raise TypeError("key is not comparable") from None
    if isinstance(parent, Context):
        layer = (parent._layer, VALUE, key, value)
        return make(parent._node, parent._foreign, layer, parent._why, new_id(), parent._parent)
    return make(None, parent, (foreign_layer(parent), VALUE, key, value), None, new_id())


@ends_at_user
def without_cancel(parent: AnyContext) -> Context:
    """Derive a context with the same values that goes on when its parent is done: without deadline and cause.

    Args:
        parent: the context from which the new one is derived.

    Raises:
        ValueError: ``cannot create context from nil parent``.
    """
    check_parent(parent)
    below = parent._layer if isinstance(parent, Context) else foreign_layer(parent)
    return make(None, None, (below, FREE, None, None), None, new_id())


def after_func(ctx: AnyContext, f: Callable[[], Any]) -> StopFunc:
    """Run a function in its own goroutine once a context is done: at once if the context is done already.

    Args:
        ctx: the context.
        f: called without arguments, in this process, sharing its memory.

    Returns:
        The function that takes the call back; it does not wait for f.

    Raises:
        ValueError: ``cannot create context from nil parent``.
    """
    frame = sys._getframe(1)
    with user_line:
        if not callable(f):
            raise not_callable(f"after_func() takes a function, not {type(f).__name__}", f, at=1)
        node, _ = hang(ctx, None, frame)
    if can_end(ctx):
        # The goroutine waits for the end. The canceller cannot call f, as it may be any process.
        spawn_local(wait_and_run, (node, f), {}, "context.after_func", origin(frame))
    return StopFunc(node, ctx)


def _until(
    parent: AnyContext, t: float, cause: BaseException | None, frame: FrameType
) -> tuple[Context, CancelFunc]:
    check_parent(parent)
    check_cause(cause)
    earlier = parent.deadline()
    if t >= FOR_EVER or (earlier is not None and earlier < t):
        node, why = hang(parent, None, frame)
        return derived(parent, node, CANCEL, None, why), CancelFunc(node, parent)
    t = max(float(t), 0.0)  # all that is past is the same
    node, _ = hang(parent, t, frame)
    if t <= monotonic():
        _core.context_state(node)  # this acts on the deadline: the channel is closed for every reader
    return derived(parent, node, UNTIL, t, cause), CancelFunc(node, parent)
