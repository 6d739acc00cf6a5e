"""The values that go through the channels and queues, and the loops on both sides that every peer shares.

The loops are the same for all and hold nothing but the operation itself: a peer's sending method is called for every
value of `values`, and `consume` iterates over what arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, cycle, islice, repeat, starmap
from typing import Any

ARRAY_BYTES = 1 << 20
_PAGE = 4096


def values(kind: str, count: int) -> Iterable[Any]:
    """`count` values to send: ``ints``, ``tuples`` or ``arrays``."""
    if kind == "ints":
        return range(count)
    if kind == "tuples":
        return ((i, "key", {"a": i}) for i in range(count))
    if kind == "arrays":
        import numpy

        arrays = [numpy.full(ARRAY_BYTES // 8, float(i)) for i in range(8)]
        return islice(cycle(arrays), count)
    raise ValueError(f"no such payload: {kind}")


def consume(kind: str, received: Iterable[Any]) -> Any:
    """Takes everything out of `received`; returns what `expected` predicts, so that a loss is noticed.

    Of an array, one number of every page is read: data which was mapped but not copied is touched as well.
    """
    if kind == "arrays":
        total = 0.0
        for array in received:
            total += float(array[:: _PAGE // 8].sum())
        return total
    value = None
    for value in received:  # noqa: B007  the last one is the result
        pass
    return value


def expected(kind: str, count: int) -> Any:
    """Return the result of `consume` if all `count` values arrived in order."""
    if kind == "arrays":
        return float(sum(i % 8 for i in range(count)) * (ARRAY_BYTES // _PAGE))
    return count - 1 if kind == "ints" else (count - 1, "key", {"a": count - 1})


def check(kind: str, count: int, result: Any) -> None:
    """Raises AssertionError if a consumer did not get what was sent to it."""
    wanted = expected(kind, count)
    if result != wanted:
        raise AssertionError(f"the consumer ended with {result!r} instead of {wanted!r}")


def calls(get: Callable[[], Any], count: int) -> Iterator[Any]:
    """The results of `count` calls of `get`, without a Python frame between the loop and the call."""
    return starmap(get, repeat((), count))


def flatten(get_batch: Callable[[int], list[Any]], count: int) -> Iterator[Any]:
    """The `count` values that a batch-wise ``get_batch(at most)`` returns, one by one."""

    def batches() -> Iterator[list[Any]]:
        left = count
        while left:
            batch = get_batch(left)
            left -= len(batch)
            yield batch

    return chain.from_iterable(batches())


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """`items` in lists of `size`."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
