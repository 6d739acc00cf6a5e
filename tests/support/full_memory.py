"""Helpers for tests of full memory: a goroutine that fills it, and the size of the segment."""

from __future__ import annotations

import os
from typing import Any

SIZES = (100_000, 30_000, 8_000, 2_000, 1_000, 500, 300, 200, 100, 57)


def fill(box: Any, sizes: tuple[int, ...] = SIZES) -> int:
    """Send texts of each size until no more fit, and return how many went in."""
    from goproc.errors import OutOfSharedMemory

    n = 0
    for size in sizes:
        try:
            while box.try_send("x" * size):
                n += 1
        except OutOfSharedMemory:
            pass
    return n


def drain(box: Any) -> int:
    n = 0
    while len(box):
        box.recv()
        n += 1
    return n


def resident() -> int:
    """Bytes of memory that the segment of the running runtime takes."""
    for fd in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:goproc ("):
                return os.fstat(int(fd)).st_blocks * 512
        except OSError:
            pass
    raise AssertionError("no segment")
