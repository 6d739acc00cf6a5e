"""Functions of the script inside `functools.lru_cache`: each has one wrapper in a process, and so one cache.

A wrapper has a uid, which its creator gives it. Another process makes the wrapper when it first arrives, over globals
of the wrapper's own, since each goroutine that calls it has its own. These globals are then those of the message that
arrived last: code that has set the globals of a message calls `refresh_all`.
"""

from __future__ import annotations

import functools
import os
from types import FunctionType
from weakref import WeakKeyDictionary, WeakValueDictionary

from goproc._pickling import store
from goproc._pickling.names import names_of
from goproc._pickling.statics import LRU, importable
from goproc._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Namespace = dict[str, Any]


class Cached(Record):
    """The uid of a wrapper, and the arguments of `lru_cache`."""

    uid: str
    maxsize: int | None
    typed: bool


class Received(Record):
    """A wrapper made in this process, its globals, and the globals that its function can reach."""

    wrapper: Any
    namespace: Namespace
    reach: frozenset[str]


_MOST = 256  # the number of received wrappers that a process keeps

_own: WeakKeyDictionary[Any, Cached] = WeakKeyDictionary()  # the wrappers of the script, in its process
# The script's wrappers that have been sent.
_by_uid: WeakValueDictionary[str, Any] = store.cache(WeakValueDictionary())
_received: dict[str, Received] = store.cache({})
_sent_on: WeakKeyDictionary[Any, Cached] = WeakKeyDictionary()  # received ones


def cached(wrapper: Any) -> Cached:
    """Return the part of a wrapper, beside its function, that messages hold."""
    known = _own.get(wrapper) or _sent_on.get(wrapper)
    if known is None:
        parameters = wrapper.cache_parameters()
        known = _own[wrapper] = Cached(os.urandom(16).hex(), parameters["maxsize"], parameters["typed"])
    if wrapper in _own:
        _by_uid[known.uid] = wrapper
    return known


def here(cached: Cached) -> Any:
    """Return the wrapper of this process, or None."""
    received = _received.get(cached.uid)
    return _by_uid.get(cached.uid) if received is None else received.wrapper


def receive(
    cached: Cached, make: Callable[[Namespace], FunctionType], name: str | None, namespace: Namespace
) -> Any:
    """Return the wrapper of this process. Make it the first time, else bring its globals up to date.

    Args:
        cached: the message's part of it.
        make: makes the function inside over a namespace.
        name: the name of the wrapper among the globals, or None.
        namespace: the globals that came with the message.
    """
    known = here(cached)
    if known is not None:
        refresh(cached, namespace)
        return known
    own = dict(namespace)
    function = make(own)
    wrapper = functools.lru_cache(cached.maxsize, cached.typed)(function)
    if name is not None:
        own[name] = wrapper
    while len(_received) >= _MOST:
        del _received[next(iter(_received))]
    _received[cached.uid] = Received(wrapper, own, _reach(function))
    _sent_on[wrapper] = cached
    return wrapper


def refresh(cached: Cached, namespace: Namespace) -> None:
    """Bring the globals of a wrapper up to date with those that came with a message."""
    known = _received.get(cached.uid)
    if known is not None:
        known.namespace.update({name: namespace[name] for name in known.reach if name in namespace})


def refresh_all(namespace: Namespace) -> None:
    """Bring the globals of all wrappers in a namespace up to date with it."""
    if _received:
        for value in list(namespace.values()):
            while type(value) is FunctionType:  # a decorator with `functools.wraps` is around it
                value = value.__dict__.get("__wrapped__")
            if type(value) is LRU and value in _sent_on:
                refresh(_sent_on[value], namespace)


def _reach(function: FunctionType) -> frozenset[str]:
    """Return the names of the globals that a function and the functions it calls by name use."""
    found = set(names_of(function.__code__).used)
    todo = list(found)
    for name in todo:
        code = getattr(function.__globals__.get(name), "__code__", None)
        if code is not None:
            more = set(names_of(code).used) - found
            found |= more
            todo += more
    return frozenset(found)


# -- a wrapper inside a message ------------------------------------------------------------------------------


def reduce_lru_cache(_: Any, wrapper: Any) -> Any:
    """Reduce an object of `lru_cache`: by reference if importable, else as the function inside and an empty cache.

    A wrapper of a module's function is one object in each process, and so is its cache. (A wrapped class is one object
    anyway.)
    """
    if importable(wrapper):
        return NotImplemented
    function = wrapper.__wrapped__
    if type(function) is FunctionType and function.__qualname__ == function.__name__:
        name = function.__name__ if function.__globals__.get(function.__name__) is wrapper else None
        return _receive_wrapper, (cached(wrapper), function, name)
    parameters = wrapper.cache_parameters()
    return _make_lru_cache, (function, parameters["maxsize"], parameters["typed"])


def _make_lru_cache(function: Any, maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def _receive_wrapper(cached: Cached, function: FunctionType, name: str | None) -> Any:
    make = functools.partial(_over, function)
    return receive(cached, make, name, function.__globals__)


def _over(function: FunctionType, namespace: dict[str, Any]) -> FunctionType:
    """Return a copy of a function over another namespace."""
    made = FunctionType(
        function.__code__, namespace, function.__name__, function.__defaults__, function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    made.__dict__.update(function.__dict__)
    return made
