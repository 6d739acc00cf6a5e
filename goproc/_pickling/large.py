"""The search for the objects that make a message large and may get copies of their own."""

from __future__ import annotations

from functools import partial
from types import FunctionType, MethodType, ModuleType

from goproc._pickling import functions
from goproc._pickling.call_shapes import (
    ARGS,
    CELLS,
    EXTRA,
    FUNCTION,
    GLOBALS,
    LENGTHS,
    SHARED,
    WHOLE,
    inner_call,
)
from goproc._pickling.copies import CONSTANT, HEAPTYPE, LEAVES, guard_of, is_buffer, is_plain
from goproc._pickling.names import cell_contents, names_of
from goproc._pickling.seen import seen_before
from goproc._pickling.statics import LRU, importable, is_handle, library
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import CodeType
    from typing import Any

    from goproc._pickling.wire import Buffer

    Child = tuple[str, Any]

LARGE = 1_000_000  # the bytes below which an object is part of each message
VISITED = 2_000  # the most objects that are examined in one large message
_FEW = 64  # the most elements of a container whose elements are examined one by one
_SMALL = frozenset({int, float, bool, complex, type(None), *LEAVES})


def roots(call: Any) -> Iterator[tuple[str, Any, bool]]:
    """Yield the parts of a message: the name, the object, and True if it will probably be sent again."""
    if len(call) == WHOLE:
        yield "", call[FUNCTION], is_code(call[FUNCTION])  # a callable object may be made for this call alone
    elif len(call) > SHARED:
        template = functions.by_ref[call[0]]
        yield from (
            (f"global {name}", value, True)
            for name, value in zip(template.dynamic, call[GLOBALS] or (), strict=False)
        )
        names = template.code.co_freevars
        yield from (
            (f"closure variable {name}", value, True)
            for name, value in zip(names, call[CELLS] or (), strict=False)
        )
        for name, value in call[EXTRA] or ():
            yield from (
                (label, part, True) for label, part in _attribute_children(template.code, name, value)
            )
    args, kwargs = call[2:] if len(call) == WHOLE else call[ARGS:GLOBALS]
    yield from ((f"argument {index}", value, False) for index, value in enumerate(args, 1))
    yield from ((f"argument {name}", value, False) for name, value in (kwargs or {}).items())


def arrays_in(buffers: Iterable[Buffer]) -> Iterator[tuple[str, Any, bool]]:
    """Yield the arrays of a message whose copies pay, wherever in it they are, as roots() does."""
    for buffer in buffers:
        if buffer.nbytes < _core.LARGE_BUFFER or not isinstance(buffer, memoryview):
            continue
        array: Any = buffer.obj
        base: Any = getattr(array, "base", None)
        if type(base) is type(array) and base.nbytes == buffer.nbytes and base.flags.fnc:
            array = base  # a Fortran array, whose buffer NumPy gives by a view
        yield "an array", array, False


def named(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Child]:
    """Return the objects that a call reaches by name, also by way of the functions that its function uses."""
    todo, seen = [function], {id(function)}
    for code in todo:
        for name, child in code_children(code):
            if is_code(child):
                if id(child) not in seen and len(seen) < VISITED:
                    seen.add(id(child))
                    todo.append(child)
            elif not is_small(child):
                yield name, child
    yield from ((f"argument {index}", value) for index, value in enumerate(args, 1))
    yield from ((f"argument {name}", value) for name, value in kwargs.items())


def reached(roots: Iterable[tuple[str, Any, bool]]) -> list[Child]:
    """Return the objects of a message that may be large: the roots, and those that their functions and classes use.

    Objects whose class a message defines come last: sent alone, each would bring everything that its methods use.

    Args:
        roots: (name, object, True if it will probably be sent again). Other objects count the second time that they are
            met.
    """
    todo = list(roots)
    seen: set[int] = set()
    found: list[Child] = []
    for label, obj, often in todo:
        if id(obj) in seen or len(seen) > VISITED:
            continue
        seen.add(id(obj))
        if is_code(obj):
            todo += [(name or label, child, True) for name, child in code_children(obj)]
        elif not is_small(obj):
            todo.append((label, type(obj), True))
            if often or (_pays(obj) and seen_before(obj)):
                found.append((label, obj))
    return sorted(found, key=lambda child: bool(type(child[1]).__flags__ & HEAPTYPE))


def has_no_parts(message: Any) -> bool:
    """Return True for an array below the size from which a copy pays: reached() would find nothing in it."""
    kind = type(message)
    size: int = getattr(message, "nbytes", _core.LARGE_BUFFER)
    return size < _core.LARGE_BUFFER and is_buffer(kind) and not kind.__flags__ & HEAPTYPE


def opened(obj: Any) -> tuple[Any, ...] | None:
    """Return the message of pack_call() that `obj` is or contains, if there is one."""
    while (inner := inner_call(obj)) is not None:
        obj = inner
    if type(obj) is not tuple or len(obj) not in LENGTHS or type(obj[0]) is not int:
        return None
    if len(obj) == WHOLE:
        ref, function, args, _ = obj
        return obj if ref == 0 and callable(function) and type(args) is tuple else None
    if type(obj[ARGS]) is not tuple:
        return None
    try:
        functions.load_template(obj[0])
    except Exception:  # it only looks like a message
        return None
    return obj


def name_of(call: tuple[Any, ...]) -> str:
    """Return the name of the function of a call."""
    if len(call) != WHOLE:
        return functions.by_ref[call[0]].code.co_name
    return getattr(call[FUNCTION], "__name__", None) or type(call[FUNCTION]).__name__


def is_code(obj: Any) -> bool:
    return isinstance(
        obj, (FunctionType, MethodType, type, staticmethod, classmethod, property, partial, LRU)
    )


def code_children(obj: Any) -> Iterator[Child]:
    """Return the objects that travel with a function or a class, with their names if they have any."""
    if isinstance(obj, FunctionType):
        if not importable(obj):
            yield from _function_children(obj)
    elif isinstance(obj, MethodType):
        yield "self", obj.__self__
        yield "", obj.__func__
    elif isinstance(obj, partial):
        yield "", obj.func
        yield from ((f"argument {index} of partial", value) for index, value in enumerate(obj.args, 1))
        yield from ((f"argument {name} of partial", value) for name, value in obj.keywords.items())
    elif isinstance(obj, type):
        if obj.__flags__ & HEAPTYPE and not importable(obj):
            yield from (
                (f"{obj.__name__}.{name}", value)
                for name, value in list(vars(obj).items())
                if name not in ("__dict__", "__weakref__")
            )
            yield from (("", base) for base in obj.__bases__)
    elif isinstance(obj, property):
        yield from (("", function) for function in (obj.fget, obj.fset, obj.fdel) if function is not None)
    elif is_code(obj):
        yield "", obj.__wrapped__


def _function_children(function: FunctionType) -> Iterator[Child]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        yield from ((f"closure variable {name}", value) for value in cell_contents(cell))
    for name in ("__defaults__", "__kwdefaults__"):
        yield from _attribute_children(code, name, getattr(function, name))
    yield from list(function.__dict__.items())
    if library(function.__globals__) is None:
        for name in names_of(code).used:
            if name in function.__globals__:
                yield f"global {name}", function.__globals__[name]


def _attribute_children(code: CodeType, name: str, value: Any) -> Iterator[Child]:
    """Return the content of an attribute of a function: defaults by the names of their parameters."""
    if name == "__kwdefaults__":
        yield from ((f"default of {key}", default) for key, default in (value or {}).items())
    elif name == "__defaults__":
        names = code.co_varnames[: code.co_argcount][-len(value or ()) :]
        yield from ((f"default of {key}", default) for key, default in zip(names, value or (), strict=False))
    else:
        yield name, value


def _children(obj: Any) -> list[Child]:
    """Return the parts of a small container, or of an object that pickle takes for its attributes."""
    kind = type(obj)
    if (kind is list or kind is tuple) and len(obj) <= _FEW:
        return [(f"[{index}]", value) for index, value in enumerate(obj)]
    if kind is dict and len(obj) <= _FEW:
        return [(f"[{key!r}]" if type(key) is str else "[...]", value) for key, value in obj.items()]
    if is_plain(kind):
        return [(f".{name}", value) for name, value in list(vars(obj).items())]
    return []


def flat_parts(label: str, obj: Any) -> Iterator[Child]:
    """Return the parts of an object that are flat and may be large."""
    todo, seen = [(label, obj)], {id(obj)}
    for name, part in todo:
        for step, child in _children(part):
            if id(child) in seen or is_small(child) or is_code(child) or len(seen) > VISITED:
                continue
            seen.add(id(child))
            if _is_flat(child):
                yield name + step, child
            else:
                todo.append((name + step, child))


def _is_flat(obj: Any) -> bool:
    """Return True for a container of leaves, or a buffer: it shares no part that can change with other objects."""
    if type(obj) in CONSTANT or is_buffer(type(obj)):
        return not getattr(getattr(obj, "dtype", None), "hasobject", False)
    guard = guard_of(obj)
    return guard is not None and guard.flat


def is_small(obj: Any) -> bool:
    kind = type(obj)
    if kind is str or kind is bytes:
        return len(obj) < LARGE
    return kind in _SMALL or is_handle(kind) or kind is ModuleType


def _pays(obj: Any) -> bool:
    """Return False for a buffer that is copied about as fast as it is compared and mapped."""
    return not is_buffer(type(obj)) or getattr(obj, "nbytes", _core.LARGE_BUFFER) >= _core.LARGE_BUFFER
