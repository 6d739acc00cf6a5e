"""How public names and objects show themselves.

Tracebacks and pickles say `goproc.name`, and not the name of its module.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")


def public(thing: T) -> T:
    """Make `goproc` the module of a class or function that `goproc` exports."""
    thing.__module__ = "goproc"
    return thing


def of_stopped(thing: str) -> str:
    """Return the repr of an object whose runtime has stopped."""
    return f"<{thing} of a runtime that stopped>"
