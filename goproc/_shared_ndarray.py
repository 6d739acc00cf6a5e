"""NumPy arrays in shared memory, which all processes may write: shared_array() makes them."""

from __future__ import annotations

import ctypes
import math
import pickle
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from goproc._pickling import store
from goproc._pickling.copies import Copy
from goproc._pickling.wire import OUT_OF_BAND, Whole
from goproc.errors import OutOfSharedMemory

__all__ = ["SharedArray", "zeros"]


class _Memory:
    """Shared memory, mapped and writable in this process. The buffers of arrays refer to it."""

    __slots__ = ("__weakref__", "address", "bytes", "copy", "view")

    def __init__(self, copy: Any) -> None:
        self.copy = copy
        self.view = copy._load(False)  # keeps the memory mapped
        whole = np.frombuffer(self.view, np.uint8)
        self.address = whole.__array_interface__["data"][0]
        self.bytes = whole.nbytes

    def buffer(self) -> Any:
        kind = ctypes.c_char * self.bytes
        found: Any = kind.from_address(self.address)
        found.memory = self
        return found


_known: WeakValueDictionary[Any, _Memory] = store.cache(WeakValueDictionary())


def _memory_of(copy: Any) -> _Memory:
    found = _known.get(copy)
    if found is None:
        found = _known[copy] = _Memory(copy)
    return found


class SharedArray(np.ndarray[Any, Any]):
    """An array in shared memory, made by `shared_array`. A goroutine that gets it, or a slice, uses the same memory.

    Arrays that are computed from it (``a + 1``, ``a.copy()``) are arrays of their own.
    """

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        if array is self:
            return self
        plain = np.asarray(array)
        return plain[()] if return_scalar or (context is None and plain.ndim == 0) else plain

    def __reduce_ex__(self, protocol: Any) -> Any:
        memory = _find(self)
        if memory is None:
            return np.asarray(self).__reduce_ex__(protocol)
        offset = self.__array_interface__["data"][0] - memory.address
        return _array, (memory.copy, self.shape, self.dtype, offset, self.strides)

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(2)

    def copy(self, order: Any = "C") -> Any:
        """Return an array of its own with the same values."""
        return np.array(self, order=order, subok=False)

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()


def _find(array: Any) -> _Memory | None:
    """Return the shared memory that an array is in, or None."""
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, memoryview):
        array = array.obj
    return getattr(array, "memory", None)


def _array(
    copy: Any, shape: tuple[int, ...], dtype: Any, offset: int, strides: tuple[int, ...] | None
) -> SharedArray:
    return SharedArray(shape, dtype, _memory_of(copy).buffer(), offset, strides)


def zeros(shape: Any, dtype: Any) -> SharedArray:
    """Make the array that shared_array() returns; see there."""
    try:
        kind = np.dtype(dtype)
    except TypeError as exc:
        raise TypeError(f"shared_array(dtype={dtype!r}): {exc}") from None
    if kind.hasobject:
        raise ValueError(
            f"shared_array(dtype={kind}): Python objects cannot be shared; use numbers, bools or fixed bytes"
        )
    lengths = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if not all(isinstance(length, (int, np.integer)) for length in lengths):
        raise TypeError(f"shared_array(shape={shape!r}): the shape is a whole number, or a tuple of them")
    if any(length < 0 for length in lengths):
        raise ValueError(f"shared_array(shape={shape}): negative dimensions are not allowed")
    size = math.prod(map(int, lengths)) * kind.itemsize
    try:
        bytes_of_zero: Any = np.zeros(max(size, OUT_OF_BAND), np.uint8)
    except MemoryError as error:
        raise OutOfSharedMemory(f"shared_array(shape={shape}): {error}") from None
    copy = Copy(Whole(pickle.PickleBuffer(bytes_of_zero)))
    return _array(copy, lengths, kind, 0, None)
