"""What tests need to see of shared memory and no program does: who waits on an object.

A test that has to know that a goroutine of some process *is* blocked cannot ask it, and to sleep for a while and hope
is what makes tests flaky. So this reads the queues of an object where they are, as goproc/shm/layout.h has them.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import time
from pathlib import Path
from typing import Any

import goproc

_LAYOUT = (Path(goproc.__file__).parent / "shm" / "layout.h").read_text()
_GP_LINE = 64
_MAGIC = 0x31636F72706F67
_RECVQ, _SENDQ = 40, 48  # of struct gp_object
_NEXT = 24  # of struct gp_sudog
_WAITERS = 96  # of struct gp_header


def _constant(name: str) -> int:
    return int(re.search(rf"#define {name} (\d+)u", _LAYOUT)[1])  # type: ignore[index]


_SUDOG_BYTES, _SUDOG_BITS = 128, _constant("GP_SUDOG_BITS")
_WAITERS_AT, _WAITER_BYTES = 4096 + _constant("GP_WAITERS") // 8, 64  # in a partition


def _base() -> int:
    """Where the segment of the running runtime is mapped: the newest mapping, others may live on for an array."""
    global _last
    if not _runs(_last):
        with open("/proc/self/maps") as maps:
            fields = [line.split() for line in maps if "memfd:goproc" in line]
        bases = [int(f[0].split("-")[0], 16) for f in fields if int(f[2], 16) == 0]
        _last = next((base for base in bases if _runs(base)), 0)
    if not _last:
        raise RuntimeError("no running runtime is mapped, or the layout has changed")
    return _last


_last = 0  # where it was the last time: a poll must not read all mappings again and again


def _runs(base: int) -> bool:
    try:
        return _read(base, "Q") == _MAGIC and not _read(base + 132, "I")
    except (OSError, struct.error):
        return False  # nothing is mapped there any more


def _read(at: int, format: str) -> int:
    return struct.unpack(format, os.pread(_memory, struct.calcsize(format), at))[0]  # type: ignore[no-any-return]


_memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)


def _count(base: int, at: int) -> int:
    parts_at, part_bytes = struct.unpack("QQ", os.pread(_memory, 16, base + 32))
    sudogs_at = _WAITERS_AT + _WAITER_BYTES * _read(base + _WAITERS, "I")
    n, sudog = 0, _read(at, "I")
    while sudog and n < 100_000:
        n += 1
        index = (sudog & ((1 << _SUDOG_BITS) - 1)) - 1
        part = base + parts_at + (sudog >> _SUDOG_BITS) * part_bytes
        sudog = _read(part + sudogs_at + index * _SUDOG_BYTES + _NEXT, "I")
    return n


def waiters(handle: Any) -> tuple[int, int]:
    """How many wait on a channel, wait group or goroutine, of all processes: (receivers or waiters, senders)."""
    base = _base()
    ref = ctypes.c_uint32.from_address(
        id(handle) + object.__basicsize__
    ).value  # the first field of its struct
    at = base + ref * _GP_LINE
    return _count(base, at + _RECVQ), _count(base, at + _SENDQ)


def until_waiting(handle: Any, receivers: int = 0, senders: int = 0, seconds: float = 20) -> None:
    """Let others run until exactly so many wait on it."""
    until(
        lambda: waiters(handle) == (receivers, senders), seconds, lambda: f"{waiters(handle)} on {handle!r}"
    )


def until(condition: Any, seconds: float = 20, what: Any = lambda: "") -> None:
    """Let others run until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not become true in {seconds} s; {what()}")
        goproc.sleep(0.0003)
