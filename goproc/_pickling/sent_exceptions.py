"""Exceptions inside a message. Beside its state an exception brings its cause and context, which pickle leaves out.

A class that defines how it is pickled is pickled in its own way: nothing is added.
"""

from __future__ import annotations

import copyreg

from goproc._pickling import exceptions
from goproc._pickling.exceptions import State, cause_of, context_of, link, shape_of, suppress_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def reduce_exception(of: Any, exc: BaseException) -> Any:
    """Reduce an exception met in a message.

    Its causes and contexts are packed like those of a goroutine's failure. So a cause that cannot be pickled, or a
    chain without end, does not prevent the exception from being sent.
    """
    linked = exceptions.is_linked(exc)
    if not linked and exceptions.is_plain(exc):
        return NotImplemented
    if exceptions.pickles_itself(exc) and not _calls_another_constructor(exc):
        return exceptions.reduce_by_class(of, exc)
    return reduce_by_rule(exc, _pack_links(exc) if linked else None)


def reduce_by_rule(exc: BaseException, links: tuple[Any, ...] | None) -> Any:
    """Reduce an exception by its class and state, even if its class defines another way."""
    if issubclass(type(exc), BaseExceptionGroup):
        made: Any = exceptions.make_group, (type(exc), exceptions.message_of(exc), exceptions.members_of(exc))
    else:
        made = exceptions.make, (type(exc), exceptions.call_of(exc))
    return *made, (tuple(exceptions.state_of(exc)), links), None, None, _restore


def _calls_another_constructor(exc: BaseException) -> bool:
    """Return True if a base's `__reduce__` calls the class, but the constructor is a newer one with other arguments."""
    if shape_of(type(exc)).fits or type(exc) in copyreg.dispatch_table:
        return False
    reduced = exc.__reduce_ex__(5)
    return isinstance(reduced, tuple) and reduced[0] is type(exc)


def _pack_links(exc: BaseException) -> tuple[Any, ...]:
    from goproc._pickling.failure import pack

    cause, context = cause_of.__get__(exc), context_of.__get__(exc)
    return (
        None if cause is None else pack(cause),
        None if context is None or context is cause else pack(context),
        context is not None and context is cause,
        suppress_of.__get__(exc),
    )


def _restore(exc: BaseException, parts: tuple[Any, ...]) -> None:
    """Give an exception of a message its state and links."""
    state, links = parts
    exceptions.fill(exc, State(*state))
    if links is not None:
        from goproc._pickling.failure import unpack

        cause, context, same, suppress = links
        cause = None if cause is None else unpack(cause)
        link(exc, cause, cause if same else None if context is None else unpack(context), suppress)
