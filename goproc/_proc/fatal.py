"""The ends of the program other than main's return, and failures that are never read.

A goroutine that fails panics if its creator has kept no handle. The first panic is reported, and the program ends with
status 2. Where
a prompt, a notebook, a test run or a server owns the process, only the runtime ends (see _core.survives()).

A goroutine that fails while a handle exists leaves its failure to the handle. A failure that is still unread when the
last handle goes is reported, and the program goes on.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from textwrap import indent
from typing import Any

from goproc._pickling.packed import ITEMS, Packed
from goproc._proc import last_words, line_output, stdio
from goproc._record import Record
from goproc.errors import OutOfSharedMemory
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Stored = tuple[Any, ...] | str | None  # the outcome of a goroutine that failed, in shared memory

# The stored outcome of a goroutine that failed, in a process without memory for its exception.
NO_MEMORY = ""
BY_SIGNAL = 0x100  # beside its number, the status of a program that ends by a signal
POLICIES = ("report", "panic", "ignore")  # values of GOPROC_UNREAD, for failures that are never read


silent = False  # True once the program's output has no reader: goproc prints nothing more


class Failure(Record):
    """The stored outcome of a goroutine that failed: a packed exception, and facts that a report prints beside it."""

    packed: Packed
    labels: str
    name: str
    parent: int

    @classmethod
    def read(cls, stored: Stored) -> Failure:
        """Take a stored outcome apart. Promises store the packed exception alone.

        Args:
            stored: None or NO_MEMORY where there was room for the mere fact of a failure only.
        """
        if not isinstance(stored, tuple):
            stored = _lost(stored)
        return cls(Packed(*stored[:ITEMS]), *(stored[ITEMS:] or ("", "", 0)))

    def store(self) -> tuple[Any, ...]:
        """Return the flat tuple that read() takes: shared memory carries plain tuples without pickling them."""
        return *self.packed, self.labels, self.name, self.parent

    def traceback(self) -> str:
        """Return the frames, type and text of the exception and of its causes, as Python prints them."""
        return _traceback(self.packed)


def _lost(stored: str | None) -> tuple[Any, ...]:
    from goproc._pickling import failure

    if stored == NO_MEMORY:
        return failure.pack(MemoryError("the process of the goroutine had no memory left for its exception"))
    return failure.pack(
        OutOfSharedMemory(
            "the exception of the goroutine did not fit in shared memory, which was full when it ended "
            "(raise the limit with --memory, GOPROC_MEMORY or runtime(memory=...))"
        )
    )


def set_failure(promise: Any, exc: BaseException) -> tuple[Any, ...] | None:
    """Make an exception the outcome of a promise. It is shortened or left out where memory is short.

    Returns:
        The stored form.
    """
    from goproc._pickling import failure

    for pack in (failure.pack, failure.pack_briefly):
        packed = pack(exc)
        try:
            _core.promise_set(promise, True, packed)
        except OutOfSharedMemory:
            continue
        return packed
    _core.promise_set(promise, True, None)
    return None


class Site(Record):
    """The place where a goroutine was created."""

    function: str
    place: str
    statement: bool  # the code drops the handle at once, as ``go(f)`` on a line of its own does

    @classmethod
    def read(cls, ref: int) -> Site | None:
        """Return the site at a ref; None if the creator has noted none."""
        try:
            text = _core.definition_get(ref).decode("utf-8", "replace") if ref else ""
        except Exception:  # the runtime has stopped
            text = ""
        function, _, rest = text.partition("\n")
        place, _, statement = rest.partition("\n")
        return cls(function, place, statement != "") if text else None

    def store(self) -> str:
        """Return the text that read() parses."""
        return "\n".join([self.function, self.place, "statement" if self.statement else ""])


_CAUSE = "\n\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\n\nDuring handling of the above exception, another exception occurred:\n\n"


def _traceback(packed: tuple[Any, ...]) -> str:
    exc = Packed(*packed)
    before = ""
    if exc.cause:
        before = _traceback(exc.cause) + _CAUSE
    elif exc.context:
        before = _traceback(exc.context) + _CONTEXT
    last = f"{exc.kind}: {exc.text}" if exc.text else exc.kind
    own = f"Traceback (most recent call last):\n{exc.frames}{last}" if exc.frames else last
    for number, member in enumerate(exc.members or (), 1):
        own += f"\n  ---------------- {number} ----------------\n{indent(_traceback(member), '  ')}"
    return before + own


def first_line(exc: BaseException) -> str:
    try:
        return str(exc) or type(exc).__name__
    except BaseException:  # a __str__ may raise anything
        return type(exc).__name__


def claim(reason: str) -> bool:
    """Return True if this process is the first to claim the end: it may report. No reader holds up its report."""
    if not _core.fatal_claim(reason):
        return False
    if not _core.survives():
        last_words.limit()
    return True


# -- panics --------------------------------------------------------------------------------------------------


def panic(text: str, id_: int, frames: str, parent: int, site: int, labels: str) -> None:
    """Report an exception that no handle can read, as Go does, and end the program with status 2. The first panic wins.

    Returns only in a host that survives (see end()).
    """
    if claim(f"panic in goroutine {id_}: {text}"):
        report(
            f"panic: {text}\n\ngoroutine {id_} [running]{labels}:\n{frames.rstrip()}\n{created_by(parent, site)}"
        )
    else:
        wait_for_the_end()
    end(2)


def end(status: int) -> None:
    """End every process of the program, after a successful _core.fatal_claim().

    Return only in a host that survives: its workers have ended, and main is told at its next use of goproc.
    """
    _core.fatal_exit(status)


def created_by(parent: int, site: int) -> str:
    """Return the last lines of a goroutine in a report: the place where it was created."""
    where = Site.read(site)
    if where is None:
        return ""
    function = "main" if where.function == "<module>" else where.function
    by = f" in goroutine {parent}" if parent else ""
    return f"created by {function}{by}\n\t{where.place}\n"


def exit_program(exc: SystemExit) -> None:
    """End the program because of sys.exit() in a goroutine, as os.Exit does. Returns only in a host that survives."""
    if not claim("sys.exit() in a goroutine"):
        wait_for_the_end()
        return
    status = 0
    if isinstance(exc.code, int):
        status = exc.code & 0xFF
    elif exc.code is not None:
        status = 1
        report(f"{exc.code}\n")
    flush()
    end(status)


# -- output without a reader ---------------------------------------------------------------------------------


def broke(exc: BaseException) -> bool:
    """Return True for the error of a write to standard output whose reader has ended, as in ``| head -1``."""
    if isinstance(exc, BaseExceptionGroup):
        return all(map(broke, exc.exceptions))
    return isinstance(exc, BrokenPipeError) and not _core.survives() and stdio.is_unread(1)


def end_broken() -> None:
    """End the program silently, by SIGPIPE, as other programs end. For a goroutine that could not write its output."""
    if not claim("nobody reads the output"):
        wait_for_the_end()
    end(BY_SIGNAL | signal.SIGPIPE)


# -- failures that nobody reads ------------------------------------------------------------------------------


def unread_policy() -> str:
    """Return the policy for unread failures: GOPROC_UNREAD, else "report"."""
    return os.environ.get("GOPROC_UNREAD") or "report"


def unread(id_: int, stored: Stored, site: int) -> None:
    """Deal with a failure that no handle can read any more. The core calls it when the last handle goes.

    A goroutine whose creator has kept no handle panics. The handle may have been dropped before or after the failure:
    the outcome must not depend on the speed of the worker.
    """
    failure = Failure.read(stored)
    policy = unread_policy()
    where = Site.read(site)
    if where is not None and where.statement:
        policy = "panic"
    if policy == "ignore":
        return
    if policy == "panic":
        # In a host that survives, the panic removes the runtime, which the calling dealloc still uses.
        later = call_later if _core.survives() else _call
        later(
            lambda: panic(failure.packed.text, id_, failure.traceback(), failure.parent, site, failure.labels)
        )
    else:
        report(describe_unread(id_, failure, site))


def _call(f: Callable[[], None]) -> None:
    f()


call_later: Callable[[Callable[[], None]], None] = (
    _call  # has the scheduler call a function; the host sets this
)


def describe_unread(id_: int, failure: Failure, site: int) -> str:
    """Return the report on an unread failure."""
    name = f" ({failure.name})" if failure.name else ""
    return (
        f"goroutine {id_}{name} failed and nobody read its result{failure.labels}:\n"
        f"{failure.traceback()}\n{created_by(failure.parent, site)}"
    )


def report_unread(briefly: bool) -> bool:
    """Deal with all unread failures of goroutines, at the end of a runtime.

    Args:
        briefly: print one line for each: main has failed itself, and its traceback is the important one.

    Returns:
        True if there was a failure that changes the exit status.
    """
    policy = "ignore" if silent else unread_policy()
    found = [] if policy == "ignore" else unread_failures()
    if found:
        gc.collect()  # a handle in a cycle of references was dropped before: its report is due first
        found = unread_failures()
    if found and policy == "panic":
        unread(*found[0])
    elif found and briefly:
        report("".join(map(_brief, found[:_BRIEF_MOST])))
        if len(found) > _BRIEF_MOST:
            report(f"and {len(found) - _BRIEF_MOST} more goroutines failed and nobody read their results\n")
    else:
        for id_, stored, site in found:
            report(describe_unread(id_, Failure.read(stored), site))
    return bool(found)


_BRIEF_MOST = 10


def _brief(unread: tuple[int, Stored, int]) -> str:
    failure = Failure.read(unread[1])
    kind, text = failure.packed.kind, failure.packed.text
    return f"goroutine {unread[0]} ({failure.name}) failed and nobody read its result: {kind}: {text}\n"


def unread_failures() -> list[tuple[int, Stored, int]]:
    """Return (id, stored failure, site) of each failed goroutine with an unread result, in order."""
    return sorted(_core.unread(), key=lambda found: found[0])


# -- output --------------------------------------------------------------------------------------------------


def report(text: str) -> None:
    flush()
    try:
        if sys.stderr is not None:
            last_words.write(sys.stderr, text)
    except (OSError, ValueError):
        pass


def flush() -> None:
    line_output.flush_all()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass


_PATIENCE = 3.0


def wait_for_the_end() -> None:
    """Wait while a process, maybe this one, ends the program. Return at once in a host that survives."""
    import time

    if _core.survives():
        return

    # Main may be at its exit handlers, with its panic reported. If one of them waits for a goroutine of this process,
    # that wait is in vain: the program ends without the remaining handlers.
    patience = _PATIENCE
    while True:
        time.sleep(0.1)
        if _core.fatal_ending():
            patience -= 0.1
        if patience < 0 and _core.fatal_take():
            flush()
            end(2)
