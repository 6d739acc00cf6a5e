"""A look at the waiters of an object, which only tests need; and waiting for a condition.

A test that has to know that a goroutine of some process *is* blocked cannot ask it, and to sleep for a while and hope
is what makes tests flaky.
"""

from __future__ import annotations

import os
import struct
import time
from typing import Any

from reports import entries

import goproc
from goproc.shm import _core


def waiters(handle: Any) -> tuple[int, int]:
    """Count the waiters on a channel, wait group or goroutine, of all processes: (receivers or waiters, senders)."""
    return _core.waiting(handle)


def until_waiting(handle: Any, receivers: int = 0, senders: int = 0, seconds: float = 20) -> None:
    """Let others run until exactly so many wait on it."""
    until(
        lambda: waiters(handle) == (receivers, senders), seconds, lambda: f"{waiters(handle)} on {handle!r}"
    )


def until_waiters(handle: Any, n: int) -> None:
    """Let others run until exactly so many wait on it, in either queue."""
    until(lambda: sum(waiters(handle)) == n, what=lambda: f"{waiters(handle)} on {handle!r}")


def until_waits_or_ended(handle: Any, goroutine: Any) -> None:
    """Let others run until one waits on the handle, or the goroutine has ended.

    A wait with a short time limit may be over before a busy machine lets the test look.
    """
    until(
        lambda: sum(waiters(handle)) == 1 or goroutine.state not in ("queued", "running"),
        what=lambda: f"{waiters(handle)} on {handle!r}, {goroutine!r}",
    )


def until_asleep(proc: int) -> None:
    """Let others run until a process sleeps: no goroutine runs there, and its scheduler holds no lock."""
    until(lambda: _core.proc_facts(proc)[2] == _PARKED, what=lambda: f"{_core.proc_facts(proc)}")


_PARKED = 2  # GP_PARKED of layout.h


def until_only_main() -> None:
    """Let others run until all goroutines but main have ended."""
    until(lambda: goproc.num_goroutine() == 1)


def until_blocked(*goroutines: Any) -> None:
    """Let others run until each goroutine waits: also one that waits on nothing shared, as in a sleep.

    Where it waits on an object, until_waiting() is cheaper: this takes a dump.
    """

    def states() -> list[str]:
        found = entries(goproc.dump())
        return [found[g.id].state if g.id in found else g.state for g in goroutines]

    until(lambda: not {"queued", "runnable", "running"} & set(states()), what=states)


def until(condition: Any, seconds: float = 20, what: Any = lambda: "") -> None:
    """Let others run until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not become true in {seconds} s; {what()}")
        goproc.sleep(0.0003)


# -- the segment itself, for a test that writes into it ------------------------------------------------------------------

_MAGIC = 0x31636F72706F67
_CRASH_EPOCH = "128xI"  # its place in the header, which layout.h asserts


def _base() -> int:
    """Return the address of the segment of the running runtime: the newest mapping, as others may live on for an array."""
    global _last
    if not _runs(_last):
        with open("/proc/self/maps") as maps:
            fields = [line.split() for line in maps if "memfd:goproc" in line]
        bases = [int(f[0].split("-")[0], 16) for f in fields if int(f[2], 16) == 0]
        _last = next((base for base in bases if _runs(base)), 0)
    if not _last:
        raise RuntimeError("no running runtime is mapped, or the layout has changed")
    return _last


def repairs() -> int:
    """Return twice the number of repairs after deaths that have ended, and 1 more while there is one: `crash_epoch`."""
    return _read(_base(), _CRASH_EPOCH)


_last = 0  # where it was the last time: a poll must not read all mappings again and again


def _runs(base: int) -> bool:
    try:
        return _read(base, "Q") == _MAGIC and not _read(base + 132, "I")
    except (OSError, struct.error):
        return False  # nothing is mapped there any more


def _read(at: int, format: str) -> int:
    return struct.unpack(format, os.pread(_memory, struct.calcsize(format), at))[0]  # type: ignore[no-any-return]


_memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
