"""A frame of the module below the frame of a goroutine's function, for libraries that look for names up the stack.

`polars.sql("select ... from frame")` looks for `frame` among the local variables of all callers. In a script the last
caller is the module; a goroutine has none.
"""

from __future__ import annotations

import functools
import sys
from types import FunctionType

from goproc._pickling.names import names_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

LIBRARY = "polars"


def wanted(function: Any) -> bool:
    """Return True if a function may call a library that looks for the names of its module in that way."""
    if type(function) is not FunctionType:
        return False
    code = function.__code__
    if LIBRARY not in sys.modules and not imports_library(code):
        return False
    return any(name in function.__globals__ for name in names_of(code).mentioned)


def imports_library(code: CodeType) -> bool:
    return LIBRARY in names_of(code).imports


def called_by_module(function: FunctionType) -> Any:
    """Return a function that calls `function` from a frame with the function's globals as local variables."""

    def call(*args: Any, **kwargs: Any) -> Any:
        thunk = functools.partial(function, *args, **kwargs)
        consts = tuple([thunk if const == _PLACE else const for const in _CALL.co_consts])
        return eval(_CALL.replace(co_consts=consts), function.__globals__)

    return call


_PLACE = 1.5
# The call of a constant, as an expression of a module. (Python would warn of a plain `1.5()`.)
_CALL = compile(f"(None or {_PLACE})()", __file__, "eval")
