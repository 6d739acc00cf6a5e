"""The end of a group's block: which exceptions are errors of the group, and which one stops the block from outside."""

from __future__ import annotations

from time import monotonic

from goproc._life import Goexit
from goproc._raised import set_cause
from goproc.errors import Cancelled, DeadlineExceeded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._group_here import Here
    from goproc._sched.g import G

_FROM_OUTSIDE = (Cancelled, Goexit, KeyboardInterrupt, SystemExit, GeneratorExit)


class Ending:
    """Sorts the exceptions that are raised while a block ends.

    ===========================================================  ========================================
    an exception that leaves the body                            its place
    ===========================================================  ========================================
    the interrupt by which a member's error has ended the body   none: that error is among the members'
    the error that wait() has raised                             none, too, but it stops the members
    Cancelled, Goexit, Ctrl-C, the end of the program or of a    `outside`: it is not for the block to
    generator, a deadline around the block                       catch
    any other                                                    `errors`, as the first
    ===========================================================  ========================================

    Attributes:
        cause: the reason to stop the members; None: the body gives no reason.
        errors: the exceptions that the block raises as a group.
        outside: the exception that stops the block from outside, in the body or in the wait for the members; the first
            counts.
    """

    __slots__ = ("cause", "errors", "outside")

    def __init__(self, exc: BaseException | None, me: G | None, here: Here) -> None:
        self.cause = None if exc is here.interrupt else exc
        self.errors: list[BaseException] = []
        self.outside: BaseException | None = None
        if self.cause is None:
            return
        if _is_from_outside(self.cause, me):
            self.outside = exc
        elif exc is not here.raised:
            self.errors.append(self.cause)

    @property
    def interrupted(self) -> bool:
        """True if Ctrl-C stops the block."""
        return isinstance(self.outside, KeyboardInterrupt)

    def exception(self) -> BaseException | None:
        """Return the exception that the block raises: `outside` with the errors as its cause, else their group."""
        group = BaseExceptionGroup("errors in a Group of goroutines", self.errors) if self.errors else None
        if self.outside is None:
            return group
        if group is not None and self.outside.__cause__ is None:
            set_cause(self.outside, group)
        return self.outside


def _is_from_outside(exc: BaseException, me: G | None) -> bool:
    if isinstance(exc, DeadlineExceeded):  # True if the timeout is around the block, not within it
        return me is not None and me.deadline is not None and me.deadline <= monotonic()
    return isinstance(exc, _FROM_OUTSIDE)
