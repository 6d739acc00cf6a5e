"""Exceptions that cross processes.

What is sent is verified where it is raised: an exception that cannot be pickled, or cannot be unpickled, must not
surprise the reader, so the sender makes the round trip itself and sends type, text and traceback if it fails.
Pickle drops what links an exception to others, so causes, contexts and the members of groups are packed one by one.
"""

from __future__ import annotations

import os
import pickle
import traceback

from goproc.errors import RemoteError
from goproc.pickling.messages import dump_in_band

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    # (pickle or None, type name, text, frames, cause, context, suppress_context, members or None)
    Packed = tuple[Any, ...]

_GROUPS = (ExceptionGroup, BaseExceptionGroup)
_CHAIN = 16  # causes of causes, groups in groups
_NOTE = "Traceback of the goroutine (most recent call last):\n"
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def pack(exc: BaseException) -> Packed:
    """Make a message of plain builtins from an exception.

    Never raises, whatever the exception is made of. Item 0 is the pickle or None, 1 the name of the type,
    2 the text, 3 the traceback's frames as text.
    """
    return _pack(exc, 0, set())


def _pack(exc: BaseException, depth: int, seen: set[int]) -> Packed:
    seen.add(id(exc))
    members = cause = context = None
    if isinstance(exc, BaseExceptionGroup) and depth < _CHAIN:
        members = tuple([_pack(member, depth + 1, seen) for member in exc.exceptions])
        blob, text = _pickle_group_type(type(exc)), exc.message
    else:
        blob, text = _pickle(exc), _text(exc)
    if depth < _CHAIN:
        if exc.__cause__ is not None and id(exc.__cause__) not in seen:
            cause = _pack(exc.__cause__, depth + 1, seen)
        elif exc.__context__ is not None and not exc.__suppress_context__ and id(exc.__context__) not in seen:
            context = _pack(exc.__context__, depth + 1, seen)
    return blob, _name(type(exc)), text, _frames(exc), cause, context, exc.__suppress_context__, members


def _pickle(exc: BaseException) -> bytes | None:
    try:
        blob = dump_in_band(exc)
        copy = pickle.loads(blob)
        return blob if type(copy) is type(exc) and str(copy) == str(exc) else None
    except KeyboardInterrupt:  # more likely the user's than the constructor's
        raise
    except BaseException:
        return None


def _pickle_group_type(kind: type) -> bytes | None:
    """The type of a group is sent only if it can be made from a message and members, as the built-in ones are."""
    own_constructor = any(
        "__init__" in vars(cls) or "__new__" in vars(cls)
        for cls in kind.__mro__
        if issubclass(cls, BaseExceptionGroup) and cls not in _GROUPS
    )
    if own_constructor:
        return None
    try:
        return dump_in_band(kind)
    except Exception:
        return None


def unpack(packed: Packed) -> BaseException:
    """Return the exception of a message made by `pack`.

    Its causes and members are restored. The remote frames are a note on it, so that a traceback printed locally shows
    the local raise and then, once, where it happened. What could not be pickled is a `RemoteError`.
    """
    blob, name, text, frames, cause, context, suppress, members = packed
    exc: BaseException
    if members is not None:
        exc = _group(blob, text, [unpack(member) for member in members])
    else:
        exc = _load(blob, name, text, frames)
    if cause is not None:
        exc.__cause__ = unpack(cause)
    if context is not None:
        exc.__context__ = unpack(context)
    exc.__suppress_context__ = suppress
    if frames:
        exc.add_note(_NOTE + frames.rstrip("\n"))
    return exc


def _load(blob: bytes | None, name: str, text: str, frames: str) -> BaseException:
    if blob is not None:
        try:
            exc = pickle.loads(blob)
            if isinstance(exc, BaseException):
                return exc
        except Exception:  # a module that only the sender can import
            pass
    return RemoteError(name, text, frames)


def _group(blob: bytes | None, message: str, members: list[BaseException]) -> BaseException:
    if blob is not None:
        try:
            group = pickle.loads(blob)(message, members)
            if isinstance(group, BaseException):
                return group
        except Exception:
            pass
    return BaseExceptionGroup(message, members)  # an ExceptionGroup where the members allow it


def format_traceback(exc: BaseException, skip_files: tuple[str, ...] = (_PACKAGE,)) -> str:
    """Return what Python would print for `exc`, without the frames that only started the goroutine.

    Args:
        exc: the exception.
        skip_files: frames from files whose name starts with one of these are dropped at the top.
    """
    try:
        lines = traceback.format_exception(type(exc), exc, _strip(exc.__traceback__, skip_files))
    except Exception:  # a __str__ or a __cause__ that raises, or a chain too deep to format
        lines = ["Traceback (most recent call last):\n", _frames(exc), f"{_name(type(exc))}: {_text(exc)}\n"]
    return "".join(lines)


def _strip(tb: TracebackType | None, skip_files: tuple[str, ...]) -> TracebackType | None:
    kept = tb
    while kept is not None and kept.tb_frame.f_code.co_filename.startswith(skip_files):
        kept = kept.tb_next
    return kept if kept is not None else tb


def _frames(exc: BaseException) -> str:
    try:
        return "".join(traceback.format_tb(_strip(exc.__traceback__, (_PACKAGE,))))
    except Exception:
        return ""


def _name(kind: type) -> str:
    return (
        kind.__qualname__
        if kind.__module__ in ("builtins", "__main__")
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _text(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:
        return f"<{type(exc).__name__} whose text cannot be made>"
