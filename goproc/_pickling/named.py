"""Objects that pickle as a name in a module which only this process has. They travel by their content.

There is one object for each name in a process, so that a marker is itself everywhere, and the cache of a decorator is
filled once.
"""

from __future__ import annotations

import os
import pickle
import sys

from goproc._pickling import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Both have the uid of an object, which its creator gives it.
_uids: dict[int, tuple[Any, str]] = store.cache({})
_named: dict[str, Any] = store.cache({})
_table = store.Threshold()
_HELD = 4  # references to an object in _forget_unused(): two tables, the variable, the call


def _keep_named(uid: str, obj: Any) -> None:
    _named[uid] = obj
    _uids[id(obj)] = obj, uid
    if _table.passed(len(_named)):
        _forget_unused()


def _forget_unused() -> None:
    """Forget the objects to which no other reference is left."""
    for uid in list(_named):
        obj = _named[uid]
        if sys.getrefcount(obj) <= _HELD:
            del _named[uid], _uids[id(obj)]
    _table.set(len(_named))


def by_content(obj: Any) -> Any:
    """Reduce an object as if its class had no method for that, which would give the name of a function."""
    kind = type(obj)
    args, kwargs = (), {}
    if hasattr(kind, "__getnewargs_ex__"):
        args, kwargs = obj.__getnewargs_ex__()
    elif hasattr(kind, "__getnewargs__"):
        args = obj.__getnewargs__()
    try:
        state = object.__getstate__(obj)
    except TypeError as error:
        raise pickle.PicklingError(f"it pickles as a name of {obj.__module__}, and {error}") from error
    known = _uids.get(id(obj))
    uid = os.urandom(16).hex() if known is None else known[1]
    if uid not in _named:
        _keep_named(uid, obj)
    return _new_named, (uid, kind, args, kwargs), (uid, state), None, None, _set_named


def _new_named(uid: str, kind: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    obj = _named.get(uid)
    return kind.__new__(kind, *args, **kwargs) if obj is None else obj


def _set_named(obj: Any, state: tuple[str, Any]) -> None:
    uid, content = state
    if uid in _named:
        return
    _keep_named(uid, obj)
    attributes, slots = content if type(content) is tuple else (content, None)
    if attributes:
        obj.__dict__.update(attributes)
    for name, value in (slots or {}).items():
        setattr(obj, name, value)
