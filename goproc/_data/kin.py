"""The kin of pmap: pfilter, preduce, pfor, pmap_array. Each is a pmap of a function around the user's."""

from __future__ import annotations

from functools import reduce
from itertools import islice
from time import monotonic
from typing import Any, TypeVar

from goproc._data.pmap import PMap, options
from goproc._data.policy import checked_function
from goproc._data.sent import Around
from goproc._data.tally import CHUNK_SECONDS
from goproc._public import public
from goproc._tracebacks import ends_at_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

T = TypeVar("T")

__all__ = ["pfilter", "pfor", "pmap_array", "preduce"]

_NONE: Any = object()
_MOST_ITEMS = 4096  # in a block of preduce()
_PARTIALS = 256  # results of blocks that are there before they are combined
_FEW = 16  # results that one call combines


class _Around(Around):
    """A function around the user's. Its name is that of the user's."""

    __slots__ = ("__name__",)

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f = f
        self.__name__ = getattr(f, "__name__", None) or type(f).__name__


# -- pfilter -------------------------------------------------------------------------------------------------


class _Test(_Around):
    """Return a tuple with the item if the function returns true for it, else an empty one."""

    __slots__ = ()

    def __call__(self, item: Any) -> tuple[Any, ...]:
        return (item,) if self.f(item) else ()


class PFilter(PMap[T]):
    """The items that a function has chosen, as pfilter() returns them."""

    __slots__ = ()
    _spread = True


@public
@ends_at_user
def pfilter(f: Callable[[T], Any], iterable: Iterable[T], **given: Any) -> PFilter[T]:
    """Call a function for each item, on all processes, and yield the items for which it returns true, in their order.

    Args:
        f: the function.
        iterable: where the items come from.
        given: the options of pmap().

    Returns:
        An iterator, as pmap() returns. The items that it yields are copies.

    Raises:
        TypeError, ValueError: an argument is wrong.
        Exception: by next(): as with pmap().
    """
    checked_function(f, "pfilter()")
    return PFilter(options("pfilter()", _Test(f), (iterable,), given))


# -- pfor ----------------------------------------------------------------------------------------------------


class _Effect(_Around):
    """Call the function and forget its result, which needs not be copied then."""

    __slots__ = ()

    def __call__(self, *args: Any) -> None:
        self.f(*args)


@public
@ends_at_user
def pfor(f: Callable[..., Any], *iterables: Iterable[Any], **given: Any) -> None:
    """Call a function for each item, on all processes, for its effect. Return when all calls have ended.

    Args:
        f: the function. Its results are not sent.
        iterables: where items come from.
        given: the options of pmap(). ``on_error="return"`` is none of them: there are no results.

    Raises:
        TypeError, ValueError: an argument is wrong.
        Exception: as with the next() of a pmap().
    """
    checked_function(f, "pfor()")
    if given.get("on_error") == "return":
        raise ValueError("pfor(): on_error='return' needs results; use 'raise', 'skip' or a channel")
    if not iterables:
        raise TypeError("pfor() takes a function and at least one iterable")
    with PMap[None](options("pfor()", _Effect(f), iterables, given)) as ends:
        for _ in ends:
            pass


# -- preduce -------------------------------------------------------------------------------------------------


class _Fold(_Around):
    """Combine a block of items. Return the result, and the seconds for each item."""

    __slots__ = ()

    def __call__(self, block: list[Any]) -> tuple[Any, float]:
        began = monotonic()
        value = reduce(self.f, block)
        return value, (monotonic() - began) / len(block)


class _Blocks:
    """Cut items into blocks of about CHUNK_SECONDS of work, as measured so far."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self.size = 2

    def __iter__(self) -> Iterator[list[Any]]:
        while block := list(islice(self._items, self.size)):
            yield block

    def note(self, seconds: float) -> None:
        """Note how long an item took."""
        fitting = int(CHUNK_SECONDS / seconds) if seconds > 0 else _MOST_ITEMS
        self.size = max(2, min(fitting, 4 * self.size, _MOST_ITEMS))


@public
@ends_at_user
def preduce(
    f: Callable[[T, T], T],
    iterable: Iterable[T],
    *,
    initial: T = _NONE,
    workers: int | None = None,
    init: Callable[[], Any] | None = None,
    exit: Callable[[Any], object] | None = None,
) -> T:
    """Combine all items with a function of two, on all processes: functools.reduce() for an associative function.

    Workers combine neighbours, and then the results of these, in order. So f need not be commutative.

    Args:
        f: an associative function of two items: ``f(f(a, b), c) == f(a, f(b, c))``.
        iterable: where the items come from. So much of it is in memory as the workers need.
        initial: stands before the first item.
        workers: how many calls run at once.
        init: as for pmap().
        exit: as for pmap().

    Returns:
        The result; `initial` if there is no item.

    Raises:
        TypeError: there is no item, and no `initial`; or an argument is wrong.
        Exception: as with the next() of a pmap().
    """
    checked_function(f, "preduce()")
    given = {"workers": workers, "init": init, "exit": exit}
    options("preduce()", f, (iterable,), given)
    blocks = _Blocks(iter(iterable))
    partials: list[Any] = []
    with PMap[Any](options("preduce()", _Fold(f), (iter(blocks),), {**given, "chunk": 1})) as results:
        for value, seconds in results:
            blocks.note(seconds)
            partials.append(value)
            if len(partials) >= _PARTIALS:
                partials = _combined(f, partials, given)
    if initial is not _NONE:
        partials.insert(0, initial)
    if not partials:
        raise TypeError("preduce() of an empty iterable with no initial value")
    while len(partials) > 1:
        partials = _combined(f, partials, given)
    return partials[0]  # type: ignore[no-any-return]


def _combined(f: Callable[[T, T], T], partials: list[T], given: dict[str, Any]) -> list[T]:
    """Combine neighbours: one level of the tree."""
    blocks = [partials[at : at + _FEW] for at in range(0, len(partials), _FEW)]
    with PMap[Any](options("preduce()", _Fold(f), (blocks,), {**given, "chunk": 1})) as results:
        return [value for value, _ in results]


# -- pmap_array ----------------------------------------------------------------------------------------------


class _Fill(_Around):
    """Write the result for one slice into the output. Return nothing. That of slice 0 is there."""

    __slots__ = ("axis", "out", "rows")

    def __init__(self, f: Callable[..., Any], rows: Any, out: Any, axis: int) -> None:
        super().__init__(f)
        self.rows = rows
        self.out = out
        self.axis = axis

    def __call__(self, index: int) -> None:
        if not index:
            return
        import numpy

        result = self.f(self.rows.value.take(index, self.axis))
        shape, first = numpy.shape(result), self.out.shape[1:]
        if shape != first:
            raise ValueError(
                f"pmap_array(): the result for slice {index} has the shape {shape}, that for slice 0 has {first}"
            )
        self.out[index] = result


class _First(_Around):
    """Return the first result as an array."""

    __slots__ = ()

    def __call__(self, row: Any) -> Any:
        import numpy

        return numpy.asarray(self.f(row))


@public
@ends_at_user
def pmap_array(f: Callable[..., Any], a: NDArray[Any], axis: int = 0, **given: Any) -> NDArray[Any]:
    """Call a function for each slice of an array along an axis, on all processes, and return the array of the results.

    The array is in shared memory once, for all processes, and they write their results into one array there. Shape and
    type of the results are those of the first.

    Args:
        f: the function: from a slice of the array to a number or an array.
        a: the array.
        axis: slices are ``a.take(i, axis)``.
        given: the options of pmap(), but for those that change what a result is (on_error, checkpoint, id).

    Returns:
        An array in shared memory: ``out[i]`` is ``f`` of slice i.

    Raises:
        TypeError, ValueError: an argument is wrong.
        Exception: as with the next() of a pmap(); ValueError for a result of another shape than the first.
    """
    import numpy

    from goproc._share import share
    from goproc._shared_array import shared_array

    checked_function(f, "pmap_array()")
    for name in ("on_error", "checkpoint", "id", "key"):
        if name in given:
            raise TypeError(f"pmap_array() takes no {name}=")
    a = numpy.asarray(a)
    if not -a.ndim <= axis < a.ndim:
        raise ValueError(f"pmap_array(): axis={axis} of an array of {a.ndim} dimensions")
    n = a.shape[axis]
    if n == 0:
        return shared_array((0,), a.dtype)
    first_given = {**given, "total": None, "progress": None}
    with PMap[Any](options("pmap_array()", _First(f), ([a.take(0, axis)],), first_given)) as one:
        first = next(one)
    out = shared_array((n, *first.shape), first.dtype)
    out[0] = first
    fill = _Fill(f, share(a), out, axis)
    with PMap[None](options("pmap_array()", fill, (range(n),), given)) as ends:
        for _ in ends:
            pass
    return out
