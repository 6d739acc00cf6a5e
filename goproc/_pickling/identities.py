"""Identities: copies of a function with one identity are one object.

A function that reaches only constant objects has a uid, which its creator gives it: one for each state of its
definition. A process has one function for each uid, however the function arrived: as a goroutine's, as one that another
function calls, or in an argument. Back in the creator's process the uid stands for the function of the script.

The uid of a worker's function follows from the definition, and from the number of the worker. So the replacement of a
worker gives equal functions the uids that they had, and the store and the other processes keep nothing twice.
"""

from __future__ import annotations

import os
import sys
import weakref
from operator import is_

from goproc._pickling import store
from goproc._record import Record
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FunctionType
    from typing import Any

_MOST = 4096  # code made by eval() would fill the memory


class Definition(Record):
    """A function and all objects that it reaches, as they were when it got its uid.

    Attributes:
        code: the function's code, kept because its id is a key.
        parts: the objects that the function is made of and that it reaches; None if another process gave the uid.
    """

    code: CodeType
    uid: str
    parts: list[Any] | None


# Pickles parts that are constant. The package sets it.
pickled: Callable[[list[Any]], bytes] = NotImplemented
_alike: dict[bytes, int] = store.cache({})  # digest of parts -> the number of functions that had them
_by_code: dict[int, Definition] = store.cache({})
_own: weakref.WeakValueDictionary[str, FunctionType] = store.cache(weakref.WeakValueDictionary())
_shared: weakref.WeakValueDictionary[str, FunctionType] = store.cache(weakref.WeakValueDictionary())


def uid_of(code: CodeType, parts: list[Any]) -> str:
    """Return the uid of a function with this code. If its parts have changed, the uid is a new one.

    Args:
        code: the function's code.
        parts: the objects that the function is made of and that it reaches, in an order that depends on nothing else.
    """
    known = _by_code.get(id(code))
    if known is None or not (known.parts is None or _same(known.parts, parts)):
        known = _remember(Definition(code, _new_uid(parts), parts))
    return known.uid


def _new_uid(parts: list[Any]) -> str:
    proc = _core.proc()
    if proc == 0:
        return os.urandom(16).hex()
    try:
        alike = store.digest_of(pickled(parts), 16)
    except Exception:  # pickling may raise anything, and will raise it again when the function is sent
        return os.urandom(16).hex()
    if len(_alike) > _MOST:
        _alike.clear()
    number = _alike[alike] = _alike.get(alike, 0) + 1  # equal functions of one process are different objects
    return store.digest_of(b"%d %d " % (proc, number) + alike, 16).hex()


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
    """Return True if a function is no copy: its globals are its module's."""
    module = sys.modules.get(function.__module__)
    return getattr(module, "__dict__", None) is function.__globals__


def note(uid: str, function: FunctionType, shared: bool) -> None:
    """Let the uid stand for a function of the script when it comes back.

    Args:
        uid: the function's uid.
        function: the function.
        shared: True if goroutines of this process get the function itself, as a copy would not differ from it.
    """
    if uid and is_original(function):
        _own[uid] = function
        if shared:
            _shared[uid] = function


def own(uid: str) -> FunctionType | None:
    """Return the function of the script for the uid."""
    return _own.get(uid)


def shared(uid: str, make: Callable[[], Any]) -> Any:
    """Return the function for the uid in the goroutines of this process.

    Args:
        uid: the function's uid, "" if it has none.
        make: makes the function the first time.
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
    """Return True if a function runs over a namespace; or could, as it is shared and of the same module."""
    return function.__globals__ is namespace or (
        function.__module__ == namespace.get("__name__") and is_shared(function)
    )
