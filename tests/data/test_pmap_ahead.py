"""pmap's `ahead` where items are left out: they count as yielded when the results before them are."""

from __future__ import annotations

import pytest

from goproc import chan, pfilter, pmap

AHEAD = 6


class Drawn:
    """Numbers, and how far the drawing of them was ahead of what was yielded."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.next_kept = 0  # all items before it are yielded
        self.most = 0

    def __iter__(self):
        for number in range(self.n):
            self.most = max(self.most, number + 1 - self.next_kept)
            yield number


def even(x: int) -> int:
    if x % 2:
        raise ValueError(x)
    return x


def is_even(x: int) -> bool:
    return x % 2 == 0


@pytest.mark.parametrize("how", ["skip", "letters", "filter"])
@pytest.mark.parametrize("chunk", ["auto", 1, 3])
def test_items_left_out(runtime2, how, chunk):
    numbers = Drawn(200)
    if how == "filter":
        results = pfilter(is_even, numbers, ahead=AHEAD, chunk=chunk)
    else:
        on_error = chan(200) if how == "letters" else how
        results = pmap(even, numbers, ahead=AHEAD, chunk=chunk, on_error=on_error)
    for wanted, result in zip(range(0, 200, 2), results, strict=True):
        assert result == wanted
        numbers.next_kept = result + 2  # the odd number's turn comes in the next next()
    assert numbers.most == AHEAD
