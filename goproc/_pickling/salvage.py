"""Lists of which each value is read by itself: one that cannot be read does not take the others along.

A message with such a list that cannot be read as a whole is read again, step by step. An object that cannot be made has
an Unread in its place. Where maps or flows run, any other message that cannot be read is read again as well, to learn
which part of it is to blame. That takes about a second for 1 MiB of small objects, so it has a time limit.
"""

from __future__ import annotations

import io
import pickle
from functools import partial
from math import inf
from time import thread_time
from types import BuiltinFunctionType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, ClassVar, NamedTuple

from goproc._raised import OF_OBJECTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Load = Callable[["_Reader"], None]

Path = tuple[str, ...]


class Parts(list[Any]):
    """A list that arrives with an Unread in the place of each value that cannot be read."""

    __slots__ = ()


class Unread:
    """Stands for an object that could not be made. It takes all that pickle would do to the object.

    Attributes:
        error: the exception that the attempt has raised.
        path: the labels that lead from the object to the part that is to blame.
    """

    def __init__(self, error: BaseException, path: Path = ()) -> None:
        self.error = error
        self.path = path

    def __setstate__(self, state: Any) -> None: ...
    def __setitem__(self, key: Any, value: Any) -> None: ...
    def append(self, value: Any) -> None: ...
    def extend(self, values: Any) -> None: ...
    def add(self, value: Any) -> None: ...


_Base: Any = pickle._Unpickler


class _Reader(_Base):  # type: ignore[misc]
    """The Unpickler of the library, in which a step that fails leaves an Unread. It is written in Python, and slow."""

    dispatch: ClassVar[dict[int, Load]] = dict(_Base.dispatch)
    until = inf  # of this thread's CPU time: when the reader gives up

    def replace(self, taken: list[Any], unread: Unread) -> None:
        """Push an Unread, which takes the place of the first of the objects that a step took from the stack."""
        self.stack.append(unread)
        for number, known in self.memo.items() if taken else ():
            if known is taken[0]:
                self.memo[number] = unread


def _guarded(load: Load, operands: int) -> Load:
    """Return a step of the reader that does not fail.

    Args:
        load: the step. It puts one object in the place of its operands.
        operands: how many objects it takes from the stack.
    """

    def step(reader: _Reader) -> None:
        stack = reader.stack
        below = len(stack) - operands
        taken = stack[below:]
        unread = _unread_operand(taken)
        if unread is None:
            try:
                load(reader)
                return
            except OF_OBJECTS as error:
                unread = Unread(error)
        del stack[below:]
        reader.replace(taken if load is _Base.load_build else [], unread)

    return step


def _guarded_filling(load: Load) -> Load:
    """Return a step of the reader that puts objects into the one below them, and does not fail."""

    def step(reader: _Reader) -> None:
        try:
            load(reader)
        except OF_OBJECTS as error:
            reader.replace([reader.stack.pop()], Unread(error))

    return step


def _unread_operand(operands: list[Any]) -> Unread | None:
    """Return an Unread for the object of a step that has an operand, or an argument among them, which could not be made."""
    for operand in operands:
        if type(operand) is Unread:
            return Unread(operand.error, operand.path)
        for number, part in enumerate(operand if type(operand) is tuple else (), 1):
            if type(part) is Unread:
                made = getattr(operands[0], "__qualname__", type(operands[0]).__qualname__)
                return Unread(part.error, (f"argument {number} of {made}", *part.path))
    return None


class _TooLong(Exception):
    """The time of a reader is over."""


def _load_frame(reader: _Reader) -> None:
    """Read the next frame of the pickle, of about 64 KiB, if there is time for that."""
    if thread_time() > reader.until:
        raise _TooLong
    _Base.load_frame(reader)


_Reader.dispatch[pickle.FRAME[0]] = _load_frame

# The steps that call functions of the message, with the number of their operands.
for _code, _operands in (
    (pickle.REDUCE, 2),
    (pickle.NEWOBJ, 2),
    (pickle.NEWOBJ_EX, 3),
    (pickle.BUILD, 2),
    (pickle.STACK_GLOBAL, 2),
    (pickle.BINPERSID, 1),
):
    _Reader.dispatch[_code[0]] = _guarded(_Base.dispatch[_code[0]], _operands)
for _code in (pickle.APPENDS, pickle.SETITEMS, pickle.ADDITEMS):
    _Reader.dispatch[_code[0]] = _guarded_filling(_Base.dispatch[_code[0]])


def load(main: bytes | memoryview, buffers: list[Any], resolve: Callable[[Any], Any] | None) -> Any:
    """Load a pickle with an Unread for each value in Parts that cannot be read.

    Args:
        main: the pickle.
        buffers: the buffers that are not in it.
        resolve: returns the object for a persistent id, or None where there are none.

    Raises:
        Exception: an object that is in no Parts cannot be read.
    """
    found = _read(main, buffers, resolve)
    unread = _unread_in(found)
    if unread is not None:
        raise unread.error
    return found


def _read(
    main: bytes | memoryview,
    buffers: list[Any],
    resolve: Callable[[Any], Any] | None,
    until: float = inf,
) -> Any:
    reader = _Reader(io.BytesIO(main), buffers=buffers)
    reader.until = until
    if resolve is not None:
        reader.persistent_load = resolve
    return reader.load()


# -- the part that is to blame -------------------------------------------------------------------------------

_SECONDS = 2.0  # of CPU, for the second reading of one message, and for the search in its value
_ALL_SECONDS = 20.0  # for those of all large messages in this process: many items may be unreadable
_LARGE = 1 << 20  # bytes
_DEPTH = 40
_LOOK = 1000  # objects of the search between two looks at the clock
_LEAVES = frozenset({int, float, bool, complex, str, bytes, type(None)})


class _Noted(NamedTuple):
    """The newest exception of reading a message.

    Attributes:
        error: its id.
        path: to the part that is to blame.
        gave_up: there was no time to look for the path.
    """

    error: int
    path: Path = ()
    gave_up: bool = False


_newest = _Noted(0)
_spent = 0.0  # seconds of the second readings of large messages


def note_path(
    error: BaseException, main: bytes | memoryview, buffers: list[Any], resolve: Callable[[Any], Any] | None
) -> None:
    """Note the path to the part of a message that is to blame for an error of reading it, for path_of()."""
    global _newest, _spent
    began = thread_time()
    large = len(main) > _LARGE
    noted = _Noted(id(error), gave_up=large and _spent >= _ALL_SECONDS)
    if not noted.gave_up and not isinstance(error, (MemoryError, RecursionError)):
        try:
            value = _read(main, buffers, resolve, began + _SECONDS)
            noted = noted._replace(path=_path_in(value, began + 2 * _SECONDS))
        except _TooLong:
            noted = noted._replace(gave_up=True)
        except OF_OBJECTS:  # also the message around the part cannot be read
            pass
    if large:
        _spent += thread_time() - began
    _newest = noted


def path_of(error: BaseException) -> Path:
    """Return the path that was noted for an error; empty if there is none, or the whole message is to blame."""
    return _newest.path if _newest.error == id(error) else ()


def gave_up(error: BaseException) -> bool:
    """Return True if the path for an error was not looked for, or not to the end: that would have taken too long."""
    return _newest.error == id(error) and _newest.gave_up


def _path_in(value: Any, until: float) -> Path:
    """Return the path to the first Unread in a value that was read; empty if there is none.

    Raises:
        _TooLong: the search has not ended at `until`.
    """
    left: list[tuple[Any, Path]] = [(value, ())]
    seen: set[int] = set()
    while left:
        node, path = left.pop()
        if type(node) is Unread:
            return (*path, *node.path)
        if id(node) in seen or len(path) >= _DEPTH:
            continue
        seen.add(id(node))
        if not len(seen) % _LOOK and thread_time() > until:
            raise _TooLong
        left += [(part, (*path, label)) for label, part in reversed(_parts_of(node))]
    return ()


def _parts_of(node: Any) -> list[tuple[str, Any]]:
    """Return the parts of an object, but for numbers, texts and the like."""
    if isinstance(node, (list, tuple)):
        return [(f"[{at}]", part) for at, part in enumerate(node) if type(part) not in _LEAVES]
    if isinstance(node, dict):
        return [(f"[{_short(key)}]", part) for key, part in node.items() if type(part) not in _LEAVES]
    if isinstance(node, (set, frozenset)):
        return [("element", part) for part in node if type(part) not in _LEAVES]
    if isinstance(node, FunctionType):
        return _parts_of_function(node)
    if isinstance(node, (type, BuiltinFunctionType, ModuleType)):
        return []
    if isinstance(node, MethodType):
        return [("self", node.__self__)]
    if isinstance(node, partial):
        return [("function of partial", node.func)] + [
            (f"argument {label} of partial", part)
            for label, part in (*enumerate(node.args, 1), *((repr(k), v) for k, v in node.keywords.items()))
        ]
    return [(f".{name}", part) for name, part in _attributes_of(node)]


def _parts_of_function(function: FunctionType) -> list[tuple[str, Any]]:
    """Return the values that a function has brought along; of one that was imported none."""
    from goproc._pickling.diagnose import function_children
    from goproc._pickling.functions import by_code

    return list(function_children(function)) if id(function.__code__) in by_code else []


def _attributes_of(node: Any) -> list[tuple[str, Any]]:
    attributes = getattr(node, "__dict__", None)
    found = list(attributes.items()) if type(attributes) is dict else []
    for kind in type(node).__mro__:
        for name, slot in vars(kind).items():
            if type(slot) is MemberDescriptorType and hasattr(node, name):
                found.append((name, getattr(node, name)))
    return found


def _short(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= 40 else text[:37] + "..."


class _Found(Exception):
    """An Unread was met."""


class _Finder(pickle.Pickler):
    """Meets the objects of a value. Has each value in Parts replaced that holds an Unread.

    Functions, classes and handles hold no parts of a value.
    """

    def persistent_id(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is Unread:
            raise _Found(obj)
        if kind is Parts:
            obj[:] = [value if (unread := _unread_in(value)) is None else unread for value in obj]
            return "parts"
        whole = isinstance(obj, (type, FunctionType, BuiltinFunctionType, ModuleType))
        return "whole" if whole or hasattr(kind, "__goproc_handle__") else None


def _unread_in(value: Any) -> Unread | None:
    """Return an Unread in a value that was read, or None."""
    try:
        _Finder(io.BytesIO(), 5, buffer_callback=lambda buffer: None).dump(value)
    except _Found as found:
        unread: Unread = found.args[0]
        try:
            path = _path_in(value, thread_time() + _SECONDS)
        except Exception:  # of the value's own methods, or there is no time
            path = ()
        return Unread(unread.error, path or unread.path)
    except Exception:  # of the value's own methods: it was read
        return None
    return None
