"""The search for the object that cannot be pickled, and for the path to it.

The search runs only after a failure, so it may be slow. It pickles the children of the object one by one and goes down
into the first that fails by itself. Depth, number of trials and time are limited.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from types import FunctionType, MethodType

from goproc._frames import is_own
from goproc._pickling import carried, copies, exceptions, large
from goproc._pickling.advice import advise, known
from goproc._pickling.names import cell_contents, names_of
from goproc._pickling.pickler import Pickler
from goproc._pickling.statics import is_handle, library
from goproc._pickling.wire import dump
from goproc._raised import OF_OBJECTS, described, text_of
from goproc._tracebacks import is_for_user
from goproc.errors import OutOfSharedMemory, PickleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

    Child = tuple[str, Any]

RESULT = "the result"  # the beginning of the word for a result

_DEPTH = 40
_TRIALS = 5000
_SECONDS = 2.0


def explain(obj: Any, error: BaseException, root: str) -> PickleError:
    """Return the PickleError for `error`, met while `obj` was pickled.

    Args:
        obj: the object that pickle refused.
        error: the exception of pickle. Frames that tell the user nothing are cut off its traceback: the caller makes it
            the cause.
        root: the user's word for `obj`, which begins the path. It begins with RESULT if `obj` is a result.
    """
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        return PickleError(
            f"cannot pickle {root}: it is too deeply nested ({type(error).__name__})\n"
            "send it as a flat list, or in parts"
        )
    _cut_pickler(error)
    labels, path = _search(obj)
    where = " -> ".join([root, *labels, _title(path[-1])])
    advice = advise(path, error, returned=root.startswith(RESULT))
    return PickleError(f"cannot pickle {where}: {_text(error)}\n{advice}")


def _cut_pickler(error: BaseException) -> None:
    """Cut the frames of pickling off the outer end of a traceback, up to the user's, as of a ``__reduce__``.

    An exception that rises in goproc's own code keeps them all: it may be a defect.
    """
    rest = last = error.__traceback__
    while rest is not None and (is_own(rest.tb_frame) or _is_of_cloudpickle(rest.tb_frame)):
        last, rest = rest, rest.tb_next
    if last is None or rest is not None or last.tb_frame.f_code is dump.__code__ or is_for_user(error, last):
        error.__traceback__ = rest


def _is_of_cloudpickle(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith("cloudpickle.")


def explain_call(
    error: PickleError, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> PickleError:
    """Translate an error in the encoding of a packed call into the words of the call: `argument 2 of f -> ...`."""
    name = getattr(function, "__name__", None) or type(function).__name__
    candidates = [(name, function)]
    candidates += [(f"argument {index} of {name}", value) for index, value in enumerate(args, 1)]
    candidates += [(f"argument {key!r} of {name}", value) for key, value in kwargs.items()]
    for root, value in candidates:
        failure = _failure(value)
        if failure is not None:
            return explain(value, failure, root)
    return PickleError(f"cannot pickle the call of {name}: {_text(error.__cause__ or error)}")


def explain_memory(
    error: OutOfSharedMemory, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> OutOfSharedMemory:
    """Translate a lack of memory for a call, and name the large objects in the call."""
    name = getattr(function, "__name__", None) or type(function).__name__
    found = [
        (size, label, value)
        for label, value in large.named(function, args, kwargs)
        if (size := copies.size_without_known(value)) >= large.LARGE
    ]
    if not found:
        return error
    size, label, value = max(found, key=lambda each: each[0])
    calls = carried.calls_with_all.get(name, 0)
    times = f", in {calls} calls" if calls > 1 else ""
    return OutOfSharedMemory(
        f"{label} of {name}: {type(value).__name__}, {size / 1e6:.0f} MB{times}; share it (goproc.share): {error}"
    )


class _Probe(Pickler):
    """Pickles as messages do, and accepts handles, which otherwise refuse with a TypeError outside of a message."""

    def reducer_override(self, obj: Any) -> Any:
        if is_handle(type(obj)):
            try:
                obj.__reduce_ex__(5)
            except TypeError:
                return object, ()
        return super().reducer_override(obj)


def _failure(obj: Any) -> BaseException | None:
    try:
        dump(obj, _Probe)
    except OutOfSharedMemory:
        # There was no room for the definitions of its parts, which is no reason to refuse it.
        return None
    except OF_OBJECTS as error:  # pickling may raise anything: the search is for this error
        return error
    return None


def descend(node: Any) -> tuple[list[str], Any]:
    """Return the path to the innermost object that fails by itself, and the object.

    The path ends at an object of a kind for which there is advice, as a thread: its parts tell the user nothing.
    """
    labels, path = _search(node)
    return labels, path[-1]


def _search(node: Any) -> tuple[list[str], list[Any]]:
    """As descend(). Return the labels of the path, and all objects on it; the first is `node`."""
    labels: list[str] = []
    path = [node]
    seen = {id(node)}  # of the objects in `path`, which keeps those alive that reduce methods have made
    trials = 0
    end = time.monotonic() + _SECONDS
    while len(labels) < _DEPTH and known(path[-1]) is None:
        for label, child in _children(path[-1]):
            if id(child) in seen:
                continue
            if trials > _TRIALS or time.monotonic() > end:
                return labels, path
            trials += 1
            if _failure(child) is not None:
                labels.append(label)
                path.append(child)
                seen.add(id(child))
                break
        else:
            break
    return labels, path


def _children(node: Any) -> Iterator[Child]:
    try:
        yield from _known_children(node)
    except OF_OBJECTS:  # a reduce method or a property raises: there is nothing more to learn
        return


def _known_children(node: Any) -> Iterator[Child]:
    if isinstance(node, Mapping):
        for key, value in list(node.items()):
            yield f"[{_short(key)}]", value
        for key in list(node):
            yield f"key {_short(key)}", key
    if isinstance(node, (list, tuple)):
        for index, value in enumerate(list(node)):
            yield f"[{index}]", value
    elif isinstance(node, (set, frozenset)):
        for value in list(node):
            yield "element", value
    elif isinstance(node, FunctionType):
        yield from function_children(node)
        return
    elif isinstance(node, MethodType):
        yield "self", node.__self__
        yield f"function {node.__func__.__name__}", node.__func__
        return
    elif isinstance(node, functools.partial):
        yield "function of partial", node.func
        yield from ((f"argument {i} of partial", value) for i, value in enumerate(node.args, 1))
        yield from ((f"argument {name!r} of partial", value) for name, value in node.keywords.items())
    elif isinstance(node, type):
        yield from (
            (f".{name}", getattr(value, "__func__", value))
            for name, value in list(vars(node).items())
            if name not in ("__dict__", "__weakref__")
        )
        yield from ((f"base {base.__name__}", base) for base in node.__bases__)
        return
    elif isinstance(node, (property, staticmethod, classmethod)):
        yield "function", getattr(node, "fget", None) or getattr(node, "__func__", None)
        return
    wrapped = getattr(node, "__wrapped__", None)
    if wrapped is not None:
        yield "wrapped function", wrapped
    yield from _instance_children(node)


def function_children(function: FunctionType) -> Iterator[Child]:
    """Yield the values that a function takes along."""
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        for value in cell_contents(cell):
            yield f"closure {name!r}", value
    defaults = function.__defaults__ or ()
    parameters = code.co_varnames[: code.co_argcount]
    for name, value in zip(parameters[len(parameters) - len(defaults) :], defaults, strict=True):
        yield f"default of {name!r}", value
    for name, value in (function.__kwdefaults__ or {}).items():
        yield f"default of {name!r}", value
    if library(function.__globals__) is None:
        for name in names_of(code).used:
            if name in function.__globals__:
                yield f"global {name!r}", function.__globals__[name]
    yield from ((f".{name}", value) for name, value in function.__dict__.items())


def _exception_children(exc: BaseException) -> Iterator[Child]:
    yield from ((f".args[{index}]", value) for index, value in enumerate(exceptions.args_of.__get__(exc)))
    yield from ((f".{name}", value) for name, value in exceptions.attributes_of(exc))
    if issubclass(type(exc), BaseExceptionGroup):
        yield from ((f".exceptions[{i}]", value) for i, value in enumerate(exceptions.members_of(exc)))
    yield f"class {type(exc).__name__}", type(exc)


def _instance_children(node: Any) -> Iterator[Child]:
    """Yield the parts that pickle takes from the object; if it refuses at once, the object's own attributes."""
    if issubclass(type(node), BaseException) and not exceptions.pickles_itself(node):
        yield from _exception_children(node)
        return
    try:
        reduced = node.__reduce_ex__(5)
    except OF_OBJECTS:  # a method of the program may raise anything
        reduced = None
    if not isinstance(reduced, tuple):
        yield from ((f".{name}", value) for name, value in list(getattr(node, "__dict__", {}).items()))
        for cls in type(node).__mro__:
            slots = cls.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__dict__", "__weakref__") and hasattr(node, name):
                    yield f".{name}", getattr(node, name)
        return
    if issubclass(type(node), BaseException):
        yield from _exception_children(node)
    state, items, pairs = (*reduced[2:5], None, None, None)[:3]
    states = state if isinstance(state, tuple) and len(state) == 2 else (state,)
    for part in states:
        if isinstance(part, Mapping):
            yield from ((f".{name}", value) for name, value in part.items())
    title = type(node).__name__
    if state is not None:
        yield f"state of {title}", state
    yield from ((f"[{index}]", value) for index, value in enumerate(items or ()))
    yield from ((f"[{_short(key)}]", value) for key, value in pairs or ())
    for index, value in enumerate(reduced[1] or ()):
        yield f"class {value.__name__}" if isinstance(value, type) else f"part {index} of {title}", value


def _short(key: Any) -> str:
    try:
        text = repr(key)
    except OF_OBJECTS:  # a __repr__ may raise anything
        text = f"<{type(key).__name__}>"
    return text if len(text) <= 40 else text[:37] + "..."


def _title(obj: Any) -> str:
    if isinstance(obj, (FunctionType, MethodType)):
        return f"function {obj.__qualname__}"
    if isinstance(obj, type):
        return f"class {obj.__qualname__}"
    kind = type(obj)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _text(error: BaseException) -> str:
    return described(error) if text_of(error) else type(error).__name__
