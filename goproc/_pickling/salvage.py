"""Lists of which each value is read by itself: one that cannot be read does not take the others along.

A message with such a list that cannot be read as a whole is read again, step by step. An object that cannot be made has
an Unread in its place.
"""

from __future__ import annotations

import io
import pickle
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, ClassVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Load = Callable[["_Reader"], None]


class Parts(list[Any]):
    """A list that arrives with an Unread in the place of each value that cannot be read."""

    __slots__ = ()


class Unread:
    """Stands for an object that could not be made. It takes all that pickle would do to the object.

    Attributes:
        error: the exception that the attempt has raised.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __setstate__(self, state: Any) -> None: ...
    def __setitem__(self, key: Any, value: Any) -> None: ...
    def append(self, value: Any) -> None: ...
    def extend(self, values: Any) -> None: ...
    def add(self, value: Any) -> None: ...


_Base: Any = pickle._Unpickler


class _Reader(_Base):  # type: ignore[misc]
    """The Unpickler of the library, in which a step that fails leaves an Unread. It is written in Python, and slow."""

    dispatch: ClassVar[dict[int, Load]] = dict(_Base.dispatch)

    def replace(self, taken: list[Any], error: Exception) -> None:
        """Push an Unread, which takes the place of the first of the objects that a step took from the stack."""
        unread = Unread(error)
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
        try:
            _refuse_unread(taken)
            load(reader)
        except Exception as error:
            del stack[below:]
            reader.replace(taken if load is _Base.load_build else [], error)

    return step


def _guarded_filling(load: Load) -> Load:
    """Return a step of the reader that puts objects into the one below them, and does not fail."""

    def step(reader: _Reader) -> None:
        try:
            load(reader)
        except Exception as error:
            reader.replace([reader.stack.pop()], error)

    return step


def _refuse_unread(operands: list[Any]) -> None:
    """Raise the error of an operand, or of an argument among them, that could not be made."""
    for operand in operands:
        for part in operand if type(operand) is tuple else (operand,):
            if type(part) is Unread:
                raise part.error


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
    reader = _Reader(io.BytesIO(main), buffers=buffers)
    if resolve is not None:
        reader.persistent_load = resolve
    found = reader.load()
    unread = _unread_in(found)
    if unread is not None:
        raise unread.error
    return found


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
        return unread
    except Exception:  # of the value's own methods: it was read
        return None
    return None
