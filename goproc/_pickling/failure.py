"""Failures: an exception as a message of plain builtins, with the texts that a report needs.

The message has two halves. A pickle holds the exception and all exceptions that it leads to, see `nodes`. Beside the
pickle stand the names, texts and tracebacks of the exception, its causes and members. A report reads these without
making an exception; a reader that cannot make an exception uses them, too.
"""

from __future__ import annotations

import traceback

from goproc._frames import PACKAGE
from goproc._pickling.exceptions import (
    cause_of,
    context_of,
    members_of,
    message_of,
    suppress_of,
    traceback_of,
)
from goproc._pickling.node_reader import load
from goproc._pickling.nodes import Facts, Nodes, kinds_of
from goproc._pickling.packed import Packed
from goproc._raised import add_note, text_of
from goproc.errors import RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    Stored = tuple[Any, ...]  # the items of a Packed

_CHAIN = 16  # the most causes of causes, or groups in groups, that a report shows
_TEXT = 1000  # the most characters of the text of an exception that has to be short
_NOTE = "Traceback of the goroutine (most recent call last):\n"


def pack(exc: BaseException) -> Stored:
    """Make a message of plain builtins from an exception.

    Never raises. If the exception holds channels or other handles, `pickle` is a tuple of the pickle and the handles,
    since only a message on its way carries handles.

    Returns:
        The items of a Packed.
    """
    try:
        numbers = Nodes(_facts_of)
        packed = _pack(exc, 0, numbers, set())
        numbers.leave_out_facts()
    except KeyboardInterrupt:  # more likely the user's Ctrl-C than the exception's
        raise
    except BaseException:  # no memory or no stack is left
        return None, type(exc).__name__, "", "", None, None, False, None
    try:
        blob = numbers.pickle()
        return (blob, *numbers.handles) if numbers.handles else blob, *packed[1:]
    except KeyboardInterrupt:
        raise
    except BaseException:  # no memory or no stack is left
        return None, *packed[1:]


def pack_briefly(exc: BaseException) -> Stored:
    """Make a short message from an exception for which the memory has no more room."""
    name, kinds = type(exc).__qualname__, kinds_of(type(exc))
    return pack(RemoteError(name, text_of(exc)[:_TEXT], "", "it is larger than memory allows", kinds=kinds))


def _pack(exc: BaseException, depth: int, numbers: Nodes, seen: set[int]) -> Stored:
    number = numbers.number(exc)
    if id(exc) in seen:  # a member of several groups is described once
        return number, _name(type(exc)), text_of(exc), "", None, None, False, None
    seen.add(id(exc))
    name, text, frames = _facts_of(exc)
    members = cause = context = None
    if issubclass(type(exc), BaseExceptionGroup) and depth < _CHAIN:
        members = tuple([_pack(member, depth + 1, numbers, seen) for member in members_of(exc)])
        text = str.__str__(message_of(exc))
    suppress = suppress_of.__get__(exc)
    if depth < _CHAIN:
        before, during = cause_of.__get__(exc), context_of.__get__(exc)
        if before is not None and id(before) not in seen:
            cause = _pack(before, depth + 1, numbers, seen)
        elif during is not None and not suppress and id(during) not in seen:
            context = _pack(during, depth + 1, numbers, seen)
    return number, name, text, frames, cause, context, suppress, members


def _facts_of(exc: BaseException) -> Facts:
    return Facts(_name(type(exc)), text_of(exc), _frames(exc))


def unpack(packed: Stored, noted: bool = True) -> BaseException:
    """Return the exception of a message made by `pack`.

    Its causes and members are restored. A note on the exception has the remote frames: a traceback that is printed here
    shows the local raise, and then, once, the remote place. A part that could not be pickled is a `RemoteError`.

    Args:
        packed: the message.
        noted: False to leave out the notes, if the caller shows the remote frames in another way.
    """
    blob, *rest = packed
    if blob is None:
        return _stand_in(packed)
    facts: dict[int, Facts] = {}
    _collect((0, *rest), facts)
    try:
        found = load(*blob, facts=facts) if isinstance(blob, tuple) else load(blob, facts=facts)
    except Exception:  # no memory or no stack is left
        return _stand_in(packed)
    for number, exc in enumerate(found if noted else ()):
        _note(exc, facts[number].frames)
    return found[0]


def _collect(packed: Stored, facts: dict[int, Facts]) -> None:
    """Note by number the facts in a message about each exception."""
    own = Packed(*packed)
    facts.setdefault(own.pickle, Facts(own.kind, own.text, own.frames))
    for part in (own.cause, own.context, *(own.members or ())):
        if part is not None:
            _collect(part, facts)


def _stand_in(packed: Stored) -> BaseException:
    """Return the stand-in for an exception of which only the texts have arrived."""
    own = Packed(*packed)
    exc: BaseException = RemoteError(own.kind, own.text, own.frames)
    if own.members:
        exc = BaseExceptionGroup(own.text, [_stand_in(member) for member in own.members])
    if own.cause is not None:
        exc.__cause__ = _stand_in(own.cause)
    if own.context is not None:
        exc.__context__ = _stand_in(own.context)
    exc.__suppress_context__ = own.suppress_context
    _note(exc, own.frames)
    return exc


def _note(exc: BaseException, frames: str) -> None:
    """Add the remote frames to the notes."""
    if not frames:
        return
    add_note(exc, _NOTE + frames.rstrip("\n"))


def format_traceback(exc: BaseException, skip_files: tuple[str, ...] = (PACKAGE,)) -> str:
    """Return the text that Python would print for `exc`, without the frames that only started the goroutine.

    Args:
        exc: the exception.
        skip_files: beginnings of file names; frames at the top from such files are left out.
    """
    try:
        lines = traceback.format_exception(type(exc), exc, _strip(exc.__traceback__, skip_files))
    except Exception:  # a __str__ or a __cause__ raises, or the chain is too deep to format
        lines = [
            "Traceback (most recent call last):\n",
            _frames(exc),
            f"{_name(type(exc))}: {text_of(exc)}\n",
        ]
    return "".join(lines)


def _strip(tb: TracebackType | None, skip_files: tuple[str, ...]) -> TracebackType | None:
    kept = tb
    while kept is not None and kept.tb_frame.f_code.co_filename.startswith(skip_files):
        kept = kept.tb_next
    return kept if kept is not None else tb


def _frames(exc: BaseException) -> str:
    try:
        return "".join(traceback.format_tb(_strip(traceback_of.__get__(exc), (PACKAGE,))))
    except Exception:  # no memory is left, or a source file cannot be read as text
        return ""


def _name(kind: type) -> str:
    try:
        module = kind.__module__
        name = kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"
        return str.__str__(name)
    except Exception:  # a metaclass may raise anything
        return type.__name__.__get__(kind)  # type: ignore[attr-defined, no-any-return]
