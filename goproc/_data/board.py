"""The counters of a flow: memory that its workers write and its consumer reads, without a lock.

Each worker has a row for each stage that it runs, which nobody else writes. The memory belongs to the process of the
consumer. A worker maps it by the descriptor of that process, so that it has no name and goes with the last process that
has it. What a worker has written is there also when the worker is killed.
"""

from __future__ import annotations

import mmap
import os
from typing import NamedTuple

# Columns of a row. A worker has an item in hand while TAKEN differs from PASSED. Times are nanoseconds.
TAKEN, PASSED, OUT, FAILED, RETRIED, WORK, WAIT_IN, WAIT_OUT = range(8)
COLUMNS = 8


class Place(NamedTuple):
    """The place of a board, from which a worker maps it."""

    pid: int
    fd: int
    rows: int


class Board:
    """The counters of one flow.

    Args:
        rows: how many.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._fd = os.memfd_create("goproc-flow", os.MFD_CLOEXEC)
        size = max(1, rows) * COLUMNS * 8
        os.ftruncate(self._fd, size)
        self.cells = memoryview(mmap.mmap(self._fd, size)).cast("q")

    @property
    def place(self) -> Place:
        """The place from which a worker maps the board."""
        return Place(os.getpid(), self._fd, self.rows)

    def row(self, number: int) -> memoryview:
        """Return a row, to be written."""
        return self.cells[number * COLUMNS : (number + 1) * COLUMNS]

    def sums(self, rows: range) -> list[int]:
        """Return the sum of each column over some rows."""
        cells = self.cells
        return [sum(cells[row * COLUMNS + column] for row in rows) for column in range(COLUMNS)]

    def in_hand(self, rows: range) -> int:
        """Return how many of the workers of these rows have an item."""
        cells = self.cells
        return sum(cells[row * COLUMNS + TAKEN] != cells[row * COLUMNS + PASSED] for row in rows)

    def close(self) -> None:
        """Give the descriptor back. The counters can still be read."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def map_row(place: Place, number: int) -> memoryview:
    """Map a row of a board in the process of a worker. Where that cannot be done its counters are its own."""
    size = max(1, place.rows) * COLUMNS * 8
    try:
        fd = os.open(f"/proc/{place.pid}/fd/{place.fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return memoryview(bytearray(COLUMNS * 8)).cast("q")
    try:
        cells = memoryview(mmap.mmap(fd, size)).cast("q")
    finally:
        os.close(fd)
    return cells[number * COLUMNS : (number + 1) * COLUMNS]
