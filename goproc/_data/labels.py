"""The keys and the names of the items of a map: ``key=`` and ``id=`` are called in the caller, for one item after the other.

A call that fails ends the items, as an iterable that raises does: the results of the items before come first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from goproc._data.ends import raisable, short
from goproc._raised import add_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from goproc._data.checkpoint import Checkpoint


class Labelled(NamedTuple):
    """The labels of items that were drawn together.

    Attributes:
        n: so many of the items have labels: those before the one whose call has failed.
        keys: of the items, None without key=.
        names: of the items in a checkpoint, None without one.
        error: the exception of the call that has failed, or None.
    """

    n: int
    keys: list[Any] | None
    names: list[str] | None
    error: BaseException | None


class Labels:
    """Finds the keys and the names of items.

    Args:
        where: names the call in errors.
        key: as given by the user, or None.
        checkpoint: of the map, or None.
        starred: items are tuples of arguments.
    """

    def __init__(
        self, where: str, key: Callable[..., Any] | None, checkpoint: Checkpoint | None, starred: bool
    ) -> None:
        self._where = where
        self._key = key
        self._checkpoint = checkpoint
        self._starred = starred

    def of(self, items: Sequence[Any], first: int) -> Labelled:
        """Return the labels of items, up to the first call that fails.

        Args:
            items: that were drawn.
            first: the number of the first of them.
        """
        keys: list[Any] | None = None if self._key is None else []
        names: list[str] | None = None if self._checkpoint is None else []
        count = 0
        try:
            for item in items:
                if keys is not None:
                    keys.append(self._key_of(item, first + count))
                if names is not None:  # last: a name that was given is not given again
                    names.append(self._name_of(item, first + count))
                count += 1
        except BaseException as exc:  # the items before go on first; an interrupt is raised after them
            return Labelled(count, keys and keys[:count], names, exc)
        return Labelled(count, keys, names, None)

    def _key_of(self, item: Any, index: int) -> Any:
        key = self._called("key=", self._key, item, index)
        try:
            hash(key)
        except TypeError:
            raise TypeError(
                f"{self._where}: key= returned {type(key).__name__!r} for item {index}, which is not hashable"
            ) from None
        if _differs_from_itself(key):
            raise ValueError(
                f"{self._where}: key= returned {key!r} for item {index}, which is not equal to itself: no other item can have it"
            )
        return key

    def _name_of(self, item: Any, index: int) -> str:
        checkpoint = self._checkpoint
        assert checkpoint is not None
        name = None if checkpoint.id is None else self._called("id=", checkpoint.id, item, index)
        try:
            return checkpoint.by_digest(item) if checkpoint.id is None else checkpoint.by_id(name)
        except (TypeError, ValueError) as exc:
            add_note(exc, f"item {index}: {short(item)}")
            raise

    def _called(self, name: str, f: Any, item: Any, index: int) -> Any:
        """Call a function of the user's for an item. `name` is that of the option."""
        try:
            return f(*item) if self._starred else f(item)
        except Exception as exc:  # the function is the user's
            error = raisable(exc, f"{name} of the map")
            add_note(error, f"{name} raised this for item {index}: {short(item)}")
            if error is exc:
                raise
            raise error from exc


def _differs_from_itself(key: Any) -> bool:
    """Return True for a key such as NaN."""
    try:
        return bool(key != key)
    except Exception:  # the comparison has no answer, as that of pandas.NA
        return False
