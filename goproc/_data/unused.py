"""The warning for a map or a flow that nobody has iterated: it is lazy, so nothing has run.

    pmap(save, items)  # a user forgets list()

The warning comes where the object is the value of a statement of its own, as above. An object that has a name, or was
handed on, may be dropped because an exception came before its iteration.
"""

from __future__ import annotations

import sys
from opcode import opmap
from typing import NamedTuple

from goproc._pickling.carried import users_frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

_DROP = opmap["POP_TOP"]  # the instruction that ends such a statement: it follows the call
_CACHE = opmap["CACHE"]  # space between two instructions


class Place(NamedTuple):
    """The place where an object was made.

    Attributes:
        code: of the user's function.
        line: in its file.
        instruction: the index in the code of the call that made the object.
    """

    code: CodeType
    line: int
    instruction: int


def place() -> Place:
    """Return the user's line that runs."""
    frame = users_frame()
    return Place(frame.f_code, frame.f_lineno, frame.f_lasti)


def _drops_at_once(made: Place, instruction: int) -> bool:
    """Return True if an instruction drops the result of the call that made an object.

    A traceback may keep the object until the same function drops another value.
    """
    code = made.code.co_code
    between = code[made.instruction + 2 : instruction : 2]
    return instruction > made.instruction and code[instruction] == _DROP and set(between) <= {_CACHE}


def warn(made: Place, what: str, advice: str) -> None:
    """Warn of an object that is dropped: by its __del__(), which calls this.

    Args:
        made: where it was made.
        what: names the object, as in "pmap(save)".
        advice: names what to write in its place.
    """
    frame = sys._getframe(1).f_back
    if frame is None or frame.f_code is not made.code or sys.is_finalizing():
        return
    if not _drops_at_once(made, frame.f_lasti):
        return
    import warnings

    registry = frame.f_globals.setdefault("__warningregistry__", {})
    text = f"{what} was never iterated, so nothing has run: {advice}"
    warnings.warn_explicit(text, RuntimeWarning, made.code.co_filename, made.line, registry=registry)
