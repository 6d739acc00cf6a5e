"""For tests of programs that use goproc: see that a goroutine is blocked, and that nothing is left.

    from goproc.testing import assert_no_leaks, until_waiting

A test cannot ask a goroutine whether it is blocked, and a sleep() only hopes so. until_waiting() looks at the queue of
the channel, whichever process the goroutine is in.

pytest has more of it by one line in conftest.py, ``pytest_plugins = ["goproc.testing"]``:

- the fixture ``runtime``: a runtime that tests share, and a test that leaves a goroutine, a process or a descriptor behind
  fails. ``@pytest.mark.goproc(procs=4)`` says how many workers a test needs, ``goproc_procs`` in the configuration how many
  they have otherwise (2).
- a watchdog: a test that takes longer than ``goproc_seconds`` (60), or ``@pytest.mark.goproc(seconds=300)``, ends with the
  stacks of all threads and goroutines, and with all processes of the program. 0 is no watchdog.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from typing import Any, NamedTuple

from goproc._tracebacks import function_line
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["assert_no_leaks", "until_waiting"]

_PAUSE = 0.0005


def until_waiting(
    handle: _core.Handle, receivers: int | None = None, senders: int | None = None, *, timeout: float = 20.0
) -> None:
    """Let others run until goroutines are blocked on a channel, or on something else that is shared.

    Args:
        handle: a channel, a goroutine, or an object of ``goproc.sync``.
        receivers: exactly how many receive, or wait for something else than to send. Left out: any number.
        senders: the exact number of senders. Left out: any number. If both are left out, wait for any waiter.
        timeout: seconds.

    Raises:
        AssertionError: the time is over. The text says how many were waiting then.
        TypeError: goroutines cannot wait for `handle`.

    A select counts at each of its channels. So does a plain thread that is blocked.

    Cost: 0.5 us for a look; it looks some 2000 times a second.
    """
    with function_line:
        _until_waiting(handle, receivers, senders, timeout)


def _until_waiting(handle: Any, receivers: int | None, senders: int | None, timeout: float) -> None:
    if receivers is None and senders is None:
        _until(lambda: any(_core.waiting(handle)), timeout, lambda: f"nobody waits on {handle!r}")
        return
    wanted = (receivers, senders)

    def there() -> bool:
        found = _core.waiting(handle)
        return all(want is None or want == is_ for want, is_ in zip(wanted, found, strict=True))

    def situation() -> str:
        found = _core.waiting(handle)
        return f"{found[0]} receive and {found[1]} send on {handle!r}, not {_numbers(wanted)}"

    _until(there, timeout, situation)


def _numbers(wanted: tuple[int | None, int | None]) -> str:
    receivers, senders = ("any number" if n is None else n for n in wanted)
    return f"{receivers} and {senders}"


def _until(condition: Callable[[], bool], timeout: float, situation: Callable[[], str]) -> None:
    from goproc import sleep

    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{situation()}, after {timeout:g} s")
        sleep(_PAUSE)


@contextlib.contextmanager
def assert_no_leaks(*, timeout: float = 5.0) -> Iterator[None]:
    """``with assert_no_leaks():`` all that the block starts has ended when the block ends.

    Args:
        timeout: seconds for goroutines, processes and descriptors to go, which takes a moment.

    Raises:
        AssertionError: more goroutines (of any process), processes or open descriptors are there than before the block.
            The text names them, and has the stacks of goroutines. An exception that leaves the block takes precedence.

    If the first use of goproc in the block starts the runtime, the runtime's processes and descriptors do not count.

    Cost: it takes 10 ms to see that nothing is left.
    """
    before = Snapshot.take()
    yield
    check(before, timeout)


def check(before: Snapshot, timeout: float) -> None:
    """Raise AssertionError if there is more than before, also after some seconds."""
    deadline = time.monotonic() + timeout
    while left := Snapshot.take().beyond(before):
        if time.monotonic() > deadline:
            raise AssertionError(_report(left))
        _clean_up()


class Snapshot(NamedTuple):
    """Resources that this program holds outside of Python's memory."""

    running: bool
    goroutines: dict[int, str]  # by number, of all processes
    processes: dict[int, str]  # by pid
    descriptors: dict[str, str]

    @classmethod
    def take(cls) -> Snapshot:
        running = _core.attached()
        found = _core.goroutines() if running else []
        goroutines = {id_: _goroutine(id_, name, proc) for id_, _, _, proc, _, name, _ in found}
        return cls(running, goroutines, _processes(), _descriptors())

    def beyond(self, before: Snapshot) -> list[str]:
        """Return, in words, the resources that exist beyond the earlier ones."""
        left = [text for id_, text in self.goroutines.items() if id_ not in before.goroutines]
        if self.running == before.running:
            left += _more("process", self.processes, before.processes)
            left += _more("descriptor", self.descriptors, before.descriptors)
        return left


def _goroutine(id_: int, name: str, proc: int) -> str:
    return f"goroutine {id_} {name}" + (f" of proc {proc}" if proc >= 0 else ", which has not begun")


def _more(what: str, now: dict[Any, str], before: dict[Any, str]) -> list[str]:
    """Return the new entries if there are more than before. An entry that replaces another is no leak."""
    if len(now) <= len(before):
        return []
    return [f"{what} {key}: {text}" for key, text in now.items() if before.get(key) != text]


def _processes() -> dict[int, str]:
    import psutil

    found = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found[process.pid] = " ".join(process.cmdline()) or process.name()
    return found


def _descriptors() -> dict[str, str]:
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
    return found


def _clean_up() -> None:
    """Have garbage collected in every process: a generator or a file may be part of a cycle."""
    import goproc

    gc.collect()
    if _core.attached():
        handles = [goproc.go.on(proc)(gc.collect) for proc in range(1, _core.procs())]
        for handle in handles:
            with contextlib.suppress(TimeoutError):
                handle.join(0.2)
    goproc.sleep(0.002)


def _report(left: list[str]) -> str:
    import goproc

    text = "left behind:\n" + "".join(f"  {line}\n" for line in left)
    if any(line.startswith("goroutine ") for line in left) and _core.attached():
        text += f"\n{goproc.dump()}"
    return text


if "pytest" in sys.modules:  # as a plugin
    from goproc._pytest_plugin import pytest_addoption as pytest_addoption
    from goproc._pytest_plugin import pytest_configure as pytest_configure
    from goproc._pytest_plugin import pytest_runtest_makereport as pytest_runtest_makereport
    from goproc._pytest_plugin import pytest_runtest_protocol as pytest_runtest_protocol
    from goproc._pytest_plugin import pytest_unconfigure as pytest_unconfigure
    from goproc._pytest_plugin import runtime as runtime
