"""Ends of the program that are not main's return: panics, sys.exit() in a goroutine. One report, whoever is first."""

from __future__ import annotations

import sys
from typing import Any

from goproc import stdio
from goproc.errors import Cancelled
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

FAILURE = 8  # items of a packed failure; behind them, the labels of the goroutine as text if it has any


def first_line(exc: BaseException) -> str:
    try:
        return str(exc) or type(exc).__name__
    except Exception:
        return type(exc).__name__


def panic(text: str, id_: int, frames: str, parent: int, site: int, labels: str) -> NoReturn:
    """Report an exception nobody can read, as Go does, and end the program with status 2. Once: the first wins."""
    if _core.fatal_claim():
        report(
            f"panic: {text}\n\ngoroutine {id_} [running]{labels}:\n{frames.rstrip()}\n{created_by(parent, site)}"
        )
        _core.fatal_exit(2)
    wait_for_the_end()


def created_by(parent: int, site: int) -> str:
    """The last lines of a goroutine in a report: where it was created."""
    try:
        where = _core.definition_get(site).decode("utf-8", "replace") if site else ""
    except Exception:
        where = ""
    if not where:
        return ""
    function, _, place = where.partition("\n")
    function = "main" if function == "<module>" else function
    by = f" in goroutine {parent}" if parent else ""
    return f"created by {function}{by}\n{place}\n"


def unread(id_: int, packed: Any, site: int) -> None:
    """The last handle of a failed goroutine died unread (called by the core, from a dealloc)."""
    from goproc.pickling import failure

    exc = failure.unpack(packed[:FAILURE])
    if isinstance(exc, (Cancelled, KeyboardInterrupt)):
        return
    labels = packed[FAILURE] if len(packed) > FAILURE else ""
    frames = packed[3]
    body = (
        f"Traceback (most recent call last):\n{frames}{packed[1]}: {packed[2]}"
        if frames
        else f"{packed[1]}: {packed[2]}"
    )
    panic(first_line(exc), id_, body, 0, site, labels)


def exit_program(exc: SystemExit) -> NoReturn:
    """sys.exit() in a goroutine ends the program, as os.Exit does in Go."""
    if _core.fatal_claim():
        status = 0
        if isinstance(exc.code, int):
            status = exc.code & 0xFF
        elif exc.code is not None:
            status = 1
            report(f"{exc.code}\n")
        flush()
        _core.fatal_exit(status)
    wait_for_the_end()


def report(text: str) -> None:
    flush()
    try:
        if sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()
    except (OSError, ValueError):
        pass


def flush() -> None:
    stdio.flush_all()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass


_PATIENCE = 3.0


def wait_for_the_end() -> NoReturn:
    """Somebody else is ending the program, this process included."""
    import time

    # Main may be at its exit handlers, its panic reported. Should one of them wait for a goroutine of this process, it
    # waits in vain: then the program ends without the rest of them.
    patience = _PATIENCE
    while True:
        time.sleep(0.1)
        if _core.fatal_ending():
            patience -= 0.1
        if patience < 0 and _core.fatal_take():
            flush()
            _core.fatal_exit(2)
