"""The configurations: who does what, and how many die. The files *_cases.py register theirs here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from model.explorer import Explorer, Result


class Configuration(NamedTuple):
    """`explorer` makes it with some rules taken out. `long`: it is explored in the long form only."""

    name: str
    explorer: Callable[[frozenset[str]], Explorer]
    long: bool

    def explore(self, faults: frozenset[str] = frozenset()) -> Result:
        return self.explorer(faults).explore(deep=bool(faults))


CONFIGURATIONS: dict[str, Configuration] = {}


def register(name: str, explorer: Callable[[frozenset[str]], Explorer], long: bool = False) -> None:
    assert name not in CONFIGURATIONS, name
    CONFIGURATIONS[name] = Configuration(name, explorer, long)
