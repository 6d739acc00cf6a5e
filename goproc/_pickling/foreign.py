"""Objects of ctypes: libraries of C, their functions, and types.

A process loads a library by its name when the library arrives. A type that ctypes makes from another one (an array, a
pointer, the type of a function) travels as that other type, and is the one that ctypes makes there. A structure travels
as other classes of the program do; its metaclass makes the descriptors of its fields from `_fields_`.
"""

from __future__ import annotations

import operator
from typing import Any

from goproc._isolation import loaded
from goproc._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from goproc._pickling.pickler import Reducer

    Reduction = tuple[Callable[..., Any], tuple[Any, ...]]

FIELDS = "_fields_"
_USE_ERRNO = 8  # these bits of `_flags_` are part of the interface of C
_PYTHON_API = 4
_OF_LIBRARY = frozenset({"_name", "_handle", "_FuncPtr"})  # attributes that every library has


# -- types ---------------------------------------------------------------------------------------------------


def is_type(value: Any) -> bool:
    """Return True for a type of C."""
    kind: Any = type(value)
    return issubclass(kind, type) and any(base.__module__ == "_ctypes" for base in kind.__mro__)


def reduce_type(cls: Any) -> Reduction | None:
    """Reduce a type that ctypes makes from other types, or a metaclass of ctypes; None for any other class."""
    ctypes = loaded("ctypes")
    if ctypes is None:
        return None
    if cls.__module__ == "_ctypes" and issubclass(cls, type):  # no module has it by its name
        return next(((type, (base,)) for base in vars(ctypes).values() if type(base) is cls), None)
    if not is_type(cls):
        return None
    reduction = _reduction(ctypes, cls)
    if reduction is None:
        return None
    make, args = reduction
    return reduction if make is _function_type or make(*args) is cls else None


def _reduction(ctypes: Any, cls: Any) -> Reduction | None:
    """Return the call that makes the type, unless the program has derived the type from such a one."""
    if issubclass(cls, ctypes.Array):
        return (operator.mul, (cls._type_, cls._length_)) if hasattr(cls, "_length_") else None
    if issubclass(cls, ctypes._Pointer):
        return (ctypes.POINTER, (cls._type_,)) if hasattr(cls, "_type_") else None
    if cls.__module__ != "ctypes":
        return None
    if cls.__qualname__.endswith("FUNCTYPE.<locals>.CFunctionType"):
        return _function_type, (cls._restype_, cls._argtypes_, cls._flags_)
    other = getattr(ctypes, cls.__qualname__, None)  # the name has the order in it
    for order in ("__ctype_be__", "__ctype_le__"):
        if other is not cls and getattr(other, order, None) is cls:
            return getattr, (other, order)
    return None


def _function_type(result: Any, arguments: tuple[Any, ...], flags: int) -> Any:
    import ctypes

    if flags & _PYTHON_API:
        return ctypes.PYFUNCTYPE(result, *arguments)
    return ctypes.CFUNCTYPE(result, *arguments, use_errno=bool(flags & _USE_ERRNO))


def are_fields(name: str, value: Any) -> bool:
    """Return True for the fields of a structure, which nothing changes once they are set."""
    return name == FIELDS and type(value) in (list, tuple) and all(map(_is_field, value))


def _is_field(value: Any) -> bool:
    return type(value) is tuple and len(value) > 1 and is_type(value[1])


def without_fields(cls: type, attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a class that travel: those of a structure have no descriptors of fields.

    `_fields_` is the last of them, as the metaclass reads `_pack_` and the like when it is set.
    """
    if not has_fields(cls, FIELDS):
        return attributes
    kept = {name: value for name, value in attributes.items() if type(value).__module__ != "_ctypes"}
    kept[FIELDS] = kept.pop(FIELDS)
    return kept


def has_fields(cls: type, name: str) -> bool:
    """Return True if `name` is that of the fields, and the class is a structure that has them: nothing can set them."""
    return name == FIELDS and FIELDS in vars(cls) and is_type(cls)


# -- libraries and functions ---------------------------------------------------------------------------------


class _Signature(Record):
    """The attributes of a function that the program sets."""

    restype: Any
    argtypes: Any
    errcheck: Any


def reducer_of(kind: Any) -> Reducer | None:
    """Return the reducer for libraries, or for their functions; None for any other class."""
    ctypes = loaded("ctypes")
    if issubclass(kind, ctypes.CDLL):
        return _reduce_library
    return _reduce_function if kind.__qualname__.endswith(".<locals>._FuncPtr") else None


def _reduce_library(_: Any, library: Any) -> Any:
    attributes = {name: value for name, value in vars(library).items() if name not in _OF_LIBRARY}
    functions = {
        name: _signature(value) for name, value in attributes.items() if type(value) is library._FuncPtr
    }
    others = {name: value for name, value in attributes.items() if name not in functions}
    use_errno = bool(library._FuncPtr._flags_ & _USE_ERRNO)
    return _load, (type(library), library._name, use_errno), (functions, others), None, None, _set_library


def _load(kind: Any, name: str | None, use_errno: bool) -> Any:
    return kind(name, use_errno=use_errno)


def _set_library(library: Any, state: tuple[dict[str, _Signature], dict[str, Any]]) -> None:
    functions, others = state
    for name, signature in functions.items():
        _set_signature(getattr(library, name), signature)
    vars(library).update(others)


def _reduce_function(_: Any, function: Any) -> Any:
    """Reduce a function of a library; refuse one that was made from an address."""
    library, name = (function._objects or {}).get("0"), getattr(function, "__name__", None)
    if name is None or not isinstance(library, loaded("ctypes").CDLL):
        return NotImplemented
    find = getattr if vars(library).get(name) is function else operator.getitem
    return find, (library, name), _signature(function), None, None, _set_signature


def _signature(function: Any) -> _Signature:
    return _Signature(function.restype, function.argtypes, function.errcheck)


def _set_signature(function: Any, signature: _Signature) -> None:
    function.restype, function.argtypes, errcheck = signature
    if errcheck is not None:
        function.errcheck = errcheck
