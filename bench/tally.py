"""A count that each process keeps for itself: how many tasks ran here. Imported by reference in all of them."""

from __future__ import annotations

_ran = 0


def add() -> None:
    """One more task ran in this process."""
    global _ran
    _ran += 1


def read() -> int:
    """How many tasks ran in this process since `reset`."""
    return _ran


def reset() -> None:
    """Starts from zero."""
    global _ran
    _ran = 0
