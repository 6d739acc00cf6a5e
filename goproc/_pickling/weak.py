"""Weak containers: registries of objects that other code keeps alive.

In the process that receives the container, usually no other code does: a goroutine has only the objects that it
reaches, maybe by the container alone. So a container that has arrived holds the objects with which it arrived. Objects
that are added later it holds weakly.
"""

from __future__ import annotations

from functools import partial
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from goproc._pickling import pickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_HELD = "_goproc_held"  # the attribute of a container that keeps its objects


def _reduce_set(_: pickler.Pickler, obj: Any) -> Any:
    return type(obj), (), list(obj), None, None, _fill_set


def _reduce_dict(fill: Any, _: pickler.Pickler, obj: Any) -> Any:
    return type(obj), (), list(obj.items()), None, None, fill


def _hold(container: Any, objects: Iterable[Any]) -> None:
    """Keep the objects with the container, except classes: a process keeps a class by itself, or is to forget it."""
    container.__dict__[_HELD] = [obj for obj in objects if not isinstance(obj, type)]


def _fill_set(obj: Any, elements: list[Any]) -> None:
    _hold(obj, elements)
    obj.update(elements)


def _fill_keys(obj: Any, items: list[tuple[Any, Any]]) -> None:
    _hold(obj, [key for key, _ in items])
    obj.update(dict(items))


def _fill_values(obj: Any, items: list[tuple[Any, Any]]) -> None:
    _hold(obj, [value for _, value in items])
    obj.update(dict(items))


pickler.reducers[WeakSet] = _reduce_set
pickler.reducers[WeakKeyDictionary] = partial(_reduce_dict, _fill_keys)
pickler.reducers[WeakValueDictionary] = partial(_reduce_dict, _fill_values)
