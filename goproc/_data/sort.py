"""``psort``: sort more than fits in memory, on all processes.

The items are cut into runs. A worker sorts each run and writes it to a file, a pickle after the other. The files are
merged: in the process that iterates, or, if there are very many, first into fewer by the workers. Runs follow each other
in the order of the items, and merging takes equal items from the first run that has them, so the order is stable.
"""

from __future__ import annotations

import heapq
import os
import pickle
import shutil
import tempfile
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from goproc._data.pmap import PMap, options
from goproc._data.policy import checked_function
from goproc._public import public
from goproc._tracebacks import cut, ends_at_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")

__all__ = ["psort"]

_DEFAULT_MEMORY = 1 << 30
_BYTES_PER_PICKLED = 4  # what objects take of memory, for each byte of their pickle, about
_LEAST_RUN = 64 << 10  # bytes of pickles
_LOOK = 256  # items after which the size of a run is looked at
_AT_ONCE = 64  # files that are merged at once
_FRAME = 32 << 10  # bytes of pickles that are written, and read, at once, about


class Order(NamedTuple):
    """The order of the items of a sort."""

    key: Callable[[Any], Any] | None
    reverse: bool


@public
@ends_at_user
def psort(
    iterable: Iterable[T],
    *,
    key: Callable[[T], Any] | None = None,
    reverse: bool = False,
    memory: str | int | None = None,
    workers: int | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Iterator[T]:
    """Sort the items of an iterable on all processes. They need not fit in memory.

    Args:
        iterable: where the items come from. It is advanced at the first next().
        key: a function of an item that returns what is compared.
        reverse: sort in descending order; equal items stay in their order.
        memory: bytes that all processes together use for items, about ("2G"); default: 1G.
        workers: how many runs are sorted at once; default: one in each process.
        folder: where temporary files go; default: as tempfile has it. They are deleted in the end.

    Returns:
        An iterator of the items, sorted. Equal items come in the order in which the iterable had them.

    Raises:
        TypeError, ValueError: an argument is wrong.
        Exception: by next(): what the iterable, the key, or a comparison has raised.
    """
    if key is not None:
        checked_function(key, "psort(): key=", at="key")
    checked = options("psort()", len, (iterable,), {"memory": memory, "workers": workers})
    budget = checked.job.memory or _DEFAULT_MEMORY
    return _sorted(iterable, Order(key, bool(reverse)), budget, workers, folder)


def _sorted(
    iterable: Iterable[T], order: Order, budget: int, workers: int | None, folder: Any
) -> Iterator[T]:
    from goproc._data.lanes import placed

    lanes = len(placed(workers, None))
    # Of each run there are the items as drawn, the message, the items in a worker: for each lane, and one that is drawn.
    size = max(_LEAST_RUN, budget // (2 * _BYTES_PER_PICKLED * (lanes + 1)))
    place = tempfile.mkdtemp(prefix="goproc-sort-", dir=folder)
    try:
        names = _write_runs(_Runs(iter(iterable), size), order, place, workers, lanes)
        while len(names) > _AT_ONCE:
            names = _merge_some(names, order, place, workers)
        readers = [_Reader(name) for name in names]
    except BaseException as exc:
        trace = exc.__traceback__
        cut(exc, trace is None or trace.tb_next is None)  # a map has cut all but this frame off
        raise
    finally:
        shutil.rmtree(place, ignore_errors=True)  # open files stay readable, and a killed program leaves none
    try:
        for pair in _merged(readers, order):
            yield pair if order.key is None else pair[1]
    finally:
        for reader in readers:
            reader.close()


class _Runs:
    """Cuts items into lists whose pickles take about so many bytes."""

    def __init__(self, items: Iterator[Any], size: int) -> None:
        self._items = items
        self._size = size

    def __iter__(self) -> Iterator[list[Any]]:
        while True:
            run: list[Any] = []
            size = 0
            while size < self._size and (some := list(islice(self._items, _LOOK))):
                run += some
                size += _pickled_size(some)
            if not run:
                return
            yield run


def _pickled_size(items: list[Any]) -> int:
    try:
        return len(pickle.dumps(items, 5))
    except Exception:  # functions and classes of the script need more than pickle: the message will show
        return _LEAST_RUN


def _write_runs(runs: _Runs, order: Order, place: str, workers: int | None, lanes: int) -> list[str]:
    sort = partial(_sort_run, order, place)
    given = {"workers": workers, "chunk": 1, "ahead": lanes}
    with PMap[str](options("psort()", sort, (enumerate(runs),), given)) as names:
        return list(names)


def _sort_run(order: Order, place: str, numbered: tuple[int, list[Any]]) -> str:
    """Sort one run, in a worker, and write it. With a key the file has pairs of keys and items."""
    number, run = numbered
    name = os.path.join(place, f"run-{number}")
    if order.key is None:
        run.sort(reverse=order.reverse)
    else:
        key = order.key
        run = [(key(item), item) for item in run]
        run.sort(key=itemgetter(0), reverse=order.reverse)
    _write(name, iter(run))
    return name


def _merge_some(names: list[str], order: Order, place: str, workers: int | None) -> list[str]:
    """Merge files into fewer, each from neighbours."""
    groups = [names[at : at + _AT_ONCE] for at in range(0, len(names), _AT_ONCE)]
    with PMap[str](
        options("psort()", partial(_merge_files, order), (groups,), {"workers": workers, "chunk": 1})
    ) as merged:
        return list(merged)


def _merge_files(order: Order, names: list[str]) -> str:
    readers = [_Reader(name) for name in names]
    try:
        target = names[0] + "m"
        _write(target, _merged(readers, order))
    finally:
        for reader in readers:
            reader.close()
    for name in names:
        os.unlink(name)
    return target


def _merged(readers: list[_Reader], order: Order) -> Iterator[Any]:
    compared = None if order.key is None else itemgetter(0)
    return heapq.merge(*readers, key=compared, reverse=order.reverse)


def _write(name: str, items: Iterator[Any]) -> None:
    """Write items to a file: lists of some of them, each with its length before."""
    import cloudpickle

    n = 16
    with open(name, "wb") as file:
        while some := list(islice(items, n)):
            try:
                blob = pickle.dumps(some, 5)
            except Exception:
                blob = cloudpickle.dumps(some, 5)
            file.write(len(blob).to_bytes(8, "little") + blob)
            n = max(1, min(4096, n * _FRAME // len(blob)))


class _Reader:
    """Iterates over the items of a file."""

    def __init__(self, name: str) -> None:
        self._file = open(name, "rb")  # noqa: SIM115 (close() closes it)

    def __iter__(self) -> Iterator[Any]:
        while head := self._file.read(8):
            yield from pickle.loads(self._file.read(int.from_bytes(head, "little")))

    def close(self) -> None:
        self._file.close()
