"""The tracebacks of exceptions that leave goproc: the user's line, and no frames of goproc's behind it.

``from goproc import go`` imports this file, so it imports next to nothing. The modules that it needs are loaded with the
rest of the runtime.
"""

from __future__ import annotations

import sys

__goproc_frames__ = "tool"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType
    from typing import Any, ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")


def cut(exc: BaseException, always: bool = False) -> None:
    """Cut goproc's frames off the outer end of an exception's traceback.

    The caller raises it again by a bare ``raise``, which adds no frame: the line of the user's code that has called goproc
    is next. Frames of the user's behind those of goproc, as of an iterable, stay. So do all frames of an exception that
    no statement has raised, which a report of a defect needs.

    Args:
        exc: the exception.
        always: True if the frames of goproc are cut whether or not a statement raised the exception: a function of the
            user's has raised it, or the core.
    """
    if "goproc._wiring" not in sys.modules:
        return  # the runtime could not be loaded, for want of descriptors perhaps: no further module is read
    from goproc._frames import is_own
    from goproc._raised import set_traceback

    rest = last = exc.__traceback__
    while rest is not None and is_own(rest.tb_frame):
        last, rest = rest, rest.tb_next
    if rest is not None or always or is_for_user(exc, last):
        set_traceback(exc, rest)


class _UserLine:
    """A block whose exceptions show the line that has called the function around the block, and none of goproc's."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is not None:
            cut(exc)


user_line = _UserLine()


class _FunctionLine(_UserLine):
    """As _UserLine, for a block that calls a function of the user's: cut exceptions that C code has raised there, too."""

    __slots__ = ()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is not None:
            cut(exc, always=True)


function_line = _FunctionLine()


def ends_at_user(f: Callable[P, R]) -> Callable[P, R]:
    """Return a function that calls f, and whose exceptions show the line that has called it, and none of goproc's."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return f(*args, **kwargs)
        except BaseException as exc:
            outermost = _is_outermost(exc)
            if outermost and isinstance(exc, TypeError):
                from goproc._other_names import explain

                explain(exc, f)
            cut(exc, outermost)
            raise

    _name_as(f, call)
    return call


def coroutine_ends_at_user(f: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """As ends_at_user(), for a coroutine function: the line is the one that awaits the coroutine."""

    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await f(*args, **kwargs)
        except BaseException as exc:
            cut(exc, always=True)  # the core raises most of them
            raise

    _name_as(f, call)
    return call


def _is_outermost(exc: BaseException) -> bool:
    """Return True if no further function was called: the arguments do not fit its parameters."""
    trace = exc.__traceback__
    return trace is None or trace.tb_next is None


def _name_as(f: Any, call: Any) -> None:
    """Give a function the names of another, as functools.wraps() does, which not every program has loaded."""
    for name in ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__"):
        setattr(call, name, getattr(f, name))
    call.__wrapped__ = f


def is_for_user(exc: BaseException, last: TracebackType | None) -> bool:
    """Return True if goproc has raised an exception on purpose, for the user to read: it is no defect of goproc's.

    Args:
        exc: the exception.
        last: its innermost frame, which is one of goproc's.
    """
    from goproc.errors import GoprocError

    if isinstance(exc, AssertionError):
        return False
    if isinstance(exc, (GoprocError, OSError)) or not isinstance(exc, Exception):
        return True
    from opcode import opmap

    return last is not None and last.tb_frame.f_code.co_code[last.tb_lasti] == opmap["RAISE_VARARGS"]
