"""An exception with all exceptions that it leads to: causes, contexts, members of groups, arguments, attributes.

Each of them is a node with a number, pickled by itself. An exception inside the pickle of another one is sent as a
number, so that cycles and shared exceptions arrive as they were, and one that cannot be pickled harms no other.

The sender calls no constructor. Where a pickle holds more than builtins the sender loads it once, since what cannot be
loaded must not surprise the reader. An exception whose class pickles itself is not loaded: making it may have effects.
It is sent in both ways, and the reader takes the second if the first fails.
"""

from __future__ import annotations

import io
import pickle
from typing import NamedTuple

from goproc.errors import RemoteError
from goproc.pickling import exceptions
from goproc.pickling.exceptions import State, cause_of, context_of, dict_of, quietly, suppress_of
from goproc.pickling.messages import dump_in_band
from goproc.pickling.pickler import Pickler, Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

MOST = 1000  # nodes of one failure: the links of others are dropped


class Told(NamedTuple):
    """What a reader can be told of an exception that it cannot have."""

    name: str  # of the type
    text: str
    frames: str


class Remains(NamedTuple):
    """The parts of an exception that can be pickled, and the names of the others."""

    reason: str
    args: tuple[bytes | None, ...]
    attributes: dict[str, bytes]


class Node(NamedTuple):
    """One exception. Travels as a plain tuple of builtins, as all records of this file do."""

    plain: BaseException | None = None  # one that pickle itself copies right
    kind: bytes = b""
    call: bytes | None = None  # arguments for its class's own __new__
    state: bytes | None = None
    own: bytes | None = None  # the pickle that the class makes
    notes: tuple[str, ...] = ()  # of one that pickles itself
    message: str = ""
    members: tuple[int, ...] | None = None
    remains: tuple[Any, ...] | None = None
    cause: int | None = None
    context: int | None = None
    suppress: bool = False
    told: tuple[str, ...] | None = None


# -- The sender -------------------------------------------------------------------------------------------------------


class Nodes:
    """Numbers exceptions, and pickles them."""

    def __init__(self, tell: Callable[[BaseException], Told]) -> None:
        self._tell = tell
        self._nodes: list[BaseException] = []
        self._numbers: dict[int, int] = {}
        self._told = 0

    def number(self, exc: BaseException) -> int:
        """Return the number of an exception, a new one if it has none."""
        number = self._numbers.get(id(exc))
        if number is None:
            number = self._numbers[id(exc)] = len(self._nodes)
            self._nodes.append(exc)
        return number

    def told(self) -> None:
        """Note that the reader is told otherwise of all exceptions numbered so far."""
        self._told = len(self._nodes)

    def pickle(self) -> bytes:
        """Return the pickle of all nodes. Those found on the way get the numbers that follow."""
        if len(self._nodes) == 1:
            exc = self._nodes[0]
            if not exceptions.is_linked(exc) and exceptions.is_plain(exc):
                return pickle.dumps(exc, 5)
        records = []
        for number, exc in enumerate(self._nodes):  # grows while it is read
            records.append(tuple(self._node(number, exc)))
        return pickle.dumps(records, 5)

    def _node(self, number: int, exc: BaseException) -> Node:
        suppress = suppress_of.__get__(exc)
        node = Node(cause=self._link(cause_of.__get__(exc)), context=self._link(context_of.__get__(exc)))
        if number >= self._told:
            node = node._replace(told=tuple(self._tell(exc)))
        return self._body(node, exc)._replace(suppress=suppress)

    def _link(self, exc: BaseException | None) -> int | None:
        if exc is None or (len(self._nodes) >= MOST and id(exc) not in self._numbers):
            return None
        return self.number(exc)

    def _body(self, node: Node, exc: BaseException) -> Node:
        if exceptions.is_plain(exc):
            return node._replace(plain=exc)
        if issubclass(type(exc), BaseExceptionGroup):
            members = tuple([self.number(member) for member in exceptions.members_of(exc)])
            node = node._replace(members=members, message=str.__str__(exceptions.message_of(exc)))
        shape = exceptions.shape_of(type(exc))
        itself = exceptions.pickles_itself(exc)
        own = self._own(exc) if itself and shape.fits else None
        kind = quietly(dump_in_band, type(exc))
        call = None if kind is None else self._try(quietly(exceptions.call_of, exc))
        state = None if kind is None else self._state(exc)
        if state is None and itself and own is None:
            own = self._own(exc)
        if state is None and own is None:
            return node._replace(remains=tuple(self._remains(exc, kind is not None)))
        return node._replace(
            kind=kind or b"", call=call, state=state, own=own, notes=_notes(exc) if own else ()
        )

    def _state(self, exc: BaseException) -> bytes | None:
        state = quietly(exceptions.state_of, exc)
        return None if state is None else self._try(tuple(state))

    def _own(self, exc: BaseException) -> bytes | None:
        """Return the pickle that the class of an exception makes, None if it fails. The reader finds out if it loads."""
        made: tuple[bytes, bool] | None = quietly(self._dump, exc, exc)
        return None if made is None else made[0]

    def _try(self, value: Any) -> bytes | None:
        """Return the pickle of a value, None if it cannot be pickled or not be loaded."""
        blob: bytes | None = None if value is None else quietly(self._verified, value)
        return blob

    def _verified(self, value: Any) -> bytes:
        blob, foreign = self._dump(value, None)
        if foreign:
            _Unpickler(blob, self._nodes.__getitem__).load()
        return blob

    def _dump(self, value: Any, root: BaseException | None) -> tuple[bytes, bool]:
        sink = Sink()
        made = _NodePickler(sink, self, root)
        made.dump(value)
        return b"".join(sink), made.foreign

    def _remains(self, exc: BaseException, has_class: bool) -> Remains:
        """Return what can be pickled of an exception that as a whole cannot."""
        missing: list[str] = []
        if not has_class:
            missing.append(_describe("its class", type(exc)))
        args = []
        for place, value in enumerate(exceptions.args_of.__get__(exc)):
            args.append(self._part(f"args[{place}]", value, missing))
        attributes = {}
        for name, value in _attributes(exc):
            blob = self._part(f"attribute {name!r}", value, missing)
            if blob is not None:
                attributes[name] = blob
        return Remains(_listed(missing), tuple(args), attributes)

    def _part(self, title: str, value: Any, missing: list[str]) -> bytes | None:
        blob = dump_in_band(None) if value is None else self._try(value)
        if blob is None:
            missing.append(_describe(title, value))
        return blob


class _NodePickler(Pickler):
    """Pickles a part of an exception, and other exceptions inside as their numbers."""

    def __init__(self, sink: Sink, nodes: Nodes, root: BaseException | None) -> None:
        super().__init__(sink, 5)
        self._nodes = nodes
        self._root = root  # the exception that is pickled in the way of its class
        self.foreign = False  # there is more than builtins, exceptions and classes in it

    def reducer_override(self, obj: Any) -> Any:
        if issubclass(type(obj), BaseException):
            if self._root is not None and obj is self._root:
                return exceptions.reduce_by_class(self, self._root)
            if len(self._nodes._nodes) >= MOST and id(obj) not in self._nodes._numbers:
                raise pickle.PicklingError("too many exceptions in one")
            return node_of, (self._nodes.number(obj),)
        if not isinstance(obj, type):
            self.foreign = True
        return super().reducer_override(obj)


def node_of(number: int) -> BaseException:
    """Stand for an exception inside the pickle of another one. `_Unpickler` puts its own function in the place."""
    raise pickle.UnpicklingError("an exception outside of a failure")


def _notes(exc: BaseException) -> tuple[str, ...]:
    notes = dict_of(exc).get("__notes__")
    return (
        tuple([str.__str__(note) for note in notes if isinstance(note, str)])
        if isinstance(notes, list)
        else ()
    )


def _attributes(exc: BaseException) -> Iterable[tuple[str, Any]]:
    """Yield the attributes by name: slots, C members and those of the `__dict__`."""
    for member in exceptions.shape_of(type(exc)).members:
        value = exceptions.member_value(exc, *member)
        if value is not exceptions.ABSENT:
            yield member[1], value
    yield from ((name, value) for name, value in list(dict_of(exc).items()) if name != "__notes__")


_LISTED = 8


def _listed(missing: list[str]) -> str:
    if not missing:
        return "it cannot be pickled"
    rest = len(missing) - _LISTED
    listed = missing[:_LISTED] + ([f"{rest} more"] if rest > 0 else [])
    return (
        f"{', '.join(listed[:-1])} and {listed[-1]} cannot be pickled"
        if listed[1:]
        else f"{listed[0]} cannot be pickled"
    )


def _describe(title: str, value: Any) -> str:
    """Name a part that cannot be pickled, with the way to the innermost object that is the reason."""
    from goproc.pickling import diagnose

    found = quietly(diagnose.descend, value)
    path, culprit = found if found is not None else ([], value)
    kind = type(culprit)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{' -> '.join([title, *path])} ({'an' if name[0] in 'aeiouAEIOU' else 'a'} {name})"


# -- The receiver -----------------------------------------------------------------------------------------------------


class _Unpickler(pickle.Unpickler):
    def __init__(self, blob: bytes, node: Callable[[int], BaseException]) -> None:
        super().__init__(io.BytesIO(blob))
        self._node = node

    def find_class(self, module: str, name: str) -> Any:
        if name == "node_of" and module == __name__:
            return self._node
        return super().find_class(module, name)


class _Broken(Exception):
    """A node cannot be made here."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def load(blob: bytes, told: dict[int, Told]) -> list[BaseException]:
    """Return the exceptions of a pickle made by `Nodes`, linked.

    Args:
        blob: the pickle.
        told: by number, what is known of some. What the pickle tells of the others is added.

    An exception that this process cannot make, for want of a module that only the sender can import, is a
    `RemoteError`.
    """
    records = pickle.loads(blob)
    if isinstance(records, BaseException):
        return [records]
    nodes = [Node(*record) for record in records]
    told.update({number: Told(*node.told) for number, node in enumerate(nodes) if node.told is not None})
    broken: set[int] = set()
    while True:
        try:
            return _Reader(nodes, told, broken).read()
        except _Broken as error:
            broken.add(error.number)  # others may hold the exception already: all are made anew


class _Reader:
    """Makes the exceptions of one failure. First they are made, then they get their state, since that may have cycles."""

    def __init__(self, nodes: list[Node], told: dict[int, Told], broken: set[int]) -> None:
        self._nodes = nodes
        self._told = told
        self._broken = broken
        self._made: dict[int, BaseException] = {}
        self._making: set[int] = set()
        self._whole: set[int] = set()  # those that need no state, or are about to get it

    def read(self) -> list[BaseException]:
        found = [self._get(number) for number in range(len(self._nodes))]
        for exc, node in zip(found, self._nodes, strict=True):
            exceptions.link(
                exc,
                None if node.cause is None else found[node.cause],
                None if node.context is None else found[node.context],
                node.suppress,
            )
        return found

    def _get(self, number: int) -> BaseException:
        exc = self._make(number)
        if number not in self._whole:
            self._whole.add(number)
            try:
                exceptions.fill(exc, State(*self._load(self._nodes[number].state)))
            except (_Broken, KeyboardInterrupt):
                raise
            except BaseException:
                raise _Broken(number) from None
        return exc

    def _make(self, number: int) -> BaseException:
        exc = self._made.get(number)
        if exc is None:
            if number in self._making:
                raise pickle.UnpicklingError("an exception that is made from itself")
            self._making.add(number)
            try:
                exc = self._made[number] = self._new(number, self._nodes[number])
            except (_Broken, KeyboardInterrupt):
                raise
            except BaseException:
                raise _Broken(number) from None
            finally:
                self._making.discard(number)
        return exc

    def _new(self, number: int, node: Node) -> BaseException:
        if node.plain is not None:
            self._whole.add(number)
            return node.plain
        if node.remains is not None or number in self._broken:
            self._whole.add(number)
            return self._stand_in(number, node)
        if node.own is not None:
            exc = self._by_class(number, node)
            if exc is not None:
                return exc
        cls = pickle.loads(node.kind)
        if node.members is not None:
            return exceptions.make_group(cls, node.message, [self._make(member) for member in node.members])
        return exceptions.make(cls, None if node.call is None else quietly(self._load, node.call))

    def _by_class(self, number: int, node: Node) -> BaseException | None:
        """Return what the pickle of the class makes; None if it fails or makes something else, and there is a state."""
        exc = quietly(self._load, node.own)
        if not isinstance(exc, BaseException):
            return None
        if node.state is not None and type(exc) is not pickle.loads(node.kind):
            return None
        self._whole.add(number)
        dict_of(exc).pop("__notes__", None)
        if node.notes:
            dict_of(exc)["__notes__"] = list(node.notes)
        return exc

    def _load(self, blob: bytes | None) -> Any:
        assert blob is not None
        return _Unpickler(blob, self._get).load()

    def _stand_in(self, number: int, node: Node) -> BaseException:
        told = self._told[number]
        remains = Remains(*node.remains) if node.remains is not None else Remains("", (), {})
        arguments = tuple([None if blob is None else self._lenient(blob) for blob in remains.args])
        attributes = {name: self._lenient(blob) for name, blob in remains.attributes.items()}
        if node.members is None:
            return RemoteError(*told, remains.reason, arguments, attributes)
        group = BaseExceptionGroup(node.message, [self._make(member) for member in node.members])
        dict_of(group).update(attributes)
        if remains.reason:
            group.add_note(f"This was a {told.name}: {remains.reason}")
        return group

    def _lenient(self, blob: bytes) -> Any:
        return quietly(self._load, blob)
