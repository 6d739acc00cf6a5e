"""Classes that a program makes and forgets: the caches about them must not keep them alive."""

from __future__ import annotations

import sys
from collections import deque

from goproc._pickling.homes import only_here

_MOST = 100


class Passing:
    """The classes that travel by value and that a cache has met, the latest last."""

    def __init__(self) -> None:
        self._met: deque[type] = deque()

    def add(self, cls: type) -> list[type]:
        """Note a class that is new in the cache.

        Returns:
            Classes that the cache is to forget: beyond a hundred, those that their module does not have under their
            name.
        """
        module = getattr(cls, "__module__", None)
        if not isinstance(module, str) or not only_here(module):
            return []
        self._met.append(cls)
        passed = []
        # Two old objects for each new one, so that the old ones come to an end.
        for _ in range(2 if len(self._met) > _MOST else 0):
            oldest = self._met.popleft()
            if _is_global(oldest):
                self._met.append(oldest)
            else:
                passed.append(oldest)
        return passed

    def clear(self) -> None:
        self._met.clear()


def _is_global(cls: type) -> bool:
    """Return True if the module of a class has it under its name."""
    found: object = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls
