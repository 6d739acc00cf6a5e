"""The mark of public names: tracebacks and pickles say `goproc.name`, and not the name of its module."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")


def public(thing: T) -> T:
    """Make `goproc` the module of a class or function that `goproc` exports."""
    thing.__module__ = "goproc"
    return thing
