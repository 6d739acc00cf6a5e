"""The message that starts a goroutine: a callable and its arguments."""

from __future__ import annotations

from types import CellType, FunctionType

from goproc._misuse import not_callable
from goproc._pickling.call_shapes import ARGS, CELLS, EXTRA, GLOBALS, KWARGS, LOOPS, SHARED, WITH_LOOPS
from goproc._pickling.carried import has_copies, has_copy
from goproc._pickling.entries import arrived, bring_back, read
from goproc._pickling.functions import by_code, by_ref, load_template, template_of
from goproc._pickling.names import cell_contents
from goproc._raised import OF_OBJECTS
from goproc.errors import PickleError
from goproc.shm._core import brings
from goproc.shm._core import plain as plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from goproc._pickling.call_shapes import Message
    from goproc._pickling.templates import Template


def pack_call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Message:
    """Make the message that starts a goroutine.

    Returns:
        One of the shapes in call_shapes.py.

    Raises:
        TypeError: `function` cannot be called.
        PickleError: the function's definition cannot be pickled.

    Cost: 0.5 to 1 us for a definition that was used before, 50 to 500 us the first time.
    """
    if type(function) is not FunctionType:
        if function is None:
            raise not_callable("go of nil func value", None)
        if not callable(function):
            said = f"go: {type(function).__name__!r} object is not callable"
            raise not_callable(said, function, "use go(f, *args), not go(f(*args))")
        return 0, function, args, kwargs or None
    template = by_code.get(id(function.__code__))
    if template is None or not template.matches(function):
        template = _checked_template_of(function)
    if template.simple and not template.reads_state:
        return template.ref, args, kwargs or None
    dynamic = cells = None
    # Arguments that are not plain may share state with the function: they are pickled together with it.
    shared = args
    try:
        if template.dynamic:
            if template.only_dynamic is not None:
                dynamic = (function.__globals__[template.only_dynamic],)
            else:
                dynamic = template.fetch(function.__globals__)
            shared = dynamic + args
        closure = function.__closure__
        if closure is not None:
            if len(closure) == 1:
                cells = (closure[0].cell_contents,)
            else:
                cells = tuple([cell.cell_contents for cell in closure])
            shared = cells + shared
    except (KeyError, ValueError):  # a global that was deleted, an empty cell
        return 0, function, args, kwargs or None
    if not plain(shared) or (kwargs and not plain(kwargs)):
        return _pack_shared(template, function, args, kwargs, dynamic, cells)
    return _composed(template, function, args, kwargs, dynamic, cells)


def _composed(
    template: Template,
    function: FunctionType,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    dynamic: tuple[Any, ...] | None,
    cells: tuple[Any, ...] | None,
) -> Message:
    """Make the message of a function whose arguments share nothing with it."""
    if template.simple:
        return template.ref, args, kwargs or None
    extra = None
    if (
        function.__dict__
        or function.__kwdefaults__ is not template.kwdefaults
        or template.defaults_vary
        or template.name_varies
    ):
        extra = template.extra(function)
        if extra is not None and not _travels_alone(extra):
            return 0, function, args, kwargs or None
    return template.ref, args, kwargs or None, dynamic, cells, extra


def _travels_alone(extra: tuple[tuple[str, Any], ...]) -> bool:
    """Return True if the attributes and defaults of a function share nothing with its globals and arguments."""
    for _, value in extra:
        values = value if type(value) is tuple else value.values() if type(value) is dict else (value,)
        if not plain([part for part in values if not has_copy(part)]):
            return False
    return True


def _pack_shared(
    template: Template,
    function: FunctionType,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    dynamic: tuple[Any, ...] | None,
    cells: tuple[Any, ...] | None,
) -> Message:
    """Pickle the function with its arguments, unless those that are not plain are known to travel alone.

    Objects with copies in shared memory travel alone, and so does the function itself in a cell of its own.
    """
    values = *(cells or ()), *(dynamic or ()), *args, *kwargs.values()
    if has_copies() and plain([value for value in values if not has_copy(value)]):
        return _composed(template, function, args, kwargs, dynamic, cells)
    loops = tuple([index for index, value in enumerate(cells or ()) if value is function])
    if cells is not None and loops:
        others = tuple([None if value is function else value for value in cells])
        if plain((*others, *(dynamic or ()), *args, *kwargs.values())):
            return template.ref, args, kwargs or None, dynamic, others, template.extra(function), loops
    return 0, function, args, kwargs or None


def _checked_template_of(function: FunctionType) -> Template:
    """As template_of(), with errors that name the place in the function."""
    try:
        return template_of(function)
    except (PickleError, MemoryError):
        raise
    except OF_OBJECTS as error:  # pickling may raise anything: explain() makes a PickleError of it
        from goproc._pickling.diagnose import explain

        raise explain(function, error, function.__name__) from error


def _bring_back(template: Template, payload: Message) -> None:
    """Give the classes of a call their state as of its `go` line."""
    values = payload[ARGS]
    if payload[KWARGS]:
        values = *values, *payload[KWARGS].values()
    if len(payload) > SHARED:
        values = *values, *(payload[GLOBALS] or ()), *(payload[CELLS] or ())
    template.bring_back(values)


def _bring_back_whole(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
    """Give the classes of a call their state as of its `go` line, if the function came as an object."""
    values = [getattr(function, "__self__", None), *args, *(kwargs or {}).values()]
    function = getattr(function, "__func__", function)
    for cell in getattr(function, "__closure__", None) or ():
        values += cell_contents(cell)
    template = by_code.get(id(getattr(function, "__code__", None)))
    if template is None:
        bring_back((), values)
        return
    values += [function.__globals__.get(name) for name in template.dynamic]
    bring_back(template.classes, values)


def unpack_call(
    payload: Message,
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Template | None]:
    """Return the callable and the arguments of a message made by `pack_call`, and the template of the callable.

    There is no template if the function came as an object.

    Cost: 0.3 to 1 us for a definition that was used before, 20 to 100 us the first time in a process.
    """
    ref = payload[0]
    if ref == 0:
        _, function, args, kwargs = payload
        if arrived:
            _bring_back_whole(function, args, kwargs)
        return function, args, kwargs or {}, None
    if read and plain(payload):
        read.clear()  # no pickle: it was another message that referred to these classes
    template = by_ref.get(ref) or load_template(ref)
    if arrived and (read or not template.intact.unchanged() or brings(payload, arrived)):
        _bring_back(template, payload)
    if len(payload) == SHARED:
        return template.function, payload[ARGS], payload[KWARGS] or {}, template
    cells = payload[CELLS]
    if cells is not None:
        cells = tuple([CellType(value) for value in cells])
    function = template.build(payload[GLOBALS], cells, payload[EXTRA])
    if len(payload) == WITH_LOOPS:
        for index in payload[LOOPS]:
            cells[index].cell_contents = function
    return function, payload[ARGS], payload[KWARGS] or {}, template
