"""ContextVars that cross processes, and the values with which a goroutine starts, from its creator's context.

A ContextVar is an identity, so its copy must be the same variable wherever it arrives. A variable that a module or a
class of a module holds is looked up there. Any other (of the script, in a closure) gets a number when it is first
pickled, and each process makes its own variable for that number once. Back in its own process it is the original
variable.
"""

from __future__ import annotations

import itertools
import pickle
import sys
from contextvars import Context, ContextVar

from goproc._pickling import pickler, store
from goproc._pickling.homes import only_here
from goproc._pickling.messages import dump_in_band
from goproc.errors import OutOfSharedMemory
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Reduced = tuple[Any, ...]

_reduced: dict[ContextVar[Any], Reduced] = store.cache({})
_by_id: dict[tuple[int, int], ContextVar[Any]] = store.cache({})
_numbers = itertools.count(1)


_table = store.Threshold()
_HELD = 5  # the references to a variable in _forget_unused(): two tables, the list, the loop, the call


def _keep(var: ContextVar[Any], reduced: Reduced) -> Reduced:
    _reduced[var] = reduced
    if _table.passed(len(_reduced)):
        _forget_unused()
    return reduced


def _forget_unused() -> None:
    """Forget variables that no code and no context refers to: if one arrives again, a new one serves as well."""
    for var in list(_reduced):
        if sys.getrefcount(var) <= _HELD:
            reduced = _reduced.pop(var)
            if reduced[0] is _variable:
                _by_id.pop(reduced[1][0], None)
    _table.set(len(_reduced))


def _reduce(_: pickler.Pickler, var: ContextVar[Any]) -> Reduced:
    reduced = _reduced.get(var)
    if reduced is None:
        reduced = _keep(var, _find(var))
    return reduced


def _find(var: ContextVar[Any]) -> Reduced:
    if var.name == "decimal_context" and "decimal" in sys.modules and var is _of_decimal():
        return _of_decimal, ()
    # Nearly always it has the name under which it is held.
    for search in (_by_its_name, _by_any_name, _in_classes):
        for name, module in list(sys.modules.items()):
            namespace = getattr(module, "__dict__", None)
            if not isinstance(namespace, dict):
                continue
            path = search(var, name, namespace)
            if path and not only_here(name):
                return _import, (name, path)
    id_ = _core.proc(), next(_numbers)
    _by_id[id_] = var
    default: tuple[Any, ...] = ()
    try:
        default = (Context().run(var.get),)
    except LookupError:
        pass
    return _variable, (id_, var.name, *default)


def _by_its_name(var: ContextVar[Any], module: str, namespace: dict[str, Any]) -> str | None:
    return var.name if namespace.get(var.name) is var else None


def _by_any_name(var: ContextVar[Any], module: str, namespace: dict[str, Any]) -> str | None:
    return next((key for key, value in list(namespace.items()) if value is var), None)


def _in_classes(var: ContextVar[Any], module: str, namespace: dict[str, Any]) -> str | None:
    for name, cls in list(namespace.items()):
        if isinstance(cls, type) and cls.__module__ == module:
            for key, value in list(vars(cls).items()):
                if value is var:
                    return f"{name}.{key}"
    return None


def _import(module: str, path: str) -> Any:
    __import__(module)
    found: Any = sys.modules[module]
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _of_decimal() -> Any:
    """Return the variable that decimal, written in C, keeps to itself: precision and rounding of the context."""
    import decimal

    context = Context()
    context.run(decimal.getcontext)
    return next((var for var in context if var.name == "decimal_context"), None)


def _variable(id_: tuple[int, int], name: str, *default: Any) -> ContextVar[Any]:
    var = _by_id.get(id_)
    if var is None:
        var = ContextVar(name, default=default[0]) if default else ContextVar(name)
        _by_id[id_] = var
        _keep(var, (_variable, (id_, name, *default)))
    return var


# -- a context -----------------------------------------------------------------------------------------------


def pack(context: Context) -> list[Any] | None:
    """Return a context for a message: pickles of variables and values, or the two themselves.

    A value that cannot be pickled is left out: a library may keep anything there, without the goroutine's knowledge.

    Cost: nothing for an empty context, else about 5 us a variable.
    """
    packed: list[Any] = []
    for item in context.items():
        try:
            packed.append(dump_in_band(item))
        except OutOfSharedMemory:
            raise
        except Exception:  # pickling may raise anything
            try:  # handles can only be pickled in the message that carries them
                _core.as_pickling(dump_in_band, item)
                packed.append(item)
            except OutOfSharedMemory:
                raise
            except Exception:  # it cannot be pickled: such values are left out
                pass
    return packed or None


def unpack(packed: Sequence[Any]) -> None:
    """Set the values in the current context."""
    for item in packed:
        try:
            var, value = pickle.loads(item) if isinstance(item, bytes) else item
            var.set(value)
        except Exception:  # only the creator can import the module
            pass


pickler.reducers[ContextVar] = _reduce
