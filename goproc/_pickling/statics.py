"""The objects that a definition may hold: importable ones, and immutable ones that are the same in every process."""

from __future__ import annotations

import functools
import os
import sys
from types import BuiltinFunctionType, FunctionType, ModuleType

from goproc._isolation import loaded
from goproc._pickling import proxies
from goproc._pickling.homes import MAIN, only_here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeGuard

# These are in every namespace made from a module.
BASE_GLOBALS = ("__name__", "__package__", "__file__", "__path__")
LRU = type(functools.lru_cache(lambda: None))

_STDLIB = os.path.dirname(os.__file__) + os.sep
_ATOMS = frozenset({int, float, bool, str, bytes, complex, type(None), type(Ellipsis), range})
# Immutable types that are cheaper in a template than in each message; by name, so that no module is imported.
_STATIC_TYPES = {
    "re": {"Pattern"},
    "decimal": {"Decimal", "Context"},
    "fractions": {"Fraction"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "zoneinfo": {"ZoneInfo"},
    "pathlib": {"PosixPath", "PurePosixPath"},
    "pathlib._local": {"PosixPath", "PurePosixPath"},
    "uuid": {"UUID"},
    "operator": {"itemgetter", "attrgetter", "methodcaller"},
    "_struct": {"Struct"},
    "types": {"GenericAlias", "UnionType"},
    "typing": {"TypeVar"},
    "dataclasses": {"_KW_ONLY_TYPE", "_MISSING_TYPE", "_HAS_DEFAULT_FACTORY_CLASS"},
    "logging": {"Logger", "RootLogger"},
    "numpy": {"ufunc"},
    "goproc": {"Default"},
}


class NotStatic(Exception):
    """Raised inside a definition's pickle by an object that must not be part of a blob."""


def is_handle(kind: type) -> bool:
    """Return True if objects of this type stand for an object in shared memory: channels and other handles."""
    return getattr(kind, "__goproc_handle__", False)


def is_class(value: Any) -> TypeGuard[type]:
    """Return True for a class. `isinstance` would read `value.__class__`, which raises for a dead weak proxy."""
    return issubclass(type(value), type)


def is_module(value: Any) -> TypeGuard[ModuleType]:
    """Return True for a module, without reading `value.__class__`."""
    return issubclass(type(value), ModuleType)


def importable(obj: Any) -> bool:
    """Return True if module and qualified name lead to the function or class in every process."""
    module_name = getattr(obj, "__module__", None)
    if isinstance(module_name, str) and only_here(module_name):
        return False
    if module_name is None:
        # A rare case, which cloudpickle decides: asked for a reducer it says NotImplemented for "by reference".
        return reduce_by_cloudpickle(obj) is NotImplemented
    found: Any = sys.modules.get(module_name)
    try:
        for part in obj.__qualname__.split("."):
            found = getattr(found, part)
    except AttributeError:
        return False
    return found is obj


def module_of_method(method: Any) -> ModuleType | None:
    """Return the module that has a bound method as a function of its own, or None: `random.random` is such a method.

    The object of the method is the module's: each process has one, with a state of its own.
    """
    owner = method.__self__
    if owner is None or is_module(owner) or is_class(owner):
        return None
    name = type(owner).__module__
    module = sys.modules.get(name)
    if module is None or vars(module).get(getattr(method, "__name__", "")) is not method:
        return None
    return None if only_here(name) else module


@functools.cache
def _cloudpickler() -> Any:
    import io

    import cloudpickle

    return cloudpickle.Pickler(io.BytesIO())


def reduce_by_cloudpickle(obj: Any) -> Any:
    """Return the reduction of cloudpickle's pickler for `obj`: a reduce tuple or NotImplemented."""
    name = proxies.name_in_wrapt(obj) if isinstance(obj, type) else None
    if name is not None:
        return proxies.class_in_wrapt, (name,)
    module = sys.modules.get(getattr(obj, "__module__", None) or "")
    if module is None or module.__name__ in MAIN or not only_here(module.__name__):
        return _cloudpickler().reducer_override(obj)
    import cloudpickle  # cloudpickle takes any module in sys.modules for importable, unless told otherwise

    if module.__name__ in cloudpickle.list_registry_pickle_by_value():
        return _cloudpickler().reducer_override(obj)
    cloudpickle.register_pickle_by_value(module)
    try:
        return _cloudpickler().reducer_override(obj)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


# Returns True if messages carry only the reference of a class. `classes` sets the function for those that travel by
# value.
static_class: Callable[[type], bool] = importable


def is_static(value: Any, depth: int = 0) -> bool:
    """Return True if `value` is immutable and the same in every process, so that a template may hold it."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is tuple or kind is frozenset:
        return depth < 8 and all(is_static(item, depth + 1) for item in value)
    if getattr(kind, "__goproc_constant__", False):  # go, chan: they pickle as their names
        return True
    if kind is ModuleType:
        return not only_here(value.__name__)
    if kind is FunctionType or kind is LRU:
        return importable(value)
    if issubclass(kind, type):
        return static_class(value)
    if kind is BuiltinFunctionType:
        owner = value.__self__
        return (
            owner is None
            or isinstance(owner, ModuleType)
            or (isinstance(owner, type) and importable(owner))
            or module_of_method(value) is not None
        )
    if kind.__name__ in _STATIC_TYPES.get(kind.__module__, ()):
        return True
    if is_enumeration(kind):
        return static_class(kind)
    if (kind.__module__, kind.__name__) == ("typing", "NewType"):
        return depth < 8 and is_static(value.__supertype__, depth + 1)
    if kind.__module__ in ("typing", "typing_extensions"):
        return kind.__name__.endswith(("Alias", "Form"))
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return False
    return issubclass(kind, numpy.dtype) or (issubclass(kind, numpy.generic) and not value.dtype.hasobject)


def is_enumeration(kind: type) -> bool:
    enum = loaded("enum")
    return enum is not None and issubclass(kind, enum.Enum)


def library(namespace: dict[str, Any]) -> str | None:
    """Return the module's name if `namespace` is that of an installed library.

    A function nested in a library (the wrapper that a decorator returns) runs over the library's own globals in the
    receiver, as its importable neighbours do. A copy of the globals would bring locks, caches and registries.
    """
    name = namespace.get("__name__")
    if not isinstance(name, str) or only_here(name):
        return None
    module = sys.modules.get(name)
    if module is None or module.__dict__ is not namespace:
        return None
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    if name.partition(".")[0] == "goproc" or origin in ("built-in", "frozen"):
        return name
    installed = isinstance(origin, str) and (
        "/site-packages/" in origin or "/dist-packages/" in origin or origin.startswith(_STDLIB)
    )
    return name if installed else None
