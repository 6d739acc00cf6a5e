"""``shared_array``: a NumPy array in shared memory. NumPy is imported by the call: the name is there without NumPy, too."""

from __future__ import annotations

from goproc._public import public
from goproc._tracebacks import ends_at_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from goproc._shared_ndarray import SharedArray

__all__ = ["shared_array"]


@public
@ends_at_user
def shared_array(shape: int | tuple[int, ...], dtype: DTypeLike = float) -> SharedArray:
    """Make an array of zeros in shared memory. All processes may read and write it, at once.

        out = shared_array(len(rows))

        def fill(i):
            out[i] = work(rows[i])

    The array has no lock. Goroutines that write the same elements at the same time, or read elements that another one
    writes, need a lock, a channel or a join between them: ``out[i] += 1`` in two processes may lose an addition.
    Elements that only one goroutine writes, and others read after its end, need none.

    Args:
        shape: as for numpy.zeros().
        dtype: the type of the elements; Python objects cannot be shared.

    Returns:
        A numpy.ndarray. The array and its slices can be sent to goroutines and over channels, and be globals of the
        script. The memory is given back when no process and no message refers to it any more.

    Raises:
        TypeError: the shape is no whole number, and no tuple of them.
        ValueError: a length is negative, or the elements are Python objects.
        OutOfSharedMemory: there is no room for it.
        ImportError: NumPy is not installed.

    Cost: zeroing the memory; sending it takes some us, for any size.
    """
    try:
        from goproc._shared_ndarray import zeros
    except ImportError as error:
        raise ImportError("goproc.shared_array() needs NumPy: pip install numpy") from error
    return zeros(shape, dtype)
