"""Identities: copies of a function with one identity are one object.

A function that reaches only what cannot change has a uid, which its creator gives it: one for each state of its definition.
A process has one function for each uid, by whichever way it arrived: as the function of a goroutine, as a function that
another one calls, in an argument. Where the uid comes back to its creator it stands for the function of the script.
"""

from __future__ import annotations

import os
import sys
import weakref
from operator import is_
from typing import NamedTuple

from goproc._pickling import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FunctionType
    from typing import Any

_MOST = 4096  # code made by eval() would fill the memory


class Definition(NamedTuple):
    """A function and all that it reaches, as they were when it got its uid.

    Attributes:
        code: that of the function, kept since its id is a key.
        parts: all objects that the function is made of and that it reaches; None if another process gave the uid.
    """

    code: CodeType
    uid: str
    parts: list[Any] | None


_by_code: dict[int, Definition] = store.cache({})
_own: weakref.WeakValueDictionary[str, FunctionType] = store.cache(weakref.WeakValueDictionary())
_shared: weakref.WeakValueDictionary[str, FunctionType] = store.cache(weakref.WeakValueDictionary())


def uid_of(code: CodeType, parts: list[Any]) -> str:
    """Return the uid of a function with this code, another one if its parts are not what they were.

    Args:
        code: that of the function.
        parts: the objects that it is made of and that it reaches, in an order which depends on nothing else.
    """
    known = _by_code.get(id(code))
    if known is None or not (known.parts is None or _same(known.parts, parts)):
        known = _remember(Definition(code, os.urandom(16).hex(), parts))
    return known.uid


def _same(before: list[Any], now: list[Any]) -> bool:
    return len(before) == len(now) and all(map(is_, before, now))


def _remember(definition: Definition) -> Definition:
    if len(_by_code) > _MOST:
        _by_code.clear()
    _by_code[id(definition.code)] = definition
    return definition


def receive(code: CodeType, uid: str) -> None:
    """Remember the uid of a function that arrived with this code."""
    if uid:
        _remember(Definition(code, uid, None))


def is_original(function: FunctionType) -> bool:
    """Return True if a function is no copy: its globals are those of its module."""
    module = sys.modules.get(function.__module__)
    return getattr(module, "__dict__", None) is function.__globals__


def note(uid: str, function: FunctionType, shared: bool) -> None:
    """Let the uid stand for a function of the script when it comes back.

    Args:
        uid: of the function.
        function: itself.
        shared: goroutines of this process get it, too: copies could not be told from it.
    """
    if uid and is_original(function):
        _own[uid] = function
        if shared:
            _shared[uid] = function


def own(uid: str) -> FunctionType | None:
    """Return the function of the script that the uid stands for."""
    return _own.get(uid)


def shared(uid: str, make: Callable[[], Any]) -> Any:
    """Return the function that stands for the uid in the goroutines of this process.

    Args:
        uid: of the function, "" if it has none.
        make: makes the function, if it is the first time.
    """
    if not uid:
        return make()
    function = _shared.get(uid)
    if function is None:
        function = _shared[uid] = make()
    return function


def is_shared(function: FunctionType) -> bool:
    """Return True if the function stands for its uid in this process."""
    known = _by_code.get(id(function.__code__))
    return known is not None and _shared.get(known.uid) is function


def is_of(function: FunctionType, namespace: dict[str, Any]) -> bool:
    """Return True if a function runs over a namespace; or could, since it is shared and of the same module."""
    return function.__globals__ is namespace or (
        function.__module__ == namespace.get("__name__") and is_shared(function)
    )
