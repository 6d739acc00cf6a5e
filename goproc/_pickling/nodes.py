"""An exception with all exceptions that it leads to: causes, contexts, members of groups, arguments, attributes.

Each of them is a node with a number, and is pickled by itself. Inside the pickle of another node an exception is sent
as its number. So cycles and shared exceptions arrive as they were, and an exception that cannot be pickled harms no
other.

The sender calls no constructor. If a pickle holds more than builtins, the sender loads it once, so that a pickle that
cannot be loaded does not surprise the reader. An exception whose class pickles itself is not loaded, as that may have
effects: it is sent in both ways, and the reader takes the second if the first fails.
"""

from __future__ import annotations

import io
import pickle
from types import FunctionType

from goproc._pickling import classes, exceptions, functions
from goproc._pickling.exceptions import cause_of, context_of, dict_of, quietly, suppress_of
from goproc._pickling.messages import dump_in_band
from goproc._pickling.pickler import Pickler, Sink, try_cloudpickle
from goproc._pickling.sent_exceptions import reduce_by_rule
from goproc._pickling.statics import is_handle
from goproc._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MOST = 1000  # nodes of one failure; links to further exceptions are dropped


class Facts(Record):
    """The facts that a reader gets of an exception that cannot be made there."""

    name: str  # the name of the type
    text: str
    frames: str


class Remains(Record):
    """The parts of an exception that can be pickled, the names of the others, and the names of its type and bases."""

    reason: str
    args: tuple[bytes | None, ...]
    attributes: dict[str, bytes]
    kinds: tuple[str, ...] = ()


class Node(Record):
    """One exception. It travels as a plain tuple of builtins, as all records of this file do."""

    plain: BaseException | None = None  # an exception that pickle itself copies right
    kind: bytes = b""
    call: bytes | None = None  # the arguments for its class's own __new__
    states: list[bytes] | None = None  # one after the other is tried, as a __setstate__ may fail
    own: bytes | None = None  # the pickle that the class itself makes
    notes: tuple[str, ...] = ()  # the notes of an exception that pickles itself
    message: str = ""
    members: tuple[int, ...] | None = None
    remains: tuple[Any, ...] | None = None
    cause: int | None = None
    context: int | None = None
    suppress: bool = False
    facts: tuple[str, ...] | None = None


class Nodes:
    """Numbers exceptions, and pickles them."""

    def __init__(self, facts_of: Callable[[BaseException], Facts]) -> None:
        self._facts_of = facts_of
        self._nodes: list[BaseException] = []
        self._numbers: dict[int, int] = {}
        self._known = 0  # the reader gets the facts of as many exceptions in another way
        self.handles: list[Any] = []  # the handles that the exceptions hold, by their numbers in the pickle

    def number(self, exc: BaseException) -> int:
        """Return the number of an exception; give it a new one if it has none."""
        number = self._numbers.get(id(exc))
        if number is None:
            number = self._numbers[id(exc)] = len(self._nodes)
            self._nodes.append(exc)
        return number

    def leave_out_facts(self) -> None:
        """Leave out the facts of all exceptions numbered so far: the reader gets them in another way."""
        self._known = len(self._nodes)

    def pickle(self) -> bytes:
        """Return the pickle of all nodes. Exceptions that are found on the way get the next numbers."""
        if len(self._nodes) == 1:
            exc = self._nodes[0]
            blob = None if exceptions.is_linked(exc) else self._alone(exc)
            if blob is not None:
                return blob
        records = []
        for number, exc in enumerate(self._nodes):  # the list grows meanwhile
            records.append(tuple(self._node(number, exc)))
        return pickle.dumps(records, 5)

    def _alone(self, exc: BaseException) -> bytes | None:
        """Return the pickle of an exception without links that holds builtins alone, else None."""
        if exceptions.is_plain(exc):
            return pickle.dumps(exc, 5)
        if exceptions.pickles_itself(exc) or exceptions.has_own_state(exc):
            return None
        return quietly(self._dump_alone, exc)  # type: ignore[no-any-return]

    def _dump_alone(self, exc: BaseException) -> bytes | None:
        sink = Sink()
        made = _NodePickler(sink, self, exc, by_class=False)
        made.dump(exc)
        if made.foreign or len(self._nodes) > 1:
            self.handles.clear()
            return None
        return b"".join(sink)

    def _node(self, number: int, exc: BaseException) -> Node:
        return Node(
            **self._body(exc),
            cause=self._link(cause_of.__get__(exc)),
            context=self._link(context_of.__get__(exc)),
            suppress=suppress_of.__get__(exc),
            facts=tuple(self._facts_of(exc)) if number >= self._known else None,
        )

    def _link(self, exc: BaseException | None) -> int | None:
        if exc is None or (len(self._nodes) >= MOST and id(exc) not in self._numbers):
            return None
        return self.number(exc)

    def _body(self, exc: BaseException) -> dict[str, Any]:
        """Return the fields of a node that tell how to make the exception."""
        if exceptions.is_plain(exc):
            return {"plain": exc}
        body: dict[str, Any] = {}
        if issubclass(type(exc), BaseExceptionGroup):
            body["message"] = str.__str__(exceptions.message_of(exc))
            body["members"] = tuple([self.number(member) for member in exceptions.members_of(exc)])
        by_rule = self._by_rule(exc)
        by_class = None
        if exceptions.pickles_itself(exc) and (by_rule is None or exceptions.shape_of(type(exc)).fits):
            by_class = self._by_class(exc)
        if by_rule is None and by_class is None:
            return {**body, "remains": tuple(self._remains(exc))}
        return {**body, **(by_rule or {}), **(by_class or {})}

    def _by_rule(self, exc: BaseException) -> dict[str, Any] | None:
        kind = quietly(_class, type(exc))
        states = [] if kind is None else self._states(exc)
        if not states:
            return None
        call = quietly(exceptions.call_of, exc)
        return {"kind": kind, "states": states, "call": None if call is None else self._try(call)}

    def _by_class(self, exc: BaseException) -> dict[str, Any] | None:
        """Pickle an exception in the way of its class. Only the reader finds out whether that can be loaded."""
        made = quietly(self._dump, exc, exc)
        return None if made is None else {"own": made[0], "notes": _notes(exc)}

    def _states(self, exc: BaseException) -> list[bytes]:
        """Return the pickled states, the best one first."""
        states = []
        for own in (True, False) if exceptions.has_own_state(exc) else (False,):
            state = quietly(exceptions.state_of, exc, own)
            blob = None if state is None else self._try(tuple(state))
            if blob is not None:
                states.append(blob)
        return states

    def _try(self, value: Any) -> bytes | None:
        """Return the pickle of a value; None if the value cannot be pickled or loaded."""
        blob: bytes | None = quietly(self._verified, value)
        return blob

    def _verified(self, value: Any) -> bytes:
        blob, foreign = self._dump(value, None)
        if foreign:
            NodeUnpickler(blob, self._nodes.__getitem__, self.handles.__getitem__).load()
        return blob

    def _dump(self, value: Any, root: BaseException | None) -> tuple[bytes, bool]:
        try:
            return self._dump_once(value, root)
        except (RecursionError, MemoryError):
            raise
        except Exception:  # once more with the steps that wait until a pickle fails: see messages.dumps
            try_cloudpickle()
            functions.known_importable.clear()
            classes.forget_importable()
            return self._dump_once(value, root)

    def _dump_once(self, value: Any, root: BaseException | None) -> tuple[bytes, bool]:
        sink = Sink()
        made = _NodePickler(sink, self, root)
        made.dump(value)
        return b"".join(sink), made.foreign

    def _remains(self, exc: BaseException) -> Remains:
        """Return the parts that can be pickled of an exception that as a whole cannot."""
        missing: list[str] = []
        if self._try(type(exc)) is None:
            missing.append(_describe("its class", type(exc)))
        args = []
        for place, value in enumerate(exceptions.args_of.__get__(exc)):
            args.append(self._part(f"args[{place}]", value, missing))
        attributes = {}
        for name, value in exceptions.attributes_of(exc):
            blob = self._part(f"attribute {name!r}", value, missing)
            if blob is not None:
                attributes[name] = blob
        return Remains(_listed(missing), tuple(args), attributes, kinds_of(type(exc)))

    def _part(self, title: str, value: Any, missing: list[str]) -> bytes | None:
        blob = self._try(value)
        if blob is None:
            # The search for the reason may take long, so only so many are listed.
            missing.append(_describe(title, value) if len(missing) < _LISTED else title)
        return blob


def kinds_of(kind: type[BaseException]) -> tuple[str, ...]:
    """Return the full names of a type of exceptions and of its bases."""
    bases = type.__dict__["__mro__"].__get__(kind)
    return tuple([name for base in bases[:-2] if (name := quietly(_full_name, base)) is not None])


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


class _NodePickler(Pickler):
    """Pickles a part of an exception, and other exceptions inside as their numbers."""

    def __init__(self, sink: Sink, nodes: Nodes, root: BaseException | None, by_class: bool = True) -> None:
        super().__init__(sink, 5)
        self._nodes = nodes
        self._root = root  # the exception that is pickled itself, in the way of its class or by the rule
        self._by_class = by_class
        # True if it holds more than builtins, exceptions, and classes and functions of modules
        self.foreign = False

    def reducer_override(self, obj: Any) -> Any:
        if issubclass(type(obj), BaseException):
            if self._root is not None and obj is self._root:
                return self._reduce_root(self._root)
            if len(self._nodes._nodes) >= MOST and id(obj) not in self._nodes._numbers:
                raise pickle.PicklingError("too many exceptions in one")
            return node_of, (self._nodes.number(obj),)
        if is_handle(type(obj)):
            self.foreign = True
            self._nodes.handles.append(obj)
            return handle_of, (len(self._nodes.handles) - 1,)
        reduced = super().reducer_override(obj)
        if not isinstance(obj, type) and not (type(obj) is FunctionType and reduced is NotImplemented):
            self.foreign = True
        return reduced

    def _reduce_root(self, exc: BaseException) -> Any:
        return exceptions.reduce_by_class(self, exc) if self._by_class else reduce_by_rule(exc, None)


def node_of(number: int) -> BaseException:
    """Stand for an exception inside the pickle of another one. `NodeUnpickler` calls its own function instead."""
    raise pickle.UnpicklingError("an exception outside of a failure")


def handle_of(number: int) -> Any:
    """Stand for a channel or another handle inside the pickle of an exception."""
    raise pickle.UnpicklingError("a handle outside of a failure")


def _class(cls: type[BaseException]) -> bytes:
    """Return the pickle of a class. It is no node, since its attributes may hold exceptions of that class."""
    blob = dump_in_band(cls)
    pickle.loads(blob)
    return blob


class NodeUnpickler(pickle.Unpickler):
    """Loads a part of an exception; the exceptions and handles in it come from functions that take their numbers."""

    def __init__(
        self, blob: bytes, node: Callable[[int], BaseException], handle: Callable[[int], Any]
    ) -> None:
        super().__init__(io.BytesIO(blob))
        self._own = {"node_of": node, "handle_of": handle}

    def find_class(self, module: str, name: str) -> Any:
        if module == __name__ and name in self._own:
            return self._own[name]
        return super().find_class(module, name)


def _notes(exc: BaseException) -> tuple[str, ...]:
    """Return the notes that are strings, for a reader that may have to make the exception without them."""
    notes = dict_of(exc).get("__notes__")
    if not isinstance(notes, list):
        return ()
    return tuple([str.__str__(note) for note in notes if isinstance(note, str)])


_LISTED = 8


def _listed(missing: list[str]) -> str:
    if not missing:
        return "it cannot be pickled"
    listed, rest = missing[:_LISTED], len(missing) - _LISTED
    if rest > 0:
        listed.append(f"{rest} more")
    names = f"{', '.join(listed[:-1])} and {listed[-1]}" if listed[1:] else listed[0]
    return f"{names} cannot be pickled"


def _describe(title: str, value: Any) -> str:
    """Describe a part that cannot be pickled, with the path to the innermost object that is the reason."""
    from goproc._pickling import diagnose

    found = quietly(diagnose.descend, value)
    path, culprit = found if found is not None else ([], value)
    kind = type(culprit)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{' -> '.join([title, *path])} ({'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name})"
