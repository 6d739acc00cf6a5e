"""The counters of a flow: memory that its workers write and its consumer reads, without a lock.

Each worker has a row for each stage that it runs, which nobody else writes. The memory belongs to the process of the
consumer. A worker maps it by the descriptor of that process, so that it has no name and goes with the last process that
has it. What a worker has written is there also when the worker is killed.

The row behind those of the workers is the consumer's. It tells a worker that was held up, by the import of a module, that
the flow is over.
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
    inode: int  # the descriptor may be that of another file when a worker begins late


class Board:
    """The counters of one flow.

    Args:
        rows: how many.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._fd = os.memfd_create("goproc-flow", os.MFD_CLOEXEC)
        size = _size(rows)
        os.ftruncate(self._fd, size)
        self._inode = os.fstat(self._fd).st_ino
        self.cells = memoryview(mmap.mmap(self._fd, size)).cast("q")

    @property
    def place(self) -> Place:
        """The place from which a worker maps the board."""
        return Place(os.getpid(), self._fd, self.rows, self._inode)

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

    def end(self) -> None:
        """Tell the workers that the flow is over."""
        self.cells[self.rows * COLUMNS] = 1

    def close(self) -> None:
        """Give the descriptor back. The counters can still be read."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class Sheet:
    """The board in the process of a worker. Where it cannot be mapped, the counters of the worker are its own.

    Args:
        place: of the board.
    """

    def __init__(self, place: Place) -> None:
        self._rows = place.rows
        try:
            self._cells = _mapped(place)
        except OSError as exc:
            self._cells = memoryview(bytearray(_size(place.rows))).cast("q")
            # A process that may not look into that of the consumer does not know.
            self._cells[place.rows * COLUMNS] = not isinstance(exc, PermissionError)

    def row(self, number: int) -> memoryview:
        """Return a row, to be written."""
        return self._cells[number * COLUMNS : (number + 1) * COLUMNS]

    @property
    def over(self) -> bool:
        """True if the flow is over: no call is to begin any more."""
        return self._cells[self._rows * COLUMNS] != 0


def _size(rows: int) -> int:
    return (rows + 1) * COLUMNS * 8


def _mapped(place: Place) -> memoryview:
    """Map a board.

    Raises:
        OSError: that is not possible, or the consumer has closed the board.
    """
    path = f"/proc/{place.pid}/fd/{place.fd}"
    _check_inode(os.stat(path), place)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        _check_inode(os.fstat(fd), place)
        return memoryview(mmap.mmap(fd, _size(place.rows))).cast("q")
    finally:
        os.close(fd)


def _check_inode(found: os.stat_result, place: Place) -> None:
    if found.st_ino != place.inode:
        raise FileNotFoundError("the board is closed, and its descriptor is that of another file")
