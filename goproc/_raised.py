"""Exceptions of any class: their attributes, set past the `__setattr__` of the class, which may refuse, and their text."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_traceback = BaseException.__dict__["__traceback__"]
_cause = BaseException.__dict__["__cause__"]
_attributes = BaseException.__dict__["__dict__"]

# What the methods of an object may raise when it is read or written. An interrupt, or the end of a goroutine, is not theirs.
OF_OBJECTS = (Exception, SystemExit, GeneratorExit)


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


def text_of(exc: BaseException) -> str:
    """Return the text of an exception as a plain string, even if its `__str__` fails."""
    try:
        return str.__str__(str(exc))
    except KeyboardInterrupt:
        raise
    except BaseException:  # a __str__ may raise anything
        return f"<{type(exc).__name__} whose text cannot be made>"


def described(exc: BaseException) -> str:
    """Return the type and the text of an exception, as in "ValueError: no such name"."""
    return f"{type(exc).__name__}: {text_of(exc)}"
