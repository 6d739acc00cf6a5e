"""The attributes that Python itself keeps on exceptions, set past the `__setattr__` of their class, which may refuse."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_traceback = BaseException.__dict__["__traceback__"]
_cause = BaseException.__dict__["__cause__"]
_attributes = BaseException.__dict__["__dict__"]


def set_traceback(exc: BaseException, traceback: TracebackType | None) -> None:
    _traceback.__set__(exc, traceback)


def set_cause(exc: BaseException, cause: BaseException | None) -> None:
    """Set the cause, as ``raise exc from cause`` does."""
    _cause.__set__(exc, cause)


def add_note(exc: BaseException, note: str) -> None:
    """Add a note after those that there are, also if a class keeps them in another way than as a list."""
    attributes = _attributes.__get__(exc)
    notes = attributes.get("__notes__")
    before = [] if notes is None else notes if isinstance(notes, (list, tuple)) else [notes]
    attributes["__notes__"] = [*before, note]
