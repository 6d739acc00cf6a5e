"""The class Context, its chain of layers, and the way in which it is sent."""

from __future__ import annotations

import itertools
import os
from time import monotonic
from typing import Any, Protocol, runtime_checkable

from goproc._channel import nil
from goproc._pickling import failure
from goproc._tracebacks import ends_at_user
from goproc.errors import Canceled, DeadlineExceeded
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._channel import Chan, RecvChan

    # (the layer below or None, kind, subject, value); the kind tells the meaning of the subject, and only VALUE has a
    # value. A plain tuple: a record of a class of its own would cost a tenth more at each derived context.
    Layer = tuple[Any, str, Any, Any]

# How a node ended. The core gives the first two itself.
CANCELED, DEADLINE, STOPPED = _core.CANCELED, _core.DEADLINE, 3


# Kinds of layers, and their subjects.
ROOT = "root"  # the name
FOREIGN = "foreign"  # a context of the user's own class
CANCEL = "cancel"
UNTIL = "until"  # the deadline
VALUE = "value"  # the key
FREE = "free"  # without_cancel


@runtime_checkable
class AnyContext(Protocol):
    """The methods of every context, also of a class that is not goproc's."""

    def done(self) -> Any:
        """Return the channel that is closed when the context ends; nil if it never does."""

    def err(self) -> BaseException | None:
        """None while the context is live, else the reason of its end."""

    def deadline(self) -> float | None:
        """When it ends at the latest, in ``time.monotonic()`` seconds."""

    def value(self, key: Any) -> Any:
        """Return the value stored under a key, None if there is none."""


class _Self:
    """As a key, has value() give the context of this module that an object wraps."""


SELF = _Self()


class Context:
    """A context, as Go's `context.Context`; made by background() and the with_ functions.

    A context can be passed to goroutines and sent over channels: it refers to the shared node, and the values are
    copied. It equals every other handle of the same context, and has the same hash. As a case for select() it is ready
    when it is done.
    """

    # When a context goes, its slots go in the order of their names. A node that goes before its parent's is freed at
    # once; otherwise it waits for the collector. So the slots that hold the nodes above come after `_node` and `_id`.
    __slots__ = ("__weakref__", "_foreign", "_id", "_layer", "_node", "_parent", "_why")

    _node: Chan[None] | None  # of the cancellation tree; None: never done, or as _foreign is
    _foreign: AnyContext | None  # the next one of another class, going up; without_cancel() hides it
    _layer: Layer
    _id: object  # the node if it is this context's own, else a number
    _parent: Context | None  # the context with the node above; only where this one was derived
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
            return DeadlineExceeded() if code == DEADLINE else Canceled()
        return None if self._foreign is None else self._foreign.err()

    def deadline(self) -> float | None:
        """Return when it ends at the latest, in ``time.monotonic()`` seconds; None if there is no deadline."""
        when = None if self._node is None else _core.context_deadline(self._node)
        if when is None and self._foreign is not None:
            return self._foreign.deadline()
        return when

    def value(self, key: Any) -> Any:
        """Return the value stored by with_value() under a key of the same type that is equal, else None.

        Args:
            key: as given to with_value().

        Cost: a look at each context above this one, up to where the key is.
        """
        if key is SELF:
            if self._node is not None:
                return self
            return None if self._foreign is None else self._foreign.value(key)
        type_of_key = type(key)
        layer: Any = self._layer
        while layer is not None:
            below, kind, subject, value = layer
            if kind == VALUE:
                if type(subject) is type_of_key and subject == key:
                    return value
            elif kind == FOREIGN:
                return subject.value(key)
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
            below, kind, subject, value = layer
            if kind == VALUE:
                names.append(f"WithValue({_named(subject)}, {_named(value)})")
            elif kind == UNTIL:
                names.append(f"WithDeadline({subject:.3f} [{subject - monotonic():.3f}s])")
            elif kind == CANCEL:
                names.append("WithCancel")
            elif kind == FREE:
                names.append("WithoutCancel")
            else:
                names.append(_named(subject))
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
    for kind, subject, value in layers:
        layer = (layer, kind, subject, value)
        if kind == FOREIGN:
            foreign = subject
        elif kind == FREE:
            foreign = None
    return make(node, foreign, layer, None if why is None else failure.unpack(why), own)


def make(
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


def new_id() -> object:
    return os.getpid(), next(_count)


def _named(thing: object) -> str:
    """Describe a value as Go does: by its own text if it has one, else by its type."""
    if isinstance(thing, str) or thing is None:
        return str(thing)
    kind = type(thing)
    if kind.__str__ is not object.__str__:
        return str(thing)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def check_parent(parent: Any) -> None:
    if isinstance(parent, Context):
        return
    if parent is None:
        raise ValueError("cannot create context from nil parent")
    if not isinstance(parent, AnyContext):
        raise TypeError(
            f"{type(parent).__name__!r} object is not a context: it needs done, err, deadline and value"
        )


def check_cause(cause: Any) -> None:
    if cause is not None and not isinstance(cause, BaseException):
        raise TypeError(f"the cause of a cancellation is an exception, not {type(cause).__name__}")


def foreign_layer(ctx: AnyContext) -> Layer:
    return None, FOREIGN, ctx, None


def derived(
    parent: AnyContext, node: Chan[None], kind: str, subject: Any, why: BaseException | None
) -> Context:
    if isinstance(parent, Context):
        return make(node, parent._foreign, (parent._layer, kind, subject, None), why, None, parent)
    return make(node, parent, (foreign_layer(parent), kind, subject, None), why)


@ends_at_user
def cause(ctx: AnyContext) -> BaseException | None:
    """Return the reason why a context is done: the cause that was given, else the same as err().

    Args:
        ctx: the context.

    Returns:
        The cause; None while the context is not done.
    """
    if not isinstance(ctx, Context) or ctx._node is None:
        check_parent(ctx)
        inside = ctx.value(SELF)
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
    if code != DEADLINE:
        return Canceled()
    # No cause is recorded: the nearest deadline above ended the context, and `_why` is the cause given to that
    # deadline.
    return DeadlineExceeded() if ctx._why is None else ctx._why


for _name in (AnyContext, Context, cause):
    _name.__module__ = "goproc.context"
