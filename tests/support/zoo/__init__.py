"""Exceptions as users and libraries define and raise them: each function of `CASES` raises one.

The files are imported by tests, and run together as a script, whose classes travel by value: see script(). They import
nothing of the tests.
"""

from __future__ import annotations

import re
from pathlib import Path

from zoo import bases, builtin, classes, comparison, groups, libraries, links, reduces, registry
from zoo.comparison import NOTE, caught, difference
from zoo.registry import BY_CLASS, CASES, NOT_SENT

__all__ = ["BY_CLASS", "CASES", "NOTE", "NOT_SENT", "caught", "difference", "script"]

_IN_ORDER = (registry, builtin, classes, bases, reduces, libraries, groups, links, comparison)
_NOT_IN_A_SCRIPT = re.compile(r"^from (zoo\.\w+|__future__) import .*\n", re.M)


def script() -> str:
    """Return all of the cases as the text of one script."""
    texts = [Path(module.__file__).read_text() for module in _IN_ORDER]
    return "from __future__ import annotations\n" + "".join(_NOT_IN_A_SCRIPT.sub("", text) for text in texts)
