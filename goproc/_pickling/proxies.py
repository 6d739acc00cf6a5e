"""Objects of wrapt, which refuse to be pickled. They travel as the wrapped object and their own attributes."""

from __future__ import annotations

import gc
import importlib
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The classes of wrapt that take more than the wrapped object.
_PARTIAL, _BOUND, _FUNCTION = "PartialCallableObjectProxy", "BoundFunctionWrapper", "FunctionWrapper"


def is_proxy(kind: type) -> bool:
    """Return True for classes of proxies of wrapt that define no way to be pickled."""
    base = _base()
    return base is not None and issubclass(kind, base) and _way(kind) == _way(base)


def _base() -> Any:
    wrapt = sys.modules.get("wrapt")
    return getattr(wrapt, _name_of_base(), None)


def _name_of_base() -> str:
    return "BaseObjectProxy" if hasattr(sys.modules.get("wrapt"), "BaseObjectProxy") else "ObjectProxy"


def _way(kind: type) -> tuple[Any, Any]:
    return kind.__reduce__, kind.__reduce_ex__


def name_in_wrapt(cls: type) -> str | None:
    """Return the name of a class of wrapt's C code, whose `__module__` names another module."""
    wrapt = sys.modules.get("wrapt")
    if wrapt is None or cls.__module__ not in ("builtins", "_wrappers", "wrapt._wrappers"):
        return None
    names = [name for name, value in vars(wrapt).items() if value is cls]
    return names[0] if names else None


def class_in_wrapt(name: str) -> Any:
    return getattr(importlib.import_module("wrapt"), name)


def reduce_proxy(_: Any, proxy: Any) -> Any:
    """Reduce a proxy by its wrapped object; a bound one by the object that it is bound from."""
    kind = type(proxy)
    name = _maker(kind)
    if name == _BOUND:
        return _bind, (proxy._self_parent, proxy._self_instance, getattr(proxy, "_self_owner", None))
    wrapped = proxy.__wrapped__
    # Its own attributes, and the arguments of a partial, which `__dict__` does not show: that is the wrapped object's.
    held = [part for part in gc.get_referents(proxy) if part is not wrapped]
    own, keywords = ([part for part in held if type(part) is dict] + [{}, {}])[:2]
    args: tuple[Any, ...] = (wrapped,)
    if name == _FUNCTION:
        args = (wrapped, proxy._self_wrapper, getattr(proxy, "_self_enabled", None))
    elif name == _PARTIAL:
        args = next(((wrapped, *part) for part in held if type(part) is tuple), args)
    attributes = {key: value for key, value in own.items() if key.startswith("_self_")}
    return _make, (kind, name, args, keywords), attributes, None, None, _set_attributes


def _maker(kind: type) -> str:
    """Return the name of the class of wrapt that makes objects of a class."""
    wrapt = sys.modules["wrapt"]
    for name in (_BOUND, _FUNCTION, _PARTIAL):
        if issubclass(kind, getattr(wrapt, name, ())):
            return name
    return _name_of_base()


def _make(kind: Any, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Make a proxy without the `__init__` of its own class, which may take anything."""
    proxy = kind.__new__(kind)
    class_in_wrapt(name).__init__(proxy, *args, **keywords)
    return proxy


def _set_attributes(proxy: Any, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        setattr(proxy, name, value)


def _bind(parent: Any, instance: Any, owner: Any) -> Any:
    return parent.__get__(instance, owner if owner is not None else type(instance))
