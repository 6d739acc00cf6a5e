"""Contexts: cancellation, deadlines and request-scoped values that follow a call across goroutines and processes.

A context is a value that refers to a node of the cancellation tree in shared memory. Derived contexts hang their node
below their parent's; cancelling one marks and closes everything below it before the call returns, whichever processes
wait there. The node is at the same time the channel that done() returns, and asking whether it is done is one load.
Values, and what a context is called, are no part of the tree: they are a chain of layers in Python, which a context
takes along, copied, when it is sent.

Nobody watches deadlines. A node knows its own, and whoever looks at it or waits for it acts on one that has passed. So
the cause given to a deadline cannot be delivered by who notices: it travels with the contexts below that deadline,
and cause() picks it when the core says that a deadline, and nothing else, ended the context.

Any object with the methods done, err, deadline and value is a context, too. One that passes on the done channel of a
context from here is its equal; for others a goroutine, or their own method after_func, hands their end on.

``with timeout(5):`` and its like, which bound every goproc operation in a block, are in goproc/_timeouts.py.
"""

from __future__ import annotations

import itertools
import os
import sys
from time import monotonic
from typing import Any, Protocol, runtime_checkable

from goproc._channel import nil
from goproc._pickling import failure
from goproc._spawn import origin, spawn_local
from goproc._timeouts import check_time, deadline, shield, timeout
from goproc.errors import Canceled, DeadlineExceeded
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from goproc._channel import Chan, RecvChan

    # (the layer below or None, kind, a, b), where a and b depend on the kind
    Layer = tuple[Any, str, Any, Any]

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

_NEVER = 4e9  # what a time beyond is: more than the core's nanoseconds could hold comes not much later
_CANCELED, _DEADLINE, _STOPPED = 1, 2, 3  # how a node ended

# Kinds of layers, and what they hold.
_ROOT = "root"  # the name
_FOREIGN = "foreign"  # a context of the user's own class
_CANCEL = "cancel"
_UNTIL = "until"  # the deadline
_VALUE = "value"  # key and value
_FREE = "free"  # without_cancel


@runtime_checkable
class AnyContext(Protocol):
    """What every context has, also one of a class that is not goproc's."""

    def done(self) -> Any:
        """The channel that is closed when the context ends; nil if it never does."""

    def err(self) -> BaseException | None:
        """None while it is live, else why it ended."""

    def deadline(self) -> float | None:
        """When it ends at the latest, in ``time.monotonic()`` seconds."""

    def value(self, key: Any) -> Any:
        """The value stored under a key, None if there is none."""


class _Self:
    """As a key, has value() give the context of this module that an object wraps."""


_SELF = _Self()


class Context:
    """A context, as Go's `context.Context`; made by background() and the with_ functions.

    It can be passed to goroutines and sent over channels: it is a reference to the shared node, and the values are
    copied. It equals, and hashes like, every other handle of the same context. It is a case for select(): ready when
    the context is done.
    """

    # When a context goes, so do its slots, in the order of their names; a node that goes before its parent's is freed
    # at once, and else waits for the collector. So what holds the nodes above has to come after `_node` and `_id`.
    __slots__ = ("__weakref__", "_foreign", "_id", "_layer", "_node", "_parent", "_why")

    _node: Chan[None] | None  # of the cancellation tree; None: never done, or as _foreign is
    _foreign: AnyContext | None  # the next one of another class, going up; without_cancel() hides it
    _layer: Layer
    _id: object  # the node if it is this context's own, else a number
    _parent: Context | None  # whose node is the one above; only where it was derived
    _why: BaseException | None  # the cause given to the deadline that a node ends by

    def __init__(self) -> None:
        raise TypeError("contexts are made by context.background() and derived by context.with_cancel() etc.")

    def done(self) -> RecvChan[None]:
        """Return the channel that is closed when this context is done; nil if it can never be."""
        if self._node is not None:
            return self._node.rx
        if self._foreign is not None:
            return self._foreign.done()  # type: ignore[no-any-return]
        return nil.rx

    def err(self) -> BaseException | None:
        """Return None while it is live, else a Canceled or a DeadlineExceeded.

        Cost: about 0.1 us in any process.
        """
        if self._node is not None:
            code = _core.context_state(self._node)
            if code == 0:
                return None
            return DeadlineExceeded() if code == _DEADLINE else Canceled()
        return None if self._foreign is None else self._foreign.err()

    def deadline(self) -> float | None:
        """Return when it ends at the latest, in ``time.monotonic()`` seconds; None if there is no deadline."""
        when = None if self._node is None else _core.context_deadline(self._node)
        if when is None and self._foreign is not None:
            return self._foreign.deadline()
        return when

    def value(self, key: Any) -> Any:
        """Return the value stored by with_value() under a key of the same type that is equal, else None.

        Cost: a look at each context above this one, up to where the key is.
        """
        if key is _SELF:
            if self._node is not None:
                return self
            return None if self._foreign is None else self._foreign.value(key)
        kind = type(key)
        layer: Any = self._layer
        while layer is not None:
            below, what, a, b = layer
            if what == _VALUE:
                if type(a) is kind and a == key:
                    return b
            elif what == _FOREIGN:
                return a.value(key)
            layer = below
        return None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Context):
            return NotImplemented
        return self._id == other._id

    def __hash__(self) -> int:
        return hash(self._id)

    def __str__(self) -> str:
        names = []
        layer: Any = self._layer
        while layer is not None:
            below, what, a, b = layer
            if what == _VALUE:
                names.append(f"WithValue({_named(a)}, {_named(b)})")
            elif what == _UNTIL:
                names.append(f"WithDeadline({a:.3f} [{a - monotonic():.3f}s])")
            elif what == _CANCEL:
                names.append("WithCancel")
            elif what == _FREE:
                names.append("WithoutCancel")
            else:
                names.append(_named(a))
            layer = below
        return ".".join(reversed(names))

    __repr__ = __str__

    def __reduce__(self) -> Any:
        # A flat list, since nested tuples would take the pickler as deep as the chain is long.
        layers = []
        layer: Any = self._layer
        while layer is not None:
            layers.append(layer[1:])
            layer = layer[0]
        layers.reverse()
        why = None if self._why is None else failure.pack(self._why)
        own = None if self._id is self._node else self._id
        return _restore, (self._node, own, layers, why)


def _restore(node: Any, own: Any, layers: list[tuple[str, Any, Any]], why: Any) -> Context:
    layer: Any = None
    foreign = None
    for what, a, b in layers:
        layer = (layer, what, a, b)
        if what == _FOREIGN:
            foreign = a
        elif what == _FREE:
            foreign = None
    return _make(node, foreign, layer, None if why is None else failure.unpack(why), own)


def _make(
    node: Chan[None] | None,
    foreign: AnyContext | None,
    layer: Layer,
    why: BaseException | None,
    own: object = None,
    above: Context | None = None,
) -> Context:
    ctx = object.__new__(Context)
    ctx._node = node
    ctx._foreign = foreign
    ctx._layer = layer
    ctx._parent = above
    ctx._why = why
    ctx._id = node if own is None else own
    return ctx


_count = itertools.count()


def _new_id() -> object:
    return os.getpid(), next(_count)


def _named(thing: object) -> str:
    """As Go: what has a text of its own gives it, of everything else only the type is told."""
    if isinstance(thing, str) or thing is None:
        return str(thing)
    kind = type(thing)
    if kind.__str__ is not object.__str__:
        return str(thing)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# -- roots ---------------------------------------------------------------------------------------------------

_background = _make(None, None, (None, _ROOT, "context.Background", None), None, "background")
_todo = _make(None, None, (None, _ROOT, "context.TODO", None), None, "todo")


def background() -> Context:
    """Return the context that is never done, has no deadline and no values: what others are derived from."""
    return _background


def todo() -> Context:
    """Return a context like background(), for where it is not clear yet which one to use."""
    return _todo


# -- derived contexts ----------------------------------------------------------------------------------------


class CancelFunc:
    """Cancels a context, and all derived from it, before it returns; further calls do nothing.

    It can be sent to goroutines and called in any process.
    """

    __slots__ = ("_node", "_parent")  # in this order, as in Context

    def __init__(self, node: Chan[None], parent: AnyContext | None = None) -> None:
        self._node = node
        self._parent = parent

    def __call__(self) -> None:
        _end(self._node, _CANCELED, None)

    def __reduce__(self) -> Any:
        return type(self), (self._node,)


class CancelCauseFunc(CancelFunc):
    """A CancelFunc that also says why: ``cancel(cause)``."""

    __slots__ = ()

    def __call__(self, cause: BaseException | None = None) -> None:
        """Cancel.

        Args:
            cause: what cause() of the context returns from now on; None: a Canceled.
        """
        _check_cause(cause)
        _end(self._node, _CANCELED, None if cause is None else failure.pack(cause))


class StopFunc:
    """Takes back an after_func(). It can be sent to goroutines and called in any process."""

    __slots__ = ("_node", "_parent")  # in this order, as in Context

    def __init__(self, node: Chan[None], parent: AnyContext | None = None) -> None:
        self._node = node
        self._parent = parent

    def __call__(self) -> bool:
        """Return True if this call kept the function from running; False if it runs, has run or was stopped before."""
        return _end(self._node, _STOPPED, None)

    def __reduce__(self) -> Any:
        return type(self), (self._node,)


def with_cancel(parent: AnyContext) -> tuple[Context, CancelFunc]:
    """Derive a context that is done when its cancel function is called or its parent is done.

    Args:
        parent: what it is derived from.

    Returns:
        The context, and the function that cancels it.

    Raises:
        ValueError: ``cannot create context from nil parent``.

    Cost: about 1 us, and as much for cancelling it.
    """
    node, why = _hang(parent, None, sys._getframe(1))
    return _derived(parent, node, _CANCEL, None, why), CancelFunc(node, parent)


def with_cancel_cause(parent: AnyContext) -> tuple[Context, CancelCauseFunc]:
    """As with_cancel(), with a cancel function that takes the cause: an exception for cause() to return."""
    node, why = _hang(parent, None, sys._getframe(1))
    return _derived(parent, node, _CANCEL, None, why), CancelCauseFunc(node, parent)


def with_deadline(
    parent: AnyContext, t: float, cause: BaseException | None = None
) -> tuple[Context, CancelFunc]:
    """Derive a context that is done at a certain time, unless it is earlier.

    Args:
        parent: what it is derived from. If its deadline is earlier, the result is that of with_cancel().
        t: when, in ``time.monotonic()`` seconds. A time that has passed: the context is done already.
        cause: what cause() returns if it was this deadline that ended the context; None: a DeadlineExceeded.

    Returns:
        The context, and the function that cancels it.

    Raises:
        ValueError: ``cannot create context from nil parent``, or t is NaN.
    """
    return _until(parent, check_time(t, "with_deadline()"), cause, sys._getframe(1))


def with_timeout(
    parent: AnyContext, seconds: float, cause: BaseException | None = None
) -> tuple[Context, CancelFunc]:
    """As with_deadline(), with the time counted from now."""
    return _until(parent, monotonic() + check_time(seconds, "with_timeout()"), cause, sys._getframe(1))


def with_value(parent: AnyContext, key: Any, value: Any) -> Context:
    """Derive a context in which a key has a value. For what belongs to a request, not for optional arguments.

    Args:
        parent: what it is derived from.
        key: anything hashable but None. Keys of different types differ: a class of one's own keeps out of the way.
        value: it is copied when the context is sent to another goroutine.

    Raises:
        ValueError: ``cannot create context from nil parent``, ``nil key``.
        TypeError: ``key is not comparable``.
    """
    _check_parent(parent)
    if key is None:
        raise ValueError("nil key")
    try:
        hash(key)
    except TypeError:
        raise TypeError("key is not comparable") from None
    if isinstance(parent, Context):
        layer = (parent._layer, _VALUE, key, value)
        return _make(parent._node, parent._foreign, layer, parent._why, _new_id(), parent._parent)
    return _make(None, parent, (_foreign_layer(parent), _VALUE, key, value), None, _new_id())


def without_cancel(parent: AnyContext) -> Context:
    """Derive a context with the same values that is not done when its parent is: it has no deadline and no cause.

    Raises:
        ValueError: ``cannot create context from nil parent``.
    """
    _check_parent(parent)
    below = parent._layer if isinstance(parent, Context) else _foreign_layer(parent)
    return _make(None, None, (below, _FREE, None, None), None, _new_id())


def after_func(ctx: AnyContext, f: Callable[[], Any]) -> StopFunc:
    """Run a function in its own goroutine once a context is done: at once, if it is.

    Args:
        ctx: the context.
        f: called without arguments, in this process, sharing its memory.

    Returns:
        The function that takes it back; it does not wait for f.

    Raises:
        ValueError: ``cannot create context from nil parent``.
    """
    if not callable(f):
        raise TypeError(f"after_func() takes a function, not {type(f).__name__}")
    frame = sys._getframe(1)
    node, _ = _hang(ctx, None, frame)
    if _can_end(ctx):
        # It waits rather than to be called by who cancels, because that may be any process.
        spawn_local(_wait_and_run, (node, f), {}, "context.after_func", origin(frame))
    return StopFunc(node, ctx)


def cause(ctx: AnyContext) -> BaseException | None:
    """Return why a context is done: None while it is not, the cause that was given, else the same as err()."""
    if not isinstance(ctx, Context) or ctx._node is None:
        _check_parent(ctx)
        inside = ctx.value(_SELF)
        if not isinstance(inside, Context):
            return ctx.err()
        ctx = inside
    node = ctx._node
    code = _core.context_state(node)
    if code == 0:
        return None
    packed = _core.context_cause(node)
    if packed is not None:
        return failure.unpack(packed)
    if code != _DEADLINE:
        return Canceled()
    # Only deadlines end a context without a cause of their own, and of those above only the next can have passed first.
    return DeadlineExceeded() if ctx._why is None else ctx._why


# -- how they are derived ------------------------------------------------------------------------------------


def _check_parent(parent: Any) -> None:
    if isinstance(parent, Context):
        return
    if parent is None:
        raise ValueError("cannot create context from nil parent")
    if not isinstance(parent, AnyContext):
        raise TypeError(
            f"{type(parent).__name__!r} object is not a context: it needs done, err, deadline and value"
        )


def _check_cause(cause: Any) -> None:
    if cause is not None and not isinstance(cause, BaseException):
        raise TypeError(f"the cause of a cancellation is an exception, not {type(cause).__name__}")


def _foreign_layer(ctx: AnyContext) -> Layer:
    return None, _FOREIGN, ctx, None


def _derived(parent: AnyContext, node: Chan[None], kind: str, a: Any, why: BaseException | None) -> Context:
    if isinstance(parent, Context):
        return _make(node, parent._foreign, (parent._layer, kind, a, None), why, None, parent)
    return _make(node, parent, (_foreign_layer(parent), kind, a, None), why)


def _until(
    parent: AnyContext, t: float, cause: BaseException | None, frame: FrameType
) -> tuple[Context, CancelFunc]:
    _check_parent(parent)
    _check_cause(cause)
    earlier = parent.deadline()
    if t >= _NEVER or (earlier is not None and earlier < t):
        node, why = _hang(parent, None, frame)
        return _derived(parent, node, _CANCEL, None, why), CancelFunc(node, parent)
    t = max(float(t), 0.0)  # all that is past is the same
    node, _ = _hang(parent, t, frame)
    if t <= monotonic():
        _core.context_state(node)  # acts on the deadline: whoever looks at the channel finds it closed
    return _derived(parent, node, _UNTIL, t, cause), CancelFunc(node, parent)


def _new_node(parent: Chan[None] | None, until: float | None) -> Chan[None]:
    _core.ensure()
    return _core.context_new(parent, until)  # type: ignore[no-any-return]


def _hang(
    parent: AnyContext, until: float | None, frame: FrameType
) -> tuple[Chan[None], BaseException | None]:
    """Make a node that ends when a context does; return it and what is the cause if that is by a deadline."""
    _check_parent(parent)
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
    """The context of this module that is done exactly when ``ctx`` is, if there is one."""
    if isinstance(ctx, Context) and (ctx._node is not None or ctx._foreign is None):
        return ctx
    inside = ctx.value(_SELF)
    if isinstance(inside, Context) and inside.done() == ctx.done():
        return inside
    return None


def _can_end(ctx: AnyContext) -> bool:
    done = ctx.done()
    return done is not None and done != nil


def _follow(foreign: AnyContext, node: Chan[None]) -> None:
    """A context of another class has ended: so does the node that hangs on it."""
    _stops.pop(node, None)
    by_time = isinstance(foreign.err(), TimeoutError)
    why = cause(foreign)
    _core.context_cancel(
        node, _DEADLINE if by_time else _CANCELED, failure.pack(why) if why is not None else None
    )


def _watch(foreign: AnyContext, done: Chan[Any], node: Chan[None]) -> None:
    from goproc import select

    if select(done, node).index == 0:
        _follow(foreign, node)


def _wait_and_run(node: Chan[None], f: Callable[[], Any]) -> None:
    node.recv_ok()
    if _core.context_state(node) != _STOPPED:
        f()


def _end(node: Chan[None], code: int, packed: object) -> bool:
    first = _core.context_cancel(node, code, packed)
    stop = _stops.pop(node, None)
    if stop is not None:
        stop()
    return first


# Registrations with after_func methods of other classes: to be taken back when the node ends first. Other processes
# cannot, and a deadline calls nobody, so what has ended by itself is dropped when there is twice as much as before.
_stops: dict[Chan[None], Callable[[], Any]] = {}
_stops_full = 64


def _keep(node: Chan[None], stop: Callable[[], Any]) -> None:
    global _stops_full
    _stops[node] = stop
    if _core.context_state(node):  # it ended while it was registered, or by its deadline
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
