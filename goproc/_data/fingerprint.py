"""The identity of a function, in texts that are equal in each run of the same program: its name, code, defaults, captured values.

The names of files and the numbers of lines are left out, so that a comment, or another folder, does not make it another
function. Of the values that it captures constants count, and functions of the script by what they are. Other objects count
by their type: a list or a dict may differ from run to run.
"""

from __future__ import annotations

import functools
import hashlib
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

_DEEP = 8  # functions that functions refer to


def fingerprint(f: Any) -> dict[str, str]:
    """Return texts by name: ``name``, ``code``, ``defaults``, ``captured``."""
    if isinstance(f, functools.partial):
        inner = fingerprint(f.func)
        given = [_value(part, 0, set()) for part in (f.args, *f.keywords.items())]
        inner["captured"] = _digest([inner["captured"], given])
        return inner
    bound = None
    if isinstance(f, MethodType):
        bound, f = f.__self__, f.__func__
    wrapped = getattr(f, "__wrapped__", None)
    if not isinstance(f, FunctionType) and isinstance(wrapped, FunctionType):
        f = wrapped  # functools.cache and its kin
    if not isinstance(f, FunctionType):
        call = vars(type(f)).get("__call__")
        name = getattr(f, "__qualname__", None) or type(f).__qualname__
        code = _code(call.__code__) if isinstance(call, FunctionType) else ""
        return {"name": name, "code": _digest(code), "defaults": "", "captured": _digest(_state(f))}
    return {
        "name": f.__qualname__,
        "code": _digest(_code(f.__code__, f.__doc__)),
        "defaults": _digest(
            [_value(part, 0, set()) for part in (f.__defaults__, *sorted((f.__kwdefaults__ or {}).items()))]
        ),
        "captured": _digest([_captured(f, 0, set()), None if bound is None else _state(bound)]),
    }


def _digest(value: Any) -> str:
    return hashlib.blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _code(code: CodeType, doc: str | None = None) -> Any:
    """Return the parts of code that decide what it does. Its docstring does not count."""
    constants = tuple(_constant(c) for c in code.co_consts)
    if doc is not None and code.co_consts[:1] == (doc,):
        constants = (None, *constants[1:])
    return (
        code.co_code.hex(),
        constants,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        code.co_argcount,
        code.co_kwonlyargcount,
        code.co_posonlyargcount,
        code.co_flags,
    )


def _constant(c: Any) -> Any:
    if isinstance(c, CodeType):
        return _code(c)
    if isinstance(c, frozenset):
        return sorted(repr(part) for part in c)
    return repr(c)


def _captured(f: FunctionType, depth: int, seen: set[int]) -> Any:
    """Return the objects that a function refers to: the values of its cells and of the globals that it names."""
    if depth > _DEEP or id(f) in seen:
        return f.__qualname__
    seen.add(id(f))
    cells = []
    for cell in f.__closure__ or ():
        try:
            cells.append(_value(cell.cell_contents, depth, seen))
        except ValueError:  # it is empty
            cells.append(None)
    found = {}
    for name in sorted(_names(f.__code__)):
        if name in f.__globals__:
            found[name] = _value(f.__globals__[name], depth, seen)
    return cells, found


def _names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))


def _value(value: Any, depth: int, seen: set[int]) -> Any:
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, tuple):
        return "tuple", [_value(part, depth, seen) for part in value]
    if isinstance(value, frozenset):
        return "frozenset", sorted(repr(_value(part, depth, seen)) for part in value)
    if isinstance(value, ModuleType):
        return "module", value.__name__
    if isinstance(value, FunctionType):
        if _installed(value.__module__):
            return "function", value.__module__, value.__qualname__
        return (
            "function",
            value.__qualname__,
            _code(value.__code__, value.__doc__),
            _captured(value, depth + 1, seen),
        )
    if isinstance(value, type):
        return "class", value.__module__, value.__qualname__
    return "object", type(value).__module__, type(value).__qualname__


def _installed(module: str | None) -> bool:
    """Return True for a module other than the script: its version is the user's affair."""
    return module not in (None, "__main__", "__mp_main__")


def _state(obj: Any) -> Any:
    state = getattr(obj, "__dict__", None)
    values = state.items() if isinstance(state, dict) else ()
    return type(obj).__qualname__, [(name, _value(value, 0, set())) for name, value in values]
