"""The cases: functions that each raise one exception, by their names."""

from __future__ import annotations

import functools
import typing

CASES: dict[str, typing.Callable[[], None]] = {}
BY_CLASS: set[str] = set()  # their class says how they are pickled, and leaves out links
NOT_SENT: set[str] = set()  # pickle alone cannot send them in a message


def case(f, by_class=False, not_sent=False):
    CASES[f.__name__] = f
    if by_class or not_sent:
        BY_CLASS.add(f.__name__)
    if not_sent:
        NOT_SENT.add(f.__name__)
    return f


by_class = functools.partial(case, by_class=True)
not_sent = functools.partial(case, not_sent=True)
