"""Finds the objects that a library has cached on a class and that cannot be pickled: they stay behind."""

from __future__ import annotations

from types import GetSetDescriptorType

from goproc._pickling import pickler
from goproc._pickling.classes import left_out
from goproc.errors import OutOfSharedMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def find_caches(cls: type) -> bool:
    """Leave out attributes of a class that cannot be pickled and whose names no user writes: a library's caches.

    Returns:
        True if this call has left out more than before.
    """
    before = left_out.get(cls, frozenset())
    found = {
        name
        for name, value in cls.__dict__.items()
        if name.startswith("__") and name.endswith("__") and name not in before and _is_refused(cls, value)
    }
    left_out[cls] = before | found
    return bool(found)


def _is_refused(cls: type, value: Any) -> bool:
    """Return True if the value of an attribute of `cls` cannot be pickled, apart from `cls` itself."""
    # The descriptor of `__dict__` or the like: no part of the definition.
    if type(value) is GetSetDescriptorType:
        return False
    trial = _Trial(pickler.Sink(), 5)
    trial.cls = cls
    try:
        trial.dump(value)
    except OutOfSharedMemory:
        raise
    except Exception:  # pickling may raise anything: the value is not static
        return True
    return False


class _Trial(pickler.Pickler):
    """Pickles the value of an attribute of a class, with a name in place of the class."""

    cls: type
    refers_to_methods = False

    def reducer_override(self, obj: Any) -> Any:
        return (str, ("the class",)) if obj is self.cls else super().reducer_override(obj)
