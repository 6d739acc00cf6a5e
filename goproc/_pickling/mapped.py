"""A `numpy.memmap` travels as the name of its file and its position there, without its content.

That is exact only if the file can still be found by its name, and if the mapping shows the file. A copy-on-write
mapping may hold changes of its own, so its array travels by content, as any array does.
"""

from __future__ import annotations

import mmap
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from goproc._pickling.pickler import Pickler


def reduce_memmap(_: Pickler, array: Any) -> Any:
    """Reduce a contiguous array over a mapped file to the file and the position there."""
    place = _place(array)
    if place is None:
        return NotImplemented
    order = "C" if array.flags.c_contiguous else "F"
    mode = "r" if array.mode == "r" else "r+"
    return _open, (type(array), *place, array.dtype, array.shape, order, mode, array.flags.writeable)


def _place(array: Any) -> tuple[str, int] | None:
    """Return the file that the array lies in and the offset there; None if the file does not cover the array."""
    if array.mode not in ("r", "r+", "w+") or not array.filename or not array.size or not array.flags.forc:
        return None
    base = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is None:
        return None
    address = array.__array_interface__["data"][0]
    mapping = _mapping_at(address)
    path = os.path.abspath(array.filename)
    try:
        status = os.stat(path)
    except OSError:
        return None
    if mapping is None or mapping[1:] != (status.st_dev, status.st_ino):
        return None
    return path, mapping[0]


def _mapping_at(address: int) -> tuple[int, int, int] | None:
    """Return (offset in the file, device, inode) of the mapping at an address."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, _, offset, device, inode = line.split(maxsplit=5)[:5]
            start, end = [int(text, 16) for text in span.split("-")]
            if start <= address < end:
                major, minor = [int(text, 16) for text in device.split(":")]
                return int(offset, 16) + address - start, os.makedev(major, minor), int(inode)
    return None


def _open(
    kind: Any, path: str, offset: int, dtype: Any, shape: Any, order: str, mode: str, writeable: bool
) -> Any:
    array = kind(path, dtype=dtype, mode=mode, offset=offset, shape=shape, order=order)
    if not writeable:
        array.flags.writeable = False
    return array
