"""The size of a map's chunks: it grows with short items, and shrinks towards the end where that is known."""

from __future__ import annotations

from typing import Any

import pytest

from goproc import pmap
from goproc._data.source import Source
from goproc._data.tally import Pace
from goproc.shm import _core


def steady(lanes: int = 2, seconds: float = 1e-6) -> Pace:
    """The pace of a map whose items take so many seconds each."""
    pace = Pace(None, None, lanes)
    for _ in range(10):
        pace.note(pace.chunk, pace.chunk * seconds)
    return pace


def test_chunks_grow_while_items_are_short() -> None:
    pace = Pace(None, None, 2)
    sizes = [pace.chunk]
    for _ in range(5):
        pace.note(pace.chunk, pace.chunk * 1e-6)
        sizes.append(pace.chunk)
    assert sizes == [1, 16, 256, 1024, 2500, 2500]


def test_long_items_go_one_by_one() -> None:
    assert steady(seconds=0.1).chunk == 1


def test_one_item_that_waits_for_a_cpu_does_not_count_for_much() -> None:
    pace = steady()
    pace.note(1, 0.01)
    assert pace.short and pace.chunk > 100


def test_items_that_become_longer_are_noted_soon() -> None:
    pace = steady()
    for _ in range(20):
        pace.note(1, 0.1)
    assert not pace.short and pace.chunk == 1


@pytest.mark.parametrize("lanes", [1, 2, 7])
@pytest.mark.parametrize("count", [1, 2_499, 100_000])
def test_towards_the_end_chunks_become_smaller(lanes: int, count: int) -> None:
    pace, left, sizes = steady(lanes), count, []
    while left:
        sizes.append(min(pace.chunk_of(left), left))
        left -= sizes[-1]
    assert sum(sizes) == count and sizes == sorted(sizes, reverse=True)
    assert sizes[-1] <= -(-pace.chunk // 16) < pace.chunk


def test_the_end_is_not_known_or_the_size_is_given() -> None:
    pace = steady()
    assert pace.chunk_of(0) == pace.chunk
    assert Pace(100, None, 2).chunk_of(10) == 100


@pytest.mark.parametrize("left, found", [(None, 0), (0, 0), (7, 7)])
def test_how_many_items_are_left(left: int | None, found: int) -> None:
    assert Source(iter([]), left).left == found


@pytest.mark.parametrize("total", [None, 0, 1, 2_999, 3_000, 50_000])
@pytest.mark.parametrize("make", [range, lambda n: iter(range(n)), lambda n: (i for i in range(n))])
def test_a_total_that_is_wrong_changes_no_result(runtime2: Any, total: int | None, make: Any) -> None:
    assert list(pmap(abs, make(3_000), total=total)) == list(range(3_000))


class _Number(int):
    pass


@pytest.mark.parametrize("value", [1, 1.5, "a", b"a", None, True], ids=repr)
def test_values_that_every_process_can_read(value: Any) -> None:
    assert _core.all_readable([1, value, "b"])


@pytest.mark.parametrize("value", [_Number(1), (), [], 1j, int], ids=repr)
def test_values_that_need_a_look(value: Any) -> None:
    assert not _core.all_readable([1, value, "b"])
    with pytest.raises(TypeError, match="takes a list"):
        _core.all_readable((value,))  # type: ignore[arg-type]


def test_results_may_wait_as_long_as_every_lane_has_work() -> None:
    pace = Pace(1, 8, 2)
    assert pace.slack == 0.0  # nothing is measured yet
    pace.note(1, 0.002)
    assert pace.slack == 8 * 0.002 / 2 / 4
