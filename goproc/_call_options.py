"""The options of ``go.opts()``, checked."""

from __future__ import annotations

from math import inf
from typing import Any

from goproc._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

GRACE = 1.0  # seconds, where go.opts(timeout=...) names none
MOST_RETRIES = (1 << 16) - 1  # a task has 16 bits for them; so many are as good as endless


class Limits(Record):
    """The options that go.opts(timeout=..., grace=..., retries=...) has set for one call."""

    timeout: float  # seconds from its start; infinity: no limit
    grace: float  # seconds from the cancellation to the end of the process
    retries: int  # the number of further runs after the goroutine was lost with its process


_NONE = Limits(inf, GRACE, 0)


def checked_limits(
    before: Limits | None, timeout: float | None, grace: float | None, retries: int | None
) -> Limits | None:
    """Return the limits that go.opts() gives to a call; None if there are none.

    Args:
        before: those of an earlier opts() in the same expression; an argument that is None keeps them.

    Raises:
        TypeError: an argument is no number.
        ValueError: an argument is negative or NaN; a grace without a timeout.
    """
    if timeout is None and grace is None and retries is None:
        return before
    old = before or _NONE
    new = Limits(
        old.timeout if timeout is None else checked_seconds(timeout, "go.opts(timeout=...)"),
        old.grace if grace is None else checked_seconds(grace, "go.opts(grace=...)"),
        old.retries if retries is None else _checked_retries(retries),
    )
    if grace is not None and new.timeout == inf:
        raise ValueError("go.opts(grace=...) counts from the end of a timeout: give timeout=, too")
    return None if new.timeout == inf and not new.retries else new


def checked_seconds(value: Any, what: str) -> float:
    """Return a time in seconds that is neither negative nor NaN.

    Args:
        value: given by the user; infinity is allowed.
        what: the name of the argument in the error.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{what} takes seconds as a number, not {type(value).__name__}")
    if not value >= 0:  # negative, or NaN
        raise ValueError(f"{what} takes seconds from 0 on, not {value}")
    try:
        return float(value)
    except OverflowError:  # an int beyond every float
        return inf


def _checked_retries(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"go.opts(retries=...) takes a whole number, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"go.opts(retries=...) takes a number from 0 on, not {value}")
    return min(value, MOST_RETRIES)


def checked_name(name: str | None) -> str | None:
    if name is not None and not isinstance(name, str):
        raise TypeError(f"go.opts(name=...) takes a string, not {type(name).__name__}")
    return name


def checked_labels(labels: Mapping[str, object] | None) -> dict[str, str]:
    try:
        given = dict(labels or {})
    except (TypeError, ValueError):
        raise TypeError(
            f"go.opts(labels=...) takes a dict of texts by name, not {type(labels).__name__}"
        ) from None
    checked = {}
    for key, value in given.items():
        if not isinstance(key, str):
            raise TypeError(f"go.opts(labels=...): the names of labels are strings, not {type(key).__name__}")
        checked[key] = str(value)
    return checked
