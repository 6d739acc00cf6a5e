"""Records are named tuples: everything that internal code may do with one gives the same with the other."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from goproc._record import Record


class Named(NamedTuple):
    """Two fields without a default, and two with one."""

    first: int
    second: list[str]
    third: dict[str, int] | None = None
    fourth: str = "4"

    def sum(self) -> Any:
        return self.first + self[0]


class Recorded(Record):
    """Two fields without a default, and two with one."""

    first: int
    second: list[str]
    third: dict[str, int] | None = None
    fourth: str = "4"

    def sum(self) -> Any:
        return self.first + self[0]


class Inner(Recorded):
    """A subclass may add methods."""

    def more(self) -> int:
        return self.first + 1


USES: dict[str, Callable[[Any], object]] = {
    "by place": lambda kind: kind(1, ["a"], {"b": 2}, "c"),
    "one default": lambda kind: kind(1, ["a"], None),
    "two defaults": lambda kind: kind(1, ["a"]),
    "by name": lambda kind: kind(second=["a"], first=1, fourth="x"),
    "both": lambda kind: kind(1, fourth="x", second=[]),
    "attributes": lambda kind: [kind(1, [], None, "c").first, kind(1, []).fourth],
    "method": lambda kind: kind(3, []).sum(),
    "repr": lambda kind: repr(kind(1, ["a"])).partition("(")[2],
    "fields": lambda kind: kind._fields,
    "defaults": lambda kind: kind._field_defaults,
    "doc": lambda kind: kind.__doc__,
    "asdict": lambda kind: kind(1, [])._asdict(),
    "replace": lambda kind: kind(1, [])._replace(third={}, first=2),
    "make": lambda kind: kind._make([1, [], None, "x"]),
    "hash": lambda kind: hash(kind(1, ())),
    "unpacked": lambda kind: [*kind(1, [])],
    "pickled": lambda kind: pickle.loads(pickle.dumps(kind(1, ["a"]), 5)),
    "copied": lambda kind: copy.deepcopy(kind(1, ["a"])),
    "type": lambda kind: type(pickle.loads(pickle.dumps(kind(1, [])))) is kind,
    "no dict": lambda kind: hasattr(kind(1, []), "__dict__"),
}


@pytest.mark.parametrize("use", USES)
def test_as_a_named_tuple(use: str) -> None:
    assert USES[use](Recorded) == USES[use](Named)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda kind: kind(),
        lambda kind: kind(1),
        lambda kind: kind(1, 2, 3, 4, 5),
        lambda kind: kind(1, 2, first=3),
        lambda kind: kind(1, 2, fifth=3),
        lambda kind: kind(first=1, third=2),
        lambda kind: kind(1, [])._replace(fifth=1),
    ],
)
def test_wrong_values(wrong: Callable[[Any], object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        wrong(Named)
    with pytest.raises(TypeError, match="Recorded has the fields first, second, third, fourth"):
        wrong(Recorded)


def test_a_field_cannot_be_set() -> None:
    with pytest.raises(AttributeError):
        Recorded(1, []).first = 2  # type: ignore[misc]


def test_match() -> None:
    match Recorded(1, ["a"]):
        case Recorded(first, second, fourth=fourth):
            assert (first, second, fourth) == (1, ["a"], "4")
        case _:
            pytest.fail("the pattern does not match")


def test_subclass() -> None:
    made = Inner(1, ["a"])
    assert (made.more(), made.fourth, made._replace(first=5).more()) == (2, "4", 6)
